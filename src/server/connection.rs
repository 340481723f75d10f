//! One WebSocket: a task that reads messages, lets the session decide, carries the decisions out, and writes.
//!
//! It never blocks its thread for longer than a bounded first slice of a scan, and owns no buffer while idle. When a
//! client sends faster than it is served, the task stops reading and TCP slows the client down.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::admission::OpenPlace;
use super::context::IoContext;
use super::engine::Engine;
use super::linger::{Departure, LINGER, linger};
use super::partial_messages::PartialMessage;
use super::stage::RESTARTING;
use super::turns::TurnState;
use crate::metrics::{CloseLabel, CloseReason};
use crate::pipeline::ClientHandle;
use crate::policy::{Act, Peer, RateLimiter};
use crate::ws::upgrade::{Upgraded, Upgrading};
use crate::ws::{
    CloseCode, Fed, Flushed, Frame, Keepalive, KeepaliveAction, KeepaliveOptions, OpCode, OutboxOptions, Overflow,
    Reader, ReaderOptions, Role, Writer,
};

/// What is sent to a client in one turn: 0.2 ms over loopback.
const BYTES_IN_TURN: usize = 512 << 10;

/// What is sent without a turn while the tick lasts, once for each time that the task is woken: a page of a hundred
/// notes, in 50 µs. If pages waited for turns, queries for them would cost a seventh more.
const BYTES_IN_TICK: usize = 128 << 10;

/// The same after the tick: answers and live events, in 10 µs.
const BYTES_AFTER_TICK: usize = 16 << 10;

/// Serves one connection from its upgrade to its end. It is a visitor until it is one of the thread's clients.
pub async fn run(context: Rc<IoContext>, upgrading: Upgrading, address: IpAddr, place: OpenPlace, visitor: Rc<()>) {
    let upgraded = match upgrading.socket().await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a client left during its upgrade");
            return;
        }
    };
    let mut connection = Connection::new(&context, upgraded, address);
    drop(visitor);
    let turn = TurnState::new(Instant::now());
    let reason = poll_fn(|cx| connection.poll(cx, &turn)).await;
    drop(turn);
    connection.end(reason).await;
    drop(place);
}

/// The state of one connection.
struct Connection {
    stream: TcpStream,
    reader: Reader,
    /// `None` once the socket accepts no more data.
    writer: Option<Writer>,
    engine: Engine,
    keepalive: Keepalive,
    timer: Option<Pin<Box<Sleep>>>,
    leftover: bytes::Bytes,
    reading: bool,
    closing: CloseReason,
    /// The memory held for a partial message.
    partial: PartialMessage,
    /// When to cut off a client that does not read its close frame.
    cut_at_ms: Option<u64>,
    /// Until when a client in debt is not read.
    held_until_ms: Option<u64>,
    departure: Departure,
    key: u64,
    context: Rc<IoContext>,
    /// Everything has been released.
    ended: bool,
}

impl Connection {
    fn new(context: &Rc<IoContext>, upgraded: Upgraded, address: IpAddr) -> Self {
        let front = &context.front;
        let options = &front.options;
        let bounds = OutboxOptions {
            max_bytes: options.outbox_bytes,
            max_frames: options.outbox_frames,
            high_water_bytes: options.outbox_high_water_bytes,
            low_water_bytes: options.outbox_high_water_bytes / 4,
        };
        let settings = front.pipeline.settings.load();
        let network = settings.rates.group(address);
        let memory = front.pipeline.memory.address(network);
        let budget = Arc::clone(&memory.outboxes);
        let (outbox, writer) = Writer::with_outbox(bounds, budget, Some(Arc::clone(&context.wakeups)));
        outbox.join(&front.outboxes, network);
        let buckets = front.address_rates.get(network, front.pipeline.clock.now_us());
        let rates = RateLimiter::new(&settings, address, buckets);
        let client = Arc::new(ClientHandle::new(outbox, upgraded.deflate, rates, (address, network), memory));
        let reader = Reader::new(ReaderOptions {
            max_message_bytes: settings.limits.max_message_length,
            deflate: upgraded.deflate,
            role: Role::Server,
        });
        let keepalive = KeepaliveOptions {
            ping_after_ms: options.ping_after_s * 1000,
            close_after_ms: options.pong_timeout_s * 1000,
        };
        let now_ms = context.now_ms();
        let mut engine = Engine::new(context, &client, Peer::new(address));
        engine.greet(&settings);
        engine.bill().add(Act::Connection);
        if context.draining.get() {
            // Its request came before the relay stopped.
            engine.flush();
            client.outbox.close(CloseCode::Restart, RESTARTING);
        }
        let mut connection = Self {
            stream: upgraded.stream,
            reader,
            writer: Some(writer),
            engine,
            keepalive: Keepalive::new(keepalive, now_ms),
            timer: None,
            // Even an empty one keeps hyper's buffer of 8 KiB alive.
            leftover: if upgraded.leftover.is_empty() { bytes::Bytes::new() } else { upgraded.leftover },
            reading: true,
            closing: CloseReason::Lost,
            partial: PartialMessage::new(network),
            cut_at_ms: None,
            held_until_ms: None,
            departure: Departure::default(),
            key: context.enter(&client),
            context: Rc::clone(context),
            ended: false,
        };
        connection.set_timer(now_ms, options.ping_after_s * 1000);
        connection
    }

