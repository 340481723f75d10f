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

use super::io::IoContext;
use super::session::{Action, Context, Session, verb};
use super::turns::TURN;
use crate::ledger::Hold;
use crate::metrics::{EventOutcome, StoreOperation, Verb};
use crate::nostr::{ClientMessage, Event, Filter, Prefix, Reason, RelayMessage, SubscriptionId};
use crate::pipeline::client::{Identity, Replies};
use crate::pipeline::queues::Submission;
use crate::pipeline::reader::{self, ScanJob};
use crate::pipeline::uncommitted::Fate;
use crate::pipeline::{ClientHandle, Reconciliation, Subscription};
use crate::policy::{Peer, Settings};
use crate::store::{Known, Query, QueryLimits, Seq};
use crate::ws::{Flow, Frame, Incoming, OpCode, Outbox};

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

    /// The connection as other threads see it.
    pub fn client(&self) -> &ClientHandle {
        &self.client
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
            }
            Incoming::Ping(payload) => {
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

    fn text(&mut self, text: &str) {
        let front = Arc::clone(&self.context.front);
        let settings = front.shared.settings.load_full();
        let parsed =
            ClientMessage::parse(&mut self.context.parser.borrow_mut(), text.as_bytes(), settings.parse_options());
        front.shared.metrics.message(parsed.as_ref().map_or(Verb::Malformed, verb));
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
            RelayMessage::Ok { .. } => self.context.front.shared.metrics.event(EventOutcome::Invalid, 1),
            _ => {}
        }
        self.reply(answer);
    }

    fn handle(&mut self, message: ClientMessage, settings: &Arc<Settings>) {
        let shared = Arc::clone(&self.context.front.shared);
        let client = Arc::clone(&self.client);
        let context = Context {
            settings,
            now: shared.now(),
            now_us: shared.now_us(),
            rates: &client.rates,
            filters: &client.filters,
            verifier: &shared.verifier,
        };
        let is_event = matches!(message, ClientMessage::Event(_));
        let mut actions: smallvec::SmallVec<[Action; 2]> = smallvec::SmallVec::new();
        self.session.handle(message, &context, &mut |action| actions.push(action));
        for action in actions {
            if is_event && let Action::Reply(RelayMessage::Ok { .. }) = action {
                shared.metrics.event(EventOutcome::Refused, 1);
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
            self.context.front.shared.metrics.refusal(reason.prefix.as_str());
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
            self.client.rates.identify(front.key_rates.get(*first, front.shared.now_us()));
        }
    }

    /// Answers what is known already, before any signature work, and passes the rest through the gate.
    fn submit(&mut self, event: Event, settings: &Settings) {
        let shared = &self.context.front.shared;
        let (id, now) = (event.view().id(), shared.now());
        let known = match shared.uncommitted.fate(&id) {
            Some(Fate::Added) => Ok(Known::Stored),
            // Only the writer can tell why.
            Some(Fate::Removed) => Ok(Known::New),
            None => shared.store.read().and_then(|snapshot| snapshot.status(event.view(), now)),
        };
        let (outcome, answer) = match known {
            Ok(Known::New) => match shared.horizons.check_held(&shared.store, &settings.retention, event.view(), now) {
                Ok(()) => return self.enter_gate(event),
                Err(reason) => (EventOutcome::Refused, RelayMessage::Ok { id, accepted: false, reason: Some(reason) }),
            },
            Ok(Known::Stored) => {
                let reason = Some(Reason::new(Prefix::Duplicate, "already have this event"));
                (EventOutcome::Duplicate, RelayMessage::Ok { id, accepted: true, reason })
            }
            Ok(Known::Superseded) => (
                EventOutcome::Replaced,
                RelayMessage::refused(id, Prefix::Duplicate, "a newer version is already stored"),
            ),
            Ok(Known::Deleted) => {
                (EventOutcome::Deleted, RelayMessage::refused(id, Prefix::Blocked, "the author deleted this event"))
            }
            Ok(Known::Vanished) => {
                (EventOutcome::Vanished, RelayMessage::refused(id, Prefix::Blocked, "the author asked to vanish"))
            }
            Ok(Known::Expired) => {
                (EventOutcome::Expired, RelayMessage::refused(id, Prefix::Invalid, "the event is expired"))
            }
            Err(error) => {
                shared.health.failed(StoreOperation::Read, &error);
                (EventOutcome::Failed, RelayMessage::refused(id, Prefix::Error, "the store could not be read"))
            }
        };
        shared.metrics.event(outcome, 1);
        self.replies.push(&answer);
    }

    fn enter_gate(&mut self, event: Event) {
        let ingest = &self.context.front.shared.ingest;
        if !ingest.try_enter(&self.client.memory.waiting_events, event.view().record().len()) {
            self.stalled = Some(Stalled::Event(event));
            return;
        }
        self.client.owe();
        self.batch.push(Submission { event, from: Arc::clone(&self.client), received: self.received });
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
        let busy = reader::busy(id);
        self.reply(&busy);
    }

    fn neg_open(&mut self, id: SubscriptionId, filter: Filter, message: Vec<u8>, memory: Hold, settings: &Settings) {
        // Replies that were decided before are sent before its answer.
        self.send_replies();
        let shared = &self.context.front.shared;
        let options = shared.negentropy.options();
        // One that failed stays while its NEG-ERR may wait: whoever opens it anew must not get that.
        if self.client.outbox.is_empty() || self.negentropy.len() >= options.max_sessions_per_connection {
            self.negentropy.retain(|_, session| !session.is_ended());
        }
        let opened = if !options.enabled {
            Err(Reason::new(Prefix::Unsupported, "negentropy is off at this relay"))
        } else if self.negentropy.len() >= options.max_sessions_per_connection {
            Err(Reason::new(Prefix::RateLimited, "too many open sessions; close some first"))
        } else {
            let address = settings.rates.group(self.session.peer().address);
            Reconciliation::open(shared, &self.client, address, id.clone(), filter, message, memory)
        };
        match opened {
            Ok(session) => {
                self.context.watch(&session);
                self.negentropy.insert(id, session);
            }
            Err(reason) => self.neg_err(&id, reason),
        }
    }

    fn neg_message(&mut self, id: &SubscriptionId, message: Vec<u8>, memory: Hold) {
        self.send_replies();
        let unknown = || Err(Reason::new(Prefix::Closed, "no such session is open"));
        let taken = self.negentropy.get(id).map_or_else(unknown, |session| session.message(message, memory));
        if let Err(reason) = taken {
            self.neg_close(id);
            self.neg_err(id, reason);
        }
    }

    fn neg_close(&mut self, id: &SubscriptionId) {
        if let Some(session) = self.negentropy.remove(id) {
            session.end();
        }
    }

    fn neg_err(&mut self, id: &SubscriptionId, reason: Reason) {
        self.replies.push(&RelayMessage::NegErr { sub: id.as_str().into(), reason, max_records: None });
    }

    /// Whether a query waits that may start now.
    pub fn has_startable_scan(&self) -> bool {
        let limit = self.context.front.shared.bounds.scans_per_connection;
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
            let (shared, round) = (&self.context.front.shared, &self.context.round);
            let spent_us = job.start(shared, round.here(|| shared.now_us()));
            round.spend(spent_us, || shared.now_us());
        }
    }

    fn end_subscription(&mut self, sub: &Arc<Subscription>) {
        sub.end(&self.client, &self.context.front.shared.live);
        self.waiting.retain(|waiting| !matches!(waiting, Waiting::Rows(own, ..) if Arc::ptr_eq(own, sub)));
    }

    /// Whether a query might miss what the same client published before it. The answers wake the connection, but not one
    /// whose client left.
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
            || (!self.left && self.client.unanswered() >= self.context.front.shared.bounds.unanswered_events)
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
                let settings = self.context.front.shared.settings.load_full();
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
            let shared = Arc::clone(&self.context.front.shared);
            let room = self.room.get_or_insert_with(|| Box::pin(async move { shared.ingest.room().await }));
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
            sub.end(&self.client, &self.context.front.shared.live);
            if began.elapsed() >= TURN {
                return false;
            }
        }
        true
    }
}
