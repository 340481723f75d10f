//! The quota of one filter of a query: its limit, the tie group after it, and the hint that NIP-67 allows the relay to
//! send at the end.
//!
//! Pure. It never decides whether an event matches, only how a match counts for the filter.

use crate::nostr::{Hint, Timestamp};

/// The limits on the stored events that a query sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueryLimits {
    /// Events for a filter without `limit` (NIP-11 `default_limit`).
    pub default_limit: u32,
    /// The most events for any filter (NIP-11 `max_limit`). A larger `limit` is reduced to it.
    pub max_limit: u32,
    /// Whether the answer says if there is more (NIP-67). Finding out takes reading further rows.
    pub hints: bool,
    /// The most events beyond `default_limit`, up to `max_limit`, that share the last event's `created_at` (NIP-67: a
    /// page ends between two seconds, so that paging by `until` loses nothing). A filter's `limit` is never exceeded.
    pub tie_extension: u32,
}

/// Rows that are read after the limit to find out whether there is more.
///
/// An exact index knows after the first row. A sparse filter could scan an index to its end for a mere hint, so after
/// this many rows (about 80 µs) the relay gives up and sends EOSE without a hint.
const PEEKS: u32 = 256;

/// The rest of one filter's limit.
#[derive(Clone, Debug)]
pub(in crate::store) struct Quota {
    left: u64,
    ties_left: u32,
    /// `created_at` of the last event counted.
    last: Timestamp,
    peeks_left: u32,
}

impl Quota {
    /// A filter's quota. Without `limits` every match is sent, and the filter's `limit` is ignored.
    pub fn new(limit: Option<u32>, limits: Option<QueryLimits>) -> Self {
        let left =
            limits.map_or(u64::MAX, |limits| u64::from(limit.unwrap_or(limits.default_limit).min(limits.max_limit)));
        let ties_left = match (limit, limits) {
            (None, Some(QueryLimits { max_limit, tie_extension, .. })) => {
                tie_extension.min(max_limit.saturating_sub(left as u32))
            }
            _ => 0,
        };
        let peeks_left = if limits.is_some_and(|limits| limits.hints) { PEEKS } else { 0 };
        Self { left, ties_left, last: Timestamp(0), peeks_left }
    }

    /// Whether the filter asks for no stored events (`limit` 0).
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The number of events that the limit still allows; `u64::MAX` without a limit.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether no further row can matter: none may be sent, and nobody asks whether there is more.
    pub fn is_spent(&self) -> bool {
        self.left == 0 && self.ties_left == 0 && self.peeks_left == 0
    }

    /// Whether an event of this time may still be sent for the filter.
    pub fn has_room(&self, created_at: Timestamp) -> bool {
        self.left > 0 || (self.ties_left > 0 && created_at == self.last)
    }

    /// Counts a match that is sent, for this filter or for another.
    pub fn count(&mut self, created_at: Timestamp) {
        if self.left > 0 {
            self.left -= 1;
            self.last = created_at;
        } else if created_at == self.last {
            self.ties_left = self.ties_left.saturating_sub(1);
        }
    }

    /// Counts a row that was read after the limit; `false` when reading further is not worth it.
    pub fn peek(&mut self) -> bool {
        self.peeks_left = self.peeks_left.saturating_sub(1);
        self.peeks_left > 0
    }
}

/// Whether matches were left out, over all filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Rest {
    more: bool,
    unknown: bool,
}

impl Rest {
    /// No match was left out so far.
    pub const NONE: Self = Self { more: false, unknown: false };

    /// A match was left out.
    pub fn more(&mut self) {
        self.more = true;
    }

    /// A filter ended before the scan knew whether a match was left out.
    pub fn unknown(&mut self) {
        self.unknown = true;
    }

    /// Whether at least one match was left out.
    pub fn is_more(self) -> bool {
        self.more
    }

    /// The hint for EOSE (NIP-67); `None` sends none.
    pub fn hint(self) -> Option<Hint> {
        match (self.more, self.unknown) {
            (true, _) => Some(Hint::More),
            (false, true) => None,
            (false, false) => Some(Hint::Finish),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueryLimits = QueryLimits { default_limit: 2, max_limit: 4, hints: true, tie_extension: 1 };

    #[test]
    fn a_limit_has_a_default_and_a_maximum() {
        assert_eq!(Quota::new(None, Some(LIMITS)).left(), 2);
        assert_eq!(Quota::new(Some(9), Some(LIMITS)).left(), 4);
        assert!(Quota::new(Some(0), Some(LIMITS)).is_empty());
        assert_eq!(Quota::new(Some(0), None).left(), u64::MAX);
    }

    #[test]
    fn only_the_last_second_is_extended_and_only_up_to_the_limit() {
        let mut quota = Quota::new(None, Some(LIMITS));
        quota.count(Timestamp(9));
        quota.count(Timestamp(8));
        assert!(quota.has_room(Timestamp(8)) && !quota.has_room(Timestamp(7)));
        quota.count(Timestamp(8));
        assert!(!quota.has_room(Timestamp(8)));
    }

    #[test]
    fn neither_the_limit_of_a_filter_nor_the_most_is_exceeded_by_ties() {
        let ties_after = |limit: Option<u32>, limits: QueryLimits| {
            let mut quota = Quota::new(limit, Some(limits));
            let left = quota.left();
            (0..left).for_each(|_| quota.count(Timestamp(8)));
            let mut ties = 0;
            while quota.has_room(Timestamp(8)) {
                quota.count(Timestamp(8));
                ties += 1;
            }
            (left, ties)
        };
        let limits = QueryLimits { tie_extension: 256, ..LIMITS };
        let all = [None, Some(1), Some(4), Some(9)].map(|limit| ties_after(limit, limits));
        assert_eq!(all, [(2, 2), (1, 0), (4, 0), (4, 0)]);
        assert_eq!(ties_after(None, QueryLimits { default_limit: 9, ..limits }), (4, 0));
    }

    #[test]
    fn finish_is_said_only_when_every_filter_is_known_to_be_complete() {
        let mut rest = Rest::NONE;
        assert_eq!(rest.hint(), Some(Hint::Finish));
        rest.unknown();
        assert_eq!(rest.hint(), None);
        rest.more();
        assert_eq!(rest.hint(), Some(Hint::More));
    }
}
