//! weir: a Nostr relay. The map of the crate, floor by floor; a module uses only modules of lower floors.
//!
//! - Floor 0, pure: [`schnorr`] (are these signatures good), [`nostr`] (what the bytes mean).
//! - Floor 1: [`store`] (which events do we hold), [`live`] (who asked for this event), [`ws`] (how bytes cross
//!   the socket), [`policy`] (may they), [`negentropy`] (what do two sides not share).
//! - Floor 2: [`retention`] (what do the operator's rules no longer keep), [`backup`] (to another disk, and back).
//! - Floor 3: [`pipeline`] (threads and queues; ordering and durability).
//! - Floor 4: [`server`] (one client at a time), [`import`] (events from files).
//! - Floor 5: [`config`] (what the operator wrote).
//!
//! [`metrics`], [`ledger`] and [`allocator`] are below all of them: every metric, declared once; who holds how much; and
//! freed memory on its way back to the system.

#![warn(missing_docs, clippy::too_many_lines, clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

pub mod allocator;
pub mod backup;
pub mod cli;
pub mod config;
pub mod import;
pub mod ledger;
pub mod live;
pub mod metrics;
pub mod negentropy;
pub mod nostr;
pub mod pipeline;
pub mod policy;
pub mod retention;
pub mod schnorr;
pub mod server;
pub mod store;
pub mod ws;
