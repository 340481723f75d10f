//! Decides whether to walk through the newest events before opening hundreds of ranges.
//!
//! A follow feed of 300 authors and two kinds has 600 ranges, one seek each. If those authors wrote a good part of the
//! recent events, a scan of the kind index finds the page within a few hundred adjacent rows; if they did not, it would
//! hardly end. So the walk begins, is judged by its matches, and gives way to the ranges, which continue where it
//! stopped. A walk never costs more than the ranges would have, so both together never cost more than twice the better
//! one.
//!
//! Pure: it only counts.

use crate::nostr::Timestamp;
use crate::store::scan::plan::{Kinds, Ranges, Source};
use crate::store::scan::position::Position;

/// The cost of a row of the walk with its record, in tenths of a microsecond (`benches/scan.rs`).
const ROW: u64 = 2;
/// The cost of opening a range, in the same unit.
const SEEK: u64 = 3;
/// The cost of taking a row from a range: its record, and a seek for the next one.
const TAKE: u64 = 5;

/// Fewer ranges than this are opened at once: that costs less than finding out whether a walk pays.
const MIN_RANGES: u32 = 48;
/// With more kinds than this there is no walk.
const MAX_KINDS: u32 = 8;
/// The number of kinds assumed for an author when the filter names none.
const USUAL_KINDS: u64 = 4;
/// Rows before the first judgement.
const MIN_ROWS: u64 = 32;

/// A walk in progress.
#[derive(Clone, Debug)]
pub(in crate::store) struct Walk {
    /// The source of the ranges that it gives way to.
    fallback: Source,
    /// The cost of opening those ranges.
    ranges_cost: u64,
    /// The cost of opening those ranges and taking a whole page from them.
    page_cost: u64,
    rows: u64,
    matches: u64,
    newest: Option<Timestamp>,
    since: Timestamp,
}

impl Walk {
    /// The index to walk before `ranges` are opened, if a walk is worth trying for `wanted` events.
    pub fn instead_of(ranges: Ranges<'_>, wanted: u64, since: Timestamp) -> Option<(Source, Self)> {
        let (source, kinds) = match ranges.kinds() {
            Kinds::None => return None,
            Kinds::Listed(_) => (Source::Kinds, 1),
            Kinds::All => (Source::Time, USUAL_KINDS),
        };
        let walked = Ranges { source, ..ranges };
        let is_few = ranges.len() < MIN_RANGES || wanted == u64::MAX;
        if is_few || walked.len() > MAX_KINDS || ranges.source == source {
            return None;
        }
        let ranges_cost = u64::from(ranges.len()) * kinds * SEEK;
        let page_cost = ranges_cost + wanted * TAKE;
        let walk = Self { fallback: ranges.source, ranges_cost, page_cost, rows: 0, matches: 0, newest: None, since };
        Some((source, walk))
    }

    /// The source of the ranges that it gives way to.
    pub fn fallback(&self) -> Source {
        self.fallback
    }

    /// Counts a row; true when the walk should give way, with `left` events still wanted.
    pub fn gives_way_after(&mut self, position: Position, is_match: bool, left: u64) -> bool {
        self.rows += 1;
        self.matches += u64::from(is_match);
        let newest = *self.newest.get_or_insert(position.created_at());
        if self.rows < MIN_ROWS || left == 0 {
            return false;
        }
        if self.rows * ROW > self.page_cost {
            return true;
        }
        // Estimates the rows still to come, by the rate of matches and by the time left in the window.
        let by_matches = (left * self.rows).checked_div(self.matches).unwrap_or(u64::MAX);
        let seen = (newest.0 - position.created_at().0).max(1);
        let ahead = position.created_at().0.saturating_sub(self.since.0);
        let by_time = ahead.saturating_mul(self.rows) / seen;
        by_matches.min(by_time).saturating_mul(ROW) > self.ranges_cost + left * TAKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::{Filter, Kind, Pubkey};
    use crate::store::format::keys::Seq;

    fn feed(authors: u8) -> Filter {
        let authors = (0..authors).map(|author| Pubkey([author; 32])).collect();
        Filter { authors: Some(authors), kinds: Some([Kind(1), Kind(6)].into()), ..Filter::default() }
    }

    fn at(time: u64) -> Position {
        Position::of_event(Timestamp(time), &[1; 32], Seq(1))
    }

    /// The number of rows walked, one row for each second, if every `nth` row matches.
    fn rows_walked(nth: u64, limit: u64, since: u64) -> u64 {
        let filter = feed(200);
        let ranges = Ranges { filter: &filter, source: Source::Authors };
        let (_, mut walk) = Walk::instead_of(ranges, limit, Timestamp(since)).expect("worth trying");
        let mut left = limit;
        for row in 1..=10_000 {
            let is_match = row % nth == 0;
            left -= u64::from(is_match);
            let position = at(20_000 - row);
            if position.created_at() < Timestamp(since) || left == 0 || walk.gives_way_after(position, is_match, left) {
                return row;
            }
        }
        10_000
    }

    #[test]
    fn a_feed_of_busy_authors_is_walked_to_the_end() {
        assert_eq!(rows_walked(3, 100, 0), 300);
    }

    #[test]
    fn a_feed_of_quiet_authors_gives_way_at_once() {
        assert_eq!(rows_walked(100, 100, 0), MIN_ROWS);
    }

    #[test]
    fn a_short_window_is_walked_even_for_quiet_authors() {
        assert_eq!(rows_walked(100, 100, 19_900), 101);
    }

    #[test]
    fn small_plans_and_unlimited_ones_are_not_walked() {
        let few = feed(4);
        assert!(Walk::instead_of(Ranges { filter: &few, source: Source::Authors }, 10, Timestamp(0)).is_none());
        let many = feed(200);
        let ranges = Ranges { filter: &many, source: Source::Authors };
        assert!(Walk::instead_of(ranges, u64::MAX, Timestamp(0)).is_none());
        assert!(Walk::instead_of(Ranges { source: Source::Kinds, ..ranges }, 10, Timestamp(0)).is_none());
    }
}
