//! Threads and queues: the way of an event from a socket to the disk and on to those who asked for it.
//!
//! This module owns ordering and durability. Nothing here waits on a client (INV-8): the waiting edges are
//! io → verify → writer → live, and live waits on nothing.
//!
//! ```text
//! io ──Q1 ingest──▶ verify ──Q2 write──▶ writer ──Q3 live──▶ live
//!  ├──an event alone────────────▲
//!  └──Q4 scans──▶ readers ──▶ outboxes ◀── writer (OK), live (EVENT)
//! ```

pub mod backlog;
pub mod channel;
pub mod client;
pub mod cron;
pub mod fair;
pub mod fair_channel;
pub mod health;
pub mod import;
pub mod ingest;
pub mod live;
pub mod queues;
pub mod reader;
pub mod reconcile;
pub mod retention;
mod row_block;
pub mod sight;
pub mod signatures;
#[cfg(test)]
mod testing;
pub mod uncommitted;
pub mod verify;
pub mod writer;

mod run;

pub use client::{ClientHandle, Subscription};
pub use health::Health;
pub use ingest::Ingest;
pub use live::LiveHub;
pub use queues::Bounds;
pub use reconcile::Reconciliation;
pub use run::{OnFailure, Options, Parts, Pipeline, Shared, StartError, now};
pub use verify::Intake;
