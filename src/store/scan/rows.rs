//! The rows of ranges within one snapshot: seeks a range's first row, steps to the next, and reads records.
//!
//! It lasts for one slice and owns every cursor that is open in it, a bounded number. A cursor is opened only when a
//! range is stepped, because most ranges of a follow feed never supply a row: their first row is older than the page.

use std::ops::Bound;

use heed::RoRange;
use heed::types::Bytes;

use crate::nostr::{EventView, Timestamp};
use crate::store::file::newest::{Bound as NewestBound, Newest};
use crate::store::file::prefetch::prefetch;
use crate::store::file::schema::Table;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{Index, Secret};
use crate::store::read::lookup;
use crate::store::read::pages::BATCH;
use crate::store::read::snapshot::{ById, Snapshot};
use crate::store::scan::plan::{Key, Prefix, Ranges, Source};
use crate::store::scan::position::{Head, Position};

/// With at most this many ranges, each range keeps the cursor that opened it, and many rows of each are read ahead.
pub(in crate::store) const FEW_RANGES: u32 = 8;

/// The most cursors open at a time (about 0.5 KB each); ranges beyond that are stepped by seeking.
pub(super) const MAX_CURSORS: usize = 256;

/// The rows of a range that are wanted.
#[derive(Clone, Copy)]
pub(in crate::store) struct Window {
    /// The first position of the window.
    pub from: Position,
    /// The earliest `created_at`.
    pub since: Timestamp,
}

impl Window {
    /// Whether a row is not too old. The seek makes sure that it is not too new.
    pub fn admits(self, position: Position) -> bool {
        position.created_at() >= self.since
    }
}

/// An open cursor and the range it walks.
pub(in crate::store) struct Cursor<'t> {
    rows: RoRange<'t, Bytes, Bytes>,
    prefix: Prefix,
    /// Rows that the cursor steps over before it seeks.
    steps: u32,
}

/// The most rows that a cursor steps over before it seeks: stepping over these costs about as much as a seek.
const MAX_STEPS: u32 = 16;

/// What is kept of a range for its head.
pub(super) struct OpenRange<'t> {
    /// Where the rows that were not read ahead come from, once they are wanted.
    pub(super) cursor: Option<Cursor<'t>>,
    pub(super) ahead: PrefetchedRows<'t>,
    /// Whether the range has no row after those that were read ahead.
    pub(super) is_whole: bool,
}

/// Rows of a range that were read together, in growing batches, so that their records are found together.
pub(super) struct PrefetchedRows<'t> {
    pub(super) rows: [Position; BATCH],
    pub(super) records: [Option<&'t [u8]>; BATCH],
    /// The index of the current row.
    at: usize,
    pub(super) len: usize,
}

impl PrefetchedRows<'_> {
    pub(super) const NONE: Self = Self { rows: [Position::FIRST; BATCH], records: [None; BATCH], at: 0, len: 0 };
}

/// The ranges of the other index that one range is intersected with: those of the same kind.
pub(in crate::store) struct Intersected<'t> {
    /// Filter, item and kind of that range.
    pub of: (u16, u32, u16),
    pub ranges: Vec<(Cursor<'t>, Option<Position>)>,
}

/// Events whose ids were looked up together.
pub(super) struct EventBatch<'t> {
    /// The number of the filter, and the place of the first id in its list.
    pub(super) of: (u16, usize),
    pub(super) events: [ById<'t>; BATCH],
}

/// The rows of ranges within one snapshot.
pub(in crate::store) struct Rows<'t> {
    pub(super) snapshot: &'t Snapshot<'t>,
    secret: &'t Secret,
    pub(super) cursors: Vec<OpenRange<'t>>,
    pub(super) records: Vec<EventView<'t>>,
    /// The events of the last ids that were looked up together.
    pub(super) together: Option<EventBatch<'t>>,
    /// The record that was prefetched, see [`Rows::fetch_ahead`].
    ahead: Option<(Seq, &'t [u8])>,
    /// See [`Rows::intersect`].
    pub(in crate::store) intersected: Vec<Intersected<'t>>,
    pub(super) stepped: u64,
    /// The bounds of newest events, if they hold in this snapshot.
    newest: Option<&'t Newest>,
    hits: u64,
    misses: u64,
}

