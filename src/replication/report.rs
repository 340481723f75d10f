//! What a sync does and did, in the words of its caller.

use serde::{Deserialize, Serialize};

use super::error::SyncError;
use crate::import::LineOutcome;
use crate::nostr::EventId;
use crate::peer::Traffic;
use crate::retention::Limit;
use crate::store::StoreError;

/// Reasons that are kept for the summary.
const MAX_REASONS: usize = 10;

/// Which way events go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the other relay to this one.
    Down,
    /// From this relay to the other one.
    Up,
    /// Both ways.
    Both,
}

impl Direction {
    /// Its name in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Both => "both",
        }
    }

    /// Whether events are fetched.
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Both)
    }

    /// Whether events are sent.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Both)
    }
}

/// One of the two relays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This one.
    Here,
    /// The other one.
    There,
}

/// How far a sync has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Events that are missing here, so far.
    pub missing_here: u64,
    /// Events that are missing there, so far.
    pub missing_there: u64,
    /// Events that arrived.
    pub received: u64,
    /// Events that the other relay has answered.
    pub answered: u64,
}

/// Is told what a sync does. Called from several threads.
pub trait Watch: Sync {
    /// How far it has come; several times a second.
    fn progress(&self, so_far: &Progress);
    /// An event is missing on one side. Called only when nothing is transferred.
    fn missing(&self, side: Side, id: &EventId);
    /// Something that the operator should know.
    fn warn(&self, text: &str);
}

/// How a sync ended.
#[derive(Debug)]
pub enum SyncEnd {
    /// Everything was compared and transferred, or refused with a reason.
    Complete,
    /// The operator stopped it.
    Interrupted,
    /// It could not go on.
    Failed(SyncError),
    /// This store is full: this limit is reached.
    Full(Limit),
    /// This store could not be read or written.
    Store(StoreError),
}

/// What a sync did.
#[derive(Debug)]
pub struct Report {
    /// Events that the other relay has and this one lacked.
    pub missing_here: u64,
    /// Events that this relay has and the other one lacked.
    pub missing_there: u64,
    /// What became of the events that arrived, by the number of the [`LineOutcome`].
    pub arrived: [u64; LineOutcome::ALL.len()],
    /// Events that the other relay named and did not deliver.
    pub undelivered: u64,
    /// Events that the other relay took.
    pub sent: u64,
    /// Events that the other relay says it had.
    pub sent_in_vain: u64,
    /// Events that the other relay refused.
    pub refused_there: u64,
    /// Events that only their authors may send (NIP-70).
    pub protected: u64,
    /// Seconds of which the other relay may have more events than it returns at once.
    pub overfull: u64,
    /// Whether the other relay was read page by page.
    pub by_pages: bool,
    /// Round trips of comparing.
    pub rounds: u64,
    /// Bytes of messages.
    pub traffic: Traffic,
    /// The first reasons for refusals, each with the id of its event if there is one.
    pub reasons: Vec<String>,
    /// How it ended.
    pub end: SyncEnd,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            missing_here: 0,
            missing_there: 0,
            arrived: [0; LineOutcome::ALL.len()],
            undelivered: 0,
            sent: 0,
            sent_in_vain: 0,
            refused_there: 0,
            protected: 0,
            overfull: 0,
            by_pages: false,
            rounds: 0,
            traffic: Traffic::default(),
            reasons: Vec::new(),
            end: SyncEnd::Complete,
        }
    }
}

impl Report {
    /// The number of events that arrived with this outcome.
    #[must_use]
    pub const fn count(&self, outcome: LineOutcome) -> u64 {
        self.arrived[outcome as usize]
    }

    /// Whether the two relays show the same now, but for what is remembered.
    pub(super) const fn leaves_nothing(&self, direction: Direction) -> bool {
        !self.by_pages && self.undelivered == 0 && (direction.is_down() || self.missing_here == 0)
    }

    /// Keeps a reason, if it is among the first.
    pub(super) fn reason(&mut self, reason: impl FnOnce() -> String) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason());
        }
    }
}
