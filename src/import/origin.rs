//! Where the events of an import come from: a file of the operator's, or another relay that was asked for them.

use std::sync::Arc;

use super::verdict::Verdict;
use crate::nostr::EventView;
use crate::plugin;
use crate::policy::Source;

/// Which events were asked for, and what became of them. Threads that check events share it.
pub trait Wanted: Send + Sync {
    /// Whether this event was asked for. Called once for each event that arrives, before its signature is checked.
    fn wants(&self, event: EventView<'_>) -> bool;

    /// A piece is dealt with: this many of its events are stored and on disk, and the verdicts say what became of the
    /// others. Called once for each piece, in the order in which they came.
    fn committed(&self, stored: u64, others: &[Verdict]) {
        let _ = (stored, others);
    }
}

/// Where events come from.
#[derive(Clone)]
pub enum Origin {
    /// A file that the operator chose.
    File,
    /// The relay with this URL. Events that it was not asked for are dropped.
    Relay(Arc<str>, Arc<dyn Wanted>),
}

impl Origin {
    /// Whose events they are, as `policy.sources` and `plugin.sources` name it.
    #[must_use]
    pub const fn source(&self) -> Source {
        match self {
            Self::File => Source::Import,
            Self::Relay(..) => Source::Sync,
        }
    }

    /// As plugins are told.
    pub(super) fn for_plugin(&self) -> plugin::Origin<'_> {
        match self {
            Self::File => plugin::Origin::Import,
            Self::Relay(url, _) => plugin::Origin::Sync(url),
        }
    }

    /// Tells the relay's part what became of a piece.
    pub(super) fn committed(&self, stored: u64, others: &[Verdict]) {
        if let Self::Relay(_, wanted) = self {
            wanted.committed(stored, others);
        }
    }

    pub(super) fn wants(&self, event: EventView<'_>) -> bool {
        match self {
            Self::File => true,
            Self::Relay(_, wanted) => wanted.wants(event),
        }
    }
}
