//! Errors of the store, for the operator. A client sees only `error:`.

use std::path::PathBuf;

use crate::store::format::version::FORMAT;
use crate::store::format::version::UNDER_WAY;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The map or the disk has no room. The transaction was rolled back, and nothing of it is stored.
    #[error("the store is full")]
    Full,
    /// The directory holds another program's database, or its data file is not a database.
    #[error("{0} is not a weir database; nothing was changed")]
    Foreign(PathBuf),
    /// Another version of weir wrote the database, with another layout.
    #[error("{path} has store format {}, {}", found & !UNDER_WAY, advice(*found))]
    Format {
        /// The directory.
        path: PathBuf,
        /// The format in the database's header.
        found: u32,
    },
    /// This process has already opened the directory.
    #[error("{0} is already open in this process")]
    AlreadyOpen(PathBuf),
    /// The directory that was given for a new store already holds one.
    #[error("{0} holds a store; nothing was changed")]
    Exists(PathBuf),
    /// Another process is copying or repairing the store.
    #[error("the store is being compacted or repaired; try again when that is done")]
    Busy,
    /// A record or key breaks the layout. `weir check` reports details.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// A file of the store was removed or replaced. Events stored from now on would be lost with this process.
    #[error("{0} was removed or replaced while the store is open")]
    Removed(PathBuf),
    /// An I/O error on the directory or on a file in it.
    #[error("{path}: {source}")]
    Io {
        /// The path of that directory or file.
        path: PathBuf,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// Any other error from LMDB.
    #[error("LMDB: {0}")]
    Lmdb(#[source] heed::Error),
}

impl StoreError {
    /// Whether this process can no longer use the store, while a new process can.
    ///
    /// LMDB gives up an open data file for good when it fails to write a meta page (`MDB_PANIC`), and it cannot use a
    /// file that another process opened with a larger map and filled (`MDB_MAP_RESIZED`). All other errors may pass: an
    /// I/O error or an internal error rolls back its transaction, and a damaged page fails only the operations that
    /// touch it, which would fail in a new process too.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Lmdb(heed::Error::Mdb(heed::MdbError::Panic | heed::MdbError::MapResized)))
    }

    /// The error that LMDB returns once it has given up a data file.
    #[cfg(test)]
    pub const fn panicked() -> Self {
        Self::Lmdb(heed::Error::Mdb(heed::MdbError::Panic))
    }
}

/// Tells the operator how to deal with a store of another format.
fn advice(found: u32) -> String {
    if found & UNDER_WAY != 0 {
        return "and an upgrade of it has begun: weir upgrade continues it".to_owned();
    }
    let advice = if found < FORMAT { "weir upgrade converts it" } else { "a later version wrote it" };
    format!("this version of weir reads {FORMAT}; {advice}; nothing was changed")
}

/// Whether a write failed for want of space: the disk, a quota or the file size limit.
pub(in crate::store) fn is_want_of_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            // LMDB passes on the error of the system call.
            heed::Error::Io(io) if is_want_of_room(&io) => Self::Full,
            other => Self::Lmdb(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_a_new_process_recovers_from_are_fatal() {
        use heed::MdbError::{BadRslot, BadTxn, Corrupted, MapResized, PageNotFound, Panic, ReadersFull};
        let fatal = |error| StoreError::from(heed::Error::Mdb(error)).is_fatal();
        assert_eq!([Panic, MapResized].map(fatal), [true; 2]);
        assert_eq!([Corrupted, PageNotFound, ReadersFull, BadTxn, BadRslot].map(fatal), [false; 5]);
        let io = StoreError::from(heed::Error::Io(std::io::Error::other("broken disk")));
        assert!(![io, StoreError::Full, StoreError::Damaged("a record")].iter().any(StoreError::is_fatal));
    }
}
