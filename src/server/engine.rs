//! Carries out what a session decides: submits events, starts scans, sends replies.
//!
//! It holds no socket. It keeps what it cannot do yet, within bounds, and says when its client must wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context as TaskContext;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::bill::Bill;
use super::context::IoContext;
use super::session::{Action, Context, Session, verb};
use super::turns::TURN;
use crate::ledger::Hold;
use crate::metrics::{EventOutcome, Verb};
use crate::nostr::{ClientMessage, Event, Filter, RelayMessage, SubscriptionId, Timestamp};
use crate::pipeline::client::{Identity, Replies};
use crate::pipeline::query::scan_job::{self, ScanJob};
use crate::pipeline::queues::Submission;
use crate::pipeline::{ClientHandle, Reconciliation, Serving, Subscription};
use crate::policy::{Act, Decision, Peer, Settings};
use crate::store::{Query, QueryLimits, Seq};
use crate::ws::{Flow, Frame, Incoming, OpCode, Outbox};

mod membership;
mod publish;
mod refuse;
mod sync;

/// COUNTs that one connection may have queued. REQs are bounded by `max_subscriptions`.
const MAX_WAITING_COUNTS: usize = 64;

/// The working part of one connection.
pub struct Engine {
    context: Rc<IoContext>,
    client: Arc<ClientHandle>,
    session: Session,
    /// Events that passed the gate in this burst.
    batch: Vec<Submission>,
    /// What cannot be done yet. Nothing more is read until it is done.
    stalled: Option<PausedBy>,
    /// Woken when there is room at the gate.
    room: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Queries that wait until a running scan of this connection ends.
    waiting: VecDeque<QueuedQuery>,
    /// Open negentropy sessions.
    negentropy: HashMap<SubscriptionId, Arc<Reconciliation>>,
    /// Replies of this burst.
    replies: Replies,
    received: Instant,
    /// The time of day when the turn began. Its messages go by it.
    now: Timestamp,
    turn_began: Instant,
    /// When the turn last read the clock: at its begin, and after each message.
    looked: Instant,
    turn_length: Duration,
    /// The turn has used up its time.
    turn_is_over: bool,
    /// Whether the client may be read in this turn; `None` until that is checked.
    may_read: Option<bool>,
    bill: Bill,
    /// Whether too many of its events were refused.
    is_offender: bool,
    /// Whether the client has left, so that nobody reads the answers.
    left: bool,
}

/// Why a client is read no further.
enum PausedBy {
    /// The gate refused this event.
    Event(Event, Decision),
    /// This query must find what its client published before it, and those EVENTs are unanswered.
    Query(Action),
}

/// A queued query.
enum QueuedQuery {
    Rows(Arc<Subscription>, Query, Instant),
    Count(SubscriptionId, Query, Hold, Instant),
}

