//! Removes expired events (NIP-40) and events that the operator or the evictor picks.
//!
//! Works in steps whose size the caller chooses. No result depends on how soon an event is removed: readers check the
//! expiration of each row.

use std::ops::Bound;

use crate::nostr::Timestamp;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, SIX};
use crate::store::read::lookup::{self, OPERATOR};
use crate::store::write::outcome::{Evicted, Removed};
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// A row of the `weir` table that evictors write and read. The store does not interpret it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// How far the rules for bytes have come: see [`Evicted::horizons`].
    Horizons,
    /// Removals that wait for the operator's consent.
    Waiting,
    /// Removals that the operator has accepted.
    Accepted,
    /// The rules that are in force.
    InForce,
}

impl Note {
    const fn key(self) -> &'static [u8] {
        match self {
            Self::Horizons => b"horizons",
            Self::Waiting => b"waiting",
            Self::Accepted => b"accepted",
            Self::InForce => b"in force",
        }
    }
}

impl crate::store::read::snapshot::Snapshot<'_> {
    /// The last value of a note, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn note(&self, note: Note) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.store.inner.tables.meta.get(&self.txn, note.key())?)
    }
}

/// Whether a removed event may be stored again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// It is stored if somebody publishes it again.
    Allowed,
    /// It is refused as deleted.
    Refused,
}

impl Writer {
    /// Evicts these events in one commit.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn evict(&mut self, evicted: Evicted<'_>) -> Result<Removed, StoreError> {
        self.update(|txn| txn.evict(evicted))
    }

    /// Writes a note in one commit; an empty value deletes the note.
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

    /// Removes up to `max_rows` events that have expired at `now`, earliest expiration first. If it removes fewer than
    /// `max_rows`, none are left. Records that all events so far had arrived by `now`.
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

    /// Removes these events in one commit. The caller limits their number. Skips numbers without an event and events
    /// that are already waiting for their removal. The tombstones of a removed deletion request stay.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn remove(&mut self, seqs: &[Seq], back: Return) -> Result<Removed, StoreError> {
        self.update(|txn| txn.remove_all(seqs, back))
    }
}

impl Transaction<'_> {
    fn expired(&self, now: Timestamp, max_rows: usize) -> Result<Vec<Seq>, StoreError> {
        // Events that expire at the maximum time never expire: the index maps later times to it.
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
            // A gift wrap must not be removed without the tombstone that the purge leaves.
            if self.lookup().is_vanished(seq, event)? {
                continue;
            }
            removed.add(event);
            if back == Return::Refused {
                let by = if lookup::is_immune(event.kind()) { OPERATOR } else { event.pubkey() };
                let (id, at) = (event.id(), event.created_at());
                self.put_tombstone(&id, &by, at)?;
            }
            self.remove_record(seq)?;
        }
        self.delete_entries()?;
        Ok(removed)
    }
}
