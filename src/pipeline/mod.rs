//! Threads and queues: the way of an event from a socket to the disk and on to those who asked for it.
//!
//! This module owns ordering and durability. Nothing here waits on a client (INV-8): the waiting edges are
//! verify → writer → live, plugin → writer, verify and plugin → live, and retention → writer. `live` waits for nothing.
//!
//! ```text
//! io ──Q1 ingest──▶ verify ─┬────────────Q2 write──▶ writer ──Q3 live──▶ live
//!  │                        └─▶ plugin ──▲
//!  ├──an event alone─────────────────────▲
//!  └──Q4 scans──▶ readers ──▶ outboxes ◀── writer (OK), live (EVENT)
//! ```
//!
//! The submodules, from the bottom up; a file imports only what lies below it, and nothing imports this file or `run`:
//!
//! 1. [`channel`], [`clock`], [`options`], [`heartbeat`], [`health`], [`threads`], [`writable`], [`fair`] and
//!    [`fair_channel`]: what threads are made of.
//! 2. [`client`]: a connection as the threads see it. [`queues`]: what travels between threads.
//! 3. [`ingest`] (from the sockets to the writer), [`commit`] (the writer, and what it has not committed yet),
//!    [`deliver`] (live events), [`query`] (stored events), [`evict`] (the retention rules), [`cron`] and `trust`.
//! 4. [`serving`]: what a server is given. `run`: starts the threads, each with the parts that it uses, and ends them.

pub mod channel;
pub mod client;
pub mod clock;
pub mod commit;
pub mod cron;
pub mod deliver;
pub mod evict;
pub mod fair;
pub mod fair_channel;
pub mod health;
pub mod heartbeat;
pub mod ingest;
pub mod options;
pub mod query;
pub mod queues;
pub mod serving;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
mod trust;
pub mod writable;

mod run;

pub use client::{ClientHandle, Subscription};
pub use clock::now;
pub use deliver::live::LiveHub;
pub use health::{Health, OnFailure};
pub use ingest::verify::Intake;
pub use options::Options;
pub use query::reconcile::Reconciliation;
pub use queues::Bounds;
pub use run::{Parts, Pipeline, SUSPECTS};
pub use serving::Serving;
pub use threads::{StartError, pinned_pool};
