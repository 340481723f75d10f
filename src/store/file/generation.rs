//! Which data file is the store: how the store moves to another file, and how every process follows.
//!
//! A generation is one data file. The first lies in the store's directory, later ones in its subdirectories `gen-N`.
//! The store moves when a row in the old file says so ([`crate::store::file::journal::State::Moved`]): the commit of
//! that row is the instant of the move. The file `CURRENT` is a short cut: without it, opening the store would follow
//! the old generations one by one.
//!
//! Never keeps an old generation open, and never creates a store where one existed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use heed::{Env, RoTxn};

use crate::store::file::commit::Commit;
use crate::store::file::file_identity::FileIdentity;
use crate::store::file::full::{LastUsed, SharedFull};
use crate::store::file::journal::{self, State};
use crate::store::file::map::Map;
use crate::store::file::names::{create_directory, sync_names};
use crate::store::file::newest::Newest;
use crate::store::file::owner::give_to_owner;
use crate::store::file::schema::{self, Absent};
use crate::store::file::wal::Wal;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::format::options::Options;
use crate::store::format::slots::Slots;

/// The file that names the directory of the current generation, in one line. Absent before the first move.
const CURRENT: &str = "CURRENT";

/// The names of LMDB's files.
pub(in crate::store) const DATA_FILE: &str = "data.mdb";
pub(in crate::store) const LOCK_FILE: &str = "lock.mdb";

/// How often opening is retried because the store has moved meanwhile.
pub(in crate::store) const MOVES: usize = 16;

/// One generation, open.
pub(in crate::store) struct Inner {
    pub env: Env<Slots>,
    pub tables: schema::Tables,
    pub secret: keys::Secret,
    /// See [`Store::set_full`].
    pub full: Arc<SharedFull>,
    pub last_used: LastUsed,
    pub number: u64,
    pub wal: Wal,
    /// LMDB's files.
    pub files: [FileIdentity; 2],
    /// Where LMDB has mapped the data file. If that is not known, records are read only through LMDB.
    pub map: Option<Map>,
    /// The latest commit of which a reader has looked up what all find alike.
    pub commit: ArcSwap<Commit>,
    /// See [`Options::newest_times_bytes`].
    pub newest: Newest,
}

impl Inner {
    /// Whether this generation is the store. This thread must not be reading.
    pub fn state(&self) -> Result<State, StoreError> {
        let txn = self.env.read_txn()?;
        journal::state(&self.tables, &txn)
    }

    /// The last commit that a read transaction sees. `Env::info` would not do: it reads the newer of LMDB's meta pages,
    /// which names a commit while it is being written, before it is complete and any reader sees it. This thread must
    /// not be reading.
    pub fn last_commit(&self) -> Result<usize, StoreError> {
        Ok(self.env.read_txn()?.id())
    }

    /// The commit that a transaction sees.
    pub fn commit(&self, txn: &RoTxn<'_, Slots>) -> Result<Arc<Commit>, StoreError> {
        let known = self.commit.load();
        if known.txn == txn.id() {
            return Ok(Arc::clone(&known));
        }
        let found = Arc::new(Commit::look(&self.env, &self.tables, txn)?);
        // A slow reader of an earlier commit leaves the later one in place.
        if known.txn == Commit::NONE.txn || known.txn < found.txn {
            self.commit.store(Arc::clone(&found));
        }
        Ok(found)
    }

    /// Waits until every commit is on disk.
    pub fn sync_commits(&self) -> Result<(), StoreError> {
        Ok(self.env.force_sync()?)
    }

    /// Checks that the open files are still those in the directory: writes to any other file would be lost.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.iter().try_for_each(FileIdentity::check)?;
        self.wal.check_file()
    }

    /// Turns a commit of this generation into a number that no commit of another generation has.
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
    /// The key of the hashes.
    pub fn secret(&self) -> &keys::Secret {
        &self.inner.secret
    }
}

