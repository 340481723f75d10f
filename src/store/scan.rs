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

use super::choose::{Choice, Weight};
use super::plan::{Kinds, Plan, Ranges, Source};
use super::position::{Head, Position};
use super::quota::{QueryLimits, Quota, Rest};
use super::rows::{NextKind, Rows, Window};
use super::{Seq, Snapshot, StoreError};
use crate::nostr::{EventView, Filter, Hint};

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
    /// Time, looked at every 32 rows.
    pub time: Duration,
}

impl Budget {
    /// To the end.
    pub const UNLIMITED: Self = Self { rows: u32::MAX, time: Duration::MAX };
}

/// Whether to go on after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// With the next one.
    Continue,
    /// In another slice; the event was taken.
    Pause,
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
        /// What EOSE may say (NIP-67); `None` when it would take too long to know, or a filter had `limit` 0.
        hint: Option<Hint>,
    },
}

/// How one filter is answered.
struct Part {
    source: Source,
    /// Weighing under way, or not begun.
    choice: Option<Box<Choice>>,
    weight: Option<Weight>,
    window: Window,
    quota: Quota,
    /// The next range to open: an item, and its next kind (by place in the filter's list, or by number).
    item: u32,
    kind: u32,
}

/// See the module.
pub struct Scan {
    query: Query,
    parts: SmallVec<[Part; 1]>,
    /// Filters whose ranges are not all opened, the next one last.
    opening: SmallVec<[u16; 4]>,
    heads: BinaryHeap<Reverse<Head>>,
    rest: Rest,
}

/// Plans of so few ranges keep the cursor they open a range with.
const FEW_RANGES: u32 = 8;

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
        Self { query, parts, opening, heads: BinaryHeap::new(), rest }
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
        let mut rows = Rows::new(snapshot);
        let mut slice = Slice::new(budget);
        loop {
            if let Some(&filter) = self.opening.last() {
                slice.spend(1);
                if self.open(filter, &mut rows)? {
                    self.opening.pop();
                }
            } else if self.heads.is_empty() {
                return Ok(Step::Done { hint: self.rest.hint() });
            } else if self.merge(&mut rows, &mut slice, visitor)? == Flow::Pause {
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

    /// How each filter is answered, as far as that is chosen.
    #[must_use]
    pub fn plans(&self) -> Vec<Plan> {
        let plan = |(part, filter): (&Part, _)| Plan {
            source: part.choice.is_none().then_some(part.source),
            ranges: Ranges { filter, source: part.source }.len(),
            cost: part.weight.and_then(|weight| weight.exact),
        };
        self.parts.iter().zip(&*self.query.filters).map(plan).collect()
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
        let ranges = Ranges { filter, source: part.source };
        if let Some(head) = part.open_next(number, ranges, rows)? {
            if self.heads.capacity() == 0 {
                self.heads.reserve(ranges.len().min(1024) as usize);
            }
            self.heads.push(Reverse(head));
        }
        Ok(part.item >= ranges.items())
    }

    /// Takes the next row off all ranges that have it, and delivers its event if it is part of the answer.
    fn merge<'t, V: Visitor>(
        &mut self,
        rows: &mut Rows<'t>,
        slice: &mut Slice,
        visitor: &mut V,
    ) -> Result<Flow, StoreError> {
        let (position, mut bringers, record) = self.pop(rows, slice)?;
        let seq = position.seq();
        if seq > self.query.until_seq {
            return Ok(Flow::Continue);
        }
        slice.spend(1);
        let event = match record {
            Some(event) => event,
            // A row without a record was deleted since it became a head.
            None => match rows.record(seq)? {
                Some(event) => event,
                None => return Ok(Flow::Continue),
            },
        };
        let (filters, parts) = (&self.query.filters, &mut self.parts);
        let mut full = Numbers::new();
        let has_room = |number: u16| parts[usize::from(number)].quota.has_room(event.created_at());
        full.extend(bringers.iter().copied().filter(|&number| !has_room(number)));
        bringers.retain(|number| filters[usize::from(*number)].matches(event));
        if bringers.is_empty() || rows.is_hidden(seq, event)? || !visitor.admits(event) {
            self.peek(&full);
            return Ok(Flow::Continue);
        }
        if bringers.iter().all(|number| full.contains(number)) {
            self.rest.more();
            bringers.into_iter().for_each(|number| self.end(number));
            return Ok(Flow::Continue);
        }
        for number in bringers {
            parts[usize::from(number)].quota.count(event.created_at());
        }
        self.peek(&full);
        Ok(visitor.take(seq, event))
    }

    /// Takes the first row off the heap: where it stands, the filters whose ranges brought it, and its record
    /// if that was read already.
    fn pop<'t>(&mut self, rows: &mut Rows<'t>, slice: &mut Slice) -> Result<Popped<'t>, StoreError> {
        let first = self.heads.peek().expect("merge is called while there are heads").0;
        let mut bringers = Numbers::new();
        let mut record = None;
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
            let ranges = Ranges { filter: &self.query.filters[usize::from(head.filter)], source: part.source };
            if part.source == Source::Ids {
                record = record.or(rows.found(head.slot));
            }
            match rows.step(head, ranges, part.window)? {
                Some(next) => *top = Reverse(next),
                None => drop(PeekMut::pop(top)),
            }
        }
        Ok((first.position, bringers, record))
    }

    /// Notes that these filters, which are full, saw a row that told nothing; gives up on those that saw many.
    fn peek(&mut self, full: &[u16]) {
        for &number in full {
            // That there is more is known from one filter; the others need not find out.
            if self.rest.is_more() || !self.parts[usize::from(number)].quota.peek() {
                self.rest.unknown();
                self.end(number);
            }
        }
    }

    /// Closes every range of a filter.
    fn end(&mut self, number: u16) {
        if self.parts.len() == 1 {
            self.heads.clear();
        } else {
            self.heads.retain(|head| head.0.filter != number);
        }
    }

    /// Before the cursors and records that the heads point to are closed.
    fn forget_slots(&mut self) {
        let mut heads = std::mem::take(&mut self.heads).into_vec();
        heads.iter_mut().for_each(|head| head.0.slot = 0);
        self.heads = heads.into();
    }
}

