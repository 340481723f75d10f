//! A backup run: copies new events, records which ones are gone, and replaces the manifest at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attached_files::{self, AttachedFile};
use super::error::BackupError;
use super::file::Listed;
use super::manifest::{self, Locked, Manifest};
use super::part::{PartWriter, put_record, put_row};
use super::seq_set::{Bits, SeqSet};
use super::state::{State, remembered};
use super::{contents, rewrite};
use crate::nostr::{EventId, Timestamp, hex};
use crate::store::{Seq, Store, TombstoneTable};

/// The limits of one read transaction: time, and bytes of records.
const SLICE: Duration = Duration::from_millis(40);
const SLICE_BYTES: usize = 4 << 20;

/// Index or tombstone rows read in one transaction.
const SLICE_ROWS: usize = 1 << 15;

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// Records added.
    pub added: u64,
    /// Events in the backup now.
    pub events: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// The number of the run, from 1.
    pub run: u64,
}

/// Adds the store's new events to the backup in `dir`, which is created if missing. Events that the store no longer
/// holds stay in the backup for `keep_removed_s` seconds. `beside` reads the files to attach, once the events are
/// copied: so whatever they say of events is not older than these. `progress` is called with the number of records
/// copied so far.
///
/// # Errors
/// When the directory holds something else, or the disk or the store fails; the backup is then unchanged.
pub fn create(
    store: &Store,
    dir: &Path,
    now: Timestamp,
    keep_removed_s: u64,
    beside: &mut dyn FnMut() -> Result<Vec<AttachedFile>, BackupError>,
    progress: &mut dyn FnMut(u64),
    stop: &AtomicBool,
) -> Result<Created, BackupError> {
    let before = if dir.exists() { Manifest::read(dir)? } else { None };
    if before.is_none() && dir.exists() {
        manifest::unlisted(dir, None)?;
    }
    let _lock = Locked::new(dir)?;
    let id = hex::encode(&store.read()?.store_id()?);
    if let Some(before) = &before {
        check_same_store(before, store, &id, dir)?;
    }
    remove(manifest::unlisted(dir, before.as_ref())?)?;
    let number = before.as_ref().map_or(0, |before| before.newest().run) + 1;
    let last = Seq(before.as_ref().map_or(0, |before| before.newest().last_seq));
    let mut run =
        Run { store, dir, number, progress, stop, last, last_id: None, added: 0, part: None, records: vec![] };
    run.copy_records(None)?;
    let (mut held, tombstones) = (run.held()?, run.tombstones()?);
    // Events that replaced or deleted others during these walks are copied too. So whatever is missing, or kept out by
    // a tombstone, is so because of an event in this backup.
    run.copy_records(Some(&mut held))?;
    let held = held.finish();
    let state = State {
        run: number,
        created_at: now.0,
        last_seq: run.last.0,
        events: held.len(),
        held: write_held(dir, number, &held)?,
        tombstones,
        attached: attached_files::write(dir, number, &beside()?)?,
    };
    let (added, last_id, mut new) = (run.added, run.last_id, run.finish()?);
    let mut manifest = before.unwrap_or_else(|| Manifest {
        format: manifest::FORMAT,
        store: id,
        secret: hex::encode(&store.secret().0),
        last_id: String::new(),
        records: Vec::new(),
        arrived: Vec::new(),
        states: Vec::new(),
    });
    manifest.last_id = last_id.map_or(manifest.last_id, |id| id.to_string());
    let arrived = store.read()?.arrival_times()?;
    manifest.arrived = arrived.iter().map(|row| (row.by.0, row.below.0)).collect();
    manifest.records.append(&mut new);
    manifest.states.push(state);
    commit(dir, &mut manifest, now, keep_removed_s, rewrite::RewriteWhen::HalfIsUnused)?;
    Ok(Created { added, events: manifest.newest().events, bytes: manifest.bytes(), run: number })
}

/// The result of [`prune`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pruned {
    /// Bytes of all files before pruning.
    pub before: u64,
    /// Bytes of all files after pruning.
    pub after: u64,
    /// Remembered states.
    pub states: usize,
}

/// Drops events that the store removed more than `keep_removed_s` seconds ago, and frees their space.
///
/// # Errors
/// When there is no backup, or the disk fails; the backup is then unchanged.
pub fn prune(dir: &Path, now: Timestamp, keep_removed_s: u64) -> Result<Pruned, BackupError> {
    Manifest::read_present(dir)?;
    let _lock = Locked::new(dir)?;
    // Read it again, now that no run can change it.
    let mut manifest = Manifest::read_present(dir)?;
    let before = manifest.bytes();
    commit(dir, &mut manifest, now, keep_removed_s, rewrite::RewriteWhen::AnyIsUnused)?;
    Ok(Pruned { before, after: manifest.bytes(), states: manifest.states.len() })
}

/// Forgets old states, rewrites parts that only they needed, and replaces the manifest.
fn commit(
    dir: &Path,
    manifest: &mut Manifest,
    now: Timestamp,
    keep_removed_s: u64,
    when: rewrite::RewriteWhen,
) -> Result<(), BackupError> {
    manifest.states = remembered(std::mem::take(&mut manifest.states), now, keep_removed_s);
    share_equal_files(&mut manifest.states);
    let needed = needed(dir, manifest)?;
    manifest.records =
        rewrite::parts(dir, manifest.newest().run, std::mem::take(&mut manifest.records), &needed, when)?;
    manifest.write(dir)?;
    remove(manifest::unlisted(dir, Some(manifest))?)
}

