//! Whether the store has room for events, as the writer and the `retention` thread last found it.
//!
//! It refuses nothing: the store decides that for each event. This is what `/readyz`, the metrics and the log show.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use super::clock::Clock;
use crate::metrics::Metrics;

/// The least time between two lines of the log about a full store, in microseconds.
const LOG_INTERVAL_US: u64 = 1_000_000;

/// Whether there is room, whether rules make room, and what the log said last (at most once a second).
pub struct Writable {
    clock: Clock,
    gauge: Gauge,
    /// Whether the store is below its limits, as far as anybody can tell beforehand.
    has_room: AtomicBool,
    /// Whether the last commit found room. A quota or a file system may refuse what seems to fit.
    fits: AtomicBool,
    is_made: AtomicBool,
    /// What the log said last.
    logged: AtomicBool,
    /// When it did; 0 for never.
    logged_us: AtomicU64,
}

impl Writable {
    /// There is room.
    #[must_use]
    pub fn new(metrics: &Metrics, clock: Clock) -> Self {
        metrics.storage_writable.set(1);
        let [has_room, fits, is_made, logged] = [true, true, false, true].map(AtomicBool::new);
        let gauge = metrics.storage_writable.clone();
        Self { clock, gauge, has_room, fits, is_made, logged, logged_us: AtomicU64::new(0) }
    }

    /// Whether there was room for events.
    #[must_use]
    pub fn get(&self) -> bool {
        self.has_room.load(Ordering::Relaxed) && self.fits()
    }

    /// Whether rules are in force that can make room, as far as is known.
    #[must_use]
    pub fn is_room_made(&self) -> bool {
        self.is_made.load(Ordering::Relaxed)
    }

    /// Notes whether they can.
    pub fn set_room_made(&self, is_made: bool) {
        self.is_made.store(is_made, Ordering::Relaxed);
    }

    /// Whether the last commit found room.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.fits.load(Ordering::Relaxed)
    }

    /// Notes whether the store is below its limits, and logs when that changes the answer.
    pub fn set(&self, has_room: bool) {
        self.has_room.store(has_room, Ordering::Relaxed);
        self.show();
    }

    /// Notes whether a commit found room, likewise.
    pub fn committed(&self, fits: bool) {
        // There is nearly always nothing to do.
        if self.fits.swap(fits, Ordering::Relaxed) != fits {
            self.show();
        }
    }

    fn show(&self) {
        let writable = self.get();
        self.gauge.set(writable.into());
        // At a limit under a storm it may change many times a second; the retention thread sets it again and again, so
        // a change that is not logged now is logged later.
        let (now, logged_us) = (self.clock.now_us(), self.logged_us.load(Ordering::Relaxed));
        let is_logged = self.logged.load(Ordering::Relaxed) == writable;
        if is_logged
            || (logged_us > 0 && now < logged_us + LOG_INTERVAL_US)
            || self.logged.swap(writable, Ordering::Relaxed) == writable
        {
            return;
        }
        self.logged_us.store(now, Ordering::Relaxed);
        if writable {
            tracing::info!("storage has room again; events are accepted");
        } else {
            tracing::error!("storage is full; events are refused until there is room");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_found_no_room_counts_until_one_does_whatever_the_limits_say() {
        let metrics = Metrics::new();
        let writable = Writable::new(&metrics, Clock::start());
        let shown = || (writable.get(), metrics.storage_writable.get());
        assert_eq!(shown(), (true, 1));
        writable.committed(false);
        assert_eq!(shown(), (false, 0));
        writable.set(true);
        assert_eq!(shown(), (false, 0), "below every limit, and no commit fits");
        writable.set(false);
        writable.committed(true);
        assert_eq!(shown(), (false, 0), "a commit fits, and the limit for events is reached");
        writable.set(true);
        assert_eq!(shown(), (true, 1));
    }
}
