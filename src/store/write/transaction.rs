//! The writer: transactions that apply the rules to each event in turn.
//!
//! A batch has the same outcome as its events one by one. When its commit fails, nothing of it is stored, except for
//! the part that the write-ahead log holds: see [`crate::store::write::group`]. A write transaction never leaves the
//! thread that began it, since LMDB's lock belongs to the thread.

use std::ops::Range;

use hashbrown::HashMap;
use heed::{PutFlags, RwTxn};

use crate::nostr::{EventId, EventView, Kind, Timestamp, VerifiedEvent};
use crate::store::file::disk;
use crate::store::file::generation::Generation;
use crate::store::file::handle::Store;
use crate::store::file::journal::{self, Noted, State};
use crate::store::file::lock::lock;
use crate::store::file::tally::Tally;
use crate::store::file::wal::LENGTH;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, LONGEST, Row};
use crate::store::read::judge::{StoredEvents, Verdict, judge};
use crate::store::read::lookup::{self, Lookup};
use crate::store::write::buffers::Buffers;
use crate::store::write::outcome::{Evicted, Outcome, Removed};

/// Writes to a store. Each call is one transaction on the calling thread.
pub struct Writer {
    pub(in crate::store) store: Store,
    buffers: Buffers,
}

/// From this many index entries on, it pays to make another commit so that LMDB can reuse the freed pages.
const LARGE_ROWS: usize = 2 << 10;

/// An event that the transaction adds.
struct Slot {
    /// The range of its record in [`Buffers::records`].
    record: Range<usize>,
    /// False once a later event of the transaction has replaced or deleted it.
    is_held: bool,
}

/// A write transaction and the events that it will add.
pub(in crate::store) struct Transaction<'s> {
    pub store: &'s Generation,
    pub txn: RwTxn<'s>,
    /// The notes for a copy of the store, while one is being made.
    pub notes: Option<Vec<Vec<u8>>>,
    /// The records that it has removed, if the caller wants them.
    pub removed: Option<Vec<Box<[u8]>>>,
    /// The removals that its commit is to remember.
    pub removals: Vec<(Seq, EventId)>,
    /// Whether the store accepts only deletions, for want of room.
    pub only_deletions: bool,
    /// The footprint that events may add: from the first one on that exceeds it, only deletions are accepted.
    pub allowance: u64,
    pub buffers: Buffers,
    /// The arrival number of the first slot.
    first: u64,
    slots: Vec<Slot>,
    /// The slots with `is_held`, by id.
    ids: HashMap<EventId, Seq>,
    /// The changes of the tallies.
    pub tally: Tally,
    /// The number of index entries that it has removed.
    deleted_rows: usize,
    /// Whether it has raised the bounds of newest events.
    raises: bool,
    /// Whether it has put the row of the next arrival number, so that LMDB gives the commit its number.
    has_put: bool,
}

impl Writer {
    pub(in crate::store) fn new(store: Store) -> Self {
        Self { store, buffers: Buffers::default() }
    }

    /// Stores a batch in one durable commit and returns the outcome of each event, in order.
    ///
    /// Every kind 62 in the batch counts as a request to this relay: the caller refuses those that do not name it
    /// (NIP-62). When there is no room, deletions and vanish requests are still stored and the rest is
    /// [`Outcome::Full`].
    ///
    /// # Errors
    /// When the commit fails; then nothing of the batch is stored. [`StoreError::Full`] when even the deletions have no
    /// room.
    pub fn commit(&mut self, batch: &[VerifiedEvent], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        self.commit_evicting(batch, now, Evicted::default()).map(|(outcomes, _)| outcomes)
    }