/// Makes states share files with equal contents, such as those of two runs between which nothing was removed.
fn share_equal_files(states: &mut [State]) {
    for later in 1..states.len() {
        let (before, after) = states.split_at_mut(later);
        let (before, after) = (&before[later - 1], &mut after[0]);
        for (old, new) in [(&before.held, &mut after.held), (&before.tombstones, &mut after.tombstones)] {
            if old.sha256 == new.sha256 && old.bytes == new.bytes {
                new.clone_from(old);
            }
        }
        if let (Some(old), Some(new)) = (&before.attached, &mut after.attached)
            && old.sha256 == new.sha256
            && old.bytes == new.bytes
        {
            new.clone_from(old);
        }
    }
}

/// The arrival numbers that any state holds.
fn needed(dir: &Path, manifest: &Manifest) -> Result<SeqSet, BackupError> {
    let mut needed = SeqSet::default();
    for state in &manifest.states {
        needed = needed.joined(&contents::held(dir, state)?);
    }
    Ok(needed)
}

/// Refuses to add the events of another store, or of an earlier state of this one.
fn check_same_store(before: &Manifest, store: &Store, id: &str, dir: &Path) -> Result<(), BackupError> {
    let snapshot = store.read()?;
    let last_seq = before.newest().last_seq;
    let held = snapshot.get(Seq(last_seq))?.map(|event| event.id().to_string());
    let is_same = before.store == id
        && snapshot.last_seq()?.0 >= last_seq
        && held.is_none_or(|held| before.last_id.is_empty() || held == before.last_id);
    if is_same { Ok(()) } else { Err(BackupError::OtherStore(dir.into())) }
}

fn remove(files: Vec<std::path::PathBuf>) -> Result<(), BackupError> {
    files.into_iter().try_for_each(|file| std::fs::remove_file(&file).map_err(BackupError::io(&file)))
}

/// A run in progress.
struct Run<'a> {
    store: &'a Store,
    dir: &'a Path,
    number: u64,
    progress: &'a mut dyn FnMut(u64),
    stop: &'a AtomicBool,
    /// The last arrival number copied, and the id of that event if this run copied it.
    last: Seq,
    last_id: Option<EventId>,
    added: u64,
    part: Option<PartWriter>,
    records: Vec<Listed>,
}

impl Run<'_> {
    /// Copies all events that have arrived so far, and adds their numbers to `held`.
    fn copy_records(&mut self, mut held: Option<&mut Bits>) -> Result<(), BackupError> {
        self.store.checkpoint()?;
        let until = self.store.read()?.last_seq()?;
        while self.last < until {
            let (bytes, seqs) = self.slice(until)?;
            if seqs.is_empty() {
                return Ok(());
            }
            let part = match &mut self.part {
                Some(part) => part,
                None => {
                    let name = format!("records-{}-{}.weir", self.number, self.records.len());
                    self.part.insert(PartWriter::new(self.dir, name)?)
                }
            };
            part.records(&bytes, &seqs)?;
            if part.is_large() {
                self.end_part()?;
            }
            if let Some(held) = &mut held {
                seqs.iter().for_each(|seq| held.insert(*seq));
            }
            self.added += seqs.len() as u64;
            (self.progress)(self.added);
        }
        Ok(())
    }

    /// Reads the next records in one short transaction.
    fn slice(&mut self, until: Seq) -> Result<(Vec<u8>, Vec<Seq>), BackupError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(BackupError::Interrupted);
        }
        let (mut bytes, mut seqs) = (Vec::with_capacity(SLICE_BYTES), Vec::new());
        let snapshot = self.store.read()?;
        let started = Instant::now();
        for row in snapshot.after(self.last)? {
            let (seq, event) = row?;
            if seq > until {
                break;
            }
            put_record(seq, event.record(), &mut bytes);
            seqs.push(seq);
            (self.last, self.last_id) = (seq, Some(event.id()));
            if bytes.len() >= SLICE_BYTES || started.elapsed() >= SLICE {
                break;
            }
        }
        Ok((bytes, seqs))
    }

    /// The copied arrival numbers that the store still holds.
    fn held(&self) -> Result<Bits, BackupError> {
        let (mut held, mut place) = (Bits::default(), Vec::new());
        loop {
            let seqs = self.store.read()?.seqs(&mut place, SLICE_ROWS)?;
            if seqs.is_empty() {
                return Ok(held);
            }
            seqs.into_iter().filter(|seq| *seq <= self.last).for_each(|seq| held.insert(seq));
        }
    }

    fn tombstones(&self) -> Result<Listed, BackupError> {
        let mut part = PartWriter::new(self.dir, format!("tombstones-{}.weir", self.number))?;
        for table in TombstoneTable::ALL {
            let mut after = Vec::new();
            loop {
                let rows = self.store.read()?.tombstones(table, &after, SLICE_ROWS)?;
                let Some(last) = rows.last() else { break };
                after.clone_from(&last.key);
                let mut bytes = Vec::new();
                for row in &rows {
                    let head: Vec<u8> = [&[row.table as u8], &row.key[..]].concat();
                    put_row(&head, &row.value, &mut bytes);
                }
                part.rows(&bytes, rows.len() as u64)?;
            }
        }
        part.finish()
    }

    fn end_part(&mut self) -> Result<(), BackupError> {
        if let Some(part) = self.part.take() {
            self.records.push(part.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Listed>, BackupError> {
        self.end_part()?;
        Ok(self.records)
    }
}

fn write_held(dir: &Path, run: u64, held: &SeqSet) -> Result<Listed, BackupError> {
    let mut part = PartWriter::new(dir, format!("held-{run}.weir"))?;
    part.rows(held.to_bytes(), held.len())?;
    part.finish()
}
