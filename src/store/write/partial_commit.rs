//! Commits that take as much of a batch as fits below the limits, to the byte.

use crate::nostr::{EventView, Timestamp, VerifiedEvent};
use crate::store::file::full::Full;
use crate::store::format::error::StoreError;
use crate::store::format::keys;
use crate::store::write::outcome::Outcome;
use crate::store::write::size::footprint_of;
use crate::store::write::transaction::{Transaction, Writer};

impl Writer {
    /// Like [`Self::commit`], but never exceeds the limit of used bytes: from the first event on that would, only
    /// deletions and vanish requests are stored. [`Self::commit`] looks at the limits only before a batch. `full` holds
    /// for this batch beside the limits of the store. False when the file found no room for the events that fit, so
    /// that none of them is stored.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_what_fits(
        &mut self,
        batch: &[VerifiedEvent],
        now: Timestamp,
        full: Full,
    ) -> Result<(Vec<Outcome>, bool), StoreError> {
        let needed = footprint_of(batch);
        let committed = self.commit_or_deletions(batch, now, |txn| {
            let (used_bytes, page_bytes) = (txn.used_bytes()?, txn.store.inner.page_bytes_in_use(&txn.txn)?);
            txn.only_deletions = txn.is_full()? || full.is_reached(used_bytes, page_bytes);
            // Below the limit: events that reach it are refused.
            let limit = full.used_bytes.min(txn.store.inner.full().used_bytes);
            let left = limit.saturating_sub(used_bytes).saturating_sub(1);
            txn.allowance = if needed <= left { u64::MAX } else { left };
            Ok(())
        });
        committed.map(|(outcomes, begun)| (outcomes, begun.is_some()))
    }
}

impl Transaction<'_> {
    /// Whether this event would exceed [`Transaction::allowance`].
    pub fn exceeds_allowance(&self, event: EventView<'_>) -> bool {
        let after = || self.tally.footprint().saturating_add_unsigned(keys::footprint(event));
        self.allowance != u64::MAX && u64::try_from(after()).is_ok_and(|after| after > self.allowance)
    }
}
