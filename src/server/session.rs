//! One client's conversation: what it said in, what to do out.
//!
//! A state machine without sockets, threads or a clock. It decides; `connection` carries out. Every REQ, COUNT,
//! NEG-OPEN and EVENT leads to an action that answers it by name (INV-14).

use std::sync::Arc;

use hashbrown::HashMap;

use super::auth::Challenge;
use crate::nostr::{
    ClientMessage, Event, Filter, Prefix, Reason, RelayMessage, SubscriptionId, Timestamp, VerifiedEvent,
};
use crate::pipeline::Subscription;
use crate::policy::{self, Peer, Quantity, RateLimiter, Settings};
use crate::schnorr::Verifier;

/// What `connection` is to do, in order.
pub enum Action {
    /// Send this.
    Reply(RelayMessage),
    /// Publish this: policy has nothing against it; its signature is not checked.
    Submit(Event),
    /// Scan, then follow.
    Query(Arc<Subscription>, Arc<[Filter]>),
    /// Count.
    Count(SubscriptionId, Arc<[Filter]>),
    /// Stop working for a subscription.
    End(Arc<Subscription>),
    /// Keys were proven: tell the threads that deliver.
    KeysChanged,
    /// Begin a negentropy session; one of the same id ends.
    NegOpen(SubscriptionId, Filter, Vec<u8>),
    /// Go on with a negentropy session.
    NegMsg(SubscriptionId, Vec<u8>),
    /// End a negentropy session, if there is one.
    NegClose(SubscriptionId),
}

/// What a decision is made with: one snapshot of the settings (INV-13), and the time.
pub struct Context<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The time now.
    pub now: Timestamp,
    /// The same, in microseconds of a clock that never goes back.
    pub now_us: u64,
    /// What the client may spend.
    pub rates: &'a RateLimiter,
    /// For the signature of an AUTH.
    pub verifier: &'a Verifier,
}

impl Context<'_> {
    fn spend(&self, peer: &Peer, quantity: Quantity, units: u64) -> Result<(), Reason> {
        self.rates.take(self.settings, peer.tier(self.settings), quantity, units, self.now_us)
    }

    fn spend_query(&self, peer: &Peer) -> Result<(), Reason> {
        // Earlier queries may have cost more than their share.
        self.spend(peer, Quantity::QueryUs, 0)?;
        self.spend(peer, Quantity::Queries, 1)
    }
}

/// AUTHs that one connection may send: each of its keys twice.
const MAX_AUTHS: u32 = 2 * Peer::MAX_KEYS as u32;

/// The state of one connection.
pub struct Session {
    peer: Peer,
    challenge: Challenge,
    /// AUTHs that were looked at.
    auths: u32,
    /// Open subscriptions, each with the number of values in its filters.
    subscriptions: HashMap<SubscriptionId, (Arc<Subscription>, usize)>,
    /// Those numbers together.
    open_items: usize,
}

