//! What can go wrong with the store, for the operator's eyes. Never the client's business beyond `error:`.

use std::path::PathBuf;

use crate::store::format::version::FORMAT;
use crate::store::format::version::UNDER_WAY;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The map or the disk has no room: the transaction was undone and nothing of it is stored.
    #[error("the store is full")]
    Full,
    /// The directory holds somebody else's database, or a file that is none.
    #[error("{0} is not a weir database; nothing was changed")]
    Foreign(PathBuf),
    /// The database was written by another version of weir, with another layout.
    #[error("{path} has store format {}, {}", found & !UNDER_WAY, advice(*found))]
    Format {
        /// The directory.
        path: PathBuf,
        /// The format that the database names.
        found: u32,
    },
    /// This process has the directory open already.
    #[error("{0} is already open in this process")]
    AlreadyOpen(PathBuf),
    /// There is a store where a new one was to be made.
    #[error("{0} holds a store; nothing was changed")]
    Exists(PathBuf),
    /// Another process makes a copy of the store, or mends it.
    #[error("the store is being compacted or repaired; try again when that is done")]
    Busy,
    /// A record or key is not what the layout allows. `weir check` tells more.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// A file of the store is no longer where it was: what would be stored now is lost with this process.
    #[error("{0} was removed or replaced while the store is open")]
    Removed(PathBuf),
    /// The directory or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else that LMDB reports.
    #[error("LMDB: {0}")]
    Lmdb(#[source] heed::Error),
}

impl StoreError {
    /// Whether this process can do nothing more with the store, while a new one can.
    ///
    /// LMDB gives an open data file up for good when the write of a meta page fails (`MDB_PANIC`), and cannot use one
    /// that another process opened with a larger map and filled (`MDB_MAP_RESIZED`). Everything else may pass: an I/O
    /// error or an internal one undoes its transaction, and a damaged page fails only what meets it, which a new process
    /// would meet as well.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Lmdb(heed::Error::Mdb(heed::MdbError::Panic | heed::MdbError::MapResized)))
    }

    /// What LMDB says once it has given a data file up.
    #[cfg(test)]
    pub const fn panicked() -> Self {
        Self::Lmdb(heed::Error::Mdb(heed::MdbError::Panic))
    }
}

/// What to do about a store of another format.
fn advice(found: u32) -> String {
    if found & UNDER_WAY != 0 {
        return "and an upgrade of it was begun: weir upgrade goes on".to_owned();
    }
    let advice = if found < FORMAT { "weir upgrade makes it one" } else { "a later version wrote it" };
    format!("this version of weir reads {FORMAT}; {advice}; nothing was changed")
}

/// Whether write(2) found no room.
pub(in crate::store) fn is_want_of_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            // LMDB passes on what the system said.
            heed::Error::Io(io) if is_want_of_room(&io) => Self::Full,
            other => Self::Lmdb(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_new_process_recovers_from_is_fatal() {
        use heed::MdbError::{BadRslot, BadTxn, Corrupted, MapResized, PageNotFound, Panic, ReadersFull};
        let fatal = |error| StoreError::from(heed::Error::Mdb(error)).is_fatal();
        assert_eq!([Panic, MapResized].map(fatal), [true; 2]);
        assert_eq!([Corrupted, PageNotFound, ReadersFull, BadTxn, BadRslot].map(fatal), [false; 5]);
        let io = StoreError::from(heed::Error::Io(std::io::Error::other("broken disk")));
        assert!(![io, StoreError::Full, StoreError::Damaged("a record")].iter().any(StoreError::is_fatal));
    }
}
