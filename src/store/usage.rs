//! How much room the store takes, and how much is left.
//!
//! Counts pages that tables have in use; pages that LMDB keeps for reuse count as free.

use std::sync::atomic::Ordering;

use super::generation::Inner;
use super::{Store, StoreError};

/// Bytes and entries of one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableUsage {
    /// Its name in the file.
    pub name: &'static str,
    /// Rows.
    pub entries: u64,
    /// Pages in use, in bytes.
    pub bytes: u64,
}

/// What the store takes of its file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The most bytes that the file may have.
    pub map_bytes: u64,
    /// The bytes that the file has.
    pub file_bytes: u64,
    /// Pages in use by the tables, in bytes.
    pub used_bytes: u64,
    /// Pages of the file that can be used again (some only when older readers are gone), in bytes.
    pub free_bytes: u64,
    /// Reader slots that were in use at the same time at some point, by all processes.
    pub reader_slots: u32,
    /// Every table.
    pub tables: Vec<TableUsage>,
}

impl Usage {
    /// Events that are held, hidden and expired ones included.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.tables.iter().find(|table| table.name == "event").map_or(0, |table| table.entries)
    }
}

/// Of the map, the part that is kept for deletions: a sixteenth, from 4 MiB to 1 GiB, but never more than half.
/// A deletion changes a path of about four pages in each of a dozen tables, and LMDB needs them twice over.
fn reserve(map_bytes: u64) -> u64 {
    (map_bytes / 16).clamp(4 << 20, 1 << 30).min(map_bytes / 2)
}

impl Store {
    /// What the store takes, as of now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let inner = self.inner();
        let txn = inner.env.read_txn()?;
        let mut tables = Vec::new();
        for (name, table) in inner.tables.all() {
            let stat = table.stat(&txn)?;
            tables.push(TableUsage { name, entries: stat.entries as u64, bytes: page_bytes(&stat) });
        }
        let root = inner.tables.unnamed.stat(&txn)?;
        drop(txn);
        // May tell of a commit that is being written: LMDB writes pages before the meta page that counts them, so the
        // file has them.
        let info = inner.env.info();
        // Two pages hold the state of the last two commits.
        let fixed = page_bytes(&root) + 2 * u64::from(root.page_size);
        let used_bytes = fixed + tables.iter().map(|table| table.bytes).sum::<u64>();
        let file_bytes = (info.last_page_number as u64 + 1) * u64::from(root.page_size);
        Ok(Usage {
            map_bytes: info.map_size as u64,
            file_bytes,
            used_bytes,
            free_bytes: file_bytes.saturating_sub(used_bytes),
            reader_slots: info.number_of_readers,
            tables,
        })
    }

    /// How much room there is. Cheap: it reads one page of each table.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn room(&self) -> Result<Room, StoreError> {
        let inner = self.inner();
        let txn = inner.env.read_txn()?;
        let used_bytes = inner.used_bytes(&txn)?;
        drop(txn);
        let info = inner.env.info();
        let page = inner.page_bytes() as u64;
        let map = info.map_size as u64;
        let file_bytes = (info.last_page_number as u64 + 1) * page;
        Ok(Room { used_bytes, file_bytes, map_bytes: map - reserve(map), full_bytes: inner.full_bytes() })
    }
}

impl Inner {
    /// Whether only deletions are stored from here on.
    pub fn is_full(&self, txn: &heed::RoTxn<'_>) -> Result<bool, StoreError> {
        Ok(self.used_bytes(txn)? >= self.full_bytes())
    }

    pub fn used_bytes(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        let mut used = 0;
        for (_, table) in self.tables.all() {
            used += page_bytes(&table.stat(txn)?);
        }
        Ok(used)
    }

    pub fn full_bytes(&self) -> u64 {
        let map = self.env.info().map_size as u64;
        self.full_bytes.load(Ordering::Relaxed).min(map - reserve(map))
    }
}

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Pages in use by the tables, in bytes.
    pub used_bytes: u64,
    /// The bytes that the file has.
    pub file_bytes: u64,
    /// The part of the map that may be used before only deletions are stored.
    pub map_bytes: u64,
    /// From this many bytes in use on, only deletions are stored; at most `map_bytes`.
    pub full_bytes: u64,
}

impl Room {
    /// Whether only deletions are stored.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.used_bytes >= self.full_bytes
    }
}

fn page_bytes(stat: &heed::DatabaseStat) -> u64 {
    (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64 * u64::from(stat.page_size)
}
