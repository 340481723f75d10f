//! The `live` thread and the index it shares with those who subscribe: who asked for this event?
//!
//! Every event that was committed passes here once, in order of seq, whoever committed it: this process's writer
//! tells of its own, and the store is looked at for those of other processes. Live never waits on a client: a
//! slow one is closed.

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

/// How often the store is looked at for events that another process committed. Own commits do not wait for it.
const FOREIGN_COMMITS: Duration = Duration::from_millis(50);

/// Events of another process delivered between two looks at the queue.
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
    /// The last event that was matched. Everything up to it has been delivered to whoever was registered.
    last_seq: Seq,
}

impl LiveHub {
    /// An empty index that has delivered everything up to `last_seq`.
    /// `secret` keys the index's hashes: clients choose the filters.
    #[must_use]
    pub fn new(last_seq: Seq, secret: [u64; 2]) -> Self {
        let index = LiveIndex::new(secret);
        Self { inner: Mutex::new(Hub { index, last_seq }) }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.inner.lock().expect("nothing panics while it holds the live index")
    }

    /// Registers a subscription that has been sent everything up to `sent_seq`, and returns the seq from which on
    /// it gets events: what lies between the two was delivered before it came, and is the caller's to send
    /// (INV-3).
    pub fn register(&self, recipient: Recipient, filters: &Arc<[Filter]>, sent_seq: Seq) -> (live::Handle, Seq) {
        let mut hub = self.hub();
        let until = sent_seq.max(hub.last_seq);
        let handle = hub.index.insert(recipient, Arc::clone(filters), until.0);
        (handle, until)
    }

    /// Ends a subscription for its client, who wants no more of it: nothing of it is queued from now on, and what waits
    /// is dropped. For the connection's own thread.
    pub fn end(&self, client: &ClientHandle, sub: &Subscription) {
        client.outbox.end(&sub.stream);
        self.unregister(sub);
    }

    /// Ends a subscription for the relay: a CLOSED with the reason is the last that its client gets of it.
    pub fn fail(&self, client: &ClientHandle, sub: &Subscription, reason: Reason) {
        client.finish(&sub.stream, &RelayMessage::Closed { sub: sub.id.as_str().into(), reason });
        self.unregister(sub);
    }

    /// Takes a subscription out.
    fn unregister(&self, sub: &Subscription) {
        let Some(handle) = sub.leave() else { return };
        // The recipient may be the last owner of its connection: dropped outside of the lock.
        let recipient = self.hub().index.remove(handle);
        drop(recipient);
    }

    /// Subscriptions and the values in their filters.
    pub fn size(&self) -> (usize, usize) {
        let hub = self.hub();
        (hub.index.len(), hub.index.items())
    }

    /// The last event that was delivered.
    pub fn last_seq(&self) -> Seq {
        self.hub().last_seq
    }

    /// Counts an event as delivered that nobody may see any more, so that it is not looked at again.
    fn pass_over(&self, seq: Seq) {
        let mut hub = self.hub();
        assert!(seq > hub.last_seq, "INV-4: live saw a seq twice or out of order");
        hub.last_seq = seq;
    }

    /// Everybody who asked for an event, which from now on counts as delivered. `seq` is `None` for ephemeral events.
    fn recipients(&self, event: EventView<'_>, seq: Option<Seq>) -> Vec<Recipient> {
        let mut hub = self.hub();
        let mut found = Vec::new();
        hub.index.matches(event, seq.map(|seq| seq.0), |recipient| found.push(recipient.clone()));
        if let Some(seq) = seq {
            assert!(seq > hub.last_seq, "INV-4: live saw a seq twice or out of order");
            hub.last_seq = seq;
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

/// One event on its way to its recipients; rendered when the first of them turns up.
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
            // It is tried again soon.
            delivering.health.failed(StoreOperation::Read, &error);
        }
    }
}

/// Delivers what was committed since the last look that went well.
fn look(delivering: &Delivering, seen_txn: &mut Option<u64>) -> Result<(), StoreError> {
    // Before the events are read: those of a later commit are seen now or at the next look.
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
    // A gap before our own batch was committed by another process. Ours do not wait until it can be read.
    if let Err(error) = catch_up(delivering, first.seq) {
        delivering.health.failed(StoreOperation::Read, &error);
    }
    let settings = delivering.settings.load();
    let delivered_to = delivering.live.last_seq();
    for Committed { seq, event } in events.iter().filter(|one| one.seq > delivered_to) {
        let count = delivering.live.deliver(event.view(), Some(*seq), delivering, &settings);
        delivering.metrics.deliveries.inc_by(count as u64);
    }
    delivering.metrics.fanout_seconds.observe(at.elapsed().as_secs_f64());
}

/// Delivers what the store holds beyond the last delivered seq, up to but not including `before`.
fn catch_up(delivering: &Delivering, before: Seq) -> Result<(), StoreError> {
    let settings = delivering.settings.load();
    loop {
        let from = delivering.live.last_seq();
        if from.0 + 1 >= before.0 {
            return Ok(());
        }
        if catch_up_rows(delivering, &settings, from, before)? == 0 {
            return Ok(());
        }
    }
}

fn catch_up_rows(delivering: &Delivering, settings: &Settings, from: Seq, before: Seq) -> Result<usize, StoreError> {
    let now = delivering.clock.now();
    let snapshot = delivering.store.read()?;
    let mut rows = 0;
    for row in snapshot.after(from)?.take(CATCH_UP_ROWS) {
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
