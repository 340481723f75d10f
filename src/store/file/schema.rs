//! The tables, and how they are opened: how weir recognises its own databases and their format.
//!
//! Opening a database that is not weir's, or has another format, changes nothing in it.
//!
//! | table           | key                           | value                                        |
//! |-----------------|-------------------------------|----------------------------------------------|
//! | weir            | `header`                      | magic 8, format 4 (big-endian), secret 16    |
//! | weir            | `next`                        | the next arrival number, 6                   |
//! | weir            | `kind`, kind 2                | events, bytes, footprint 6: [`crate::store::file::tally`] |
//! | weir            | `arrived`, time 6             | number 6: see [`crate::store::read::arrival_times`] |
//! | weir            | `id`                          | what tells this store from others, 16        |
//! | weir            | `upgrade`                     | how far an upgrade is, 6                     |
//! | weir            | a [`crate::store::write::removal::Note`]'s name      | the evictor's, or absent                     |
//! | weir            | `state`, `log` with number 6  | see [`crate::store::file::journal`]                       |
//! | event           | seq 6                         | record                                       |
//! | id … expiration | see [`keys`]                  | empty                                        |
//! | holder          | coordinate hash 16            | seq 6 of the version that is held            |
//! | deleted         | hash of id and deleter, 16    | `created_at` 6 of the deletion               |
//! | deleted_address | coordinate hash 16            | until 6: versions up to then are deleted     |
//! | vanished        | author 32                     | until 6, seq 6: see [`crate::store::write::vanish`]        |
//! | purge           | author 32                     | until 6, seq 6, stage 1, last visited key    |
//! | removed         | number 6                      | seq 6, id 32: see [`crate::store::read::remembered_removals`]       |

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags};

use crate::store::file::lock::{lock, lock_new};
use crate::store::file::wal::Wal;
use crate::store::format::error::StoreError;
use crate::store::format::keys::{self, Index, Secret};
use crate::store::format::options::{Durability, Options};
use crate::store::format::slots::{Slots, environment};
use crate::store::format::version::FORMAT;

const MAGIC: [u8; 8] = *b"weir\0evt";
const HEADER: &[u8] = b"header";
const HEADER_LEN: usize = MAGIC.len() + 4 + 16;
const NEXT: &[u8] = b"next";
const ID: &[u8] = b"id";

/// Room for the tables of later formats.
const MAX_TABLES: u32 = 32;

/// One table of the store: bytes to bytes.
pub(in crate::store) type Table = Database<'static, Bytes, Bytes>;

/// Names in the file, in the order of [`Tables`]' fields.
const NAMES: [&str; 14] = [
    "weir",
    "event",
    "id",
    "time",
    "author",
    "kind",
    "tag",
    "expiration",
    "holder",
    "deleted",
    "deleted_address",
    "vanished",
    "purge",
    "removed",
];

/// Handles of every table.
#[derive(Clone, Copy)]
pub(in crate::store) struct Tables {
    /// LMDB's unnamed table, which has a row for each other table: see [`crate::store::read::pages`].
    pub unnamed: Table,
    pub meta: Table,
    pub event: Table,
    indexes: [Table; Index::ALL.len()],
    pub holder: Table,
    pub deleted: Table,
    pub deleted_address: Table,
    pub vanished: Table,
    pub purge: Table,
    pub removed: Table,
}

impl Tables {
    fn new(unnamed: Table, all: [Table; NAMES.len()]) -> Self {
        let [meta, event, id, time, author, kind, tag, expiration, holder, rest @ ..] = all;
        let [deleted, deleted_address, vanished, purge, removed] = rest;
        let indexes = [id, time, author, kind, tag, expiration];
        Self { unnamed, meta, event, indexes, holder, deleted, deleted_address, vanished, purge, removed }
    }

    /// The table of an index.
    pub fn index(&self, index: Index) -> Table {
        self.indexes[index as usize]
    }

