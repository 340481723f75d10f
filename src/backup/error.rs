//! Errors of backups, for the operator.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Why a backup could not be created, verified or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or the directory could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The directory holds files but no backup.
    #[error("{0} is neither empty nor a backup; nothing was changed")]
    Foreign(PathBuf),
    /// There is no backup in the directory.
    #[error("there is no backup in {0}")]
    Absent(PathBuf),
    /// The backup was made from another store, or from a later state of this one.
    #[error("{0} holds a backup of another store, or of a later state of this one; use another directory")]
    OtherStore(PathBuf),
    /// The format of the backup is not supported.
    #[error("{path} has backup format {found}, which this version of weir does not support")]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process is writing to the directory.
    #[error("another process is using {0}")]
    Busy(PathBuf),
    /// No remembered run is as old as requested. Holds the start of the oldest one, in unix seconds.
    #[error("the oldest state in the backup is from unix time {0}; see weir backup DIR --list")]
    TooEarly(u64),
    /// The run does not exist or is no longer remembered.
    #[error("the backup holds no state of run {0}; see weir backup DIR --list")]
    NoSuchRun(u64),
    /// A file is damaged.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The kind of damage.
        what: &'static str,
    },
    /// What is kept beside the store could not be read.
    #[error(transparent)]
    Beside(Box<dyn std::error::Error + Send + Sync>),
    /// The user interrupted it.
    #[error("interrupted; the backup is unchanged")]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// Adds `path` to an I/O error, for `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.into(), source }
    }

    pub(super) fn damaged(path: &Path, what: &'static str) -> Self {
        Self::Damaged { path: path.into(), what }
    }
}
