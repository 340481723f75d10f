//! Finds the rows that two indexes have in common, by skipping: the index that lags behind jumps to the other's row.
//!
//! A filter with an author and a tag, or with two tags, has a range in two indexes, and all ranges of one kind have the
//! same order. So the keys alone tell which rows are in both, and only their records are read. An intersection lasts
//! for one slice. It never decides whether an event matches: the filter does.

use crate::store::format::error::StoreError;
use crate::store::scan::plan::Ranges;
use crate::store::scan::position::{Head, Position};
use crate::store::scan::rows::{Intersected, Rows, Window};

/// The most ranges that are intersected in one slice. Rows of further ranges are checked by reading their records.
const MAX_INTERSECTED: usize = 64;

/// Keys that one call may step over, at about 30 ns each.
const STEPS: u64 = 16;

/// The first row, from the current one on, that a range may have in common with the other index.
pub(in crate::store) enum Intersection {
    /// The current row; perhaps it is not in the other index.
    Here,
    /// This later row, or one after it.
    From(Head),
    /// There is none.
    Never,
}

impl<'t> Rows<'t> {
    /// Finds the first row, from `head` on, that is also in the ranges of `other`.
    pub fn intersect(
        &mut self,
        mut head: Head,
        ranges: Ranges<'_>,
        other: Ranges<'_>,
        window: Window,
    ) -> Result<Intersection, StoreError> {
        let Some(place) = self.open_intersected(head, other, window)? else { return Ok(Intersection::Here) };
        let (start, until) = (head.position, self.stepped() + STEPS);
        loop {
            let Some(position) = self.catch_up(place, head.position, other, window)? else {
                return Ok(Intersection::Never);
            };
            if position == head.position {
                return Ok(if head.position == start { Intersection::Here } else { Intersection::From(head) });
            }
            match self.step_to(head, position, ranges, window)? {
                Some(next) => head = next,
                None => return Ok(Intersection::Never),
            }
            if self.stepped() >= until {
                return Ok(Intersection::From(head));
            }
        }
    }

    /// Opens the ranges of the other index for the range of `head`, unless they are open, and returns their place in
    /// the list; `None` when too many are open.
    fn open_intersected(
        &mut self,
        head: Head,
        ranges: Ranges<'_>,
        window: Window,
    ) -> Result<Option<usize>, StoreError> {
        let of = (head.filter, head.item, head.kind);
        if let Some(place) = self.intersected.iter().position(|opened| opened.of == of) {
            return Ok(Some(place));
        }
        if self.intersected.len() == MAX_INTERSECTED {
            return Ok(None);
        }
        let mut opened = Vec::with_capacity(ranges.items() as usize);
        for item in 0..ranges.items() {
            let prefix = ranges.prefix(item, head.kind, self.secret());
            let mut cursor = self.cursor(ranges.index(), prefix, head.position)?;
            let first = cursor.next(window)?;
            opened.push((cursor, first));
        }
        self.intersected.push(Intersected { of, ranges: opened });
        Ok(Some(self.intersected.len() - 1))
    }

    /// The first row at or after `position` in the ranges at this place.
    fn catch_up(
        &mut self,
        place: usize,
        position: Position,
        ranges: Ranges<'_>,
        window: Window,
    ) -> Result<Option<Position>, StoreError> {
        let mut opened = std::mem::take(&mut self.intersected[place].ranges);
        let mut first = None;
        for (cursor, at) in &mut opened {
            if at.is_some_and(|at| at < position) {
                *at = self.skip_to(cursor, ranges.index(), position, window)?;
            }
            first = [first, *at].into_iter().flatten().min();
        }
        self.intersected[place].ranges = opened;
        Ok(first)
    }
}
