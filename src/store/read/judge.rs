//! The rule of what stays: what becomes of an event that is offered, said once.
//!
//! The early look before signature work ([`Snapshot::status`](crate::store::Snapshot::status)) and the writer both ask
//! [`judge`], each with its own view of what is held ([`Held`]). This is the rule that keeps a deleted event out.

use crate::nostr::{EventView, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::read::lookup::{KeptOut, Lookup};

/// What the store knows of an event that it is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing stands against it.
    New,
    /// It is held.
    Stored,
    /// Its author deleted it (NIP-09).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
    /// A newer version is held, or one as old with a lower id (NIP-01).
    Superseded,
    /// It is past its expiration (NIP-40).
    Expired,
}

/// A verdict, and what goes with it when the event is stored.
pub(in crate::store) struct Verdict {
    pub known: Known,
    /// The coordinate of a replaceable or addressable event that is new.
    pub address: Option<[u8; 16]>,
    /// The older version that it replaces.
    pub older: Option<Seq>,
}

impl Verdict {
    const fn of(known: Known) -> Self {
        Self { known, address: None, older: None }
    }
}

/// A view of what is held.
pub(in crate::store) trait Held {
    fn lookup(&self) -> Lookup<'_>;

    /// The event with the id of `event`, and whether a vanish request hides it.
    fn is_hidden(&self, event: EventView<'_>) -> Result<Option<bool>, StoreError>;

    /// The event with this number, which is held.
    fn version(&self, seq: Seq) -> Result<EventView<'_>, StoreError>;
}

/// What becomes of `event` if it is offered at `now`. An ephemeral one (NIP-01) is never held: the caller knows.
pub(in crate::store) fn judge(held: &impl Held, event: EventView<'_>, now: Timestamp) -> Result<Verdict, StoreError> {
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
