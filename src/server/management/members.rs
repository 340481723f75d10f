//! What the `management` thread remembers of members (NIP-43) beside the journal.

use std::cell::{Cell, RefCell};

use crate::nostr::Pubkey;

/// What is known of the events that the relay publishes about its members. It is not saved: a new process looks at the
/// stored events.
#[derive(Default)]
pub struct Members {
    /// The relay's key, and the last act of which the published events tell; `None` if that is not known.
    pub published: Cell<Option<(Pubkey, u64)>>,
    /// What kept them from being published, once it was logged.
    pub failure: RefCell<String>,
}
