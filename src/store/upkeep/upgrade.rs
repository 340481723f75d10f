//! Upgrades stores of earlier formats to the current one: in place, in steps that may be interrupted anywhere.
//!
//! [`STEPS`] leads from each format to the next. The first commit of a step empties the tables that it replaces, writes
//! its progress to the row `upgrade`, and gives the header a format that no version opens, so no version serves a store
//! that is partly converted. Every later commit writes some rows together with the new progress. The last commit writes
//! the new format and removes the row.
//!
//! The records are authoritative and never rewritten here, so a step needs no second copy of the store: the new indexes
//! reuse the pages of the old ones. Events that a killed relay acknowledged and left in its log wait in the row `left`
//! until the last commit, when they are written back to the log.

use std::ops::Bound;
use std::path::Path;

use heed::{Env, RwTxn};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::store::file::generation::{self, LOCK_FILE};
use crate::store::file::lock::{LogLeftover, lock};
use crate::store::file::schema::{self, Table, Tables};
use crate::store::file::tally::{self, Tally};
use crate::store::file::wal::{FRAME, Wal};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, Secret};
use crate::store::format::options::Options;
use crate::store::format::slots::Slots;
use crate::store::format::version::{FORMAT, UNDER_WAY};
use crate::store::read::lookup;
use crate::store::upkeep::compact;

/// The progress of a step: the last arrival number that it has processed.
const PLACE: &[u8] = b"upgrade";

/// The events that a killed relay acknowledged and left in the log of the earlier format.
const LEFT: &[u8] = b"left";

/// Records processed in one commit.
const SLICE_ROWS: usize = 4096;

