//! The data that a backup reads besides records, and how a store is created from a backup.
//!
//! A store that is being restored is a generation that no file names yet: an interrupted restore leaves no store.
//! Events pass through the same rules as when they arrived, and get new numbers.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::nostr::{Timestamp, VerifiedEvent};
use crate::store::file::full::Full;
use crate::store::file::full::SharedFull;
use crate::store::file::generation::{self, Inner};
use crate::store::file::handle::{Shared, Store};
use crate::store::file::journal::Noted;
use crate::store::file::schema::Absent;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, Secret};
use crate::store::format::options::{Durability, Options};
use crate::store::read::lookup;
use crate::store::read::snapshot::Snapshot;
use crate::store::write::outcome::Outcome;
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// The number of the generation that a restore creates.
const RESTORED: u64 = 1;

/// A row that keeps events out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// Its table.
    pub table: TombstoneTable,
    /// Its key. Hashes in it are keyed with the store's secret.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A table of tombstones. The numbers are part of the format of backups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TombstoneTable {
    /// Deleted ids (NIP-09).
    Deleted = 1,
    /// Deleted coordinates (NIP-09).
    DeletedAddress = 2,
    /// Requests to vanish (NIP-62).
    Vanished = 3,
}

impl TombstoneTable {
    /// All tables of tombstones.
    pub const ALL: [Self; 3] = [Self::Deleted, Self::DeletedAddress, Self::Vanished];

    /// More bytes than any value has: a time and an arrival number at most.
    pub const MOST_VALUE_BYTES: usize = 32;

    /// The bytes of each key: a hash, or an author.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Deleted | Self::DeletedAddress => 16,
            Self::Vanished => 32,
        }
    }

    fn noted(self) -> Noted {
        match self {
            Self::Deleted => Noted::Deleted,
            Self::DeletedAddress => Noted::DeletedAddress,
            Self::Vanished => Noted::Vanished,
        }
    }
}

impl Snapshot<'_> {
    /// The arrival numbers of up to `max_rows` events, in no particular order, after the place `after`, which moves
    /// forward. Empty when all were returned. Reads the smallest index, not the records.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn seqs(&self, after: &mut Vec<u8>, max_rows: usize) -> Result<Vec<Seq>, StoreError> {
        // LMDB rejects empty keys.
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(&after[..]) };
        let table = self.store.inner.tables.index(Index::Id);
        let (mut seqs, mut last) = (Vec::new(), None);
        for row in table.range(&self.txn, &(start, Bound::Unbounded))?.take(max_rows) {
            let (key, _) = row?;
            seqs.push(keys::seq_of(key).ok_or(StoreError::Damaged("a key of the id index is too short"))?);
            last = Some(key);
        }
        if let Some(last) = last {
            *after = last.to_vec();
        }
        Ok(seqs)
    }

    /// Up to `max_rows` tombstones of a table in key order, after the key `after`.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn tombstones(
        &self,
        table: TombstoneTable,
        after: &[u8],
        max_rows: usize,
    ) -> Result<Vec<Tombstone>, StoreError> {
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let rows = table.noted().table(&self.store.inner.tables).range(&self.txn, &(start, Bound::Unbounded))?;
        let tombstone = |row: Result<(&[u8], &[u8]), heed::Error>| {
            let (key, value) = row?;
            Ok(Tombstone { table, key: key.to_vec(), value: value.to_vec() })
        };
        rows.take(max_rows).map(tombstone).collect()
    }
}

impl Store {
    /// Begins a new store in `path` with the secret of another store, to which the tombstones refer. It becomes a store
    /// when [`Store::finish_restore`] returns. Removes the remains of an earlier attempt.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the directory holds a store; otherwise when the disk fails.
    pub fn begin_restore(path: &Path, options: Options, secret: Secret) -> Result<Self, StoreError> {
        if Self::exists(path) {
            return Err(StoreError::Exists(path.into()));
        }
        let directory = generation::directory(path, RESTORED);
        match std::fs::remove_dir_all(&directory) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path: directory, source });
            }
            _ => generation::create(&directory)?,
        }
        // Until the restore is finished, there is nothing that a power cut could damage.
        let options = Options { durability: Durability::None, ..options };
        let full = Arc::new(SharedFull::new(Full::NEVER));
        let create = Absent::Create(Some(secret));
        let inner: Option<Inner> = generation::open_one(path, &options, RESTORED, create, &full)?;
        let current = ArcSwap::from_pointee(inner.expect("it is created if it is absent"));
        let (moving, path) = (Mutex::new(()), path.into());
        Ok(Self { shared: Arc::new(Shared { current, moving, secret, full, path, options }) })
    }

    /// Removes what was restored so far, so that it takes no room.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn abandon_restore(self) -> Result<(), StoreError> {
        let directory = generation::directory(self.path(), RESTORED);
        drop(self);
        std::fs::remove_dir_all(&directory).map_err(|source| StoreError::Io { path: directory, source })
    }

    /// Makes the restored generation the store of its directory, durably.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish_restore(&self) -> Result<(), StoreError> {
        self.force_sync()?;
        generation::set_current(self.path(), RESTORED)
    }
}

impl Writer {
    /// Puts tombstones as they were in the store that they come from. Call it before events are restored.
    ///
    /// # Errors
    /// When the commit fails; then no tombstone was put.
    pub fn put_tombstones(&mut self, tombstones: &[Tombstone]) -> Result<(), StoreError> {
        self.update(|txn| tombstones.iter().try_for_each(|row| txn.put_row(row.table.noted(), &row.key, &row.value)))
    }

    /// Stores events that another store held under these numbers, as [`Writer::commit`] would. Events that were waiting
    /// there for their removal, after a vanish request, are not restored.
    ///
    /// # Errors
    /// As for [`Writer::commit`]; [`StoreError::Full`] also when [`Options::min_free_disk_bytes`] are not free.
    pub fn restore(&mut self, batch: &[(Seq, VerifiedEvent)], now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        self.store.may_add_file()?;
        self.update(|txn| batch.iter().map(|(seq, event)| txn.restore(*seq, event, now)).collect())
    }
}

impl Transaction<'_> {
    /// `seq` is the number of the event in the other store. Other events that vanish requests cover are kept out by
    /// their dates. Gift wraps are covered by arrival, and a purge leaves tombstones for their ids.
    fn restore(&mut self, seq: Seq, event: &VerifiedEvent, now: Timestamp) -> Result<Outcome, StoreError> {
        let view = event.view();
        for recipient in lookup::recipients(view) {
            if let Some(vanish) = self.lookup().vanish(&recipient)?.filter(|vanish| seq <= vanish.seq) {
                self.put_tombstone(&view.id(), &recipient, vanish.until)?;
                return Ok(Outcome::Vanished);
            }
        }
        self.admit(view, now)
    }
}
