//! Every queue between threads: what it carries, its bound, and what happens when it is full.
//!
//! | queue         | carries                       | bound                                  | when full                          |
//! |---------------|-------------------------------|----------------------------------------|------------------------------------|
//! | Q1 ingest     | [`Submission`] batches        | `ingest_events` and `memory.waiting_events` over Q1 and Q2, of which an address has its share; `unanswered_events` per connection | the connection stops reading, so TCP slows its client |
//! | Q2 write      | [`WriteCommand`]              | `write_batches`                        | verify, plugin and retention wait; management tries again, cron leaves it for the next round |
//! | Q3 live       | [`LiveCommand`]               | `live_batches`                         | writer, verify and plugin wait; live never waits, so not for long |
//! | Q4 scans      | a boxed [`Job`](crate::pipeline::query::job::Job) | `scans`; `scans_per_connection` of them per connection | `CLOSED <sub> "rate-limited: …"` for the newest query of the address that has most queued; of several, of the one that used most |
//! | Q5 outbox     | frames of one connection      | `server.outbox_bytes`, `server.outbox_frames`, `memory.outboxes` | scans park; a live event closes the connection |
//! | judged        | [`Verified`] batches, and behind them the events that each worker of the plugin has not been asked about ([`plugin`](crate::pipeline::ingest::plugin)) | as Q1: they passed the same gate, and leave it when they are answered | never full |
//! | copies        | events that pass and are judged in a dry run | 1,024 events, 16 MiB | an event is not judged |
//! | waiting       | a boxed [`Job`](crate::pipeline::query::job::Job) that needs a commit ([`uncommitted`](crate::pipeline::commit::uncommitted)) | `scans` | the query goes back to Q4; while commits fail it is refused as there |
//! | changes       | wide subscriptions that `live` is to list or take out ([`live`](crate::pipeline::deliver::live)) | two for each subscription, whose filters are counted | never full |
//! | removals      | [`Eviction`]s that the writer has taken from Q2 ([`background`](crate::pipeline::commit::background)) | the 16 that retention sends before it waits for an answer, and one of management | they wait |
//! | held          | the batch that found no room, in the writer ([`room`](crate::pipeline::commit::room)) | one; later events wait in the backlog, which the gate bounds | the gate lets nothing in |
//! | outward       | ephemeral events for other nodes of a cluster ([`outward`](crate::pipeline::deliver::outward)) | 1,024 events, 4 MiB | an event is dropped and counted |
//! | answers       | [`EvictionResult`], from writer to retention | as many as there are removals | never full |
//!
//! Events are counted at the [`Gate`](super::ingest::gate::Gate), before they enter Q1. Q1 has room for everything that
//! passes the gate, so an io thread never blocks on it. `verify` and `writer` empty Q1 and Q2 and choose by address
//! what goes next ([`backlog`](crate::pipeline::ingest::backlog)).
//!
//! Q4 is not first in, first out: the address whose scans took the least time lately goes first
//! ([`fair`](super::fair)). A query whose client does not read is kept by that client's outbox, not in Q4.
//!
//! The queues carry plain data. What a job does is behind its trait, and no queue knows it.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::channel::{Depth, Sender};
use super::client::ClientHandle;
use crate::nostr::{Event, VerifiedEvent};
use crate::policy::Decision;
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

/// How many entries wait in each channel; for metrics.
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
    /// What policy says about it.
    pub decision: Decision,
    /// The client that gets the OK.
    pub from: Arc<ClientHandle>,
    /// When its message was read.
    pub received: Instant,
}

/// A submission with a valid signature.
pub struct Verified {
    /// The event.
    pub event: VerifiedEvent,
    /// The client that gets the OK.
    pub from: Arc<ClientHandle>,
    /// When its message was read.
    pub received: Instant,
}

/// A request to the writer.
pub enum WriteCommand {
    /// Store these events and answer them.
    Store(Vec<Verified>),
    /// Commit what was acknowledged: a query waits for that.
    Commit,
    /// Run a step of upkeep: remove expired events and purge authors who vanished.
    Upkeep,
    /// Remove events that the retention rules no longer keep: a few with each batch, more when no batch waits.
    Evict(Eviction),
    /// Save a row of the evictor; an empty one deletes it.
    Note(Note, Vec<u8>),
}

/// Events that the writer is to remove, in as many steps as it likes. It stores the horizons in the same commits.
pub struct Eviction {
    /// The events.
    pub seqs: Vec<Seq>,
    /// Where the writer reports how many it removed in all.
    pub done: Sender<EvictionResult>,
}

/// How an eviction ended: the number of events that were removed.
pub type EvictionResult = Result<u64, StoreError>;

/// An event that survives a power cut.
pub struct Committed {
    /// Its arrival number.
    pub seq: Seq,
    /// The event.
    pub event: VerifiedEvent,
}

/// What the `live` thread is to deliver.
pub enum LiveCommand {
    /// Events that are on disk, in ascending order of seq, and when they were sent here.
    Committed(Arc<[Committed]>, Instant),
    /// Events that are never stored: deliver and answer them.
    Ephemeral(Vec<Verified>),
    /// Wake up: the live index is to be changed.
    Change,
}
