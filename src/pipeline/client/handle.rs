//! What the pipeline knows about a connection: where its frames go, who it is, and which OKs it is owed.
//!
//! A handle never gives access to the socket, and nothing here blocks.

use std::net::IpAddr;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::ledger::{Account, Address, Hold};
use crate::nostr::{EventId, Prefix, Pubkey, Reason, RelayMessage};
use crate::policy::{OffenderOptions, Offenders, Quantity, RateLimiter, Settings, Suspect, Tier};
use crate::store::Scan;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::ws::{Frame, Outbox, Stream, frame};

/// One connection, as other threads see it.
pub struct ClientHandle {
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Whether it negotiated permessage-deflate.
    pub deflate: bool,
    /// What it may spend.
    pub rates: RateLimiter,
    /// Its own address, which plugins are told.
    pub peer: IpAddr,
    /// The network of its address, which has one share in the queues, however many connections it opens.
    pub address: IpAddr,
    /// The accounts of its address, which exist as long as the address has connections.
    pub memory: Arc<Address>,
    /// Its own filters, which count in its address's account too.
    pub filters: Arc<Account>,
    identity: ArcSwap<Identity>,
    unanswered: AtomicUsize,
    /// OKs that are no longer owed and not yet in the outbox.
    on_the_way: AtomicUsize,
    scans: AtomicUsize,
    /// CPU time that it took so far, in nanoseconds.
    cpu_ns: AtomicU64,
    /// Microseconds of scans on the io thread that Q4 has not charged to its address yet.
    uncharged_us: AtomicU64,
    /// What gets its OKs, where it has no socket.
    on_answer: Option<OnAnswer>,
}

/// Is told what became of an event: whether it was accepted, and why it was not or was not new. It is called on threads
/// of the pipeline and must not wait.
pub type OnAnswer = Arc<dyn Fn(EventId, bool, Option<&Reason>) + Send + Sync>;

/// Scans on the io thread are charged to an address in Q4 by this many microseconds of a connection: a query by id
/// takes a few of them.
const CHARGED_TOGETHER_US: u64 = 250;

/// Who a connection has proven to be (NIP-42).
#[derive(Debug)]
pub struct Identity {
    /// The keys, ascending.
    pub keys: Arc<[Pubkey]>,
    /// The limits that apply to it.
    pub tier: Tier,
}

impl ClientHandle {
    /// A connection from `peer` that is owed nothing and has proven nothing. `address` is that of its network.
    #[must_use]
    pub fn new(
        outbox: Arc<Outbox>,
        deflate: bool,
        rates: RateLimiter,
        (peer, address): (IpAddr, IpAddr),
        memory: Arc<Address>,
    ) -> Self {
        let nobody = Identity { keys: Arc::default(), tier: Tier::Anonymous };
        Self {
            outbox,
            deflate,
            rates,
            peer,
            address,
            filters: Arc::new(Account::of_connection(&memory.filters)),
            memory,
            identity: ArcSwap::from_pointee(nobody),
            unanswered: AtomicUsize::new(0),
            on_the_way: AtomicUsize::new(0),
            scans: AtomicUsize::new(0),
            cpu_ns: AtomicU64::new(0),
            uncharged_us: AtomicU64::new(0),
            on_answer: None,
        }
    }

    /// The same, for events of another node: its OKs go to a function instead of a socket.
    #[must_use]
    pub fn answering(self, on_answer: OnAnswer) -> Self {
        Self { on_answer: Some(on_answer), ..self }
    }

