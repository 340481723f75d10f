//! weir: a Nostr relay. This is the map of the crate, layer by layer; a module uses only modules of lower layers.
//!
//! - Layer 0: [`schnorr`] (verifies signatures) and, above it, [`nostr`] (events, filters and messages).
//! - Layer 1: [`store`] (the stored events), [`live`] (which subscriptions match an event), [`ws`] (WebSocket
//!   connections), [`policy`] (what a client may do), [`negentropy`] (the sync protocol of NIP-77), [`peer`]
//!   (connections to other relays).
//! - Layer 2: [`retention`] (which events the operator's rules no longer keep), [`backup`] (backup and restore),
//!   [`plugin`] (the operator's programs that judge events), [`management`] (what admins decide while the relay runs),
//!   [`trust`] (whom the operator's keys follow), [`pages`] (what a browser is shown).
//! - Layer 3: [`pipeline`] (threads and queues; ordering and durability).
//! - Layer 4: [`server`] (clients, one at a time), [`import`] (events from files).
//! - Layer 5: [`replication`] (the same events as another relay).
//! - Layer 6: [`config`] (the configuration file).
//! - Layer 7: [`cli`] (the commands).
//!
//! Three modules are below all of them: [`metrics`] declares every metric, [`ledger`] counts what clients make the
//! relay hold, and [`allocator`] returns unused memory to the system. Below these, [`sync`] is std's locks, unless a
//! test decides which thread runs next.

#![warn(missing_docs, clippy::too_many_lines, clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

pub mod allocator;
pub mod backup;
pub mod cli;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod import;
pub mod ledger;
pub mod live;
pub mod management;
pub mod metrics;
pub mod negentropy;
pub mod nostr;
pub mod pages;
pub mod peer;
pub mod pipeline;
pub mod plugin;
pub mod policy;
pub mod replication;
#[cfg(test)]
#[path = "../tests/support/require.rs"]
mod require;
pub mod retention;
pub mod schnorr;
pub mod server;
pub mod store;
pub mod sync;
pub mod trust;
pub mod ws;
