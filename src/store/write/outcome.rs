//! Evictions that a transaction is asked to make, and the outcome of each event.

use crate::nostr::EventView;
use crate::store::format::keys::Seq;
use crate::store::read::judge::Known;

/// The outcome of one event of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was stored under this number. (A later event of the same batch may have replaced or deleted it.)
    Stored(Seq),
    /// The store already held it.
    Duplicate,
    /// The store holds a newer version, or an equally old one with a lower id (NIP-01).
    Replaced,
    /// Its author deleted it (NIP-09).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
    /// It is past its expiration (NIP-40).
    Expired,
    /// Its kind is never stored (NIP-01).
    Ephemeral,
    /// It is a deletion request, and none of its targets can be its author's (NIP-09).
    InvalidDeletion,
    /// The store has room only for deletions.
    Full,
}

impl Outcome {
    /// The outcome of an event that the store knows; `None` for a new one, which has none until it is stored.
    #[must_use]
    pub const fn of(known: Known) -> Option<Self> {
        match known {
            Known::New => None,
            Known::Stored => Some(Self::Duplicate),
            Known::Deleted => Some(Self::Deleted),
            Known::Vanished => Some(Self::Vanished),
            Known::Superseded => Some(Self::Replaced),
            Known::Expired => Some(Self::Expired),
        }
    }
}

/// The events that a call removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Number of events.
    pub events: u64,
    /// Bytes of their records, without index entries.
    pub bytes: u64,
}

impl Removed {
    pub(in crate::store) fn add(&mut self, event: EventView<'_>) {
        *self += Self { events: 1, bytes: event.record().len() as u64 };
    }
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// The events that an evictor removes in one commit. The store would accept all of them again; refusing some is the
/// evictor's decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted<'a> {
    /// Number of events.
    pub seqs: &'a [Seq],
    /// The evictor's record of how far it has come, for [`Note::Horizons`](crate::store::write::removal::Note); `None`
    /// keeps the last one.
    pub horizons: Option<&'a [u8]>,
}
