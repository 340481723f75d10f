//! Which values a scenario may have.
//!
//! It must never change one: a value out of range is an error that names its key.

use anyhow::{Result, ensure};

use super::phase::Phase;

/// Refuses values out of range.
pub fn check(phase: &Phase) -> Result<()> {
    let positive = |name: &str, value: usize| {
        ensure!(value > 0, "`{name}` must be at least 1");
        Ok(())
    };
    match phase {
        Phase::Publish(phase) => {
            positive("connections", phase.connections)?;
            ensure!(phase.report || !phase.kill, "a phase with `kill` must be reported");
            positive("in_flight", phase.in_flight)
        }
        Phase::Query(phase) => {
            positive("connections", phase.connections)?;
            positive("in_flight", phase.in_flight)?;
            positive("distinct", phase.distinct)?;
            ensure!(!phase.shapes.is_empty(), "`shapes` names no shape");
            ensure!(phase.count > 0 || phase.duration_s > 0.0, "`count` or `duration_s` must be above 0");
            Ok(())
        }
        Phase::Fanout(phase) => {
            positive("subscribers", phase.subscribers)?;
            positive("subscriptions", phase.subscriptions)?;
            positive("publishers", phase.publishers)?;
            ensure!(phase.slow < phase.subscribers, "`slow` must leave at least one reader");
            ensure!(phase.count > 0 || phase.rate * phase.duration_s >= 1.0, "no events: set `count` or `rate`");
            Ok(())
        }
        Phase::Connect(phase) => {
            positive("connections", phase.connections)?;
            positive("opening", phase.opening)
        }
        Phase::Mixed(phase) => {
            positive("publishers", phase.publishers)?;
            positive("queriers", phase.queriers)?;
            positive("distinct", phase.distinct)?;
            ensure!(phase.duration_s > 0.0, "`duration_s` must be above 0");
            ensure!(phase.events_per_s > 0.0 && phase.queries_per_s > 0.0, "both rates must be above 0");
            ensure!(!phase.shapes.is_empty(), "`shapes` names no shape");
            Ok(())
        }
    }
}
