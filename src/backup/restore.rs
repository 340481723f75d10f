//! Creates a store from a backup, in its newest state or in that after an earlier run.
//!
//! The store is built under a temporary name and renamed at the very end: an interrupted restore leaves no store.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::contents;
use super::error::BackupError;
use super::manifest::Manifest;
use super::part::PartReader;
use super::state::State;
use crate::nostr::{Kind, Timestamp, VerifiedEvent};
use crate::store::keys::Secret;
use crate::store::{ArrivalTime, Options, Outcome, Seq, Store, StoreError, Writer};

/// Events or tombstones per commit.
const BATCH: usize = 2048;

/// The state of a backup to restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StateChoice {
    /// The state of the last run.
    #[default]
    Newest,
    /// The state of the newest run that began no later than this.
    AsOf(Timestamp),
    /// The state of this run.
    Run(u64),
}

impl StateChoice {
    /// Looks the state up.
    ///
    /// # Errors
    /// When the backup does not remember it.
    pub fn of(self, manifest: &Manifest) -> Result<&State, BackupError> {
        let mut newest_first = manifest.states.iter().rev();
        match self {
            Self::Newest => Ok(manifest.newest()),
            Self::AsOf(time) => newest_first
                .find(|state| state.created_at <= time.0)
                .ok_or_else(|| BackupError::TooEarly(manifest.states[0].created_at)),
            Self::Run(run) => newest_first.find(|state| state.run == run).ok_or(BackupError::NoSuchRun(run)),
        }
    }
}

/// The result of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Events stored.
    pub stored: u64,
    /// Events left out because they have expired.
    pub expired: u64,
    /// Events left out because they were removed or replaced during the backup run, or since then by their authors.
    pub superseded: u64,
    /// Tombstones stored.
    pub tombstones: u64,
}

/// When the records arrived, in terms of the numbers that they get in the new store.
struct Arrivals {
    /// The rows of the manifest that are left, the oldest last.
    left: Vec<ArrivalTime>,
    rows: Vec<ArrivalTime>,
    next: Seq,
}

impl Arrivals {
    fn new(manifest: &Manifest) -> Self {
        let row = |(by, below): &(u64, u64)| ArrivalTime { by: Timestamp(*by), below: Seq(*below) };
        Self { left: manifest.arrived.iter().rev().map(row).collect(), rows: Vec::new(), next: Seq(1) }
    }

    /// Notes what became of the event that had the number `old`.
    fn add(&mut self, old: Seq, outcome: Outcome) {
        while let Some(row) = self.left.pop_if(|row| row.below <= old) {
            self.rows.push(ArrivalTime { below: self.next, ..row });
        }
        if let Outcome::Stored(seq) = outcome {
            self.next = Seq(seq.0 + 1);
        }
    }

    /// Writes the rows.
    fn put(mut self, writer: &mut Writer) -> Result<(), BackupError> {
        self.add(Seq::MAX, Outcome::Duplicate);
        Ok(writer.put_arrival_times(&self.rows)?)
    }
}

/// Creates a store in `path` from the backup in `dir`. `progress` is called with the number of events read so far. The
/// ids of all events and the hashes of all files are checked, signatures are not.
///
/// For an earlier state, the store holds the events of that run, except those that their authors have deleted since:
/// later deletion requests (NIP-09) and vanish requests (NIP-62) are obeyed. Events that the operator or a retention
/// rule removed since then are restored.
///
/// # Errors
/// When there is a store already, the state is not remembered, the backup is damaged or the disk fails. No store is
/// created then.
pub fn restore(
    dir: &Path,
    path: &Path,
    options: Options,
    (which, now): (StateChoice, Timestamp),
    progress: &mut dyn FnMut(u64),
    stop: &AtomicBool,
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    let state = which.of(&manifest)?;
    let store = Store::begin_restore(path, options, Secret(contents::secret(dir, &manifest)?))?;
    let restored = fill(&store, dir, (&manifest, state, now), progress, stop);
    if restored.is_err() {
        // The error matters more. What cannot be removed now, the next restore removes.
        let _ = store.abandon_restore();
        return restored;
    }
    store.finish_restore()?;
    restored
}

/// Puts a state of the backup into an empty store.
fn fill(
    store: &Store,
    dir: &Path,
    (manifest, state, now): (&Manifest, &State, Timestamp),
    progress: &mut dyn FnMut(u64),
    stop: &AtomicBool,
) -> Result<Restored, BackupError> {
    let (held, newest) = (contents::held(dir, state)?, contents::held(dir, manifest.newest())?);
    let (mut held, mut newest) = (held.ascending(), newest.ascending());
    let mut writer = store.writer();
    let tombstones = tombstones(dir, state, &mut writer)?;
    let mut restored = Restored { tombstones, ..Restored::default() };
    let mut arrivals = Arrivals::new(manifest);
    let is_request = |kind| kind == Kind::DELETION || kind == Kind::VANISH;
    let (mut last, mut read, mut batch) = (Seq(0), 0, Vec::with_capacity(BATCH));
    for listed in &manifest.records {
        let mut part = PartReader::open(dir, listed)?;
        while let Some((seq, record)) = part.record(&mut last)? {
            let is_held = held.contains(seq);
            let is_later = seq.0 > state.last_seq && newest.contains(seq);
            if !is_held && !is_later {
                continue;
            }
            let event = contents::event(&part, &record)?;
            if is_later && !is_request(event.kind()) {
                continue;
            }
            batch.push((seq, VerifiedEvent::trust(event.to_event().expect("its id was compared"))));
            read += u64::from(is_held);
            if batch.len() == BATCH {
                commit(&mut writer, &mut batch, now, &mut restored, &mut arrivals)?;
                progress(read);
                if stop.load(Ordering::Relaxed) {
                    return Err(BackupError::Interrupted);
                }
            }
        }
    }
    commit(&mut writer, &mut batch, now, &mut restored, &mut arrivals)?;
    if read != state.events {
        return Err(BackupError::damaged(&dir.join(&state.held.name), "it does not match the records"));
    }
    arrivals.put(&mut writer)?;
    Ok(restored)
}

fn commit(
    writer: &mut Writer,
    batch: &mut Vec<(Seq, VerifiedEvent)>,
    now: Timestamp,
    restored: &mut Restored,
    arrivals: &mut Arrivals,
) -> Result<(), BackupError> {
    for (outcome, (old, _)) in writer.restore(batch, now)?.into_iter().zip(&*batch) {
        arrivals.add(*old, outcome);
        match outcome {
            Outcome::Stored(_) => restored.stored += 1,
            Outcome::Expired => restored.expired += 1,
            Outcome::Full => return Err(StoreError::Full.into()),
            _ => restored.superseded += 1,
        }
    }
    batch.clear();
    Ok(())
}

fn tombstones(dir: &Path, state: &State, writer: &mut Writer) -> Result<u64, BackupError> {
    let mut part = PartReader::open(dir, &state.tombstones)?;
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(row) = part.row()? {
        batch.push(contents::tombstone(&part, row)?);
        if batch.len() == BATCH {
            writer.put_tombstones(&batch)?;
            batch.clear();
        }
    }
    writer.put_tombstones(&batch)?;
    Ok(state.tombstones.rows)
}
