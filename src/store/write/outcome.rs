//! What a transaction is asked to remove, and what became of each event.

use crate::nostr::EventView;
use crate::store::format::keys::Seq;
use crate::store::read::judge::Known;

/// What became of one event of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is stored under this number (and may have been replaced or deleted since, by the same batch).
    Stored(Seq),
    /// It was held already.
    Duplicate,
    /// A newer version is held, or one as old with a lower id (NIP-01).
    Replaced,
    /// Its author deleted it (NIP-09).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
    /// It is past its expiration (NIP-40).
    Expired,
    /// Its kind is never stored (NIP-01).
    Ephemeral,
    /// A deletion request that names nothing its author could delete (NIP-09).
    InvalidDeletion,
    /// There is no room left but for deletions.
    Full,
}

impl From<Known> for Outcome {
    /// What becomes of an event that the store knows. A new one has no outcome yet: it counts as held.
    fn from(known: Known) -> Self {
        match known {
            Known::New | Known::Stored => Self::Duplicate,
            Known::Deleted => Self::Deleted,
            Known::Vanished => Self::Vanished,
            Known::Superseded => Self::Replaced,
            Known::Expired => Self::Expired,
        }
    }
}

/// What a removal removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Events.
    pub events: u64,
    /// Their records, in bytes; index entries come on top.
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

/// What an evictor removes in one commit. It may all come back: what is not to come back yet is the evictor's to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted<'a> {
    /// Events.
    pub seqs: &'a [Seq],
    /// The evictor's own record of how far it has come, for [`Note::Horizons`](crate::store::write::removal::Note); `None` leaves the last.
    pub horizons: Option<&'a [u8]>,
}
