//! Decodes the files of a backup: lists of arrival numbers, records, tombstones. Everything that is read is checked.

use std::path::Path;

use super::error::BackupError;
use super::manifest::Manifest;
use super::part::{PartReader, Row};
use super::seq_set::{SeqDecoder, SeqSet};
use super::state::State;
use crate::nostr::{EventView, hex};
use crate::store::{Seq, Tombstone, TombstoneTable};

/// The arrival numbers that a state holds.
pub(super) fn held(dir: &Path, state: &State) -> Result<SeqSet, BackupError> {
    let (mut part, mut reading) = (PartReader::open(dir, &state.held)?, SeqDecoder::new(Seq(state.last_seq)));
    while let Some(piece) = part.piece()? {
        reading.take(&piece).map_err(|what| part.damaged(what))?;
    }
    reading.finish(state.events).map_err(|what| part.damaged(what))
}

/// The secret of the store that the backup was made from.
pub(super) fn secret(dir: &Path, manifest: &Manifest) -> Result<[u8; 16], BackupError> {
    hex::decode(manifest.secret.as_bytes()).ok_or_else(|| BackupError::damaged(dir, "the manifest holds no secret"))
}

/// Decodes a record into an event and checks its id.
pub(super) fn event<'r>(part: &PartReader<'_>, record: &'r [u8]) -> Result<EventView<'r>, BackupError> {
    let event = EventView::from_record(record).filter(|event| event.hash() == event.id());
    event.ok_or_else(|| part.damaged("the id of an event is not the hash of its content"))
}

/// Decodes a row into a tombstone.
pub(super) fn tombstone(part: &PartReader<'_>, (head, value): Row) -> Result<Tombstone, BackupError> {
    let row = head.split_first().and_then(|(number, key)| {
        let table = TombstoneTable::ALL.into_iter().find(|table| *table as u8 == *number)?;
        let is_possible = key.len() == table.key_bytes() && value.len() <= TombstoneTable::MOST_VALUE_BYTES;
        is_possible.then(|| Tombstone { table, key: key.to_vec(), value })
    });
    row.ok_or_else(|| part.damaged("it holds a tombstone of unknown type"))
}
