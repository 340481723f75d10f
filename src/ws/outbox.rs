//! The bounded queue of one connection (Q5). Any thread pushes to it; the connection's task drains it.
//!
//! It never blocks: a push is queued or tells its caller what to do instead. Every byte that it holds is counted, here
//! and in the [`Budget`] of its address and of all outboxes (INV-12). A push that exceeds a budget makes the greediest
//! address lose its largest outbox (`outboxes`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::task::Waker;

use super::frame::CloseCode;
use super::outboxes::{AddressOutboxes, Evict, Outboxes};
use super::outgoing::{Budget, Frame, FrameTotals};
use super::push::{LivePush, OutboxOptions, Overflow, RowsPush};
use super::stream::Stream;
use super::wakeups::Wakeups;
use crate::sync::{Arc, Mutex, MutexGuard, Weak};

/// Wake-ups are not deferred once this many bytes wait: that is about what one write takes.
const WORTH_A_WRITE_BYTES: usize = 64 << 10;

/// Resumes a parked job: called at most once, on the connection's task; dropped if the connection ends first.
pub type Resume = Box<dyn FnOnce() + Send>;

/// The queue. [`Writer::with_outbox`](super::Writer::with_outbox) makes it, together with its only consumer.
pub struct Outbox {
    options: OutboxOptions,
    budget: Arc<Budget>,
    /// The outboxes of its address, once it has joined them.
    siblings: OnceLock<Arc<AddressOutboxes>>,
    wakeups: Option<Arc<Wakeups>>,
    inner: Mutex<Inner>,
}

/// All counts are of unsent frames, in `queue` or in the writer.
struct Inner {
    queue: VecDeque<Frame>,
    /// Streams that ended since the writer last took frames, if it may hold frames of theirs. At most as many as a
    /// connection ends in one turn, since the writer looks here every turn.
    ended: Vec<u64>,
    /// How many streams have had a frame.
    streams: u64,
    wire_bytes: usize,
    frames: usize,
    owned_bytes: usize,
    parked: Vec<Resume>,
    waker: Option<Waker>,
    /// The task sleeps and everything is sent: the next push wakes it or defers its wake-up.
    armed: bool,
    /// The round in which its wake-up was last deferred.
    deferred_round: u64,
    state: State,
    /// The bound that it exceeded, for which it was closed.
    overflow: Option<Overflow>,
    /// Bytes that were cut and that the writer has not dropped yet.
    leaving_bytes: u64,
}

impl Inner {
    /// Whether frames of `stream` are accepted.
    #[inline]
    fn accepts(&self, stream: &Stream) -> bool {
        self.state == State::Open && stream.is_open()
    }

    fn evictable_bytes(&self) -> u64 {
        (self.wire_bytes + self.frames * size_of::<Frame>()) as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The close frame is queued, behind the frames that were queued before it.
    Closing,
    /// The close frame is queued, and the frames before it are dropped, in the writer too.
    Cutting,
    /// The writer is gone.
    Gone,
}

/// What the writer finds when it asks for more frames.
#[derive(Debug)]
pub(super) enum NextFrames {
    /// Frames were moved, or there are none and the waker is armed.
    Open,
    /// No frames follow those that the writer now holds.
    Last,
    /// No frames but these follow, and the writer must drop what it has not begun to send.
    Cut(VecDeque<Frame>),
}

impl Outbox {
    /// An empty queue. Pushers reach the task that drains it through `wakeups` if there are any, else by waking it
    /// directly.
    pub(super) fn new(options: OutboxOptions, budget: Arc<Budget>, wakeups: Option<Arc<Wakeups>>) -> Arc<Self> {
        let inner = Inner {
            queue: VecDeque::new(),
            ended: Vec::new(),
            streams: 0,
            wire_bytes: 0,
            frames: 0,
            owned_bytes: 0,
            parked: Vec::new(),
            waker: None,
            armed: false,
            deferred_round: 0,
            state: State::Open,
            overflow: None,
            leaving_bytes: 0,
        };
        Arc::new(Self { options, budget, siblings: OnceLock::new(), wakeups, inner: Mutex::new(inner) })
    }

    /// Queues a reply that belongs to no stream (OK, NOTICE, AUTH, COUNT, a refusal, a pong). It is queued however full
    /// the outbox is, because permits bound how many replies can be owed. `false` if the connection is ending.
    pub fn push_reply(&self, frame: Frame) -> bool {
        let mut inner = self.inner();
        if inner.state != State::Open {
            return false;
        }
        self.enqueue(&mut inner, frame);
        self.wake(inner);
        self.make_room();
        true
    }

