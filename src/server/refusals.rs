//! Counts clients that are turned away before they are served, and logs them at most once a minute for each reason.
//!
//! A flood of connections must not become a flood of log lines.

use std::net::IpAddr;

use super::log_limit::LogLimit;
use crate::metrics::{Metrics, TurnedAway, TurnedAwayLabel};

/// Clients that were turned away, by reason.
#[derive(Default)]
pub struct Refusals([LogLimit; TurnedAway::ALL.len()]);

impl Refusals {
    /// Counts the refusal of a client at `address`, and logs it with those since the last line if a line is due.
    pub fn count(&self, metrics: &Metrics, reason: TurnedAway, address: IpAddr, now_us: u64) {
        metrics.connections_turned_away.get_or_create(&TurnedAwayLabel { reason }).inc();
        if let Some(count) = self.0[reason as usize].admit(now_us) {
            tracing::info!(reason = reason.as_str(), count, %address, "connections were turned away; the last one's address");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
