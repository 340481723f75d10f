//! The writing half of one connection: moves frames from its outbox to the socket.
//!
//! It never encodes or reorders, and owns no buffer while there is nothing to send.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use super::outbox::{NextFrames, Outbox};
use super::outgoing::{Budget, Frame, FrameTotals};
use super::push::OutboxOptions;
use super::wakeups::Wakeups;

/// The most pieces of one vectored write; IOV_MAX is 1,024 on Linux.
///
/// Small parts are copied together, so 64 pieces are at least 64 KiB unless fewer bytes are pending.
const MAX_PIECES: usize = 64;

/// Parts up to this length are copied into one buffer; each longer part gets its own slice.
///
/// Over loopback, 16 frames with a head of 60 B and a body of 100, 600, 1,000, 2,000 and 4,000 B cost 0.9, 1.3, 1.5,
/// 2.9 and 4.2 µs of CPU as slices, and 0.6, 0.8, 1.0, 1.8 and 3.6 µs copied. With 64 frames, copying is no better from
/// 2,000 B on.
const MAX_COPIED_PART: usize = 2000;

/// The size of the thread's buffer for copied parts.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A piece of one write: a range of the scratch buffer, or a part of a frame in place.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Copied { start: usize, end: usize },
    InPlace(&'a [u8]),
}

type Pieces<'a> = SmallVec<[Piece<'a>; MAX_PIECES]>;

impl<'a> Piece<'a> {
    #[inline]
    fn bytes(&self, scratch: &'a [u8]) -> &'a [u8] {
        match *self {
            Self::Copied { start, end } => &scratch[start..end],
            Self::InPlace(part) => part,
        }
    }
}

/// The result of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is sent; the next push wakes the task.
    Idle,
    /// Everything is sent, and a close frame was the last: shut the socket down.
    Closed,
    /// The socket has taken as much as it may in one poll. More waits; only a close wakes the task.
    Paused,
}

/// The only consumer of an [`Outbox`], owned by the connection's task. Dropping it ends the outbox: pushes are refused
/// and nothing stays counted.
#[derive(Debug)]
pub struct Writer {
    outbox: Arc<Outbox>,
    pending: VecDeque<Frame>,
    /// Bytes of the first pending frame that are already sent.
    begun_bytes: usize,
    sent: FrameTotals,
    sent_bytes: u64,
    /// No frames follow `pending`.
    last: bool,
}

impl Writer {
    /// An empty outbox and the writer that drains it. Pushers reach the writer's task through `wakeups` if there are
    /// any, else by waking it directly.
    #[must_use]
    pub fn with_outbox(
        options: OutboxOptions,
        budget: Arc<Budget>,
        wakeups: Option<Arc<Wakeups>>,
    ) -> (Arc<Outbox>, Self) {
        let outbox = Outbox::new(options, budget, wakeups);
        (Arc::clone(&outbox), Self::new(outbox))
    }