    fn set_timer(&mut self, now_ms: u64, at_ms: u64) {
        if at_ms == 0 {
            return;
        }
        let after = Duration::from_millis(at_ms.saturating_sub(now_ms).max(1));
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(tokio::time::Instant::now() + after),
            None => self.timer = Some(Box::pin(tokio::time::sleep(after))),
        }
    }

    /// Does everything that needs no waiting, for as long as a turn lasts.
    fn poll(&mut self, cx: &mut TaskContext<'_>, turn: &Rc<TurnState>) -> Poll<CloseReason> {
        let began = Instant::now();
        self.start_poll();
        if self.partial.gave_way() {
            self.give_way();
        }
        self.poll_timer(cx);
        if self.cut_at_ms.is_some_and(|at_ms| self.context.now_ms() >= at_ms) {
            return Poll::Ready(self.close_reason());
        }
        if self.departure.ends_ms().is_some_and(|at_ms| self.context.now_ms() >= at_ms) {
            return Poll::Ready(self.lose());
        }
        let polled = self.poll_turn(cx, turn, began);
        self.engine.end_turn();
        self.set_hold_timer(cx);
        self.context.end_poll(turn, began);
        polled
    }

    /// Whether there may be something to read or to begin.
    fn may_have_work(&self, cx: &mut TaskContext<'_>) -> bool {
        !self.leftover.is_empty()
            || self.reader.is_paused()
            || self.engine.has_startable_scan()
            || (self.reading && self.stream.poll_read_ready(cx).is_ready())
    }

    /// Begins a turn, unless the connection has to stand in line for it.
    fn begin_turn(&mut self, cx: &TaskContext<'_>, turn: &Rc<TurnState>, began: Instant) -> bool {
        let length = self.context.turns.begin(turn, began, cx);
        length.inspect(|length| self.engine.begin_turn(began, *length)).is_some()
    }

    /// Wakes the task again when a held client has paid its debt, or left long enough ago.
    fn set_hold_timer(&mut self, cx: &mut TaskContext<'_>) {
        if let (Some(held_us), None) = (self.engine.held_us(), self.cut_at_ms) {
            let now_ms = self.context.now_ms();
            let paid_ms = now_ms + held_us.div_ceil(1_000);
            let at_ms = self.departure.ends_ms().map_or(paid_ms, |ends_ms| ends_ms.min(paid_ms));
            self.held_until_ms = Some(at_ms);
            self.set_timer(now_ms, at_ms);
            self.poll_timer(cx);
            if self.held_until_ms.is_none() {
                // The debt is already paid, and nothing else would wake the task.
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Reads, handles and sends until nothing is left to do or the turn is over. Without a turn it only sends, and only
    /// a little.
    fn poll_turn(&mut self, cx: &mut TaskContext<'_>, turn: &Rc<TurnState>, began: Instant) -> Poll<CloseReason> {
        let mut has_turn = (turn.is_called() || self.may_have_work(cx)) && self.begin_turn(cx, turn, began);
        let without_turn = if self.context.turns.is_tick_over(began) { BYTES_AFTER_TICK } else { BYTES_IN_TICK };
        loop {
            let more = match has_turn.then(|| self.poll_read(cx)) {
                Some(Ok(more)) => more,
                Some(Err(reason)) => return Poll::Ready(reason),
                None => AfterRead::Wait,
            };
            self.count_partial();
            self.engine.flush();
            match self.poll_flush(cx, if has_turn { BYTES_IN_TURN } else { without_turn }) {
                Poll::Ready(Flushed::Closed) => return Poll::Ready(self.close_reason()),
                Poll::Pending => {
                    // The socket accepts no more, but there is input left, of which nothing else would wake the task.
                    if more == AfterRead::Yield {
                        turn.line_up(cx);
                    }
                    return self.limit_closing(cx);
                }
                Poll::Ready(Flushed::Paused) if !has_turn && self.begin_turn(cx, turn, began) => {
                    has_turn = true;
                    continue;
                }
                Poll::Ready(Flushed::Paused) => {
                    turn.line_up(cx);
                    return self.limit_closing(cx);
                }
                Poll::Ready(Flushed::Idle) => {}
            }
            // A failed socket usually ends by becoming readable; the idle timeout is the fallback.
            if self.writer.is_none() && (!self.reading || self.closing == CloseReason::Idle) {
                return Poll::Ready(CloseReason::Lost);
            }
            if more == AfterRead::Yield {
                turn.line_up(cx);
                return Poll::Pending;
            }
            // Sending may have made room for what waits. No push would wake the task for that, so check again.
            if !has_turn || !self.may_go_on(cx) {
                return Poll::Pending;
            }
            self.start_poll();
        }
    }

    /// Accounts for a partial message and for an event that waits at the gate.
    fn count_partial(&mut self) {
        let bytes = self.reader.held_bytes() + self.engine.stalled_bytes();
        self.partial.hold(&self.context.front.partial_messages, self.engine.outbox(), bytes as u64);
    }

    /// Releases its memory to others and stops reading. A close frame is already in the outbox.
    fn give_way(&mut self) {
        self.partial.leave(&self.context.front.partial_messages);
        self.reader.stop();
        self.engine.drop_stalled();
        self.reading = false;
        self.closing = CloseReason::Memory;
    }

    fn start_poll(&self) {
        if let Some(writer) = &self.writer {
            writer.start_poll();
        }
    }

    /// Sends what waits. A client whose socket accepts nothing has left, but may have sent events first, so what
    /// reached this machine is still read, unless the client is in debt: see [`Departure`].
    fn poll_flush(&mut self, cx: &mut TaskContext<'_>, max_bytes: usize) -> Poll<Flushed> {
        let Some(writer) = &mut self.writer else { return Poll::Ready(Flushed::Idle) };
        let flushed = writer.poll_flush(cx, Pin::new(&mut self.stream), max_bytes);
        let sent_bytes = writer.take_sent_bytes();
        if sent_bytes > 0 {
            self.context.front.pipeline.metrics.bytes_sent.inc_by(sent_bytes);
            self.engine.bill().add(Act::Sent(sent_bytes));
        }
        flushed.map(|flushed| {
            flushed.unwrap_or_else(|_| {
                // Drops the queued frames and refuses later ones.
                self.writer = None;
                self.engine.client_left();
                Flushed::Idle
            })
        })
    }

    /// Cuts off a client that does not read its close frame.
    fn limit_closing(&mut self, cx: &mut TaskContext<'_>) -> Poll<CloseReason> {
        if self.cut_at_ms.is_some() || !self.engine.outbox().is_closed() {
            return Poll::Pending;
        }
        if self.engine.outbox().overflow() == Some(Overflow::Budget) {
            // Others need the memory now, including that of a message the client has read in part.
            return Poll::Ready(self.close_reason());
        }
        let now_ms = self.context.now_ms();
        let at_ms = now_ms + LINGER.as_millis() as u64;
        self.cut_at_ms = Some(at_ms);
        self.set_timer(now_ms, at_ms);
        self.poll_timer(cx);
        Poll::Pending
    }

    /// Whether a paused client can be served again. If not, what it waits for wakes this task.
    fn may_go_on(&mut self, cx: &mut TaskContext<'_>) -> bool {
        self.engine.has_startable_scan() || (self.reader.is_paused() && self.engine.may_resume(cx))
    }

    /// Reads and handles messages until the socket is empty, the client must wait, or the turn is over.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Result<AfterRead, CloseReason> {
        self.engine.start_waiting_scans();
        let has_input = !self.leftover.is_empty() || self.reader.is_paused();
        if !has_input && (!self.reading || self.stream.poll_read_ready(cx).is_pending()) {
            return Ok(AfterRead::Wait);
        }
        if !self.engine.may_read() {
            self.departure.look(&self.stream, self.writer.is_some(), self.engine.outbox(), self.context.now_ms());
            return Ok(AfterRead::Wait);
        }
        if !self.leftover.is_empty() {
            let mut leftover = std::mem::take(&mut self.leftover).to_vec();
            self.feed(&mut leftover);
        }
        if self.reader.is_paused() && self.engine.may_resume(cx) {
            let (reader, engine) = (&mut self.reader, &mut self.engine);
            let fed = reader.resume(|incoming| engine.take(incoming));
            self.fed(fed);
        }
        let context = Rc::clone(&self.context);
        let mut scratch = context.scratch.borrow_mut();
        // However slow the machine is, a turn reads something.
        let mut has_read = has_input;
        while self.reading && !self.reader.is_paused() {
            if has_read && self.engine.is_turn_over() {
                return Ok(AfterRead::Yield);
            }
            has_read = true;
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Err(CloseReason::Lost),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Err(self.lose()),
                Poll::Ready(Ok(())) => {
                    self.keepalive.heard(self.context.now_ms());
                    self.context.front.pipeline.metrics.bytes_received.inc_by(buffer.filled().len() as u64);
                    self.engine.bill().add_read(buffer.filled().len());
                    self.feed(buffer.filled_mut());
                }
            }
        }
        Ok(if self.engine.wants_turn() { AfterRead::Yield } else { AfterRead::Wait })
    }

    /// The client is gone; the events that were read are committed all the same.
    fn lose(&mut self) -> CloseReason {
        self.engine.flush();
        CloseReason::Lost
    }

    fn feed(&mut self, input: &mut [u8]) {
        let (reader, engine) = (&mut self.reader, &mut self.engine);
        engine.begin_burst();
        let fed = reader.feed(input, |incoming| engine.take(incoming));
        self.fed(fed);
    }

    fn fed(&mut self, fed: Result<Fed, crate::ws::Violation>) {
        self.engine.bill().add_work(self.reader.take_work());
        match fed {
            Ok(Fed::More | Fed::Paused) => {}
            Ok(Fed::Ended) => {
                self.reading = false;
                if !self.context.draining.get() {
                    self.closing = CloseReason::Client;
                } else if self.engine.is_answered() {
                    // It wants something: it gets it sooner elsewhere.
                    self.engine.outbox().close(CloseCode::Restart, RESTARTING);
                }
            }
            Err(violation) => {
                self.engine.outbox().close(violation.close_code(), &violation.to_string());
                self.reading = false;
                self.closing = CloseReason::Protocol;
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut TaskContext<'_>) {
        while let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let now_ms = self.context.now_ms();
            if let Some(at_ms) = self.cut_at_ms {
                if now_ms < at_ms {
                    self.set_timer(now_ms, at_ms);
                    continue;
                }
                self.timer = None;
                return;
            }
            if let Some(at_ms) = self.held_until_ms {
                if now_ms < at_ms {
                    self.set_timer(now_ms, at_ms);
                    continue;
                }
                // The client may have been talking all along: it was not read.
                self.held_until_ms = None;
                self.keepalive.heard(now_ms);
                self.departure.look(&self.stream, self.writer.is_some(), self.engine.outbox(), now_ms);
            }
            match self.keepalive.poll(now_ms) {
                KeepaliveAction::Wait(at_ms) => self.set_timer(now_ms, at_ms),
                KeepaliveAction::Ping(at_ms) => {
                    self.engine.outbox().push_reply(Frame::control(OpCode::Ping, b""));
                    self.set_timer(now_ms, at_ms);
                }
                KeepaliveAction::Close => {
                    self.closing = CloseReason::Idle;
                    self.engine.outbox().close(CloseCode::Away, "no answer to a ping");
                    self.timer = None;
                }
                KeepaliveAction::Off => self.timer = None,
            }
        }
    }

    fn close_reason(&self) -> CloseReason {
        if self.engine.outbox().overflow().is_some() {
            CloseReason::SlowConsumer
        } else if self.engine.is_overdrawn() {
            CloseReason::Debt
        } else if self.engine.is_offender() {
            CloseReason::Offender
        } else if self.context.draining.get() && self.closing == CloseReason::Lost {
            CloseReason::Shutdown
        } else if self.engine.outbox().is_closed() && self.closing == CloseReason::Lost {
            CloseReason::Operator
        } else {
            self.closing
        }
    }

    /// Releases everything. A client that was sent a close frame gets time to close its side.
    async fn end(&mut self, reason: CloseReason) {
        self.reader.stop();
        // Nothing more is sent, and queued frames should not outlive the connection.
        self.writer = None;
        self.partial.leave(&self.context.front.partial_messages);
        // Ending many subscriptions takes long: some in each turn.
        while !self.engine.end_some(Instant::now()) {
            tokio::task::yield_now().await;
        }
        if reason != CloseReason::Lost {
            linger(&mut self.stream, &self.context.scratch).await;
        }
        // Last: a stopping relay waits until every connection has got here.
        self.give_back(reason);
    }

    fn give_back(&mut self, reason: CloseReason) {
        self.ended = true;
        self.engine.end();
        self.partial.leave(&self.context.front.partial_messages);
        self.context.leave(self.key);
        let closed = &self.context.front.pipeline.metrics.connections_closed;
        closed.get_or_create(&CloseLabel { reason }).inc();
    }
}

impl Drop for Connection {
    /// A panic ends only this connection, and still releases what it held.
    fn drop(&mut self) {
        if !self.ended {
            self.give_back(if std::thread::panicking() { CloseReason::Panic } else { CloseReason::Shutdown });
        }
    }
}

/// What to do after reading.
#[derive(PartialEq, Eq)]
enum AfterRead {
    /// Wait until something wakes the task.
    Wait,
    /// Let others go first; there may be more to read.
    Yield,
}
