//! Carries out what a session decides: submits events, starts scans, sends replies.
//!
//! It holds no socket. What it cannot do now it keeps, in bounds, and says that its client must wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context as TaskContext;
use std::time::Instant;

use hashbrown::HashMap;

use super::bill::Bill;
use super::context::IoContext;
use super::session::{Action, Context, Session, verb};
use super::turns::TURN;
use crate::ledger::Hold;
use crate::metrics::{EventOutcome, Verb};
use crate::nostr::{ClientMessage, Event, Filter, RelayMessage, SubscriptionId};
use crate::pipeline::client::{Identity, Replies};
use crate::pipeline::query::scan_job::{self, ScanJob};
use crate::pipeline::queues::Submission;
use crate::pipeline::{ClientHandle, Reconciliation, Subscription};
use crate::policy::{Act, Peer, Settings};
use crate::store::{Query, QueryLimits, Seq};
use crate::ws::{CloseCode, Flow, Frame, Incoming, OpCode, Outbox};

mod publish;
mod sync;

/// COUNTs of one connection that may wait in line. REQs are bounded by `max_subscriptions`.
const MAX_WAITING_COUNTS: usize = 64;

/// The working part of one connection.
pub struct Engine {
    context: Rc<IoContext>,
    client: Arc<ClientHandle>,
    session: Session,
    /// Events that passed the gate in this burst.
    batch: Vec<Submission>,
    /// What cannot be done yet; nothing is read before it is.
    stalled: Option<Stalled>,
    /// Woken when there is room at the gate.
    room: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Queries that wait for a running scan of this connection to end.
    waiting: VecDeque<Waiting>,
    /// Open negentropy sessions.
    negentropy: HashMap<SubscriptionId, Arc<Reconciliation>>,
    /// Replies of this burst.
    replies: Replies,
    received: Instant,
    turn_began: Instant,
    /// The turn has lasted so long that nothing more is taken in it.
    turn_is_over: bool,
    /// Whether the client may be read in this turn, once that was asked.
    may_read: Option<bool>,
    bill: Bill,
    /// Whether nobody is there to read an answer.
    left: bool,
}

/// Why a client is read no further.
enum Stalled {
    /// The gate refused this event.
    Event(Event),
    /// This query is to find what this client published before it, and that is not answered yet.
    Query(Action),
}

/// A query that is in line.
enum Waiting {
    Rows(Arc<Subscription>, Query, Instant),
    Count(SubscriptionId, Query, Hold, Instant),
}

impl Engine {
    /// An engine for a client that has said nothing yet.
    pub fn new(context: &Rc<IoContext>, client: &Arc<ClientHandle>, peer: Peer) -> Self {
        Self {
            context: Rc::clone(context),
            client: Arc::clone(client),
            session: Session::new(peer),
            batch: Vec::new(),
            stalled: None,
            room: None,
            waiting: VecDeque::new(),
            negentropy: HashMap::new(),
            replies: Replies::default(),
            received: Instant::now(),
            turn_began: Instant::now(),
            turn_is_over: false,
            may_read: None,
            bill: Bill::default(),
            left: false,
        }
    }

    /// The client takes no answer any more. What it has sent is handled all the same, and not held up until it is
    /// answered: nothing would wake the connection then.
    pub fn client_left(&mut self) {
        self.left = true;
    }

