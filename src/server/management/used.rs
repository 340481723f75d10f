//! The authorizations (NIP-98) that were used, so that each is good once.
//!
//! An id is not forgotten after a time but only when many others were used since, so a clock that goes back does not
//! make an old authorization good again.

use std::collections::VecDeque;

use hashbrown::HashSet;

use crate::nostr::{EventId, Timestamp};
use crate::policy::http_auth::WINDOW_S;

/// Ids that are remembered, at about 100 bytes each. Admins would have to call 68 times a second to be refused.
const MAX_IDS: usize = 8192;

/// See the module.
#[derive(Default)]
pub struct Used {
    ids: HashSet<EventId>,
    /// In the order of their use, with their `created_at`.
    order: VecDeque<(EventId, Timestamp)>,
    /// The latest `created_at` of an id that was forgotten: none up to then is good.
    forgotten: Option<Timestamp>,
}

impl Used {
    /// Those that an earlier process used, and when.
    #[must_use]
    pub fn of(before: &[(EventId, Timestamp)]) -> Self {
        let mut used = Self::default();
        for (id, at) in before {
            // An authorization may be from a little later than its use.
            used.admit(*id, Timestamp(at.0.saturating_add(WINDOW_S)));
        }
        used
    }

    /// Takes an authorization, unless it was used before or may have been.
    pub fn admit(&mut self, id: EventId, created_at: Timestamp) -> bool {
        if self.forgotten.is_some_and(|forgotten| created_at <= forgotten) || !self.ids.insert(id) {
            return false;
        }
        self.order.push_back((id, created_at));
        if self.order.len() > MAX_IDS
            && let Some((oldest, created_at)) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
            self.forgotten = self.forgotten.max(Some(created_at));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        EventId(id)
    }

    #[test]
    fn an_authorization_is_good_once_even_when_the_clock_goes_back() {
        let mut used = Used::default();
        let [now, earlier] = [5_000, 1_000].map(Timestamp);
        assert_eq!([used.admit(id(1), now), used.admit(id(1), now)], [true, false]);
        assert_eq!([used.admit(id(2), earlier), used.admit(id(2), earlier)], [true, false]);
        assert!(!used.admit(id(1), now));
    }

    #[test]
    fn the_table_is_bounded_and_what_it_forgot_is_not_good_again() {
        let mut used = Used::default();
        for number in 0..2 * MAX_IDS as u64 {
            assert!(used.admit(id(number), Timestamp(number)));
        }
        assert_eq!((used.ids.len(), used.order.len()), (MAX_IDS, MAX_IDS));
        assert!(!used.admit(id(0), Timestamp(0)) && !used.admit(id(99_999), Timestamp(MAX_IDS as u64 - 1)));
        assert!(used.admit(id(99_999), Timestamp(MAX_IDS as u64)));
    }

    #[test]
    fn what_an_earlier_process_used_is_not_good_again() {
        let mut used = Used::of(&[(id(1), Timestamp(50))]);
        assert!(!used.admit(id(1), Timestamp(50)) && used.admit(id(2), Timestamp(50)));
    }
}
