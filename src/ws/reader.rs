//! The reading half of one connection: bytes from the socket in, whole messages out.
//!
//! It never reads a socket itself, never holds a buffer unless a frame or message is incomplete, and never delivers a
//! message that is longer than its limit.

use super::deflate;
use super::frame::{Header, OpCode, Role, Violation, parse_close, unmask};

/// What a [`Reader`] accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderOptions {
    /// The longest message, over all its fragments and after inflating. At least 1.
    pub max_message_bytes: usize,
    /// permessage-deflate was negotiated: compressed messages are inflated.
    pub deflate: bool,
    /// Which end we are.
    pub role: Role,
}

/// What the peer sent, borrowed for the duration of the sink's call.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message, checked to be UTF-8.
    Text(&'a str),
    /// A ping: answer with a pong of the same payload (0..=125 bytes).
    Ping(&'a [u8]),
    /// A pong, solicited or not.
    Pong(&'a [u8]),
    /// A close frame: answer with another and end. Nothing follows it.
    Close(Option<u16>, &'a str),
}

/// The sink's answer to one [`Incoming`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the next message.
    Continue,
    /// Deliver nothing until [`Reader::resume`]; keep bytes that are already read.
    Pause,
    /// Deliver nothing more; drop bytes that are already read.
    Stop,
}

/// The state of the reader after it has taken its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// Everything is consumed: read the socket again.
    More,
    /// The sink paused: do not read the socket. Call [`Reader::resume`] when the reader may continue.
    Paused,
    /// The peer closed, the sink stopped, or the peer violated the protocol: do not read any more.
    Ended,
}

/// Work that a reader did, for rate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Frames, including fragments of messages.
    pub frames: u64,
    /// Bytes that came out of compressed messages.
    pub inflated_bytes: usize,
    /// Deflate blocks of compressed messages.
    pub blocks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Paused,
    Ended,
}

/// Reads one byte stream.
///
/// An idle reader owns no heap memory. A whole frame in the input is unmasked and delivered in place. Only a frame that
/// the end of the input cuts is copied and kept, as are the fragments of a partial message and what follows a
/// pause.
#[derive(Debug)]
pub struct Reader {
    options: ReaderOptions,
    state: State,
    /// Raw bytes that are not yet consumed: part of one frame, or everything after a pause.
    held: Vec<u8>,
    /// Consumed bytes at the start of `held`; nonzero only while paused.
    held_start: usize,
    /// Unmasked payload of the partial message's fragments.
    message: Vec<u8>,
    /// Whether the partial message is compressed; `None` if there is none.
    fragmented: Option<bool>,
    work: Work,
}

impl Reader {
    /// A reader at the start of a byte stream.
    #[must_use]
    pub fn new(options: ReaderOptions) -> Self {
        let (held, message) = (Vec::new(), Vec::new());
        Self { options, state: State::Open, held, held_start: 0, message, fragmented: None, work: Work::default() }
    }

    /// Takes all of `input` and passes every complete message to `sink`, in order.
    ///
    /// `input` is scratch memory: it is overwritten (unmasked) and not needed afterwards. A paused reader keeps all of
    /// it, so a caller that reads on in spite of [`Fed::Paused`] loses nothing but the bound on memory.
    ///
    /// # Errors
    /// The first [`Violation`], after the messages before it were passed to the sink. The reader has then ended and
    /// freed its buffers.
    pub fn feed(&mut self, input: &mut [u8], mut sink: impl FnMut(Incoming<'_>) -> Flow) -> Result<Fed, Violation> {
        let taken = self.take_in(input, &mut sink);
        self.end_feed(taken)
    }

    /// Continues after a pause with the bytes that were kept.
    ///
    /// # Errors
    /// As [`Reader::feed`].
    pub fn resume(&mut self, mut sink: impl FnMut(Incoming<'_>) -> Flow) -> Result<Fed, Violation> {
        if self.state == State::Paused {
            self.state = State::Open;
            let taken = self.take_held(&mut sink);
            return self.end_feed(taken);
        }
        self.end_feed(Ok(()))
    }

    /// Ends the reader and frees what it holds.
    pub fn stop(&mut self) {
        self.state = State::Ended;
        self.held = Vec::new();
        self.held_start = 0;
        self.message = Vec::new();
    }

    /// Bytes of heap memory held for unfinished frames and messages.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity() + self.message.capacity()
    }

    /// The work that was done since the last call.
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Whether a sink has paused the reader and it has not been resumed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state == State::Paused
    }

    fn end_feed(&mut self, taken: Result<(), Violation>) -> Result<Fed, Violation> {
        if taken.is_err() {
            self.state = State::Ended;
        }
        if self.state == State::Ended {
            self.stop();
        }
        taken.map(|()| match self.state {
            State::Open => Fed::More,
            State::Paused => Fed::Paused,
            State::Ended => Fed::Ended,
        })
    }

