//! Compaction: copies the store into a new file with full pages and moves the store there, while other processes serve
//! it.
//!
//! Rows are copied in key order, one slice per transaction, so that no read transaction keeps pages from reuse for long
//! (INV-9) and LMDB fills each page before it begins the next. Changes made meanwhile are copied afterwards, found by
//! the journal and by the arrival numbers. The move holds the writers of all processes for the last few changes and two
//! syncs. Before the commit of the move the old file is the store, even if this process is killed; after it, the new
//! file is.
//!
//! Arrival numbers stay the same (INV-3, INV-4). In the old file, compaction changes only the journal's rows.

use std::fs::{File, TryLockError};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heed::{PutFlags, RoTxn, RwTxn};

use crate::store::file::disk;
use crate::store::file::generation::{self, DATA_FILE, Generation, Inner, LOCK_FILE};
use crate::store::file::handle::Store;
use crate::store::file::journal::{self, Note, Noted, State};
use crate::store::file::lock::lock_new;
use crate::store::file::owner::give_to_owner;
use crate::store::file::schema::{Absent, Table, Tables};
use crate::store::file::wal::LOG_FILE;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index};
use crate::store::format::options::{Durability, Options};
use crate::store::read::lookup;
use crate::store::upkeep::check::Report;

/// A process that copies the store holds a lock on this file, so that others recognise the copy of a dead process.
const LOCK: &str = "compact.lock";

/// The time for which rows are copied in one transaction.
const SLICE: Duration = Duration::from_millis(40);

/// Rows between reads of the clock.
const CLOCK_ROWS: u64 = 256;

/// Changes that are copied in one transaction.
const CATCH_UP_ROWS: usize = 4096;

/// The move is made when at most this many changes are left: a few milliseconds of work.
const FEW_CHANGES: usize = 256;

/// After this many rounds of catching up, the move is made however many changes are left. Otherwise events that arrive
/// faster than they are copied would delay it forever.
const MOST_ROUNDS: u32 = 200;

/// Journal rows removed in one commit.
const FORGET_ROWS: usize = 4096;

/// The next stage of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It copies rows.
    Copying,
    /// It copies the changes made meanwhile.
    CatchingUp,
    /// It equals the store of a moment ago: [`Compaction::finish`] moves the store.
    Ready,
}

/// The result of a compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// Size of the old file, in bytes.
    pub before_bytes: u64,
    /// Size of the new file, in bytes.
    pub after_bytes: u64,
    /// The time for which writers were held.
    pub pause: Duration,
}

/// A copy in progress. If it is dropped, it leaves the same state as a killed process; the next copy starts from the
/// beginning.
pub struct Compaction {
    store: Store,
    from: Generation,
    to: Inner,
    /// Events with later numbers are copied by their numbers.
    until: Seq,
    /// The tables still to copy, the current one last, and the last key copied from it.
    tables: Vec<Copied>,
    cursor: Vec<u8>,
    /// Rows copied so far, and the number of all rows.
    rows: (u64, u64),
    caught_up: (u64, Seq),
    rounds: u32,
    stage: Stage,
    _lock: File,
}

/// A table that is copied row by row.
#[derive(Clone, Copy)]
enum Copied {
    Event,
    Index(Index),
    Holder,
    Side(Noted),
}

impl Copied {
    /// In reverse order of copying. Records are copied first, so that the index entries of a record removed later can
    /// be computed from the copy.
    fn all() -> Vec<Self> {
        let side = Noted::SIDE.map(Self::Side);
        let all = [Self::Event].into_iter().chain(Index::ALL.map(Self::Index)).chain([Self::Holder]).chain(side);
        let mut all: Vec<_> = all.collect();
        all.reverse();
        all
    }

    fn table(self, tables: &Tables) -> Table {
        match self {
            Self::Event => tables.event,
            Self::Index(index) => tables.index(index),
            Self::Holder => tables.holder,
            Self::Side(side) => side.table(tables),
        }
    }

    /// The arrival number at the end of the key, if it has one.
    fn seq(self, key: &[u8]) -> Option<u64> {
        match self {
            Self::Event => keys::read_six(key),
            Self::Index(_) => keys::seq_of(key).map(|seq| seq.0),
            Self::Holder | Self::Side(_) => None,
        }
    }
}

