//! Requests of members, and of those who want to be (NIP-43): from what an io thread passed on to the OK. And the
//! relay's own events, which tell everybody who is a member.
//!
//! A request is answered once its act is on disk and in force. It goes no further: a claim must not be read by others.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::{sleep, timeout};

use super::link::MembershipRequest;
use super::membership_events::{Difference, StoredMembership, difference};
use super::service::{COMMITTED_WITHIN, LOOK, Service};
use crate::management::{Actor, Joined, NotJoined, members};
use crate::metrics::{EventOutcome, PolicyRule};
use crate::nostr::{
    Event, EventId, Kind, Prefix, Pubkey, Reason, RelayMessage, SubscriptionId, Timestamp, VerifiedEvent, own_event,
};
use crate::pipeline::ClientHandle;
use crate::pipeline::client::{BatchReplies, Replies};
use crate::policy::membership::claim;
use crate::policy::{Act, Refusal, Settings};

/// Events that are handed to the writer at a time.
const AT_ONCE: usize = 64;

impl Service {
    /// Answers what a client asks.
    pub(super) async fn serve_member(&self, asked: MembershipRequest) {
        match asked {
            MembershipRequest::Request { event, from, received } => {
                let (id, bytes) = (event.view().id(), event.view().record().len());
                let reply = match self.request(event, &from).await {
                    Ok(reason) => {
                        self.serving().metrics.event(EventOutcome::Request, 1);
                        RelayMessage::Ok { id, accepted: true, reason: Some(reason) }
                    }
                    Err(refusal) => self.refused(id, refusal),
                };
                answer(self, &from, received, bytes, &reply);
            }
            MembershipRequest::Invite { member, sub, from } => self.invite(member, &sub, &from),
        }
    }

    fn refused(&self, id: EventId, Refusal { rule, reason }: Refusal) -> RelayMessage {
        self.serving().metrics.refused(rule);
        self.serving().metrics.refusal(reason.prefix.as_str());
        RelayMessage::Ok { id, accepted: false, reason: Some(reason) }
    }

    /// Carries a request out; returns what its client is told.
    async fn request(&self, event: Event, from: &ClientHandle) -> Result<Reason, Refusal> {
        let (settings, now) = (self.serving().settings.load_full(), self.serving().clock.now());
        let Ok(event) = VerifiedEvent::verify_one(&self.serving().verifier, event) else {
            from.rates.charge_act(&settings, from.identity().tier, Act::Rejected, self.serving().clock.now_us());
            self.offend(from, &settings);
            return Err(Refusal::new(PolicyRule::Member, Prefix::Invalid, "the signature is wrong"));
        };
        let view = event.view();
        let (id, key) = (view.id(), view.pubkey());
        let who = Actor { by: key.to_string(), auth: Some(id) };
        let asked = (id, view.created_at());
        let done = match view.kind() {
            Kind::JOIN => self.join(&settings, (key, asked), &claim(view).unwrap_or_default(), from, (&who, now)),
            _ => self.leave(&settings, (key, asked), (&who, now)),
        }?;
        if done.prefix == Prefix::Info {
            tracing::info!(%key, kind = view.kind().0, "a request of a member was carried out");
            let before = self.publish();
            self.publish_members().await;
            // Another process may have banned events, which the journal read just now.
            self.remove_banned(&before).await;
        }
        Ok(done)
    }

    fn join(
        &self,
        settings: &Settings,
        (key, asked): (Pubkey, members::JoinRequest),
        claim: &str,
        from: &ClientHandle,
        by: (&Actor, Timestamp),
    ) -> Result<Reason, Refusal> {
        let joined = if settings.access.allows(&key) {
            Ok(Joined::Already)
        } else {
            members::join(&mut self.journal.borrow_mut(), &settings.membership, (key, asked), claim, by)
        };
        match joined {
            Ok(Joined::Now) => {
                let name = settings.moderation.info(&settings.info).name;
                Ok(Reason::new(Prefix::Info, format!("welcome to {name}")))
            }
            Ok(Joined::Already) => Ok(Reason::new(Prefix::Duplicate, "you are already a member of this relay")),
            Err(NotJoined::Banned) => Err(Refusal::author()),
            Err(error @ NotJoined::Used) => Err(restricted(error.to_string())),
            Err(NotJoined::Journal(error)) => Err(unrecorded(&error)),
            Err(error) => {
                // Whoever tries codes is closed like others who are refused over and over.
                self.offend(from, settings);
                Err(restricted(error.to_string()))
            }
        }
    }

    fn leave(
        &self,
        settings: &Settings,
        (key, asked): (Pubkey, members::JoinRequest),
        by: (&Actor, Timestamp),
    ) -> Result<Reason, Refusal> {
        let left = members::leave(&mut self.journal.borrow_mut(), (key, asked), by);
        match left {
            Err(NotJoined::Journal(error)) => Err(unrecorded(&error)),
            Err(error) => Err(restricted(error.to_string())),
            Ok(_) if settings.access.allows(&key) => {
                Err(restricted("your key is in the relay's configuration; ask its operator"))
            }
            Ok(true) => Ok(Reason::new(Prefix::Info, "you are no longer a member of this relay")),
            Ok(false) => Ok(Reason::new(Prefix::Duplicate, "you are not a member of this relay")),
        }
    }

