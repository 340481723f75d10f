//! Is a backup what was written? Every hash, every id, every number; nothing is changed.

use std::path::Path;

use super::live::Live;
use super::manifest::Manifest;
use super::part::PartReader;
use super::{BackupError, restore};
use crate::nostr::{EventView, hex};
use crate::store::Seq;

/// What was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Events that the backup holds.
    pub events: u64,
    /// Records of events that are gone.
    pub gone: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Reads the whole backup and calls `visit` with each event that it holds, in the order of arrival.
///
/// # Errors
/// At the first thing that is wrong.
pub fn verify(dir: &Path, visit: &mut dyn FnMut(Seq, EventView<'_>)) -> Result<Verified, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    let live = live(dir, &manifest)?;
    let (mut last, mut events, mut gone) = (Seq(0), 0, 0);
    for listed in &manifest.records {
        let mut part = PartReader::open(dir, listed)?;
        while let Some((seq, record)) = part.record(&mut last)? {
            let event = event(&part, &record)?;
            if live.contains(seq) {
                events += 1;
                visit(seq, event);
            } else {
                gone += 1;
            }
        }
    }
    let path = dir.join(&manifest.live.name);
    if last.0 > manifest.last_seq || events != manifest.events || live.len() != events {
        return Err(BackupError::damaged(&path, "it does not fit the records"));
    }
    let mut part = PartReader::open(dir, &manifest.tombstones)?;
    while let Some(row) = part.row()? {
        restore::tombstone(&part, row)?;
    }
    let bytes = manifest.files().map(|file| file.bytes).sum();
    Ok(Verified { events, gone, tombstones: manifest.tombstones.rows, bytes })
}

/// Which numbers are held.
pub(super) fn live(dir: &Path, manifest: &Manifest) -> Result<Live, BackupError> {
    let mut part = PartReader::open(dir, &manifest.live)?;
    let bytes = part.rest()?;
    part.compare_hash()?;
    let live = Live::read(&bytes, Seq(manifest.last_seq));
    live.ok_or_else(|| part.damaged("it is no list of arrival numbers"))
}

/// The secret of the store that was backed up.
pub(super) fn secret(dir: &Path, manifest: &Manifest) -> Result<[u8; 16], BackupError> {
    hex::decode(manifest.secret.as_bytes()).ok_or_else(|| BackupError::damaged(dir, "the manifest has no secret"))
}

/// A record as an event whose id is the hash of its content.
pub(super) fn event<'r>(part: &PartReader<'_>, record: &'r [u8]) -> Result<EventView<'r>, BackupError> {
    let event = EventView::from_record(record).filter(|event| event.hash() == event.id());
    event.ok_or_else(|| part.damaged("the id of an event is not the hash of its content"))
}
