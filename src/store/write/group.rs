//! Groups: batches that are answered for one by one and committed together.
//!
//! LMDB writes whole pages, and two syncs for each commit; a batch of few events costs as much as one of hundreds. So
//! each batch of a group goes to the write-ahead log, which makes it durable, and the group's one commit follows later.
//! Readers see the events from the commit on. Until then the group holds LMDB's write lock, so whoever gets the lock
//! knows that everything acknowledged is committed, or that its owner died and left it in the log.
//!
//! The log is used only as long as there is room for whatever the commit may need. Near any limit a batch is committed
//! before it is answered for, as without a log, so nothing that was answered can meet a full disk.

use crate::nostr::{Timestamp, VerifiedEvent};
use crate::store::file::handle::Store;
use crate::store::file::wal::{FRAME, LENGTH, LOG_BYTES};
use crate::store::format::error::StoreError;
use crate::store::format::options::Durability;
use crate::store::read::lookup;
use crate::store::write::outcome::Outcome;
use crate::store::write::outcome::{Evicted, Removed};
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// Room that an index entry may need at the worst: its leaf and the branch above it written anew, and their numbers in
/// LMDB's list of free pages.
const ROW_BYTES: u64 = 12 << 10;

/// What a record takes with its index entries, for each byte of it.
const GROWTH: u64 = 3;

/// Index entries of one group at the most: about as many pages are held in memory.
const MAX_ROWS: usize = 16 << 10;

/// So much of the disk is left to the deletions of a full store, and to others.
const DISK_RESERVE: u64 = 64 << 20;

/// Below this much room the log is not worth it.
const LEAST_ROOM: u64 = 8 << 20;

/// What became of a batch of a group.
pub struct Added {
    /// What became of each event.
    pub outcomes: Vec<Outcome>,
    /// What was stored survives a power cut as of now. Otherwise it does from the group's commit on: the caller ends the
    /// group at once, and answers then.
    pub is_durable: bool,
    /// The records that the batch removed: older versions and deleted events.
    pub removed: Vec<Box<[u8]>>,
    /// What became of those that were to make room.
    pub evicted: Removed,
    /// Why the log could not be used, if it failed. The caller ends the group at once: see `is_durable`.
    pub log_failure: Option<StoreError>,
}

/// A write transaction under way, which batches join.
pub struct Group<'g, 's> {
    txn: &'g mut Transaction<'s>,
    /// New pages that its commit may write, in bytes; zero when the log cannot be used, or no more.
    room: u64,
    syncs: bool,
    log_failure: Option<StoreError>,
}

impl Writer {
    /// Commits together what `work` adds. Frames of batches that were answered for are in the log by then: when the
    /// commit fails, or is never made, the next transaction of any process adds them.
    ///
    /// # Errors
    /// Those of `work`, and those of the commit.
    pub fn group<T>(
        &mut self,
        work: impl FnOnce(&mut Group<'_, '_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let disk = self.store.disk_space().map_or(0, |space| space.free_bytes);
        let syncs = self.store.shared.options.durability == Durability::Full;
        self.update(|txn| work(&mut Group::new(txn, disk, syncs)))
    }
}

impl<'g, 's> Group<'g, 's> {
    fn new(txn: &'g mut Transaction<'s>, disk: u64, syncs: bool) -> Self {
        let inner = &txn.store.inner;
        // Nobody else commits while this transaction is open, so these are facts about its own state.
        let info = inner.env.info();
        let map = (info.map_size as u64).saturating_sub(info.last_page_number as u64 * inner.page_size());
        let mut room = disk.saturating_sub(DISK_RESERVE).min(map);
        let mut log_failure = None;
        // A transaction that took over what was left in the log must not write it anew before its commit.
        if room < LEAST_ROOM || txn.rows() > 0 {
            room = 0;
        } else if let Err(error) = inner.wal.create() {
            (room, log_failure) = (0, Some(error));
        }
        Self { txn, room, syncs, log_failure }
    }

