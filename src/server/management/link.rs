//! What ties the io threads to the `management` thread: a bounded queue of requests, and a sign that addresses are
//! blocked.

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{oneshot, watch};

use crate::nostr::Event;

/// Requests that wait for the thread; one more is answered with 503.
const MAX_WAITING: usize = 16;

/// A request that an io thread passes on: everything about its authorization is right but perhaps the signature.
pub struct Job {
    /// Its authorization.
    pub auth: Event,
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
    /// Changes when addresses are blocked or no longer blocked.
    pub blocked: watch::Receiver<()>,
}

impl Link {
    /// A link, and the thread's ends of it.
    pub fn new() -> (Self, Receiver<Job>, watch::Sender<()>) {
        let ((jobs, waiting), (blocks, blocked)) = (channel(MAX_WAITING), watch::channel(()));
        (Self { jobs, blocked }, waiting, blocks)
    }

    /// Passes a request on; never waits.
    ///
    /// # Errors
    /// When too many wait, or the thread has ended.
    pub fn send(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)
    }

    /// A link to nothing, for a server without the thread.
    #[cfg(all(test, feature = "interleavings"))]
    pub fn none() -> Self {
        Self::new().0
    }
}
