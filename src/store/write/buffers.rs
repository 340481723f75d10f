//! The buffers of a write transaction: plain memory, which the next transaction reuses.

use crate::store::format::keys::{Index, LONGEST};

/// The buffers of a transaction. The next transaction reuses them.
#[derive(Default)]
pub(in crate::store) struct Buffers {
    /// The records that the transaction adds, each preceded by its length, as in the write-ahead log.
    pub records: Vec<u8>,
    /// Their index keys, by index; a key is padded with zeros to the longest.
    pub rows: [Vec<[u8; LONGEST]>; Index::ALL.len()],
    /// A record being removed.
    pub scratch: Vec<u8>,
    /// The index keys to delete, by index, padded as in `rows`.
    pub gone: [Vec<[u8; LONGEST]>; Index::ALL.len()],
}

/// After a transaction, the buffers shrink to this many bytes.
const KEPT_BYTES: usize = 4 << 20;

impl Buffers {
    /// Empties them, and frees what is larger than usual.
    pub fn clear(&mut self) {
        self.records.clear();
        self.records.shrink_to(KEPT_BYTES);
        for rows in self.rows.iter_mut().chain(&mut self.gone) {
            rows.clear();
            rows.shrink_to(KEPT_BYTES / LONGEST / Index::ALL.len());
        }
    }
}
