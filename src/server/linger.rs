//! The end of a socket: whether and since when its client has left, and the wait for a client that was sent a close
//! frame. Neither a client that left nor one that is to leave is served for longer than [`LINGER`].

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::ws::{Frame, OpCode, Outbox};

/// How long a client may take to read its last frames once its connection is closing, and then to close its side. Also
/// how long the relay reads on what a client sent before it left.
pub const LINGER: Duration = Duration::from_secs(2);

/// How often a held client is asked whether it is there, in milliseconds.
const PROBE_EVERY_MS: u64 = 1_000;

/// What is known of the leaving of a client in debt. Times are milliseconds of a clock that never goes back.
///
/// A client that pays debts is read slowly, and what it sent could take hours to read. So reading ends [`LINGER`] after
/// it has left, and what is unread is dropped.
#[derive(Debug, Default)]
pub struct Departure {
    left_ms: Option<u64>,
    probed_ms: Option<u64>,
}

impl Departure {
    /// Notes that the client has left, unless it is known.
    fn note(&mut self, now_ms: u64) {
        self.left_ms.get_or_insert(now_ms);
    }

    /// Looks whether a held client has left: it closed its side, or its socket no longer takes anything.
    pub fn look(&mut self, stream: &TcpStream, is_writable: bool, outbox: &Outbox, now_ms: u64) {
        if !is_writable || has_left(stream) {
            self.note(now_ms);
        } else if self.probes(now_ms) && outbox.is_empty() {
            outbox.push_reply(Frame::control(OpCode::Ping, b""));
        }
    }

    /// When reading ends, if the client has left.
    pub fn ends_ms(&self) -> Option<u64> {
        self.left_ms.map(|left_ms| left_ms + LINGER.as_millis() as u64)
    }

    /// Whether to ping a held client. Its close may wait behind input that is not read; then its machine answers the
    /// ping with a reset.
    fn probes(&mut self, now_ms: u64) -> bool {
        let is_due = self.left_ms.is_none() && self.probed_ms.is_none_or(|at_ms| now_ms - at_ms >= PROBE_EVERY_MS);
        if is_due {
            self.probed_ms = Some(now_ms);
        }
        is_due
    }
}

/// Whether the client has closed its side, although what it sent before may be unread. The runtime knows.
fn has_left(stream: &TcpStream) -> bool {
    let known = pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
    matches!(known, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// Closes our side and reads on until the client closes its own. Closing a socket with unread input resets it, and the
/// client could lose frames that it has not read yet. `scratch` is the buffer to read into.
pub async fn linger(stream: &mut TcpStream, scratch: &RefCell<Box<[u8]>>) {
    let closed = poll_fn(|cx| poll_closed(Pin::new(&mut *stream), scratch, cx));
    // A client that has not closed by then is cut off.
    let _ = tokio::time::timeout(LINGER, closed).await;
}

fn poll_closed(mut stream: Pin<&mut TcpStream>, scratch: &RefCell<Box<[u8]>>, cx: &mut Context<'_>) -> Poll<()> {
    if stream.as_mut().poll_shutdown(cx).is_pending() {
        return Poll::Pending;
    }
    let mut scratch = scratch.borrow_mut();
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        match stream.as_mut().poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends_two_seconds_after_the_client_was_first_known_to_have_left() {
        let mut departure = Departure::default();
        assert_eq!(departure.ends_ms(), None);
        for now_ms in [500, 700, 9_000] {
            departure.note(now_ms);
            assert_eq!(departure.ends_ms(), Some(2_500));
        }
    }

    #[test]
    fn a_held_client_is_probed_once_a_second_until_it_is_known_to_have_left() {
        let mut departure = Departure::default();
        let probes = [0, 999, 1_000, 1_999, 2_500, 3_400].map(|now_ms| departure.probes(now_ms));
        assert_eq!(probes, [true, false, true, false, true, false]);
        departure.note(3_450);
        assert!(!departure.probes(9_000));
    }
}
