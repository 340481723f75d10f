//! Remembers which events a commit removes, in the same commit: see [`crate::store::read::remembered_removals`].
//!
//! The store remembers a quarter as many removals as it holds events, at least [`LEAST`] and at most [`MOST`]. So they
//! take at most 3 % of the room that the events take, and whoever was away for longer reads a store that is not much
//! larger than what it missed.

use crate::store::file::journal::Noted;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::read::remembered_removals;
use crate::store::write::transaction::Transaction;

/// Removals that the smallest store remembers.
const LEAST: u64 = 1 << 10;

/// Removals that the largest store remembers: about 60 MB.
const MOST: u64 = 1 << 20;

/// Events held for each removal that is remembered.
const EVENTS_EACH: u64 = 4;

/// Removals that one commit forgets besides twice as many as it adds, so that a store that has become small forgets
/// them in small steps.
const STEP: u64 = 64;

impl Transaction<'_> {
    /// The pages that [`Self::remember_removals`] may write, in index entries. Neighbours share a page.
    pub fn rows_of_removals(&self) -> usize {
        let removals = self.removals.len();
        if removals == 0 { 0 } else { 4 + removals / 16 }
    }

    /// Writes the removals of this transaction, whose new events are put, and forgets the first ones.
    pub fn remember_removals(&mut self) -> Result<(), StoreError> {
        let removals = std::mem::take(&mut self.removals);
        if removals.is_empty() {
            return Ok(());
        }
        let (removed, event) = (self.store.inner.tables.removed, self.store.inner.tables.event);
        let last = remembered_removals::ends(removed, &self.txn)?.map_or(0, |(_, last)| last);
        for (number, (seq, id)) in (last + 1..).zip(&removals) {
            self.put_row(Noted::Removed, &keys::six(number), &remembered_removals::value(*seq, id))?;
        }
        let kept = (event.len(&self.txn)? / EVENTS_EACH).clamp(LEAST, MOST);
        let excess = removed.len(&self.txn)?.saturating_sub(kept).min(2 * removals.len() as u64 + STEP);
        let gone = removed.iter(&self.txn)?.take(excess as usize);
        let gone = gone.map(|row| Ok(row?.0.to_vec())).collect::<Result<Vec<_>, StoreError>>()?;
        gone.iter().try_for_each(|key| self.delete_row(Noted::Removed, key))
    }

    /// Forgets every removal, because one cannot be recorded: every reader must start over. No copy of the store may be
    /// under way.
    pub fn forget_removals(&mut self) -> Result<(), StoreError> {
        let removed = self.store.inner.tables.removed;
        let last = remembered_removals::ends(removed, &self.txn)?.map_or(0, |(_, last)| last);
        removed.clear(&mut self.txn)?;
        // A number is left out, so whoever was told the last one learns that something is missing.
        Ok(removed.put(&mut self.txn, &keys::six(last + 2), &[])?)
    }
}
