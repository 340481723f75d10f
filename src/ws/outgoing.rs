//! What waits to be sent: encoded frames, and event bodies shared by all who subscribed.
//!
//! It never knows who receives what; it never encodes the same body twice.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::deflate;
use super::frame::{self, CloseCode, HeaderBytes, OpCode};

/// Bytes a [`Frame`] holds without a heap allocation.
///
/// A WebSocket header (4 for up to 64 KiB), a stored block's header (5), `["EVENT","` (10), a subscription id of 64
/// one-byte characters and `",` (2) are 85 bytes; an OK is 83.
pub const INLINE_BYTES: usize = 86;

/// One or more whole encoded frames, or one frame in two parts: a head of its own and a body
/// shared with other connections.
///
/// | bytes | part |
/// |---|---|
/// | 0..86 | head, inline |
/// | 86 | bytes of the head in use |
/// | 87 | whether the body is shared, so that somebody else pays for it |
/// | 88..96 | the number of its [`Stream`](super::Stream); 0 without one |
/// | 96..128 | body |
#[derive(Clone)]
pub struct Frame {
    head: [u8; INLINE_BYTES],
    head_len: u8,
    shared: bool,
    stream: u64,
    body: Bytes,
}

const _: () = assert!(size_of::<Frame>() == 128);
const _: () = assert!(INLINE_BYTES <= u8::MAX as usize);

impl Frame {
    /// Takes one or more whole frames that are already encoded, such as rows of a scan.
    #[must_use]
    pub fn encoded(frames: Bytes) -> Self {
        Self { head: [0; INLINE_BYTES], head_len: 0, shared: false, stream: 0, body: frames }
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
        Self::encoded(encoded.into())
    }

    fn whole(opcode: OpCode, payload: &[u8]) -> Self {
        let header = HeaderBytes::new(opcode, false, payload.len());
        Self::joined(&[header.as_slice(), payload], Bytes::new())
    }

    /// One frame of `parts`, inline if they fit, and `body`; everything is copied into one
    /// buffer if they do not.
    fn joined(parts: &[&[u8]], body: Bytes) -> Self {
        let head_len: usize = parts.iter().map(|part| part.len()).sum();
        if head_len > INLINE_BYTES {
            let mut whole = Vec::with_capacity(head_len + body.len());
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.extend_from_slice(&body);
            return Self::encoded(whole.into());
        }
        let mut head = [0; INLINE_BYTES];
        let mut at = 0;
        for part in parts {
            head[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Self { head, head_len: head_len as u8, shared: !body.is_empty(), stream: 0, body }
    }

    /// The same, as part of a stream.
    #[inline]
    pub(super) fn of(self, stream: u64) -> Self {
        Self { stream, ..self }
    }

    /// The number of its stream; 0 without one.
    #[inline]
    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// The part only this frame has; may be empty.
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

    /// Bytes this puts on the wire.
    #[must_use]
    #[inline]
    pub fn wire_bytes(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Bytes of memory that are freed when this frame is sent: its place in the queue and a
    /// body that is not shared. A shared body is paid for once, by its [`SharedBody`].
    #[must_use]
    #[inline]
    pub fn owned_bytes(&self) -> usize {
        size_of::<Self>() + if self.shared { 0 } else { self.body.len() }
    }

    /// Where the message ends that is cut by a socket which took `begun_bytes`; messages after it may be left out.
    pub(super) fn message_end(&self, begun_bytes: usize) -> usize {
        // A head belongs to a single message.
        if self.head_len > 0 { self.wire_bytes() } else { frame::message_end(&self.body, begun_bytes) }
    }

    /// Leaves out what follows the first `wire_bytes` of a frame without a head, and frees it.
    pub(super) fn truncate(&mut self, wire_bytes: usize) {
        debug_assert!(self.head_len == 0 && !self.shared, "a head belongs to a single message");
        self.body = Bytes::copy_from_slice(&self.body[..wire_bytes]);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: events must not reach a log.
        f.debug_struct("Frame")
            .field("head_bytes", &self.head_len)
            .field("body_bytes", &self.body.len())
            .field("shared", &self.shared)
            .finish()
    }
}

/// Frames that left an outbox: sent, or dropped.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sent {
    pub(super) frames: usize,
    pub(super) wire_bytes: usize,
    pub(super) owned_bytes: usize,
}

impl Sent {
    pub(super) fn count(&mut self, frame: &Frame) {
        self.frames += 1;
        self.wire_bytes += frame.wire_bytes();
        self.owned_bytes += frame.owned_bytes();
    }

    /// Counts bytes that a frame was shortened by.
    pub(super) fn count_cut(&mut self, bytes: usize) {
        self.wire_bytes += bytes;
        self.owned_bytes += bytes;
    }
}

/// Bytes that wait in outboxes: an address's account in that of all (INV-12).
pub type Budget = crate::ledger::Account;

/// Bytes that are counted in a [`Budget`] for as long as any frame refers to them.
struct Counted {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl Counted {
    fn share(bytes: Vec<u8>, budget: &Arc<Budget>) -> Bytes {
        budget.add(bytes.capacity() as u64);
        let budget = Arc::clone(budget);
        Bytes::from_owner(Self { bytes, budget })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.sub(self.bytes.capacity() as u64);
    }
}

/// The end of an EVENT message, `{…}]`, rendered once for all its receivers and compressed at
/// most once.
///
/// A receiver's frame is its own head, `["EVENT","<sub>",`, and this body. With
/// permessage-deflate the head travels as a stored block and the body as a compressed block
/// that refers to nothing before itself, so the same bytes inflate in every connection whatever
/// its window holds (RFC 7692 §7.2.3.6; RFC 1951 §3.2.4).
#[derive(Debug)]
pub struct SharedBody {
    plain: Bytes,
    deflated: OnceLock<Option<Bytes>>,
    budget: Arc<Budget>,
}

impl SharedBody {
    /// Shares `plain`, the rest of the message after the head, and counts it in `budget` until
    /// the last frame with it is sent.
    #[must_use]
    pub fn new(plain: Vec<u8>, budget: &Arc<Budget>) -> Self {
        Self { plain: Counted::share(plain, budget), deflated: OnceLock::new(), budget: Arc::clone(budget) }
    }

    /// The body as text.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The frame for one receiver: `head` is its `["EVENT","<sub>",`; `deflate` tells that its
    /// connection negotiated permessage-deflate. A body that compression does not shrink goes
    /// out plain, which is legal on any connection.
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
                Some(Counted::share(block, &self.budget))
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