/// The directory of a generation.
pub(in crate::store) fn directory(path: &Path, number: u64) -> PathBuf {
    if number == 0 { path.into() } else { path.join(format!("gen-{number}")) }
}

/// The number in `CURRENT`; zero when the file does not exist.
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

/// Writes `CURRENT` durably.
pub(in crate::store) fn set_current(path: &Path, number: u64) -> Result<(), StoreError> {
    let write = || {
        let partial = path.join("CURRENT.partial");
        let mut file = File::create(&partial)?;
        give_to_owner(path, &partial)?;
        writeln!(file, "gen-{number}")?;
        file.sync_all()?;
        std::fs::rename(partial, path.join(CURRENT))?;
        sync_names(path)
    };
    write().map_err(|source| StoreError::Io { path: path.join(CURRENT), source })
}

/// Opens the current generation. Creates the first one if there is none.
pub(in crate::store) fn open(path: &Path, options: &Options, full: &Arc<SharedFull>) -> Result<Inner, StoreError> {
    create(path)?;
    let mut number = current(path)?;
    for _ in 0..MOVES {
        let mut inner = open_one(path, options, number, Absent::Leave, full)?;
        if inner.is_none() {
            // The process that moves the store removes the old file only after `CURRENT` names the new one.
            let named = current(path)?;
            if named != number {
                number = named;
                continue;
            }
            if number > 0 {
                return Err(StoreError::Damaged("the data file that CURRENT names is missing"));
            }
            create_first(path, options)?;
            inner = open_one(path, options, 0, Absent::Create(None), full)?;
        }
        let inner = inner.expect("Absent::Create never gives None");
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
    Err(StoreError::Damaged("the store kept moving while it was opened"))
}

/// Creates the data file of the first generation if there is none, under another name at first. LMDB writes the meta
/// pages of a new file before it syncs anything, and a power cut must not leave a part of them under the store's name.
fn create_first(path: &Path, options: &Options) -> Result<(), StoreError> {
    let [file, new, lock] = [DATA_FILE, "data.mdb.new", "data.mdb.new-lock"].map(|name| path.join(name));
    let remove = |file: &Path| match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let error = |source| StoreError::Io { path: path.into(), source };
    let directory = File::open(path).map_err(error)?;
    // Released when this returns. Others that create the store wait, and find it.
    directory.lock().map_err(error)?;
    if file.exists() {
        return Ok(());
    }
    // What a process left that was killed here.
    remove(&new).and_then(|()| remove(&lock)).map_err(error)?;
    schema::create_file(&new, options)?;
    std::fs::rename(&new, &file).and_then(|()| remove(&lock)).map_err(error)
}

/// Creates the directory of a generation or of the store, if it does not exist.
pub(in crate::store) fn create(directory: &Path) -> Result<(), StoreError> {
    create_directory(directory, 0o777).map_err(|source| StoreError::Io { path: directory.into(), source })
}

/// Opens a generation, current or not. `None` when it does not exist and is not to be created.
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
    // Before anything in it is acknowledged, and before an older generation is removed. Whoever created these files or
    // `CURRENT` may have died before doing the same.
    for directory in [Some(&*directory), (number > 0).then_some(path)].into_iter().flatten() {
        sync_names(directory).map_err(|source| StoreError::Io { path: directory.into(), source })?;
    }
    let files = [FileIdentity::at(directory.join(DATA_FILE))?, FileIdentity::at(directory.join(LOCK_FILE))?];
    let (wal, commit) = (Wal::new(path, &directory, secret), ArcSwap::from_pointee(Commit::NONE));
    let (full, last_used) = (Arc::clone(full), LastUsed::default());
    let map = Map::find(&env, &tables, &directory.join(DATA_FILE));
    let newest = Newest::new(options.newest_times_bytes, env.read_txn()?.id() as u64);
    Ok(Some(Inner { env, tables, secret, full, last_used, number, wal, files, map, commit, newest }))
}