    /// Like [`Self::commit`], but first evicts some events in the same commit, which makes room without another sync.
    /// `None` when there is no room even to remove them; then they stay.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_evicting(
        &mut self,
        batch: &[VerifiedEvent],
        now: Timestamp,
        evicted: Evicted<'_>,
    ) -> Result<(Vec<Outcome>, Option<Removed>), StoreError> {
        self.commit_or_deletions(batch, now, |txn| {
            let removed = txn.evict(evicted)?;
            txn.only_deletions = txn.is_full()?;
            Ok(removed)
        })
    }

    /// Commits a batch after `begin`; without room for that, only its deletions and vanish requests.
    pub(in crate::store) fn commit_or_deletions<T>(
        &mut self,
        batch: &[VerifiedEvent],
        now: Timestamp,
        begin: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<(Vec<Outcome>, Option<T>), StoreError> {
        let tried = self.update(|txn| {
            let begun = begin(txn)?;
            Ok((txn.admit_all(batch, now)?, Some(begun)))
        });
        match tried {
            // LMDB's transaction can do nothing more. Another one stores the deletions.
            Err(StoreError::Full) => self.update(|txn| {
                txn.only_deletions = true;
                Ok((txn.admit_all(batch, now)?, None))
            }),
            result => result,
        }
    }

    /// Runs `work` in one transaction and commits it.
    pub(in crate::store) fn update<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let generation = self.store.generation();
            if let Some(mut txn) = Transaction::begin(&generation, std::mem::take(&mut self.buffers))? {
                let of_write = |error| disk::of_write(generation.inner.env.path(), error);
                let result = work(&mut txn).map_err(of_write)?;
                let rows = txn.rows();
                #[cfg(test)]
                generation.inner.full.fail_if_told()?;
                self.buffers = txn.commit().map_err(of_write)?;
                if rows >= LARGE_ROWS {
                    // This only saves space. The caller's work is committed, whether this succeeds or not.
                    let _ = self.commit_tiny();
                }
                return Ok(result);
            }
            self.store.move_on(generation.inner.number)?;
        }
    }

    /// Commits the records left in the write-ahead log and rewrites one small row: a test whether commits are possible.
    ///
    /// # Errors
    /// When a commit fails.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        self.update(|txn| txn.put_next_seq(txn.first))
    }

    /// Makes a tiny commit. LMDB can reuse freed pages only two commits later. With a tiny commit between them, large
    /// commits reuse one set of free pages instead of alternating between two.
    fn commit_tiny(&mut self) -> Result<(), StoreError> {
        let generation = self.store.generation();
        if let Some(mut txn) = Transaction::begin(&generation, std::mem::take(&mut self.buffers))? {
            txn.put_next_seq(txn.first)?;
            self.buffers = txn.commit()?;
        }
        Ok(())
    }
}

impl Generation {
    /// Takes the write lock for changes of rows alone, after committing the records left in the log.
    ///
    /// # Errors
    /// When LMDB, the log or a commit fails.
    pub fn write_txn(&self) -> Result<RwTxn<'_>, StoreError> {
        loop {
            let (txn, left) = lock(&self.inner.env, &self.inner.wal)?;
            if left.is_empty() {
                self.inner.check_files()?;
                return Ok(txn);
            }
            drop(txn);
            if let Some(txn) = Transaction::begin(self, Buffers::default())? {
                txn.commit()?;
            }
        }
    }
}

impl StoredEvents for Transaction<'_> {
    fn lookup(&self) -> Lookup<'_> {
        self.lookup()
    }

    fn is_hidden(&self, event: EventView<'_>) -> Result<Option<bool>, StoreError> {
        let found = self.by_id(&event.id())?;
        found.map(|(seq, held)| self.lookup().is_vanished(seq, held)).transpose()
    }

    fn version(&self, seq: Seq) -> Result<EventView<'_>, StoreError> {
        self.held(seq)
    }
}

impl<'s> Transaction<'s> {
    /// Waits for the write lock, and adds the records left in the write-ahead log. `None` when the store has moved to
    /// another generation.
    pub fn begin(store: &'s Generation, buffers: Buffers) -> Result<Option<Self>, StoreError> {
        let (txn, left) = lock(&store.inner.env, &store.inner.wal)?;
        let notes = match journal::state(&store.inner.tables, &txn)? {
            State::Here => None,
            State::Copying(_) => Some(Vec::new()),
            State::Moved(_) => return Ok(None),
        };
        store.inner.check_files()?;
        let first = store.inner.tables.next_seq(&txn)?;
        let (slots, ids, tally) = (Vec::new(), HashMap::new(), Tally::default());
        let mut txn = Self {
            store,
            txn,
            notes,
            removed: None,
            removals: Vec::new(),
            only_deletions: false,
            allowance: u64::MAX,
            buffers,
            first,
            slots,
            ids,
            tally,
            deleted_rows: 0,
            raises: false,
            has_put: false,
        };
        txn.buffers.clear();
        txn.readmit(&left.into_records())?;
        Ok(Some(txn))
    }

