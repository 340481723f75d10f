//! Requests to vanish (NIP-62): their events are hidden at once, removed in steps, and never stored again.
//!
//! A request writes two rows. The row in `vanished` stays forever and keeps out the author's events up to the request's
//! `created_at`. The row in `purge` stays until every event that the request covers is removed; readers hide these
//! events in the meantime. Its cursor says where the removal continues, even after a restart.
//!
//! Gift wraps to the author have random authors and dates up to two days back, so arrival decides: the purge removes
//! wraps with numbers up to the request's and leaves a tombstone for each id. A wrap that the store never held is kept
//! out only if its date proves that it is older than the request.
//!
//! The purge keeps vanish requests, as proof. It removes the author's deletion requests but keeps their tombstones.

use std::ops::Bound;

use heed::RwTxn;

use crate::nostr::{EventView, Kind, Pubkey, TagElement};
use crate::store::file::journal::Noted;
use crate::store::file::schema::Tables;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, LONGEST, PREFIX, ROW, Row};
use crate::store::read::lookup::Vanish;
use crate::store::write::transaction::Transaction;
use crate::store::write::transaction::Writer;

/// The events that a purge is removing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The author's events, by the author index.
    Own = 0,
    /// Gift wraps to the author, by the tag index.
    Wraps = 1,
}

/// A row of the purge table.
struct Purge {
    author: Pubkey,
    vanish: Vanish,
    stage: Stage,
    /// The last key visited, or the prefix of the keys where the stage begins.
    cursor: Vec<u8>,
}

impl Purge {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let author = Pubkey(key.try_into().ok()?);
        let vanish = Vanish::read(value)?;
        let (&stage, cursor) = value.get(Vanish::LEN..)?.split_first()?;
        let stage = if stage == Stage::Own as u8 { Stage::Own } else { Stage::Wraps };
        Some(Self { author, vanish, stage, cursor: cursor.to_vec() })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.vanish.to_bytes().to_vec();
        bytes.push(self.stage as u8);
        bytes.extend_from_slice(&self.cursor);
        bytes
    }
}

impl Transaction<'_> {
    /// Applies a vanish request that was stored under the number `seq`. A request no newer than the last one
    /// changes nothing, so nobody can replay it to remove events that arrived since.
    pub fn vanish(&mut self, request: EventView<'_>, seq: Seq) -> Result<(), StoreError> {
        let author = request.pubkey();
        let vanish = Vanish { until: request.created_at(), seq };
        if self.lookup().vanish(&author)?.is_some_and(|before| before.until >= vanish.until) {
            return Ok(());
        }
        self.put_row(Noted::Vanished, &author.0, &vanish.to_bytes())?;
        let cursor = keys::prefix(&author.0).to_vec();
        let purge = Purge { author, vanish, stage: Stage::Own, cursor };
        self.put_row(Noted::Purge, &author.0, &purge.to_bytes())
    }

    /// Visits up to `max_rows` rows of the first purge. True when more is left to do.
    fn purge(&mut self, max_rows: usize) -> Result<bool, StoreError> {
        let tables = &self.store.inner.tables;
        let Some((key, value)) = tables.purge.first(&self.txn)? else { return Ok(false) };
        let mut purge = Purge::read(key, value).ok_or(StoreError::Damaged("a row of the purge table"))?;
        let (last, covered) = self.covered(&purge, max_rows)?;
        for seq in covered {
            if purge.stage == Stage::Wraps {
                let id = self.held(seq)?.id();
                self.put_tombstone(&id, &purge.author, purge.vanish.until)?;
            }
            self.remove(seq)?;
        }
        match (last, purge.stage) {
            (Some(last), _) => purge.cursor = last,
            (None, Stage::Own) => {
                purge.stage = Stage::Wraps;
                purge.cursor = wraps_prefix(self, &purge.author).to_vec();
            }
            (None, Stage::Wraps) => {
                self.delete_row(Noted::Purge, &purge.author.0)?;
                return Ok(!tables.purge.is_empty(&self.txn)?);
            }
        }
        self.put_row(Noted::Purge, &purge.author.0, &purge.to_bytes())?;
        Ok(true)
    }

    /// The next events that the purge covers, and the last key visited; `None` when the stage is complete.
    fn covered(&self, purge: &Purge, max_rows: usize) -> Result<(Option<Vec<u8>>, Vec<Seq>), StoreError> {
        let author = keys::prefix(&purge.author.0);
        let wraps = wraps_prefix(self, &purge.author);
        let (index, prefix) = match purge.stage {
            Stage::Own => (Index::Author, &author[..]),
            Stage::Wraps => (Index::Tag, &wraps[..]),
        };
        let range = (Bound::Excluded(&purge.cursor[..]), Bound::Unbounded);
        let mut covered = Vec::new();
        let mut last = None;
        let rows = self.store.inner.tables.index(index).range(&self.txn, &range)?;
        for (visited, row) in rows.enumerate() {
            let (key, _) = row?;
            if !key.starts_with(prefix) {
                return Ok((None, covered));
            }
            if visited == max_rows {
                return Ok((last, covered));
            }
            let seq = Row::from_key(key).ok_or(StoreError::Damaged("an index key is too short"))?.seq;
            if is_covered(purge, seq, self.held(seq)?) {
                covered.push(seq);
            }
            last = Some(key.to_vec());
        }
        Ok((None, covered))
    }
}

/// Restarts every purge, for example after an upgrade changed the index keys. A purge skips events that are already
/// removed.
pub(in crate::store) fn restart_purges(tables: &Tables, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
    const WRONG: StoreError = StoreError::Damaged("a row of the purge table");
    let mut purges = Vec::new();
    for row in tables.purge.iter(txn)? {
        let (key, value) = row?;
        let Purge { author, vanish, .. } = Purge::read(key, value).ok_or(WRONG)?;
        purges.push(Purge { author, vanish, stage: Stage::Own, cursor: keys::prefix(&author.0).to_vec() });
    }
    for purge in purges {
        tables.purge.put(txn, &purge.author.0, &purge.to_bytes())?;
    }
    Ok(())
}

/// The prefix of the keys of gift wraps to an author in the tag index.
fn wraps_prefix(txn: &Transaction<'_>, author: &Pubkey) -> [u8; PREFIX + 2] {
    keys::tag_prefix(txn.store.inner.secret.tag(b'p', TagElement::Hex(&author.0)), Kind::GIFT_WRAP)
}

fn is_covered(purge: &Purge, seq: Seq, event: EventView<'_>) -> bool {
    match purge.stage {
        Stage::Own => {
            let is_own = event.pubkey() == purge.author && event.kind() != Kind::VANISH;
            is_own && event.created_at() <= purge.vanish.until
        }
        Stage::Wraps => {
            let is_to_author = crate::store::read::lookup::recipients(event).any(|recipient| recipient == purge.author);
            is_to_author && seq <= purge.vanish.seq
        }
    }
}

const _: () = assert!(LONGEST == PREFIX + 2 + ROW, "a cursor is a key of the author or the tag index");

impl Writer {
    /// Continues the first purge: visits up to `max_rows` rows in one commit. True when more is left to do. Readers
    /// hide the events that are left, so no result depends on how soon this happens.
    ///
    /// # Errors
    /// When the commit fails; then nothing was removed.
    pub fn purge_vanished(&mut self, max_rows: usize) -> Result<bool, StoreError> {
        self.update(|txn| txn.purge(max_rows.max(1)))
    }
}
