//! Groups: batches that are acknowledged one by one and committed together.
//!
//! LMDB writes whole pages and syncs twice for each commit, so a batch of a few events costs as much as one of
//! hundreds. Therefore each batch of a group goes to the write-ahead log, which makes it durable, and one commit of the
//! whole group follows. Readers see the events after that commit. Until then the group holds LMDB's write lock. So the
//! next owner of the lock knows that every acknowledged event is either committed or, if the last owner died, in the
//! log.
//!
//! A group uses the log only while there is room for everything that its commit may need. Near a limit, a batch is
//! committed before it is acknowledged, as without a log, so a full disk never stops the commit of acknowledged events.

use crate::nostr::{Timestamp, VerifiedEvent};
use crate::store::file::handle::Store;
use crate::store::file::wal::{FRAME, LENGTH, LOG_BYTES};
use crate::store::format::error::StoreError;
use crate::store::format::options::Durability;
use crate::store::read::lookup;
use crate::store::write::outcome::Outcome;
use crate::store::write::outcome::{Evicted, Removed};
use crate::store::write::size::{GROWTH, growth};
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// The most index entries of one group: LMDB holds about as many pages in memory.
const MAX_ROWS: usize = 16 << 10;

/// Bytes of the disk that are reserved for the deletions of a full store and for other programs.
const DISK_RESERVE: u64 = 64 << 20;

/// With less room than this, in bytes, a group does not use the log.
const LEAST_ROOM: u64 = 8 << 20;

/// The result of one batch of a group.
pub struct AddedBatch {
    /// The outcome of each event.
    pub outcomes: Vec<Outcome>,
    /// Whether the stored events survive a power cut already. Otherwise they do after the group's commit: the caller
    /// ends the group at once and acknowledges them then.
    pub is_durable: bool,
    /// The records that the batch removed: older versions and deleted events.
    pub removed: Vec<Box<[u8]>>,
    /// The events that were evicted to make room.
    pub evicted: Removed,
    /// Why the log could not be used, if it failed. The caller ends the group at once: see `is_durable`.
    pub log_failure: Option<StoreError>,
}

/// An open write transaction, which batches join.
pub struct Group<'g, 's> {
    txn: &'g mut Transaction<'s>,
    /// Bytes of new pages that its commit may write; zero when the log cannot be used, or can no longer be used.
    room: u64,
    syncs: bool,
    log_failure: Option<StoreError>,
}

