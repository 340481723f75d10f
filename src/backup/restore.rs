//! Makes a store from a backup, as it is now or as it was after an earlier run.
//!
//! The store is written aside and takes its name at the very end: cut off, there is no store.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::contents;
use super::error::BackupError;
use super::manifest::Manifest;
use super::part::PartReader;
use super::state::State;
use crate::nostr::{Kind, Timestamp, VerifiedEvent};
use crate::store::keys::Secret;
use crate::store::{Options, Outcome, Seq, Store, StoreError, Writer};

/// Events or tombstones in one commit.
const BATCH: usize = 2048;

/// Which state of a backup is restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Which {
    /// That of the last run.
    #[default]
    Newest,
    /// That of the newest run that began no later.
    AsOf(Timestamp),
    /// That of this run.
    Run(u64),
}

impl Which {
    /// The state that is meant.
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

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Events that are stored.
    pub stored: u64,
    /// Events that are past their expiration by now.
    pub expired: u64,
    /// Events that were removed or replaced while the backup was made, or by their authors since.
    pub superseded: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// Makes a store in `path` from the backup in `dir`. `progress` is told how many events were read. The ids of all events
/// are checked on the way, and the hashes of all files; signatures are not.
///
/// Of an earlier state the store holds what that run held, less what its authors have deleted since: later deletion
/// requests (NIP-09) and requests to vanish (NIP-62) are obeyed too. What the operator or a retention rule removed
/// since comes back.
///
/// # Errors
/// When there is a store already, when the state is not remembered, when the backup is damaged, or when the disk fails: then
/// there is no store.
pub fn restore(
    dir: &Path,
    path: &Path,
    options: Options,
    (which, now): (Which, Timestamp),
    progress: &mut dyn FnMut(u64),
    stop: &AtomicBool,
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    let state = which.of(&manifest)?;
    let (held, newest) = (contents::held(dir, state)?, contents::held(dir, manifest.newest())?);
    let store = Store::begin_restore(path, options, Secret(contents::secret(dir, &manifest)?))?;
    let mut writer = store.writer();
    let tombstones = tombstones(dir, state, &mut writer)?;
    let mut restored = Restored { tombstones, ..Restored::default() };
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
                commit(&mut writer, &mut batch, now, &mut restored)?;
                progress(read);
                if stop.load(Ordering::Relaxed) {
                    return Err(BackupError::Interrupted);
                }
            }
        }
    }
    commit(&mut writer, &mut batch, now, &mut restored)?;
    if read != state.events {
        return Err(BackupError::damaged(&dir.join(&state.held.name), "it does not fit the records"));
    }
    store.settle()?;
    Ok(restored)
}

fn commit(
    writer: &mut Writer,
    batch: &mut Vec<(Seq, VerifiedEvent)>,
    now: Timestamp,
    restored: &mut Restored,
) -> Result<(), BackupError> {
    for outcome in writer.restore(batch, now)? {
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
