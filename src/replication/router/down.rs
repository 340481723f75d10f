//! The way down: where the subscription and the comparison stand, and which time becomes the mark.
//!
//! The mark is a time of our clock up to which nothing that the relay has shown is missing here. It moves to the time
//! of a ping when the pong has come and what came before it is on disk: a pong follows all that the relay had sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::logged_reason::LoggedReason;
use crate::nostr::Timestamp;
use crate::replication::backoff::{Backoff, GOOD};
use crate::replication::error::SyncError;
use crate::replication::report::Report;

/// The name of the live subscription.
pub const LIVE: &str = "live";

/// How long a comparison that is to stop may take.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Where the subscription stands.
#[derive(Default)]
pub enum Subscribed {
    /// Nothing is asked for, or not yet again.
    #[default]
    No,
    /// The relay refused it for now.
    From(Instant),
    /// Asked for, at this time.
    Requested(Instant),
    /// What arrives comes.
    Live,
}

/// A time that becomes the mark once this many pieces are on disk.
pub struct Pending {
    /// The time.
    pub time: Timestamp,
    /// The pieces.
    pub pieces: u64,
}

/// What one connection knows of the way down: the subscription, the comparison, and the pings that move the mark.
#[derive(Default)]
pub struct DownState {
    /// Where the subscription stands.
    pub subscribed: Subscribed,
    /// Since when it stands.
    pub live_since: Option<Instant>,
    /// How often it was refused in a row.
    pub tries: u32,
    /// How long to wait before it is asked for again.
    pub resubscribes: Backoff,
    /// When to compare next.
    pub compares_at: Option<Instant>,
    /// How long to wait after comparisons that failed.
    pub backoff: Backoff,
    /// The comparison that runs.
    pub catching: Option<JoinHandle<Result<Report, SyncError>>>,
    /// Why the last one failed, as it was told.
    pub logged: LoggedReason,
    /// When it began.
    pub catching_since: Timestamp,
    /// Ends it.
    pub stop: Option<Arc<AtomicBool>>,
    /// Whether there is no gap behind the subscription.
    pub is_level: bool,
    /// What becomes the mark.
    pub pending: Option<Pending>,
}

impl DownState {
    /// Whether events of the subscription may come.
    pub const fn is_asked(&self) -> bool {
        matches!(self.subscribed, Subscribed::Requested(_) | Subscribed::Live)
    }

    /// Whether the relay has not answered the subscription.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.subscribed, Subscribed::Requested(_))
    }

    /// Since when it has not.
    pub const fn waiting_since(&self) -> Option<Instant> {
        match self.subscribed {
            Subscribed::Requested(since) => Some(since),
            Subscribed::No | Subscribed::From(_) | Subscribed::Live => None,
        }
    }

    /// Subscribes then, if it was refused before.
    pub fn ask_again_at(&mut self, at: Instant) {
        if matches!(self.subscribed, Subscribed::From(_)) {
            self.subscribed = Subscribed::From(at);
        }
    }

    /// Everything that the relay had sent by `time` is received, and is on disk with that many pieces.
    pub fn heard_until(&mut self, time: Timestamp, pieces: u64) {
        if self.is_level && self.pending.is_none() {
            self.pending = Some(Pending { time, pieces });
        }
    }

    /// This many pieces are on disk. Returns the mark, if it moves.
    pub fn committed(&mut self, pieces: u64) -> Option<Timestamp> {
        self.pending.take_if(|pending| pending.pieces <= pieces).map(|pending| pending.time)
    }

    /// The relay refused the subscription, or ended it. Returns how often that happened in a row; one that stood for
    /// long enough begins a new row.
    pub fn refused(&mut self, now: Instant) -> u32 {
        if self.live_since.take().is_some_and(|since| now.duration_since(since) >= GOOD) {
            self.tries = 0;
            self.resubscribes.reset();
        }
        self.tries += 1;
        self.is_level = false;
        self.pending = None;
        self.tries
    }

    /// Ends the comparison.
    pub async fn stop(&mut self) {
        if let Some(stop) = &self.stop {
            stop.store(true, Ordering::Relaxed);
        }
        if let Some(mut catching) = self.catching.take() {
            // It may wait for the disk; it changes nothing that matters any more.
            let _ = tokio::time::timeout(LAST_WAIT, &mut catching).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_that_is_ended_soon_again_and_again_is_a_row_of_refusals() {
        let (mut down, now) = (DownState::default(), Instant::now());
        let mut ended_after = |seconds| {
            down.live_since = Some(now);
            down.refused(now + Duration::from_secs(seconds))
        };
        assert_eq!([0, 5, 29, 30, 1].map(&mut ended_after), [1, 2, 3, 1, 2]);
        assert_eq!([(); 2].map(|()| down.refused(now)), [3, 4]);
    }
}