impl Engine {
    /// An engine for a new client.
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
            now: context.front.pipeline.clock.now(),
            turn_began: Instant::now(),
            looked: Instant::now(),
            turn_length: TURN,
            turn_is_over: false,
            may_read: None,
            bill: Bill::default(),
            is_offender: false,
            left: false,
        }
    }

    /// The client no longer reads answers. Its EVENTs are still handled, without waiting for answers to earlier ones:
    /// nothing would wake the connection for them. Its queries are not.
    pub fn client_left(&mut self) {
        self.left = true;
        self.waiting.clear();
    }

    /// Whether every EVENT of the client has its OK in the outbox.
    pub fn is_answered(&self) -> bool {
        self.client.is_answered()
    }

    /// The connection's outbox.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.client.outbox
    }

    /// Greets the client.
    pub fn greet(&mut self, settings: &Settings) {
        if let Some(message) = self.session.greet(settings) {
            self.replies.push(&message);
        }
    }

    /// Notes the time of a new read.
    pub fn begin_burst(&mut self) {
        self.received = Instant::now();
    }

    /// Begins a turn of reading.
    pub fn begin_turn(&mut self, now: Instant, length: Duration) {
        self.now = self.context.front.pipeline.clock.now();
        (self.turn_began, self.looked) = (now, now);
        self.turn_length = length;
        self.turn_is_over = false;
        self.may_read = None;
    }

    /// Whether the client may be read in this turn. A client in debt may not: it is held for [`Engine::held_us`].
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

    /// Charges the client for this turn.
    pub fn end_turn(&mut self) {
        if self.client.rates.is_exempt() {
            return;
        }
        let pipeline = &self.context.front.pipeline;
        self.bill.end_turn(&self.client, &pipeline.settings.load(), &pipeline.metrics, pipeline.clock.now_us());
    }

    /// The bill, to which the connection adds its own work.
    pub const fn bill(&mut self) -> &mut Bill {
        &mut self.bill
    }

    /// For how many more microseconds the client is held, if it is.
    pub fn held_us(&self) -> Option<u64> {
        self.bill.held_us(self.context.front.pipeline.clock.now_us())
    }

    /// Whether it is time for other connections.
    pub fn is_turn_over(&mut self) -> bool {
        if !self.turn_is_over {
            self.looked = Instant::now();
            self.turn_is_over = self.looked.saturating_duration_since(self.turn_began) >= self.turn_length;
        }
        self.turn_is_over
    }

    /// Handles one message or control frame.
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
                if let Some(reason) = self.offender() {
                    self.is_offender = true;
                    return self.close(&reason.to_string());
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
        // Pings too: a client that sends them and never reads must not fill its outbox.
        if self.is_turn_over() || self.must_wait() { Flow::Pause } else { Flow::Continue }
    }

    /// Closes a client that owes too much and keeps sending.
    fn close_for_debt(&mut self) -> Flow {
        let reason = self.bill.refusal().map(ToString::to_string).unwrap_or_default();
        self.close(&reason)
    }

    /// Whether the connection was closed for its debt.
    pub const fn is_overdrawn(&self) -> bool {
        self.bill.is_overdrawn()
    }

    fn text(&mut self, text: &str) {
        let context = Rc::clone(&self.context);
        let pipeline = &context.front.pipeline;
        let settings = pipeline.settings.load();
        self.bill.add(Act::Message(text.len()));
        let parsed = ClientMessage::parse(&mut context.parser.borrow_mut(), text.as_bytes(), settings.parse_options());
        pipeline.metrics.message(parsed.as_ref().map_or(Verb::Malformed, verb));
        match parsed {
            Err(answer) => self.refuse_message(&answer),
            Ok(message) => self.handle(message, &settings, pipeline),
        }
    }

    /// Answers a malformed message, and closes what its client now believes to be closed.
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

    fn handle(&mut self, message: ClientMessage, settings: &Settings, pipeline: &Serving) {
        self.bill.add_message(&message, &self.client, settings, pipeline.clock.us_at(self.looked));
        let refusal = self.bill.refusal();
        let filters = &self.client.filters;
        let context = Context { settings, now: self.now, refusal, filters, verifier: &pipeline.verifier };
        let is_auth = matches!(message, ClientMessage::Auth(_)) && refusal.is_none();
        let mut actions: smallvec::SmallVec<[Action; 2]> = smallvec::SmallVec::new();
        self.session.handle(message, &context, &mut |action| actions.push(action));
        for action in actions {
            match action {
                Action::Reply(RelayMessage::Ok { accepted: false, .. }) if is_auth => self.bill.add(Act::Rejected),
                _ => {}
            }
            // A NEG-OPEN with the id of an open session closes that session, even if the new one is refused (NIP-77).
            if let Action::NegOpen(id, ..) = &action {
                self.neg_close(id);
            }
            self.act(action, settings);
        }
    }

    fn act(&mut self, action: Action, settings: &Settings) {
        match action {
            Action::Reply(message) => self.reply(&message),
            Action::Refuse(id, refusal) => self.refuse_event(id, refusal),
            Action::Submit(event, decision) => self.submit(event, decision, settings),
            Action::Invite(sub, member) => self.ask_for_invite(sub, member),
            Action::Query(..) | Action::Count(..) | Action::NegOpen(..) | Action::NegMsg(..) if self.left => {}
            Action::Query(..) | Action::Count(..) | Action::NegOpen(..) if self.awaits_own_events() => {
                self.stalled = Some(PausedBy::Query(action));
            }
            Action::Query(sub, filters) => self.query(sub, filters, settings),
            Action::Count(id, filters, memory) => self.count(id, filters, memory),
            Action::End(sub) => self.end_subscription(&sub),
            Action::KeysChanged => self.identify(settings),
            Action::NegOpen(id, filter, message, memory) => self.neg_open(id, filter, message, memory, settings),
            Action::NegMsg(id, message, memory) => self.neg_message(&id, message, memory),
            Action::NegClose(id) => self.neg_close(&id),
        }
    }

    /// Queues a reply, and counts refusals.
    fn reply(&mut self, message: &RelayMessage) {
        if let RelayMessage::Ok { accepted: false, reason: Some(reason), .. }
        | RelayMessage::Closed { reason, .. }
        | RelayMessage::NegErr { reason, .. } = message
        {
            self.context.front.pipeline.metrics.refusal(reason.prefix.as_str());
        }
        self.replies.push(message);
    }

    /// Tells the other threads which keys this client has proven.
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
        self.enqueue(QueuedQuery::Rows(sub, query, self.received));
    }

    fn count(&mut self, id: SubscriptionId, filters: Arc<[Filter]>, memory: Hold) {
        let is_count = |waiting: &&QueuedQuery| matches!(waiting, QueuedQuery::Count(..));
        if self.waiting.iter().filter(is_count).count() >= MAX_WAITING_COUNTS {
            return self.reply(&scan_job::busy(&id));
        }
        let query = Query { filters, until_seq: Seq::default(), limits: None };
        self.enqueue(QueuedQuery::Count(id, query, memory, self.received));
    }

    fn enqueue(&mut self, waiting: QueuedQuery) {
        // Earlier replies must go out before the rows of this query.
        self.send_replies();
        self.waiting.push_back(waiting);
        self.start_waiting_scans();
    }

    /// Whether a queued query may start now.
    pub fn has_startable_scan(&self) -> bool {
        let limit = self.context.front.pipeline.bounds.scans_per_connection;
        !self.waiting.is_empty() && self.client.scans().load(Ordering::Acquire) < limit
    }

    /// Starts queued queries, as many as this connection may run.
    pub fn start_waiting_scans(&mut self) {
        if !self.has_startable_scan() {
            return;
        }
        let mut now = Instant::now();
        while self.has_startable_scan() {
            let Some(waiting) = self.waiting.pop_front() else { return };
            let job = match waiting {
                QueuedQuery::Rows(sub, query, at) if !sub.is_ended() => ScanJob::rows(&self.client, sub, query, at),
                QueuedQuery::Rows(..) => continue,
                QueuedQuery::Count(id, query, memory, at) => ScanJob::count(&self.client, id, query, memory, at),
            };
            let (spent_us, ended) =
                job.start(&self.context.front.pipeline.reading, self.context.first_slices(now), now);
            self.context.scanned(spent_us, ended);
            now = ended;
        }
    }

    fn end_subscription(&mut self, sub: &Arc<Subscription>) {
        self.context.front.pipeline.reading.live.end(&self.client, sub);
        self.waiting.retain(|waiting| !matches!(waiting, QueuedQuery::Rows(own, ..) if Arc::ptr_eq(own, sub)));
    }

    /// Whether a query might miss what its client published before it. The OKs wake the connection, unless the client
    /// has left.
    fn awaits_own_events(&self) -> bool {
        !self.left && self.client.unanswered() > 0
    }

    /// The size of an event that waits for room at the gate. A waiting query is counted with its filters.
    pub fn stalled_bytes(&self) -> usize {
        match &self.stalled {
            Some(PausedBy::Event(event, _)) => event.view().record().len(),
            Some(PausedBy::Query(_)) | None => 0,
        }
    }

    /// Drops what waits, because the client is being closed for its memory.
    pub fn drop_stalled(&mut self) {
        self.stalled = None;
    }

    /// Whether the client must wait before it is read further.
    fn must_wait(&self) -> bool {
        self.stalled.is_some()
            || self.may_read == Some(false)
            || self.bill.is_in_debt()
            || (!self.left && self.client.unanswered() >= self.context.front.pipeline.bounds.unanswered_events)
            || self.client.outbox.is_above_high_water()
    }

    /// Whether the client waits only for its next turn.
    pub fn wants_turn(&self) -> bool {
        self.turn_is_over
    }

    /// Whether to resume reading a paused client. If not, the task is woken when that may have changed.
    pub fn may_resume(&mut self, cx: &mut TaskContext<'_>) -> bool {
        match self.stalled.take() {
            None => {}
            Some(PausedBy::Event(event, decision)) => self.enter_gate(event, decision),
            Some(PausedBy::Query(query)) => {
                let settings = self.context.front.pipeline.settings.load_full();
                self.act(query, &settings);
            }
        }
        if matches!(self.stalled, Some(PausedBy::Event(..))) && !self.poll_room(cx) {
            return false;
        }
        // The caller flushes only if reading resumes.
        self.flush();
        // A push wakes this task and a flush runs in it, so changes to unanswered events and the outbox are noticed.
        !self.must_wait()
    }

    /// Waits for room at the gate. Returns true once the stalled event is in.
    fn poll_room(&mut self, cx: &mut TaskContext<'_>) -> bool {
        loop {
            let gate = Arc::clone(&self.context.front.pipeline.gate);
            let room = self.room.get_or_insert_with(|| Box::pin(async move { gate.room().await }));
            // Polled before the next try, so that no room is missed in between.
            let ready = room.as_mut().poll(cx).is_ready();
            if ready {
                self.room = None;
            }
            match self.stalled.take() {
                Some(PausedBy::Event(event, decision)) => self.enter_gate(event, decision),
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

    /// Passes on the replies and events of this burst.
    pub fn flush(&mut self) {
        self.send_replies();
        if !self.batch.is_empty() {
            self.context.submit(std::mem::take(&mut self.batch));
        }
    }

    fn send_replies(&mut self) {
        self.replies.send(&self.client, 0);
    }

    /// Passes on what was read and ends every subscription.
    pub fn end(&mut self) {
        while !self.end_some(Instant::now()) {}
    }

    /// Does the same until the turn that began at `began` is over. Returns whether everything has ended.
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

#[cfg(test)]
mod tests;
