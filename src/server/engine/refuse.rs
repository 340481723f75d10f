//! Refuses events, and closes the client whose events are refused over and over.

use super::Engine;
use crate::nostr::{EventId, Reason, RelayMessage};
use crate::policy::{Refusal, is_offence};
use crate::ws::{CloseCode, Flow};

impl Engine {
    /// Answers an event that policy refuses, and counts the rule.
    pub(super) fn refuse_event(&mut self, id: EventId, Refusal { rule, reason }: Refusal) {
        let pipeline = &self.context.front.pipeline;
        pipeline.metrics.refused(rule);
        if is_offence(rule) {
            let options = pipeline.settings.load().policy.offenders;
            self.client.offend(&pipeline.offenders, &options, pipeline.clock.now_us());
        }
        self.reply(&RelayMessage::Ok { id, accepted: false, reason: Some(reason) });
    }

    /// Why the client is not served any more, if too many of its events were refused.
    pub(super) fn offender(&self) -> Option<Reason> {
        let pipeline = &self.context.front.pipeline;
        let options = pipeline.settings.load().policy.offenders;
        if options.offences == 0 {
            return None;
        }
        self.client.refusal(&pipeline.offenders, &options, pipeline.clock.now_us())
    }

    /// Answers what was read and closes the client.
    pub(super) fn close(&mut self, reason: &str) -> Flow {
        self.flush();
        self.client.outbox.close(CloseCode::Policy, reason);
        Flow::Stop
    }

    /// Whether the connection was closed because of refused events.
    pub const fn is_offender(&self) -> bool {
        self.is_offender
    }
}