impl<'t> Rows<'t> {
    /// Reads and allocates nothing yet.
    pub fn new(snapshot: &'t Snapshot<'t>) -> Self {
        let newest = &snapshot.store.inner.newest;
        Self {
            snapshot,
            secret: snapshot.store.secret(),
            cursors: Vec::new(),
            records: Vec::new(),
            together: None,
            ahead: None,
            intersected: Vec::new(),
            stepped: 0,
            newest: newest.covers(snapshot.txn.id() as u64).then_some(newest),
            hits: 0,
            misses: 0,
        }
    }

    /// Whether bounds of newest events hold in this snapshot.
    pub fn has_bounds(&self) -> bool {
        self.newest.is_some()
    }

    /// The bound of the newest event of an author and a kind, if it is known.
    pub fn bound(&mut self, range: Prefix) -> Option<NewestBound> {
        let bound = self.newest?.get(*range.as_bytes().first_chunk()?);
        *(if bound.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        bound
    }

    /// The bounds of an author will be asked for soon.
    pub fn fetch_bounds(&self, author: Prefix) {
        if let (Some(newest), Some(author)) = (self.newest, author.as_bytes().first_chunk()) {
            newest.fetch(*author);
        }
    }

    /// Enters the time of the newest event of an author and a kind, which was looked up in this snapshot.
    pub fn learn(&self, range: Prefix, newest: Option<Timestamp>) {
        if let (Some(table), Some(range)) = (self.newest, range.as_bytes().first_chunk()) {
            table.enter(*range, newest.map_or(NewestBound::Nothing, NewestBound::At), self.snapshot.txn.id() as u64);
        }
    }

    /// Adds this slice to the metrics.
    pub fn count_bounds(&self) {
        if let Some(newest) = self.newest.filter(|_| self.hits + self.misses > 0) {
            newest.count(self.hits, self.misses);
        }
    }

    /// The store's secret, the key of the hashes in tag keys.
    pub fn secret(&self) -> &'t Secret {
        self.secret
    }

    /// Whether some head may hold a slot.
    pub fn has_slots(&self) -> bool {
        !self.cursors.is_empty() || !self.records.is_empty()
    }

