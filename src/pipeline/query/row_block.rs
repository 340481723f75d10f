//! The rows of one slice of a scan: rendered and encoded for their client, and pushed together.
//!
//! It does not decide which rows are sent.

use std::cell::Cell;

use crate::nostr::{EventView, RelayMessage, reply};
use crate::pipeline::client::{ClientHandle, Subscription};
use crate::ws::{Frame, RowsPush, deflate, frame};

/// Encoded frames of rows that have not been pushed to the client's outbox yet: 256 KiB and one row at most.
pub struct RowBlock<'a> {
    client: &'a ClientHandle,
    sub: &'a Subscription,
    frames: Vec<u8>,
    count: u64,
}

/// A block of this size is sent before the slice is over, so that a slice of large events stays bounded.
const LARGE_BLOCK_BYTES: usize = 256 << 10;

/// The most that a thread keeps for its next block.
const KEPT_BYTES: usize = 2 * LARGE_BLOCK_BYTES;

thread_local! {
    /// Where this thread renders its next block. A buffer that grows with each block took a sixteenth of the time of a
    /// query by id, and a seventh for a hundred ids.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<'a> RowBlock<'a> {
    /// An empty block for a subscription of a client.
    pub fn new(client: &'a ClientHandle, sub: &'a Subscription) -> Self {
        Self { client, sub, frames: SCRATCH.take(), count: 0 }
    }

    /// Adds an event.
    pub fn push(&mut self, event: EventView<'_>) {
        self.count += 1;
        let head = &self.sub.head;
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(head);
            event.write_json(out);
            out.extend_from_slice(reply::EVENT_TAIL);
        };
        if self.client.deflate {
            let mut message = Vec::new();
            write(&mut message);
            deflate::encode_text_deflated(&mut self.frames, &message);
        } else {
            frame::encode_text_with(&mut self.frames, write);
        }
    }

    /// How many rows there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether it should be sent before more is added.
    pub fn is_large(&self) -> bool {
        self.frames.len() >= LARGE_BLOCK_BYTES
    }

    /// Adds a message after the rows.
    pub fn end(&mut self, message: &RelayMessage) {
        frame::encode_text_with(&mut self.frames, |out| message.write(out));
    }

    /// Pushes the block.
    pub fn send(self) -> RowsPush {
        if self.frames.is_empty() {
            return RowsPush::More;
        }
        self.client.outbox.push_rows(&self.sub.stream, Frame::encoded(self.frames.as_slice().to_vec()))
    }
}

impl Drop for RowBlock<'_> {
    fn drop(&mut self) {
        let mut frames = std::mem::take(&mut self.frames);
        if frames.capacity() <= KEPT_BYTES {
            frames.clear();
            SCRATCH.set(frames);
        }
    }
}