    fn take_in<S>(&mut self, input: &mut [u8], sink: &mut S) -> Result<(), Violation>
    where
        S: FnMut(Incoming<'_>) -> Flow,
    {
        let mut rest = input;
        while self.state == State::Open && !self.held.is_empty() {
            let missing = self.missing_bytes()?;
            let (part, later) = rest.split_at_mut(missing.min(rest.len()));
            // Grow it to what the frame needs: doubling could reserve as much again.
            if self.held.capacity() - self.held.len() < part.len() {
                self.held.reserve_exact(missing);
            }
            self.held.extend_from_slice(part);
            rest = later;
            if part.len() < missing {
                // The header may be incomplete and yet prove a violation.
                return self.header(&self.held).map(drop);
            }
            self.take_held(sink)?;
        }
        match self.state {
            State::Open => {
                let used = self.run(rest, sink)?;
                if self.state != State::Ended {
                    self.held.extend_from_slice(&rest[used..]);
                }
            }
            State::Paused => self.held.extend_from_slice(rest),
            State::Ended => {}
        }
        Ok(())
    }

    /// Consumes held bytes; what is left stays held.
    fn take_held<S>(&mut self, sink: &mut S) -> Result<(), Violation>
    where
        S: FnMut(Incoming<'_>) -> Flow,
    {
        let mut held = std::mem::take(&mut self.held);
        let start = std::mem::take(&mut self.held_start);
        let used = start + self.run(&mut held[start..], sink)?;
        if used == held.len() {
            return Ok(());
        }
        match self.state {
            // Moving the rest at every pause would take time that is quadratic in what is held.
            State::Paused => self.held_start = used,
            State::Open => {
                held.drain(..used);
            }
            State::Ended => return Ok(()),
        }
        self.held = held;
        Ok(())
    }

    /// How many bytes complete the held header, or else the held frame; at least 1.
    fn missing_bytes(&self) -> Result<usize, Violation> {
        let wanted = match self.header(&self.held)? {
            Some(header) => {
                // It fits: `header` refuses lengths beyond the limit, which is a usize.
                header.header_bytes + header.payload_bytes as usize
            }
            None => Header::expected_bytes(&self.held),
        };
        Ok(wanted - self.held.len())
    }

    /// Parses the next header and checks it against the message that it belongs to.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, Violation> {
        let parsed = Header::parse(input, self.options.role, self.options.deflate)?;
        let Some(header) = parsed else {
            return Ok(None);
        };
        match header.opcode {
            OpCode::Binary => return Err(Violation::Binary),
            OpCode::Text if self.fragmented.is_some() => return Err(Violation::Interleaved),
            OpCode::Continuation if self.fragmented.is_none() => {
                return Err(Violation::StrayContinuation);
            }
            OpCode::Text | OpCode::Continuation => {
                let room = self.options.max_message_bytes - self.message.len();
                if header.payload_bytes > room as u64 {
                    return Err(Violation::TooBig);
                }
            }
            OpCode::Ping | OpCode::Pong | OpCode::Close => {}
        }
        Ok(Some(header))
    }

    /// Consumes whole frames from the start of `input` and returns how many bytes they had.
    fn run<S>(&mut self, input: &mut [u8], sink: &mut S) -> Result<usize, Violation>
    where
        S: FnMut(Incoming<'_>) -> Flow,
    {
        let mut used = 0;
        while self.state == State::Open {
            let Some(header) = self.header(&input[used..])? else {
                break;
            };
            let payload_start = used + header.header_bytes;
            let left = input.len() - payload_start;
            if header.payload_bytes > left as u64 {
                break;
            }
            let payload_end = payload_start + header.payload_bytes as usize;
            let payload = &mut input[payload_start..payload_end];
            if let Some(mask) = header.mask {
                unmask(payload, mask);
            }
            self.work.frames += 1;
            let flow = self.take_frame(&header, payload, sink)?;
            used = payload_end;
            match flow {
                Flow::Continue => {}
                Flow::Pause => self.state = State::Paused,
                Flow::Stop => self.state = State::Ended,
            }
        }
        Ok(used)
    }

    fn take_frame<S>(&mut self, header: &Header, payload: &[u8], sink: &mut S) -> Result<Flow, Violation>
    where
        S: FnMut(Incoming<'_>) -> Flow,
    {
        match header.opcode {
            OpCode::Text if header.fin => self.deliver(payload, header.compressed, sink),
            OpCode::Text | OpCode::Continuation => {
                let room = self.options.max_message_bytes - self.message.len();
                extend(&mut self.message, payload, room);
                let compressed = self.fragmented.take().unwrap_or(header.compressed);
                if !header.fin {
                    self.fragmented = Some(compressed);
                    return Ok(Flow::Continue);
                }
                let message = std::mem::take(&mut self.message);
                self.deliver(&message, compressed, sink)
            }
            OpCode::Ping => Ok(sink(Incoming::Ping(payload))),
            OpCode::Pong => Ok(sink(Incoming::Pong(payload))),
            OpCode::Close => {
                let (code, reason) = parse_close(payload)?;
                sink(Incoming::Close(code, reason));
                Ok(Flow::Stop)
            }
            OpCode::Binary => Err(Violation::Binary),
        }
    }

    fn deliver<S>(&mut self, payload: &[u8], compressed: bool, sink: &mut S) -> Result<Flow, Violation>
    where
        S: FnMut(Incoming<'_>) -> Flow,
    {
        let mut text = |bytes: &[u8]| match simdutf8::basic::from_utf8(bytes) {
            Ok(text) => Ok(sink(Incoming::Text(text))),
            Err(_) => Err(Violation::NotUtf8),
        };
        if !compressed {
            return text(payload);
        }
        let max_bytes = self.options.max_message_bytes;
        let mut inflated_bytes = max_bytes;
        let flow = deflate::inflate(payload, max_bytes, &mut self.work.blocks, |bytes| {
            inflated_bytes = bytes.len();
            text(bytes)
        });
        self.work.inflated_bytes += inflated_bytes;
        flow?
    }
}

/// Appends `part`, which has at most `max_bytes`. The buffer grows by doubling, but by no more than `max_bytes`: its
/// spare capacity counts against the client too.
fn extend(buffer: &mut Vec<u8>, part: &[u8], max_bytes: usize) {
    if buffer.capacity() - buffer.len() < part.len() {
        buffer.reserve_exact(buffer.len().max(part.len()).min(max_bytes));
    }
    buffer.extend_from_slice(part);
}

#[cfg(test)]
mod tests;
