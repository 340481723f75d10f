//! How much room the store takes, and how much is left.
//!
//! Two counts: what the events take, which is what limits count and what falls by as much as a removal removes, and
//! the pages that tables have in use, of which removals leave some part-filled. Pages that LMDB keeps for reuse are free.

use crate::store::file::full::Full;
use crate::store::file::generation::Inner;
use crate::store::file::handle::Store;
use crate::store::file::tally;
use crate::store::format::error::StoreError;

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
    /// What the events take: see [`keys::footprint`](crate::store::format::keys::footprint).
    pub used_bytes: u64,
    /// Pages in use by the tables, in bytes.
    pub page_bytes: u64,
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
        let used_bytes = inner.used_bytes(&txn)?;
        drop(txn);
        // May tell of a commit that is being written: LMDB writes pages before the meta page that counts them, so the
        // file has them.
        let info = inner.env.info();
        // Two pages hold the state of the last two commits.
        let fixed = page_bytes(&root) + 2 * u64::from(root.page_size);
        let page_bytes = fixed + tables.iter().map(|table| table.bytes).sum::<u64>();
        let file_bytes = (info.last_page_number as u64 + 1) * u64::from(root.page_size);
        Ok(Usage {
            map_bytes: info.map_size as u64,
            file_bytes,
            used_bytes,
            page_bytes,
            free_bytes: file_bytes.saturating_sub(page_bytes),
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
        let (used_bytes, page_bytes) = (inner.used_bytes(&txn)?, inner.page_bytes_in_use(&txn)?);
        drop(txn);
        let info = inner.env.info();
        let page = inner.page_size();
        let file_bytes = (info.last_page_number as u64 + 1) * page;
        let full = inner.full();
        Ok(Room { used_bytes, page_bytes, file_bytes, map_bytes: inner.map_bytes(), full })
    }
}

impl Inner {
    /// What the events take, as this read transaction sees it.
    pub fn used_bytes(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        self.used_at(txn.id() as u64, txn)
    }

    /// The same for a transaction that sees the commit of this number and nothing else of its own in the tallies.
    pub fn used_at(&self, commit: u64, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        if let Some(used_bytes) = self.last_used.of(commit) {
            return Ok(used_bytes);
        }
        let used_bytes = tally::read(self.tables.meta, txn)?.iter().map(|(_, usage)| usage.footprint).sum();
        self.last_used.note(commit, used_bytes);
        Ok(used_bytes)
    }

    /// Bytes of pages that tables have in use.
    pub fn page_bytes_in_use(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        let mut used = 0;
        for (_, table) in self.tables.all() {
            used += page_bytes(&table.stat(txn)?);
        }
        Ok(used)
    }

    /// The part of the map that may be used before only deletions are stored.
    fn map_bytes(&self) -> u64 {
        let map = self.env.info().map_size as u64;
        map - reserve(map)
    }

    /// From where on only deletions are stored.
    pub fn full(&self) -> Full {
        let full = self.full.get();
        Full { page_bytes: full.page_bytes.min(self.map_bytes()), ..full }
    }

    /// Bytes of one page.
    pub fn page_size(&self) -> u64 {
        u64::from(self.env.unnamed_database_stat().page_size)
    }
}

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// What the events take: see [`keys::footprint`](crate::store::format::keys::footprint).
    pub used_bytes: u64,
    /// Pages in use by the tables, in bytes.
    pub page_bytes: u64,
    /// The bytes that the file has.
    pub file_bytes: u64,
    /// The part of the map that may be used before only deletions are stored.
    pub map_bytes: u64,
    /// From where on only deletions are stored.
    pub full: Full,
}

impl Room {
    /// Whether only deletions are stored.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full.is_reached(self.used_bytes, self.page_bytes)
    }

    /// What the events may take until the first of all limits is reached.
    #[must_use]
    pub fn full_bytes(&self) -> u64 {
        let pages_left = self.full.page_bytes.saturating_sub(self.page_bytes);
        self.full.used_bytes.min(self.used_bytes + pages_left)
    }
}

fn page_bytes(stat: &heed::DatabaseStat) -> u64 {
    (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64 * u64::from(stat.page_size)
}
