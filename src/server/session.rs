//! One client's conversation: messages in, actions out.
//!
//! A state machine without sockets, threads or a clock. It decides, and `engine` carries out. Every REQ, COUNT,
//! NEG-OPEN and EVENT leads to an action that answers it by name (INV-14).

use std::sync::Arc;

use hashbrown::HashMap;

use super::auth::Challenge;
use crate::ledger::{Account, Hold};
use crate::metrics::{PolicyRule, Verb};
use crate::nostr::{
    ClientMessage, Event, EventId, Filter, Prefix, Pubkey, Reason, RelayMessage, SubscriptionId, Timestamp,
    VerifiedEvent,
};
use crate::pipeline::Subscription;
use crate::policy::{self, Decision, Peer, Refusal, Settings};
use crate::schnorr::Verifier;

/// What `engine` has to do, in order.
pub enum Action {
    /// Send this.
    Reply(RelayMessage),
    /// Refuse this event.
    Refuse(EventId, Refusal),
    /// Publish this. Policy has decided; its signature has not been checked.
    Submit(Event, Decision),
    /// Ask for the invite of this member (NIP-43). A query of the same subscription follows.
    Invite(SubscriptionId, Pubkey),
    /// Scan, then follow.
    Query(Arc<Subscription>, Arc<[Filter]>),
    /// Count.
    Count(SubscriptionId, Arc<[Filter]>, Hold),
    /// Stop working for a subscription.
    End(Arc<Subscription>),
    /// The client has proven a key: tell the other threads.
    KeysChanged,
    /// Begin a negentropy session; an open one with the same id ends.
    NegOpen(SubscriptionId, Filter, Vec<u8>, Hold),
    /// Go on with a negentropy session.
    NegMsg(SubscriptionId, Vec<u8>, Hold),
    /// End a negentropy session, if there is one.
    NegClose(SubscriptionId),
}

/// What a decision depends on: one snapshot of the settings (INV-13), and the time.
pub struct Context<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The time now.
    pub now: Timestamp,
    /// Why everything that costs is refused, if the client owes too much.
    pub refusal: Option<&'a Reason>,
    /// Where the memory of its queries is counted.
    pub filters: &'a Arc<Account>,
    /// For the signature of an AUTH.
    pub verifier: &'a Verifier,
}

impl Context<'_> {
    fn check_debt(&self) -> Result<(), Reason> {
        self.refusal.map_or(Ok(()), |reason| Err(reason.clone()))
    }

    fn hold(&self, peer: &Peer, bytes: u64, spare_bytes: u64) -> Result<Hold, Reason> {
        policy::hold_filters(self.settings, peer, self.filters, bytes, spare_bytes)
    }
}

/// AUTHs that one connection may send: two for each key it may prove.
const MAX_AUTHS: u32 = 2 * Peer::MAX_KEYS as u32;

/// The state of one connection.
pub struct Session {
    peer: Peer,
    challenge: Challenge,
    /// AUTHs that were checked.
    auths: u32,
    /// Open subscriptions.
    subscriptions: HashMap<SubscriptionId, Arc<Subscription>>,
}