impl Session {
    /// A session of a client that has said nothing yet.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        Self { peer, challenge: Challenge::new(), auths: 0, subscriptions: HashMap::new(), open_items: 0 }
    }

    /// Who the client is.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What is said before the client says anything.
    pub fn greet(&mut self, settings: &Settings) -> Option<RelayMessage> {
        settings.auth.challenges_at_connect().then(|| self.challenge.message())
    }

    /// Handles one message.
    pub fn handle(&mut self, message: ClientMessage, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        match message {
            ClientMessage::Event(event) => self.event(event, context, act),
            ClientMessage::Req(id, filters) => self.req(id, filters, context, act),
            ClientMessage::Count(id, filters) => self.count(id, filters, context, act),
            ClientMessage::Close(id) => {
                // Closing what is not open is not an error (NIP-01).
                if let Some(sub) = self.take_out(&id) {
                    act(Action::End(sub));
                }
            }
            ClientMessage::Auth(event) => self.auth(event, context, act),
            ClientMessage::NegOpen(id, filter, message) => self.neg_open(id, filter, message, context, act),
            ClientMessage::NegMsg(id, message) => act(Action::NegMsg(id, message)),
            ClientMessage::NegClose(id) => act(Action::NegClose(id)),
        }
    }

    fn event(&mut self, event: Event, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        let bytes = event.view().record().len() as u64;
        let checked = policy::check_event(context.settings, &self.peer, event.view(), context.now)
            .and_then(|()| context.spend(&self.peer, Quantity::Events, 1))
            .and_then(|()| context.spend(&self.peer, Quantity::Bytes, bytes));
        match checked {
            Ok(()) => act(Action::Submit(event)),
            Err(reason) => {
                self.challenge_first(&reason, act);
                let id = event.view().id();
                act(Action::Reply(RelayMessage::Ok { id, accepted: false, reason: Some(reason) }));
            }
        }
    }

    fn req(&mut self, id: SubscriptionId, filters: Vec<Filter>, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        // A REQ with an open id replaces that subscription, whatever becomes of the new one (NIP-01).
        if let Some(old) = self.take_out(&id) {
            act(Action::End(old));
        }
        let items = filters.iter().map(Filter::items).sum::<usize>();
        if policy::check_open(context.settings, &self.peer, self.subscriptions.len(), self.open_items + items).is_err()
        {
            self.forget_ended();
        }
        let (open, open_items) = (self.subscriptions.len(), self.open_items + items);
        let checked = policy::check_open(context.settings, &self.peer, open, open_items)
            .and_then(|()| policy::check_filters(context.settings, &self.peer, &filters))
            .and_then(|()| context.spend_query(&self.peer));
        if let Err(reason) = checked {
            return self.closed(&id, reason, act);
        }
        let sub = Arc::new(Subscription::new(id.clone()));
        self.subscriptions.insert(id, (Arc::clone(&sub), items));
        self.open_items = open_items;
        act(Action::Query(sub, filters.into()));
    }

    fn count(&mut self, id: SubscriptionId, filters: Vec<Filter>, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        let checked =
            policy::check_count(context.settings, &self.peer, &filters).and_then(|()| context.spend_query(&self.peer));
        match checked {
            Ok(()) => act(Action::Count(id, filters.into())),
            Err(reason) => self.closed(&id, reason, act),
        }
    }

    fn neg_open(
        &mut self,
        id: SubscriptionId,
        filter: Filter,
        message: Vec<u8>,
        context: &Context<'_>,
        act: &mut impl FnMut(Action),
    ) {
        let checked = policy::check_filters(context.settings, &self.peer, std::slice::from_ref(&filter))
            .and_then(|()| context.spend_query(&self.peer));
        match checked {
            Ok(()) => act(Action::NegOpen(id, filter, message)),
            Err(reason) => {
                self.challenge_first(&reason, act);
                act(Action::NegClose(id.clone()));
                let sub = id.as_str().into();
                act(Action::Reply(RelayMessage::NegErr { sub, reason, max_records: None }));
            }
        }
    }

    fn auth(&mut self, event: Event, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        let id = event.view().id();
        let reason = match self.authenticate(event, context) {
            Ok(()) => {
                act(Action::KeysChanged);
                None
            }
            Err(reason) => Some(reason),
        };
        act(Action::Reply(RelayMessage::Ok { id, accepted: reason.is_none(), reason }));
    }

    fn authenticate(&mut self, event: Event, context: &Context<'_>) -> Result<(), Reason> {
        // Its signature costs as much as that of any event; the rates do not hold for it, since proving a key is the way
        // out of the anonymous ones (NIP-42).
        if self.auths == MAX_AUTHS {
            return Err(Reason::new(Prefix::RateLimited, "too many AUTHs on this connection"));
        }
        self.auths += 1;
        policy::check_auth(context.settings, self.challenge.text(), event.view(), context.now)?;
        let wrong = |_| Reason::new(Prefix::Invalid, "the signature is wrong");
        let verified = VerifiedEvent::verify_one(context.verifier, event).map_err(wrong)?;
        self.peer.authenticate(verified.view().pubkey())
    }

    fn closed(&mut self, id: &SubscriptionId, reason: Reason, act: &mut impl FnMut(Action)) {
        self.challenge_first(&reason, act);
        let sub = id.as_str().into();
        act(Action::Reply(RelayMessage::Closed { sub, reason }));
    }

    /// Who is told to authenticate must hold a challenge by then (NIP-42).
    fn challenge_first(&mut self, reason: &Reason, act: &mut impl FnMut(Action)) {
        if reason.prefix == Prefix::AuthRequired && !self.challenge.is_sent() {
            act(Action::Reply(self.challenge.message()));
        }
    }

    /// Forgets a subscription that is ended from elsewhere, and gives it back.
    pub fn forget(&mut self, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        self.take_out(id)
    }

    /// Forgets subscriptions that the relay closed.
    fn forget_ended(&mut self) {
        let open_items = &mut self.open_items;
        self.subscriptions.retain(|_, (sub, items)| {
            let is_ended = sub.is_ended();
            *open_items -= if is_ended { *items } else { 0 };
            !is_ended
        });
    }

    fn take_out(&mut self, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        let (sub, items) = self.subscriptions.remove(id)?;
        self.open_items -= items;
        Some(sub)
    }

    /// Takes every open subscription out, to end them.
    pub fn end(&mut self) -> impl Iterator<Item = Arc<Subscription>> + '_ {
        self.open_items = 0;
        self.subscriptions.drain().map(|(_, (sub, _))| sub)
    }
}
