//! What the pipeline knows of a connection: where its frames go, who it is, what it is owed.
//!
//! A handle never gives access to the socket, and nothing here waits.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::ledger::{Account, Address, Hold};
use crate::nostr::{Prefix, Pubkey, Reason, RelayMessage, SubscriptionId, reply};
use crate::pipeline::deliver::live::{LiveHandle, LiveHub};
use crate::policy::{Quantity, RateLimiter, Settings, Tier};
use crate::store::Scan;
use crate::ws::{Frame, Outbox, Stream, frame};

/// One connection, as other threads see it.
pub struct ClientHandle {
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Whether it negotiated permessage-deflate.
    pub deflate: bool,
    /// What it may spend.
    pub rates: RateLimiter,
    /// The network that it comes from, which has one share in the queues, however many connections.
    pub address: IpAddr,
    /// The accounts of its address, which live as long as its connections.
    pub memory: Arc<Address>,
    /// Its own filters, in its address's account.
    pub filters: Arc<Account>,
    identity: ArcSwap<Identity>,
    unanswered: AtomicUsize,
    /// OKs that are no longer owed and not yet in the outbox.
    on_the_way: AtomicUsize,
    scans: AtomicUsize,
    /// Microseconds of scans on the io thread that its address was not charged yet in Q4.
    uncharged_us: AtomicU64,
}

/// Scans on the io thread are charged to an address in Q4 by this many microseconds of a connection: a query by id
/// takes a few of them.
const CHARGED_TOGETHER_US: u64 = 1_000;

/// Who a connection has proven to be (NIP-42).
#[derive(Debug)]
pub struct Identity {
    /// The keys, ascending.
    pub keys: Arc<[Pubkey]>,
    /// Whose limits hold for it.
    pub tier: Tier,
}

impl ClientHandle {
    /// A connection that is owed nothing and has proven nothing. `address` is that of its network.
    #[must_use]
    pub fn new(outbox: Arc<Outbox>, deflate: bool, rates: RateLimiter, address: IpAddr, memory: Arc<Address>) -> Self {
        let nobody = Identity { keys: Arc::default(), tier: Tier::Anonymous };
        Self {
            outbox,
            deflate,
            rates,
            address,
            filters: Arc::new(Account::of_connection(&memory.filters)),
            memory,
            identity: ArcSwap::from_pointee(nobody),
            unanswered: AtomicUsize::new(0),
            on_the_way: AtomicUsize::new(0),
            scans: AtomicUsize::new(0),
            uncharged_us: AtomicU64::new(0),
        }
    }

    /// Who it has proven to be so far.
    pub fn identity(&self) -> arc_swap::Guard<Arc<Identity>> {
        self.identity.load()
    }

    /// Tells every thread of a newly proven key.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
    }

    /// EVENTs taken from it that have no OK yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Whether every EVENT taken from it has its OK in the outbox, so that a close frame may follow (INV-14).
    pub fn is_settled(&self) -> bool {
        // In this order: `Replies::send` counts an OK here before it is no longer owed.
        self.unanswered() == 0 && self.on_the_way.load(Ordering::Acquire) == 0
    }

    /// Counts an EVENT that will be answered later.
    pub fn owe(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// Scans of it that wait or run.
    pub fn scans(&self) -> &AtomicUsize {
        &self.scans
    }

    /// Counts what a scan of it keeps between slices, in place of what `held` counted.
    ///
    /// # Errors
    /// `error:` when its address or all together would hold too much.
    pub fn hold_scan(&self, scan: Option<&Scan>, held: &mut Option<Hold>) -> Result<(), Reason> {
        let bytes = scan.map_or(0, Scan::held_bytes);
        let spare_bytes = held.as_ref().map_or(0, Hold::bytes);
        if bytes != spare_bytes {
            // A connection has a bound on its filters, and few scans.
            let hold = Hold::take(&self.filters, bytes, spare_bytes, u64::MAX);
            *held = Some(hold.map_err(|_| {
                Reason::new(
                    Prefix::Error,
                    "query too large: too much memory is held by queries; ask for less at a time",
                )
            })?);
        }
        Ok(())
    }

    /// Counts what a scan took on the io thread; gives back what its address is to be charged now.
    pub fn spent_here(&self, spent_us: u64) -> Option<u64> {
        let uncharged_us = self.uncharged_us.fetch_add(spent_us, Ordering::Relaxed) + spent_us;
        (uncharged_us >= CHARGED_TOGETHER_US).then(|| self.uncharged_us.swap(0, Ordering::Relaxed))
    }

    /// Charges what a thread of the pipeline took for it.
    pub fn charge_time(&self, settings: &Settings, took: Duration, now_us: u64) {
        self.rates.charge(settings, self.identity().tier, Quantity::Cpu, took.as_nanos() as u64, now_us);
    }

    /// Queues one reply.
    pub fn reply(&self, message: &RelayMessage) {
        let mut replies = Replies::default();
        replies.push(message);
        replies.send(self, 0);
    }

    /// Queues one reply of a stream, unless that is over.
    pub fn answer(&self, stream: &Stream, message: &RelayMessage) {
        // Refused only when nobody waits for it.
        let _ = self.outbox.push_answer(stream, encoded(message));
    }

    /// Queues one reply of a stream as its last, unless that is over.
    pub fn finish(&self, stream: &Stream, message: &RelayMessage) {
        // As above.
        let _ = self.outbox.push_last(stream, encoded(message));
    }
}

