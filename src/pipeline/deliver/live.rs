//! The `live` thread and the index it shares with those who subscribe: who asked for this event?
//!
//! Every committed event passes here once, in order of seq, whichever process committed it: the writer hands over those
//! of this process, and `live` reads those of other processes from the store. Live never waits on a client: a slow one
//! is closed.
//!
//! Stored and live events meet at one number: what a subscription has been sent, or the index has delivered, is
//! `covered` up to there (INV-3).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::ledger::Account;
use crate::live::{self, LiveIndex, Unlisted};
use crate::metrics::{EventOutcome, Metrics, StoreOperation};
use crate::nostr::{EventView, Filter, Prefix, Reason, RelayMessage, reply};
use crate::pipeline::channel::{Receiver, RecvError, WeakSender};
use crate::pipeline::client::{BatchReplies, ClientHandle, Subscription};
use crate::pipeline::clock::Clock;
use crate::pipeline::deliver::outward::Outward;
use crate::pipeline::health::Health;
use crate::pipeline::ingest::answers::refuse_unwelcome;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::queues::{Committed, LiveCommand, Verified};
use crate::policy::{ReadGuard, Settings};
use crate::store::{Seq, Store, StoreError};
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::ws::{LivePush, SharedBody};

/// How often the store is checked for events that another process committed. Own commits do not wait for it.
const FOREIGN_COMMITS: Duration = Duration::from_millis(50);

/// Events of another process that are delivered before the queue is checked again.
const CATCH_UP_ROWS: usize = 512;

/// Who gets an event.
#[derive(Clone)]
pub struct Recipient {
    /// Its connection.
    pub client: Arc<ClientHandle>,
    /// The subscription that asked.
    pub sub: Arc<Subscription>,
}

/// Values that are listed or taken out under one hold of the lock: some 20 µs.
const VALUES_AT_ONCE: usize = 256;

/// How long the `live` thread changes its index before it looks at its queue again.
const CHANGES: Duration = Duration::from_millis(1);

/// Whether filters have so many values that the `live` thread lists them, some at a time, and takes them out.
#[must_use]
pub fn is_wide(filters: &[Filter]) -> bool {
    filters.iter().map(Filter::items).sum::<usize>() > 2 * VALUES_AT_ONCE
}

/// The live index, shared by the `live` thread and by whoever registers.
///
/// A mutex, not an inbox: registering happens on the thread that ran the scan, so a short REQ needs no other thread. It
/// is held for one insertion, or for the match of one event. The `live` thread lists subscriptions with thousands of
/// values in steps, and takes them out likewise: query threads have a low priority, and one that is preempted while it
/// holds the lock keeps every io thread waiting.
pub struct LiveHub {
    inner: Mutex<Hub>,
    live: WeakSender<LiveCommand>,
}

struct Hub {
    index: LiveIndex<Recipient>,
    /// The last event that was matched. Every event up to it was delivered to those that were registered.
    covered: Seq,
    /// What is to be done to the index: at most two entries for each subscription, whose filters are counted.
    changes: VecDeque<Change>,
}

/// What follows when a subscription is listed: it gets events above this seq.
pub type Listed = Box<dyn FnOnce(Seq) + Send>;

/// A change to the index that takes many steps.
enum Change {
    /// A subscription is listed.
    List { handle: live::Handle, covered: Seq, listed: Listed },
    /// A subscription is taken out.
    Unlist(live::Handle),
}

impl LiveHub {
    /// An empty index that has delivered everything up to `covered`.
    /// `secret` keys the index's hashes: clients choose the filters. `live` wakes the `live` thread.
    #[must_use]
    pub fn new(covered: Seq, secret: [u64; 2], live: WeakSender<LiveCommand>) -> Self {
        let (index, changes) = (LiveIndex::new(secret), VecDeque::new());
        Self { inner: Mutex::new(Hub { index, covered, changes }), live }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.inner.lock().expect("nothing panics while it holds the live index")
    }

