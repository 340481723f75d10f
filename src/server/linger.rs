//! The end of a socket: whether its client has left, and the wait for a client that was sent a close frame, which is
//! never longer than [`LINGER`].

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// How long a client may take to read its last frames once its connection is closing, and then to close its side.
pub const LINGER: Duration = Duration::from_secs(2);

/// Whether the client has closed its side, although what it sent before may be unread. The runtime knows.
pub fn has_left(stream: &TcpStream) -> bool {
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
