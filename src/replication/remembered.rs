//! What remains different between this relay and another one, remembered so that it is not found, fetched and refused
//! again at every sync.
//!
//! Events that the other relay has and this one refused count as held here, and events that the other one will not take
//! count as absent. Then two relays that have nothing to give each other have equal fingerprints. What is remembered is
//! never believed over what a relay says: an id that the other side names or lacks after all is forgotten.
//!
//! Bounded: [`MAX_REMEMBERED`] ids of either sort. Once a sort is full, further ids are not remembered, and are found
//! again by each sync.

use std::collections::HashMap;

use crate::import::LineOutcome;
use crate::nostr::{EventId, Timestamp};

/// Ids of either sort. A million and more would take longer to read than to compare.
pub const MAX_REMEMBERED: usize = 250_000;

/// What may change is forgotten after this many seconds: a week.
pub const CHANGING_SECONDS: u64 = 7 * 24 * 3600;

/// Why this relay does not hold an event of the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LocalAbsence {
    /// A newer version is stored.
    Replaced = 1,
    /// Its author deleted it.
    Deleted = 2,
    /// Its author vanished.
    Vanished = 3,
    /// It has expired.
    Expired = 4,
    /// Its kind is never stored.
    Ephemeral = 5,
    /// The relay's rules, or its plugin.
    Rules = 6,
    /// It is not valid.
    Invalid = 7,
    /// The other relay names it and does not deliver it. Its `created_at` is not known.
    Undelivered = 8,
}

/// Why the other relay does not show an event that is stored here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RemoteAbsence {
    /// Nothing was to be sent up.
    NotSent = 65,
    /// It is protected, so only its author may send it (NIP-70).
    Protected = 66,
    /// The other relay refused it.
    Refused = 67,
    /// The other relay says that it has it, and does not show it.
    Hidden = 68,
}

impl LocalAbsence {
    /// The reason with this number.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Replaced,
            2 => Self::Deleted,
            3 => Self::Vanished,
            4 => Self::Expired,
            5 => Self::Ephemeral,
            6 => Self::Rules,
            7 => Self::Invalid,
            8 => Self::Undelivered,
            _ => return None,
        })
    }

    /// The reason for which an import did not store an event; `None` if it is stored, or was not asked for.
    #[must_use]
    pub const fn by(outcome: LineOutcome) -> Option<Self> {
        match outcome {
            LineOutcome::Stored | LineOutcome::Duplicate | LineOutcome::Unwanted => None,
            LineOutcome::Replaced => Some(Self::Replaced),
            LineOutcome::Deleted => Some(Self::Deleted),
            LineOutcome::Vanished => Some(Self::Vanished),
            LineOutcome::Expired => Some(Self::Expired),
            LineOutcome::Ephemeral => Some(Self::Ephemeral),
            LineOutcome::Refused | LineOutcome::NotKept => Some(Self::Rules),
            LineOutcome::InvalidDeletion | LineOutcome::Invalid => Some(Self::Invalid),
        }
    }

    /// Whether it may be otherwise tomorrow: rules change, and a newer version may be deleted by its id.
    const fn may_change(self) -> bool {
        matches!(self, Self::Replaced | Self::Rules | Self::Invalid | Self::Undelivered)
    }

    /// Whether what we hold instead makes the other relay drop its event, once it is sent up.
    #[must_use]
    pub const fn is_outdated(self) -> bool {
        matches!(self, Self::Replaced | Self::Deleted | Self::Vanished)
    }
}

impl RemoteAbsence {
    /// The reason with this number.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            65 => Self::NotSent,
            66 => Self::Protected,
            67 => Self::Refused,
            68 => Self::Hidden,
            _ => return None,
        })
    }

    /// Whether it may be otherwise tomorrow.
    const fn may_change(self) -> bool {
        matches!(self, Self::Refused | Self::Hidden)
    }
}

/// A remembered id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<R> {
    /// Why.
    pub reason: R,
    /// `created_at` of the event; 0 where it is not known or does not matter.
    pub created_at: Timestamp,
    /// Since when.
    pub noted_at: Timestamp,
}

/// What is remembered of one relay and one filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Remembered {
    /// Events of the other relay that are not stored here.
    pub(super) refused: HashMap<EventId, Entry<LocalAbsence>>,
    /// Events stored here that the other relay does not show.
    pub(super) kept: HashMap<EventId, Entry<RemoteAbsence>>,
    /// Whether the last sync left nothing else that differed.
    pub was_equal: bool,
}

impl Remembered {
    /// Notes that an event of the other relay is not stored here.
    pub fn refuse(&mut self, id: EventId, created_at: Timestamp, reason: LocalAbsence, noted_at: Timestamp) {
        if self.refused.len() < MAX_REMEMBERED {
            self.refused.insert(id, Entry { reason, created_at, noted_at });
        }
    }

