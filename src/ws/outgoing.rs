//! What waits to be sent: encoded frames, and event bodies that all recipients share.
//!
//! It never knows who receives what, and never encodes the same body twice.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::deflate;
use super::frame::{self, CloseCode, HeaderBytes, OpCode};

/// Bytes that a [`Frame`] holds without a heap allocation.
///
/// A WebSocket header (4 for up to 64 KiB), a stored block's header (5), `["EVENT","` (10), a subscription id of 64
/// one-byte characters and `",` (2) are 85 bytes; an OK is 83.
pub const INLINE_BYTES: usize = 86;

/// One or more whole encoded frames, or one frame in two parts: its own head, and a body that other connections share.
///
/// | bytes | part |
/// |---|---|
/// | 0..86 | head, inline |
/// | 86 | bytes of the head in use |
/// | 87 | `SHARED`, or the spare capacity of the body's allocation, in 1/`SPARE_PARTS` of its length |
/// | 88..96 | the number of its [`Stream`](super::Stream); 0 without one |
/// | 96..128 | body |
#[derive(Clone)]
pub struct Frame {
    head: [u8; INLINE_BYTES],
    head_len: u8,
    spare: u8,
    stream: u64,
    body: Bytes,
}

/// The body is shared: its [`SharedBody`] counts it.
const SHARED: u8 = u8::MAX;

/// A buffer that grew by doubling has at most as much spare capacity as content.
const SPARE_PARTS: u8 = SHARED - 1;

const _: () = assert!(size_of::<Frame>() == 128);
const _: () = assert!(INLINE_BYTES <= u8::MAX as usize);

impl Frame {
    /// One or more whole frames that are already encoded, such as rows of a scan.
    #[must_use]
    pub fn encoded(frames: Vec<u8>) -> Self {
        let (bytes, spare_bytes) = (frames.len().max(1), frames.capacity() - frames.len());
        let parts = usize::from(SPARE_PARTS);
        let spare = (spare_bytes * parts).div_ceil(bytes).min(parts) as u8;
        Self { head: [0; INLINE_BYTES], head_len: 0, spare, stream: 0, body: frames.into() }
    }

    /// A text message; one that fits in [`INLINE_BYTES`] with its header costs no allocation.
    #[must_use]
    pub fn text(payload: &str) -> Self {
        Self::whole(OpCode::Text, payload.as_bytes())
    }

    /// A ping or pong; a payload beyond 125 bytes is cut.
    #[must_use]
    pub fn control(opcode: OpCode, payload: &[u8]) -> Self {
        debug_assert!(matches!(opcode, OpCode::Ping | OpCode::Pong));
        Self::whole(opcode, &payload[..payload.len().min(frame::MAX_CONTROL_BYTES)])
    }

    /// A close frame; see [`frame::encode_close`].
    #[must_use]
    pub fn close(code: CloseCode, reason: &str) -> Self {
        let mut encoded = Vec::with_capacity(2 + frame::MAX_CONTROL_BYTES);
        frame::encode_close(&mut encoded, code, reason);
        Self::encoded(encoded)
    }

    fn whole(opcode: OpCode, payload: &[u8]) -> Self {
        let header = HeaderBytes::new(opcode, false, payload.len());
        Self::joined(&[header.as_slice(), payload], Bytes::new())
    }

