//! Which data file is the store: how it moves to another one, and how every process follows.
//!
//! A data file is a generation. The first lies in the directory itself, later ones in `gen-N` beside it. The store
//! moves when a row in the old file says so ([`crate::store::file::journal::State::Moved`]): that commit is the one instant of
//! the move. The file `CURRENT` only spares those who open the store the way through old generations.
//!
//! Never opens an old generation for good, and never creates a store where there was one.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use heed::{Env, WithTls};

use crate::store::file::full::{LastUsed, SharedFull};
use crate::store::file::in_place::InPlace;
use crate::store::file::journal::{self, State};
use crate::store::file::map::Map;
use crate::store::file::owner::give_to_owner;
use crate::store::file::schema::{self, Absent};
use crate::store::file::wal::Wal;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::options::Options;

/// Names the directory of the current generation, in a line; absent before the first move.
const CURRENT: &str = "CURRENT";

/// LMDB's names.
pub(in crate::store) const DATA_FILE: &str = "data.mdb";
pub(in crate::store) const LOCK_FILE: &str = "lock.mdb";

/// How often opening is tried again because the store moved meanwhile.
pub(in crate::store) const MOVES: usize = 16;

/// One generation, open.
pub(in crate::store) struct Inner {
    pub env: Env<WithTls>,
    pub tables: schema::Tables,
    pub secret: keys::Secret,
    /// See [`Store::set_full`].
    pub full: Arc<SharedFull>,
    pub last_used: LastUsed,
    pub number: u64,
    pub wal: Wal,
    /// LMDB's files.
    pub files: [InPlace; 2],
    /// Where LMDB has mapped the data file; without it, records are read through LMDB alone.
    pub map: Option<Map>,
    /// A commit at which no purge was under way: between two commits nobody need look again.
    pub quiet_txn: AtomicU64,
}

impl Inner {
    /// What becomes of this generation. This thread must not be reading.
    pub fn state(&self) -> Result<State, StoreError> {
        let txn = self.env.read_txn()?;
        journal::state(&self.tables, &txn)
    }

    /// The last commit that a read transaction sees. Not `Env::info`'s: that reads the newer of LMDB's meta pages, which
    /// names a commit from the moment at which it is being written, before its writer is told and any reader sees it.
    /// This thread must not be reading.
    pub fn last_commit(&self) -> Result<usize, StoreError> {
        Ok(self.env.read_txn()?.id())
    }

    /// Whether the files that are open are those that the directory names: what is written to others is lost.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.iter().try_for_each(InPlace::check)?;
        self.wal.check_file()
    }

    /// A commit of this generation as a number that no other generation has.
    pub fn txn_id(&self, id: usize) -> u64 {
        (self.number << 44) + id as u64
    }
}

/// A generation that a transaction keeps open.
#[derive(Clone)]
pub(in crate::store) struct Generation {
    pub inner: Arc<Inner>,
}

impl Generation {
    /// What keys the hashes.
    pub fn secret(&self) -> &keys::Secret {
        &self.inner.secret
    }
}

/// Where a generation lies.
pub(in crate::store) fn directory(path: &Path, number: u64) -> PathBuf {
    if number == 0 { path.into() } else { path.join(format!("gen-{number}")) }
}

/// The number that `CURRENT` has; zero without it.
pub(in crate::store) fn current(path: &Path) -> Result<u64, StoreError> {
    let file = path.join(CURRENT);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let number = text.trim_end().strip_prefix("gen-").and_then(|number| number.parse().ok());
            number.ok_or(StoreError::Damaged("the file CURRENT names no generation"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(source) => Err(StoreError::Io { path: file, source }),
    }
}

/// Writes `CURRENT`, durably.
pub(in crate::store) fn set_current(path: &Path, number: u64) -> Result<(), StoreError> {
    let write = || {
        let partial = path.join("CURRENT.partial");
        let mut file = File::create(&partial)?;
        give_to_owner(path, &partial)?;
        writeln!(file, "gen-{number}")?;
        file.sync_all()?;
        std::fs::rename(partial, path.join(CURRENT))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|source| StoreError::Io { path: path.join(CURRENT), source })
}

/// Opens what is current, creating the first generation if there is none.
pub(in crate::store) fn open(path: &Path, options: &Options, full: &Arc<SharedFull>) -> Result<Inner, StoreError> {
    std::fs::create_dir_all(path).map_err(|source| StoreError::Io { path: path.into(), source })?;
    let mut number = current(path)?;
    for _ in 0..MOVES {
        let mut inner = open_one(path, options, number, Absent::Leave, full)?;
        if inner.is_none() {
            // Whoever moves the store removes the old file only after `CURRENT` names the new one.
            let named = current(path)?;
            if named != number {
                number = named;
                continue;
            }
            if number > 0 {
                return Err(StoreError::Damaged("the data file that CURRENT names is missing"));
            }
            inner = open_one(path, options, 0, Absent::Create(None), full)?;
        }
        let inner = inner.expect("what is absent was created");
        match inner.state()? {
            State::Moved(next) => number = next,
            State::Here | State::Copying(_) => {
                if current(path)? < number {
                    set_current(path, number)?;
                }
                return Ok(inner);
            }
        }
    }
    Err(StoreError::Damaged("the store moves without end"))
}

/// Opens a generation, whether it is current or not. `None` when it is not there and is not to be created.
pub(in crate::store) fn open_one(
    path: &Path,
    options: &Options,
    number: u64,
    absent: Absent,
    full: &Arc<SharedFull>,
) -> Result<Option<Inner>, StoreError> {
    let directory = directory(path, number);
    if matches!(absent, Absent::Leave) && !directory.join(DATA_FILE).exists() {
        return Ok(None);
    }
    let is_new = !matches!(absent, Absent::Leave);
    let opened = schema::open(&directory, options, absent)?;
    if is_new {
        for file in [directory.clone(), directory.join(DATA_FILE), directory.join(LOCK_FILE)] {
            give_to_owner(path, &file).map_err(|source| StoreError::Io { path: file, source })?;
        }
    }
    let Some((env, tables, secret)) = opened else { return Ok(None) };
    let files = [InPlace::at(directory.join(DATA_FILE))?, InPlace::at(directory.join(LOCK_FILE))?];
    let (wal, quiet_txn) = (Wal::new(path, &directory, secret), AtomicU64::new(u64::MAX));
    let (full, last_used) = (Arc::clone(full), LastUsed::default());
    let map = Map::find(&env, &tables, &directory.join(DATA_FILE));
    Ok(Some(Inner { env, tables, secret, full, last_used, number, wal, files, map, quiet_txn }))
}
