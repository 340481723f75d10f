//! The store: records and indexes in LMDB, and the rules that decide which events stay.
//!
//! No other module uses heed. One thread writes, and commits events in batches. A read transaction stays on the thread
//! that opened it and never lasts longer than a slice of work. The store never reads the clock: callers pass `now`.

mod file;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod upkeep;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use file::full::SharedFull;
use file::generation;
use file::handle::Shared;

pub use file::disk::Space;
pub use file::full::Full;
pub use file::handle::Store;
pub use file::names::{create_directory, sync_names};
pub use file::newest::NewestCounts;
pub use file::owner::give_to_owner;
pub use file::tally::KindUsage;
pub use format::error::StoreError;
pub use format::keys::{self, Seq};
pub use format::options::{Durability, Options};
pub use format::version::FORMAT;
pub use read::arrival_times::ArrivalTime;
pub use read::judge::Known;
pub use read::remembered_removals::Removal;
pub use read::snapshot::Snapshot;
pub use read::survey::Amount;
pub use read::usage::{Room, TableUsage, Usage};
pub use read::walks::{Entry, Flow, WalkPosition};
pub use scan::oldest_first::OldestFirst;
pub use scan::plan::{Plan, Source};
pub use scan::query::{Query, Scan, Step, Visitor};
pub use scan::quota::QueryLimits;
pub use scan::slice::Budget;
pub use upkeep::check::{Problem, Report};
pub use upkeep::compact::{Compacted, Compaction, Stage};
pub use upkeep::repair::Repaired;
pub use upkeep::restore::{Tombstone, TombstoneTable};
pub use upkeep::upgrade::Upgrade;
pub use write::group::{AddedBatch, Group};
pub use write::outcome::{Evicted, Outcome, Removed};
pub use write::removal::{Note, Return};
pub use write::size::{footprint_of, growth_of};
pub use write::transaction::Writer;

impl Store {
    /// Opens the store in the directory `path`. Creates the directory and the store if they do not exist.
    ///
    /// # Errors
    /// When the directory holds another database or another format ([`StoreError::Foreign`], [`StoreError::Format`]:
    /// nothing was changed), when this process has already opened it, or when a system call fails.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let used_bytes = options.full_bytes.unwrap_or(u64::MAX);
        let full = Arc::new(SharedFull::new(Full { used_bytes, ..Full::NEVER }));
        let inner = generation::open(path, &options, &full)?;
        let secret = inner.secret;
        let current = ArcSwap::from_pointee(inner);
        let moving = Mutex::new(());
        let store = Self { shared: Arc::new(Shared { current, moving, secret, full, path: path.into(), options }) };
        match store.checkpoint() {
            // The records stay in the log until there is room for them. Readers need not wait for that.
            Ok(()) | Err(StoreError::Full) => Ok(store),
            Err(error) => Err(error),
        }
    }

    /// Begins a read transaction on this thread. It sees the last commit until it is dropped. A thread can have one at
    /// a time.
    ///
    /// # Errors
    /// When all reader slots are taken, or this thread already has a read transaction.
    pub fn read(&self) -> Result<Snapshot<'_>, StoreError> {
        Snapshot::new(self)
    }

    /// Returns a writer. Any number of writers may exist, in this process and in others; their commits take turns.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.clone())
    }

    /// The number of the last commit, by any process, that a read transaction sees. Cheap: it opens one read
    /// transaction. It differs from every earlier number, even after the store has moved to another data file. This
    /// thread must not be reading.
    ///
    /// # Errors
    /// When all reader slots are taken, or LMDB has given up the data file ([`StoreError::is_fatal`]).
    pub fn txn_id(&self) -> Result<u64, StoreError> {
        let inner = self.inner();
        Ok(inner.txn_id(inner.last_commit()?))
    }

    /// Waits until every commit is on disk, whatever the durability.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn force_sync(&self) -> Result<(), StoreError> {
        Ok(self.inner().env.force_sync()?)
    }

    /// Frees the reader slots of dead processes, which would keep LMDB from reusing pages. Cheap; call it every few
    /// minutes. Returns the number of slots that it freed.
    ///
    /// # Errors
    /// When LMDB cannot read its lock file.
    pub fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        Ok(self.inner().env.clear_stale_readers()?)
    }

    /// Sets the limits from which writers of this process store only deletions and vanish requests, beginning with
    /// their next commit. May be called at any time, for example when the disk fills up.
    pub fn set_full(&self, full: Full) {
        self.shared.full.set(full);
    }

    /// How many commits of this process are still to fail, as if the disk did. Compiled into tests only.
    #[cfg(test)]
    #[must_use]
    pub fn commits_to_fail(&self) -> &std::sync::atomic::AtomicU64 {
        &self.shared.full.commits_to_fail
    }

    /// What a commit promises.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.options.durability
    }

    /// How often the time of an author's newest event was remembered; see [`Options::newest_times_bytes`]. It counts
    /// from when the data file was opened.
    #[must_use]
    pub fn newest_counts(&self) -> NewestCounts {
        self.inner().newest.counts()
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The data file that holds the events now.
    #[must_use]
    pub fn data_file(&self) -> PathBuf {
        self.inner().env.path().join(generation::DATA_FILE)
    }

    /// The key of the hashes in the tag index.
    #[must_use]
    pub fn secret(&self) -> &keys::Secret {
        &self.shared.secret
    }
}
