//! Clients that are turned away before they are served: each is counted, and the log says so once a minute at most.
//!
//! Whoever floods the relay must not flood its log.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Metrics, TurnedAway, TurnedAwayLabel};

/// From one line about a reason to the next at the least.
const QUIET_US: u64 = 60_000_000;

/// What was turned away, by reason.
#[derive(Default)]
pub struct Refusals([Lines; TurnedAway::ALL.len()]);

/// When the next line about one reason may be written, and how many refusals it will stand for.
#[derive(Default)]
struct Lines {
    next_us: AtomicU64,
    count: AtomicU64,
}

impl Refusals {
    /// Counts a refusal of a client at `address`, and logs it with those that were not logged before.
    pub fn count(&self, metrics: &Metrics, reason: TurnedAway, address: IpAddr, now_us: u64) {
        metrics.connections_turned_away.get_or_create(&TurnedAwayLabel { reason }).inc();
        if let Some(count) = self.0[reason as usize].take(now_us) {
            tracing::info!(reason = reason.as_str(), count, %address, "connections were turned away; the last one's address");
        }
    }
}

impl Lines {
    /// How many refusals a line stands for, if it is time for one.
    fn take(&self, now_us: u64) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let next_us = self.next_us.load(Ordering::Relaxed);
        if now_us < next_us {
            return None;
        }
        let later_us = now_us.saturating_add(QUIET_US);
        // Of several threads one writes the line.
        let won = self.next_us.compare_exchange(next_us, later_us, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        won.then(|| self.count.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_a_minute_with_their_number() {
        let lines = Lines::default();
        let seconds = (0..200).map(|second| lines.take(second * 1_000_000));
        let said: Vec<_> = seconds.enumerate().filter_map(|(second, count)| Some((second, count?))).collect();
        assert_eq!(said, [(0, 1), (60, 60), (120, 60), (180, 60)]);
    }

    #[test]
    fn every_refusal_is_counted_by_its_reason() {
        let (metrics, refusals) = (Metrics::new(), Refusals::default());
        for &reason in TurnedAway::ALL {
            refusals.count(&metrics, reason, [192, 0, 2, 1].into(), 0);
            refusals.count(&metrics, reason, [192, 0, 2, 1].into(), 0);
            let label = TurnedAwayLabel { reason };
            assert_eq!(metrics.connections_turned_away.get_or_create(&label).get(), 2, "{}", reason.as_str());
        }
    }
}
