//! A resumable query: all filters of one REQ as one stream, newest first, each event once.
//!
//! A `Scan` is a value. It keeps the next row of every range as a position, never a transaction, a cursor or a
//! borrow (INV-9), so it can wait for a slow client at no cost but its memory. Between slices rows may come and
//! go: what was there all along is delivered exactly once, since every range goes on after the last position.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::nostr::{EventView, Filter, Hint};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::lookup;
use crate::store::read::snapshot::Snapshot;
use crate::store::read::walks::Flow;
use crate::store::scan::intersect::Intersection;
use crate::store::scan::part::Part;
use crate::store::scan::plan::Plan;
use crate::store::scan::position::{Head, MAX_TIED, Position};
use crate::store::scan::quota::{QueryLimits, Rest};
use crate::store::scan::rows::Rows;

/// What is asked of the store.
#[derive(Clone, Debug)]
pub struct Query {
    /// The filters; an event that matches at least one belongs to the answer. At most 65,535; more are not looked at.
    pub filters: Arc<[Filter]>,
    /// Later arrivals are not part of it; live delivers them (INV-3).
    pub until_seq: Seq,
    /// `None` brings everything and disregards each filter's `limit`: for counting, negentropy and export.
    pub limits: Option<QueryLimits>,
}

/// How much one call of [`Scan::run`] may do. A slice always does at least one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Rows looked at and ranges opened, each 0.1 to 1 µs of work.
    pub rows: u32,
    /// Time, looked at every 32 rows, and after the first 4, 8 and 16.
    pub time: Duration,
}

impl Budget {
    /// To the end.
    pub const UNLIMITED: Self = Self { rows: u32::MAX, time: Duration::MAX };
}

/// Who receives the events of a scan.
pub trait Visitor {
    /// Whether the event may be shown at all: not expired, not private to others. One that may not counts
    /// toward no limit and is no reason to say that there is more.
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
    /// There may be more; call [`Scan::run`] again.
    Paused,
    /// The answer is complete.
    Done {
        /// What EOSE may say (NIP-67); `None` when nobody asked, it would take too long to know, or a filter had
        /// `limit` 0.
        hint: Option<Hint>,
    },
}

/// See the module.
pub struct Scan {
    query: Query,
    parts: SmallVec<[Part; 1]>,
    /// Filters whose ranges are not all opened, the next one last.
    opening: SmallVec<[u16; 4]>,
    heads: BinaryHeap<Reverse<Head>>,
    /// Rows that were taken off the heap together, since keys do not tell their order; the first one last.
    tied: Vec<(Position, Numbers)>,
    /// The last of the rows that were tied latest.
    tie_end: Position,
    rest: Rest,
    /// Rows looked at and ranges opened so far.
    spent: u64,
}