    /// Evicts and takes a batch through the rules, as [`Writer::commit_evicting`] does.
    ///
    /// # Errors
    /// When the store is full or damaged. Then the group is undone but for what is in the log, which the next transaction
    /// adds.
    pub fn add(&mut self, batch: &[VerifiedEvent], now: Timestamp, evicted: Evicted<'_>) -> Result<Added, StoreError> {
        let start = self.txn.buffers.records.len();
        self.txn.buffers.records.resize(start + FRAME, 0);
        let evicted = self.txn.evict(evicted)?;
        self.txn.only_deletions = !self.has_room()?;
        self.txn.removed = Some(Vec::new());
        let outcomes = self.txn.admit_all(batch, now)?;
        let removed = self.txn.removed.take().unwrap_or_default();
        let is_durable = self.has_room()? && self.log(start);
        Ok(Added { outcomes, is_durable, removed, evicted, log_failure: self.log_failure.take() })
    }

    /// Evicts without a batch. It is not made durable: what a crash undoes is found again.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn evict(&mut self, evicted: Evicted<'_>) -> Result<Removed, StoreError> {
        self.txn.evict(evicted)
    }

    /// Whether it may evict more: with many changes of its own, a group cannot use the log for the batches behind.
    #[must_use]
    pub fn may_evict(&self) -> bool {
        self.txn.rows() < MAX_ROWS / 2
    }

    /// Whether the store is below its limit with what the group will put.
    fn has_room(&self) -> Result<bool, StoreError> {
        let inner = &self.txn.store.inner;
        let to_come = GROWTH * self.txn.buffers.records.len() as u64;
        let pages = inner.page_bytes_in_use(&self.txn.txn)? + to_come;
        Ok(!inner.full().is_reached(self.txn.used_bytes()?, pages))
    }

    /// Makes what the last batch stored durable, if that can be.
    fn log(&mut self, start: usize) -> bool {
        let (id, rows) = (self.txn.id(), self.txn.rows());
        let needed = rows as u64 * ROW_BYTES + GROWTH * self.txn.buffers.records.len() as u64;
        let records = &mut self.txn.buffers.records;
        if records.len() == start + FRAME {
            records.truncate(start);
            return true;
        }
        let is_fit = needed <= self.room && rows <= MAX_ROWS && records.len() <= LOG_BYTES;
        let wal = &self.txn.store.inner.wal;
        let logged =
            if is_fit { wal.write(id, start, &mut records[start..], self.syncs).map(|()| true) } else { Ok(false) };
        let is_logged = logged.unwrap_or_else(|error| {
            self.log_failure = Some(error);
            false
        });
        if !is_logged {
            self.room = 0;
        }
        is_logged
    }
}

impl Transaction<'_> {
    /// Adds what was left in the log for this transaction, as it was answered for: none of it is refused.
    pub(in crate::store) fn readmit(&mut self, left: &[u8]) -> Result<(), StoreError> {
        let mut rest = left;
        while let Some((length, more)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_le_bytes(*length) as usize;
            let record = more.get(..length).ok_or(StoreError::Damaged("a frame of the write-ahead log"))?;
            // Nothing is expired at the beginning of time; what is by now goes with the next upkeep.
            let outcome = self.admit(lookup::view(record)?, Timestamp(0))?;
            if !matches!(outcome, Outcome::Stored(_)) {
                // The group had evicted it before it came again. Numbers are what subscribers were told.
                self.skip_number();
            }
            rest = &more[length..];
        }
        Ok(())
    }
}

impl Store {
    /// Makes and opens the write-ahead log, so that the first event needs no new descriptor. Without room there is none.
    ///
    /// # Errors
    /// When the disk or the store fails.
    pub fn open_log(&self) -> Result<(), StoreError> {
        let generation = self.generation();
        // Another process may be making it.
        let _lock = generation.write_txn()?;
        match generation.inner.wal.create() {
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes durable what was acknowledged until now, where that waits for no disk ([`Durability::NoMetaSync`]).
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        let inner = self.inner();
        // In this order: what leaves the log in between is in a commit that the data file has by then.
        inner.wal.sync()?;
        Ok(inner.env.force_sync()?)
    }

    /// Waits until everything that was acknowledged, by whatever process, is committed and so can be read. Cheap when
    /// it is. Takes over what a process left that died. This thread must not be reading.
    ///
    /// # Errors
    /// When the disk or the store fails.
    pub fn fold(&self) -> Result<(), StoreError> {
        // What was acknowledged after the store moved is in the log of the new data file.
        self.follow()?;
        let inner = self.inner();
        // What readers do not see yet is in the frames of the commit that comes next for them, under way or not.
        let next = inner.last_commit()? as u64 + 1;
        if inner.wal.is_left(next)? { self.writer().update(|_| Ok(())) } else { Ok(()) }
    }
}
