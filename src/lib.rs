//! weir: a Nostr relay. The map of the crate, floor by floor; a module uses only modules of lower floors.
//!
//! - Floor 0, pure: [`nostr`] (what the bytes mean).
//! - Floor 1: [`live`] (who asked for this event), [`policy`] (may they), [`store`] (which events do we hold), [`ws`] (how bytes cross the socket).

#![warn(missing_docs, clippy::too_many_lines, clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

pub mod live;
pub mod nostr;
pub mod policy;
pub mod store;
pub mod ws;