    /// Registers a subscription that has been sent every event up to `covered`, and returns the number after which it
    /// gets events from here. Those in between were delivered before it came: the caller has to send them (INV-3).
    pub fn register(&self, recipient: Recipient, filters: &Arc<[Filter]>, covered: Seq) -> (live::Handle, Seq) {
        let mut hub = self.hub();
        let until = covered.max(hub.covered);
        let handle = hub.index.insert(recipient, Arc::clone(filters), until.0);
        (handle, until)
    }

    /// Ends a subscription at its client's request: nothing more is queued for it, and what waits is dropped. For the
    /// connection's own thread.
    pub fn end(&self, client: &ClientHandle, sub: &Subscription) {
        client.outbox.end(&sub.stream);
        self.unregister(sub);
    }

    /// Ends a subscription on the relay's behalf: the last that its client gets of it is a CLOSED with the reason.
    pub fn fail(&self, client: &ClientHandle, sub: &Subscription, reason: Reason) {
        client.finish(&sub.stream, &RelayMessage::Closed { sub: sub.id.as_str().into(), reason });
        self.unregister(sub);
    }

    /// Registers a subscription with wide filters, which has been sent everything up to `covered`. `listed` is called
    /// when that is done.
    pub fn register_later(
        &self,
        recipient: Recipient,
        filters: &Arc<[Filter]>,
        covered: Seq,
        listed: Listed,
    ) -> live::Handle {
        let mut hub = self.hub();
        let handle = hub.index.begin(recipient, Arc::clone(filters));
        self.change(hub, Change::List { handle, covered, listed });
        handle
    }

    /// Takes a subscription out: it gets no stored event from now on. Its stream is closed, so it gets no other either.
    fn unregister(&self, sub: &Subscription) {
        let Some(handle) = sub.leave() else { return };
        let mut hub = self.hub();
        if hub.index.items_of(handle) > 2 * VALUES_AT_ONCE {
            hub.index.close(handle);
            return self.change(hub, Change::Unlist(handle));
        }
        let recipient = hub.index.remove(handle);
        drop(hub);
        // It may be the last owner of its connection: dropped outside of the lock.
        drop(recipient);
    }

    fn change(&self, mut hub: MutexGuard<'_, Hub>, change: Change) {
        hub.changes.push_back(change);
        let is_first = hub.changes.len() == 1;
        drop(hub);
        if is_first {
            // A full queue keeps the thread awake, and a closed one means that the process is ending.
            let _ = self.live.try_send(LiveCommand::Change);
        }
    }

    /// Changes the index for a while; whether there may be more to do.
    fn change_some(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < CHANGES {
            if !self.change_step() {
                return false;
            }
        }
        true
    }

    /// Does a step of the oldest change; whether there was one.
    fn change_step(&self) -> bool {
        let mut guard = self.hub();
        let hub = &mut *guard;
        match hub.changes.front() {
            None => return false,
            Some(Change::List { handle, .. }) => {
                if hub.index.list(*handle, VALUES_AT_ONCE)
                    && let Some(Change::List { handle, covered, listed }) = hub.changes.pop_front()
                {
                    let until = covered.max(hub.covered);
                    hub.index.open(handle, until.0);
                    drop(guard);
                    listed(until);
                }
            }
            Some(Change::Unlist(handle)) => {
                if let Unlisted::All(recipient) = hub.index.unlist(*handle, VALUES_AT_ONCE) {
                    hub.changes.pop_front();
                    drop(guard);
                    // It may be the last owner of its connection: dropped outside of the lock.
                    drop(recipient);
                }
            }
        }
        true
    }

    /// Forgets what is still to be changed: nobody is left to deliver to.
    fn end_changes(&self) {
        let changes = std::mem::take(&mut self.hub().changes);
        drop(changes);
    }

    /// Subscriptions and the values in their filters.
    pub fn size(&self) -> (usize, usize) {
        let hub = self.hub();
        (hub.index.len(), hub.index.items())
    }

