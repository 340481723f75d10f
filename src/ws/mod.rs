//! How bytes cross the socket: WebSocket framing (RFC 6455), compression (RFC 7692) and the bounded queue of each
//! connection.
//!
//! It never reads a clock, spawns a task or knows what a message means. fastwebsockets provides the handshake, masking
//! and the codes. Frames are read and written here, because one event goes to many clients as the same bytes, and an
//! idle connection must own no buffer.
//!
//! A connection is one task that owns a [`Reader`] and a [`Writer`]. Everything else holds its [`Outbox`]. One poll of
//! the task:
//!
//! ```no_run
//! use std::pin::Pin;
//! use std::task::{Context, Poll, ready};
//! use tokio::io::{AsyncRead, ReadBuf};
//! use weir::ws::{CloseCode, Fed, Flow, Flushed, Frame, Incoming, OpCode, Reader, Writer};
//!
//! struct Connection {
//!     socket: tokio::net::TcpStream,
//!     reader: Reader,
//!     writer: Writer,
//!     reading: bool,
//! }
//!
//! impl Connection {
//!     // `scratch` belongs to the thread, and its connections use it in turn.
//!     fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<std::io::Result<()>> {
//!         self.writer.start_poll();
//!         let outbox = self.writer.outbox().clone();
//!         let mut sink = |incoming: Incoming<'_>| match incoming {
//!             Incoming::Text(text) => {
//!                 outbox.push_reply(Frame::text(text)); // or Flow::Pause: no permits left
//!                 Flow::Continue
//!             }
//!             Incoming::Ping(payload) => {
//!                 outbox.push_reply(Frame::control(OpCode::Pong, payload));
//!                 Flow::Continue
//!             }
//!             Incoming::Pong(_) => Flow::Continue,
//!             Incoming::Close(code, _) => {
//!                 outbox.close(code.map_or(CloseCode::Normal, CloseCode::from), "");
//!                 Flow::Stop
//!             }
//!         };
//!         // If the reader was paused and may continue: self.reader.resume(&mut sink).
//!         while self.reading && !self.reader.is_paused() {
//!             let mut read = ReadBuf::new(scratch);
//!             match Pin::new(&mut self.socket).poll_read(cx, &mut read) {
//!                 Poll::Pending => break,
//!                 Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
//!                 Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
//!                 Poll::Ready(Ok(())) => match self.reader.feed(read.filled_mut(), &mut sink) {
//!                     Ok(Fed::More | Fed::Paused) => {}
//!                     Ok(Fed::Ended) => self.reading = false,
//!                     Err(violation) => {
//!                         outbox.close(violation.close_code(), &violation.to_string());
//!                         self.reading = false;
//!                     }
//!                 },
//!             }
//!         }
//!         match ready!(self.writer.poll_flush(cx, Pin::new(&mut self.socket), usize::MAX))? {
//!             Flushed::Idle => Poll::Pending,
//!             Flushed::Closed => Poll::Ready(Ok(())), // shut the socket down
//!             Flushed::Paused => {
//!                 cx.waker().wake_by_ref(); // after other tasks
//!                 Poll::Pending
//!             }
//!         }
//!     }
//! }
//! ```

pub mod deflate;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod keepalive;
#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;
pub mod outbox;
pub mod outboxes;
pub mod outgoing;
pub mod push;
pub mod reader;
pub mod stream;
#[cfg(any(test, fuzzing))]
pub mod testing;
pub mod upgrade;
pub mod wakeups;
pub mod writer;

pub use frame::{CloseCode, OpCode, Role, Violation};
pub use keepalive::{Keepalive, KeepaliveAction, KeepaliveOptions};
pub use outbox::{Outbox, Resume};
pub use outboxes::Outboxes;
pub use outgoing::{Budget, Frame, SharedBody};
pub use push::{LivePush, OutboxOptions, Overflow, RowsPush};
pub use reader::{Fed, Flow, Incoming, Reader, ReaderOptions, Work};
pub use stream::Stream;
pub use upgrade::{Refusal, UpgradeError, Upgraded, Upgrading};
pub use wakeups::Wakeups;
pub use writer::{Flushed, Writer};
