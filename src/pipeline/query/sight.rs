//! Which stored events a client may see: one rule for REQ, COUNT and negentropy (INV-15).
//!
//! It looks at nothing but the event and who asks.

use std::sync::Arc;

use crate::nostr::{EventView, Timestamp};
use crate::pipeline::client::{ClientHandle, Identity};
use crate::pipeline::run::Shared;
use crate::policy::{ReadGuard, Settings};

/// Which stored events a client may see now: not expired, and not somebody else's messages (INV-15). What
/// vanished is left out by the scan.
pub struct Sight {
    settings: arc_swap::Guard<Arc<Settings>>,
    identity: arc_swap::Guard<Arc<Identity>>,
    now: Timestamp,
}

impl Sight {
    /// What `client` may see from now on.
    #[must_use]
    pub fn new(shared: &Shared, client: &ClientHandle) -> Self {
        Self { settings: shared.settings.load(), identity: client.identity(), now: shared.now() }
    }

    /// Whether the client may see this one.
    #[must_use]
    pub fn sees(&self, event: EventView<'_>) -> bool {
        !event.is_expired(self.now) && ReadGuard::new(&self.settings, &self.identity.keys).allows(event)
    }
}
