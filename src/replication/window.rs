//! The range of `created_at` that is compared at a time, and how it is halved.

use crate::nostr::Timestamp;

/// 2020-01-01: no honest event is older, so that halving what has no beginning starts here.
const GENESIS: u64 = 1_577_836_800;

/// How far ahead of the clock events may be, in seconds, when halving what has no end.
const AHEAD: u64 = 86_400;

/// A range of `created_at`, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first second.
    pub since: Timestamp,
    /// The last second.
    pub until: Timestamp,
}

impl Window {
    /// Every time that an event can have.
    pub const ALL: Self = Self { since: Timestamp(0), until: Timestamp::MAX };

    /// Whether this time is in it.
    #[must_use]
    pub const fn contains(self, at: Timestamp) -> bool {
        self.since.0 <= at.0 && at.0 <= self.until.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.since.0 > self.until.0
    }

    /// The newer half and the older half; `None` for a single second.
    ///
    /// The halves are of the time in which events were made, so that a range without ends is narrowed from the start.
    #[must_use]
    pub fn halves(self, now: Timestamp) -> Option<(Self, Self)> {
        let (since, until) = (self.since.0, self.until.0);
        if since >= until {
            return None;
        }
        let low = if until > GENESIS { since.max(GENESIS) } else { since };
        let end = now.0.saturating_add(AHEAD);
        let high = if end > low { until.min(end) } else { until };
        // Below `until`, so that neither half is empty.
        let middle = (low + (high - low) / 2).min(until - 1);
        Some((Self { since: Timestamp(middle + 1), ..self }, Self { until: Timestamp(middle), ..self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000);

    fn window(since: u64, until: u64) -> Window {
        Window { since: Timestamp(since), until: Timestamp(until) }
    }

    #[test]
    fn halves_meet_without_overlap_down_to_single_seconds() {
        let cases = [
            Window::ALL,
            window(0, 1),
            window(5, 100),
            window(GENESIS - 1, GENESIS),
            window(GENESIS, GENESIS + 1),
            window(NOW.0, Timestamp::MAX.0),
            window(NOW.0 + 10 * AHEAD, Timestamp::MAX.0),
            window(0, GENESIS + 3),
        ];
        for mut whole in cases {
            let mut depth = 0;
            while let Some((newer, older)) = whole.halves(NOW) {
                assert_eq!((older.since, newer.until), (whole.since, whole.until));
                assert_eq!(newer.since.0, older.until.0 + 1);
                assert!(!newer.is_empty() && !older.is_empty(), "{whole:?}");
                whole = if depth % 2 == 0 { newer } else { older };
                depth += 1;
                assert!(depth < 100, "it ends");
            }
            assert_eq!(whole.since, whole.until);
        }
    }

    #[test]
    fn the_first_cut_of_all_times_is_among_events() {
        let (newer, older) = Window::ALL.halves(NOW).expect("more than a second");
        assert!((GENESIS..NOW.0).contains(&older.until.0));
        assert!(newer.contains(NOW) && !older.contains(NOW));
    }
}