    /// Every table with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Table)> {
        let [id, time, author, kind, tag, expiration] = self.indexes;
        let all = [
            self.meta,
            self.event,
            id,
            time,
            author,
            kind,
            tag,
            expiration,
            self.holder,
            self.deleted,
            self.deleted_address,
            self.vanished,
            self.purge,
            self.removed,
        ];
        NAMES.into_iter().zip(all)
    }

    /// The event table's row in the unnamed table, as a read transaction sees it.
    pub fn event_row<'t>(&self, txn: &'t heed::RoTxn<'_>) -> Result<Option<&'t [u8]>, StoreError> {
        Ok(self.unnamed.get(txn, NAMES[1].as_bytes())?)
    }

    /// The same of an index.
    pub fn index_row<'t>(&self, index: Index, txn: &'t heed::RoTxn<'_>) -> Result<Option<&'t [u8]>, StoreError> {
        Ok(self.unnamed.get(txn, NAMES[2 + index as usize].as_bytes())?)
    }

    /// The arrival number that the next event will get.
    pub fn next_seq(&self, txn: &heed::RoTxn<'_>) -> Result<u64, StoreError> {
        let next = self.meta.get(txn, NEXT)?.and_then(keys::read_six);
        next.ok_or(StoreError::Damaged("the next arrival number is missing"))
    }

    /// What tells this store from others.
    pub fn store_id(&self, txn: &heed::RoTxn<'_>) -> Result<[u8; 16], StoreError> {
        let id = self.meta.get(txn, ID)?.and_then(|id| id.try_into().ok());
        id.ok_or(StoreError::Damaged("the id of the store is missing"))
    }

    /// Gives a store of an earlier format an id, unless a backup has.
    pub fn create_store_id(&self, txn: &mut heed::RwTxn<'_>) -> Result<(), StoreError> {
        if self.meta.get(txn, ID)?.is_none() {
            self.meta.put(txn, ID, &random()?)?;
        }
        Ok(())
    }

    /// Writes the arrival number that the next event will get.
    pub fn put_next_seq(&self, txn: &mut heed::RwTxn<'_>, next: u64) -> Result<(), StoreError> {
        Ok(self.meta.put(txn, NEXT, &keys::six(next))?)
    }
}

/// What the database turned out to be.
enum DatabaseContent {
    Nothing,
    Foreign,
    Format(u32, Secret),
}

/// What to do when there is no store.
#[derive(Clone, Copy)]
pub(in crate::store) enum Absent {
    /// Do nothing; [`open`] returns `None`.
    Leave,
    /// Create one with this secret, or with a random one.
    Create(Option<Secret>),
}

/// Opens the database in the directory, which must exist.
pub(in crate::store) fn open(
    path: &Path,
    options: &Options,
    absent: Absent,
) -> Result<Option<(Env<Slots>, Tables, Secret)>, StoreError> {
    let env = open_env(path, options)?;
    env.clear_stale_readers()?;
    match (open_tables(&env)?, absent) {
        (CommitOrAbort::Commit((tables, secret)), _) => {
            let tables = Tables::new(open_unnamed(&env)?, tables);
            Ok(Some((env, tables, secret)))
        }
        (CommitOrAbort::Abort(DatabaseContent::Nothing), Absent::Leave) => Ok(None),
        (CommitOrAbort::Abort(DatabaseContent::Nothing), Absent::Create(secret)) => {
            let (tables, secret) = create(&env, secret)?;
            Ok(Some((env, tables, secret)))
        }
        (CommitOrAbort::Abort(DatabaseContent::Foreign), _) => Err(StoreError::Foreign(path.into())),
        (CommitOrAbort::Abort(DatabaseContent::Format(found, _)), _) => {
            Err(StoreError::Format { path: path.into(), found })
        }
    }
}

/// Creates a store in this file, beside which LMDB puts a lock file, and closes it. When this returns, the file is on
/// disk whole; its name need not be.
pub(in crate::store) fn create_file(file: &Path, options: &Options) -> Result<(), StoreError> {
    let env = open_env_by(file, options, EnvFlags::NO_SUB_DIR)?;
    create(&env, None)?;
    env.force_sync()?;
    env.prepare_for_closing().wait();
    Ok(())
}

