//! Takes one connection's events to the gate of the pipeline, and answers those that are known already, unless this
//! thread should leave the store alone.
//!
//! It never waits for the gate: an event that finds no room stalls its connection.

use std::sync::Arc;
use std::time::Instant;

use super::{Engine, PausedBy};
use crate::metrics::{EventOutcome, PolicyRule, StoreOperation};
use crate::nostr::{Event, Prefix, RelayMessage, Timestamp};
use crate::pipeline::commit::event_replies::{counted_as, reply_for};
use crate::pipeline::commit::uncommitted::Change;
use crate::pipeline::queues::Submission;
use crate::policy::{Act, Decision, Refusal, Settings};
use crate::server::stage::RESTARTING;
use crate::store::{Known, Outcome, StoreError};
use crate::ws::CloseCode;

impl Engine {
    /// Answers known events without any signature work, and passes the rest through the gate.
    pub(super) fn submit(&mut self, event: Event, decision: Decision, settings: &Settings) {
        if decision == Decision::Request {
            return self.enter_gate(event, decision);
        }
        let pipeline = &self.context.front.pipeline;
        let (id, now) = (event.view().id(), self.now);
        let may_read = self.context.may_read_store();
        let known = match pipeline.reading.uncommitted.change(&id) {
            Some(Change::Added) => Ok(Known::Stored),
            // Only the writer knows why.
            Some(Change::Removed) => Ok(Known::New),
            None if may_read => self.look_up(&event, now),
            // The writer looks events up itself. Ephemeral ones are always new.
            None => Ok(Known::New),
        };
        let (horizons, rules) = (&pipeline.horizons, &settings.retention);
        let check_held = || match may_read {
            true => horizons.check_held(&pipeline.store, rules, event.view(), now),
            false => horizons.check(rules, event.view(), now),
        };
        let (outcome, reply) = match known.map(Outcome::of) {
            Ok(None) => match check_held() {
                Ok(()) => return self.enter_gate(event, decision),
                Err(reason) => return self.refuse_event(id, Refusal { rule: PolicyRule::Retention, reason }),
            },
            Ok(Some(outcome)) => (counted_as(outcome), reply_for(id, outcome)),
            Err(error) => {
                pipeline.health.failed(StoreOperation::Read, &error);
                (EventOutcome::Failed, RelayMessage::refused(id, Prefix::Error, "the store could not be read"))
            }
        };
        pipeline.metrics.event(outcome, 1);
        self.replies.push(&reply);
    }

    /// Looks an event up in the store.
    fn look_up(&self, event: &Event, now: Timestamp) -> Result<Known, StoreError> {
        let began = Instant::now();
        let known = self.context.front.pipeline.store.read().and_then(|snapshot| snapshot.status(event.view(), now));
        self.context.looked_up(began.elapsed());
        known
    }

    pub(super) fn enter_gate(&mut self, event: Event, decision: Decision) {
        let gate = &self.context.front.pipeline.gate;
        if !gate.try_enter(&self.client.memory, event.view().record().len()) {
            return self.stall(event, decision);
        }
        self.bill.add(Act::Submission);
        self.client.owe();
        if decision == Decision::Request {
            return self.pass_request(event);
        }
        let (from, received) = (Arc::clone(&self.client), self.received);
        self.batch.push(Submission { event, decision, from, received });
    }

    /// Keeps an event until the gate has room. If another process takes the events now, sends its client there.
    fn stall(&mut self, event: Event, decision: Decision) {
        let is_replaced = self.context.draining.get() && self.context.front.pipeline.gate.is_closed();
        if is_replaced && self.is_answered() {
            return self.client.outbox.close(CloseCode::Restart, RESTARTING);
        }
        self.stalled = Some(PausedBy::Event(event, decision));
    }
}
