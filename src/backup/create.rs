//! A run: copies what is new, notes what is gone, and replaces the manifest at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::live::Live;
use super::manifest::{self, Listed, Locked, Manifest};
use super::part::{PartReader, PartWriter, put_record, put_row};
use super::{BackupError, verify};
use crate::nostr::{EventId, Timestamp, hex};
use crate::store::{Seq, Store, TombstoneTable};

/// How long, and for how many bytes, records are gathered in one read transaction.
const SLICE: Duration = Duration::from_millis(40);
const SLICE_BYTES: usize = 4 << 20;

/// Index or tombstone rows that are read in one transaction.
const SLICE_ROWS: usize = 1 << 15;

/// A part is ended when it has so many bytes, so that writing one anew stays a small thing.
const PART_BYTES: u64 = 1 << 30;

/// With more parts than this, small ones side by side are joined.
const MANY_PARTS: usize = 64;

/// What counts as small.
const SMALL_BYTES: u64 = 64 << 20;

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Created {
    /// Records that were added.
    pub added: u64,
    /// Events that the backup holds now.
    pub events: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Runs that made it, this one included.
    pub runs: u64,
}

/// Adds to the backup in `dir`, which is made if need be, what the store has more than it. `progress` is told how many
/// records were copied.
///
/// # Errors
/// When the directory holds something else, or the disk or the store fails; the backup is then what it was before.
pub fn create(
    store: &Store,
    dir: &Path,
    now: Timestamp,
    progress: &mut dyn FnMut(u64),
    stop: &AtomicBool,
) -> Result<Created, BackupError> {
    let before = if dir.exists() { Manifest::read(dir)? } else { None };
    if before.is_none() && dir.exists() {
        manifest::unlisted(dir, None)?;
    }
    let _lock = Locked::new(dir)?;
    let id = hex::encode(&store.writer().store_id()?);
    if let Some(before) = &before {
        is_continued_by(before, store, &id, dir)?;
    }
    remove(manifest::unlisted(dir, before.as_ref())?)?;
    let runs = before.as_ref().map_or(0, |before| before.runs) + 1;
    let last = Seq(before.as_ref().map_or(0, |before| before.last_seq));
    let mut run =
        Run { store, dir, runs, progress, stop, last, last_id: None, added: 0, part: None, records: Vec::new() };
    run.copy_records(None)?;
    let mut live = run.live()?;
    // What took the place of an event while the index was walked is copied as well, so nothing is lost.
    run.copy_records(Some(&mut live))?;
    let tombstones = run.tombstones()?;
    let last_id = match (run.last_id, &before) {
        (Some(id), _) => id.to_string(),
        (None, Some(before)) => before.last_id.clone(),
        (None, None) => String::new(),
    };
    let (last_seq, added, mut new) = (run.last.0, run.added, run.finish()?);
    let mut records = before.as_ref().map_or_else(Vec::new, |before| before.records.clone());
    records.append(&mut new);
    let manifest = Manifest {
        format: manifest::FORMAT,
        store: id,
        secret: hex::encode(&store.secret().0),
        runs,
        created_at: now.0,
        last_seq,
        last_id,
        events: live.len(),
        records: thin_out(dir, runs, records, &live)?,
        live: write_live(dir, runs, &live)?,
        tombstones,
    };
    manifest.write(dir)?;
    remove(manifest::unlisted(dir, Some(&manifest))?)?;
    let bytes = manifest.files().map(|file| file.bytes).sum();
    Ok(Created { added, events: manifest.events, bytes, runs })
}

/// Refuses to add the events of one store to those of another.
fn is_continued_by(before: &Manifest, store: &Store, id: &str, dir: &Path) -> Result<(), BackupError> {
    let snapshot = store.read()?;
    let held = snapshot.get(Seq(before.last_seq))?.map(|event| event.id().to_string());
    let is_same = before.store == id
        && snapshot.last_seq()?.0 >= before.last_seq
        && held.is_none_or(|held| before.last_id.is_empty() || held == before.last_id);
    if is_same { Ok(()) } else { Err(BackupError::OtherStore(dir.into())) }
}

fn remove(files: Vec<std::path::PathBuf>) -> Result<(), BackupError> {
    files.into_iter().try_for_each(|file| std::fs::remove_file(&file).map_err(BackupError::io(&file)))
}

