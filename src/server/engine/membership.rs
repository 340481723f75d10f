//! Passes what a client asks about membership (NIP-43) to the `management` thread, which answers it.
//!
//! It never waits: where the thread has too much to do, the client is told so at once.

use std::sync::Arc;

use super::Engine;
use crate::metrics::PolicyRule;
use crate::nostr::{Event, Prefix, Pubkey, Reason, RelayMessage, SubscriptionId};
use crate::pipeline::client::Replies;
use crate::server::management::link::MembershipRequest;

const BUSY: &str = "too many requests about membership are waiting; try again later";

impl Engine {
    /// Passes on a request to join or to leave. It has entered the gate, and its client is owed the OK.
    pub(super) fn pass_request(&self, event: Event) {
        let front = Arc::clone(&self.context.front);
        let (id, bytes) = (event.view().id(), event.view().record().len());
        let asked = MembershipRequest::Request { event, from: Arc::clone(&self.client), received: self.received };
        if front.management.ask(asked).is_err() {
            front.pipeline.gate.leave([(&*self.client.memory, bytes)]);
            front.pipeline.metrics.refused(PolicyRule::Rate);
            front.pipeline.metrics.refusal(Prefix::RateLimited.as_str());
            self.answer_owed(&RelayMessage::refused(id, Prefix::RateLimited, BUSY));
        }
    }

    /// Asks for the invite of a member. The query that follows waits for it, as it waits for the OKs of EVENTs.
    pub(super) fn ask_for_invite(&self, sub: SubscriptionId, member: Pubkey) {
        self.client.owe();
        let asked = MembershipRequest::Invite { member, sub, from: Arc::clone(&self.client) };
        if self.context.front.management.ask(asked).is_err() {
            self.answer_owed(&RelayMessage::Notice(Reason::new(Prefix::RateLimited, BUSY)));
        }
    }

    fn answer_owed(&self, reply: &RelayMessage) {
        let mut replies = Replies::default();
        replies.push(reply);
        replies.send(&self.client, 1);
    }
}
