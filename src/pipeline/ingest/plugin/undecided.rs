//! The events that wait for the plugin or are being judged, and what becomes of each.
//!
//! Which event is judged next is decided by address, as everywhere ([`fair`](crate::pipeline::fair)): the address that
//! took the least of the plugin's time lately goes first. All of it belongs to the `plugin` thread.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::reorder_buffer::{OrderPosition, ReorderBuffer};
use super::sender::Shared;
use crate::metrics::{Metrics, PluginVerdict, PluginVerdictLabel, PolicyRule};
use crate::nostr::{EventView, Kind, Prefix, Reason};
use crate::pipeline::channel::Sender;
use crate::pipeline::clock::Clock;
use crate::pipeline::fair::FairQueue;
use crate::pipeline::ingest::answers::Answers;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::queues::{LiveCommand, Verified, WriteCommand};
use crate::plugin::{Candidate, Origin, Queue, Verdict};
use crate::policy::{OnFailure, PluginOptions, Refusal, Settings, Source};

/// What judging events takes.
#[derive(Clone)]
pub struct Judging {
    /// The settings in force, with the plugin.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The gate, which refused events leave here.
    pub gate: Arc<Gate>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clocks.
    pub clock: Clock,
}

/// What the plugin is expected to take for an event before it has judged any, in microseconds.
const FIRST_COST_US: u64 = 100;

/// How many of the last events the expected cost is an average of.
const AVERAGED: u64 = 16;

/// The copies of events that wait for a dry run. Further events are not judged.
const COPIES: usize = 1024;

/// The bytes of those copies.
pub const COPY_BYTES: usize = 16 << 20;

/// An event that is to be judged.
pub struct PendingEvent {
    verified: Verified,
    /// Its place among the events of its connection; `None` for the copy of an event that has passed already.
    place: Option<OrderPosition>,
    /// What its address was charged when it was taken.
    cost_us: u64,
}

impl Candidate for PendingEvent {
    fn event(&self) -> EventView<'_> {
        self.verified.event.view()
    }

    fn origin(&self) -> Origin<'_> {
        let from = &self.verified.from;
        let identity = from.identity();
        // A client may prove several keys. The author's says most.
        let author = self.event().pubkey();
        let authed = if identity.keys.contains(&author) { Some(author) } else { identity.keys.first().copied() };
        Origin::Client(from.peer, authed)
    }
}

/// What becomes of an event.
enum Ruling {
    /// It goes on to the writer, or to live.
    Pass,
    /// It is refused.
    Refuse(Reason),
    /// It is dropped, and its client told that it was accepted.
    Shadow,
}

struct State {
    options: PluginOptions,
    /// One for each worker.
    queues: Vec<FairQueue<PendingEvent>>,
    order: ReorderBuffer<(Verified, Ruling)>,
    /// Events that were let go since the last flush.
    gone: Vec<(Verified, Ruling)>,
    /// What the plugin takes for an event, lately.
    cost_us: u64,
    copies: usize,
    copy_bytes: usize,
}

/// Every event that the plugin has not decided on, in one queue for each worker, and the order in which they leave.
pub struct Undecided {
    judging: Judging,
    shared: Arc<Shared>,
    write: Sender<WriteCommand>,
    live: Sender<LiveCommand>,
    hasher: RandomState,
    /// Whether the thread waits until nothing is left.
    pub is_stopping: Cell<bool>,
    state: RefCell<State>,
}

impl Undecided {
    /// Without events, and without a plugin.
    pub fn new(judging: Judging, shared: Arc<Shared>, write: Sender<WriteCommand>, live: Sender<LiveCommand>) -> Self {
        let (options, queues, order) = (PluginOptions::default(), Vec::new(), ReorderBuffer::new());
        let (gone, cost_us, copies, copy_bytes) = (Vec::new(), FIRST_COST_US, 0, 0);
        let state = RefCell::new(State { options, queues, order, gone, cost_us, copies, copy_bytes });
        Self { judging, shared, write, live, hasher: RandomState::new(), is_stopping: Cell::new(false), state }
    }

    /// Whether nothing waits or is being judged.
    pub fn is_empty(&self) -> bool {
        self.state.borrow().order.is_empty()
    }

    /// Puts another plugin in charge of what waits, with a queue for each of its workers.
    pub fn change(&self, options: PluginOptions) {
        let workers = if options.judges(Source::Ws) { options.workers } else { 0 };
        let queues = (0..workers).map(|_| FairQueue::in_order()).collect();
        let mut state = self.state.borrow_mut();
        let former = std::mem::replace(&mut state.queues, queues);
        (state.options, state.cost_us) = (options, FIRST_COST_US);
        drop(state);
        let now_us = self.judging.clock.now_us();
        for mut queue in former {
            while let Some((_, held)) = queue.pop(|cost_us| cost_us, now_us) {
                self.line_up(held);
            }
        }
        self.flush();
    }

    /// Takes an event in.
    pub fn enter(&self, verified: Verified) {
        let place = Some(self.state.borrow_mut().order.enter(Arc::as_ptr(&verified.from) as usize));
        if self.state.borrow().options.dry_run {
            self.enter_copy(&verified);
            return self.decide(verified, place, Ruling::Pass);
        }
        self.line_up(PendingEvent { verified, place, cost_us: 0 });
    }