/// A run under way.
struct Run<'a> {
    store: &'a Store,
    dir: &'a Path,
    runs: u64,
    progress: &'a mut dyn FnMut(u64),
    stop: &'a AtomicBool,
    /// The last number that was copied, and the event's id if it was by this run.
    last: Seq,
    last_id: Option<EventId>,
    added: u64,
    part: Option<PartWriter>,
    records: Vec<Listed>,
}

impl Run<'_> {
    /// Copies what has come up to now; adds the numbers to `live`.
    fn copy_records(&mut self, mut live: Option<&mut Live>) -> Result<(), BackupError> {
        self.store.fold()?;
        let until = self.store.read()?.last_seq()?;
        while self.last < until {
            let (bytes, seqs) = self.slice(until)?;
            if seqs.is_empty() {
                return Ok(());
            }
            let part = match &mut self.part {
                Some(part) => part,
                None => {
                    let name = format!("records-{}-{}.weir", self.runs, self.records.len());
                    self.part.insert(PartWriter::new(self.dir, name)?)
                }
            };
            part.records(&bytes, &seqs)?;
            if part.bytes() >= PART_BYTES {
                self.end_part()?;
            }
            if let Some(live) = &mut live {
                seqs.iter().for_each(|seq| live.insert(*seq));
            }
            self.added += seqs.len() as u64;
            (self.progress)(self.added);
        }
        Ok(())
    }

    /// The next records, gathered in one short transaction.
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

    /// Which of the numbers that were copied are held.
    fn live(&self) -> Result<Live, BackupError> {
        let (mut live, mut place) = (Live::default(), Vec::new());
        loop {
            let seqs = self.store.read()?.seqs(&mut place, SLICE_ROWS)?;
            if seqs.is_empty() {
                return Ok(live);
            }
            seqs.into_iter().filter(|seq| *seq <= self.last).for_each(|seq| live.insert(seq));
        }
    }

    fn tombstones(&self) -> Result<Listed, BackupError> {
        let mut part = PartWriter::new(self.dir, format!("tombstones-{}.weir", self.runs))?;
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

fn write_live(dir: &Path, runs: u64, live: &Live) -> Result<Listed, BackupError> {
    let mut part = PartWriter::new(dir, format!("live-{runs}.weir"))?;
    part.rows(&live.to_bytes(), live.len())?;
    part.finish()
}

/// Writes those parts anew, without what is gone, of which most is gone; and joins small ones when there are many.
fn thin_out(dir: &Path, runs: u64, records: Vec<Listed>, live: &Live) -> Result<Vec<Listed>, BackupError> {
    let is_many = records.len() > MANY_PARTS;
    let (mut kept, mut part): (Vec<Listed>, Option<PartWriter>) = (Vec::new(), None);
    for (number, listed) in records.into_iter().enumerate() {
        let held = (listed.first_seq..=listed.last_seq).filter(|seq| live.contains(Seq(*seq))).count() as u64;
        if held * 2 >= listed.rows && !(is_many && listed.bytes < SMALL_BYTES) {
            kept.extend(part.take().map(PartWriter::finish).transpose()?);
            kept.push(listed);
            continue;
        }
        if held == 0 {
            continue;
        }
        let out = match &mut part {
            Some(part) => part,
            None => part.insert(PartWriter::new(dir, format!("records-{runs}-thin-{number}.weir"))?),
        };
        copy_live(dir, &listed, live, out)?;
        if out.bytes() >= PART_BYTES {
            kept.extend(part.take().map(PartWriter::finish).transpose()?);
        }
    }
    kept.extend(part.map(PartWriter::finish).transpose()?);
    Ok(kept)
}

fn copy_live(dir: &Path, listed: &Listed, live: &Live, out: &mut PartWriter) -> Result<(), BackupError> {
    let (mut part, mut last) = (PartReader::open(dir, listed)?, Seq(0));
    while let Some((seq, record)) = part.record(&mut last)? {
        if live.contains(seq) {
            verify::event(&part, &record)?;
            let mut bytes = Vec::new();
            put_record(seq, &record, &mut bytes);
            out.records(&bytes, &[seq])?;
        }
    }
    Ok(())
}
