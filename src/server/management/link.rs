//! What ties the io threads to the `management` thread: bounded queues of what it is asked, by admins and by members.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::nostr::{Event, Pubkey, SubscriptionId, VerifiedEvent};
use crate::pipeline::ClientHandle;

/// Requests that wait for the thread; one more is answered with 503.
const MAX_WAITING: usize = 16;

/// What clients ask that waits for the thread (NIP-43); one more is refused. Each is an event that passed the gate, or
/// the only query of its connection.
const MAX_ASKED: usize = 256;

/// By what somebody may manage the relay.
pub enum Authority {
    /// A signature of an admin (NIP-98), which may have been used before.
    Signed(VerifiedEvent),
    /// A session of the dashboard, whose owner is named so in the audit.
    Session(String),
}

/// A request that an io thread passes on.
pub struct Job {
    /// Its authority.
    pub by: Authority,
    /// Its body.
    pub body: Bytes,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What a client asks about membership. It is owed an answer.
pub enum MembershipRequest {
    /// To join or to leave. The request entered the gate; everything about it is right but perhaps the signature and
    /// the claim.
    Request {
        /// The request.
        event: Event,
        /// Who gets the OK.
        from: Arc<ClientHandle>,
        /// When its message was read.
        received: Instant,
    },
    /// For an invite.
    Invite {
        /// The member.
        member: Pubkey,
        /// The subscription that asks.
        sub: SubscriptionId,
        /// Who gets the event.
        from: Arc<ClientHandle>,
    },
}

/// What becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Its authorization is not good.
    Unauthorized(&'static str),
    /// The result.
    Done(Value),
    /// It failed.
    Failed(String),
}

/// What the io threads have of the thread.
#[derive(Clone)]
pub struct Link {
    jobs: Sender<Job>,
    asked: Sender<MembershipRequest>,
}

/// The thread's ends of it.
pub struct Inbox {
    /// From admins.
    pub jobs: Receiver<Job>,
    /// From members, and from those who want to be.
    pub asked: Receiver<MembershipRequest>,
}

impl Link {
    /// A link, and the thread's ends of it.
    pub fn new() -> (Self, Inbox) {
        let ((jobs, jobs_waiting), (asked, asked_waiting)) = (channel(MAX_WAITING), channel(MAX_ASKED));
        (Self { jobs, asked }, Inbox { jobs: jobs_waiting, asked: asked_waiting })
    }

    /// Passes a request on; never waits.
    ///
    /// # Errors
    /// When too many wait, or the thread has ended.
    pub fn send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)
    }

    /// Passes on what a client asks; never waits.
    ///
    /// # Errors
    /// What was asked, when too much waits or the thread has ended.
    pub fn ask(&self, asked: MembershipRequest) -> Result<(), Box<MembershipRequest>> {
        self.asked.try_send(asked).map_err(|error| match error {
            TrySendError::Full(asked) | TrySendError::Closed(asked) => Box::new(asked),
        })
    }

    /// A link to nothing, for a server without the thread.
    #[cfg(test)]
    pub fn none() -> Self {
        Self::new().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{self, Ledger};
    use crate::nostr::testing::{author, signed, trusted};
    use crate::policy::{RateLimiter, RateTable, Settings};
    use crate::ws::{Budget, OutboxOptions, Writer};

    fn job(number: u64) -> (Job, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let by = Authority::Signed(trusted(author(1), 27_235, number, &[], ""));
        (Job { by, body: Bytes::new(), answer }, answered)
    }

    #[test]
    fn sixteen_requests_wait_for_the_thread_and_one_more_comes_back() {
        let (link, Inbox { jobs: mut waiting, asked: _asked }) = Link::new();
        let mut answered: Vec<_> = (0..16)
            .map(|number| {
                let (job, answered) = job(number);
                assert!(link.send(job).is_ok(), "nobody takes them");
                answered
            })
            .collect();
        let number_of = |job: &Job| match &job.by {
            Authority::Signed(auth) => auth.view().created_at().0,
            Authority::Session(who) => panic!("a session of {who}"),
        };
        assert!(matches!(link.send(job(16).0), Err(TrySendError::Full(job)) if number_of(&job) == 16));
        for (number, answered) in answered.iter_mut().enumerate() {
            let first = waiting.try_recv().expect("it waits");
            assert_eq!(number_of(&first), number as u64, "in their order");
            assert!(first.answer.send(Answer::Failed(number.to_string())).is_ok());
            assert_eq!(answered.try_recv(), Ok(Answer::Failed(number.to_string())), "each gets its own answer");
        }
        let (job, _answered) = job(17);
        assert!(link.send(job).is_ok(), "there is room again");
        drop(waiting);
        assert!(matches!(link.send(self::job(18).0), Err(TrySendError::Closed(_))), "the thread has ended");
    }

    #[test]
    fn two_hundred_and_fifty_six_requests_of_members_wait_and_one_more_comes_back() {
        let (link, inbox) = Link::new();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let settings = Settings::default();
        let (outbox, _writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
        let rates = RateLimiter::new(&settings, address, RateTable::new(1).get(address, 0));
        let memory = Ledger::new(ledger::Options::default()).address(address);
        let from = Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory));
        let asked = |number| {
            let event = signed(1, 28_934, number, &[], "");
            link.ask(MembershipRequest::Request { event, from: Arc::clone(&from), received: Instant::now() })
        };
        assert!((0..256).all(|number| asked(number).is_ok()), "nobody takes them");
        let Err(back) = asked(256) else { panic!("it waits too") };
        assert!(matches!(*back, MembershipRequest::Request { event, .. } if event.view().created_at().0 == 256));
        drop(inbox);
        assert!(asked(257).is_err(), "the thread has ended");
    }
}
