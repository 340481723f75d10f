//! Every queue between threads: what travels in it, its bound, why, and what happens when it is full.
//!
//! | queue         | carries                       | bound                                  | when full                          |
//! |---------------|-------------------------------|----------------------------------------|------------------------------------|
//! | Q1 ingest     | [`Submission`] batches        | `ingest_events` and `memory.waiting_events` over Q1 and Q2, of which an address has its share; `unanswered_events` per connection | the connection stops reading, so TCP slows its client |
//! | Q2 write      | [`WriteCommand`]              | `write_batches`                        | verify and retention wait          |
//! | Q3 live       | [`LiveCommand`]               | `live_batches`                         | writer and verify wait; live never waits, so not for long |
//! | Q4 scans      | a boxed [`Job`](crate::pipeline::query::job::Job) | `scans`; `scans_per_connection` of them per connection | `CLOSED <sub> "rate-limited: …"` for the newest query of the address that has most in line; of several, of the one that used most |
//! | Q5 outbox     | frames of one connection      | `ws::outbox` has its bounds            | scans park; a live event closes the connection |
//!
//! Q1 counts events at its gate ([`Gate`](super::ingest::gate::Gate)), before they enter; the channels behind it are sized
//! so that what passed the gate always fits, and sending into them never blocks an io thread. `verify` and `writer` take
//! all that waits in Q1 and Q2, and choose from it by address ([`backlog`](crate::pipeline::ingest::backlog)).
//!
//! Q4 is no line: the address that used least time of scans lately is served first ([`fair`](super::fair)). A query
//! that waits for its client to read is with that client's outbox, not in Q4.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::channel::{Depth, Sender};
use super::client::ClientHandle;
use crate::nostr::{Event, VerifiedEvent};
use crate::store::{Note, Seq, StoreError};

/// The bounds of the queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Events between the socket and the disk, all connections together.
    pub ingest_events: usize,
    /// EVENTs of one connection that wait for their OK; at this number the connection is read no further.
    pub unanswered_events: usize,
    /// Batches waiting for the writer.
    pub write_batches: usize,
    /// Batches waiting for fan-out.
    pub live_batches: usize,
    /// Scans waiting for a reader, all connections together.
    pub scans: usize,
    /// Scans of one connection that wait or run at a time; further REQs wait in line behind them.
    pub scans_per_connection: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ingest_events: 4096,
            unanswered_events: 256,
            write_batches: 256,
            live_batches: 1024,
            scans: 4096,
            scans_per_connection: 4,
        }
    }
}

/// The queues, for those who only watch.
#[derive(Clone)]
pub struct Depths {
    /// Q1.
    pub verify: Depth<Vec<Submission>>,
    /// Q2.
    pub write: Depth<WriteCommand>,
    /// Q3.
    pub live: Depth<LiveCommand>,
}

/// An event on its way to the disk.
pub struct Submission {
    /// The event; its id is checked, its signature is not.
    pub event: Event,
    /// Who gets the OK.
    pub from: Arc<ClientHandle>,
    /// When its message was read.
    pub received: Instant,
}

/// A submission whose signature holds.
pub struct Verified {
    /// The event.
    pub event: VerifiedEvent,
    /// Who gets the OK.
    pub from: Arc<ClientHandle>,
    /// When its message was read.
    pub received: Instant,
}

/// What the writer is asked to do.
pub enum WriteCommand {
    /// Commit these and answer them.
    Store(Vec<Verified>),
    /// Commit what is acknowledged: a query waits for it.
    Commit,
    /// Do a step of upkeep: reap expired events, purge vanished authors.
    Upkeep,
    /// Remove these, which the retention rules no longer keep: with batches, a few for each event, or between them.
    Evict(Eviction),
    /// Save a row of the evictor; an empty one deletes it.
    Note(Note, Vec<u8>),
}

/// What the writer is to remove, in as many steps as it likes. The horizons, which are told before, are put with it.
pub struct Eviction {
    /// The events.
    pub seqs: Vec<Seq>,
    /// Where it tells what it removed in all.
    pub done: Sender<Done>,
}

/// How an eviction ended: with so many events removed.
pub type Done = Result<u64, StoreError>;

/// An event that survives a power cut.
pub struct Committed {
    /// Its arrival number.
    pub seq: Seq,
    /// The event.
    pub event: VerifiedEvent,
}

/// What live is told.
pub enum LiveCommand {
    /// These are on disk, in ascending order of seq.
    Committed(Arc<[Committed]>, Instant),
    /// Deliver these, which are never stored, and answer them.
    Ephemeral(Vec<Verified>),
}
