//! Replies to clients, gathered so that several to one client cost one push and one wake-up.
//!
//! Nothing here blocks. A batch sends what it still holds when it is dropped.

use std::sync::Arc;

use super::handle::ClientHandle;
use crate::nostr::{EventView, RelayMessage, SubscriptionId, reply};
use crate::ws::{Frame, frame};

/// Replies to one connection, gathered so that they cost one push and one wake-up.
#[derive(Default)]
pub struct Replies {
    frames: Vec<u8>,
}

impl Replies {
    /// Adds one message.
    pub fn push(&mut self, message: &RelayMessage) {
        frame::encode_text_with(&mut self.frames, |out| message.write(out));
    }

    /// Adds one event that was made for this subscription alone.
    pub fn push_event(&mut self, sub: &SubscriptionId, event: EventView<'_>) {
        frame::encode_text_with(&mut self.frames, |out| {
            reply::event_head(sub, out);
            event.write_json(out);
            out.extend_from_slice(reply::EVENT_TAIL);
        });
    }

    /// Queues what was gathered; `answered` of them are the OKs of EVENTs that it was owed.
    pub fn send(&mut self, client: &ClientHandle, answered: usize) {
        if self.frames.is_empty() {
            return;
        }
        client.send_replies(Frame::encoded(std::mem::take(&mut self.frames)), answered);
    }
}

/// OKs in the order of a batch, gathered over runs of the same client.
#[derive(Default)]
pub struct BatchReplies {
    client: Option<Arc<ClientHandle>>,
    replies: Replies,
    count: usize,
}

impl BatchReplies {
    /// Answers one EVENT of `client`.
    pub fn answer(&mut self, client: &Arc<ClientHandle>, message: &RelayMessage) {
        if client.tell(message) {
            return;
        }
        if self.client.as_ref().is_none_or(|last| !Arc::ptr_eq(last, client)) {
            self.flush();
            self.client = Some(Arc::clone(client));
        }
        self.replies.push(message);
        self.count += 1;
    }

    /// Queues what was gathered.
    pub fn flush(&mut self) {
        if let Some(client) = self.client.take() {
            self.replies.send(&client, std::mem::take(&mut self.count));
        }
    }
}

impl Drop for BatchReplies {
    fn drop(&mut self) {
        self.flush();
    }
}
