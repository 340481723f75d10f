//! How often a relay looks for events that its rules no longer keep. Pure.

use std::time::Duration;

use crate::policy::{Age, Retention};

/// How often it checks the limits on all events of a rule.
pub const TOTALS: Duration = Duration::from_secs(10);

/// When the rules cannot make room, how long until they are tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often rules that wait for the operator are counted again: there may be less to remove by then.
pub const COUNT_AGAIN: Duration = Duration::from_secs(60);

/// 1/64 of the shortest span, in seconds.
fn fraction(spans: impl Iterator<Item = Age>) -> u64 {
    spans.map(|span| span.seconds).min().unwrap_or(u64::MAX) / 64
}

/// How often it checks ages: 1/64 of the shortest `max_age`, but at most once a second and at least once a minute.
pub fn ages(rules: &Retention) -> Duration {
    let ages = rules.rules().iter().filter_map(|rule| rule.bounds.max_age);
    Duration::from_secs(fraction(ages).clamp(1, 60))
}

/// How often it checks every author, besides those who published: daily, and more often with a grace period, since
/// events then exceed limits as time passes.
pub fn authors(rules: &Retention) -> Duration {
    let graces = rules.rules().iter().filter_map(|rule| rule.bounds.grace);
    Duration::from_secs(fraction(graces).clamp(60, 24 * 60 * 60))
}
