//! Reports what was removed: in the metrics at once, and in the log from time to time, one line per rule and cause.

use std::time::{Duration, Instant};

use super::cause::Cause;
use super::parts::{Part, Parts};
use crate::metrics::{EvictionCause, EvictionLabel, Metrics};

/// The shortest time between two reports in the log, except after the first pass of new rules.
const APART: Duration = Duration::from_secs(60);

/// Rules with their own time series; all later rules share the last one.
const RULES: usize = 64;

/// What was removed and has not been logged yet.
pub struct Report {
    parts: Parts,
    told: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self { parts: Parts::default(), told: Instant::now() }
    }
}

impl Report {
    /// Counts removed events.
    pub fn removed(&mut self, parts: &Parts, metrics: &Metrics) {
        for (&cause, part) in &parts.by_cause {
            let label = EvictionLabel { rule: (cause.rule() + 1).min(RULES) as u32, cause: word(cause) };
            metrics.evicted_events.get_or_create(&label).inc_by(part.events);
            metrics.evicted_bytes.get_or_create(&label).inc_by(part.footprint);
            self.parts.merge(cause, *part);
        }
    }

    /// Writes the log if it is time, or in any case with `now`.
    pub fn tell(&mut self, now: bool) {
        if self.parts.by_cause.is_empty() || (!now && self.told.elapsed() < APART) {
            return;
        }
        self.told = Instant::now();
        for (cause, part) in std::mem::take(&mut self.parts).by_cause {
            let Part { events, footprint: used_bytes, oldest, newest, .. } = part;
            let (rule, cause) = (cause.rule() + 1, word(cause).as_str());
            tracing::info!(rule, cause, events, used_bytes, %oldest, %newest, "the retention rules removed events");
        }
    }
}

/// The label value of a cause, for the metrics and the log.
pub const fn word(cause: Cause) -> EvictionCause {
    match cause {
        Cause::Age(_) => EvictionCause::Age,
        Cause::PerAuthorAndKind(_) => EvictionCause::PerAuthorAndKind,
        Cause::RuleEvents(_) => EvictionCause::RuleEvents,
        Cause::RuleBytes(_) => EvictionCause::RuleBytes,
        Cause::AuthorEvents(_) => EvictionCause::PerAuthor,
        Cause::AuthorBytes(_) => EvictionCause::AuthorBytes,
        Cause::Total(_) => EvictionCause::Room,
    }
}
