//! What ties the io threads to the `management` thread: a bounded queue of requests.

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::nostr::VerifiedEvent;

/// Requests that wait for the thread; one more is answered with 503.
const MAX_WAITING: usize = 16;

/// A request that an io thread passes on. Its authorization is an admin's, but may have been used before.
pub struct Job {
    /// Its authorization.
    pub auth: VerifiedEvent,
    /// Its body.
    pub body: Bytes,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
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
}

impl Link {
    /// A link, and the thread's end of it.
    pub fn new() -> (Self, Receiver<Job>) {
        let (jobs, waiting) = channel(MAX_WAITING);
        (Self { jobs }, waiting)
    }

    /// Passes a request on; never waits.
    ///
    /// # Errors
    /// When too many wait, or the thread has ended.
    pub fn send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)
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
    use crate::nostr::testing::{author, trusted};

    fn job(number: u64) -> (Job, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (Job { auth: trusted(author(1), 27_235, number, &[], ""), body: Bytes::new(), answer }, answered)
    }

    #[test]
    fn sixteen_requests_wait_for_the_thread_and_one_more_comes_back() {
        let (link, mut waiting) = Link::new();
        let mut answered: Vec<_> = (0..16)
            .map(|number| {
                let (job, answered) = job(number);
                assert!(link.send(job).is_ok(), "nobody takes them");
                answered
            })
            .collect();
        assert!(matches!(link.send(job(16).0), Err(TrySendError::Full(job)) if job.auth.view().created_at().0 == 16));
        for (number, answered) in answered.iter_mut().enumerate() {
            let first = waiting.try_recv().expect("it waits");
            assert_eq!(first.auth.view().created_at().0, number as u64, "in their order");
            assert!(first.answer.send(Answer::Failed(number.to_string())).is_ok());
            assert_eq!(answered.try_recv(), Ok(Answer::Failed(number.to_string())), "each gets its own answer");
        }
        let (job, _answered) = job(17);
        assert!(link.send(job).is_ok(), "there is room again");
        drop(waiting);
        assert!(matches!(link.send(self::job(18).0), Err(TrySendError::Closed(_))), "the thread has ended");
    }
}