impl Scan {
    /// Plans a query, without looking at the data yet.
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
        Self { query, parts, opening, heads, tied, tie_end, rest, spent: 0 }
    }

    /// Goes on with the answer, in this snapshot, until it is complete, the budget is spent or the visitor
    /// wants a pause.
    ///
    /// # Errors
    /// When LMDB or a damaged row says so; the scan is of no use then.
    pub fn run<V: Visitor>(
        &mut self,
        snapshot: &Snapshot<'_>,
        budget: Budget,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        let mut slice = Slice::new(budget);
        let step = self.run_slice(snapshot, &mut slice, visitor);
        self.spent += u64::from(slice.spent);
        step
    }

    /// Rows looked at and ranges opened so far, over all slices.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent
    }

    fn run_slice<V: Visitor>(
        &mut self,
        snapshot: &Snapshot<'_>,
        slice: &mut Slice,
        visitor: &mut V,
    ) -> Result<Step, StoreError> {
        let mut rows = Rows::new(snapshot);
        loop {
            if let Some(&filter) = self.opening.last() {
                slice.spend(1);
                if self.open(filter, &mut rows)? {
                    self.opening.pop();
                }
            } else if self.heads.is_empty() && self.tied.is_empty() {
                return Ok(Step::Done { hint: self.hint() });
            } else if self.merge(&mut rows, slice, visitor)? == Flow::Pause {
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

    /// Bytes that it keeps between slices, beside the query and a bounded rest: a position for each range that is open.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        (self.heads.capacity() * size_of::<Head>()) as u64
    }

    /// How each filter is answered, as far as that is chosen.
    #[must_use]
    pub fn plans(&self) -> Vec<Plan> {
        self.parts.iter().zip(&*self.query.filters).map(|(part, filter)| part.plan(filter)).collect()
    }

    /// Chooses the index of every filter now, as [`Scan::run`] does first, and tells the outcome.
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

    /// The bytes that the scan holds while it waits, without the filters.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.heads.capacity() * size_of::<Head>() + self.parts.len() * size_of::<Part>()
    }

    /// Opens one range of a filter, or takes one step toward choosing its index; true when all are open.
    fn open(&mut self, number: u16, rows: &mut Rows<'_>) -> Result<bool, StoreError> {
        let filter = &self.query.filters[usize::from(number)];
        let part = &mut self.parts[usize::from(number)];
        if !part.choose(filter, rows)? {
            return Ok(false);
        }
        if let Some(head) = part.open_next(number, filter, rows)? {
            if self.heads.capacity() == 0 {
                self.heads.reserve(part.ranges(filter).len().min(1024) as usize);
            }
            self.heads.push(Reverse(head));
        }
        Ok(part.is_open(filter))
    }

    /// Takes the next row off all ranges that have it, and delivers its event if it is part of the answer.
    fn merge<V: Visitor>(
        &mut self,
        rows: &mut Rows<'_>,
        slice: &mut Slice,
        visitor: &mut V,
    ) -> Result<Flow, StoreError> {
        let Popped { position, bringers, record, is_met } = match self.tied.pop() {
            Some((position, bringers)) => Popped { position, bringers, record: None, is_met: true },
            None => {
                let popped = self.pop(rows, slice)?;
                if self.heads.peek().is_some_and(|next| next.0.position.ties(popped.position)) {
                    self.untie(popped, rows, slice)?;
                    return Ok(Flow::Continue);
                }
                popped
            }
        };
        let seq = position.seq();
        let event = match record {
            _ if !is_met || seq > self.query.until_seq => None,
            Some(record) => Some(lookup::view(record)?),
            // A row without a record was deleted since it became a head.
            None => rows.record(seq)?,
        };
        slice.spend(1);
        self.fetch_ahead(rows)?;
        let filters = &self.query.filters;
        let is_match = |number: &u16| event.is_some_and(|event| filters[usize::from(*number)].matches(event));
        let matching: Numbers = bringers.iter().copied().filter(is_match).collect();
        let shown = match event {
            Some(event) if !matching.is_empty() && !rows.is_hidden(seq, event)? && visitor.admits(event) => Some(event),
            _ => None,
        };
        let is_sent = self.account(position, &bringers, &matching, shown.is_some());
        self.judge_walks(position, &bringers, &matching);
        Ok(match shown {
            Some(event) if is_sent => visitor.take(seq, event),
            _ => Flow::Continue,
        })
    }

    /// Has the record of the next row come from memory, if it is to be looked at, as far as can be told.
    fn fetch_ahead(&self, rows: &mut Rows<'_>) -> Result<(), StoreError> {
        let Some(&Reverse(next)) = self.heads.peek() else { return Ok(()) };
        let part = &self.parts[usize::from(next.filter)];
        let filter = &self.query.filters[usize::from(next.filter)];
        // One is left for the row at hand.
        if part.quota.left() <= 1 || part.beside(filter).is_some() {
            return Ok(());
        }
        rows.fetch_ahead(next, part.ranges(filter).source)
    }

    /// Breaks ties (INV-17): takes the rows off the heap that tie with one, and sorts them all by their ids.
    fn untie(&mut self, first: Popped<'_>, rows: &mut Rows<'_>, slice: &mut Slice) -> Result<(), StoreError> {
        let end = first.position;
        let mut tied = vec![first];
        while tied.len() < MAX_TIED && self.heads.peek().is_some_and(|next| next.0.position.ties(end)) {
            let popped = self.pop(rows, slice)?;
            self.tie_end = popped.position;
            tied.push(popped);
        }
        let mut by_id = Vec::with_capacity(tied.len());
        for Popped { position, bringers, .. } in tied {
            // A row without a record was deleted since it became a head.
            if let Some(event) = rows.record(position.seq())? {
                by_id.push((*event.id_bytes(), position, bringers));
            }
        }
        by_id.sort_unstable_by_key(|(id, ..)| Reverse(*id));
        self.tied = by_id.into_iter().map(|(_, position, bringers)| (position, bringers)).collect();
        Ok(())
    }

    /// Enters a row into the quotas of the filters that brought it; whether its event is to be sent.
    fn account(&mut self, position: Position, bringers: &[u16], matching: &[u16], is_shown: bool) -> bool {
        let time = position.created_at();
        let is_full = |number: &u16| !self.parts[usize::from(*number)].quota.has_room(time);
        let full: Numbers = bringers.iter().copied().filter(is_full).collect();
        let is_sent = is_shown && matching.iter().any(|number| !full.contains(number));
        if is_shown && !is_sent {
            self.rest.more();
            matching.iter().for_each(|&number| self.end(number));
            return false;
        }
        if is_sent {
            matching.iter().for_each(|&number| self.parts[usize::from(number)].quota.count(time));
        }
        for number in full {
            // That there is more is known from one filter; the others need not find out.
            if self.rest.is_more() || !self.parts[usize::from(number)].quota.peek() {
                self.rest.unknown();
                self.end(number);
            }
        }
        is_sent
    }

    /// Lets walks that find too little give way to their ranges.
    fn judge_walks(&mut self, position: Position, bringers: &[u16], matching: &[u16]) {
        if !self.tied.is_empty() {
            // The ranges go on behind all of them.
            return;
        }
        let position = position.max(self.tie_end);
        for &number in bringers {
            if self.parts[usize::from(number)].gives_way_after(position, matching.contains(&number)) {
                self.end(number);
                self.opening.push(number);
            }
        }
    }

    /// Takes the first row off the heap.
    fn pop<'t>(&mut self, rows: &mut Rows<'t>, slice: &mut Slice) -> Result<Popped<'t>, StoreError> {
        let first = self.heads.peek().expect("merge is called while there are heads").0;
        let mut bringers = Numbers::new();
        let (mut record, mut is_met) = (None, false);
        while let Some(mut top) = self.heads.peek_mut() {
            let head = top.0;
            if head.position != first.position {
                break;
            }
            slice.spend(1);
            if !bringers.contains(&head.filter) {
                bringers.push(head.filter);
            }
            let part = &self.parts[usize::from(head.filter)];
            let filter = &self.query.filters[usize::from(head.filter)];
            let ranges = part.ranges(filter);
            record = record.or(rows.held(head, ranges.source));
            let stepped = rows.stepped();
            let intersection = match part.beside(filter) {
                Some(beside) => rows.intersect(head, ranges, beside, part.window)?,
                None => Intersection::Here,
            };
            is_met |= matches!(intersection, Intersection::Here);
            let next = match intersection {
                Intersection::Here => rows.step(head, ranges, part.window, part.beside(filter).is_none())?,
                Intersection::From(next) => Some(next),
                Intersection::Never => None,
            };
            slice.spend((rows.stepped() - stepped) as u32);
            match next {
                Some(next) => *top = Reverse(next),
                None => drop(PeekMut::pop(top)),
            }
        }
        Ok(Popped { position: first.position, bringers, record, is_met })
    }

    /// Closes every range of a filter.
    fn end(&mut self, number: u16) {
        self.tied.iter_mut().for_each(|(_, bringers)| bringers.retain(|bringer| *bringer != number));
        self.tied.retain(|(_, bringers)| !bringers.is_empty());
        if self.parts.len() == 1 {
            self.heads.clear();
        } else {
            self.heads.retain(|head| head.0.filter != number);
        }
    }

    /// Before the cursors and records that the heads point to are closed.
    fn forget_slots(&mut self) {
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        heads.iter_mut().for_each(|head| head.0.forget_slot());
        self.heads = heads.into();
    }
}