    /// The record with this arrival number; `None` when it was deleted.
    pub fn record(&self, seq: Seq) -> Result<Option<EventView<'t>>, StoreError> {
        match self.ahead {
            Some((own, record)) if own == seq => Ok(Some(lookup::view(record)?)),
            _ => self.snapshot.get(seq),
        }
    }

    /// Prefetches the record of the next row while another is worked on: with records that nobody has read lately, a
    /// page mostly waits for memory.
    pub fn fetch_ahead(&mut self, head: Head, source: Source) -> Result<(), StoreError> {
        let seq = head.position.seq();
        let record = match self.held(head, source) {
            Some(record) => Some(record),
            None => self.snapshot.record(seq)?,
        };
        // Reading the record here would wait for memory, and the prefetch would gain nothing.
        record.into_iter().for_each(|record| prefetch(&record[..record.len().min(PREFETCH_BYTES)]));
        self.ahead = record.map(|record| (seq, record));
        Ok(())
    }

    /// The record of this head, if it was found already.
    pub fn held(&self, head: Head, source: Source) -> Option<&'t [u8]> {
        if source == Source::Ids {
            return self.records.get(head.slot as usize).map(|event| event.record());
        }
        let ahead = &self.cursors.get(head.slot as usize)?.ahead;
        ahead.records.get(..ahead.len)?.get(ahead.at).copied().flatten()
    }

    /// Whether a vanish request hides the event (NIP-62).
    pub fn is_hidden(&self, seq: Seq, event: EventView<'_>) -> Result<bool, StoreError> {
        self.snapshot.is_hidden(seq, event)
    }

    fn table(&self, index: Index) -> Table {
        self.snapshot.store.inner.tables.index(index)
    }

    /// The first key at or after `key`.
    pub fn seek(&self, index: Index, key: &[u8]) -> Result<Option<Key>, StoreError> {
        let found = self.table(index).get_greater_than_or_equal_to(&self.snapshot.txn, key)?;
        found.map(|(key, _)| read(key)).transpose()
    }

    /// The first two keys at or after `key`.
    pub fn seek_two(&self, index: Index, key: &[u8]) -> Result<[Option<Key>; 2], StoreError> {
        let mut rows = self.walk(index, Bound::Included(key))?;
        let mut next = || rows.next().map(|row| read(row?.0)).transpose();
        Ok([next()?, next()?])
    }

    fn walk(&self, index: Index, from: Bound<&[u8]>) -> Result<RoRange<'t, Bytes, Bytes>, StoreError> {
        Ok(self.table(index).range(&self.snapshot.txn, &(from, Bound::Unbounded))?)
    }

    /// The first row of a range in the window, and the slot of its cursor, which stays open.
    ///
    /// A kept cursor costs somewhat more than a seek; it pays when the range is certain to be stepped.
    pub fn first_kept(
        &mut self,
        index: Index,
        prefix: Prefix,
        window: Window,
    ) -> Result<Option<(Position, u32)>, StoreError> {
        let cursor = self.cursor(index, prefix, window.from)?;
        self.keep(cursor, window)
    }

    /// A cursor before the first row of a range at or after `from`.
    pub fn cursor(&self, index: Index, prefix: Prefix, from: Position) -> Result<Cursor<'t>, StoreError> {
        let rows = self.walk(index, Bound::Included(prefix.key(from).as_bytes()))?;
        Ok(Cursor { rows, prefix, steps: MAX_STEPS })
    }

    fn keep(&mut self, mut cursor: Cursor<'t>, window: Window) -> Result<Option<(Position, u32)>, StoreError> {
        let Some(position) = cursor.next(window)? else { return Ok(None) };
        if self.cursors.len() == MAX_CURSORS {
            return Ok(Some((position, Head::NO_SLOT)));
        }
        self.cursors.push(OpenRange { cursor: Some(cursor), ahead: PrefetchedRows::NONE, is_whole: false });
        Ok(Some((position, self.cursors.len() as u32 - 1)))
    }

    /// The row after `head` in its range. With `takes_all`, rows are read in advance, since the record of each will be
    /// needed.
    pub fn step(
        &mut self,
        head: Head,
        ranges: Ranges<'_>,
        window: Window,
        takes_all: bool,
    ) -> Result<Option<Head>, StoreError> {
        if ranges.index() == Index::Id || head.slot == Head::LAST {
            return Ok(None);
        }
        if head.slot == Head::NO_SLOT {
            return self.open_at(head, head.position.next(), ranges, window);
        }
        let position = match takes_all {
            true => self.read_ahead(head, ranges, window)?,
            false => self.cursor_alone(head, ranges)?.next(window)?,
        };
        Ok(position.map(|position| Head { position, ..head }))
    }

    /// The kept cursor of a head, which is at its row.
    fn cursor_after(&mut self, head: Head, ranges: Ranges<'_>) -> Result<&mut Cursor<'t>, StoreError> {
        let slot = head.slot as usize;
        if self.cursors[slot].cursor.is_none() {
            let prefix = ranges.prefix(head.item, head.kind, self.secret);
            self.cursors[slot].cursor = Some(self.cursor(ranges.index(), prefix, head.position.next())?);
        }
        Ok(self.cursors[slot].cursor.as_mut().expect("it was opened just now"))
    }

    /// The same, when rows are no longer read ahead.
    fn cursor_alone(&mut self, head: Head, ranges: Ranges<'_>) -> Result<&mut Cursor<'t>, StoreError> {
        self.cursors[head.slot as usize].ahead.len = 0;
        self.cursor_after(head, ranges)
    }

    /// The row after `head`, whose range is kept. Its record may be found already, see [`Rows::held`].
    fn read_ahead(&mut self, head: Head, ranges: Ranges<'_>, window: Window) -> Result<Option<Position>, StoreError> {
        let OpenRange { ahead, is_whole, .. } = &mut self.cursors[head.slot as usize];
        ahead.at += 1;
        if ahead.at < ahead.len {
            return Ok(Some(ahead.rows[ahead.at]));
        }
        if *is_whole {
            return Ok(None);
        }
        // Of one range among many, few rows are wanted.
        let is_one_of_many = ranges.len() > FEW_RANGES;
        let batch = (2 * ahead.len).clamp(if is_one_of_many { 1 } else { 2 }, BATCH);
        let mut rows = [Position::FIRST; BATCH];
        let mut len = 0;
        let cursor = self.cursor_after(head, ranges)?;
        while len < batch
            && let Some(position) = cursor.next(window)?
        {
            rows[len] = position;
            len += 1;
        }
        let ahead = &mut self.cursors[head.slot as usize].ahead;
        (ahead.rows, ahead.at, ahead.len) = (rows, 0, len);
        ahead.records.fill(None);
        if (len > 1 || !is_one_of_many)
            && let Some(pages) = self.snapshot.pages()
        {
            pages.find_all(&rows.map(Position::seq)[..len], &mut ahead.records[..len]);
        }
        Ok(rows[..len].first().copied())
    }

    /// The first row at or after `to` in the range of `head`, whose row is before `to`.
    pub fn step_to(
        &mut self,
        head: Head,
        to: Position,
        ranges: Ranges<'_>,
        window: Window,
    ) -> Result<Option<Head>, StoreError> {
        match head.slot {
            Head::LAST => Ok(None),
            Head::NO_SLOT => self.open_at(head, to, ranges, window),
            slot => {
                self.cursor_alone(head, ranges)?;
                let mut cursor = self.cursors[slot as usize].cursor.take().expect("it is open now");
                let position = self.skip_to(&mut cursor, ranges.index(), to, window);
                self.cursors[slot as usize].cursor = Some(cursor);
                Ok(position?.map(|position| Head { position, ..head }))
            }
        }
    }

    /// The first row at or after `from` in the range of `head`. Its cursor stays open.
    pub fn open_at(
        &mut self,
        head: Head,
        from: Position,
        ranges: Ranges<'_>,
        window: Window,
    ) -> Result<Option<Head>, StoreError> {
        let prefix = ranges.prefix(head.item, head.kind, self.secret);
        let cursor = self.cursor(ranges.index(), prefix, from)?;
        self.stepped += 1;
        Ok(self.keep(cursor, window)?.map(|(position, slot)| Head { position, slot, ..head }))
    }

    /// The first row at or after `to`, which the cursor has not reached: by steps if the row is near, otherwise by a
    /// seek.
    pub fn skip_to(
        &mut self,
        cursor: &mut Cursor<'t>,
        index: Index,
        to: Position,
        window: Window,
    ) -> Result<Option<Position>, StoreError> {
        for _ in 0..cursor.steps {
            self.stepped += 1;
            match cursor.next(window)? {
                Some(position) if position < to => {}
                found => {
                    cursor.steps = (2 * cursor.steps).min(MAX_STEPS);
                    return Ok(found);
                }
            }
        }
        let steps = (cursor.steps / 2).max(1);
        self.stepped += u64::from(MAX_STEPS);
        *cursor = Cursor { steps, ..self.cursor(index, cursor.prefix, to)? };
        cursor.next(window)
    }

    /// The number of rows stepped over. A seek in place of steps counts as [`MAX_STEPS`] rows.
    pub fn stepped(&self) -> u64 {
        self.stepped
    }

    /// Counts the rows whose keys begin with `prefix`, from the key `from` to the first row older than `since`, and
    /// reads at most `units` rows.
    pub fn count(
        &self,
        index: Index,
        prefix: Prefix,
        from: &[u8],
        since: Timestamp,
        units: u32,
    ) -> Result<RowCount, StoreError> {
        let mut counted = RowCount { rows: 0, newest: Timestamp(0), oldest: Timestamp::MAX, is_all: false };
        for row in self.walk(index, Bound::Included(from))? {
            let Some(rest) = row?.0.strip_prefix(prefix.as_bytes()) else { break };
            if counted.rows == units {
                return Ok(counted);
            }
            let position = Position::of_key(rest).ok_or(StoreError::Damaged("an index key is cut short"))?;
            if position.created_at() < since {
                break;
            }
            counted.rows += 1;
            counted.newest = counted.newest.max(position.created_at());
            counted.oldest = counted.oldest.min(position.created_at());
        }
        counted.is_all = true;
        Ok(counted)
    }
}

/// Bytes of a record that are prefetched. Reading these makes the CPU fetch the rest.
pub(super) const PREFETCH_BYTES: usize = 1024;

fn read(key: &[u8]) -> Result<Key, StoreError> {
    Key::new(key).ok_or(StoreError::Damaged("an index key is too long"))
}

/// The result of [`Rows::count`].
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RowCount {
    /// The number of rows.
    pub rows: u32,
    /// The latest `created_at` among them.
    pub newest: Timestamp,
    /// The earliest.
    pub oldest: Timestamp,
    /// Whether the count reached the end.
    pub is_all: bool,
}

impl Cursor<'_> {
    /// The next row, if it is in the range and the window.
    pub fn next(&mut self, window: Window) -> Result<Option<Position>, StoreError> {
        let row = self.rows.next().transpose()?;
        Ok(row.and_then(|(key, _)| self.prefix.row(key)).filter(|position| window.admits(*position)))
    }
}
