//! What the io threads share, and what the connections of one of them share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustix::io::Errno;
use tokio::sync::Notify;

use super::admission::{Admission, HalfOpenPlace, SocketSource};
use super::dashboard::context::DashboardContext;
use super::feed_access::{Feed, Options as ChangesOptions};
use super::landing_page;
use super::management::link::Link;
use super::options::Options;
use super::page_faults::PageFaults;
use super::partial_messages::PartialMessages;
use super::poll_time::PollClock;
use super::proxy::ProxyFaults;
use super::refusals::Refusals;
use super::share::Share;
use super::turns::{self, Turns};
use crate::metrics::TurnedAway;
use crate::nostr::json::Parser;
use crate::pipeline::query::scan_job::FirstSlice;
use crate::pipeline::queues::Submission;
use crate::pipeline::{ClientHandle, Intake, Reconciliation, Serving};
use crate::policy::{Act, RateTable, Settings, Standing};
use crate::ws::{CloseCode, Outboxes, Wakeups};

/// How long to wait after an accept fails for lack of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// While other queries wait for a reader, those on an io thread may take a quarter of its time.
const QUERY_PARTS: u32 = 4;

/// What they may take at once after a pause.
const QUERY_CREDIT: Duration = Duration::from_millis(2);

/// What they owe is capped at this.
const MOST_QUERY_TIME: Duration = Duration::from_millis(50);

/// Bytes read from a socket at a time; one buffer per io thread.
const SCRATCH_BYTES: usize = 64 << 10;

/// Addresses, and keys, whose rates are remembered, at about 100 bytes each.
const RATE_ENTRIES: usize = 200_000;

/// What all io threads share.
pub struct IoShared {
    /// The options.
    pub options: Options,
    /// What it has of the pipeline.
    pub pipeline: Serving,
    /// The sockets, by address.
    pub admission: Arc<Admission>,
    /// Partial messages.
    pub partial_messages: PartialMessages,
    /// The outboxes of all clients.
    pub outboxes: Arc<Outboxes>,
    /// Clients that were turned away.
    pub(super) refusals: Refusals,
    /// Rates by network address.
    pub address_rates: RateTable<IpAddr>,
    /// Rates by proven key.
    pub key_rates: RateTable<crate::nostr::Pubkey>,
    /// Rounds of the accept loops, for the watchdog.
    pub accept_rounds: AtomicU64,
    /// Threads that are paused.
    pub(super) paused: AtomicUsize,
    /// When this process started; connection times count from it in milliseconds.
    pub epoch: Instant,
    /// Mistakes of proxies in front.
    pub proxy_faults: ProxyFaults,
    /// The thread that manages the relay.
    pub management: Link,
    /// The readers of the feed of changes.
    pub(super) changes: Feed,
    /// The page for browsers.
    pub(super) page: landing_page::PageCache,
    /// The dashboard, if any address serves it.
    pub(super) dashboard: Option<Arc<DashboardContext>>,
}

/// The operator's choices about what is served: to clients, to followers of changes, and to admins in browsers.
pub type Choices = (Options, ChangesOptions, Option<Arc<DashboardContext>>);

/// What the connections of one io thread share.
pub struct IoContext {
    /// What all io threads share.
    pub front: Arc<IoShared>,
    /// The way into the pipeline.
    pub(super) intake: Intake,
    /// Events from this tick's connections that will go there.
    pub(super) submissions: RefCell<Vec<Submission>>,
    /// Signals that there are some.
    pub(super) submitted: Notify,
    /// Wakes this thread's connections.
    pub wakeups: Arc<Wakeups>,
    /// The read buffer, which connections use in turn.
    pub scratch: RefCell<Box<[u8]>>,
    /// The JSON buffers, likewise.
    pub parser: RefCell<Parser>,
    pub(super) page_faults: PageFaults,
    /// What queries took of this thread while others waited for a reader.
    pub(super) query_share: Share,
    /// Whose turn it is.
    pub turns: Turns,
    pub(super) running: PollClock,
    /// Whether the relay is stopping: no message is taken any more.
    pub draining: Cell<bool>,
    /// Signals that it has begun to stop, to the sockets that speak plain HTTP.
    pub(super) leaving: Notify,
    /// Held by each socket that is not one of [`Self::clients`] yet.
    pub(super) visitors: Rc<()>,
    /// Every connection of this thread.
    pub clients: RefCell<HashMap<u64, Arc<ClientHandle>>>,
    /// Negentropy sessions of this thread's connections, looked at for idle ones.
    pub(super) negentropy: RefCell<Vec<Weak<Reconciliation>>>,
}

