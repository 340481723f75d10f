//! The `live` thread and the index it shares with those who subscribe: who asked for this event?
//!
//! Every committed event passes here once, in order of seq, whichever process committed it: the writer hands over those
//! of this process, and `live` reads those of other processes from the store. Live never waits on a client: a slow one
//! is closed.
//!
//! Stored and live events meet at one number: what a subscription has been sent, or the index has delivered, is
//! `covered` up to there (INV-3).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::ledger::Account;
use crate::live::{self, LiveIndex};
use crate::metrics::{EventOutcome, Metrics, StoreOperation};
use crate::nostr::{EventView, Filter, Prefix, Reason, RelayMessage, reply};
use crate::pipeline::channel::{Receiver, RecvError};
use crate::pipeline::client::{BatchReplies, ClientHandle, Subscription};
use crate::pipeline::clock::Clock;
use crate::pipeline::health::Health;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::queues::{Committed, LiveCommand, Verified};
use crate::policy::{ReadGuard, Settings};
use crate::store::{Seq, Store, StoreError};
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

/// The live index, shared by the `live` thread and by whoever registers.
///
/// A mutex, not an inbox: registering happens on the thread that ran the scan, so a short REQ needs no other
/// thread. It is held for one insertion, or for the match of one event.
pub struct LiveHub {
    inner: Mutex<Hub>,
}

struct Hub {
    index: LiveIndex<Recipient>,
    /// The last event that was matched. Every event up to it was delivered to those that were registered.
    covered: Seq,
}

impl LiveHub {
    /// An empty index that has delivered everything up to `covered`.
    /// `secret` keys the index's hashes: clients choose the filters.
    #[must_use]
    pub fn new(covered: Seq, secret: [u64; 2]) -> Self {
        let index = LiveIndex::new(secret);
        Self { inner: Mutex::new(Hub { index, covered }) }
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

    /// Removes a subscription.
    fn unregister(&self, sub: &Subscription) {
        let Some(handle) = sub.leave() else { return };
        // Dropped outside of the lock: it may be the last owner of its connection.
        let recipient = self.hub().index.remove(handle);
        drop(recipient);
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
    let mut seen_txn = None;
    loop {
        match inbox.recv_timeout(FOREIGN_COMMITS) {
            Ok(LiveCommand::Committed(events, at)) => committed(delivering, &events, at),
            Ok(LiveCommand::Ephemeral(events)) => ephemeral(delivering, events),
            Err(RecvError::Closed) => return,
            Err(RecvError::Timeout) => {}
        }
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
    let mut replies = BatchReplies::default();
    for Verified { event, from, received } in events {
        let view = event.view();
        let count = delivering.live.deliver(view, None, delivering, &settings);
        let answer = if count > 0 {
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
