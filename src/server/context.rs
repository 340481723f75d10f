//! What the io threads share, and what the connections of one of them share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustix::io::Errno;
use tokio::sync::Notify;

use super::admission::{Admission, Door, Waiting};
use super::cold::Cold;
use super::options::Options;
use super::partial::PartialMessages;
use super::proxy::ProxyFaults;
use super::refusals::Refusals;
use super::turns::Turns;
use crate::metrics::TurnedAway;
use crate::nostr::json::Parser;
use crate::pipeline::queues::Submission;
use crate::pipeline::{ClientHandle, Intake, Reconciliation, Serving};
use crate::policy::RateTable;
use crate::ws::{Outboxes, Wakeups};

/// After an accept that failed for want of descriptors or memory, wait this long.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all io threads share.
pub struct Front {
    /// The options.
    pub options: Options,
    /// What it has of the pipeline.
    pub pipeline: Serving,
    /// Who is connected, and who is at the door.
    pub admission: Arc<Admission>,
    /// Messages of which only a part has come.
    pub partial_messages: PartialMessages,
    /// What waits to be sent to all clients.
    pub outboxes: Arc<Outboxes>,
    /// Who was turned away.
    pub(super) refusals: Refusals,
    /// Rates by network address.
    pub address_rates: RateTable<IpAddr>,
    /// Rates by proven key.
    pub key_rates: RateTable<crate::nostr::Pubkey>,
    /// Rounds of the accept loops, for the watchdog.
    pub accept_rounds: AtomicU64,
    /// When this process began; connection times are milliseconds since then.
    pub epoch: Instant,
    /// What proxies in front get wrong.
    pub proxy_faults: ProxyFaults,
}

/// What the connections of one io thread share.
pub struct IoContext {
    /// What all io threads share.
    pub front: Arc<Front>,
    /// Into the pipeline.
    pub(super) intake: Intake,
    /// Events of this turn's connections, on their way there.
    pub(super) submissions: RefCell<Vec<Submission>>,
    /// There are some.
    pub(super) submitted: Notify,
    /// Wakes this thread's connections.
    pub wakeups: Arc<Wakeups>,
    /// Read buffer, used by one connection after the other.
    pub scratch: RefCell<Box<[u8]>>,
    /// JSON buffers, likewise.
    pub parser: RefCell<Parser>,
    /// Whether scans may begin on this thread.
    pub cold: Cold,
    /// Whose turn it is.
    pub turns: Turns,
    /// Whether the relay is stopping.
    pub draining: Cell<bool>,
    /// Every connection of this thread.
    pub clients: RefCell<HashMap<u64, Arc<ClientHandle>>>,
    pub(super) next_client: Cell<u64>,
    /// Negentropy sessions of this thread's connections, looked at for idle ones.
    pub(super) negentropy: RefCell<Vec<Weak<Reconciliation>>>,
}

impl IoContext {
    /// Milliseconds since the process began.
    pub fn now_ms(&self) -> u64 {
        self.front.epoch.elapsed().as_millis() as u64
    }

    /// Takes a connection's events. They go on together with those of other connections that are ready, so that events
    /// which come one by one from many are verified together.
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
        self.intake.submit(self.submissions.take());
    }

    /// Counts a client that is turned away before it is served.
    pub fn refuse(&self, reason: TurnedAway, address: IpAddr) {
        let front = &self.front;
        front.refusals.count(&front.pipeline.metrics, reason, address, front.pipeline.clock.now_us());
    }

    /// Takes a place at the door for a socket, whose other end is at `address`.
    pub(super) fn arrive(&self, address: IpAddr) -> Waiting {
        let address = address.to_canonical();
        let settings = self.front.pipeline.settings.load();
        let door = if self.front.options.trusted_proxies.contains(address) {
            Door::Proxies
        } else {
            Door::Clients { is_exempt: settings.rates.exempt_addresses.contains(address) }
        };
        let (waiting, sent_away) = self.front.admission.arrive(settings.rates.group(address), door);
        sent_away.into_iter().for_each(|(reason, address)| self.refuse(reason, address));
        waiting
    }

    /// After an accept that failed: where descriptors have run out, the door gives one back.
    pub(super) fn make_room(&self, error: &std::io::Error) {
        tracing::warn!(%error, "a connection could not be accepted");
        if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
            && let Some((reason, address)) = self.front.admission.make_room()
        {
            self.refuse(reason, address);
        }
    }

    /// Adds a session to those that are ended when their clients stay silent.
    pub fn watch(&self, session: &Arc<Reconciliation>) {
        self.negentropy.borrow_mut().push(Arc::downgrade(session));
    }

    pub(super) fn end_idle_sessions(&self) {
        self.negentropy.borrow_mut().retain(|session| {
            let session = session.upgrade().filter(|session| !session.is_ended());
            session.inspect(|session| session.end_if_idle()).is_some()
        });
    }

    /// Adds a connection to those that are told to end; returns its key.
    pub fn enter(&self, client: &Arc<ClientHandle>) -> u64 {
        let key = self.next_client.get();
        self.next_client.set(key + 1);
        self.clients.borrow_mut().insert(key, Arc::clone(client));
        self.front.pipeline.metrics.connections.inc();
        self.front.pipeline.metrics.connections_opened.inc();
        key
    }

    /// Takes it out.
    pub fn leave(&self, key: u64) {
        self.clients.borrow_mut().remove(&key);
        self.front.pipeline.metrics.connections.dec();
    }
}
