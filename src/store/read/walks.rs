//! Index scans for an evictor: the oldest events of a kind, the events of one author, and the authors one by one.
//!
//! Changes nothing and decides nothing: the rules belong to the layers above. A walk resumes from a [`WalkPosition`],
//! which stays valid when the row that it names has been removed.

use std::ops::Bound;

use smallvec::SmallVec;

use crate::nostr::{Kind, Pubkey, TagElement, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, LONGEST, ROW, Row, TIE};
use crate::store::read::snapshot::Snapshot;

/// Whether a walk continues after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Continue with the next event.
    Continue,
    /// Pause: the walk continues in another slice, after this event.
    Pause,
}

/// An index key from which a walk continues.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WalkPosition(SmallVec<[u8; LONGEST]>);

impl WalkPosition {
    /// The place before every event of `author` with kind `kind` or a higher one.
    #[must_use]
    pub fn of_author(author: &Pubkey, kind: Kind) -> Self {
        Self(SmallVec::from_slice(&keys::author_prefix(author, kind)))
    }
}

/// The part of an event that its index key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// The first bytes of its id: among the events of one second, the lowest id comes first (NIP-01).
    pub id: [u8; TIE],
    /// Its arrival number.
    pub seq: Seq,
}

const SHORT: StoreError = StoreError::Damaged("an index key is too short");

/// Reads a key of the author or the kind index. Both end with the kind and the row.
fn entry(key: &[u8]) -> Result<Entry, StoreError> {
    let row = Row::from_key(key).ok_or(SHORT)?;
    Ok(Entry { kind: kind_of(key).ok_or(SHORT)?, created_at: row.created_at, id: row.id, seq: row.seq })
}

fn kind_of(key: &[u8]) -> Option<Kind> {
    let before_row = key.get(..key.len().checked_sub(ROW)?)?;
    Some(Kind(u16::from_be_bytes(*before_row.last_chunk()?)))
}

impl Snapshot<'_> {
    /// The lowest kind, at or above `from`, that has events.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn next_kind(&self, from: Kind) -> Result<Option<Kind>, StoreError> {
        let table = self.store.inner.tables.index(Index::Kind);
        let found = table.get_greater_than_or_equal_to(&self.txn, &keys::kind_prefix(from))?;
        found.map(|(key, _)| kind_of(key).ok_or(SHORT)).transpose()
    }

    /// Calls `visit` with the events of `kind` created before `until`, oldest first, starting after `after`; true when
    /// no more are left. On a pause, `after` names the last event visited.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn walk_oldest(
        &self,
        kind: Kind,
        until: Timestamp,
        after: &mut Option<WalkPosition>,
        mut visit: impl FnMut(Entry) -> Result<Flow, StoreError>,
    ) -> Result<bool, StoreError> {
        let prefix = keys::kind_prefix(kind);
        let behind: SmallVec<[u8; LONGEST]> = match (&*after, kind.0.checked_add(1)) {
            (Some(place), _) => place.0.clone(),
            (None, Some(next)) => SmallVec::from_slice(&keys::kind_prefix(Kind(next))),
            (None, None) => SmallVec::from_slice(&[0xff; LONGEST]),
        };
        let range = (Bound::Included(&prefix[..]), Bound::Excluded(&behind[..]));
        for row in self.store.inner.tables.index(Index::Kind).rev_range(&self.txn, &range)? {
            let (key, _) = row?;
            let entry = entry(key)?;
            if entry.created_at >= until {
                return Ok(true);
            }
            let flow = visit(entry)?;
            if flow == Flow::Pause {
                *after = Some(WalkPosition(SmallVec::from_slice(key)));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first place of the author index at or after `from`, and its author.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn next_author(&self, from: Option<&WalkPosition>) -> Result<Option<(WalkPosition, Pubkey)>, StoreError> {
        let table = self.store.inner.tables.index(Index::Author);
        let found = match from {
            Some(place) => table.get_greater_than_or_equal_to(&self.txn, &place.0)?,
            None => table.first(&self.txn)?,
        };
        let Some((key, _)) = found else { return Ok(None) };
        let seq = entry(key)?.seq;
        let event = self.get(seq)?.ok_or(StoreError::Damaged("an index entry has no record"))?;
        let author = event.pubkey();
        Ok(Some((WalkPosition::of_author(&author, Kind(0)), author)))
    }

    /// Calls `visit` with the events of `author`, by kind and newest first within a kind, starting after `after`; true
    /// when no more are left. On a pause, `after` names the last event visited.
    ///
    /// Authors whose keys have the same first bytes share a range of the index: the caller reads the record before it
    /// acts on an entry.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn walk_author(
        &self,
        author: &Pubkey,
        after: &mut WalkPosition,
        mut visit: impl FnMut(Entry) -> Result<Flow, StoreError>,
    ) -> Result<bool, StoreError> {
        let begin = keys::author_prefix(author, Kind(0));
        let author = &begin[..begin.len() - 2];
        let start = after.0.clone();
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        for row in self.store.inner.tables.index(Index::Author).range(&self.txn, &range)? {
            let (key, _) = row?;
            if !key.starts_with(author) {
                return Ok(true);
            }
            let flow = visit(entry(key)?)?;
            if flow == Flow::Pause {
                *after = WalkPosition(SmallVec::from_slice(key));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The newest event of `author` with this kind.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn newest_of(&self, author: &Pubkey, kind: Kind) -> Result<Option<Seq>, StoreError> {
        let (mut found, mut place) = (None, WalkPosition::of_author(author, kind));
        self.walk_author(author, &mut place, |entry| {
            if entry.kind == kind && self.get(entry.seq)?.is_some_and(|event| event.pubkey() == *author) {
                found = Some(entry.seq);
            }
            Ok(if entry.kind == kind && found.is_none() { Flow::Continue } else { Flow::Pause })
        })?;
        Ok(found)
    }

    /// Whether the store holds an event of `author` of a kind that counts.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn holds_author(&self, author: &Pubkey, counts: impl Fn(Kind) -> bool) -> Result<bool, StoreError> {
        let (mut holds, mut from) = (false, Some(Kind(0)));
        while let Some(kind) = from.take() {
            self.walk_author(author, &mut WalkPosition::of_author(author, kind), |entry| {
                if !counts(entry.kind) {
                    // There may be many of this kind: on to the next one.
                    from = entry.kind.0.checked_add(1).map(Kind);
                    return Ok(Flow::Pause);
                }
                holds = self.get(entry.seq)?.is_some_and(|event| event.pubkey() == *author);
                Ok(if holds { Flow::Pause } else { Flow::Continue })
            })?;
        }
        Ok(holds)
    }

    /// Calls `visit` with the arrival numbers of the events that name `recipient` in a `p` tag, by kind and newest
    /// first within a kind.
    ///
    /// The index finds tags by hash: the caller reads the record before it acts on a number.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn walk_addressed(
        &self,
        recipient: &Pubkey,
        mut visit: impl FnMut(Seq) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = self.store.inner.secret.tag(b'p', TagElement::Hex(&recipient.0));
        for row in self.store.inner.tables.index(Index::Tag).prefix_iter(&self.txn, &prefix)? {
            let (key, _) = row?;
            visit(entry(key)?.seq)?;
        }
        Ok(())
    }

    /// The place after every event of `author`.
    #[must_use]
    pub fn after_author(author: &Pubkey) -> WalkPosition {
        let mut key: SmallVec<[u8; LONGEST]> = SmallVec::from_slice(&keys::author_prefix(author, Kind(u16::MAX)));
        key.resize(LONGEST + 1, 0xff);
        WalkPosition(key)
    }
}
