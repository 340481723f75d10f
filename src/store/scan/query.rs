//! A resumable query: all filters of one REQ as one stream, newest first, each event once.
//!
//! A `Scan` is a value. It keeps the next row of every range as a position, and never a transaction, a cursor or a
//! borrow (INV-9), so a scan that waits for a slow client costs only its memory. Between slices rows may be inserted
//! and deleted. A row that exists all the time is delivered exactly once, since every range continues after its last
//! position.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::nostr::{EventView, Filter, Hint};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::lookup;
use crate::store::read::pages::BATCH;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::walks::Flow;
use crate::store::scan::intersect::Intersection;
use crate::store::scan::part::{Opened, Part};
use crate::store::scan::plan::Plan;
use crate::store::scan::position::{Head, MAX_TIED, Position};
use crate::store::scan::quota::{QueryLimits, Rest};
use crate::store::scan::rows::Rows;
use crate::store::scan::slice::{Budget, Slice};

/// A query for stored events.
#[derive(Clone, Debug)]
pub struct Query {
    /// The filters: an event that matches at least one of them belongs to the answer. At most 65,535; further filters
    /// are ignored.
    pub filters: Arc<[Filter]>,
    /// Later arrivals are not part of the answer; the live index delivers them (INV-3).
    pub until_seq: Seq,
    /// `None` returns every match and ignores each filter's `limit`: for counting, negentropy and export.
    pub limits: Option<QueryLimits>,
}

/// Receives the events of a scan.
pub trait Visitor {
    /// Whether the event may be shown: it has not expired and is not private to others. Other events count toward no
    /// limit, and never make the answer say that there is more.
    fn admits(&mut self, event: EventView<'_>) -> bool {
        let _ = event;
        true
    }

    /// Takes the next event of the answer.
    fn take(&mut self, seq: Seq, event: EventView<'_>) -> Flow;
}

impl<F: FnMut(Seq, EventView<'_>) -> Flow> Visitor for F {
    fn take(&mut self, seq: Seq, event: EventView<'_>) -> Flow {
        self(seq, event)
    }
}

/// How a slice ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The answer may not be complete; call [`Scan::run`] again.
    Paused,
    /// The answer is complete.
    Done {
        /// The hint for EOSE (NIP-67); `None` when no hint was asked for, finding out would take too long, or a filter
        /// had `limit` 0.
        hint: Option<Hint>,
    },
}

/// A resumable query.
pub struct Scan {
    query: Query,
    parts: SmallVec<[Part; 1]>,
    /// Filters with ranges still to open; the next one last.
    opening: SmallVec<[u16; 4]>,
    heads: BinaryHeap<Reverse<Head>>,
    /// Rows that tie and were taken off the heap together, since keys do not tell their order; the first one last.
    tied: Vec<(Position, Numbers)>,
    /// The last row of the latest tie.
    tie_end: Position,
    rest: Rest,
    /// Rows read and ranges opened so far.
    spent: u64,
    /// Ranges opened so far.
    opened: u64,
    /// Closed ranges that are opened together next.
    together: usize,
}

impl Scan {
    /// Plans a query. Does not read the data yet.
    #[must_use]
    pub fn new(query: Query) -> Self {
        let filters = &query.filters[..query.filters.len().min(usize::from(u16::MAX))];
        let parts: SmallVec<[Part; 1]> = filters.iter().map(|filter| Part::new(filter, query.limits)).collect();
        let mut rest = Rest::NONE;
        if parts.iter().any(|part| part.quota.is_empty()) {
            rest.unknown();
        }
        let opening = (0..parts.len() as u16).rev().collect();
        let (heads, tied, tie_end) = (BinaryHeap::new(), Vec::new(), Position::FIRST);
        Self { query, parts, opening, heads, tied, tie_end, rest, spent: 0, opened: 0, together: 1 }
    }

    /// Continues the answer in this snapshot until it is complete, the budget is spent or the visitor pauses.
    ///
    /// # Errors
    /// When LMDB fails or a row is damaged. The scan cannot continue after that.
    pub fn run<V: Visitor>(
        &mut self,
        snapshot: &Snapshot<'_>,
        budget: Budget,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        self.run_in(Slice::new(budget, None), snapshot, visitor)
    }

