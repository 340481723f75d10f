//! What a link may deliver, and the outcome. The import asks first and reports afterwards.
//!
//! Two connections of a link bring events: the live one, and that of a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::status::Status;
use crate::import::{LineOutcome, Verdict, Wanted};
use crate::nostr::{EventId, EventView, Filter, Timestamp};
use crate::pipeline::now;
use crate::replication::download::RequestedEvents;
use crate::replication::feed::Window;
use crate::replication::recent::Recent;
use crate::replication::remembered::{LocalAbsence, Remembered};

/// Pieces of one connection that may be on their way to the disk: two thousand events, or a few megabytes.
pub const WINDOW: usize = 16;

/// What both connections of a link have in common.
pub struct Account {
    recent: Arc<Recent>,
    status: Arc<Status>,
    window: Window,
    /// Pieces that are dealt with.
    committed: AtomicU64,
    /// Events that were no events, did not match, or had bad signatures.
    bad: AtomicU64,
}

impl Account {
    /// For one connection.
    #[must_use]
    pub fn new(recent: Arc<Recent>, status: Arc<Status>) -> Self {
        let window = Arc::new(Semaphore::new(WINDOW));
        Self { recent, status, window, committed: AtomicU64::new(0), bad: AtomicU64::new(0) }
    }

    /// The window of its feed.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Pieces that are dealt with.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Events that no honest relay would have sent.
    #[must_use]
    pub fn bad(&self) -> u64 {
        self.bad.load(Ordering::Relaxed)
    }

    fn wants(&self, event: EventView<'_>, is_wanted: bool) -> bool {
        if is_wanted {
            // Before it is stored, so that it is not sent back in between.
            self.recent.note(&event.id());
        }
        is_wanted
    }

    fn settle(&self, stored: u64, others: &[Verdict]) {
        self.status.arrived(LineOutcome::Stored, stored);
        others.iter().for_each(|verdict| self.status.arrived(verdict.outcome, 1));
        let is_bad = |verdict: &&Verdict| matches!(verdict.outcome, LineOutcome::Invalid | LineOutcome::Unwanted);
        self.bad.fetch_add(others.iter().filter(is_bad).count() as u64, Ordering::Relaxed);
        self.committed.fetch_add(1, Ordering::Release);
        self.window.add_permits(1);
    }
}

/// What comes live: whatever matches.
pub struct LiveEvents {
    /// The conditions and the range.
    pub filter: Filter,
    /// The connection's.
    pub account: Arc<Account>,
}

impl Wanted for LiveEvents {
    fn wants(&self, event: EventView<'_>) -> bool {
        self.account.wants(event, self.filter.matches(event))
    }

    fn committed(&self, stored: u64, others: &[Verdict]) {
        self.account.settle(stored, others);
    }
}

/// What a comparison fetches: what was asked for.
pub struct FetchedEvents {
    /// The ids, and the filter.
    pub asked: Arc<RequestedEvents>,
    /// What stays different.
    pub remembered: Arc<Mutex<Remembered>>,
    /// The connection's.
    pub account: Arc<Account>,
}

impl Wanted for FetchedEvents {
    fn wants(&self, event: EventView<'_>) -> bool {
        self.account.wants(event, self.asked.wants(event))
    }

    fn committed(&self, stored: u64, others: &[Verdict]) {
        let noted_at = now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |verdict: &Verdict| -> Option<(EventId, Timestamp, LocalAbsence)> {
            let (id, created_at) = verdict.event?;
            Some((id, created_at, LocalAbsence::by(verdict.outcome)?))
        };
        for (id, created_at, reason) in others.iter().filter_map(refused) {
            remembered.refuse(id, created_at, reason, noted_at);
        }
        drop(remembered);
        self.account.settle(stored, others);
    }
}
