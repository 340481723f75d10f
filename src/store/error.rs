//! What can go wrong with the store, for the operator's eyes. Never the client's business beyond `error:`.

use std::path::PathBuf;

use super::schema::FORMAT;
use super::upgrade::UNDER_WAY;

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

/// What to do about a store of another format.
fn advice(found: u32) -> String {
    if found & UNDER_WAY != 0 {
        return "and an upgrade of it was begun: weir upgrade goes on".to_owned();
    }
    let advice = if found < FORMAT { "weir upgrade makes it one" } else { "a later version wrote it" };
    format!("this version of weir reads {FORMAT}; {advice}; nothing was changed")
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            // LMDB passes on what write(2) said when the disk ran out of room.
            heed::Error::Io(io) if matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge) => Self::Full,
            other => Self::Lmdb(other),
        }
    }
}
