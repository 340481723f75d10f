//! A store from a backup: tombstones first, then the events through the rules of the store.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::manifest::Manifest;
use super::part::{PartReader, Row};
use super::{BackupError, verify};
use crate::nostr::{Timestamp, VerifiedEvent};
use crate::store::keys::Secret;
use crate::store::{Options, Outcome, Seq, Store, StoreError, Tombstone, TombstoneTable, Writer};

/// Events or tombstones in one commit.
const BATCH: usize = 2048;

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Events that are stored.
    pub stored: u64,
    /// Events that are past their expiration by now.
    pub expired: u64,
    /// Events that were removed or replaced while the backup was made.
    pub superseded: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// Makes a store in `path` from the backup in `dir` and opens it. `progress` is told how many events were read, of
/// how many. The ids of all events are checked on the way, and the hashes of all files; signatures are not.
///
/// # Errors
/// When there is a store already, when the backup is damaged, or when the disk fails: then there is no store.
pub fn restore(
    dir: &Path,
    path: &Path,
    options: Options,
    now: Timestamp,
    progress: &mut dyn FnMut(u64, u64),
    stop: &AtomicBool,
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read_present(dir)?;
    let live = verify::live(dir, &manifest)?;
    let store = Store::begin_restore(path, options, Secret(verify::secret(dir, &manifest)?))?;
    let mut writer = store.writer();
    let tombstones = tombstones(dir, &manifest, &mut writer)?;
    let mut restored = Restored { tombstones, ..Restored::default() };
    let (mut last, mut read, mut batch) = (Seq(0), 0, Vec::with_capacity(BATCH));
    for listed in &manifest.records {
        let mut part = PartReader::open(dir, listed)?;
        while let Some((seq, record)) = part.record(&mut last)? {
            if !live.contains(seq) {
                continue;
            }
            let event = verify::event(&part, &record)?.to_event().expect("its id was compared");
            batch.push((seq, VerifiedEvent::trust(event)));
            read += 1;
            if batch.len() == BATCH {
                commit(&mut writer, &mut batch, now, &mut restored)?;
                progress(read, manifest.events);
                if stop.load(Ordering::Relaxed) {
                    return Err(BackupError::Interrupted);
                }
            }
        }
    }
    commit(&mut writer, &mut batch, now, &mut restored)?;
    if read != manifest.events {
        return Err(BackupError::damaged(&dir.join(&manifest.live.name), "it does not fit the records"));
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

fn tombstones(dir: &Path, manifest: &Manifest, writer: &mut Writer) -> Result<u64, BackupError> {
    let mut part = PartReader::open(dir, &manifest.tombstones)?;
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(row) = part.row()? {
        batch.push(tombstone(&part, row)?);
        if batch.len() == BATCH {
            writer.put_tombstones(&batch)?;
            batch.clear();
        }
    }
    writer.put_tombstones(&batch)?;
    Ok(manifest.tombstones.rows)
}

/// A row of the file as a tombstone.
pub(super) fn tombstone(part: &PartReader<'_>, (head, value): Row) -> Result<Tombstone, BackupError> {
    let row = head.split_first().and_then(|(number, key)| {
        let table = TombstoneTable::ALL.into_iter().find(|table| *table as u8 == *number)?;
        (!key.is_empty()).then(|| Tombstone { table, key: key.to_vec(), value })
    });
    row.ok_or_else(|| part.damaged("a tombstone of no known sort"))
}
