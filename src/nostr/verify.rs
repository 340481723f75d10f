//! The proof that an event's signature holds.
//!
//! A [`VerifiedEvent`] is made here and nowhere else (INV-7): by checking signatures, or by `trust`, whose few
//! callers are easy to find.

use super::event::{Event, EventView};

/// An event whose signature was checked, or is trusted by the operator's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEvent(Event);

impl VerifiedEvent {
    /// Takes the signature on trust, as `weir import --no-verify` does.
    #[must_use]
    pub const fn trust(event: Event) -> Self {
        Self(event)
    }

    /// The event, borrowed.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        self.0.view()
    }

    /// The event without its proof.
    #[must_use]
    pub fn into_event(self) -> Event {
        self.0
    }
}