/// A store of another format.
pub(in crate::store) struct Other {
    pub env: Env<Slots>,
    pub tables: Tables,
    pub wal: Wal,
    pub secret: Secret,
    pub format: u32,
}

/// Opens a store of another format in `directory` if `is_known` accepts the format, and creates the tables that it
/// lacks; `None` when it has the current format. The records left in its log go to the row `left_row`, in the same
/// commit.
pub(in crate::store) fn open_other(
    home: &Path,
    directory: &Path,
    options: &Options,
    is_known: impl Fn(u32) -> bool,
    left_row: &[u8],
) -> Result<Option<Other>, StoreError> {
    let env = open_env(directory, options)?;
    let (format, secret) = match open_tables(&env)? {
        CommitOrAbort::Commit(_) => return Ok(None),
        CommitOrAbort::Abort(DatabaseContent::Format(format, secret)) if is_known(format) => (format, secret),
        CommitOrAbort::Abort(DatabaseContent::Format(found, _)) => {
            return Err(StoreError::Format { path: directory.into(), found });
        }
        CommitOrAbort::Abort(DatabaseContent::Nothing | DatabaseContent::Foreign) => {
            return Err(StoreError::Foreign(directory.into()));
        }
    };
    let wal = Wal::new(home, directory, secret);
    let (txn, left) = lock(&env, &wal)?;
    let opened = env.create_databases_and_commit(txn, |creator, txn| {
        let meta = creator.create_database::<Bytes, Bytes>(txn, Some(NAMES[0]))?;
        if !left.is_empty() {
            meta.put(txn, left_row, &left.into_records())?;
        }
        let mut tables = [meta; NAMES.len()];
        for (table, name) in tables.iter_mut().zip(NAMES) {
            *table = creator.create_database(txn, Some(name))?;
        }
        Ok::<_, StoreError>(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    let tables = Tables::new(open_unnamed(&env)?, opened.unwrap_commit());
    Ok(Some(Other { env, tables, wal, secret, format }))
}

/// Replaces the header.
pub(in crate::store) fn put_header(
    tables: &Tables,
    txn: &mut heed::RwTxn<'_>,
    format: u32,
    secret: &Secret,
) -> Result<(), StoreError> {
    Ok(tables.meta.put(txn, HEADER, &header(format, &secret.0))?)
}

fn open_env(path: &Path, options: &Options) -> Result<Env<Slots>, StoreError> {
    open_env_by(path, options, EnvFlags::empty())
}

fn open_env_by(path: &Path, options: &Options, flags: EnvFlags) -> Result<Env<Slots>, StoreError> {
    let page = 4096;
    let mut builder = environment();
    builder.map_size(options.map_bytes.next_multiple_of(page)).max_dbs(MAX_TABLES).max_readers(options.max_readers);
    let durability = match options.durability {
        Durability::Full => EnvFlags::empty(),
        Durability::NoMetaSync => EnvFlags::NO_META_SYNC,
        Durability::None => EnvFlags::NO_SYNC,
    };
    let flags = flags | durability;
    // SAFETY: these flags trade durability or name the file; none of them lets memory change under a borrowed row.
    unsafe { builder.flags(flags) };
    // SAFETY: LMDB requires that no other program writes the file and that it lies on a local file system; the operator
    // gives us the directory on these terms, and every weir process goes through LMDB's lock file.
    let opened = unsafe { builder.open(path) };
    opened.map_err(|error| match error {
        heed::Error::EnvAlreadyOpened => StoreError::AlreadyOpen(path.into()),
        heed::Error::Mdb(heed::MdbError::Invalid | heed::MdbError::VersionMismatch) => StoreError::Foreign(path.into()),
        heed::Error::Io(source) => StoreError::Io { path: path.into(), source },
        other => other.into(),
    })
}

type Opened = CommitOrAbort<([Table; NAMES.len()], Secret), DatabaseContent>;

/// Opens the tables with a read transaction, so that a foreign database stays unchanged.
fn open_tables(env: &Env<Slots>) -> Result<Opened, StoreError> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        let open = |name| opener.open_database::<Bytes, Bytes>(txn, name);
        let Some(meta) = open(Some(NAMES[0]))? else {
            // In the same transaction: `Env::stat` already sees the tables of a commit that is being written.
            let is_empty = match open(None)? {
                Some(unnamed) => unnamed.is_empty(txn)?,
                None => true,
            };
            return Ok(CommitOrAbort::Abort(if is_empty {
                DatabaseContent::Nothing
            } else {
                DatabaseContent::Foreign
            }));
        };
        let Some((format, secret)) = meta.get(txn, HEADER)?.and_then(read_header) else {
            return Ok(CommitOrAbort::Abort(DatabaseContent::Foreign));
        };
        if format != FORMAT {
            return Ok(CommitOrAbort::Abort(DatabaseContent::Format(format, secret)));
        }
        let mut tables = [meta; NAMES.len()];
        for (table, name) in tables.iter_mut().zip(NAMES) {
            *table = open(Some(name))?.ok_or(StoreError::Damaged("a table is missing"))?;
        }
        Ok::<_, StoreError>(CommitOrAbort::Commit((tables, Committed(secret))))
    })?;
    Ok(opened)
}

