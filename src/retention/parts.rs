//! Sums over the events that the rules remove, by cause; and what a dry run has found. They hold numbers, never
//! records.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use super::cause::{Candidate, Cause};
use super::samples::Samples;
use crate::nostr::Timestamp;
use crate::store::{Amount, Removed, Seq};

/// Events to be removed for one cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Events.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// What they take in the data file.
    pub footprint: u64,
    /// `created_at` of the oldest.
    pub oldest: Timestamp,
    /// `created_at` of the newest.
    pub newest: Timestamp,
}

/// Events to be removed, by cause.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// By cause.
    pub by_cause: BTreeMap<Cause, Part>,
}

impl Parts {
    /// Adds an event.
    pub fn add(&mut self, one: &Candidate) {
        let Candidate { created_at: at, bytes, footprint, cause, .. } = *one;
        self.merge(cause, Part { events: 1, bytes, footprint, oldest: at, newest: at });
    }

    /// Adds events of a cause.
    pub fn merge(&mut self, cause: Cause, more: Part) {
        let none = Part { events: 0, bytes: 0, footprint: 0, oldest: more.oldest, newest: more.newest };
        let part = self.by_cause.entry(cause).or_insert(none);
        part.events += more.events;
        part.bytes += more.bytes;
        part.footprint += more.footprint;
        (part.oldest, part.newest) = (part.oldest.min(more.oldest), part.newest.max(more.newest));
    }

    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> Removed {
        let mut sum = Removed::default();
        self.by_cause.values().for_each(|part| sum += Removed { events: part.events, bytes: part.bytes });
        sum
    }

    /// Bytes that all of them take in the data file.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        self.by_cause.values().map(|part| part.footprint).sum()
    }
}

/// What a dry run has found so far.
#[derive(Default)]
pub struct DryRun {
    gone: HashSet<Seq>,
    /// By cause.
    pub parts: Parts,
    /// Some of them.
    pub samples: Samples,
}

impl DryRun {
    /// Adds events that were found.
    pub fn add(&mut self, found: &[Candidate]) {
        for one in found {
            if self.gone.insert(one.seq) {
                self.parts.add(one);
                self.samples.add(one);
            }
        }
    }

    /// Whether an event was found.
    #[must_use]
    pub fn is_gone(&self, seq: Seq) -> bool {
        self.gone.contains(&seq)
    }

    /// The events found of a rule.
    #[must_use]
    pub fn of(&self, rule: usize) -> Amount {
        let parts = self.parts.by_cause.iter().filter(|(cause, _)| cause.rule() == rule).map(|(_, part)| part);
        parts.fold(Amount::default(), |sum, part| Amount {
            events: sum.events + part.events,
            bytes: sum.bytes + part.bytes,
            footprint: sum.footprint + part.footprint,
        })
    }
}
