//! The decisions in force, in memory: what the acts of the audit come to.
//!
//! Their number is bounded by kind of subject, so that neither an admin's script nor a stolen key fills the memory.

use std::collections::BTreeMap;

use super::audit::{AuditEntry, Decision, Verdict};
use super::subject::Subject;
use crate::policy::{Moderation, Ruling};

/// Decisions about authors, and about events: at about 300 bytes each, with their reasons.
pub const MAX_LISTED: usize = 100_000;

/// Decisions about addresses.
pub const MAX_ADDRESSES: usize = 10_000;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    decisions: BTreeMap<Subject, Decision>,
    /// The number of the last act.
    last: u64,
    keys: usize,
    events: usize,
    addresses: usize,
    moderation: Moderation,
}

impl State {
    /// The state after act `last`, before its decisions are put in.
    #[must_use]
    pub fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// The number of the last act.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The decision about a subject.
    #[must_use]
    pub fn get(&self, subject: &Subject) -> Option<&Decision> {
        self.decisions.get(subject)
    }

    /// Every decision, by subject.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Subject, &Decision)> {
        self.decisions.iter()
    }

    /// What events and addresses are looked up in.
    #[must_use]
    pub const fn moderation(&self) -> &Moderation {
        &self.moderation
    }

    /// Whether there is room for a decision about `subject`, and if not, how many there may be.
    ///
    /// # Errors
    /// The bound.
    pub fn check_room(&self, subject: &Subject) -> Result<(), usize> {
        let (held, most) = match subject {
            Subject::Key(_) => (self.keys, MAX_LISTED),
            Subject::Event(_) => (self.events, MAX_LISTED),
            Subject::Address(_) => (self.addresses, MAX_ADDRESSES),
            // There are 65,536 kinds, and one of each of the others.
            Subject::Kind(_) | Subject::Name | Subject::Description | Subject::Icon => return Ok(()),
        };
        if held < most || self.decisions.contains_key(subject) { Ok(()) } else { Err(most) }
    }

    /// Applies an act.
    pub fn apply(&mut self, entry: &AuditEntry) {
        self.last = entry.number;
        if let Some(change) = &entry.change {
            self.put(entry.subject, change.after.clone());
        }
    }

    /// Replaces the decision about a subject.
    pub fn put(&mut self, subject: Subject, decision: Option<Decision>) {
        self.moderation.put(ruling(subject, decision.as_ref()));
        let (was, is) = match decision {
            Some(decision) => (self.decisions.insert(subject, decision).is_some(), true),
            None => (self.decisions.remove(&subject).is_some(), false),
        };
        let held = match subject {
            Subject::Key(_) => &mut self.keys,
            Subject::Event(_) => &mut self.events,
            Subject::Address(_) => &mut self.addresses,
            Subject::Kind(_) | Subject::Name | Subject::Description | Subject::Icon => return,
        };
        *held = *held + usize::from(is) - usize::from(was);
    }
}

fn ruling(subject: Subject, decision: Option<&Decision>) -> Ruling<'_> {
    let verdict = decision.map(|decision| decision.verdict == Verdict::Allow);
    let text = decision.map(|decision| decision.text.as_str());
    match subject {
        Subject::Key(key) => Ruling::Key(key, verdict),
        Subject::Event(id) => Ruling::Event(id, verdict),
        Subject::Kind(kind) => Ruling::Kind(kind, verdict),
        Subject::Address(network) => Ruling::Address(network, verdict == Some(false)),
        Subject::Name => Ruling::Name(text),
        Subject::Description => Ruling::Description(text),
        Subject::Icon => Ruling::Icon(text),
    }
}
