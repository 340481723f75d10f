//! What the integration tests share: deterministic events, the built relay as a process, and a strict client.
//!
//! [`event`] makes events for the library. [`wire`], [`relay`] and [`client`] share no code with the relay, so that
//! they cannot share its mistakes.

#![allow(dead_code, unused_imports)]

use weir::nostr::{Event, Pubkey, VerifiedEvent, hex, json};

pub mod client;
pub mod preload;
pub mod relay;
pub mod require;
pub mod wait;
pub mod wire;

/// The same builders that the unit tests use.
#[path = "../../src/nostr/testing.rs"]
pub mod event;

/// Masked frames, as a client sends them.
#[path = "../../src/ws/testing.rs"]
pub mod frame;