    fn offend(&self, from: &ClientHandle, settings: &Settings) {
        from.offend(&self.serving().offenders, &settings.policy.offenders, self.serving().clock.now_us());
    }

    /// Gives a member its invite.
    fn invite(&self, member: Pubkey, sub: &SubscriptionId, from: &ClientHandle) {
        let (settings, now) = (self.serving().settings.load(), self.serving().clock.now());
        let who = Actor { by: member.to_string(), auth: None };
        let code = members::invite_of(&mut self.journal.borrow_mut(), &settings.membership, (&who, now));
        let mut replies = Replies::default();
        match (code, settings.membership.signer()) {
            (Ok(code), Some(signer)) => {
                let tags = vec![vec!["-".into()], vec!["claim".into(), code.to_string()]];
                replies.push_event(sub, own_event(signer, Kind::INVITE, now, &tags).view());
            }
            (Err(error), _) => {
                tracing::error!(%error, "an invite could not be recorded");
                replies.push(&no_invite());
            }
            // Membership was turned off a moment ago.
            (Ok(_), None) => replies.push(&no_invite()),
        }
        replies.send(from, 1);
    }

    /// Publishes who is a member and which roles there are, if that has changed. What is left is tried again in a
    /// second.
    pub(super) async fn publish_members(&self) {
        let settings = self.serving().settings.load_full();
        let Some(own) = settings.membership.own_key() else { return self.members.published.set(None) };
        let told = (own, self.journal.borrow().state().last());
        if self.members.published.get() == Some(told) {
            return;
        }
        let failure = match self.publish_difference(&settings, own).await {
            Ok(is_whole) => {
                if is_whole {
                    self.members.published.set(Some(told));
                }
                String::new()
            }
            Err(error) => error,
        };
        if !failure.is_empty() && *self.members.failure.borrow() != failure {
            tracing::error!(error = failure, "the list of members could not be published");
        }
        self.members.failure.replace(failure);
    }

    /// Returns whether nothing is left.
    async fn publish_difference(&self, settings: &Settings, own: Pubkey) -> Result<bool, String> {
        let Some(signer) = settings.membership.signer() else { return Ok(true) };
        if self.serving().gate.is_closed() {
            return Ok(false);
        }
        let stored = StoredMembership::read(self.store(), own).map_err(|error| error.to_string())?;
        let Difference { events, gone, is_early } =
            difference(self.journal.borrow().state(), &stored, signer, self.serving().clock.now());
        let verify = |event| VerifiedEvent::verify_one(&self.serving().verifier, event);
        let events: Vec<_> = events.into_iter().filter_map(|event| verify(event).ok()).collect();
        let store = async {
            for some in events.chunks(AT_ONCE) {
                if !self.store_own(settings, some).await? {
                    return Ok(false);
                }
            }
            if !gone.is_empty() {
                self.remove_all(gone).await?;
            }
            Ok::<bool, String>(!is_early)
        };
        timeout(COMMITTED_WITHIN, store).await.unwrap_or_else(|_| Err("the writer is busy".into()))
    }

    /// Stores some of the relay's own events, and waits until they are committed. False when there is no room for them
    /// now.
    async fn store_own(&self, settings: &Settings, events: &[VerifiedEvent]) -> Result<bool, String> {
        let Some(on_the_way) = self.serving().own_events.store(settings, events) else { return Ok(false) };
        while !on_the_way.is_answered() {
            sleep(LOOK).await;
        }
        for event in events {
            let id = event.view().id();
            self.event_committed(&id).await;
            if self.find(&id).map_err(|error| error.to_string())?.is_none() {
                return Err("the store took no event".into());
            }
        }
        Ok(true)
    }
}

fn restricted(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(PolicyRule::Member, Prefix::Restricted, text)
}

fn unrecorded(error: &crate::management::JournalError) -> Refusal {
    tracing::error!(%error, "a request of a member could not be recorded");
    Refusal::new(PolicyRule::Member, Prefix::Error, "the request could not be recorded; try again later")
}

fn no_invite() -> RelayMessage {
    RelayMessage::Notice(Reason::new(Prefix::Error, "there is no invite now; try again later"))
}

/// Sends the OK of a request, which leaves the gate.
fn answer(service: &Service, from: &Arc<ClientHandle>, received: Instant, bytes: usize, reply: &RelayMessage) {
    let serving = service.serving();
    serving.gate.leave([(&*from.memory, bytes)]);
    serving.metrics.event_ok_seconds.observe(received.elapsed().as_secs_f64());
    BatchReplies::default().answer(from, reply);
}
