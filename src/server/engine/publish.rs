//! The way of one connection's events to the gate of the pipeline: what is known already is answered here.
//!
//! It never waits for the gate; an event that finds no room stalls its connection.

use std::sync::Arc;

use super::{Engine, Stalled};
use crate::metrics::{EventOutcome, StoreOperation};
use crate::nostr::{Event, Prefix, RelayMessage};
use crate::pipeline::commit::event_replies::{counted_as, reply_for};
use crate::pipeline::commit::uncommitted::Change;
use crate::pipeline::queues::Submission;
use crate::policy::{Act, Settings};
use crate::store::Known;

impl Engine {
    /// Answers what is known already, before any signature work, and passes the rest through the gate.
    pub(super) fn submit(&mut self, event: Event, settings: &Settings) {
        let pipeline = &self.context.front.pipeline;
        let (id, now) = (event.view().id(), pipeline.clock.now());
        let known = match pipeline.reading.uncommitted.change(&id) {
            Some(Change::Added) => Ok(Known::Stored),
            // Only the writer can tell why.
            Some(Change::Removed) => Ok(Known::New),
            None => pipeline.store.read().and_then(|snapshot| snapshot.status(event.view(), now)),
        };
        let (outcome, reply) = match known {
            Ok(Known::New) => {
                match pipeline.horizons.check_held(&pipeline.store, &settings.retention, event.view(), now) {
                    Ok(()) => return self.enter_gate(event),
                    Err(reason) => {
                        (EventOutcome::Refused, RelayMessage::Ok { id, accepted: false, reason: Some(reason) })
                    }
                }
            }
            Ok(known) => (counted_as(known.into()), reply_for(id, known.into())),
            Err(error) => {
                pipeline.health.failed(StoreOperation::Read, &error);
                (EventOutcome::Failed, RelayMessage::refused(id, Prefix::Error, "the store could not be read"))
            }
        };
        pipeline.metrics.event(outcome, 1);
        self.replies.push(&reply);
    }

    pub(super) fn enter_gate(&mut self, event: Event) {
        let gate = &self.context.front.pipeline.gate;
        if !gate.try_enter(&self.client.memory, event.view().record().len()) {
            self.stalled = Some(Stalled::Event(event));
            return;
        }
        self.bill.add(Act::Submission);
        self.client.owe();
        self.batch.push(Submission { event, from: Arc::clone(&self.client), received: self.received });
    }
}