fn encoded(message: &RelayMessage) -> Frame {
    let mut frames = Vec::new();
    frame::encode_text_with(&mut frames, |out| message.write(out));
    Frame::encoded(frames)
}

/// Replies to one connection, gathered so that they cost one push and one wake-up.
#[derive(Default)]
pub struct Replies {
    frames: Vec<u8>,
}

impl Replies {
    /// Adds one message.
    pub fn push(&mut self, message: &RelayMessage) {
        frame::encode_text_with(&mut self.frames, |out| message.write(out));
    }

    /// Queues what was gathered; `answered` of them settle an EVENT that the connection was owed.
    pub fn send(&mut self, client: &ClientHandle, answered: usize) {
        if self.frames.is_empty() {
            return;
        }
        client.on_the_way.fetch_add(answered, Ordering::AcqRel);
        // Before the push: the push wakes the connection, which then looks whether it may read on.
        let owed = client.unanswered.fetch_sub(answered, Ordering::AcqRel);
        assert!(owed >= answered, "INV-14: an EVENT was answered twice");
        let frames = std::mem::take(&mut self.frames);
        // Refused only when the connection is ending: nobody is left to read the answer.
        let _ = client.outbox.push_reply(Frame::encoded(frames));
        client.on_the_way.fetch_sub(answered, Ordering::AcqRel);
    }
}

/// Answers in the order of a batch, gathered over runs of the same client.
#[derive(Default)]
pub struct BatchReplies {
    client: Option<Arc<ClientHandle>>,
    replies: Replies,
    count: usize,
}

impl BatchReplies {
    /// Answers one EVENT of `client`.
    pub fn answer(&mut self, client: &Arc<ClientHandle>, message: &RelayMessage) {
        if self.client.as_ref().is_none_or(|last| !Arc::ptr_eq(last, client)) {
            self.flush();
            self.client = Some(Arc::clone(client));
        }
        self.replies.push(message);
        self.count += 1;
    }

    /// Queues what was gathered. Must be called after the last answer.
    pub fn flush(&mut self) {
        if let Some(client) = self.client.take() {
            self.replies.send(&client, std::mem::take(&mut self.count));
        }
    }
}

impl Drop for BatchReplies {
    fn drop(&mut self) {
        self.flush();
    }
}

/// One open subscription: the stage it is in, shared by its session and whoever works for it.
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// `["EVENT",<sub>,`, written once.
    pub head: Box<[u8]>,
    /// Its frames: rows, EOSE, live events, and CLOSED when the relay ends it.
    pub stream: Stream,
    /// Its filters, counted for as long as anybody works for it.
    memory: Hold,
    stage: Mutex<Stage>,
}

enum Stage {
    /// Stored events are on their way.
    Scanning,
    /// New events are delivered.
    Live(LiveHandle),
    /// CLOSE, CLOSED, replaced or disconnected.
    Ended,
}

impl Subscription {
    /// A subscription whose scan begins now, and whose filters are counted in `memory`.
    #[must_use]
    pub fn new(id: SubscriptionId, memory: Hold) -> Self {
        let mut head = Vec::with_capacity(16 + id.as_str().len());
        reply::event_head(&id, &mut head);
        Self { id, head: head.into(), stream: Stream::default(), memory, stage: Mutex::new(Stage::Scanning) }
    }

    /// Bytes that its filters take.
    pub const fn filter_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("nothing panics while it holds a stage")
    }

    /// Whether nobody wants its events any more.
    pub fn is_ended(&self) -> bool {
        !self.stream.is_open()
    }

    /// Goes live through `register`, unless it was ended meanwhile.
    pub fn go_live<T>(&self, register: impl FnOnce() -> (LiveHandle, T)) -> Option<T> {
        let mut stage = self.stage();
        match *stage {
            Stage::Scanning => {
                let (handle, value) = register();
                *stage = Stage::Live(handle);
                Some(value)
            }
            Stage::Live(_) | Stage::Ended => None,
        }
    }

    /// Ends it for its client, who wants no more of it: nothing of it is queued from now on, and what waits is dropped.
    /// For the connection's own thread.
    pub fn end(&self, client: &ClientHandle, live: &LiveHub) {
        client.outbox.end(&self.stream);
        self.leave(live);
    }

    /// Ends it for the relay: a CLOSED with the reason is the last that its client gets of it.
    pub fn fail(&self, client: &ClientHandle, live: &LiveHub, reason: Reason) {
        client.finish(&self.stream, &RelayMessage::Closed { sub: self.id.as_str().into(), reason });
        self.leave(live);
    }

    fn leave(&self, live: &LiveHub) {
        let stage = std::mem::replace(&mut *self.stage(), Stage::Ended);
        if let Stage::Live(handle) = stage {
            live.unregister(handle);
        }
    }
}