/// Numbers of filters.
type Numbers = SmallVec<[u16; 8]>;

/// A row that was taken off the heap.
struct Popped<'t> {
    position: Position,
    /// The filters whose ranges brought it.
    bringers: Numbers,
    /// Its record, if that was read already.
    record: Option<&'t [u8]>,
    /// Whether it may match; not if every filter that brought it has another index beside, which lacks it.
    is_met: bool,
}

/// How much of a budget is spent.
struct Slice {
    budget: Budget,
    started: Option<Instant>,
    spent: u32,
    look_at: u32,
}

/// How many rows pass between looks at the clock: about 10 µs.
const CLOCK_ROWS: u32 = 32;

/// How many rows pass before the first look; twice as many before the next, up to [`CLOCK_ROWS`]. Rows that come from
/// disk take up to 10 ms each, and are noticed so.
const FIRST_CLOCK_ROWS: u32 = 4;

impl Slice {
    fn new(budget: Budget) -> Self {
        let started = (budget.time != Duration::MAX).then(Instant::now);
        Self { budget, started, spent: 0, look_at: FIRST_CLOCK_ROWS }
    }

    fn spend(&mut self, rows: u32) {
        self.spent = self.spent.saturating_add(rows);
    }

    fn is_spent(&mut self) -> bool {
        if self.spent >= self.budget.rows && self.budget.rows != u32::MAX {
            return true;
        }
        if self.spent < self.look_at {
            return false;
        }
        self.look_at = self.spent.saturating_add(self.spent.min(CLOCK_ROWS));
        self.started.is_some_and(|started| started.elapsed() >= self.budget.time)
    }
}