impl IoShared {
    /// Nobody is connected yet.
    pub fn new((options, changes, dashboard): Choices, pipeline: Serving, management: Link) -> Self {
        Self {
            admission: Admission::new(
                options.max_connections,
                options.max_connections_per_address,
                options.max_half_open,
            ),
            partial_messages: PartialMessages::new(pipeline.memory.options().partial_messages),
            outboxes: Outboxes::new(Arc::clone(&pipeline.memory.outboxes)),
            refusals: Refusals::default(),
            address_rates: RateTable::new(RATE_ENTRIES),
            key_rates: RateTable::new(RATE_ENTRIES),
            accept_rounds: AtomicU64::new(0),
            paused: AtomicUsize::new(0),
            epoch: Instant::now(),
            proxy_faults: ProxyFaults::default(),
            management,
            changes: Feed::new(changes),
            page: landing_page::PageCache::default(),
            dashboard,
            options,
            pipeline,
        }
    }
}

impl IoContext {
    /// An io thread that serves nobody yet.
    pub fn new(front: Arc<IoShared>, intake: Intake) -> Self {
        let is_deferring = front.pipeline.reading.options.fanout_interval_ms > 0;
        Self {
            wakeups: Arc::new(if is_deferring { Wakeups::deferring() } else { Wakeups::new() }),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            parser: RefCell::default(),
            page_faults: PageFaults::default(),
            query_share: Share::new(QUERY_PARTS, QUERY_CREDIT, MOST_QUERY_TIME, Instant::now()),
            turns: Turns::new(Instant::now()),
            running: PollClock::default(),
            draining: Cell::new(false),
            leaving: Notify::new(),
            visitors: Rc::new(()),
            clients: RefCell::default(),
            negentropy: RefCell::default(),
            submissions: RefCell::default(),
            submitted: Notify::new(),
            front,
            intake,
        }
    }

    /// Milliseconds since the process began.
    pub fn now_ms(&self) -> u64 {
        self.front.epoch.elapsed().as_millis() as u64
    }

    fn now_us(&self) -> u64 {
        self.front.pipeline.clock.now_us()
    }

    /// Whether this thread may read from the store now. If not, other threads do it.
    pub fn may_read_store(&self) -> bool {
        self.front.pipeline.reading.options.inline_us > 0 && self.page_faults.may_read(|| self.now_us())
    }

    /// Begins a tick of the thread, whose root task `root` wakes.
    pub(super) fn begin_tick(&self, root: &Waker) {
        let now = Instant::now();
        let somebody_waits = self.turns.begin_tick(now, root);
        self.running.begin_tick(now, somebody_waits);
    }

    /// Ends a poll of the connection of `place` that began at `began`.
    pub(super) fn end_poll(&self, place: &Rc<turns::TurnState>, began: Instant) {
        let now = Instant::now();
        self.turns.end(place, began, self.running.waited(began, now), now);
    }

    /// Notes how long it took to look an event up.
    pub fn looked_up(&self, took: Duration) {
        self.page_faults.look(took.as_micros() as u64, || self.now_us());
    }

    /// Which queries may run their first slice on this thread now.
    pub fn first_slices(&self, now: Instant) -> FirstSlice {
        if !self.may_read_store() {
            FirstSlice::Never
        } else if self.query_share.is_used_up(now) {
            FirstSlice::WhileNoneWaits
        } else {
            FirstSlice::WhenNext
        }
    }

    /// Notes that a first slice took `spent_us` of this thread, until `ended`.
    pub fn scanned(&self, spent_us: u64, ended: Instant) {
        if spent_us > 0 {
            self.query_share.spent(ended.checked_sub(Duration::from_micros(spent_us)).unwrap_or(ended), ended);
            self.page_faults.look(spent_us, || self.now_us());
        }
    }

    /// Takes a connection's events. They are passed on with those of other ready connections, so that events that
    /// arrive singly from many clients are verified together.
    pub fn submit(&self, mut batch: Vec<Submission>) {
        let mut submissions = self.submissions.borrow_mut();
        if submissions.is_empty() {
            std::mem::swap(&mut *submissions, &mut batch);
        } else {
            submissions.append(&mut batch);
        }
        let full = submissions.len() >= Intake::FULL;
        drop(submissions);
        if full {
            self.hand_over();
        } else {
            self.submitted.notify_one();
        }
    }

    pub(super) fn hand_over(&self) {
        self.intake.submit(self.submissions.take(), self.may_read_store());
    }

    /// Charges an act to an address, whose bill outlives connections.
    pub fn charge(&self, settings: &Settings, address: IpAddr, act: Act) -> Standing {
        let now_us = self.now_us();
        let buckets = self.front.address_rates.get(settings.rates.group(address), now_us);
        settings.rates.charge_address(address, &buckets, act, now_us)
    }

    /// Counts a client that is turned away before it is served.
    pub fn refuse(&self, reason: TurnedAway, address: IpAddr) {
        let front = &self.front;
        front.refusals.count(&front.pipeline.metrics, reason, address, front.pipeline.clock.now_us());
    }

