//! Answers to events whose signature is good and that go no further: the plugin or the operator's rules stop them.

use std::sync::Arc;

use super::gate::Gate;
use crate::metrics::{EventOutcome, Metrics};
use crate::nostr::RelayMessage;
use crate::pipeline::client::BatchReplies;
use crate::pipeline::queues::Verified;
use crate::policy::{Refusal, Settings, check_still_welcome};

/// Collects answers to events, which leave the gate with them. The answers are sent when this is dropped.
pub struct Answers<'a> {
    metrics: &'a Metrics,
    gate: &'a Gate,
    replies: BatchReplies,
}

/// Refuses those of `events` that were banned, or whose authors were, while they were on their way. Returns the others.
pub fn refuse_unwelcome(
    settings: &Settings,
    (metrics, gate): (&Arc<Metrics>, &Arc<Gate>),
    events: Vec<Verified>,
) -> Vec<Verified> {
    let check = |one: &Verified| check_still_welcome(settings, one.event.view());
    if events.iter().all(|one| check(one).is_ok()) {
        return events;
    }
    let mut answers = Answers::new(metrics, gate);
    let is_welcome = |one: &Verified| check(one).map_err(|refusal| answers.refuse(one, refusal)).is_ok();
    events.into_iter().filter(is_welcome).collect()
}

impl<'a> Answers<'a> {
    /// No answers yet.
    pub fn new(metrics: &'a Arc<Metrics>, gate: &'a Arc<Gate>) -> Self {
        Self { metrics, gate, replies: BatchReplies::default() }
    }

    /// Refuses an event.
    pub fn refuse(&mut self, verified: &Verified, refusal: Refusal) {
        self.metrics.refused(refusal.rule);
        self.metrics.refusal(refusal.reason.prefix.as_str());
        self.answer(verified, Some(refusal));
    }

    /// Drops an event and tells its client that it was accepted.
    pub fn shadow(&mut self, verified: &Verified) {
        self.metrics.event(EventOutcome::Shadowed, 1);
        self.answer(verified, None);
    }

    fn answer(&mut self, verified: &Verified, refusal: Option<Refusal>) {
        let Verified { event, from, received } = verified;
        self.gate.leave([(&*from.memory, event.view().record().len())]);
        self.metrics.event_ok_seconds.observe(received.elapsed().as_secs_f64());
        let reason = refusal.map(|refusal| refusal.reason);
        self.replies.answer(from, &RelayMessage::Ok { id: event.view().id(), accepted: reason.is_none(), reason });
    }
}