    /// Queues a reply of a stream; `false` if the stream or the connection has ended.
    pub fn push_answer(&self, stream: &Stream, frame: Frame) -> bool {
        self.push_of(stream, frame, || {})
    }

    /// Queues the last frame of a stream; `false` if the stream or the connection has ended.
    pub fn push_last(&self, stream: &Stream, frame: Frame) -> bool {
        self.push_of(stream, frame, || stream.finish())
    }

    fn push_of(&self, stream: &Stream, frame: Frame, then: impl FnOnce()) -> bool {
        let mut inner = self.inner();
        if !inner.accepts(stream) {
            return false;
        }
        self.enqueue_of(&mut inner, stream, frame);
        then();
        self.wake(inner);
        self.make_room();
        true
    }

    /// Wakes the task, even if it is running: a query ended without a frame, so the next one may begin.
    pub fn nudge(&self) {
        self.wake_always(self.inner());
    }

    /// Ends a stream: its queued frames are dropped, except for the rest of a message that the socket has taken part
    /// of, and no more are accepted. Must be called by the task that polls the [`Writer`](super::Writer), which drops
    /// the frames that it holds at its next poll.
    pub fn end(&self, stream: &Stream) {
        let mut inner = self.inner();
        let Some(number) = stream.end() else { return };
        if inner.frames > inner.queue.len() {
            inner.ended.push(number);
        }
        let mut dropped = FrameTotals::default();
        inner.queue.retain(|frame| {
            let is_kept = frame.stream() != number;
            if !is_kept {
                dropped.count(frame);
            }
            is_kept
        });
        self.give_back(&mut inner, dropped);
    }

    /// Queues rows of a scan and tells whether the job may continue. Rows of an open stream are always queued, so the
    /// high water is exceeded by at most one push of each running job.
    pub fn push_rows(&self, stream: &Stream, frame: Frame) -> RowsPush {
        let mut inner = self.inner();
        if !inner.accepts(stream) {
            return RowsPush::Closed;
        }
        self.enqueue_of(&mut inner, stream, frame);
        let rows = if self.is_full_for_rows(&inner) { RowsPush::Park } else { RowsPush::More };
        self.wake(inner);
        self.make_room();
        rows
    }

    /// Keeps `resume` until the queue has drained to its low water. Returns it if that has already happened: the job
    /// then continues at once. Drops it if the connection is ending.
    pub fn park(&self, resume: Resume) -> Option<Resume> {
        let mut inner = self.inner();
        if inner.state != State::Open {
            drop(inner);
            return None;
        }
        if inner.wire_bytes <= self.options.low_water_bytes {
            return Some(resume);
        }
        inner.parked.push(resume);
        None
    }

    /// Queues a live event, or closes the connection if the client does not keep up. Where wake-ups are deferred, a
    /// sleeping task is woken for it at the end of the round; if anything wakes the task earlier, the event leaves
    /// then.
    pub fn push_live(&self, stream: &Stream, frame: Frame) -> LivePush {
        let mut inner = self.inner();
        if !inner.accepts(stream) {
            return LivePush::Closed;
        }
        if let Some(overflow) = self.exceeded(&inner) {
            self.cut(inner, overflow);
            return LivePush::Overflowed(overflow);
        }
        self.enqueue_of(&mut inner, stream, frame);
        match self.wakeups.as_ref().and_then(|wakeups| Some((wakeups, wakeups.round()?))) {
            Some((wakeups, round)) if !self.is_worth_a_write(&inner) => defer_wakeup(inner, wakeups, round),
            _ => self.wake(inner),
        }
        self.make_room();
        LivePush::Taken
    }

    /// Queues a close frame; nothing is queued after it. Does nothing if the connection is already closing.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.finish(self.inner(), code, reason, false);
    }

    /// The bound that the client exceeded, for which it was closed.
    #[must_use]
    pub fn overflow(&self) -> Option<Overflow> {
        self.inner().overflow
    }

    /// Makes this one of the outboxes of `address`, whose [`Budget`] it was made with.
    pub fn join(self: &Arc<Self>, all: &Arc<Outboxes>, address: IpAddr) {
        let outbox: Weak<Self> = Arc::downgrade(self);
        // Joining twice is a mistake of the caller that harms nobody: the outbox stays where it is.
        let _ = self.siblings.set(all.enter(address, &self.budget, outbox));
    }

