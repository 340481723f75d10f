//! Verifies a backup: every hash, every id and every arrival number. Nothing is changed.

use std::path::Path;

use super::error::BackupError;
use super::manifest::Manifest;
use super::part::PartReader;
use super::seq_set::Growing;
use super::{attached_files, contents};
use crate::nostr::EventView;
use crate::store::Seq;

/// The contents of a verified backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Events of the newest state.
    pub events: u64,
    /// Records of events that the newest state no longer holds.
    pub removed: u64,
    /// Tombstones of the newest state.
    pub tombstones: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// States that can be restored.
    pub states: usize,
}

/// Reads the whole backup and calls `visit` with each event of the newest state, in the order of arrival.
///
/// # Errors
/// At the first fault that it finds.
pub fn verify(dir: &Path, visit: &mut dyn FnMut(Seq, EventView<'_>)) -> Result<Verified, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    let newest = manifest.newest();
    let held_now = contents::held(dir, newest)?;
    let (mut last, mut events, mut removed, mut present) = (Seq(0), 0, 0, Growing::default());
    let mut held_of_newest = held_now.ascending();
    for listed in &manifest.records {
        let mut part = PartReader::open(dir, listed)?;
        while let Some((seq, record)) = part.record(&mut last)? {
            let event = contents::event(&part, &record)?;
            present.push(seq.0..seq.0 + 1);
            if held_of_newest.contains(seq) {
                events += 1;
                visit(seq, event);
            } else {
                removed += 1;
            }
        }
    }
    let present = present.finish();
    for state in &manifest.states {
        if !contents::held(dir, state)?.is_within(&present) {
            return Err(BackupError::damaged(&dir.join(&state.held.name), "it does not match the records"));
        }
        let mut part = PartReader::open(dir, &state.tombstones)?;
        while let Some(row) = part.row()? {
            contents::tombstone(&part, row)?;
        }
        attached_files::read(dir, state)?;
    }
    let (tombstones, states) = (newest.tombstones.rows, manifest.states.len());
    Ok(Verified { events, removed, tombstones, bytes: manifest.bytes(), states })
}