    /// The last event that was delivered.
    pub fn covered(&self) -> Seq {
        self.hub().covered
    }

    /// Counts an event as delivered that may no longer be seen, so that it is not read again.
    fn pass_over(&self, seq: Seq) {
        let mut hub = self.hub();
        assert!(seq > hub.covered, "INV-4: live saw a seq twice or out of order");
        hub.covered = seq;
    }

    /// The subscriptions that match an event, which counts as delivered from now on. `seq` is `None` for ephemeral
    /// ones.
    fn recipients(&self, event: EventView<'_>, seq: Option<Seq>) -> Vec<Recipient> {
        let mut hub = self.hub();
        let mut found = Vec::new();
        hub.index.matches(event, seq.map(|seq| seq.0), |recipient| found.push(recipient.clone()));
        if let Some(seq) = seq {
            assert!(seq > hub.covered, "INV-4: live saw a seq twice or out of order");
            hub.covered = seq;
        }
        found
    }

    /// Delivers one event to all who asked; returns how many did. Renders, compresses and queues without the lock,
    /// which a registration on an io thread waits for: who registers meanwhile reads this event from the store (INV-3),
    /// and who ends meanwhile has a closed stream (INV-16).
    fn deliver(&self, event: EventView<'_>, seq: Option<Seq>, delivering: &Delivering, settings: &Settings) -> usize {
        let mut delivery = Delivery { event, delivering, settings, body: None, count: 0 };
        self.recipients(event, seq).iter().for_each(|recipient| delivery.send(recipient));
        delivery.count
    }
}

/// What delivering events takes.
pub struct Delivering {
    /// The store, in which events of other processes are found.
    pub store: Store,
    /// The live index.
    pub live: Arc<LiveHub>,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The gate, which ephemeral events leave here.
    pub gate: Arc<Gate>,
    /// Where events in outboxes are counted.
    pub outboxes: Arc<Account>,
    /// What other nodes of the cluster are to get.
    pub outward: Arc<Outward>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The clocks.
    pub clock: Clock,
}

/// One event on its way to its recipients; it is rendered for the first of them.
struct Delivery<'a> {
    event: EventView<'a>,
    delivering: &'a Delivering,
    settings: &'a Settings,
    body: Option<SharedBody>,
    count: usize,
}

impl Delivery<'_> {
    fn send(&mut self, Recipient { client, sub }: &Recipient) {
        if !ReadGuard::new(self.settings, &client.identity().keys).allows(self.event) {
            return;
        }
        let (event, delivering) = (self.event, self.delivering);
        let body = self.body.get_or_insert_with(|| {
            let mut json = Vec::with_capacity(event.record().len() * 2);
            event.write_json(&mut json);
            json.extend_from_slice(reply::EVENT_TAIL);
            SharedBody::new(json, &delivering.outboxes)
        });
        match client.outbox.push_live(&sub.stream, body.frame(&sub.head, client.deflate)) {
            LivePush::Taken => self.count += 1,
            LivePush::Overflowed(bound) => {
                tracing::debug!(bound = bound.as_str(), "closing a slow consumer");
            }
            LivePush::Closed => {}
        }
    }
}

/// Runs until Q3 is closed and empty.
pub fn run(delivering: &Delivering, inbox: &Receiver<LiveCommand>) {
    let (mut seen_txn, mut is_changing) = (None, false);
    loop {
        let command =
            if is_changing { inbox.try_recv().ok_or(RecvError::Timeout) } else { inbox.recv_timeout(FOREIGN_COMMITS) };
        match command {
            Ok(LiveCommand::Committed(events, at)) => committed(delivering, &events, at),
            Ok(LiveCommand::Ephemeral(events)) => ephemeral(delivering, events),
            Ok(LiveCommand::Change) | Err(RecvError::Timeout) => {}
            Err(RecvError::Closed) => return delivering.live.end_changes(),
        }
        is_changing = delivering.live.change_some();
        if inbox.is_empty()
            && let Err(error) = look(delivering, &mut seen_txn)
        {
            // The next round tries again.
            delivering.health.failed(StoreOperation::Read, &error);
        }
    }
}