    /// Puts an event in line for its worker. Requests to vanish are obeyed, whatever a plugin thinks of them (NIP-62).
    fn line_up(&self, mut held: PendingEvent) {
        let mut state = self.state.borrow_mut();
        let (workers, address) = (state.queues.len(), held.verified.from.address);
        if workers == 0 || held.event().kind() == Kind::VANISH {
            drop(state);
            return self.judged(held, Some(Verdict::Accept));
        }
        let worker = (self.hasher.hash_one(address) % workers as u64) as usize;
        held.cost_us = state.cost_us;
        let (cost_us, now_us) = (held.cost_us, self.judging.clock.now_us());
        let refused = state.queues[worker].push(address, held, cost_us, now_us);
        assert!(refused.is_none(), "a queue without a bound refuses nothing");
    }

    /// Queues a copy for a dry run; the event itself passes regardless.
    fn enter_copy(&self, verified: &Verified) {
        let bytes = verified.event.view().record().len();
        let mut state = self.state.borrow_mut();
        if state.queues.is_empty() {
            return;
        }
        if state.copies >= COPIES || state.copy_bytes + bytes > COPY_BYTES {
            let label = PluginVerdictLabel { verdict: PluginVerdict::Skipped };
            self.judging.metrics.plugin_verdicts.get_or_create(&label).inc();
            return;
        }
        state.copies += 1;
        state.copy_bytes += bytes;
        drop(state);
        let Verified { event, from, received } = verified;
        let verified = Verified { event: event.clone(), from: Arc::clone(from), received: *received };
        self.line_up(PendingEvent { verified, place: None, cost_us: 0 });
    }

    fn judged(&self, held: PendingEvent, verdict: Option<Verdict>) {
        let ruling = match (verdict, self.state.borrow().options.on_failure) {
            (Some(Verdict::Accept), _) | (None, OnFailure::Accept) => Ruling::Pass,
            (Some(Verdict::Reject(reason)), _) => Ruling::Refuse(reason),
            (Some(Verdict::ShadowReject), _) => Ruling::Shadow,
            (None, OnFailure::Reject) => {
                Ruling::Refuse(Reason::new(Prefix::Error, "the relay could not ask its policy; try again later"))
            }
        };
        self.decide(held.verified, held.place, ruling);
    }

    fn decide(&self, verified: Verified, place: Option<OrderPosition>, ruling: Ruling) {
        let mut state = self.state.borrow_mut();
        let State { order, gone, copies, copy_bytes, .. } = &mut *state;
        match place {
            Some(place) => order.decide(place, (verified, ruling), |decided| gone.push(decided)),
            None => {
                *copies -= 1;
                *copy_bytes -= verified.event.view().record().len();
            }
        }
    }

    /// Passes on and answers the events that were let go.
    pub fn flush(&self) {
        let gone = std::mem::take(&mut self.state.borrow_mut().gone);
        if gone.is_empty() {
            return;
        }
        let (count, mut stored, mut ephemeral) = (gone.len(), Vec::new(), Vec::new());
        let mut answers = Answers::new(&self.judging.metrics, &self.judging.gate);
        for (verified, ruling) in gone {
            match ruling {
                Ruling::Pass if verified.event.view().kind().is_ephemeral() => ephemeral.push(verified),
                Ruling::Pass => stored.push(verified),
                Ruling::Refuse(reason) => answers.refuse(&verified, Refusal { rule: PolicyRule::Plugin, reason }),
                Ruling::Shadow => answers.shadow(&verified),
            }
        }
        drop(answers);
        // These wait while the queues are full, for threads that wait for nobody. Nothing but the plugin's pipes waits
        // for this thread. A closed queue means that its thread has panicked, which stops the process.
        let _ = stored.is_empty() || self.write.send(WriteCommand::Store(stored)).is_ok();
        let _ = ephemeral.is_empty() || self.live.send(LiveCommand::Ephemeral(ephemeral)).is_ok();
        self.shared.leave(count);
        if self.is_stopping.get() && self.is_empty() {
            self.shared.wake();
        }
    }
}

/// The queue of one worker.
pub struct WorkerQueue {
    /// Where the events wait.
    pub undecided: Rc<Undecided>,
    /// Which worker it is.
    pub worker: usize,
}

impl Queue for WorkerQueue {
    type Candidate = PendingEvent;

    fn next(&self) -> Option<PendingEvent> {
        let now_us = self.undecided.judging.clock.now_us();
        let mut state = self.undecided.state.borrow_mut();
        let (_, held) = state.queues.get_mut(self.worker)?.pop(|cost_us| cost_us, now_us)?;
        Some(held)
    }

    fn judged(&self, held: PendingEvent, verdict: Option<Verdict>) {
        self.undecided.judged(held, verdict);
    }

    fn spent(&self, held: &PendingEvent, time: Duration) {
        let (now_us, spent_us) = (self.undecided.judging.clock.now_us(), time.as_micros() as u64);
        let mut state = self.undecided.state.borrow_mut();
        state.cost_us = (state.cost_us * (AVERAGED - 1) + spent_us) / AVERAGED;
        if let Some(queue) = state.queues.get_mut(self.worker) {
            queue.correct(held.verified.from.address, held.cost_us, spent_us, now_us);
        }
    }

    fn flush(&self) {
        self.undecided.flush();
    }
}