    /// Counts a socket from `address` as half-open.
    pub(super) fn arrive(&self, address: IpAddr) -> HalfOpenPlace {
        let address = address.to_canonical();
        let settings = self.front.pipeline.settings.load();
        let source = if self.front.options.trusted_proxies.contains(address) {
            SocketSource::Proxies
        } else {
            SocketSource::Clients { is_exempt: settings.rates.exempt_addresses.contains(address) }
        };
        let (waiting, sent_away) = self.front.admission.arrive(settings.rates.group(address), source);
        sent_away.into_iter().for_each(|(reason, address)| self.refuse(reason, address));
        waiting
    }

    /// Handles a failed accept: if descriptors have run out, frees that of a half-open socket.
    pub(super) fn make_room(&self, error: &std::io::Error) {
        tracing::warn!(%error, "a connection could not be accepted");
        if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
            && let Some((reason, address)) = self.front.admission.make_room()
        {
            self.refuse(reason, address);
        }
    }

    /// Registers a session, which ends when its client stays silent.
    pub fn watch(&self, session: &Arc<Reconciliation>) {
        self.negentropy.borrow_mut().push(Arc::downgrade(session));
    }

    pub(super) fn end_idle_sessions(&self) {
        self.negentropy.borrow_mut().retain(|session| {
            let session = session.upgrade().filter(|session| !session.is_ended());
            session.inspect(|session| session.end_if_idle()).is_some()
        });
    }

    /// Closes the connections of addresses and keys that are no longer welcome. Their EVENTs may stay without an
    /// answer.
    pub(super) fn close_unwelcome(&self) {
        let settings = self.front.pipeline.settings.load();
        self.clients.borrow().values().for_each(|client| close_if_unwelcome(&settings, client));
    }

    /// Registers a connection and returns its key.
    pub fn enter(&self, client: &Arc<ClientHandle>) -> u64 {
        let key = self.front.pipeline.registry.enter(client);
        self.clients.borrow_mut().insert(key, Arc::clone(client));
        self.front.pipeline.metrics.connections.inc();
        self.front.pipeline.metrics.connections_opened.inc();
        // Its address may have been blocked since its request was accepted, before it could be closed.
        close_if_unwelcome(&self.front.pipeline.settings.load(), client);
        key
    }

    /// Removes a connection.
    pub fn leave(&self, key: u64) {
        self.clients.borrow_mut().remove(&key);
        self.front.pipeline.registry.leave(key);
        self.front.pipeline.metrics.connections.dec();
    }
}

fn close_if_unwelcome(settings: &Settings, client: &ClientHandle) {
    if !settings.welcomes_address(client.peer) {
        client.outbox.close(CloseCode::Policy, "blocked: this address is not welcome here");
    } else if !client.identity().keys.iter().all(|key| settings.welcomes_key(key)) {
        client.outbox.close(CloseCode::Policy, "blocked: your key is not welcome here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{ends, start};
    use crate::policy::{Moderation, RateLimiter, Ruling};
    use crate::store::{Durability, Store};
    use crate::ws::{Budget, OutboxOptions, Writer};

    #[test]
    fn a_connection_that_was_accepted_before_its_address_was_blocked_and_enters_after_it_is_closed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = crate::store::Options { map_bytes: 64 << 20, durability: Durability::None, ..Default::default() };
        let store = Store::open(dir.path(), options).expect("a new store");
        let (pipeline, _failures) = start(store, Settings::default());
        let front = Arc::new(IoShared::new(Default::default(), pipeline.serving().clone(), Link::none()));
        let context = IoContext::new(Arc::clone(&front), pipeline.intake());
        let client_at = |address: [u8; 4]| {
            let address: IpAddr = address.into();
            let budget = Arc::new(Budget::new(1 << 20));
            let (outbox, writer) = Writer::with_outbox(OutboxOptions::default(), budget, None);
            let rates = RateLimiter::new(&Settings::default(), address, front.address_rates.get(address, 0));
            let memory = front.pipeline.memory.address(address);
            (Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory)), writer)
        };
        let [early, late, other] = [[192, 0, 2, 7], [192, 0, 2, 8], [198, 51, 100, 1]].map(client_at);
        context.enter(&early.0);
        let mut moderation = Moderation::default();
        moderation.put(Ruling::Address("192.0.2.0/24".parse().expect("a prefix"), true));
        front.pipeline.apply_moderation(&Arc::new(moderation));
        context.close_unwelcome();
        let closed = || [&early, &late, &other].map(|(client, _)| client.outbox.is_closed());
        assert_eq!(closed(), [true, false, false]);
        context.enter(&late.0);
        context.enter(&other.0);
        assert_eq!(closed(), [true, true, false]);
        drop((context, early, late, other, front));
        assert!(ends(move || pipeline.finish()), "a thread waits for ever");
    }
}
