//! The writing half of one connection: takes what its outbox holds and gives it to the socket.
//!
//! It never encodes, never reorders, and never keeps a buffer while there is nothing to send.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::outbox::{Outbox, Sent, Taken};
use super::outgoing::Frame;

/// Slices given to one vectored write: at most 64 frames of two parts.
///
/// 128 slices of 16 bytes are 2 KiB of stack; IOV_MAX is 1,024 on Linux.
const MAX_SLICES: usize = 128;

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is sent; the next push wakes the task.
    Idle,
    /// Everything is sent and a close frame was the last: shut the socket down.
    Closed,
}

/// The only consumer of an [`Outbox`], owned by the connection's task. When it is dropped the
/// outbox is over: pushes are refused and nothing stays counted.
#[derive(Debug)]
pub struct Writer {
    outbox: Arc<Outbox>,
    pending: VecDeque<Frame>,
    /// Bytes of the first pending frame that are sent already.
    begun_bytes: usize,
    sent: Sent,
    /// Nothing follows `pending`.
    last: bool,
}

impl Writer {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, pending: VecDeque::new(), begun_bytes: 0, sent: Sent::default(), last: false }
    }

    /// Tells pushers that the task is running, so that none of them wakes it: call it when the
    /// task's poll begins. The poll must end with [`Writer::poll_flush`], or a push in between
    /// is not sent until the task is polled for another reason.
    pub fn start_poll(&self) {
        self.outbox.disarm();
    }

    /// The outbox this drains.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Sends until nothing is left or the socket takes no more.
    ///
    /// `Pending`: the socket is full; the task is woken when it takes more, or by a close. A
    /// push does not wake it then, since it could not be sent. `Ready` with
    /// [`Flushed::Idle`]: the next push wakes the task.
    ///
    /// # Errors
    /// What the socket reports; a socket that takes 0 bytes is `WriteZero`.
    pub fn poll_flush<W: AsyncWrite + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        mut socket: Pin<&mut W>,
    ) -> Poll<io::Result<Flushed>> {
        loop {
            if self.pending.is_empty()
                && let Some(flushed) = self.take(cx)
            {
                return Poll::Ready(Ok(flushed));
            }
            match self.write_some(cx, socket.as_mut()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => self.advance(bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.wait(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Fetches more; `Some` if there is nothing to send.
    fn take(&mut self, cx: &Context<'_>) -> Option<Flushed> {
        let sent = std::mem::take(&mut self.sent);
        let taken = self.outbox.take(sent, &mut self.pending, cx.waker());
        self.last = matches!(taken, Taken::Last);
        match (self.pending.is_empty(), self.last) {
            (false, _) => None,
            (true, false) => Some(Flushed::Idle),
            (true, true) => Some(Flushed::Closed),
        }
    }

    /// Reports what was sent, and drops what need not be sent any more.
    fn wait(&mut self, cx: &Context<'_>) {
        let sent = std::mem::take(&mut self.sent);
        if let Taken::Cut(close) = self.outbox.wait(sent, cx.waker()) {
            let keep = usize::from(self.begun_bytes > 0);
            for frame in self.pending.drain(keep..) {
                self.sent.count(&frame);
            }
            self.pending.extend(close);
            let dropped = std::mem::take(&mut self.sent);
            self.outbox.wait(dropped, cx.waker());
        }
    }

    fn write_some<W: AsyncWrite + ?Sized>(&self, cx: &mut Context<'_>, socket: Pin<&mut W>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.gather(&mut slices);
        if let [only] = &slices[..count] {
            return socket.poll_write(cx, only);
        }
        socket.poll_write_vectored(cx, &slices[..count])
    }

    /// Fills `slices` with unsent parts in order; returns how many.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut count = 0;
        let mut skip = self.begun_bytes;
        for frame in &self.pending {
            if count + 2 > MAX_SLICES {
                break;
            }
            for part in [frame.head(), frame.body()] {
                let skipped = skip.min(part.len());
                skip -= skipped;
                let part = &part[skipped..];
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        count
    }

    /// Takes `bytes` that the socket accepted off the front.
    fn advance(&mut self, bytes: usize) {
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
