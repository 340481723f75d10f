//! What the integration tests share: deterministic events.

#![allow(dead_code, unused_imports)]

use weir::nostr::{Event, Pubkey, VerifiedEvent, hex, json};

/// The same builders that the unit tests use.
#[path = "../../src/nostr/testing.rs"]
pub mod event;
