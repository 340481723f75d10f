//! How much room events need: what limits count, and what a commit may add to the data file. Pure.

use crate::nostr::VerifiedEvent;
use crate::store::format::keys::{self, Index};
use crate::store::read::lookup;

/// Bytes that one index entry may need in the worst case: new copies of its leaf and of the branch above it, and the
/// numbers of the old pages in LMDB's list of free pages.
const ROW_BYTES: u64 = 12 << 10;

/// An estimate of the bytes that a record takes with its index entries, for each byte of the record.
pub(in crate::store) const GROWTH: u64 = 3;

/// The most bytes of new pages that a commit of this many index entries and bytes of records writes.
pub(in crate::store) const fn growth(rows: u64, record_bytes: u64) -> u64 {
    rows * ROW_BYTES + GROWTH * record_bytes
}

/// The footprint of those events of a batch that a full store refuses.
#[must_use]
pub fn footprint_of(batch: &[VerifiedEvent]) -> u64 {
    let needs_room = batch.iter().map(VerifiedEvent::view).filter(|event| !lookup::is_immune(event.kind()));
    needs_room.map(keys::footprint).sum()
}

/// The most bytes by which a commit of this event may make the data file grow, in pages copied and pages added. Most
/// commits need far less.
#[must_use]
pub fn growth_of(event: &VerifiedEvent) -> u64 {
    let event = event.view();
    // One in each index, and one more in that of tags for each tag.
    let rows = Index::ALL.len() + event.tags().indexed().count();
    growth(rows as u64, event.record().len() as u64)
}
