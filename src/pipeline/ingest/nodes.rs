//! The way of events from other nodes of a cluster to the writer and to live: past policy and plugin, which have judged
//! them where they were published, through the gate like all others.
//!
//! It never waits. Whoever brings events is told what became of each, and keeps those that find no room.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use super::gate::Gate;
use crate::ledger::{Address, Ledger};
use crate::nostr::VerifiedEvent;
use crate::pipeline::channel::{SendError, WeakSender};
use crate::pipeline::client::{ClientHandle, OnAnswer};
use crate::pipeline::queues::{LiveCommand, Verified, WriteCommand};
use crate::policy::{RateLimiter, RateTable, Settings};
use crate::ws::{Budget, OutboxOptions, Writer};

/// Whose share of the gate they take: nobody connects from there.
const ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// See the module. Clones share everything; none keeps the threads running.
#[derive(Clone)]
pub struct NodeEvents {
    write: Arc<WeakSender<WriteCommand>>,
    live: Arc<WeakSender<LiveCommand>>,
    gate: Arc<Gate>,
    memory: Arc<Ledger>,
}

/// Brings the events of other nodes.
pub struct NodeClient {
    of: NodeEvents,
    memory: Arc<Address>,
    client: Arc<ClientHandle>,
    /// Nothing is written to it.
    _outbox: Writer,
}

/// Why events did not enter. They are still the caller's.
#[derive(Debug)]
pub enum NotEntered {
    /// There is no room now.
    Full(Vec<VerifiedEvent>),
    /// The process is stopping.
    Closed,
}

impl NodeEvents {
    pub(in crate::pipeline) fn new(
        (write, live): (WeakSender<WriteCommand>, WeakSender<LiveCommand>),
        gate: Arc<Gate>,
        memory: Arc<Ledger>,
    ) -> Self {
        Self { write: Arc::new(write), live: Arc::new(live), gate, memory }
    }

    /// A client that brings events; `on_answer` is told what became of each.
    #[must_use]
    pub fn client(&self, settings: &Settings, on_answer: OnAnswer) -> NodeClient {
        let memory = self.memory.address(ADDRESS);
        let (outbox, writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(0)), None);
        let rates = RateLimiter::new(settings, ADDRESS, RateTable::new(1).get(ADDRESS, 0));
        let client = ClientHandle::new(outbox, false, rates, (ADDRESS, ADDRESS), Arc::clone(&memory));
        NodeClient { of: self.clone(), memory, client: Arc::new(client.answering(on_answer)), _outbox: writer }
    }
}

impl NodeClient {
    /// Resolves when there may be room again. Create it before an attempt, or a wake-up may be missed.
    pub fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.of.gate.room()
    }

    /// Hands stored events to the writer, as many as there is room for.
    ///
    /// # Errors
    /// Those for which there is none now.
    pub fn store(&self, events: Vec<VerifiedEvent>) -> Result<(), NotEntered> {
        self.pass(events, |events| {
            self.of.write.try_send(WriteCommand::Store(events)).map_err(|error| match error {
                SendError::Full(WriteCommand::Store(events)) => Some(events),
                _ => None,
            })
        })
    }

    /// Hands ephemeral events to live, as many as there is room for.
    ///
    /// # Errors
    /// As [`NodeClient::store`].
    pub fn deliver(&self, events: Vec<VerifiedEvent>) -> Result<(), NotEntered> {
        self.pass(events, |events| {
            self.of.live.try_send(LiveCommand::Ephemeral(events)).map_err(|error| match error {
                SendError::Full(LiveCommand::Ephemeral(events)) => Some(events),
                _ => None,
            })
        })
    }

    fn pass(
        &self,
        mut events: Vec<VerifiedEvent>,
        send: impl FnOnce(Vec<Verified>) -> Result<(), Option<Vec<Verified>>>,
    ) -> Result<(), NotEntered> {
        let gate = &self.of.gate;
        let may_enter = |event: &&VerifiedEvent| gate.try_enter(&self.memory, event.view().record().len());
        let entered = events.iter().take_while(may_enter).count();
        let mut left = events.split_off(entered);
        if events.is_empty() {
            return if left.is_empty() { Ok(()) } else { Err(NotEntered::Full(left)) };
        }
        let received = Instant::now();
        let verified = |event| {
            self.client.owe();
            Verified { event, from: Arc::clone(&self.client), received }
        };
        let bytes: Vec<usize> = events.iter().map(|event| event.view().record().len()).collect();
        if let Err(back) = send(events.into_iter().map(verified).collect()) {
            gate.leave(bytes.iter().map(|bytes| (&*self.memory, *bytes)));
            bytes.iter().for_each(|_| self.client.disown());
            let Some(back) = back else { return Err(NotEntered::Closed) };
            left.splice(0..0, back.into_iter().map(|one| one.event));
        }
        if left.is_empty() { Ok(()) } else { Err(NotEntered::Full(left)) }
    }
}
