//! Which events do we hold? The store: records and indexes in LMDB, and the rules of what stays.
//!
//! The only user of heed. One thread writes, in batches that commit together; a read transaction lives on
//! the thread that opened it and never longer than a slice of work. Never reads the clock: `now` is passed in.

mod check;
mod choose;
mod compact;
mod count;
mod disk;
mod error;
mod expiry;
mod export;
mod generation;
mod group;
mod journal;
pub mod keys;
mod lookup;
mod meet;
mod pages;
mod part;
mod plan;
mod position;
mod quota;
mod repair;
mod restore;
mod retention;
mod rows;
mod scan;
mod schema;
mod snapshot;
mod survey;
mod tally;
#[cfg(test)]
mod tests;
mod tombstone;
mod upgrade;
mod usage;
mod vanish;
mod wal;
mod walk;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use generation::Inner;
use usage::SharedFull;

pub use check::{Problem, Report};
pub use compact::{Compacted, Compaction, Stage};
pub use count::Count;
pub use disk::Space;
pub use error::StoreError;
pub use expiry::{Evicted, Note, Removed, Return};
pub use export::OldestFirst;
pub use group::{Added, Group};
pub use plan::{Plan, Source};
pub use quota::QueryLimits;
pub use repair::Repaired;
pub use restore::{Tombstone, TombstoneTable};
pub use retention::{Entry, Place};
pub use scan::{Budget, Flow, Query, Scan, Step, Visitor};
pub use schema::FORMAT;
pub use snapshot::{Known, Snapshot};
pub use survey::Amount;
pub use tally::KindUsage;
pub use upgrade::Upgrade;
pub use usage::{Full, Room, TableUsage, Usage};
pub use write::{Outcome, Writer};

/// The arrival number of an event: strictly increasing from 1, never reused (INV-4). Below 2^40, which is a
/// thousand events a second for 34 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// No event has a later number.
    pub const MAX: Self = Self((1 << (8 * keys::SEQ)) - 1);
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a commit promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A committed batch survives a power cut.
    #[default]
    Full,
    /// A power cut may undo what came since the last [`Store::sync`]; it never damages the store (LMDB: `MDB_NOMETASYNC`).
    NoMetaSync,
    /// A power cut may damage the store until [`Store::force_sync`] has returned. Only for imports.
    None,
}

/// How to open a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The most bytes that the file may ever have. Address space only: nothing is allocated ahead.
    pub map_bytes: usize,
    /// Once the events take this many bytes, only deletions and vanish requests are stored. See [`Store::set_full`].
    pub full_bytes: Option<u64>,
    /// Read transactions at a time, over all processes; one per reading thread.
    pub max_readers: u32,
    /// What a commit promises.
    pub durability: Durability,
}

impl Default for Options {
    fn default() -> Self {
        Self { map_bytes: 1 << 40, full_bytes: None, max_readers: 512, durability: Durability::Full }
    }
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What stays the same when the store moves to another data file; see [`generation`].
struct Shared {
    current: ArcSwap<Inner>,
    /// Held while the store moves on, so that two threads do not open the next data file.
    moving: Mutex<()>,
    secret: keys::Secret,
    /// See [`Store::set_full`].
    full: Arc<SharedFull>,
    path: PathBuf,
    options: Options,
}

impl Store {
    /// Opens the store in the directory `path`, creating both if need be.
    ///
    /// # Errors
    /// When the directory holds another database or another format ([`StoreError::Foreign`],
    /// [`StoreError::Format`]: nothing was changed), when this process has it open already, or when the system
    /// refuses.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let used_bytes = options.full_bytes.unwrap_or(u64::MAX);
        let full = Arc::new(SharedFull::new(Full { used_bytes, ..Full::NEVER }));
        let inner = generation::open(path, &options, &full)?;
        let secret = inner.secret;
        let current = ArcSwap::from_pointee(inner);
        let moving = Mutex::new(());
        let store = Self { shared: Arc::new(Shared { current, moving, secret, full, path: path.into(), options }) };
        match store.fold() {
            // What is left in the log stays there until there is room. Readers need not wait for that.
            Ok(()) | Err(StoreError::Full) => Ok(store),
            Err(error) => Err(error),
        }
    }

    /// A read transaction on this thread: what is committed now, until it is dropped. One at a time per thread.
    ///
    /// # Errors
    /// When all reader slots are taken, or this thread reads already.
    pub fn read(&self) -> Result<Snapshot<'_>, StoreError> {
        Snapshot::new(self)
    }

    /// A writer. Any number may exist, here and in other processes; their commits take turns.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.clone())
    }

    /// The number of the last commit by any process that a read transaction sees. Cheap: one such transaction. Differs
    /// from all numbers before, also when the store has moved to another data file. This thread must not be reading.
    ///
    /// # Errors
    /// When all reader slots are taken, or LMDB gave the data file up ([`StoreError::is_fatal`]).
    pub fn txn_id(&self) -> Result<u64, StoreError> {
        let inner = self.inner();
        Ok(inner.txn_id(inner.last_commit()?))
    }

    /// Waits until everything committed is on disk, whatever the durability.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn force_sync(&self) -> Result<(), StoreError> {
        Ok(self.inner().env.force_sync()?)
    }

    /// Frees the reader slots of processes that died, which would keep pages from being used again. Cheap; to be
    /// called every few minutes. Tells how many there were.
    ///
    /// # Errors
    /// When LMDB cannot read its lock file.
    pub fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        Ok(self.inner().env.clear_stale_readers()?)
    }

    /// From there on only deletions and vanish requests are stored by writers of this process, beginning with their next
    /// commit. May be set at any time, as when the disk fills up.
    pub fn set_full(&self, full: Full) {
        self.shared.full.set(full);
    }

    /// What a commit promises.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.options.durability
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The file that holds the events now.
    #[must_use]
    pub fn data_file(&self) -> PathBuf {
        self.inner().env.path().join(generation::DATA_FILE)
    }

    /// What keys the hashes in the tag index.
    #[must_use]
    pub fn secret(&self) -> &keys::Secret {
        &self.shared.secret
    }
}