    /// Whether it is another node of the cluster.
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.on_answer.is_some()
    }

    /// Passes an OK to its function, if it has one; whether it has. The event is no longer owed then.
    pub(super) fn tell(&self, message: &RelayMessage) -> bool {
        let (Some(on_answer), RelayMessage::Ok { id, accepted, reason }) = (&self.on_answer, message) else {
            return false;
        };
        self.disown();
        on_answer(*id, *accepted, reason.as_ref());
        true
    }

    /// Takes back one [`ClientHandle::owe`].
    pub fn disown(&self) {
        let owed = self.unanswered.fetch_sub(1, Ordering::AcqRel);
        assert!(owed > 0, "INV-14: an EVENT was answered twice");
    }

    /// The keys it has proven so far.
    pub fn identity(&self) -> arc_swap::Guard<Arc<Identity>> {
        self.identity.load()
    }

    /// Makes a newly proven key known to every thread.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
    }

    /// Counts an offence of its address and of each key that it has proven.
    pub fn offend(&self, offenders: &Offenders, options: &OffenderOptions, now_us: u64) {
        if !self.rates.is_exempt() {
            self.suspects(|suspect| offenders.count(options, suspect, now_us));
        }
    }

    /// Why it is not served, if its address or one of its keys is an offender.
    #[must_use]
    pub fn refusal(&self, offenders: &Offenders, options: &OffenderOptions, now_us: u64) -> Option<Reason> {
        if self.rates.is_exempt() {
            return None;
        }
        let mut refusal = None;
        self.suspects(|suspect| refusal = refusal.take().or_else(|| offenders.refusal(options, suspect, now_us)));
        refusal
    }

    fn suspects(&self, visit: impl FnMut(Suspect)) {
        let identity = self.identity();
        let keys = identity.keys.iter().map(|key| Suspect::Key(*key));
        std::iter::once(Suspect::Address(self.address)).chain(keys).for_each(visit);
    }

    /// EVENTs of it that have no OK yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Whether every EVENT of it has its OK in the outbox, so that a close frame may follow (INV-14).
    pub fn is_answered(&self) -> bool {
        // In this order: `send_replies` counts an OK as on the way before it is no longer unanswered.
        self.unanswered() == 0 && self.on_the_way.load(Ordering::Acquire) == 0
    }

    /// Counts an EVENT that will be answered later.
    pub fn owe(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// Its scans that wait or run.
    pub fn scans(&self) -> &AtomicUsize {
        &self.scans
    }

    /// Counts the memory that one of its scans keeps between slices, in place of what `held` counted.
    ///
    /// # Errors
    /// `error:` when its address or all together would hold too much.
    pub fn hold_scan(&self, scan: Option<&Scan>, held: &mut Option<Hold>) -> Result<(), Reason> {
        let bytes = scan.map_or(0, Scan::held_bytes);
        let spare_bytes = held.as_ref().map_or(0, Hold::bytes);
        if bytes != spare_bytes {
            // No bound per connection here: its filters and its scans are bounded elsewhere.
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

    /// Counts the time of a scan on the io thread; returns how much its address is to be charged now, if anything.
    pub fn spent_here(&self, spent_us: u64) -> Option<u64> {
        let uncharged_us = self.uncharged_us.fetch_add(spent_us, Ordering::Relaxed) + spent_us;
        (uncharged_us >= CHARGED_TOGETHER_US).then(|| self.uncharged_us.swap(0, Ordering::Relaxed))
    }

    /// Counts CPU time that it took, whether it is charged or exempt.
    pub fn count_cpu(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// CPU time that was counted so far, in microseconds. Of exempt clients only queries are counted.
    pub fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed) / 1_000
    }

    /// Charges the time that a thread of the pipeline spent on it.
    pub fn charge_time(&self, settings: &Settings, took: Duration, now_us: u64) {
        self.count_cpu(took.as_nanos() as u64);
        self.rates.charge(settings, self.identity().tier, Quantity::Cpu, took.as_nanos() as u64, now_us);
    }

    /// Queues one reply.
    pub fn reply(&self, message: &RelayMessage) {
        self.send_replies(encoded(message), 0);
    }

    /// Queues encoded replies; `answered` of them are the OKs of EVENTs that it was owed.
    pub(super) fn send_replies(&self, frames: Frame, answered: usize) {
        self.on_the_way.fetch_add(answered, Ordering::AcqRel);
        // Before the push: the push wakes the connection, which then looks whether it may read on.
        let owed = self.unanswered.fetch_sub(answered, Ordering::AcqRel);
        assert!(owed >= answered, "INV-14: an EVENT was answered twice");
        // Refused only when the connection is ending: nobody is left to read the answer.
        let _ = self.outbox.push_reply(frames);
        self.on_the_way.fetch_sub(answered, Ordering::AcqRel);
    }

    /// Queues one reply of a stream, unless that is over.
    pub fn answer(&self, stream: &Stream, message: &RelayMessage) {
        // Refused only when the stream is over.
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
