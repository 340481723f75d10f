//! The proof that an event's signature is good.
//!
//! A [`VerifiedEvent`] is made only here (INV-7): by checking a signature, or by `trust`, which has few callers.

use super::event::Event;
use super::view::EventView;
use crate::schnorr::{Item, Verifier};

/// An event whose signature was checked, or which the operator trusts without a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEvent(Event);

impl VerifiedEvent {
    /// Checks the signatures of many events, each on its own. An event with a wrong signature comes back as an error.
    #[must_use]
    pub fn verify(verifier: &Verifier, events: Vec<Event>) -> Vec<Result<Self, Event>> {
        let mut verdicts = vec![false; events.len()];
        let items: Vec<Item<'_>> = events.iter().map(|event| item(event.view())).collect();
        verifier.verify(&items, &mut verdicts);
        let verdict = |(event, good)| if good { Ok(Self(event)) } else { Err(event) };
        events.into_iter().zip(verdicts).map(verdict).collect()
    }

    /// Checks one signature.
    ///
    /// # Errors
    /// The event itself, when its signature is wrong.
    pub fn verify_one(verifier: &Verifier, event: Event) -> Result<Self, Event> {
        if verifier.verify_one(item(event.view())) { Ok(Self(event)) } else { Err(event) }
    }

    /// Trusts the signature, as `weir import --no-verify` does.
    #[must_use]
    pub const fn trust(event: Event) -> Self {
        Self(event)
    }

    /// The event, borrowed.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        self.0.view()
    }

    /// The event, without the proof.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.0
    }
}

fn item(event: EventView<'_>) -> Item<'_> {
    Item { id: event.id_bytes(), pubkey: event.pubkey_bytes(), signature: event.signature_bytes() }
}
