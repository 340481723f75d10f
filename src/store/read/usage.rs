//! How much space the store takes, and how much is left.
//!
//! There are two counts. Limits count the footprint of the events, which a removal lowers by exactly the footprint of
//! the events that it removes. The other count is the pages that tables have in use, some of which removals leave
//! partly filled. Pages that LMDB keeps for reuse count as free.

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

/// The use of the data file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The largest size that the file may have, in bytes.
    pub map_bytes: u64,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
    /// The footprint of the events, in bytes: see [`keys::footprint`](crate::store::format::keys::footprint).
    pub used_bytes: u64,
    /// Pages in use by the tables, in bytes.
    pub page_bytes: u64,
    /// Pages of the file that can be reused (some only after older read transactions end), in bytes.
    pub free_bytes: u64,
    /// The most reader slots that all processes have used at the same time.
    pub reader_slots: u32,
    /// Each table.
    pub tables: Vec<TableUsage>,
}

impl Usage {
    /// The number of events held, including hidden and expired ones.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.tables.iter().find(|table| table.name == "event").map_or(0, |table| table.entries)
    }
}

/// The part of the map that is reserved for deletions: a sixteenth, from 4 MiB to 1 GiB, but never more than half. A
/// deletion changes a path of about four pages in each of a dozen tables, and LMDB needs these pages twice.
fn reserve(map_bytes: u64) -> u64 {
    (map_bytes / 16).clamp(4 << 20, 1 << 30).min(map_bytes / 2)
}

impl Store {
    /// The use of the data file as of now.
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
        // This may describe a commit that is being written. LMDB writes pages before the meta page that counts them, so
        // the file has them.
        let info = inner.env.info();
        // The two meta pages describe the last two commits.
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

    /// The space in use and the limits. Cheap: it reads one page of each table.
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
    /// The footprint of the events, as this read transaction sees it.
    pub fn used_bytes(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        self.used_at(txn.id() as u64, txn)
    }

    /// The same for a transaction that sees the commit with this number and has not changed the tallies.
    pub fn used_at(&self, commit: u64, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        if let Some(used_bytes) = self.last_used.of(commit) {
            return Ok(used_bytes);
        }
        let used_bytes = tally::read(self.tables.meta, txn)?.iter().map(|(_, usage)| usage.footprint).sum();
        self.last_used.note(commit, used_bytes);
        Ok(used_bytes)
    }

    /// Bytes of the pages that tables have in use.
    pub fn page_bytes_in_use(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        let mut used = 0;
        for (_, table) in self.tables.all() {
            used += page_bytes(&table.stat(txn)?);
        }
        Ok(used)
    }

    /// The part of the map that may be used before the store accepts only deletions.
    fn map_bytes(&self) -> u64 {
        let map = self.env.info().map_size as u64;
        map - reserve(map)
    }

    /// The limits from which the store accepts only deletions.
    pub fn full(&self) -> Full {
        let full = self.full.get();
        Full { page_bytes: full.page_bytes.min(self.map_bytes()), ..full }
    }

    /// Bytes of one page.
    pub fn page_size(&self) -> u64 {
        u64::from(self.env.unnamed_database_stat().page_size)
    }
}

/// The space in use and the limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// The footprint of the events, in bytes: see [`keys::footprint`](crate::store::format::keys::footprint).
    pub used_bytes: u64,
    /// Pages in use by the tables, in bytes.
    pub page_bytes: u64,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
    /// The part of the map that may be used before the store accepts only deletions.
    pub map_bytes: u64,
    /// The limits from which the store accepts only deletions.
    pub full: Full,
}

impl Room {
    /// Whether the store accepts only deletions.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full.is_reached(self.used_bytes, self.page_bytes)
    }

    /// Whether events of this footprint fit below the limits.
    #[must_use]
    pub const fn has_room_for(&self, footprint: u64) -> bool {
        !self.full.is_reached(self.used_bytes + footprint, self.page_bytes + footprint)
    }

    /// The footprint that the events may have before the first limit is reached.
    #[must_use]
    pub fn full_bytes(&self) -> u64 {
        let pages_left = self.full.page_bytes.saturating_sub(self.page_bytes);
        self.full.used_bytes.min(self.used_bytes + pages_left)
    }
}

fn page_bytes(stat: &heed::DatabaseStat) -> u64 {
    (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64 * u64::from(stat.page_size)
}