/// Opens LMDB's unnamed table, which always exists.
fn open_unnamed(env: &Env<Slots>) -> Result<Table, StoreError> {
    let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        let unnamed = opener.open_database::<Bytes, Bytes>(txn, None)?;
        Ok::<_, StoreError>(unnamed.map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit))
    })?;
    match opened {
        CommitOrAbort::Commit(table) => Ok(table),
        CommitOrAbort::Abort(()) => Err(StoreError::Damaged("LMDB's unnamed table is missing")),
    }
}

/// Carries the secret through heed's commit.
struct Committed(Secret);

impl heed::OnCommit for Committed {
    type Committed = Secret;

    fn on_commit(self, _: &heed::CommitToken) -> Secret {
        self.0
    }
}

fn create(env: &Env<Slots>, secret: Option<Secret>) -> Result<(Tables, Secret), StoreError> {
    let mut secret = match secret {
        Some(secret) => secret.0,
        None => random()?,
    };
    let created = env.create_databases_and_commit(lock_new(env)?, |creator, txn| {
        let meta = creator.create_database::<Bytes, Bytes>(txn, Some(NAMES[0]))?;
        // Another process may have created the store since we looked.
        if let Some((_, theirs)) = meta.get(txn, HEADER)?.and_then(read_header) {
            secret = theirs.0;
        } else {
            meta.put(txn, HEADER, &header(FORMAT, &secret))?;
            meta.put(txn, NEXT, &keys::six(1))?;
            meta.put(txn, ID, &random()?)?;
        }
        let mut tables = [meta; NAMES.len()];
        for (table, name) in tables.iter_mut().zip(NAMES) {
            *table = creator.create_database(txn, Some(name))?;
        }
        Ok::<_, StoreError>(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    Ok((Tables::new(open_unnamed(env)?, created.unwrap_commit()), Secret(secret)))
}

fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Damaged("the system gave no random bytes"))?;
    Ok(bytes)
}

pub(in crate::store) fn header(format: u32, secret: &[u8; 16]) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&format.to_be_bytes());
    bytes[12..].copy_from_slice(secret);
    bytes
}

/// The format and the secret, if the magic is ours. Later formats may have a longer header.
fn read_header(bytes: &[u8]) -> Option<(u32, Secret)> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (format, rest) = rest.split_first_chunk::<4>()?;
    let secret = rest.first_chunk::<16>()?;
    (*magic == MAGIC).then(|| (u32::from_be_bytes(*format), Secret(*secret)))
}
