//! What can go wrong with a backup, for the operator's eyes.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Why a backup could not be made, verified or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or the directory.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory has files, but no backup of ours.
    #[error("{0} is neither empty nor a backup; nothing was changed")]
    Foreign(PathBuf),
    /// There is no backup in the directory.
    #[error("there is no backup in {0}")]
    Absent(PathBuf),
    /// The backup was made from another store, or from this one in another life.
    #[error("{0} holds a backup of another store, or of a later state of this one; use another directory")]
    OtherStore(PathBuf),
    /// The backup is of a later format.
    #[error("{path} has backup format {found}, which this version of weir does not read")]
    Format {
        /// The directory.
        path: PathBuf,
        /// The format that it names.
        found: u32,
    },
    /// Another process writes to the directory.
    #[error("another process works on {0}")]
    Busy(PathBuf),
    /// No run that is remembered is as old as what was asked for. Holds when the oldest began, in unix seconds.
    #[error("the oldest state that the backup remembers is of unix time {0}; see weir backup DIR --list")]
    TooEarly(u64),
    /// A run that never was or is not remembered.
    #[error("the backup does not remember run {0}; see weir backup DIR --list")]
    NoSuchRun(u64),
    /// A file is not what was written.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// In what way.
        what: &'static str,
    },
    /// The user wanted no more.
    #[error("interrupted; the backup is what it was before")]
    Interrupted,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// For `map_err` at a call that has to do with `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }

    pub(super) fn damaged(path: &Path, what: &'static str) -> Self {
        Self::Damaged { path: path.into(), what }
    }
}
