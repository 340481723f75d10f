//! The one rule that decides whether the store accepts an event that it is offered.
//!
//! The check before signature work ([`Snapshot::status`](crate::store::Snapshot::status)) and the writer both call
//! [`judge`], each with its own view of the events held ([`StoredEvents`]). This rule keeps deleted events out.

use crate::nostr::{EventView, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::lookup::{KeptOut, Lookup};

/// What the store knows of an event that it is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// The store would accept it.
    New,
    /// The store holds it.
    Stored,
    /// Its author deleted it (NIP-09).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
    /// The store holds a newer version, or an equally old one with a lower id (NIP-01).
    Superseded,
    /// It is past its expiration (NIP-40).
    Expired,
}

/// A verdict, with the facts that the writer needs to store the event.
pub(in crate::store) struct Verdict {
    pub known: Known,
    /// The coordinate of the event, if it is new and replaceable or addressable.
    pub address: Option<[u8; 16]>,
    /// The older version that the event replaces.
    pub older: Option<Seq>,
}

impl Verdict {
    const fn of(known: Known) -> Self {
        Self { known, address: None, older: None }
    }
}

/// A view of the events held.
pub(in crate::store) trait StoredEvents {
    fn lookup(&self) -> Lookup<'_>;

    /// Whether the event with the id of `event` is held, and if so, whether a vanish request hides it.
    fn is_hidden(&self, event: EventView<'_>) -> Result<Option<bool>, StoreError>;

    /// The event with this number, which must be held.
    fn version(&self, seq: Seq) -> Result<EventView<'_>, StoreError>;
}

/// Judges `event` as offered at `now`. Ephemeral events (NIP-01) are never held; the caller deals with them.
pub(in crate::store) fn judge(
    held: &impl StoredEvents,
    event: EventView<'_>,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    if event.is_expired(now) {
        return Ok(Verdict::of(Known::Expired));
    }
    if let Some(is_hidden) = held.is_hidden(event)? {
        return Ok(Verdict::of(if is_hidden { Known::Vanished } else { Known::Stored }));
    }
    let lookup = held.lookup();
    match lookup.kept_out(event)? {
        Some(KeptOut::Deleted) => return Ok(Verdict::of(Known::Deleted)),
        Some(KeptOut::Vanished) => return Ok(Verdict::of(Known::Vanished)),
        None => {}
    }
    let Some(address) = lookup.secret.address_of(event) else { return Ok(Verdict::of(Known::New)) };
    let older = lookup.holder(&address)?;
    if let Some(seq) = older
        && !event.replaces(held.version(seq)?)
    {
        return Ok(Verdict::of(Known::Superseded));
    }
    Ok(Verdict { known: Known::New, address: Some(address), older })
}