    /// The same for a slice whose time runs from `began` on, which spares a read of the clock.
    ///
    /// # Errors
    /// As [`Scan::run`].
    pub fn run_since<V: Visitor>(
        &mut self,
        began: Instant,
        snapshot: &Snapshot<'_>,
        budget: Budget,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        self.run_in(Slice::new(budget, Some(began)), snapshot, visitor)
    }

    fn run_in<V: Visitor>(
        &mut self,
        mut slice: Slice,
        snapshot: &Snapshot<'_>,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        let mut rows = Rows::new(snapshot);
        let step = self.run_slice(&mut rows, &mut slice, visitor);
        rows.count_bounds();
        self.spent += u64::from(slice.spent);
        step
    }

    /// Rows read and ranges opened so far, over all slices.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Ranges whose first row was looked up in an index so far, over all slices.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    fn run_slice<V: Visitor>(
        &mut self,
        rows: &mut Rows<'_>,
        slice: &mut Slice,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        for &filter in &self.opening {
            self.parts[usize::from(filter)].begin_slice();
        }
        loop {
            if let Some(&filter) = self.opening.last() {
                slice.spend(1);
                if self.open(filter, rows)? {
                    self.opening.pop();
                }
            } else if self.heads.is_empty() && self.tied.is_empty() {
                return Ok(Step::Done { hint: self.hint() });
            } else if self.tied.is_empty() && self.heads.peek().is_some_and(|first| first.0.slot == Head::CLOSED) {
                self.open_first(rows, slice)?;
            } else if self.merge(rows, slice, visitor)? == Flow::Pause {
                break;
            }
            if slice.is_spent() {
                break;
            }
        }
        if rows.has_slots() {
            self.forget_slots();
        }
        Ok(Step::Paused)
    }

    fn hint(&self) -> Option<Hint> {
        if self.query.limits.is_none_or(|limits| limits.hints) { self.rest.hint() } else { None }
    }

    /// Bytes of the heads that the scan keeps between slices, one for each open range, without the query and a bounded
    /// rest.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        (self.heads.capacity() * size_of::<Head>()) as u64
    }

    /// The plan of each filter, as far as it is chosen.
    #[must_use]
    pub fn plans(&self) -> Vec<Plan> {
        self.parts.iter().zip(&*self.query.filters).map(|(part, filter)| part.plan(filter)).collect()
    }

    /// Chooses the index of every filter now, as [`Scan::run`] does first, and returns the plans.
    ///
    /// # Errors
    /// As [`Scan::run`].
    pub fn explain(&mut self, snapshot: &Snapshot<'_>) -> Result<Vec<Plan>, StoreError> {
        let rows = Rows::new(snapshot);
        for (part, filter) in self.parts.iter_mut().zip(&*self.query.filters) {
            while !part.choose(filter, &rows)? {}
        }
        Ok(self.plans())
    }

    /// Bytes that the scan holds while it waits, without the filters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.heads.capacity() * size_of::<Head>() + self.parts.len() * size_of::<Part>()
    }

    /// Opens one range of a filter, or takes one step toward choosing its index; true when all its ranges are open.
    fn open(&mut self, number: u16, rows: &mut Rows<'_>) -> Result<bool, StoreError> {
        let filter = &self.query.filters[usize::from(number)];
        let part = &mut self.parts[usize::from(number)];
        if !part.choose(filter, rows)? {
            return Ok(false);
        }
        for _ in 0..KNOWN_RANGES {
            let opened = part.open_next(number, filter, rows)?;
            let (Opened::Known(head) | Opened::Read(head)) = opened;
            if let Some(head) = head {
                if self.heads.capacity() == 0 {
                    self.heads.reserve(part.ranges(filter).len().min(1024) as usize);
                }
                self.heads.push(Reverse(head));
            }
            if matches!(opened, Opened::Read(_)) {
                self.opened += 1;
                break;
            }
            if part.is_open(filter) {
                break;
            }
        }
        Ok(part.is_open(filter))
    }

    /// Opens the ranges of the first heads, which stayed closed until the answer came down to them: several at a time,
    /// though the last of them may then not be needed.
    fn open_first(&mut self, rows: &mut Rows<'_>, slice: &mut Slice) -> Result<(), StoreError> {
        let Some(&Reverse(first)) = self.heads.peek() else { return Ok(()) };
        let number = usize::from(first.filter);
        // The first rows may be all that is wanted.
        let most = self.parts[number].quota.left().clamp(1, self.together as u64) as usize;
        self.together = (2 * self.together).min(BATCH);
        let is_next = |head: &Head| head.slot == Head::CLOSED && head.filter == first.filter;
        let mut heads = SmallVec::<[Head; BATCH]>::new();
        while heads.len() < most
            && let Some(next) = self.heads.peek_mut()
            && is_next(&next.0)
        {
            heads.push(PeekMut::pop(next).0);
        }
        slice.spend(heads.len() as u32);
        self.opened += heads.len() as u64;
        let mut opened = [None; BATCH];
        self.parts[number].open_closed(&heads, &self.query.filters[number], rows, &mut opened[..heads.len()])?;
        self.heads.extend(opened.into_iter().flatten().map(Reverse));
        Ok(())
    }

    /// Takes the next row off all ranges that have it, and delivers its event if the event belongs to the answer.
    fn merge<V: Visitor>(
        &mut self,
        rows: &mut Rows<'_>,
        slice: &mut Slice,
        visitor: &mut V,
    ) -> Result<Flow, StoreError> {
        let Popped { position, found_by, record, may_match } = match self.tied.pop() {
            Some((position, found_by)) => Popped { position, found_by, record: None, may_match: true },
            None => {
                let popped = self.pop(rows, slice)?;
                if self.heads.peek().is_some_and(|next| next.0.position.ties(popped.position)) {
                    self.break_ties(popped, rows, slice)?;
                    return Ok(Flow::Continue);
                }
                popped
            }
        };
        let seq = position.seq();
        let event = match record {
            _ if !may_match || seq > self.query.until_seq => None,
            Some(record) => Some(lookup::view(record)?),
            // A row without a record was deleted after it became a head.
            None => rows.record(seq)?,
        };
        slice.spend(1);
        self.fetch_ahead(rows)?;
        let filters = &self.query.filters;
        let is_match = |number: &u16| event.is_some_and(|event| filters[usize::from(*number)].matches(event));
        let matching: Numbers = found_by.iter().copied().filter(is_match).collect();
        let shown = match event {
            Some(event) if !matching.is_empty() && !rows.is_hidden(seq, event)? && visitor.admits(event) => Some(event),
            _ => None,
        };
        let is_sent = self.account(position, &found_by, &matching, shown.is_some());
        self.judge_walks(position, &found_by, &matching);
        Ok(match shown {
            Some(event) if is_sent => visitor.take(seq, event),
            _ => Flow::Continue,
        })
    }

    /// Prefetches the record of the next row, if the scan is likely to read it.
    fn fetch_ahead(&self, rows: &mut Rows<'_>) -> Result<(), StoreError> {
        let Some(&Reverse(next)) = self.heads.peek().filter(|next| next.0.slot != Head::CLOSED) else { return Ok(()) };
        let part = &self.parts[usize::from(next.filter)];
        let filter = &self.query.filters[usize::from(next.filter)];
        // The current row takes one of them.
        if part.quota.left() <= 1 || part.intersected(filter).is_some() {
            return Ok(());
        }
        rows.fetch_ahead(next, part.ranges(filter).source)
    }

    /// Breaks ties (INV-17): takes the rows that tie off the heap and sorts them by their ids.
    fn break_ties(&mut self, first: Popped<'_>, rows: &mut Rows<'_>, slice: &mut Slice) -> Result<(), StoreError> {
        let end = first.position;
        let mut tied = vec![first];
        while tied.len() < MAX_TIED && self.heads.peek().is_some_and(|next| next.0.position.ties(end)) {
            let popped = self.pop(rows, slice)?;
            self.tie_end = popped.position;
            tied.push(popped);
        }
        let mut by_id = Vec::with_capacity(tied.len());
        for Popped { position, found_by, .. } in tied {
            // A row without a record was deleted after it became a head.
            if let Some(event) = rows.record(position.seq())? {
                by_id.push((*event.id_bytes(), position, found_by));
            }
        }
        by_id.sort_unstable_by_key(|(id, ..)| Reverse(*id));
        self.tied = by_id.into_iter().map(|(_, position, found_by)| (position, found_by)).collect();
        Ok(())
    }

    /// Counts a row toward the quotas of the filters that found it; true when its event is to be sent.
    fn account(&mut self, position: Position, found_by: &[u16], matching: &[u16], is_shown: bool) -> bool {
        let time = position.created_at();
        let is_full = |number: &u16| !self.parts[usize::from(*number)].quota.has_room(time);
        let full: Numbers = found_by.iter().copied().filter(is_full).collect();
        let is_sent = is_shown && matching.iter().any(|number| !full.contains(number));
        if is_shown && !is_sent {
            self.rest.more();
            matching.iter().for_each(|&number| self.end(number));
            return false;
        }
        if is_sent {
            for &number in matching {
                let quota = &mut self.parts[usize::from(number)].quota;
                quota.count(time);
                if quota.is_spent() {
                    // The next row may take opening a range.
                    self.rest.unknown();
                    self.end(number);
                }
            }
        }
        for number in full {
            // One filter is enough to know that there is more; the others need not find out.
            if self.rest.is_more() || !self.parts[usize::from(number)].quota.peek() {
                self.rest.unknown();
                self.end(number);
            }
        }
        is_sent
    }

    /// Ends walks that find too few matches and opens their ranges instead.
    fn judge_walks(&mut self, position: Position, found_by: &[u16], matching: &[u16]) {
        if !self.tied.is_empty() {
            // The ranges continue after all rows of the tie.
            return;
        }
        let position = position.max(self.tie_end);
        for &number in found_by {
            if self.parts[usize::from(number)].gives_way_after(position, matching.contains(&number)) {
                self.end(number);
                self.opening.push(number);
            }
        }
    }

    /// Takes the first row off the heap.
    fn pop<'t>(&mut self, rows: &mut Rows<'t>, slice: &mut Slice) -> Result<Popped<'t>, StoreError> {
        let first = self.heads.peek().expect("merge is called while there are heads").0;
        let mut found_by = Numbers::new();
        let (mut record, mut may_match) = (None, false);
        while let Some(mut top) = self.heads.peek_mut() {
            let head = top.0;
            if head.position != first.position {
                break;
            }
            // A closed head comes before every row that it may lead to, so it was opened before this row came up.
            debug_assert_ne!(head.slot, Head::CLOSED, "a row is taken from an open range");
            slice.spend(1);
            if !found_by.contains(&head.filter) {
                found_by.push(head.filter);
            }
            let part = &self.parts[usize::from(head.filter)];
            let filter = &self.query.filters[usize::from(head.filter)];
            let ranges = part.ranges(filter);
            record = record.or(rows.held(head, ranges.source));
            let stepped = rows.stepped();
            let intersection = match part.intersected(filter) {
                Some(other) => rows.intersect(head, ranges, other, part.window)?,
                None => Intersection::Here,
            };
            may_match |= matches!(intersection, Intersection::Here);
            let next = match intersection {
                Intersection::Here => rows.step(head, ranges, part.window, part.intersected(filter).is_none())?,
                Intersection::From(next) => Some(next),
                Intersection::Never => None,
            };
            slice.spend((rows.stepped() - stepped) as u32);
            match next {
                Some(next) => *top = Reverse(next),
                None => drop(PeekMut::pop(top)),
            }
        }
        Ok(Popped { position: first.position, found_by, record, may_match })
    }

    /// Closes every range of a filter.
    fn end(&mut self, number: u16) {
        self.tied.iter_mut().for_each(|(_, found_by)| found_by.retain(|filter| *filter != number));
        self.tied.retain(|(_, found_by)| !found_by.is_empty());
        if self.parts.len() == 1 {
            self.heads.clear();
        } else {
            self.heads.retain(|head| head.0.filter != number);
        }
    }

    /// Drops the slots of all heads, before the cursors and records are closed.
    fn forget_slots(&mut self) {
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        heads.iter_mut().for_each(|head| head.0.forget_slot());
        self.heads = heads.into();
    }
}

/// Ranges of which nothing is read that are opened in one step: each costs about 20 ns.
const KNOWN_RANGES: usize = 16;

/// Numbers of filters.
type Numbers = SmallVec<[u16; 8]>;

/// A row that was taken off the heap.
struct Popped<'t> {
    position: Position,
    /// The filters whose ranges have the row.
    found_by: Numbers,
    /// Its record, if it was read already.
    record: Option<&'t [u8]>,
    /// Whether the event may match. It cannot if every filter that found it is intersected with another index, which
    /// lacks it.
    may_match: bool,
}
