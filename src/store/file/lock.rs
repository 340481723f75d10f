//! LMDB's write lock: the one door to writing.
//!
//! Nothing else may begin a write transaction. A commit makes the contents of the write-ahead log obsolete, so each
//! owner of the lock receives the records that a dead owner acknowledged and did not commit ([`LogLeftover`]).

use heed::{Env, RwTxn};

use crate::store::file::wal::Wal;
use crate::store::format::error::StoreError;
use crate::store::format::slots::Slots;

/// Records that were acknowledged and not committed, each preceded by its length in 4 bytes, little-endian. Nearly
/// always empty.
#[must_use = "the next commit makes the log obsolete: store these records with it"]
pub(in crate::store) struct LogLeftover(Vec<u8>);

impl LogLeftover {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_records(self) -> Vec<u8> {
        self.0
    }
}

/// Waits for the write lock of a data file and reads the records left in its log. Costs one small read besides the
/// lock.
///
/// # Errors
/// When LMDB cannot begin a transaction or the log cannot be read.
pub(in crate::store) fn lock<'e>(env: &'e Env<Slots>, wal: &Wal) -> Result<(RwTxn<'e>, LogLeftover), StoreError> {
    let txn = env.write_txn()?;
    let left = wal.take_over(txn.id() as u64)?;
    Ok((txn, LogLeftover(left)))
}

/// Takes the write lock of a data file that is still being created, for which nothing was ever acknowledged.
///
/// # Errors
/// When LMDB cannot begin a transaction.
pub(in crate::store) fn lock_new(env: &Env<Slots>) -> Result<RwTxn<'_>, StoreError> {
    Ok(env.write_txn()?)
}