    /// Whether pushes are refused: the outbox is closed, or its writer is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner().state != State::Open
    }

    /// Whether the queue is so full that a scan should not begin.
    #[must_use]
    pub fn is_above_high_water(&self) -> bool {
        self.is_full_for_rows(&self.inner())
    }

    /// Whether everything that was pushed has been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner().frames == 0
    }

    /// Unsent bytes and unsent frames.
    #[must_use]
    pub fn unsent(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.wire_bytes, inner.frames)
    }

    fn is_full_for_rows(&self, inner: &Inner) -> bool {
        inner.wire_bytes >= self.options.high_water_bytes
            || (inner.wire_bytes > self.options.low_water_bytes && self.budget.is_nearly_full())
    }

    /// Whether so much waits that deferring the wake-up would save nothing or bring the client near its bounds.
    fn is_worth_a_write(&self, inner: &Inner) -> bool {
        inner.wire_bytes >= WORTH_A_WRITE_BYTES.min(self.options.low_water_bytes)
            || inner.frames >= self.options.max_frames / 2
    }

    fn exceeded(&self, inner: &Inner) -> Option<Overflow> {
        if inner.wire_bytes > self.options.max_bytes {
            Some(Overflow::Bytes)
        } else if inner.frames >= self.options.max_frames {
            Some(Overflow::Frames)
        } else {
            None
        }
    }

    #[inline]
    fn enqueue_of(&self, inner: &mut Inner, stream: &Stream, frame: Frame) {
        let number = stream.number(&mut inner.streams);
        self.enqueue(inner, frame.of(number));
    }

    #[inline]
    fn enqueue(&self, inner: &mut Inner, frame: Frame) {
        let owned_bytes = frame.owned_bytes();
        inner.frames += 1;
        inner.wire_bytes += frame.wire_bytes();
        inner.owned_bytes += owned_bytes;
        self.budget.add(owned_bytes as u64);
        inner.queue.push_back(frame);
    }

    /// Wakes the task if it sleeps because it has no frames; at most once per drain.
    #[inline]
    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        if std::mem::take(&mut inner.armed) {
            self.wake_always(inner);
        }
    }

    fn wake_always(&self, inner: MutexGuard<'_, Inner>) {
        let waker = inner.waker.clone();
        drop(inner);
        match (waker, &self.wakeups) {
            (Some(waker), Some(wakeups)) => wakeups.wake(waker),
            (Some(waker), None) => waker.wake(),
            (None, _) => {}
        }
    }

    /// After a push, with no lock held: keeps the outboxes of its address, and all of them, within their bounds.
    #[inline]
    fn make_room(&self) {
        if self.budget.is_over()
            && let Some(siblings) = self.siblings.get()
        {
            siblings.make_room();
        }
    }

    /// Closes the connection and drops what is queued, because the client does not keep up.
    fn cut(&self, mut inner: MutexGuard<'_, Inner>, overflow: Overflow) {
        inner.overflow = inner.overflow.or((inner.state == State::Open).then_some(overflow));
        self.finish(inner, CloseCode::Policy, "slow consumer", true);
    }

    fn finish(&self, mut inner: MutexGuard<'_, Inner>, code: CloseCode, reason: &str, cut: bool) {
        if inner.state != State::Open {
            return;
        }
        let mut dropped = VecDeque::new();
        if cut {
            dropped = std::mem::take(&mut inner.queue);
            let mut sent = FrameTotals::default();
            dropped.iter().for_each(|frame| sent.count(frame));
            self.give_back(&mut inner, sent);
            inner.state = State::Cutting;
            if let Some(siblings) = self.siblings.get() {
                inner.leaving_bytes = inner.evictable_bytes();
                siblings.add_leaving(inner.leaving_bytes);
            }
        } else {
            inner.state = State::Closing;
        }
        let parked = std::mem::take(&mut inner.parked);
        self.enqueue(&mut inner, Frame::close(code, reason));
        inner.armed = false;
        self.wake_always(inner);
        // Outside the lock, because dropping a job may run code that uses this outbox.
        drop((dropped, parked));
    }

    fn give_back(&self, inner: &mut Inner, sent: FrameTotals) {
        inner.frames -= sent.frames;
        inner.wire_bytes -= sent.wire_bytes;
        inner.owned_bytes -= sent.owned_bytes;
        self.budget.sub(sent.owned_bytes as u64);
    }

    /// The writer has dropped what it held at the cut.
    fn forget_leaving(&self, inner: &mut Inner) {
        if inner.leaving_bytes > 0
            && let Some(siblings) = self.siblings.get()
        {
            siblings.sub_leaving(std::mem::take(&mut inner.leaving_bytes));
        }
    }

    /// For the writer: counts what it sent, moves the queue into the empty `pending`, and arms `waker` if the queue was
    /// empty. Resumes parked jobs at the low water.
    pub(super) fn take(&self, sent: FrameTotals, pending: &mut VecDeque<Frame>, waker: &Waker) -> NextFrames {
        debug_assert!(pending.is_empty());
        let mut inner = self.inner();
        self.give_back(&mut inner, sent);
        // A swap would leave the writer's spare capacity here for as long as the connection is idle.
        *pending = std::mem::take(&mut inner.queue);
        // The queue has no frames of theirs.
        inner.ended = Vec::new();
        let taken = match inner.state {
            State::Open => {
                if pending.is_empty() {
                    set_waker(&mut inner, waker);
                    inner.armed = true;
                }
                NextFrames::Open
            }
            State::Closing | State::Gone => NextFrames::Last,
            State::Cutting => {
                inner.state = State::Closing;
                self.forget_leaving(&mut inner);
                NextFrames::Last
            }
        };
        self.unpark(inner);
        taken
    }

    /// For a writer whose socket is full: counts what it sent. From now on only a close wakes it.
    pub(super) fn wait(&self, sent: FrameTotals, waker: &Waker) -> NextFrames {
        let mut inner = self.inner();
        self.give_back(&mut inner, sent);
        inner.armed = false;
        set_waker(&mut inner, waker);
        if inner.state == State::Cutting {
            inner.state = State::Closing;
            return NextFrames::Cut(std::mem::take(&mut inner.queue));
        }
        self.forget_leaving(&mut inner);
        self.unpark(inner);
        NextFrames::Open
    }

    /// For the writer: the streams whose frames it must drop.
    pub(super) fn take_ended(&self) -> Vec<u64> {
        std::mem::take(&mut self.inner().ended)
    }

    /// For the writer: the task is running and will look here again, so it need not be woken.
    pub(super) fn disarm(&self) {
        self.inner().armed = false;
    }

    /// For the writer: the connection has ended, and nothing stays counted.
    pub(super) fn abandon(&self) {
        let mut inner = self.inner();
        inner.state = State::Gone;
        inner.armed = false;
        let sent = FrameTotals { frames: inner.frames, wire_bytes: inner.wire_bytes, owned_bytes: inner.owned_bytes };
        self.give_back(&mut inner, sent);
        self.forget_leaving(&mut inner);
        let rest = (std::mem::take(&mut inner.queue), std::mem::take(&mut inner.parked), inner.waker.take());
        drop(inner);
        drop(rest);
    }

    fn unpark(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.parked.is_empty() || inner.wire_bytes > self.options.low_water_bytes {
            return;
        }
        let parked = std::mem::take(&mut inner.parked);
        drop(inner);
        parked.into_iter().for_each(|resume| resume());
    }

    #[inline]
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds an outbox")
    }
}

/// Defers the wake-up of a task that sleeps because it has no frames to send: at most once a round, even if a reply
/// wakes it in between.
fn defer_wakeup(mut inner: MutexGuard<'_, Inner>, wakeups: &Wakeups, round: u64) {
    if !inner.armed || inner.deferred_round == round {
        return;
    }
    inner.deferred_round = round;
    let waker = inner.waker.clone();
    drop(inner);
    if let Some(waker) = waker {
        wakeups.defer(waker);
    }
}

fn set_waker(inner: &mut Inner, waker: &Waker) {
    if !inner.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
        inner.waker = Some(waker.clone());
    }
}

impl Evict for Outbox {
    fn evictable_bytes(&self) -> u64 {
        let inner = self.inner();
        if inner.state == State::Open { inner.evictable_bytes() } else { 0 }
    }

    fn evict(&self) {
        self.cut(self.inner(), Overflow::Budget);
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (bytes, frames) = self.unsent();
        f.debug_struct("Outbox").field("unsent_bytes", &bytes).field("unsent_frames", &frames).finish_non_exhaustive()
    }
}
