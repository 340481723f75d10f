//! How often a relay looks for what its rules no longer keep. Pure.

use std::time::Duration;

use crate::policy::{Age, Retention};

/// How often at what rules have in all.
pub const TOTALS: Duration = Duration::from_secs(10);

/// How long after the rules had nothing left to remove for room they are tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often what waits for the operator is counted again: less may be left to remove.
pub const COUNT_AGAIN: Duration = Duration::from_secs(60);

/// A 64th of the shortest of these spans.
fn fraction(spans: impl Iterator<Item = Age>) -> u64 {
    spans.map(|span| span.seconds).min().unwrap_or(u64::MAX) / 64
}

/// How often at ages: often enough for the shortest, but no more than once a second.
pub fn ages(rules: &Retention) -> Duration {
    let ages = rules.rules().iter().filter_map(|rule| rule.bounds.max_age);
    Duration::from_secs(fraction(ages).clamp(1, 60))
}

/// How often at every author, although arrivals tell who needs it: daily, and more often where events have a grace, since
/// then time alone makes too many of them.
pub fn authors(rules: &Retention) -> Duration {
    let graces = rules.rules().iter().filter_map(|rule| rule.bounds.grace);
    Duration::from_secs(fraction(graces).clamp(60, 24 * 60 * 60))
}