/// Delivers what other processes committed since the last check that succeeded.
fn look(delivering: &Delivering, seen_txn: &mut Option<u64>) -> Result<(), StoreError> {
    // Taken before the events are read: those of a later commit are delivered now or at the next check.
    let txn = delivering.store.txn_id()?;
    if *seen_txn != Some(txn) {
        delivering.store.follow()?;
        catch_up(delivering, Seq::MAX)?;
        *seen_txn = Some(txn);
        delivering.outward.arrived();
    }
    Ok(())
}

fn committed(delivering: &Delivering, events: &[Committed], at: Instant) {
    let Some(first) = events.first() else { return };
    // Another process committed what is missing before our batch. Ours does not wait until that can be read.
    if let Err(error) = catch_up(delivering, first.seq) {
        delivering.health.failed(StoreOperation::Read, &error);
    }
    let settings = delivering.settings.load();
    let covered = delivering.live.covered();
    for Committed { seq, event } in events.iter().filter(|one| one.seq > covered) {
        let count = delivering.live.deliver(event.view(), Some(*seq), delivering, &settings);
        delivering.metrics.deliveries.inc_by(count as u64);
    }
    delivering.metrics.fanout_seconds.observe(at.elapsed().as_secs_f64());
    delivering.outward.arrived();
}

/// Delivers stored events after the last delivered one, up to but not including `before`.
fn catch_up(delivering: &Delivering, before: Seq) -> Result<(), StoreError> {
    let settings = delivering.settings.load();
    loop {
        let covered = delivering.live.covered();
        if covered.0 + 1 >= before.0 {
            return Ok(());
        }
        if catch_up_rows(delivering, &settings, covered, before)? == 0 {
            return Ok(());
        }
    }
}

fn catch_up_rows(delivering: &Delivering, settings: &Settings, covered: Seq, before: Seq) -> Result<usize, StoreError> {
    let now = delivering.clock.now();
    let snapshot = delivering.store.read()?;
    let mut rows = 0;
    for row in snapshot.after(covered)?.take(CATCH_UP_ROWS) {
        let (seq, event) = row?;
        if seq >= before {
            break;
        }
        rows += 1;
        if event.is_expired(now) || snapshot.is_hidden(seq, event)? {
            delivering.live.pass_over(seq);
        } else {
            let count = delivering.live.deliver(event, Some(seq), delivering, settings);
            delivering.metrics.deliveries.inc_by(count as u64);
        }
    }
    Ok(rows)
}

/// Delivers and answers events that are never stored.
fn ephemeral(delivering: &Delivering, events: Vec<Verified>) {
    let settings = delivering.settings.load();
    let events = refuse_unwelcome(&settings, (&delivering.metrics, &delivering.gate), events);
    let mut replies = BatchReplies::default();
    let has_nodes = delivering.outward.is_on();
    for Verified { event, from, received } in events {
        let view = event.view();
        let count = delivering.live.deliver(view, None, delivering, &settings);
        let goes_on = has_nodes && !from.is_node();
        if goes_on {
            delivering.outward.ephemeral(&event);
        }
        // Somebody may listen at another node.
        let answer = if count > 0 || goes_on {
            delivering.metrics.event(EventOutcome::Ephemeral, 1);
            RelayMessage::Ok { id: view.id(), accepted: true, reason: None }
        } else {
            delivering.metrics.event(EventOutcome::Muted, 1);
            RelayMessage::refused(view.id(), Prefix::Mute, "no one listens for this ephemeral event")
        };
        delivering.metrics.deliveries.inc_by(count as u64);
        delivering.gate.leave([(&*from.memory, view.record().len())]);
        delivering.metrics.event_ok_seconds.observe(received.elapsed().as_secs_f64());
        replies.answer(&from, &answer);
    }
}
