//! Signs of life, by which the watchdog, `/readyz` and tests tell that threads make progress.
//!
//! Counts and compares only; it does nothing about a thread that is stuck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The writer wakes at least every few seconds, idle or not. If it has not for this long, it is stuck: the disk hangs.
pub const STUCK_AFTER: Duration = Duration::from_secs(20);

/// When the writer last went round its loop, how often it did, and how often the retention rules were executed from end
/// to end.
#[derive(Default)]
pub struct Heartbeat {
    writer_rounds: AtomicU64,
    /// When the last one was, in microseconds of the pipeline's clock.
    writer_us: AtomicU64,
    plans: AtomicU64,
}

impl Heartbeat {
    /// The writer went round its loop at `now_us`.
    pub fn writer(&self, now_us: u64) {
        self.writer_rounds.fetch_add(1, Ordering::Relaxed);
        self.writer_us.store(now_us, Ordering::Relaxed);
    }

    /// Whether the writer has not gone round its loop for [`STUCK_AFTER`].
    pub fn is_writer_stuck(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.writer_us.load(Ordering::Relaxed)) > STUCK_AFTER.as_micros() as u64
    }

    /// How often it did.
    pub fn writer_rounds(&self) -> u64 {
        self.writer_rounds.load(Ordering::Relaxed)
    }

    /// The retention rules were executed from end to end.
    pub fn plan(&self) {
        self.plans.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they were.
    pub fn plans(&self) -> u64 {
        self.plans.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_stuck_when_it_has_not_gone_round_for_20_seconds() {
        let heartbeat = Heartbeat::default();
        assert_eq!([20_000_000, 20_000_001].map(|now| heartbeat.is_writer_stuck(now)), [false, true]);
        heartbeat.writer(30_000_000);
        assert_eq!([0, 50_000_000, 50_000_001].map(|now| heartbeat.is_writer_stuck(now)), [false, false, true]);
    }
}