    /// The connection's outbox.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.client.outbox
    }

    /// Says what is said first.
    pub fn greet(&mut self, settings: &Settings) {
        if let Some(message) = self.session.greet(settings) {
            self.replies.push(&message);
        }
    }

    /// A new read begins.
    pub fn begin_burst(&mut self) {
        self.received = Instant::now();
    }

    /// Begins a turn, in which messages are taken.
    pub fn begin_turn(&mut self, now: Instant) {
        self.turn_began = now;
        self.turn_is_over = false;
        self.may_read = None;
    }

    /// Whether the client may be read in this turn. If not, it is in debt, and held for [`Engine::held_us`].
    pub fn may_read(&mut self) -> bool {
        if let Some(may_read) = self.may_read {
            return may_read;
        }
        let pipeline = &self.context.front.pipeline;
        let settings = pipeline.settings.load();
        let may_read = self.bill.may_read(&self.client, &settings, &pipeline.metrics, pipeline.clock.now_us());
        self.may_read = Some(may_read);
        may_read
    }

    /// Charges what the client had the relay do.
    pub fn end_turn(&mut self) {
        if self.client.rates.is_exempt() {
            return;
        }
        let pipeline = &self.context.front.pipeline;
        self.bill.end_turn(&self.client, &pipeline.settings.load(), &pipeline.metrics, pipeline.clock.now_us());
    }

    /// The bill, to which the connection adds what it did itself.
    pub const fn bill(&mut self) -> &mut Bill {
        &mut self.bill
    }

    /// How long the client is read no further, in microseconds, if it is held.
    pub fn held_us(&self) -> Option<u64> {
        self.bill.held_us(self.context.front.pipeline.clock.now_us())
    }

    /// Whether other connections should get their turn before this one reads on.
    pub fn is_turn_over(&mut self) -> bool {
        self.turn_is_over = self.turn_is_over || self.turn_began.elapsed() >= TURN;
        self.turn_is_over
    }

    /// Takes what the socket brought.
    pub fn take(&mut self, incoming: Incoming<'_>) -> Flow {
        match incoming {
            Incoming::Text(text) => {
                if self.context.draining.get() {
                    return Flow::Stop;
                }
                self.text(text);
                if self.bill.is_overdrawn() {
                    return self.close_for_debt();
                }
            }
            Incoming::Ping(payload) => {
                self.bill.add(Act::Ping);
                self.client.outbox.push_reply(Frame::control(OpCode::Pong, payload));
            }
            Incoming::Pong(_) => {}
            Incoming::Close(code, _) => {
                self.flush();
                self.client.outbox.close(code.unwrap_or(1000).into(), "");
                return Flow::Stop;
            }
        }
        // A client that pings and never reads must not fill its outbox either.
        if self.is_turn_over() || self.must_wait() { Flow::Pause } else { Flow::Continue }
    }

    /// A client that owes too much and sends on.
    fn close_for_debt(&mut self) -> Flow {
        self.flush();
        let reason = self.bill.refusal().map(ToString::to_string).unwrap_or_default();
        self.client.outbox.close(CloseCode::Policy, &reason);
        Flow::Stop
    }

    /// Whether the connection was closed for its debt.
    pub const fn is_overdrawn(&self) -> bool {
        self.bill.is_overdrawn()
    }

    fn text(&mut self, text: &str) {
        let front = Arc::clone(&self.context.front);
        let settings = front.pipeline.settings.load_full();
        self.bill.add(Act::Message(text.len()));
        let parsed =
            ClientMessage::parse(&mut self.context.parser.borrow_mut(), text.as_bytes(), settings.parse_options());
        front.pipeline.metrics.message(parsed.as_ref().map_or(Verb::Malformed, verb));
        match parsed {
            Err(answer) => self.refuse_message(&answer),
            Ok(message) => self.handle(message, &settings),
        }
    }

    /// Answers a message that cannot be read. Whatever its client now takes for closed is closed.
    fn refuse_message(&mut self, answer: &RelayMessage) {
        match answer {
            RelayMessage::Closed { sub, .. } => {
                let open = SubscriptionId::new(sub).and_then(|id| self.session.forget(&id));
                open.iter().for_each(|sub| self.end_subscription(sub));
            }
            RelayMessage::NegErr { sub, .. } => {
                SubscriptionId::new(sub).iter().for_each(|id| self.neg_close(id));
            }
            RelayMessage::Ok { .. } => self.context.front.pipeline.metrics.event(EventOutcome::Invalid, 1),
            _ => {}
        }
        self.reply(answer);
    }

    fn handle(&mut self, message: ClientMessage, settings: &Arc<Settings>) {
        let front = Arc::clone(&self.context.front);
        let pipeline = &front.pipeline;
        self.bill.add_message(&message, &self.client, settings, pipeline.clock.now_us());
        let refusal = self.bill.refusal();
        let filters = &self.client.filters;
        let context = Context { settings, now: pipeline.clock.now(), refusal, filters, verifier: &pipeline.verifier };
        let is_event = matches!(message, ClientMessage::Event(_));
        let is_auth = matches!(message, ClientMessage::Auth(_)) && refusal.is_none();
        let mut actions: smallvec::SmallVec<[Action; 2]> = smallvec::SmallVec::new();
        self.session.handle(message, &context, &mut |action| actions.push(action));
        for action in actions {
            match action {
                Action::Reply(RelayMessage::Ok { .. }) if is_event => pipeline.metrics.event(EventOutcome::Refused, 1),
                Action::Reply(RelayMessage::Ok { accepted: false, .. }) if is_auth => self.bill.add(Act::Rejected),
                _ => {}
            }
            // A NEG-OPEN with an open id closes that session at once, whatever becomes of the new one (NIP-77).
            if let Action::NegOpen(id, ..) = &action {
                self.neg_close(id);
            }
            self.act(action, settings);
        }
    }

    fn act(&mut self, action: Action, settings: &Settings) {
        match action {
            Action::Reply(message) => self.reply(&message),
            Action::Submit(event) => self.submit(event, settings),
            Action::Query(..) | Action::Count(..) | Action::NegOpen(..) if self.awaits_own_events() => {
                self.stalled = Some(Stalled::Query(action));
            }
            Action::Query(sub, filters) => self.query(sub, filters, settings),
            Action::Count(id, filters, memory) => {
                let query = Query { filters, until_seq: Seq::default(), limits: None };
                self.enqueue(Waiting::Count(id, query, memory, self.received));
            }
            Action::End(sub) => self.end_subscription(&sub),
            Action::KeysChanged => self.identify(settings),
            Action::NegOpen(id, filter, message, memory) => self.neg_open(id, filter, message, memory, settings),
            Action::NegMsg(id, message, memory) => self.neg_message(&id, message, memory),
            Action::NegClose(id) => self.neg_close(&id),
        }
    }

    /// Answers at once, and counts what is refused.
    fn reply(&mut self, message: &RelayMessage) {
        if let RelayMessage::Ok { accepted: false, reason: Some(reason), .. } | RelayMessage::Closed { reason, .. } =
            message
        {
            self.context.front.pipeline.metrics.refusal(reason.prefix.as_str());
        }
        self.replies.push(message);
    }

    /// Tells the threads that deliver who this client is now.
    fn identify(&self, settings: &Settings) {
        let peer = self.session.peer();
        let identity = Identity { keys: Arc::clone(peer.keys()), tier: peer.tier(settings) };
        self.client.set_identity(identity);
        if let Some(first) = peer.keys().first() {
            let front = &self.context.front;
            self.client.rates.identify(front.key_rates.get(*first, front.pipeline.clock.now_us()));
        }
    }

    fn query(&mut self, sub: Arc<Subscription>, filters: Arc<[Filter]>, settings: &Settings) {
        let limits = QueryLimits {
            default_limit: settings.limits.default_limit,
            max_limit: settings.tiers.get(self.session.peer().tier(settings)).max_limit,
            hints: settings.limits.eose_hints,
            tie_extension: if settings.limits.eose_hints { settings.limits.max_tie_extension } else { 0 },
        };
        let query = Query { filters, until_seq: Seq::default(), limits: Some(limits) };
        self.enqueue(Waiting::Rows(sub, query, self.received));
    }

    fn enqueue(&mut self, waiting: Waiting) {
        // Replies that were decided before this query are sent before its rows.
        self.send_replies();
        let is_count = |waiting: &Waiting| matches!(waiting, Waiting::Count(..));
        let counts = || self.waiting.iter().filter(|waiting| is_count(waiting)).count();
        if is_count(&waiting) && counts() >= MAX_WAITING_COUNTS {
            return self.refuse(&waiting);
        }
        self.waiting.push_back(waiting);
        self.start_waiting_scans();
    }

    fn refuse(&mut self, waiting: &Waiting) {
        let id = match waiting {
            Waiting::Rows(sub, ..) => {
                self.session.forget(&sub.id);
                &sub.id
            }
            Waiting::Count(id, ..) => id,
        };
        let busy = scan_job::busy(id);
        self.reply(&busy);
    }

    /// Whether a query waits that may start now.
    pub fn has_startable_scan(&self) -> bool {
        let limit = self.context.front.pipeline.bounds.scans_per_connection;
        !self.waiting.is_empty() && self.client.scans().load(Ordering::Acquire) < limit
    }

    /// Starts what waits, as far as this connection may.
    pub fn start_waiting_scans(&mut self) {
        while self.has_startable_scan() {
            let Some(waiting) = self.waiting.pop_front() else { return };
            let job = match waiting {
                Waiting::Rows(sub, query, at) if !sub.is_ended() => ScanJob::rows(&self.client, sub, query, at),
                Waiting::Rows(..) => continue,
                Waiting::Count(id, query, memory, at) => ScanJob::count(&self.client, id, query, memory, at),
            };
            let (pipeline, cold) = (&self.context.front.pipeline, &self.context.cold);
            let spent_us = job.start(&pipeline.reading, cold.may_read(|| pipeline.clock.now_us()));
            cold.look(spent_us, || pipeline.clock.now_us());
        }
    }

    fn end_subscription(&mut self, sub: &Arc<Subscription>) {
        self.context.front.pipeline.reading.live.end(&self.client, sub);
        self.waiting.retain(|waiting| !matches!(waiting, Waiting::Rows(own, ..) if Arc::ptr_eq(own, sub)));
    }

    /// Whether a query might miss what the same client published before it. The answers wake the connection, but not
    /// one whose client left.
    fn awaits_own_events(&self) -> bool {
        !self.left && self.client.unanswered() > 0
    }

    /// Bytes of an event that waits for room at the gate. A query that waits counts with its filters.
    pub fn stalled_bytes(&self) -> usize {
        match &self.stalled {
            Some(Stalled::Event(event)) => event.view().record().len(),
            Some(Stalled::Query(_)) | None => 0,
        }
    }

    /// Gives up what waits: the client is being closed for what it holds.
    pub fn drop_stalled(&mut self) {
        self.stalled = None;
    }

    /// Whether this client must be served before it is read further.
    fn must_wait(&self) -> bool {
        self.stalled.is_some()
            || self.may_read == Some(false)
            || self.bill.is_in_debt()
            || (!self.left && self.client.unanswered() >= self.context.front.pipeline.bounds.unanswered_events)
            || self.client.outbox.is_above_high_water()
    }

    /// Whether this one waits for nothing but another turn.
    pub fn wants_turn(&self) -> bool {
        self.turn_is_over
    }

    /// Whether a paused client may be read on; if not, the task is woken when that may have changed.
    pub fn may_resume(&mut self, cx: &mut TaskContext<'_>) -> bool {
        match self.stalled.take() {
            None => {}
            Some(Stalled::Event(event)) => self.enter_gate(event),
            Some(Stalled::Query(query)) => {
                let settings = self.context.front.pipeline.settings.load_full();
                self.act(query, &settings);
            }
        }
        if matches!(self.stalled, Some(Stalled::Event(_))) && !self.poll_room(cx) {
            return false;
        }
        // The caller flushes only if the client is read on.
        self.flush();
        // Unanswered events and a full outbox change by a push or a flush, which wake or run this task.
        !self.must_wait()
    }

    /// Waits for room at the gate; true when the stalled event is in.
    fn poll_room(&mut self, cx: &mut TaskContext<'_>) -> bool {
        loop {
            let gate = Arc::clone(&self.context.front.pipeline.gate);
            let room = self.room.get_or_insert_with(|| Box::pin(async move { gate.room().await }));
            // Polled before the next try, so that room made in between is not missed.
            let ready = room.as_mut().poll(cx).is_ready();
            if ready {
                self.room = None;
            }
            match self.stalled.take() {
                Some(Stalled::Event(event)) => self.enter_gate(event),
                other => {
                    self.stalled = other;
                    return true;
                }
            }
            if self.stalled.is_none() {
                self.room = None;
                return true;
            }
            if !ready {
                return false;
            }
        }
    }

    /// Hands over what this burst gathered.
    pub fn flush(&mut self) {
        self.send_replies();
        if !self.batch.is_empty() {
            self.context.submit(std::mem::take(&mut self.batch));
        }
    }

    fn send_replies(&mut self) {
        self.replies.send(&self.client, 0);
    }

    /// Sends on what was taken and ends every subscription.
    pub fn end(&mut self) {
        while !self.end_some(Instant::now()) {}
    }

    /// The same for as long as a turn that began at `began` lasts; whether everything is ended.
    pub fn end_some(&mut self, began: Instant) -> bool {
        self.flush();
        self.waiting.clear();
        self.negentropy.drain().for_each(|(_, session)| session.end());
        while let Some(sub) = self.session.take_any() {
            self.context.front.pipeline.reading.live.end(&self.client, &sub);
            if began.elapsed() >= TURN {
                return false;
            }
        }
        let pipeline = &self.context.front.pipeline;
        self.bill.end(&self.client, &pipeline.settings.load(), &pipeline.metrics, pipeline.clock.now_us());
        true
    }
}