impl Compaction {
    /// Begins a copy of the store.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another copy is in progress; otherwise when the disk or the store fails.
    pub fn begin(store: &Store) -> Result<Self, StoreError> {
        let lock = lock(store.path())?.ok_or(StoreError::Busy)?;
        store.follow()?;
        let from = store.generation();
        let number = from.inner.number + 1;
        remove_others(store.path(), from.inner.number)?;
        forget(&from)?;
        let options = Options { durability: Durability::None, full_bytes: None, ..store.shared.options.clone() };
        let directory = generation::directory(store.path(), number);
        generation::create(&directory)?;
        let create = Absent::Create(Some(from.inner.secret));
        let to = generation::open_one(store.path(), &options, number, create, &from.inner.full)?;
        let to = to.expect("it is created if it is absent");

        let mut txn = from.write_txn()?;
        let tables = &from.inner.tables;
        if journal::state(tables, &txn)? != State::Here {
            return Err(StoreError::Busy);
        }
        journal::set_state(tables, &mut txn, State::Copying(number))?;
        let until = Seq(tables.next_seq(&txn)? - 1);
        let total = Copied::all()
            .into_iter()
            .try_fold(0, |sum, copied| Ok::<_, StoreError>(sum + copied.table(tables).len(&txn)?))?;
        txn.commit()?;
        Ok(Self {
            store: store.clone(),
            from,
            to,
            until,
            tables: Copied::all(),
            cursor: Vec::new(),
            rows: (0, total),
            caught_up: (0, until),
            rounds: 0,
            stage: Stage::Copying,
            _lock: lock,
        })
    }

    /// Rows copied so far, and the approximate number of all rows.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        self.rows
    }

    /// Continues for one slice and returns the next stage.
    ///
    /// # Errors
    /// When the disk or the store fails, and [`StoreError::Full`] when the file system has less free than
    /// [`Options::min_free_disk_bytes`]; the store is unchanged.
    pub fn step(&mut self) -> Result<Stage, StoreError> {
        let stage = self.store.may_add_file().and_then(|()| self.advance());
        stage.map_err(|error| disk::of_write(self.to.env.path(), error))
    }

    fn advance(&mut self) -> Result<Stage, StoreError> {
        match self.stage {
            Stage::Copying => self.copy()?,
            Stage::CatchingUp => {
                let txn = self.from.inner.env.read_txn()?;
                let changes = catch_up(&self.from, &txn, &self.to, &mut self.caught_up, CATCH_UP_ROWS)?;
                drop(txn);
                self.rounds += 1;
                if changes <= FEW_CHANGES || self.rounds == MOST_ROUNDS {
                    // Pages written now need not be written while writers wait.
                    self.to.env.force_sync()?;
                    self.stage = Stage::Ready;
                }
            }
            Stage::Ready => {}
        }
        Ok(self.stage)
    }

    fn copy(&mut self) -> Result<(), StoreError> {
        let Some(&copied) = self.tables.last() else {
            self.stage = Stage::CatchingUp;
            return Ok(());
        };
        let txn = self.from.inner.env.read_txn()?;
        let mut to = lock_new(&self.to.env)?;
        let target = copied.table(&self.to.tables);
        // LMDB rejects empty keys.
        let start = if self.cursor.is_empty() { Bound::Unbounded } else { Bound::Excluded(&self.cursor[..]) };
        let started = Instant::now();
        let (mut rows, mut last) = (0, None);
        for row in copied.table(&self.from.inner.tables).range(&txn, &(start, Bound::Unbounded))? {
            let (key, value) = row?;
            if copied.seq(key).is_none_or(|seq| seq <= self.until.0) {
                target.put_with_flags(&mut to, PutFlags::APPEND, key, value)?;
            }
            rows += 1;
            if rows % CLOCK_ROWS == 0 && started.elapsed() >= SLICE {
                last = Some(key.to_vec());
                break;
            }
        }
        to.commit()?;
        drop(txn);
        self.rows.0 += rows;
        match last {
            Some(last) => self.cursor = last,
            None => {
                self.tables.pop();
                self.cursor.clear();
            }
        }
        Ok(())
    }

    /// Checks the copy as [`Store::check`] does. Call it when the copy is [`Stage::Ready`].
    ///
    /// # Errors
    /// When LMDB fails to read.
    pub fn check(&self, mut visit: impl FnMut()) -> Result<Report, StoreError> {
        self.to.check(|_, _| visit())
    }

    /// Moves the store to the copy and removes the old file.
    ///
    /// # Errors
    /// When the disk or the store fails. As with any failed commit, the move may or may not have happened: the store is
    /// one file or the other, complete.
    ///
    /// # Panics
    /// When the copy is not [`Stage::Ready`].
    pub fn finish(mut self) -> Result<Compacted, StoreError> {
        assert_eq!(self.stage, Stage::Ready, "the copy is complete before the store moves");
        let (from, to) = (&self.from.inner, &self.to);
        let before_bytes = self.store.usage()?.file_bytes;
        while self.rounds < MOST_ROUNDS {
            let txn = from.env.read_txn()?;
            let changes = catch_up(&self.from, &txn, to, &mut self.caught_up, CATCH_UP_ROWS)?;
            self.rounds += 1;
            if changes <= FEW_CHANGES {
                break;
            }
        }
        to.env.force_sync()?;

        let mut txn = self.from.write_txn()?;
        let held = Instant::now();
        while catch_up(&self.from, &txn, to, &mut self.caught_up, CATCH_UP_ROWS)? > 0 {}
        compare(from, &txn, to)?;
        to.env.force_sync()?;
        journal::set_state(&from.tables, &mut txn, State::Moved(to.number))?;
        txn.commit()?;
        let pause = held.elapsed();
        from.env.force_sync()?;

        let (path, number) = (self.store.path().to_owned(), to.number);
        generation::set_current(&path, number)?;
        let Self { store, from, to, _lock, .. } = self;
        let old = from.inner.number;
        // This process has opened the new file for copying, without syncs, so it opens the file again.
        to.env.prepare_for_closing().wait();
        drop(from);
        store.move_on(old)?;
        remove_others(&path, number)?;
        Ok(Compacted { before_bytes, after_bytes: store.usage()?.file_bytes, pause })
    }

    /// Aborts the copy: removes it and its journal.
    ///
    /// # Errors
    /// When the disk or the store fails; the store is unchanged.
    pub fn abort(self) -> Result<(), StoreError> {
        let Self { store, from, to, _lock, .. } = self;
        to.env.prepare_for_closing().wait();
        // The copy first: it may have taken the room that ending its journal needs.
        remove_others(store.path(), from.inner.number)?;
        forget(&from)
    }
}

