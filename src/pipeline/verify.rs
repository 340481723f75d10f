//! The `verify` thread: checks signatures in batches, over the pinned rayon pool when a batch is worth it.
//!
//! It answers what it refuses and passes the rest on: stored kinds to the writer, ephemeral ones to live. It
//! never waits on a client.

use std::sync::Arc;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::channel::{Receiver, Sender};
use super::client::{BatchReplies, ClientHandle};
use super::queues::{LiveCommand, Submission, Verified, WriteCommand};
use super::run::Shared;
use crate::metrics::EventOutcome;
use crate::nostr::{Event, Prefix, RelayMessage, VerifiedEvent};

/// Signatures taken in one go. Larger batches gain nothing, and make the first of them wait.
const MAX_BATCH: usize = 512;

/// Signatures one pool thread takes at a time: eight full groups of the 8-lane engine.
const CHUNK: usize = 64;

/// Runs until Q1 is closed and empty.
pub fn run(
    shared: &Shared,
    pool: Option<&ThreadPool>,
    ingest: &Receiver<Vec<Submission>>,
    write: &Sender<WriteCommand>,
    live: &Sender<LiveCommand>,
) {
    while let Some(mut batch) = ingest.recv() {
        while batch.len() < MAX_BATCH {
            let Some(more) = ingest.try_recv() else { break };
            batch.extend(more);
        }
        shared.metrics.verify_batch.observe(batch.len() as f64);
        let (stored, ephemeral) = sort(shared, verify(shared, pool, batch));
        // A closed queue means that its thread has ended by panic, which ends the process in order.
        if !stored.is_empty() && write.send(WriteCommand::Store(stored)).is_err() {
            return;
        }
        if !ephemeral.is_empty() && live.send(LiveCommand::Ephemeral(ephemeral)).is_err() {
            return;
        }
    }
}

/// Who sent an event, and when it was read.
type Origin = (Arc<ClientHandle>, Instant);

/// An event with its proof, or without one when its signature is wrong.
type Verdict = Result<VerifiedEvent, Event>;

fn verify(shared: &Shared, pool: Option<&ThreadPool>, batch: Vec<Submission>) -> Vec<(Origin, Verdict)> {
    let (origins, events): (Vec<Origin>, Vec<Event>) =
        batch.into_iter().map(|one| ((one.from, one.received), one.event)).unzip();
    let verify = |events: Vec<Event>| VerifiedEvent::verify(&shared.verifier, events);
    let verdicts: Vec<Verdict> = match pool {
        Some(pool) if events.len() > CHUNK => {
            pool.install(|| events.into_par_iter().chunks(CHUNK).flat_map_iter(verify).collect())
        }
        _ => verify(events),
    };
    origins.into_iter().zip(verdicts).collect()
}

/// Answers the bad ones and splits the good ones into stored and ephemeral.
fn sort(shared: &Shared, verdicts: Vec<(Origin, Verdict)>) -> (Vec<Verified>, Vec<Verified>) {
    let mut replies = BatchReplies::default();
    let (mut stored, mut ephemeral) = (Vec::with_capacity(verdicts.len()), Vec::new());
    for ((from, received), verdict) in verdicts {
        match verdict {
            Ok(event) => {
                let list = if event.view().kind().is_ephemeral() { &mut ephemeral } else { &mut stored };
                list.push(Verified { event, from, received });
            }
            Err(event) => {
                let view = event.view();
                shared.ingest.leave(1, view.record().len());
                shared.metrics.event(EventOutcome::Invalid, 1);
                let refusal = RelayMessage::refused(view.id(), Prefix::Invalid, "the signature is wrong");
                replies.answer(&from, &refusal);
            }
        }
    }
    (stored, ephemeral)
}
