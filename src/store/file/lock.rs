//! LMDB's write lock: the one door to writing.
//!
//! Nothing else may begin a write transaction. A commit makes whatever stands in the write-ahead log worthless, so each
//! owner of the lock is handed what an owner that died acknowledged and did not commit ([`Left`]).

use heed::{Env, RwTxn, WithTls};

use crate::store::file::wal::Wal;
use crate::store::format::error::StoreError;

/// Records that were acknowledged and not committed, each after its length in 4 bytes, little-endian. Hardly ever any.
#[must_use = "the next commit makes the log worthless: store these records with it"]
pub(in crate::store) struct Left(Vec<u8>);

impl Left {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_records(self) -> Vec<u8> {
        self.0
    }
}

/// Waits for the write lock of a data file, and reads what is left in its log. Costs one small read beside the lock.
///
/// # Errors
/// When LMDB or the log cannot be read.
pub(in crate::store) fn lock<'e>(env: &'e Env<WithTls>, wal: &Wal) -> Result<(RwTxn<'e>, Left), StoreError> {
    let txn = env.write_txn()?;
    let left = wal.left(txn.id() as u64)?;
    Ok((txn, Left(left)))
}

/// The write lock of a data file that is still being made: nothing was ever acknowledged for it.
///
/// # Errors
/// When LMDB cannot begin a transaction.
pub(in crate::store) fn lock_new(env: &Env<WithTls>) -> Result<RwTxn<'_>, StoreError> {
    Ok(env.write_txn()?)
}