impl Store {
    /// Removes the copy and the journal of a dead process, so that writers do not keep its journal forever. Cheap when
    /// there is none.
    ///
    /// # Errors
    /// When the disk or the store fails.
    pub fn forget_dead_copy(&self) -> Result<(), StoreError> {
        self.follow()?;
        let generation = self.generation();
        if !matches!(generation.inner.state()?, State::Copying(_)) {
            return Ok(());
        }
        let Some(_lock) = lock(self.path())? else { return Ok(()) };
        forget(&generation)?;
        remove_others(self.path(), generation.inner.number)
    }
}

/// Takes the lock for copying the store; `None` when another process has it.
pub(in crate::store) fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let file = path.join(LOCK);
    let create = || File::create(&file).and_then(|made| give_to_owner(path, &file).map(|()| made));
    let locked = create().map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
    match locked {
        Ok(file) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { path: file, source }),
    }
}

/// Ends a copy in the old file: deletes its state first, then its journal in steps.
fn forget(from: &Generation) -> Result<(), StoreError> {
    if from.inner.state()? == State::Here {
        return Ok(());
    }
    let tables = &from.inner.tables;
    loop {
        let mut txn = from.write_txn()?;
        if let State::Copying(_) = journal::state(tables, &txn)? {
            journal::set_state(tables, &mut txn, State::Here)?;
        }
        let more = journal::forget(tables, &mut txn, FORGET_ROWS)?;
        txn.commit()?;
        if !more {
            return Ok(());
        }
    }
}