type Slice = fn(&Tables, &Secret, &mut RwTxn<'_>, Seq) -> Result<Option<Seq>, StoreError>;

/// A step from one format to the next.
struct Step {
    from: u32,
    to: u32,
    /// Empties the tables that the step replaces.
    begin: fn(&Tables, &mut RwTxn<'_>) -> Result<(), StoreError>,
    /// Continues after an arrival number; returns the last number processed, or `None` at the end.
    slice: Slice,
}

/// Every step. Format 0 had longer index keys and no tally. Format 1 did not record removals, and a store had an id
/// only once it was backed up.
const STEPS: [Step; 2] = [
    Step { from: 0, to: 1, begin: empty_indexes, slice: index_records },
    Step { from: 1, to: 2, begin: |tables, txn| tables.create_store_id(txn), slice: |_, _, _, _| Ok(None) },
];

const _: () = assert!(STEPS[STEPS.len() - 1].to == FORMAT, "the last step leads to today's format");

/// The upgrade of a store. If it is dropped, it leaves the same state as a killed process; the next upgrade continues.
pub struct Upgrade {
    env: Env<Slots>,
    tables: Tables,
    wal: Wal,
    secret: Secret,
    format: u32,
    rows: (u64, u64),
    _lock: std::fs::File,
}

impl Upgrade {
    /// Opens the store in `path` if it is of an earlier format; `None` when there is nothing to do.
    ///
    /// # Errors
    /// [`StoreError::Format`] when no step leads from the store's format, for example from a later one;
    /// [`StoreError::Busy`] when another process has opened the store or copies it; otherwise when it cannot be opened.
    pub fn find(path: &Path, options: &Options) -> Result<Option<Self>, StoreError> {
        let lock = compact::lock(path)?.ok_or(StoreError::Busy)?;
        let directory = generation::directory(path, generation::current(path)?);
        if is_open_elsewhere(&directory)? {
            return Err(StoreError::Busy);
        }
        let is_known = |format: u32| STEPS.iter().any(|step| step.from == format & !UNDER_WAY);
        let Some(opened) = schema::open_other(path, &directory, options, is_known, LEFT)? else { return Ok(None) };
        let schema::Other { env, tables, wal, secret, format } = opened;
        let txn = env.read_txn()?;
        let rows = (0, tables.event.len(&txn)?);
        drop(txn);
        Ok(Some(Self { env, tables, wal, secret, format, rows, _lock: lock }))
    }

    /// The format that the store has, or had when the upgrade began.
    #[must_use]
    pub fn from(&self) -> u32 {
        self.format & !UNDER_WAY
    }

    /// Records that this process has processed, and the number of all records.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        self.rows
    }

    /// Continues for one commit; false when the store has the current format.
    ///
    /// # Errors
    /// When the commit fails: earlier commits stay, and the next upgrade continues from there.
    pub fn step(&mut self) -> Result<bool, StoreError> {
        let from = self.from();
        let Some(step) = STEPS.iter().find(|step| step.from == from) else { return Ok(false) };
        let (mut txn, left) = lock(&self.env, &self.wal)?;
        let meta = self.tables.meta;
        save_left(meta, &mut txn, left)?;
        let format = if self.format & UNDER_WAY == 0 {
            (step.begin)(&self.tables, &mut txn)?;
            meta.put(&mut txn, PLACE, &keys::six(0))?;
            step.from | UNDER_WAY
        } else {
            let place = meta.get(&txn, PLACE)?.and_then(keys::read_six);
            let place = Seq(place.ok_or(StoreError::Damaged("the progress of the upgrade is missing"))?);
            match (step.slice)(&self.tables, &self.secret, &mut txn, place)? {
                Some(place) => {
                    meta.put(&mut txn, PLACE, &keys::six(place.0))?;
                    self.format
                }
                None => {
                    meta.delete(&mut txn, PLACE)?;
                    self.restore_log(&mut txn)?;
                    step.to
                }
            }
        };
        if format != self.format {
            schema::put_header(&self.tables, &mut txn, format, &self.secret)?;
        } else {
            self.rows.0 = self.rows.1.min(self.rows.0 + SLICE_ROWS as u64);
        }
        txn.commit()?;
        self.format = format;
        Ok(format != FORMAT)
    }

    /// Writes the events left in the log back to it, for the transaction after this one: the next process that opens
    /// the store adds them. If this transaction is never committed, the frame belongs to no transaction, and the next
    /// upgrade writes it again.
    fn restore_log(&self, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        let Some(records) = self.tables.meta.get(txn, LEFT)?.map(<[u8]>::to_vec) else { return Ok(()) };
        let mut frame = vec![0; FRAME];
        frame.extend_from_slice(&records);
        self.wal.create()?;
        self.wal.write(txn.id() as u64 + 1, 0, &mut frame, true)?;
        self.tables.meta.delete(txn, LEFT)?;
        Ok(())
    }
}

/// Saves the events left in the log: the commits of the upgrade make the log obsolete, and the current rules can be
/// applied only after the upgrade.
fn save_left(meta: Table, txn: &mut RwTxn<'_>, left: LogLeftover) -> Result<(), StoreError> {
    match left.is_empty() {
        true => Ok(()),
        false => Ok(meta.put(txn, LEFT, &left.into_records())?),
    }
}

fn empty_indexes(tables: &Tables, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
    for index in Index::ALL {
        tables.index(index).clear(txn)?;
    }
    crate::store::write::vanish::restart_purges(tables, txn)?;
    tally::replace(tables.meta, txn, &std::collections::BTreeMap::new())
}

fn index_records(tables: &Tables, secret: &Secret, txn: &mut RwTxn<'_>, after: Seq) -> Result<Option<Seq>, StoreError> {
    let start = keys::six(after.0);
    let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
    let (mut rows, mut tally, mut last) = (Vec::new(), Tally::default(), None);
    for row in tables.event.range(txn, &range)?.take(SLICE_ROWS) {
        let (key, record) = row?;
        let seq = Seq(keys::read_six(key).ok_or(StoreError::Damaged("a key of the event table is too short"))?);
        let event = lookup::view(record)?;
        keys::index_entries(event, seq, secret, |index, key| rows.push((index, key.to_vec())));
        tally.add(event);
        last = Some(seq);
    }
    rows.sort_unstable();
    for (index, key) in rows {
        tables.index(index).put(txn, &key, &[])?;
    }
    tally.put(tables.meta, txn)?;
    Ok(last)
}

/// Whether another process has opened the data file: LMDB holds a lock on the first byte of its lock file. Call this
/// before this process opens the store, since closing a file releases all of the process's locks on it.
fn is_open_elsewhere(directory: &Path) -> Result<bool, StoreError> {
    let path = directory.join(LOCK_FILE);
    let error = |source| StoreError::Io { path: path.clone(), source };
    let file = match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(error)?,
    };
    let first_byte = Flock { length: 1, ..Flock::from(FlockType::WriteLock) };
    let holder = fcntl_getlk(&file, &first_byte).map_err(|errno| error(errno.into()))?;
    Ok(holder.is_some())
}
