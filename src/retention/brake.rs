//! The brake: rules that would remove a large part of the store wait until the operator accepts it.
//!
//! Whenever a relay starts, and when a reload changes the rules or limits, the plan is counted before anything is
//! removed. The operator accepts what was shown: these rules with these limits, about this many events, for a day. The
//! relay and the command line exchange this through rows of the store, whose layout is defined here. Pure.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use super::parts::Parts;
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::{Note, Store, StoreError};

/// How long an acceptance is valid, in seconds.
const ACCEPTED_FOR: u64 = 86_400;

/// What the rules would remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// Identifies the rules and limits.
    pub digest: u64,
    /// Events to be removed.
    pub events: u64,
    /// Bytes that they take in the data file.
    pub bytes: u64,
    /// When this was counted.
    pub at: Timestamp,
}

/// Identifies rules and limits: the same in every build.
fn digest(rules: &Retention) -> u64 {
    let limits = rules.limits();
    let mut hasher = SipHasher24::new();
    rules.hash_rules(&mut hasher);
    let of_authors = [limits.max_events_per_author, limits.max_bytes_per_author];
    for number in [limits.max_bytes, limits.min_free_disk_bytes].into_iter().chain(of_authors) {
        hasher.write_u64(number);
    }
    hasher.finish()
}

/// The number of events in the store.
///
/// # Errors
/// When the store cannot be read.
pub fn held_events(store: &Store) -> Result<u64, StoreError> {
    Ok(store.read()?.kinds()?.iter().map(|(_, usage)| usage.events).sum())
}

impl Removal {
    /// Sums up `parts`, which these rules would remove.
    #[must_use]
    pub fn new(rules: &Retention, parts: &Parts, at: Timestamp) -> Self {
        Self { digest: digest(rules), events: parts.total().events, bytes: parts.footprint(), at }
    }

    /// The row for the store: four numbers of 8 bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [self.digest, self.events, self.bytes, self.at.0].into_iter().flat_map(u64::to_be_bytes).collect()
    }

    fn read(row: &[u8]) -> Option<Self> {
        let (numbers, rest) = row.as_chunks::<8>();
        let [digest, events, bytes, at] = <[[u8; 8]; 4]>::try_from(numbers).ok()?.map(u64::from_be_bytes);
        rest.is_empty().then_some(Self { digest, events, bytes, at: Timestamp(at) })
    }

    /// Whether the operator has to confirm it, for a store of this many events and bytes.
    #[must_use]
    pub fn is_much(&self, rules: &Retention, held_events: u64, used_bytes: u64) -> bool {
        let percent = u128::from(rules.limits().confirm_removal_percent);
        let is_more = |part: u64, whole: u64| u128::from(part) * 100 > percent * u128::from(whole);
        percent < 100 && (is_more(self.events, held_events) || is_more(self.bytes, used_bytes))
    }

    /// Whether `accepted` covers it: the same rules and limits, accepted within the last day, and since then no more
    /// events have been added to it than may be removed without confirmation.
    #[must_use]
    pub fn is_accepted(&self, accepted: Option<Self>, rules: &Retention, held_events: u64) -> bool {
        accepted.is_some_and(|accepted| {
            let more = Self { events: self.events.saturating_sub(accepted.events), bytes: 0, ..*self };
            accepted.digest == self.digest
                && self.at.0.saturating_sub(accepted.at.0) <= ACCEPTED_FOR
                && !more.is_much(rules, held_events, u64::MAX)
        })
    }

    /// What the operator accepted last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn accepted(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(store.read()?.note(Note::Accepted)?.and_then(Self::read))
    }

    /// What the relay waits to remove.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn waiting(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(store.read()?.note(Note::Waiting)?.and_then(Self::read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RetentionLimits;

    fn rules(max_bytes: u64, confirm_removal_percent: u8) -> Retention {
        let rules = vec![serde_json::from_str(r#"{"kinds":[1],"max_age":"1d"}"#).expect("a rule")];
        Retention::new(rules, RetentionLimits { max_bytes, confirm_removal_percent, ..RetentionLimits::default() })
    }

    fn removal(rules: &Retention, events: u64, bytes: u64) -> Removal {
        Removal { events, bytes, ..Removal::new(rules, &Parts::default(), Timestamp(1_000_000)) }
    }

    #[test]
    fn more_than_the_share_of_events_or_of_bytes_is_much() {
        let is_much =
            |percent, events, bytes| removal(&rules(0, percent), events, bytes).is_much(&rules(0, percent), 100, 1000);
        assert_eq!([is_much(10, 10, 100), is_much(10, 11, 0), is_much(10, 0, 101)], [false, true, true]);
        assert_eq!([is_much(100, 100, 1000), is_much(0, 1, 0), is_much(0, 0, 0)], [false, true, false]);
    }

    #[test]
    fn an_acceptance_is_for_what_was_shown_and_for_a_day() {
        let ours = rules(5, 10);
        let now = removal(&ours, 50, 0);
        let is_accepted = |accepted| now.is_accepted(Some(accepted), &ours, 100);
        assert!(
            is_accepted(now)
                && is_accepted(Removal { events: 40, ..now })
                && is_accepted(Removal { events: 90, ..now })
        );
        assert!(!now.is_accepted(None, &ours, 100), "nobody said anything");
        assert!(!is_accepted(Removal { events: 39, ..now }), "much more than was shown");
        assert!(!is_accepted(removal(&rules(4, 10), 50, 0)), "a limit is another");
        assert!(is_accepted(removal(&rules(5, 11), 50, 0)), "how much is much is no limit");
        assert!(!is_accepted(Removal { at: Timestamp(now.at.0 - 86_401), ..now }), "that was yesterday");
        assert_eq!(Removal::read(&now.to_bytes()), Some(now));
        assert_eq!([Removal::read(&[]), Removal::read(&[0; 31]), Removal::read(&[0; 40])], [None; 3]);
    }
}