impl Writer {
    /// Commits everything that `work` adds in one transaction. By then the frames of acknowledged batches are in the
    /// log: if the commit fails or never happens, the next transaction of any process adds their events.
    ///
    /// # Errors
    /// The errors of `work` and of the commit.
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
        // Nobody else can commit while this transaction is open, so the information describes the state that it sees.
        let info = inner.env.info();
        let map = (info.map_size as u64).saturating_sub(info.last_page_number as u64 * inner.page_size());
        let mut room = disk.saturating_sub(DISK_RESERVE).min(map);
        let mut log_failure = None;
        // A transaction that took over records from the log must not overwrite the log before its commit, even if it
        // only skipped their numbers.
        if room < LEAST_ROOM || txn.has_given_numbers() {
            room = 0;
        } else if let Err(error) = inner.wal.create().and_then(|()| inner.wal.may_overwrite(|| inner.sync_commits())) {
            (room, log_failure) = (0, Some(error));
        }
        Self { txn, room, syncs, log_failure }
    }

    /// Evicts events and applies the rules to a batch, as [`Writer::commit_evicting`] does.
    ///
    /// # Errors
    /// When the store is full or damaged. Then the group is rolled back, except for the batches in the log, which the
    /// next transaction adds.
    pub fn add(
        &mut self,
        batch: &[VerifiedEvent],
        now: Timestamp,
        evicted: Evicted<'_>,
    ) -> Result<AddedBatch, StoreError> {
        let start = self.txn.buffers.records.len();
        self.txn.buffers.records.resize(start + FRAME, 0);
        let evicted = self.txn.evict(evicted)?;
        self.txn.only_deletions = !self.has_room()?;
        self.txn.removed = Some(Vec::new());
        let outcomes = self.txn.admit_all(batch, now)?;
        let removed = self.txn.removed.take().unwrap_or_default();
        let is_durable = self.has_room()? && self.log(start);
        Ok(AddedBatch { outcomes, is_durable, removed, evicted, log_failure: self.log_failure.take() })
    }

    /// Evicts events without adding a batch. The eviction is not durable: after a crash, the evictor finds the same
    /// events again.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn evict(&mut self, evicted: Evicted<'_>) -> Result<Removed, StoreError> {
        self.txn.evict(evicted)
    }

    /// Whether the group may evict more: with many evictions, later batches of the group could not use the log.
    #[must_use]
    pub fn may_evict(&self) -> bool {
        self.txn.rows() < MAX_ROWS / 2
    }

    /// Whether the store stays below its limits with the records that the group will put and events of this footprint.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn has_room_for(&self, footprint: u64) -> Result<bool, StoreError> {
        let inner = &self.txn.store.inner;
        let to_come = GROWTH * self.txn.buffers.records.len() as u64;
        let pages = inner.page_bytes_in_use(&self.txn.txn)? + to_come + footprint;
        Ok(!inner.full().is_reached(self.txn.used_bytes()? + footprint, pages))
    }

    fn has_room(&self) -> Result<bool, StoreError> {
        self.has_room_for(0)
    }

    /// Writes the events of the last batch to the log, if that is possible; true when they are durable.
    fn log(&mut self, start: usize) -> bool {
        let (id, rows) = (self.txn.id(), self.txn.rows());
        let needed = growth(rows as u64, self.txn.buffers.records.len() as u64);
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
    /// Adds the records that were left in the log for this transaction. They were acknowledged, so none is refused.
    pub(in crate::store) fn readmit(&mut self, left: &[u8]) -> Result<(), StoreError> {
        let mut rest = left;
        while let Some((length, more)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_le_bytes(*length) as usize;
            let record = more.get(..length).ok_or(StoreError::Damaged("a frame of the write-ahead log"))?;
            // At time zero no event has expired. Upkeep removes those that have expired by now.
            let outcome = self.admit(lookup::view(record)?, Timestamp(0))?;
            if !matches!(outcome, Outcome::Stored(_)) {
                // The group had evicted the event before it was published again. Subscribers were told its arrival
                // number, so the numbers after it must stay the same.
                self.skip_number();
            }
            rest = &more[length..];
        }
        Ok(())
    }
}

impl Store {
    /// Creates and opens the write-ahead log, so that the first event needs no new file descriptor. Creates none when
    /// there is no room for it.
    ///
    /// # Errors
    /// When the disk or the store fails.
    pub fn open_log(&self) -> Result<(), StoreError> {
        let generation = self.generation();
        // Another process may be creating it.
        let _lock = generation.write_txn()?;
        match generation.inner.wal.create() {
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Syncs everything acknowledged so far, for stores whose commits do not wait for the disk
    /// ([`Durability::NoMetaSync`]).
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        let inner = self.inner();
        // The order matters: frames that become obsolete between the two syncs belong to a commit that is in the data
        // file by then.
        inner.wal.sync()?;
        inner.sync_commits()
    }

    /// Waits until every event that any process acknowledged is committed, so that readers see it. Cheap when it is.
    /// Takes over the records that a dead process left in the log. This thread must not be reading.
    ///
    /// # Errors
    /// When the disk or the store fails.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        // Events acknowledged after the store moved are in the log of the new data file.
        self.follow()?;
        let inner = self.inner();
        // Events that readers do not see yet are in frames of the next commit, whether its transaction is open or not.
        let next = inner.last_commit()? as u64 + 1;
        if inner.wal.is_left(next)? { self.writer().update(|_| Ok(())) } else { Ok(()) }
    }
}
