//! One file of a backup: how it is listed in the manifest, and how it is created.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A file of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the directory.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// The SHA-256 of those, in hexadecimal digits.
    pub sha256: String,
    /// Records, live events or tombstones in it.
    pub rows: u64,
    /// Of records, the first arrival number; zero otherwise.
    pub first_seq: u64,
    /// Of records, the last arrival number; zero otherwise.
    pub last_seq: u64,
}

/// Creates a file that only its owner may read: it holds everybody's events and the store's secret.
pub(super) fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
