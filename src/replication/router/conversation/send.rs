//! What goes up: what arrives here, in the order of its arrival numbers; the cursor follows the answers.

use std::sync::Arc;
use std::time::Instant;

use super::Conversation;
use crate::metrics::Sent;
use crate::nostr::EventId;
use crate::pipeline::now;
use crate::replication::error::SyncError;
use crate::replication::refusal::Refusal;
use crate::replication::router::follow::{ArrivedEvents, Follow};
use crate::replication::router::up::NextSend;

/// How often the relay may fail with an event, or want a key that is proven, before that counts as its answer.
const MAX_TRIES: u32 = 8;

impl Conversation<'_> {
    /// Reads more from the store, if there is more and room for it.
    pub(super) fn go_on_up(&mut self, at: Instant) {
        let Some(up) = &mut self.up else { return };
        if self.reading.is_some() || !up.pause.is_over(at) {
            return;
        }
        let Some(next) = up.next(at, *self.arrivals.borrow()) else { return };
        let link = Arc::clone(self.link);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let filter = link.options.stream.scope.whole();
            let follow = Follow { store: &link.shared.store, filter: &filter, recent: &link.recent, now: now() };
            match next {
                NextSend::Again(events) => follow.again(&events),
                NextSend::After(seq, room) => follow.after(seq, room),
            }
        }));
    }

    /// Sends what was read.
    pub(super) fn found(&mut self, found: ArrivedEvents) -> Result<(), SyncError> {
        let Some(up) = &mut self.up else { return Ok(()) };
        found.passed.iter().for_each(|result| self.link.status.sent(*result));
        for (seq, id, text) in found.messages {
            if !up.is_proof(&id) {
                up.outgoing.sent(seq, id, text.len(), Instant::now());
            }
            self.connection.send(text)?;
        }
        found.gone.iter().for_each(|id| up.gone(id));
        up.outgoing.read_up_to(found.read);
        Ok(())
    }

    /// The relay's word on an event that was sent up.
    pub(super) fn sent_up(&mut self, id: EventId, accepted: bool, reason: &str) -> Result<(), SyncError> {
        let Some(up) = &mut self.up else { return self.unasked() };
        let is_proof = up.is_proof(&id);
        if !is_proof && !up.outgoing.is_unanswered(&id) {
            return self.unasked();
        }
        if let Some(silent) = up.heard(&id) {
            self.pass_over(&silent, "the relay answers others, but never this event");
        }
        if is_proof {
            return Ok(());
        }
        let is_duplicate = reason.starts_with("duplicate:");
        let result = match Refusal::of(reason) {
            _ if is_duplicate => Sent::Duplicate,
            _ if accepted => Sent::Accepted,
            Refusal::TooFast | Refusal::Dropped => return self.postpone(id, None),
            _ if self.wants_key(reason) => {
                self.key_is_wanted(reason)?;
                return self.postpone(id, Some(reason));
            }
            _ if reason.starts_with("error:") => return self.postpone(id, Some(reason)),
            _ => refused(reason),
        };
        let Some(up) = &mut self.up else { return Ok(()) };
        if accepted {
            up.pause.reset();
        }
        if accepted || is_duplicate {
            up.taken(id);
        } else {
            up.outgoing.answered(&id);
        }
        self.link.status.sent(result);
        Ok(())
    }

    /// The event is sent again later; not without end, if the reason is one that may never go away.
    fn postpone(&mut self, id: EventId, reason: Option<&str>) -> Result<(), SyncError> {
        let wants_key = reason.is_some_and(|reason| self.wants_key(reason));
        let Some(up) = &mut self.up else { return Ok(()) };
        let tries = up.outgoing.refused_for_now(&id, Instant::now()).unwrap_or_default();
        match reason {
            Some(reason) if wants_key && tries > MAX_TRIES => return Err(SyncError::Refused(reason.into())),
            Some(_) if tries > MAX_TRIES => {
                up.outgoing.answered(&id);
                self.link.status.sent(Sent::Error);
            }
            _ => {
                // If it is the only one again, the others need not wait.
                if tries <= 1 || up.outgoing.aside() > 1 {
                    up.wait();
                }
                self.link.status.sent(Sent::Postponed);
            }
        }
        Ok(())
    }

    /// Says and counts that an event is not sent any more.
    pub(super) fn pass_over(&self, id: &EventId, why: &str) {
        let (stream, url) = (&self.link.options.stream.name, &self.link.options.url);
        tracing::warn!(stream, %url, "{id} is passed over: {why}");
        self.link.status.sent(Sent::Unanswered);
    }
}

/// The result of a refusal that stays one.
fn refused(reason: &str) -> Sent {
    match reason.split_once(':').map(|(word, _)| word) {
        Some("blocked" | "restricted") => Sent::Blocked,
        Some("invalid") => Sent::Invalid,
        Some("pow") => Sent::Pow,
        _ => Sent::Refused,
    }
}