/// Numbers of filters.
type Numbers = SmallVec<[u16; 8]>;

/// See [`Scan::pop`].
type Popped<'t> = (Position, Numbers, Option<EventView<'t>>);

impl Part {
    fn new(filter: &Filter, limits: Option<QueryLimits>) -> Self {
        let quota = Quota::new(filter.limit, limits);
        let window = Window {
            from: filter.until.map_or(Position::FIRST, Position::first_at),
            since: filter.since.unwrap_or_default(),
        };
        let mut choice = Choice::new(filter);
        if quota.is_empty() {
            choice = Choice::of(Source::Nothing);
        }
        let (source, choice) = match choice.only() {
            Some(source) => (source, None),
            None => (Source::Nothing, Some(Box::new(choice))),
        };
        Self { source, choice, weight: None, window, quota, item: 0, kind: 0 }
    }

    /// Takes one step toward choosing the index; true once it is chosen.
    fn choose(&mut self, filter: &Filter, rows: &Rows<'_>) -> Result<bool, StoreError> {
        let Some(choice) = &mut self.choice else { return Ok(true) };
        let Some((source, weight)) = choice.step(filter, rows, self.window)? else { return Ok(false) };
        (self.source, self.weight, self.choice) = (source, Some(weight), None);
        Ok(true)
    }

    /// Opens the next range; `None` when it has no row in the window, or there is none left.
    fn open_next(&mut self, filter: u16, ranges: Ranges<'_>, rows: &mut Rows<'_>) -> Result<Option<Head>, StoreError> {
        let item = self.item;
        if item >= ranges.items() {
            return Ok(None);
        }
        let keep = ranges.len() <= FEW_RANGES;
        let (kind, found) = match ranges.kinds() {
            Kinds::None => {
                self.item += 1;
                match ranges.id(item) {
                    Some(id) => (0, rows.find_id(id)?),
                    None => (0, rows.first(ranges.index(), ranges.start(item, rows.secret()), self.window, keep)?),
                }
            }
            Kinds::Listed(kinds) => {
                let kind = kinds[self.kind as usize];
                self.kind += 1;
                if self.kind as usize == kinds.len() {
                    (self.item, self.kind) = (item + 1, 0);
                }
                if kind.is_ephemeral() {
                    return Ok(None);
                }
                let prefix = ranges.prefix(item, kind.0, rows.secret());
                (kind.0, rows.first(ranges.index(), prefix, self.window, keep)?)
            }
            Kinds::All => {
                let start = ranges.start(item, rows.secret());
                let next = match u16::try_from(self.kind) {
                    Ok(from) => rows.next_kind(ranges.index(), start, from, self.window)?,
                    Err(_) => NextKind::End,
                };
                let NextKind::Found(kind, first) = next else {
                    (self.item, self.kind) = (item + 1, 0);
                    return Ok(None);
                };
                self.kind = u32::from(kind) + 1;
                (kind, first.map(|position| (position, 0)))
            }
        };
        Ok(found.map(|(position, slot)| Head { position, filter, kind, item, slot }))
    }
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

impl Slice {
    fn new(budget: Budget) -> Self {
        let started = (budget.time != Duration::MAX).then(Instant::now);
        Self { budget, started, spent: 0, look_at: CLOCK_ROWS }
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
        self.look_at = self.spent.saturating_add(CLOCK_ROWS);
        self.started.is_some_and(|started| started.elapsed() >= self.budget.time)
    }
}