    /// Notes that the other relay named events, and sent none of them.
    pub fn refuse_undelivered(&mut self, ids: impl IntoIterator<Item = EventId>, noted_at: Timestamp) {
        for id in ids {
            self.refuse(id, Timestamp(0), LocalAbsence::Undelivered, noted_at);
        }
    }

    /// Notes that the other relay does not show an event that is stored here.
    pub fn keep(&mut self, id: EventId, reason: RemoteAbsence, noted_at: Timestamp) {
        if self.kept.len() < MAX_REMEMBERED {
            self.kept.insert(id, Entry { reason, created_at: Timestamp(0), noted_at });
        }
    }

    /// Whether an event of the other relay was refused, so that it need not be fetched again.
    #[must_use]
    pub fn is_refused(&self, id: &EventId) -> bool {
        self.refused.contains_key(id)
    }

    /// The refused events that count as held here.
    pub fn as_if_held(&self) -> impl Iterator<Item = (EventId, Timestamp)> {
        let known = self.refused.iter().filter(|(_, entry)| entry.reason != LocalAbsence::Undelivered);
        known.map(|(id, entry)| (*id, entry.created_at))
    }

    /// Whether an event that is stored here counts as absent. What was only not sent counts while nothing is sent up.
    #[must_use]
    pub fn is_kept(&self, id: &EventId, sends_up: bool) -> bool {
        self.kept.get(id).is_some_and(|entry| !sends_up || entry.reason != RemoteAbsence::NotSent)
    }

    /// The other relay turned out not to have this event, or to show it: forget what was noted. Returns whether
    /// something was.
    pub fn forget(&mut self, id: &EventId) -> bool {
        let was_refused = self.refused.remove(id).is_some();
        self.kept.remove(id).is_some() || was_refused
    }

    /// Forgets what may have changed since it was noted.
    pub fn forget_old(&mut self, now: Timestamp) {
        let is_recent = |noted_at: Timestamp| now.0.saturating_sub(noted_at.0) < CHANGING_SECONDS;
        self.refused.retain(|_, entry| !entry.reason.may_change() || is_recent(entry.noted_at));
        self.kept.retain(|_, entry| !entry.reason.may_change() || is_recent(entry.noted_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId([n; 32])
    }

    const NOW: Timestamp = Timestamp(1_700_000_000);

    #[test]
    fn what_may_change_is_forgotten_after_a_week_and_the_rest_never() {
        let mut remembered = Remembered::default();
        let reasons = (1..=8).map(|n| LocalAbsence::of(n).expect("one of eight"));
        (1..).zip(reasons).for_each(|(n, reason)| remembered.refuse(id(n), Timestamp(5), reason, NOW));
        let reasons = (65..=68).map(|n| RemoteAbsence::of(n).expect("one of four"));
        (65..).zip(reasons).for_each(|(n, reason)| remembered.keep(id(n), reason, NOW));
        let whole = remembered.clone();
        remembered.forget_old(Timestamp(NOW.0 + CHANGING_SECONDS - 1));
        assert_eq!(remembered, whole);
        remembered.forget_old(Timestamp(NOW.0 + CHANGING_SECONDS));
        let left = |of: &mut dyn Iterator<Item = &EventId>| {
            let mut left: Vec<u8> = of.map(|id| id.0[0]).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&mut remembered.refused.keys()), [2, 3, 4, 5]);
        assert_eq!(left(&mut remembered.kept.keys()), [65, 66]);
    }

    #[test]
    fn what_was_only_not_sent_counts_until_something_is_sent_up() {
        let mut remembered = Remembered::default();
        remembered.keep(id(1), RemoteAbsence::NotSent, NOW);
        remembered.keep(id(2), RemoteAbsence::Refused, NOW);
        let kept = |sends_up| [1, 2, 3].map(|n| remembered.is_kept(&id(n), sends_up));
        assert_eq!([kept(false), kept(true)], [[true, true, false], [false, true, false]]);
    }

    #[test]
    fn an_event_that_is_never_delivered_is_not_asked_for_again_but_does_not_count_as_held() {
        let mut remembered = Remembered::default();
        remembered.refuse(id(1), Timestamp(0), LocalAbsence::Undelivered, NOW);
        remembered.refuse(id(2), Timestamp(7), LocalAbsence::Deleted, NOW);
        assert!(remembered.is_refused(&id(1)) && remembered.is_refused(&id(2)));
        assert_eq!(remembered.as_if_held().collect::<Vec<_>>(), [(id(2), Timestamp(7))]);
        assert!(remembered.forget(&id(1)) && !remembered.forget(&id(1)));
    }

    #[test]
    fn no_more_than_the_bound_is_remembered() {
        let mut remembered = Remembered::default();
        for n in 0..MAX_REMEMBERED as u64 + 5 {
            let id = EventId(std::array::from_fn(|at| n.to_le_bytes()[at % 8]));
            remembered.refuse(id, NOW, LocalAbsence::Deleted, NOW);
            remembered.keep(id, RemoteAbsence::NotSent, NOW);
        }
        assert_eq!((remembered.refused.len(), remembered.kept.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
