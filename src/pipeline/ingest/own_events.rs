//! The way of the relay's own events to the writer: past policy and plugin, through the gate like all others.
//!
//! It never waits. While the gate is closed nothing enters, so a relay that hands over stores nothing of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use super::gate::Gate;
use crate::ledger::{Address, Ledger};
use crate::nostr::VerifiedEvent;
use crate::pipeline::channel::WeakSender;
use crate::pipeline::client::ClientHandle;
use crate::pipeline::queues::{Verified, WriteCommand};
use crate::policy::{RateLimiter, RateTable, Settings};
use crate::ws::{Budget, OutboxOptions, Writer};

/// Whose share of the gate they take: nobody connects from there.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Bytes of the OKs that nobody reads.
const OUTBOX_BYTES: u64 = 1 << 20;

/// Sends the relay's own events to the writer. Clones share everything; none keeps the writer running.
#[derive(Clone)]
pub struct OwnEvents {
    write: Arc<WeakSender<WriteCommand>>,
    gate: Arc<Gate>,
    memory: Arc<Ledger>,
}

/// Some events on their way.
pub struct PendingOwnEvents {
    client: Arc<ClientHandle>,
    /// Takes the OKs, which are dropped with it.
    _outbox: Writer,
}

impl PendingOwnEvents {
    /// Whether each is stored or refused.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.client.is_answered()
    }
}

impl OwnEvents {
    pub(in crate::pipeline) fn new(write: WeakSender<WriteCommand>, gate: Arc<Gate>, memory: Arc<Ledger>) -> Self {
        Self { write: Arc::new(write), gate, memory }
    }

    /// Hands events to the writer, all of them or none. `None`: there is no room now.
    #[must_use]
    pub fn store(&self, settings: &Settings, events: &[VerifiedEvent]) -> Option<PendingOwnEvents> {
        let memory = self.memory.address(ADDRESS);
        let bytes = |event: &VerifiedEvent| event.view().record().len();
        let entered = events.iter().take_while(|event| self.gate.try_enter(&memory, bytes(event))).count();
        if entered < events.len() {
            self.leave(&memory, &events[..entered]);
            return None;
        }
        let (outbox, writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(OUTBOX_BYTES)), None);
        let rates = RateLimiter::new(settings, ADDRESS, RateTable::new(1).get(ADDRESS, 0));
        let client = Arc::new(ClientHandle::new(outbox, false, rates, (ADDRESS, ADDRESS), Arc::clone(&memory)));
        let received = Instant::now();
        let verified = |event: &VerifiedEvent| {
            client.owe();
            Verified { event: event.clone(), from: Arc::clone(&client), received }
        };
        let verified = events.iter().map(verified).collect();
        if self.write.try_send(WriteCommand::Store(verified)).is_err() {
            self.leave(&memory, events);
            return None;
        }
        Some(PendingOwnEvents { client, _outbox: writer })
    }

    fn leave(&self, memory: &Address, events: &[VerifiedEvent]) {
        self.gate.leave(events.iter().map(|event| (memory, event.view().record().len())));
    }
}