    pub fn lookup(&self) -> Lookup<'_> {
        self.store.lookup(&self.txn)
    }

    pub fn admit_all(&mut self, batch: &[VerifiedEvent], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        if self.slots.is_empty() {
            self.note_arrivals(now)?;
        }
        batch.iter().map(|event| self.admit(event.view(), now)).collect()
    }

    /// Applies the rules to one event.
    pub fn admit(&mut self, event: EventView<'_>, now: Timestamp) -> Result<Outcome, StoreError> {
        if event.kind().is_ephemeral() {
            return Ok(Outcome::Ephemeral);
        }
        let Verdict { known, address, older } = judge(self, event, now)?;
        if let Some(outcome) = Outcome::of(known) {
            return Ok(outcome);
        }
        if !lookup::is_immune(event.kind()) {
            self.only_deletions |= self.exceeds_allowance(event);
            if self.only_deletions {
                return Ok(Outcome::Full);
            }
        }
        if event.kind() == Kind::DELETION && !self.delete_targets(event)? {
            return Ok(Outcome::InvalidDeletion);
        }
        if let Some(seq) = older {
            self.remove(seq)?;
        }
        let seq = self.add(event, address)?;
        if event.kind() == Kind::VANISH {
            self.vanish(event, seq)?;
        }
        Ok(Outcome::Stored(seq))
    }

    /// The event with this id, in the store or in the batch so far.
    pub fn by_id(&self, id: &EventId) -> Result<Option<(Seq, EventView<'_>)>, StoreError> {
        match self.ids.get(id) {
            Some(&seq) => Ok(Some((seq, self.held(seq)?))),
            None => self.lookup().by_id(id),
        }
    }

    /// The event with this number, in the store or in the batch so far.
    pub fn held(&self, seq: Seq) -> Result<EventView<'_>, StoreError> {
        match self.slot(seq) {
            Some(slot) => lookup::view(&self.buffers.records[self.slots[slot].record.clone()]),
            None => self.lookup().get(seq)?.ok_or(StoreError::Damaged("an arrival number has no record")),
        }
    }

    /// The slot of an event of this transaction.
    fn slot(&self, seq: Seq) -> Option<usize> {
        let slot = seq.0.checked_sub(self.first)? as usize;
        (slot < self.slots.len()).then_some(slot)
    }

    /// Assigns an arrival number to the event. Its record and index entries are put when the transaction is complete.
    fn add(&mut self, event: EventView<'_>, address: Option<[u8; 16]>) -> Result<Seq, StoreError> {
        let seq = self.next_seq();
        if seq > Seq::MAX {
            return Err(StoreError::Damaged("the arrival numbers are used up"));
        }
        if let Some(address) = address {
            self.store.inner.tables.holder.put(&mut self.txn, &address, &keys::six(seq.0))?;
        }
        let Buffers { records, rows, .. } = &mut self.buffers;
        keys::index_entries(event, seq, &self.store.inner.secret, |index, key| {
            let mut padded = [0; LONGEST];
            padded[..key.len()].copy_from_slice(key);
            rows[index as usize].push(padded);
        });
        let length: [u8; LENGTH] = (event.record().len() as u32).to_le_bytes();
        records.extend_from_slice(&length);
        let start = records.len();
        records.extend_from_slice(event.record());
        self.ids.insert(event.id(), seq);
        self.tally.add(event);
        self.slots.push(Slot { record: start..records.len(), is_held: true });
        Ok(seq)
    }

    /// The arrival number that the next event will get.
    pub fn next_seq(&self) -> Seq {
        Seq(self.first + self.slots.len() as u64)
    }

    /// Whether it has given or skipped arrival numbers.
    pub const fn has_given_numbers(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Skips one arrival number.
    pub fn skip_number(&mut self) {
        self.slots.push(Slot { record: 0..0, is_held: false });
    }

    /// Removes an event with its index entries, and its coordinate's holder row.
    pub fn remove(&mut self, seq: Seq) -> Result<(), StoreError> {
        self.remove_record(seq)?;
        self.delete_entries()
    }

    /// Removes an event and its coordinate's holder row. [`Self::delete_entries`] removes its index entries later.
    pub fn remove_record(&mut self, seq: Seq) -> Result<(), StoreError> {
        let (tables, secret) = (&self.store.inner.tables, &self.store.inner.secret);
        let mut scratch = std::mem::take(&mut self.buffers.scratch);
        scratch.clear();
        scratch.extend_from_slice(self.held(seq)?.record());
        let event = lookup::view(&scratch)?;
        self.tally.remove(event);
        if let Some(removed) = &mut self.removed {
            removed.push(event.record().into());
        }
        if let Some(address) = secret.address_of(event)
            && self.lookup().holder(&address)? == Some(seq)
        {
            tables.holder.delete(&mut self.txn, &address)?;
        }
        if let Some(slot) = self.slot(seq) {
            self.slots[slot].is_held = false;
            self.ids.remove(&event.id());
        } else {
            let gone = &mut self.buffers.gone;
            keys::index_entries(event, seq, secret, |index, key| {
                let mut padded = [0; LONGEST];
                padded[..key.len()].copy_from_slice(key);
                gone[index as usize].push(padded);
            });
            let key = keys::six(seq.0);
            tables.event.delete(&mut self.txn, &key)?;
            self.note(Noted::Event, &key);
            self.removals.push((seq, event.id()));
        }
        self.buffers.scratch = scratch;
        Ok(())
    }

    /// Deletes the index entries of the removed events in key order: neighbours share pages.
    pub fn delete_entries(&mut self) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        for index in Index::ALL {
            let rows = &mut self.buffers.gone[index as usize];
            rows.sort_unstable();
            for row in rows.drain(..) {
                self.deleted_rows += 1;
                tables.index(index).delete(&mut self.txn, &row[..index.key_len()])?;
            }
        }
        Ok(())
    }

    /// The number of this transaction: that of the next commit.
    pub fn id(&self) -> u64 {
        self.txn.id() as u64
    }

    /// The footprint of the events, including the changes of this transaction.
    pub fn used_bytes(&self) -> Result<u64, StoreError> {
        let before = self.store.inner.used_at(self.id() - 1, &self.txn)?;
        Ok(before.saturating_add_signed(self.tally.footprint()))
    }

    /// Whether the store accepts only deletions after this transaction.
    pub fn is_full(&self) -> Result<bool, StoreError> {
        let inner = &self.store.inner;
        Ok(inner.full().is_reached(self.used_bytes()?, inner.page_bytes_in_use(&self.txn)?))
    }

    /// The number of index entries that it adds and removes, and of as many pages for what it remembers.
    pub fn rows(&self) -> usize {
        self.deleted_rows + self.rows_of_removals() + self.buffers.rows.iter().map(Vec::len).sum::<usize>()
    }

    /// Puts an index entry. Nothing else in a transaction may: the bounds of newest events must know of it before any
    /// reader sees it.
    pub fn put_entry(&mut self, index: Index, key: &[u8]) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        if index == Index::Author
            && let Some(range) = key.first_chunk()
            && let Some(row) = Row::from_key(key)
        {
            if !self.raises {
                inner.newest.begin(self.txn.id() as u64);
                self.raises = true;
            }
            inner.newest.raise(*range, row.created_at);
        }
        Ok(inner.tables.index(index).put(&mut self.txn, key, &[])?)
    }

    /// Puts the arrival number that the next event will get.
    pub fn put_next_seq(&mut self, next: u64) -> Result<(), StoreError> {
        self.has_put = true;
        self.store.inner.tables.put_next_seq(&mut self.txn, next)
    }

    /// Puts the new events and commits.
    pub fn commit(mut self) -> Result<Buffers, StoreError> {
        let tables = &self.store.inner.tables;
        let (first, slots) = (self.first, std::mem::take(&mut self.slots));
        let is_held = |number: u64| slots.get((number - first) as usize).is_some_and(|slot| slot.is_held);
        let Buffers { records, .. } = &self.buffers;
        for (number, slot) in (first..).zip(&slots).filter(|(_, slot)| slot.is_held) {
            let record = &records[slot.record.clone()];
            tables.event.put_with_flags(&mut self.txn, PutFlags::APPEND, &keys::six(number), record)?;
        }
        // In key order, neighbours share the pages that they change.
        for index in Index::ALL {
            let mut rows = std::mem::take(&mut self.buffers.rows[index as usize]);
            rows.sort_unstable();
            for row in &rows {
                let key = &row[..index.key_len()];
                if keys::seq_of(key).is_some_and(|seq| is_held(seq.0)) {
                    self.put_entry(index, key)?;
                }
            }
            self.buffers.rows[index as usize] = rows;
        }
        let (id, used_bytes) = (self.id(), self.used_bytes()?);
        let has_changed = !self.tally.is_empty();
        self.tally.put(tables.meta, &mut self.txn)?;
        if !slots.is_empty() {
            self.put_next_seq(first + slots.len() as u64)?;
        }
        self.remember_removals()?;
        self.put_notes()?;
        self.txn.commit()?;
        if has_changed {
            // LMDB skips a commit without changes and gives its number to the next transaction.
            self.store.inner.last_used.note(id, used_bytes);
        }
        if has_changed || self.has_put {
            self.store.inner.newest.committed(id);
        }
        Ok(self.buffers)
    }
}