impl Session {
    /// The session of a new client.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        Self { peer, challenge: Challenge::new(), auths: 0, subscriptions: HashMap::new() }
    }

    /// Who the client is.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The message to send before the client says anything, if any.
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
            ClientMessage::NegMsg(id, message) => {
                let held = context.check_debt().and_then(|()| context.hold(&self.peer, message.len() as u64, 0));
                match held {
                    Ok(memory) => act(Action::NegMsg(id, message, memory)),
                    Err(reason) => self.neg_err(&id, reason, act),
                }
            }
            ClientMessage::NegClose(id) => act(Action::NegClose(id)),
        }
    }

    fn event(&mut self, event: Event, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        let checked = context
            .check_debt()
            .map_err(|reason| Refusal { rule: PolicyRule::Rate, reason })
            .and_then(|()| policy::check_event(context.settings, &self.peer, event.view(), context.now));
        match checked {
            Ok(decision) => act(Action::Submit(event, decision)),
            Err(refusal) => {
                self.challenge_first(&refusal.reason, act);
                act(Action::Refuse(event.view().id(), refusal));
            }
        }
    }

    fn req(&mut self, id: SubscriptionId, filters: Vec<Filter>, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        // A REQ with the id of an open subscription replaces it, even if the new one is refused (NIP-01).
        let old = self.take_out(&id);
        let spare_bytes = old.as_ref().map_or(0, |old| old.filter_bytes());
        if let Some(old) = old {
            act(Action::End(old));
        }
        let checked = policy::check_invite(context.settings, &self.peer, &filters, context.now)
            .and_then(|inviter| Ok((inviter, self.check_req(&filters, spare_bytes, context)?)));
        match checked {
            Ok((inviter, memory)) => {
                if let Some(member) = inviter {
                    act(Action::Invite(id.clone(), member));
                }
                let sub = Arc::new(Subscription::new(id.clone(), memory));
                self.subscriptions.insert(id, Arc::clone(&sub));
                act(Action::Query(sub, filters.into()));
            }
            Err(reason) => self.closed(&id, reason, act),
        }
    }

    /// Whether the client may ask this; takes the memory of its filters.
    fn check_req(&mut self, filters: &[Filter], spare_bytes: u64, context: &Context<'_>) -> Result<Hold, Reason> {
        context.check_debt()?;
        let bytes = policy::subscription_bytes(filters);
        let open = |own: &Self| {
            policy::check_open(context.settings, &own.peer, own.subscriptions.len())?;
            policy::check_filters(context.settings, &own.peer, filters)?;
            context.hold(&own.peer, bytes, spare_bytes)
        };
        open(self).or_else(|_| {
            self.forget_ended();
            open(self)
        })
    }

    fn count(&mut self, id: SubscriptionId, filters: Vec<Filter>, context: &Context<'_>, act: &mut impl FnMut(Action)) {
        let checked = context
            .check_debt()
            .and_then(|()| policy::check_count(context.settings, &self.peer, &filters))
            .and_then(|()| context.hold(&self.peer, policy::subscription_bytes(&filters), 0));
        match checked {
            Ok(memory) => act(Action::Count(id, filters.into(), memory)),
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
        let filters = std::slice::from_ref(&filter);
        let bytes = policy::subscription_bytes(filters) + message.len() as u64;
        let checked = context
            .check_debt()
            .and_then(|()| policy::check_filters(context.settings, &self.peer, filters))
            .and_then(|()| context.hold(&self.peer, bytes, 0));
        match checked {
            Ok(memory) => act(Action::NegOpen(id, filter, message, memory)),
            Err(reason) => self.neg_err(&id, reason, act),
        }
    }

    /// Refuses a message of a negentropy session, which ends it.
    fn neg_err(&mut self, id: &SubscriptionId, reason: Reason, act: &mut impl FnMut(Action)) {
        self.challenge_first(&reason, act);
        act(Action::NegClose(id.clone()));
        let sub = id.as_str().into();
        act(Action::Reply(RelayMessage::NegErr { sub, reason, max_records: None }));
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
        context.check_debt()?;
        if self.auths == MAX_AUTHS {
            let text = format!("too many AUTHs: a connection sends at most {MAX_AUTHS}");
            return Err(Reason::new(Prefix::Restricted, text));
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

    /// A client that is told to authenticate must have a challenge by then (NIP-42).
    fn challenge_first(&mut self, reason: &Reason, act: &mut impl FnMut(Action)) {
        if reason.prefix == Prefix::AuthRequired && !self.challenge.is_sent() {
            act(Action::Reply(self.challenge.message()));
        }
    }

    /// Removes and returns a subscription that another thread has ended.
    pub fn forget(&mut self, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        self.take_out(id)
    }

    /// Removes subscriptions that the relay has closed.
    fn forget_ended(&mut self) {
        self.subscriptions.retain(|_, sub| !sub.is_ended());
    }

    fn take_out(&mut self, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        self.subscriptions.remove(id)
    }

    /// Removes and returns any open subscription, to end it.
    pub fn take_any(&mut self) -> Option<Arc<Subscription>> {
        let id = self.subscriptions.keys().next()?.clone();
        self.take_out(&id)
    }
}

/// The label of a message in the metrics.
pub fn verb(message: &ClientMessage) -> Verb {
    match message {
        ClientMessage::Event(_) => Verb::Event,
        ClientMessage::Req(..) => Verb::Req,
        ClientMessage::Close(_) => Verb::Close,
        ClientMessage::Count(..) => Verb::Count,
        ClientMessage::Auth(_) => Verb::Auth,
        ClientMessage::NegOpen(..) => Verb::NegOpen,
        ClientMessage::NegMsg(..) => Verb::NegMsg,
        ClientMessage::NegClose(_) => Verb::NegClose,
    }
}