    fn new(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            pending: VecDeque::new(),
            begun_bytes: 0,
            sent: FrameTotals::default(),
            sent_bytes: 0,
            last: false,
        }
    }

    /// Tells pushers that the task is running, so that they do not wake it. Call it when the task's poll begins. The
    /// poll must end with [`Writer::poll_flush`]; otherwise a push in between is not sent until something else wakes
    /// the task.
    pub fn start_poll(&self) {
        self.outbox.disarm();
    }

    /// Bytes that the socket has taken since the last call.
    pub fn take_sent_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.sent_bytes)
    }

    /// The outbox that it drains.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Sends until nothing is left, the socket is full, or it has taken `max_bytes`, which must be positive.
    ///
    /// `Pending`: the task is woken when the socket takes more, and by a close. A push does not wake it then, since it
    /// could not be sent. `Ready` with [`Flushed::Idle`]: the next push wakes the task. A client that does not read
    /// does not read a close frame either: once [`Outbox::is_closed`] is true, the task needs a deadline.
    ///
    /// # Errors
    /// Those of the socket; `WriteZero` if it takes 0 bytes.
    pub fn poll_flush<W: AsyncWrite + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        mut socket: Pin<&mut W>,
        max_bytes: usize,
    ) -> Poll<io::Result<Flushed>> {
        if !self.pending.is_empty() {
            self.withdraw();
        }
        let mut polled_bytes = 0;
        loop {
            if self.pending.is_empty()
                && let Some(flushed) = self.take(cx)
            {
                return Poll::Ready(Ok(flushed));
            }
            match self.write_some(cx, socket.as_mut(), max_bytes - polled_bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => {
                    self.advance(bytes);
                    polled_bytes += bytes;
                    if polled_bytes >= max_bytes {
                        self.wait(cx);
                        return Poll::Ready(Ok(Flushed::Paused));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Fetches more frames; `Some` if there are none.
    fn take(&mut self, cx: &Context<'_>) -> Option<Flushed> {
        let sent = std::mem::take(&mut self.sent);
        let taken = self.outbox.take(sent, &mut self.pending, cx.waker());
        self.last = matches!(taken, NextFrames::Last);
        match (self.pending.is_empty(), self.last) {
            (false, _) => None,
            (true, false) => Some(Flushed::Idle),
            (true, true) => Some(Flushed::Closed),
        }
    }

    /// Reports what was sent, and drops what no longer needs to be sent.
    fn wait(&mut self, cx: &Context<'_>) {
        let sent = std::mem::take(&mut self.sent);
        if let NextFrames::Cut(close) = self.outbox.wait(sent, cx.waker()) {
            let keep = usize::from(self.begun_bytes > 0);
            for frame in self.pending.drain(keep..) {
                self.sent.count(&frame);
            }
            self.pending.extend(close);
            let dropped = std::mem::take(&mut self.sent);
            self.outbox.wait(dropped, cx.waker());
        }
    }

    /// Drops pending frames of streams that have ended. A message that the socket has taken part of is sent to its end.
    fn withdraw(&mut self) {
        let ended = self.outbox.take_ended();
        if ended.is_empty() {
            return;
        }
        let begun = if self.begun_bytes > 0 { self.pending.pop_front() } else { None };
        self.pending.retain(|frame| {
            let is_kept = !ended.contains(&frame.stream());
            if !is_kept {
                self.sent.count(frame);
            }
            is_kept
        });
        let Some(mut first) = begun else { return };
        if ended.contains(&first.stream()) {
            let (end, wire_bytes) = (first.message_end(self.begun_bytes), first.wire_bytes());
            if end == self.begun_bytes {
                self.sent.count(&first);
                self.begun_bytes = 0;
                return;
            }
            if end < wire_bytes {
                let before = [wire_bytes, first.owned_bytes()];
                first.truncate(end);
                self.sent.count_cut(before, &first);
            }
        }
        self.pending.push_front(first);
    }

    /// One write of at most `max_bytes`.
    fn write_some<W: AsyncWrite + ?Sized>(
        &self,
        cx: &mut Context<'_>,
        socket: Pin<&mut W>,
        max_bytes: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(bytes) = self.only_part() {
            return socket.poll_write(cx, &bytes[..bytes.len().min(max_bytes)]);
        }
        let mut scratch = SCRATCH.take();
        let mut pieces = SmallVec::new();
        self.gather(&mut scratch, &mut pieces, max_bytes);
        let written = if let [only] = pieces.as_slice() {
            socket.poll_write(cx, only.bytes(&scratch))
        } else {
            let slices: SmallVec<[IoSlice<'_>; MAX_PIECES]> =
                pieces.iter().map(|piece| IoSlice::new(piece.bytes(&scratch))).collect();
            socket.poll_write_vectored(cx, &slices)
        };
        SCRATCH.set(scratch);
        written
    }

    /// The pending bytes, if they are one frame in one part, such as a single OK.
    fn only_part(&self) -> Option<&[u8]> {
        let (1, Some(frame)) = (self.pending.len(), self.pending.front()) else {
            return None;
        };
        match (frame.head(), frame.body()) {
            (part, []) | ([], part) => Some(&part[self.begun_bytes..]),
            _ => None,
        }
    }

    /// Divides the first `max_bytes` of the pending frames into pieces, in order. Copies small parts into `scratch`.
    fn gather<'a>(&'a self, scratch: &mut Vec<u8>, pieces: &mut Pieces<'a>, max_bytes: usize) {
        scratch.clear();
        scratch.reserve(SCRATCH_BYTES);
        let (mut skip, mut left) = (self.begun_bytes, max_bytes);
        let parts = self.pending.iter().flat_map(|frame| [frame.head(), frame.body()]);
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let part = &part[skipped..];
            let part = &part[..part.len().min(left)];
            let start = scratch.len();
            let copy = part.len() <= MAX_COPIED_PART && start + part.len() <= SCRATCH_BYTES;
            if copy {
                scratch.extend_from_slice(part);
            }
            let full = pieces.len() == MAX_PIECES;
            match pieces.last_mut() {
                _ if part.is_empty() => {}
                Some(Piece::Copied { end, .. }) if copy => *end = scratch.len(),
                _ if full => break,
                _ if copy => pieces.push(Piece::Copied { start, end: scratch.len() }),
                _ => pieces.push(Piece::InPlace(part)),
            }
            left -= part.len();
            if left == 0 {
                break;
            }
        }
    }

    /// Removes the `bytes` that the socket took from the front.
    fn advance(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
        self.begun_bytes += bytes;
        while let Some(first) = self.pending.front() {
            let wire_bytes = first.wire_bytes();
            if self.begun_bytes < wire_bytes {
                return;
            }
            self.begun_bytes -= wire_bytes;
            self.sent.count(first);
            self.pending.pop_front();
        }
        assert_eq!(self.begun_bytes, 0, "the socket took more than it was given");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.abandon();
    }
}

#[cfg(test)]
mod tests;
