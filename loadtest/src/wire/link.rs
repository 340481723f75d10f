//! One connection: writes at once when the socket takes it, reads many frames at a time, answers pings.
//!
//! It must never keep a buffer while idle: a process holds ten thousand of these.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Result;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::codec::Codec;
use super::frame::{Assembler, MASK, encode, opcode};
use super::stream::{Stream, Upgraded};

/// Bytes per read; shared by all connections of the thread.
const READ_BYTES: usize = 256 << 10;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Handles what a connection receives.
pub trait Handler {
    /// A complete text message, read at `at`.
    fn message(&mut self, link: &Link, text: &[u8], at: Instant);
    /// All messages of one read have been handed over.
    fn batch_end(&mut self, _link: &Link, _at: Instant) {}
    /// The connection is gone; `asked` tells whether this side closed it.
    fn closed(&mut self, reason: &str, asked: bool);
}

/// Bytes over all connections of a phase.
#[derive(Default, Debug)]
pub struct Traffic {
    /// Received, frames included.
    pub received: Cell<u64>,
    /// Handed to the kernel.
    pub sent: Cell<u64>,
    /// Reads that returned something.
    pub reads: Cell<u64>,
}

/// The writing side of a connection, shared by all its senders.
pub struct Link {
    /// Borrowed for one call at a time, never while a message is handled.
    stream: RefCell<Stream>,
    codec: Codec,
    waiting: RefCell<Vec<u8>>,
    /// Something waits here or in the stream.
    unsent: Cell<bool>,
    wake: Notify,
    closing: Cell<bool>,
    paused: Cell<bool>,
    traffic: Rc<Traffic>,
}

impl Link {
    /// Takes an upgraded connection apart.
    pub fn new(upgraded: Upgraded, traffic: Rc<Traffic>) -> (Rc<Self>, Reader) {
        let Upgraded { stream, early, assembler, codec } = upgraded;
        let link = Rc::new(Self {
            stream: RefCell::new(stream),
            codec,
            waiting: RefCell::default(),
            unsent: Cell::new(false),
            wake: Notify::new(),
            closing: Cell::new(false),
            paused: Cell::new(false),
            traffic,
        });
        (link.clone(), Reader { early, assembler, link })
    }

    /// Sends encoded frames; bytes that the socket does not take now are sent when it is writable.
    pub fn send(&self, frames: &[u8]) {
        if self.closing.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            waiting.extend_from_slice(frames);
            return;
        }
        // An error other than `WouldBlock` shows up at the reader as well.
        let written = self.stream.borrow().try_write(frames).unwrap_or(0);
        self.traffic.sent.set(self.traffic.sent.get() + written as u64);
        if written < frames.len() {
            waiting.extend_from_slice(&frames[written..]);
            self.unsent.set(true);
            self.wake.notify_one();
        }
    }

    /// Encodes and sends one text message.
    pub fn send_text(&self, text: &[u8]) {
        let mut frame = Vec::with_capacity(text.len() + 14);
        self.codec.text(text, &mut frame);
        self.send(&frame);
    }

    /// Ends the connection; the reader returns.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }

    /// Stops or resumes reading, as a client that hangs does.
    pub fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.wake.notify_one();
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let (mut waiting, mut stream) = (self.waiting.borrow_mut(), self.stream.borrow_mut());
        while !waiting.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(context, &waiting))?;
            self.traffic.sent.set(self.traffic.sent.get() + written as u64);
            waiting.drain(..written);
        }
        *waiting = Vec::new();
        ready!(Pin::new(&mut *stream).poll_flush(context))?;
        self.unsent.set(false);
        Poll::Ready(Ok(()))
    }
}

/// The reading side; spawn a task for it.
pub struct Reader {
    early: Vec<u8>,
    assembler: Assembler,
    link: Rc<Link>,
}

impl Reader {
    /// Reads until either side closes, and tells the handler why it ended.
    pub async fn run<H: Handler + ?Sized>(mut self, handler: Rc<RefCell<H>>) {
        let early = std::mem::take(&mut self.early);
        let outcome = match self.accept(&early, &handler) {
            Ok(()) => self.serve(&handler).await,
            Err(reason) => Err(reason),
        };
        let asked = self.link.closing.get();
        self.link.closing.set(true);
        let reason = outcome.err().unwrap_or_default();
        handler.borrow_mut().closed(&reason, asked);
    }

    async fn serve<H: Handler + ?Sized>(&mut self, handler: &Rc<RefCell<H>>) -> std::result::Result<(), String> {
        let link = self.link.clone();
        loop {
            if link.closing.get() {
                return Ok(());
            }
            let (unsent, paused) = (link.unsent.get(), link.paused.get());
            tokio::select! {
                biased;
                () = link.wake.notified() => {}
                flushed = poll_fn(|context| link.poll_flush(context)), if unsent => {
                    flushed.map_err(|error| error.to_string())?;
                }
                outcome = self.read(handler), if !paused => outcome?,
            }
        }
    }

    /// One read, handled in place: nothing waits while the shared buffer is borrowed.
    async fn read<H: Handler + ?Sized>(&mut self, handler: &Rc<RefCell<H>>) -> std::result::Result<(), String> {
        poll_fn(|context| {
            READ_BUFFER.with_borrow_mut(|bytes| {
                let mut buffer = ReadBuf::new(bytes);
                let read = Pin::new(&mut *self.link.stream.borrow_mut()).poll_read(context, &mut buffer);
                match read {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.to_string())),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        Poll::Ready(Err("the relay closed the connection".to_string()))
                    }
                    Poll::Ready(Ok(())) => Poll::Ready(self.accept(buffer.filled(), handler)),
                }
            })
        })
        .await
    }

    fn accept<H: Handler + ?Sized>(
        &mut self,
        bytes: &[u8],
        handler: &Rc<RefCell<H>>,
    ) -> std::result::Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (link, at) = (&*self.link, Instant::now());
        let traffic = &link.traffic;
        traffic.received.set(traffic.received.get() + bytes.len() as u64);
        traffic.reads.set(traffic.reads.get() + 1);
        let mut close = None;
        let mut handler = handler.borrow_mut();
        let outcome = self.assembler.push(bytes, |kind, payload| match kind {
            opcode::TEXT => handler.message(link, payload, at),
            opcode::PING => {
                let mut pong = Vec::new();
                encode(opcode::PONG, payload, MASK, &mut pong);
                link.send(&pong);
            }
            opcode::CLOSE => close = Some(close_reason(payload)),
            _ => {}
        });
        handler.batch_end(link, at);
        drop(handler);
        outcome?;
        close.map_or(Ok(()), Err)
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, text @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("the relay closed with {code} {}", String::from_utf8_lossy(text))
        }
        _ => "the relay closed without a status".to_string(),
    }
}