    /// One frame of `parts` and `body`. The parts are held inline if they fit; else everything is copied into one
    /// buffer.
    fn joined(parts: &[&[u8]], body: Bytes) -> Self {
        let head_len: usize = parts.iter().map(|part| part.len()).sum();
        if head_len > INLINE_BYTES {
            let mut whole = Vec::with_capacity(head_len + body.len());
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.extend_from_slice(&body);
            return Self::encoded(whole);
        }
        let mut head = [0; INLINE_BYTES];
        let mut at = 0;
        for part in parts {
            head[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Self { head, head_len: head_len as u8, spare: if body.is_empty() { 0 } else { SHARED }, stream: 0, body }
    }

    /// The frame as part of a stream.
    #[inline]
    pub(super) fn of(self, stream: u64) -> Self {
        Self { stream, ..self }
    }

    /// The number of its stream; 0 without one.
    #[inline]
    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// The part that only this frame has; may be empty.
    #[must_use]
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// The part that follows the head; may be empty.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes on the wire.
    #[must_use]
    #[inline]
    pub fn wire_bytes(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Bytes of memory that are freed when this frame is sent: its place in the queue and, unless it is shared, its
    /// body with the spare capacity. A shared body is counted once, by its [`SharedBody`].
    #[must_use]
    #[inline]
    pub fn owned_bytes(&self) -> usize {
        let own = if self.spare == SHARED { 0 } else { self.body.len() };
        size_of::<Self>() + own + own * usize::from(self.spare) / usize::from(SPARE_PARTS)
    }

    /// Where the message ends that the socket has begun, having taken `begun_bytes`. Messages after it may be left out.
    pub(super) fn message_end(&self, begun_bytes: usize) -> usize {
        // A head belongs to a single message.
        if self.head_len > 0 { self.wire_bytes() } else { frame::message_end(&self.body, begun_bytes) }
    }

    /// Cuts a frame without a head to its first `wire_bytes` and frees the rest.
    pub(super) fn truncate(&mut self, wire_bytes: usize) {
        debug_assert!(self.head_len == 0 && self.spare != SHARED, "a head belongs to a single message");
        *self = Self { stream: self.stream, ..Self::encoded(self.body[..wire_bytes].to_vec()) };
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: events must not get into a log.
        f.debug_struct("Frame")
            .field("head_bytes", &self.head_len)
            .field("body_bytes", &self.body.len())
            .field("shared", &(self.spare == SHARED))
            .finish()
    }
}

/// Frames that left an outbox: sent, or dropped.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FrameTotals {
    pub(super) frames: usize,
    pub(super) wire_bytes: usize,
    pub(super) owned_bytes: usize,
}

impl FrameTotals {
    pub(super) fn count(&mut self, frame: &Frame) {
        self.frames += 1;
        self.wire_bytes += frame.wire_bytes();
        self.owned_bytes += frame.owned_bytes();
    }

    /// Counts what a frame lost when it was cut.
    pub(super) fn count_cut(&mut self, before: [usize; 2], now: &Frame) {
        let [wire_bytes, owned_bytes] = before;
        self.wire_bytes += wire_bytes - now.wire_bytes();
        self.owned_bytes += owned_bytes - now.owned_bytes();
    }
}

/// Bytes that wait in outboxes: the account of an address, within the account of all (INV-12).
pub type Budget = crate::ledger::Account;

/// Bytes that are counted in a [`Budget`] for as long as any frame refers to them.
struct CountedBytes {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl CountedBytes {
    fn share(bytes: Vec<u8>, budget: &Arc<Budget>) -> Bytes {
        budget.add(bytes.capacity() as u64);
        let budget = Arc::clone(budget);
        Bytes::from_owner(Self { bytes, budget })
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.budget.sub(self.bytes.capacity() as u64);
    }
}

/// The end of an EVENT message, `{…}]`: rendered once for all its recipients, and compressed at most once.
///
/// A recipient's frame is its own head, `["EVENT","<sub>",`, and this body. With permessage-deflate the head is sent as
/// a stored block, and the body as a compressed block that refers to nothing before itself. So the same bytes inflate
/// in every connection, whatever its window holds (RFC 7692 §7.2.3.6; RFC 1951 §3.2.4).
#[derive(Debug)]
pub struct SharedBody {
    plain: Bytes,
    deflated: OnceLock<Option<Bytes>>,
    budget: Arc<Budget>,
}

impl SharedBody {
    /// Shares `plain`, the message after its head. `budget` counts it until the last frame with it is sent.
    #[must_use]
    pub fn new(plain: Vec<u8>, budget: &Arc<Budget>) -> Self {
        Self { plain: CountedBytes::share(plain, budget), deflated: OnceLock::new(), budget: Arc::clone(budget) }
    }

    /// The body as text.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The frame for one recipient. `head` is its `["EVENT","<sub>",`; `deflate` tells whether its connection
    /// negotiated permessage-deflate. A body that compression does not shrink is sent plain, which is legal on any
    /// connection.
    #[must_use]
    #[inline]
    pub fn frame(&self, head: &[u8], deflate: bool) -> Frame {
        if deflate && let Some(block) = self.deflated() {
            return deflated_frame(head, block);
        }
        let header = HeaderBytes::new(OpCode::Text, false, head.len() + self.plain.len());
        Frame::joined(&[header.as_slice(), head], self.plain.clone())
    }

    fn deflated(&self) -> Option<&Bytes> {
        self.deflated
            .get_or_init(|| {
                let block = deflate::compress_block(&self.plain)?;
                Some(CountedBytes::share(block, &self.budget))
            })
            .as_ref()
    }
}

fn deflated_frame(head: &[u8], block: &Bytes) -> Frame {
    let stored = deflate::stored_block_header(head.len());
    let payload_bytes = stored.len() + head.len() + block.len();
    let header = HeaderBytes::new(OpCode::Text, true, payload_bytes);
    Frame::joined(&[header.as_slice(), &stored, head], block.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_the_spare_capacity_of_its_buffer() {
        let owned = |bytes: usize, capacity: usize| {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(bytes, b' ');
            assert_eq!(buffer.capacity(), capacity);
            Frame::encoded(buffer).owned_bytes() - size_of::<Frame>()
        };
        assert_eq!([owned(1000, 1000), owned(1000, 2000), owned(0, 8)], [1000, 2000, 0]);
        let half = owned(100_000, 150_000);
        assert!((150_000..151_000).contains(&half), "{half}");
    }

    #[test]
    fn what_is_cut_off_a_frame_is_counted_out() {
        let mut buffer = Vec::with_capacity(3000);
        buffer.resize(2000, b' ');
        let mut frame = Frame::encoded(buffer);
        let (before, mut sent) = ([frame.wire_bytes(), frame.owned_bytes()], FrameTotals::default());
        frame.truncate(500);
        sent.count_cut(before, &frame);
        sent.count(&frame);
        assert_eq!([sent.wire_bytes, sent.owned_bytes], before);
    }
}
