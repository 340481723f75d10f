//! Which stored events a client may see: one rule for REQ, COUNT and negentropy (INV-15).
//!
//! It depends only on the event, the client and the settings.

use std::cell::OnceCell;
use std::sync::Arc;

use super::job::Reading;
use crate::nostr::{EventView, Timestamp};
use crate::pipeline::client::{ClientHandle, Identity};
use crate::pipeline::clock::Clock;
use crate::policy::{ReadGuard, Settings};

/// Which stored events a client may see now: not expired, and not other people's messages (INV-15). The scan leaves out
/// events of authors who vanished.
pub struct Visibility {
    settings: arc_swap::Guard<Arc<Settings>>,
    identity: arc_swap::Guard<Arc<Identity>>,
    clock: Clock,
    /// Read for the first event that expires: few do.
    now: OnceCell<Timestamp>,
}

impl Visibility {
    /// What `client` may see from now on.
    #[must_use]
    pub fn new(reading: &Reading, client: &ClientHandle) -> Self {
        let (settings, identity) = (reading.settings.load(), client.identity());
        Self { settings, identity, clock: reading.clock, now: OnceCell::new() }
    }

    /// Whether the client may see this event.
    #[must_use]
    pub fn allows(&self, event: EventView<'_>) -> bool {
        let is_expired = event.expiration().is_some_and(|at| at <= *self.now.get_or_init(|| self.clock.now()));
        !is_expired && ReadGuard::new(&self.settings, &self.identity.keys).allows(event)
    }
}
