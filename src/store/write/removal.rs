//! Removing what is past its expiration (NIP-40), and what the operator or the evictor picks.
//!
//! In steps that the caller bounds. Nothing hangs on how soon: readers check the expiration of each row.

use std::ops::Bound;

use crate::nostr::Timestamp;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, SIX};
use crate::store::read::lookup::{self, OPERATOR};
use crate::store::write::outcome::{Evicted, Removed};
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// A row of the `weir` table that evictors write and read; the store does not look into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// How far the rules for bytes have come: see [`Evicted::horizons`].
    Horizons,
    /// What the relay waits to remove.
    Waiting,
    /// What the operator accepted to be removed.
    Accepted,
}

impl Note {
    const fn key(self) -> &'static [u8] {
        match self {
            Self::Horizons => b"horizons",
            Self::Waiting => b"waiting",
            Self::Accepted => b"accepted",
        }
    }
}

impl crate::store::read::snapshot::Snapshot<'_> {
    /// What was noted last, if anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn note(&self, note: Note) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.store.inner.tables.meta.get(&self.txn, note.key())?)
    }
}

/// Whether a removed event may come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// It is stored again when somebody publishes it again.
    Allowed,
    /// It is refused as deleted.
    Refused,
}

impl Writer {
    /// Removes these events in one commit, as [`Self::remove`] does.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn evict(&mut self, evicted: Evicted<'_>) -> Result<Removed, StoreError> {
        self.update(|txn| txn.evict(evicted))
    }

    /// Notes something in one commit; an empty row takes the note back.
    ///
    /// # Errors
    /// When the commit fails.
    pub fn put_note(&mut self, note: Note, row: &[u8]) -> Result<(), StoreError> {
        self.update(|txn| {
            let meta = txn.store.inner.tables.meta;
            if row.is_empty() {
                meta.delete(&mut txn.txn, note.key())?;
            } else {
                meta.put(&mut txn.txn, note.key(), row)?;
            }
            Ok(())
        })
    }

    /// Removes up to `max_rows` events that are past their expiration at `now`, earliest first. Fewer removed
    /// than `max_rows` means that none are left. Notes that what has arrived did so by `now`.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn reap_expired(&mut self, now: Timestamp, max_rows: usize) -> Result<Removed, StoreError> {
        self.update(|txn| {
            txn.note_arrivals(now)?;
            let expired = txn.expired(now, max_rows)?;
            let mut removed = Removed::default();
            for seq in expired {
                removed.add(txn.held(seq)?);
                txn.remove(seq)?;
            }
            Ok(removed)
        })
    }

    /// Removes these events in one commit. The caller bounds how many. Skipped are numbers that hold none and
    /// events that already wait for their removal. What deletion requests keep out stays out without them.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn remove(&mut self, seqs: &[Seq], back: Return) -> Result<Removed, StoreError> {
        self.update(|txn| txn.remove_all(seqs, back))
    }
}

impl Transaction<'_> {
    fn expired(&self, now: Timestamp, max_rows: usize) -> Result<Vec<Seq>, StoreError> {
        // Whatever expires at the very end of time never does: the index holds later times as that.
        let last = now.0.min(Timestamp::MAX.0 - 1);
        let end = keys::six(last + 1);
        let table = self.store.inner.tables.index(Index::Expiration);
        let mut expired = Vec::new();
        for row in table.range(&self.txn, &(Bound::Unbounded, Bound::Excluded(&end[..])))?.take(max_rows) {
            let (key, _) = row?;
            let seq = key.get(SIX..).and_then(keys::read_six);
            expired.push(Seq(seq.ok_or(StoreError::Damaged("a key of the expiration index is too short"))?));
        }
        Ok(expired)
    }

    /// See [`Writer::evict`].
    pub fn evict(&mut self, evicted: Evicted<'_>) -> Result<Removed, StoreError> {
        if let Some(row) = evicted.horizons {
            self.store.inner.tables.meta.put(&mut self.txn, Note::Horizons.key(), row)?;
        }
        self.remove_all(evicted.seqs, Return::Allowed)
    }

    fn remove_all(&mut self, seqs: &[Seq], back: Return) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable();
        for seq in seqs {
            let Some(event) = self.lookup().get(seq)? else { continue };
            // A gift wrap must not go without the tombstone that the purge leaves.
            if self.lookup().is_vanished(seq, event)? {
                continue;
            }
            removed.add(event);
            if back == Return::Refused {
                let by = if lookup::is_immune(event.kind()) { OPERATOR } else { event.pubkey() };
                let (id, at) = (event.id(), event.created_at());
                self.put_tombstone(&id, &by, at)?;
            }
            self.take_out(seq)?;
        }
        self.delete_entries()?;
        Ok(removed)
    }
}
