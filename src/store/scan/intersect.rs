//! Rows that two indexes have in common, by skipping: whichever lags behind goes on to where the other one stands.
//!
//! A filter with an author and a tag, or with two tags, has a range in two indexes, and all ranges of one kind are in one
//! order. So what is in both is found from keys alone, and only those records are looked at. It lives for one slice
//! and never decides what matches: the filter does.

use crate::store::format::error::StoreError;
use crate::store::scan::plan::Ranges;
use crate::store::scan::position::{Head, Position};
use crate::store::scan::rows::{Beside, Rows, Window};

/// The most ranges that are looked at beside others in one slice; rows of ranges beyond that are compared by record.
const MAX_BESIDE: usize = 64;

/// How many keys one call may step over, at about 30 ns.
const STEPS: u64 = 16;

/// Where the rows of one range meet those of the ranges beside it.
pub(in crate::store) enum Intersection {
    /// At the row at hand, or nobody knows.
    Here,
    /// Not before this row of the range, which is later than the one at hand.
    From(Head),
    /// At no later row.
    Never,
}

impl<'t> Rows<'t> {
    /// Where the range of `head` meets one of those `beside` it.
    pub fn intersect(
        &mut self,
        mut head: Head,
        ranges: Ranges<'_>,
        beside: Ranges<'_>,
        window: Window,
    ) -> Result<Intersection, StoreError> {
        let Some(place) = self.beside(head, beside, window)? else { return Ok(Intersection::Here) };
        let (start, until) = (head.position, self.stepped() + STEPS);
        loop {
            let Some(other) = self.catch_up(place, head.position, beside, window)? else {
                return Ok(Intersection::Never);
            };
            if other == head.position {
                return Ok(if head.position == start { Intersection::Here } else { Intersection::From(head) });
            }
            match self.step_to(head, other, ranges, window)? {
                Some(next) => head = next,
                None => return Ok(Intersection::Never),
            }
            if self.stepped() >= until {
                return Ok(Intersection::From(head));
            }
        }
    }

    /// The place of the ranges beside that of `head`, opened at its row; `None` when there are too many.
    fn beside(&mut self, head: Head, ranges: Ranges<'_>, window: Window) -> Result<Option<usize>, StoreError> {
        let of = (head.filter, head.item, head.kind);
        if let Some(place) = self.besides.iter().position(|beside| beside.of == of) {
            return Ok(Some(place));
        }
        if self.besides.len() == MAX_BESIDE {
            return Ok(None);
        }
        let mut opened = Vec::with_capacity(ranges.items() as usize);
        for item in 0..ranges.items() {
            let prefix = ranges.prefix(item, head.kind, self.secret());
            let mut cursor = self.cursor(ranges.index(), prefix, head.position)?;
            let first = cursor.next(window)?;
            opened.push((cursor, first));
        }
        self.besides.push(Beside { of, ranges: opened });
        Ok(Some(self.besides.len() - 1))
    }

    /// The first row at or after `position` in the ranges at this place.
    fn catch_up(
        &mut self,
        place: usize,
        position: Position,
        ranges: Ranges<'_>,
        window: Window,
    ) -> Result<Option<Position>, StoreError> {
        let mut beside = std::mem::take(&mut self.besides[place].ranges);
        let mut first = None;
        for (cursor, at) in &mut beside {
            if at.is_some_and(|at| at < position) {
                *at = self.skip_to(cursor, ranges.index(), position, window)?;
            }
            first = [first, *at].into_iter().flatten().min();
        }
        self.besides[place].ranges = beside;
        Ok(first)
    }
}