/// Copies up to `max_rows` changes of each sort, as `txn` sees them, and returns the number of changes. With fewer than
/// `max_rows`, the copy equals the store in `txn`.
fn catch_up(
    from: &Generation,
    txn: &RoTxn<'_>,
    to: &Inner,
    caught_up: &mut (u64, Seq),
    max_rows: usize,
) -> Result<usize, StoreError> {
    let old = from.lookup(txn);
    let mut target = lock_new(&to.env)?;
    let (notes, last_note) = journal::notes(old.tables, txn, caught_up.0, max_rows)?;
    let mut addresses = Vec::new();
    for note in &notes {
        match note {
            Note::Removed(seq) => addresses.extend(remove(to, &mut target, *seq)?),
            Note::Touched(side, key) => {
                let row = side.table(old.tables).get(txn, key)?;
                set(side.table(&to.tables), &mut target, key, row)?;
            }
        }
    }
    let after = keys::six(caught_up.1.0);
    let range = (Bound::Excluded(&after[..]), Bound::Unbounded);
    let (mut events, mut last) = (0, caught_up.1);
    for row in old.tables.event.range(txn, &range)?.take(max_rows) {
        let (key, record) = row?;
        last = Seq(keys::read_six(key).ok_or(StoreError::Damaged("a key of the event table is too short"))?);
        let event = lookup::view(record)?;
        to.tables.event.put(&mut target, key, record)?;
        let mut result = Ok(());
        keys::index_entries(event, last, &to.secret, |index, key| {
            if result.is_ok() {
                result = to.tables.index(index).put(&mut target, key, &[]);
            }
        });
        result?;
        addresses.extend(to.secret.address_of(event));
        events += 1;
    }
    for address in addresses {
        set(to.tables.holder, &mut target, &address, old.tables.holder.get(txn, &address)?)?;
    }
    copy_meta(old.tables, txn, to, &mut target)?;
    target.commit()?;
    *caught_up = (last_note, last);
    Ok(notes.len() + events)
}

/// Removes an event from the copy, if the copy has it, and its coordinate's holder row.
fn remove(to: &Inner, txn: &mut RwTxn<'_>, seq: Seq) -> Result<Option<[u8; 16]>, StoreError> {
    let key = keys::six(seq.0);
    let Some(record) = to.tables.event.get(txn, &key)?.map(<[u8]>::to_vec) else { return Ok(None) };
    let event = lookup::view(&record)?;
    let mut result = Ok(());
    keys::index_entries(event, seq, &to.secret, |index, key| {
        if result.is_ok() {
            result = to.tables.index(index).delete(txn, key).map(|_| ());
        }
    });
    result?;
    to.tables.event.delete(txn, &key)?;
    Ok(to.secret.address_of(event))
}

/// Makes a row of the copy equal to the store's.
fn set(table: Table, txn: &mut RwTxn<'_>, key: &[u8], row: Option<&[u8]>) -> Result<(), StoreError> {
    match row {
        Some(value) => table.put(txn, key, value)?,
        None => {
            table.delete(txn, key)?;
        }
    }
    Ok(())
}

/// Makes the `weir` table of the copy equal to the store's, except for the rows that belong to one file. The table has
/// few rows.
fn copy_meta(old: &Tables, txn: &RoTxn<'_>, to: &Inner, target: &mut RwTxn<'_>) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    for row in to.tables.meta.iter(target)? {
        let (key, _) = row?;
        if old.meta.get(txn, key)?.is_none() {
            gone.push(key.to_vec());
        }
    }
    for key in gone {
        to.tables.meta.delete(target, &key)?;
    }
    for (key, value) in journal::shared_rows(old, txn)? {
        if to.tables.meta.get(target, key)? != Some(value) {
            to.tables.meta.put(target, key, value)?;
        }
    }
    Ok(())
}

/// Checks that every table has as many rows as its original.
fn compare(from: &Inner, txn: &RoTxn<'_>, to: &Inner) -> Result<(), StoreError> {
    let copy = to.env.read_txn()?;
    for copied in Copied::all() {
        if copied.table(&from.tables).len(txn)? != copied.table(&to.tables).len(&copy)? {
            return Err(StoreError::Damaged(
                "the copy and the store have different numbers of rows; `weir check` reports details",
            ));
        }
    }
    Ok(())
}

/// Removes every generation except this one.
fn remove_others(path: &Path, number: u64) -> Result<(), StoreError> {
    let error = |path: PathBuf| move |source| StoreError::Io { path, source };
    if number > 0 {
        for name in [LOG_FILE, DATA_FILE, LOCK_FILE] {
            let file = path.join(name);
            if file.exists() {
                std::fs::remove_file(&file).map_err(error(file))?;
            }
        }
    }
    for entry in std::fs::read_dir(path).map_err(error(path.into()))? {
        let entry = entry.map_err(error(path.into()))?;
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| name.strip_prefix("gen-")?.parse::<u64>().ok());
        if other.is_some_and(|other| other != number) {
            std::fs::remove_dir_all(entry.path()).map_err(error(entry.path()))?;
        }
    }
    Ok(())
}
