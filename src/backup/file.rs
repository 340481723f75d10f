//! A file of a backup: its entry in the manifest, and how it is created.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The entry of a file in the manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the directory.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// The number of records, held events, tombstones or attached files in it.
    pub rows: u64,
    /// For records, the first arrival number; otherwise zero.
    pub first_seq: u64,
    /// For records, the last arrival number; otherwise zero.
    pub last_seq: u64,
}

impl Listed {
    /// Whether a file of this name may be one of a backup. It lies in the directory itself.
    pub(super) fn is_name(name: &str) -> bool {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let is_of_a_kind =
            ["records-", "held-", "live-", "tombstones-", "attached-"].iter().any(|kind| name.starts_with(kind));
        is_plain && is_of_a_kind && name.ends_with(".weir")
    }
}

/// Creates a file that only its owner may read, since backups hold private events and the store's secret.
pub(super) fn create_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
