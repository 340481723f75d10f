//! Walks that an evictor needs: the oldest events of a kind, the events of one author, authors one after another.
//!
//! Changes nothing, and holds no rules: they are decided above. A walk is resumed by a [`Place`], which stays good
//! when the row it names is gone.

use std::ops::Bound;

use smallvec::SmallVec;

use crate::nostr::{Kind, Pubkey, TagElement, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index, LONGEST, ROW, Row, TIE};
use crate::store::read::snapshot::Snapshot;

/// Whether to go on after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// With the next one.
    Continue,
    /// In another slice; the event was taken.
    Pause,
}

/// A key of an index, from which a walk goes on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(SmallVec<[u8; LONGEST]>);

impl Place {
    /// Before every event of `author` with a kind from `kind` on.
    #[must_use]
    pub fn of_author(author: &Pubkey, kind: Kind) -> Self {
        Self(SmallVec::from_slice(&keys::author_prefix(author, kind)))
    }
}

/// An event as an index has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// The first bytes of its id: of one second, the lowest id is worth most, as NIP-01 has it.
    pub id: [u8; TIE],
    /// Its number.
    pub seq: Seq,
}

const SHORT: StoreError = StoreError::Damaged("an index key is too short");

/// Reads a key of the author or the kind index, which end in the kind and the row.
fn entry(key: &[u8]) -> Result<Entry, StoreError> {
    let row = Row::from_key(key).ok_or(SHORT)?;
    Ok(Entry { kind: kind_of(key).ok_or(SHORT)?, created_at: row.created_at, id: row.id, seq: row.seq })
}

fn kind_of(key: &[u8]) -> Option<Kind> {
    let before_row = key.get(..key.len().checked_sub(ROW)?)?;
    Some(Kind(u16::from_be_bytes(*before_row.last_chunk()?)))
}

impl Snapshot<'_> {
    /// The first kind from `from` on of which there are events.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn next_kind(&self, from: Kind) -> Result<Option<Kind>, StoreError> {
        let table = self.store.inner.tables.index(Index::Kind);
        let found = table.get_greater_than_or_equal_to(&self.txn, &keys::kind_prefix(from))?;
        found.map(|(key, _)| kind_of(key).ok_or(SHORT)).transpose()
    }

    /// Calls `visit` with the events of `kind` that were created before `until`, the oldest first, from behind `after`
    /// on; true when there are no more. On a pause the event that was visited last is named by `after`.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn walk_oldest(
        &self,
        kind: Kind,
        until: Timestamp,
        after: &mut Option<Place>,
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
                *after = Some(Place(SmallVec::from_slice(key)));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first place of the author index at or after `from`, and the author that stands there.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn next_author(&self, from: Option<&Place>) -> Result<Option<(Place, Pubkey)>, StoreError> {
        let table = self.store.inner.tables.index(Index::Author);
        let found = match from {
            Some(place) => table.get_greater_than_or_equal_to(&self.txn, &place.0)?,
            None => table.first(&self.txn)?,
        };
        let Some((key, _)) = found else { return Ok(None) };
        let seq = entry(key)?.seq;
        let event = self.get(seq)?.ok_or(StoreError::Damaged("an index entry has no record"))?;
        let author = event.pubkey();
        Ok(Some((Place::of_author(&author, Kind(0)), author)))
    }

    /// Calls `visit` with the events of `author`, by kind and the newest of each first, from behind `after` on; true
    /// when there are no more. On a pause the event that was visited last is named by `after`.
    ///
    /// Authors whose keys begin alike stand together: the caller looks at the record before it acts on an entry.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn walk_author(
        &self,
        author: &Pubkey,
        after: &mut Place,
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
                *after = Place(SmallVec::from_slice(key));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Calls `visit` with the numbers of the events that name `recipient` in a `p` tag, by kind and the newest of each first.
    ///
    /// Tags are found by a hash: the caller looks at the record before it acts on a number.
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

    /// A place behind every event of `author`.
    #[must_use]
    pub fn behind_author(author: &Pubkey) -> Place {
        let mut key: SmallVec<[u8; LONGEST]> = SmallVec::from_slice(&keys::author_prefix(author, Kind(u16::MAX)));
        key.resize(LONGEST + 1, 0xff);
        Place(key)
    }
}
