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

pub mod channel;
pub mod commit;
pub mod cron;
pub mod deliver;
pub mod evict;
pub mod fair;
pub mod fair_channel;
pub mod health;
pub mod ingest;
pub mod query;
pub mod queues;
#[cfg(test)]
mod testing;

mod run;

pub use deliver::client::{ClientHandle, Subscription};
pub use deliver::live::LiveHub;
pub use health::Health;
pub use ingest::gate::Ingest;
pub use ingest::verify::Intake;
pub use query::reconcile::Reconciliation;
pub use queues::Bounds;
pub use run::{OnFailure, Options, Parts, Pipeline, Shared, StartError, now, pinned_pool};
