//! The manifest of a backup, which lists its files: one line of JSON and the SHA-256 of that line.
//!
//! It is only replaced as a whole, so a backup is always the old one or the new one.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::claims;
use super::error::BackupError;
use super::file::{Listed, create_file};
use super::state::State;
use crate::nostr::hex;
use crate::store::{create_directory, sync_names};

/// The current format of a backup.
pub(super) const FORMAT: u32 = 2;

const NAME: &str = "MANIFEST";

/// The most bytes of a manifest: a state takes some 500, of which there is one a day; a part of 1 GiB takes 200.
const LONGEST: u64 = 64 << 20;

const LOCK: &str = "lock";

/// The contents of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// The id of the store, in hexadecimal digits.
    pub store: String,
    /// The secret that tombstones are hashed with, in hexadecimal digits.
    pub secret: String,
    /// The id of the event with the last arrival number, if it was still held; empty otherwise.
    pub last_id: String,
    /// Files of records, in the order of arrival.
    pub records: Vec<Listed>,
    /// When the records arrived, as pairs of a time and the number that came next. Missing in earlier backups.
    #[serde(default)]
    pub arrived: Vec<(u64, u64)>,
    /// The remembered states, oldest first. Never empty.
    pub states: Vec<State>,
}

/// A manifest of format 1, which recorded only the last run.
#[derive(Deserialize)]
struct SingleState {
    store: String,
    secret: String,
    runs: u64,
    created_at: u64,
    last_seq: u64,
    last_id: String,
    events: u64,
    records: Vec<Listed>,
    live: Listed,
    tombstones: Listed,
}

impl From<SingleState> for Manifest {
    fn from(old: SingleState) -> Self {
        let state = State {
            run: old.runs,
            created_at: old.created_at,
            last_seq: old.last_seq,
            events: old.events,
            held: old.live,
            tombstones: old.tombstones,
            attached: None,
        };
        let SingleState { store, secret, last_id, records, .. } = old;
        Self { format: FORMAT, store, secret, last_id, records, arrived: Vec::new(), states: vec![state] }
    }
}

impl Manifest {
    /// Reads the manifest of a directory; `None` if there is none. Whatever it says is possible.
    ///
    /// # Errors
    /// When it is damaged, has an unsupported format or cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, BackupError> {
        let path = dir.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(BackupError::io(&path))?,
        };
        let mut text = String::new();
        match file.take(LONGEST + 1).read_to_string(&mut text) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(BackupError::damaged(&path, "it is not UTF-8"));
            }
            read => read.map_err(BackupError::io(&path))?,
        };
        if text.len() as u64 > LONGEST {
            return Err(BackupError::damaged(&path, "it is too long"));
        }
        let mut lines = text.lines();
        let (json, sum) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if hex::encode(&Sha256::digest(json)) != sum {
            return Err(BackupError::damaged(&path, "the checksum does not match"));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |_| BackupError::damaged(&path, "it is not a manifest");
        let Format { format: found } = serde_json::from_str(json).map_err(wrong)?;
        let manifest: Self = match found {
            1 => serde_json::from_str::<SingleState>(json).map_err(wrong)?.into(),
            FORMAT => serde_json::from_str(json).map_err(wrong)?,
            _ => return Err(BackupError::Format { path: dir.into(), found }),
        };
        match claims::fault(&manifest.records, &manifest.states, &manifest.arrived) {
            Some(what) => Err(BackupError::damaged(&path, what)),
            None => Ok(Some(manifest)),
        }
    }

    /// The state after the last run.
    ///
    /// # Panics
    /// Never for a manifest that was read from a file.
    #[must_use]
    pub fn newest(&self) -> &State {
        self.states.last().expect("a manifest lists at least one run")
    }

    /// Like [`Manifest::read`], but a missing manifest is an error.
    pub(super) fn read_present(dir: &Path) -> Result<Self, BackupError> {
        Self::read(dir)?.ok_or_else(|| BackupError::Absent(dir.into()))
    }

    /// Durably replaces the manifest of the directory. The files that it lists must have been synced.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let partial = dir.join("MANIFEST.partial");
        let json = serde_json::to_string(self).expect("numbers, strings and lists become JSON");
        let text = format!("{json}\n{}\n", hex::encode(&Sha256::digest(&json)));
        let write = || {
            let mut file = create_file(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // Sync the files before the rename that makes them part of the backup.
            sync_names(dir)?;
            std::fs::rename(&partial, dir.join(NAME))?;
            sync_names(dir)
        };
        write().map_err(BackupError::io(&partial))
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Listed> {
        self.records.iter().chain(self.states.iter().flat_map(State::files))
    }

    /// Bytes of all files. A file shared by several states counts once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let mut files: Vec<&Listed> = self.files().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files.dedup_by(|a, b| a.name == b.name);
        files.iter().map(|file| file.bytes).sum()
    }
}

/// Locks a directory against other writers until it is dropped.
pub(super) struct Locked {
    _lock: File,
}

impl Locked {
    pub fn new(dir: &Path) -> Result<Self, BackupError> {
        create_directory(dir, 0o700).map_err(BackupError::io(dir))?;
        let path = dir.join(LOCK);
        let file = create_file(&path).map_err(BackupError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(BackupError::Busy(dir.into())),
            Err(TryLockError::Error(source)) => Err(BackupError::Io { path, source }),
        }
    }
}

/// Backup files in the directory that the manifest does not list: leftovers of a killed run, or files no longer needed.
/// Without a manifest, a file of any other kind is an error.
pub(super) fn unlisted(dir: &Path, manifest: Option<&Manifest>) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BackupError::io(dir))? {
        let entry = entry.map_err(BackupError::io(dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_listed = manifest.is_some_and(|manifest| manifest.files().any(|file| file.name == name));
        if name == NAME || name == LOCK || is_listed {
            continue;
        }
        if Listed::is_name(&name) || name == "MANIFEST.partial" {
            found.push(entry.path());
        } else if manifest.is_none() {
            return Err(BackupError::Foreign(dir.into()));
        }
    }
    Ok(found)
}
