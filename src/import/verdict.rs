//! The outcome of each line of an import, and its names in summaries.

use std::borrow::Cow;

use crate::nostr::{EventId, Timestamp};
use crate::store::Outcome;

/// The outcome of a line of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum LineOutcome {
    /// Stored.
    Stored,
    /// Already stored.
    Duplicate,
    /// A newer version is stored (NIP-01).
    Replaced,
    /// Its author has deleted it (NIP-09).
    Deleted,
    /// Its author has vanished (NIP-62).
    Vanished,
    /// It has expired (NIP-40).
    Expired,
    /// Its kind is never stored (NIP-01).
    Ephemeral,
    /// This relay must not store it, or the plugin refuses it.
    Refused,
    /// The retention rules would remove it, or have removed it before.
    NotKept,
    /// A deletion request that targets no event of its author (NIP-09).
    InvalidDeletion,
    /// It is not an event, or its id or signature is wrong.
    Invalid,
    /// Another relay sent it without being asked for it.
    Unwanted,
}

impl LineOutcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Stored,
        Self::Duplicate,
        Self::Replaced,
        Self::Deleted,
        Self::Vanished,
        Self::Expired,
        Self::Ephemeral,
        Self::Refused,
        Self::NotKept,
        Self::InvalidDeletion,
        Self::Invalid,
        Self::Unwanted,
    ];

    /// Its name in a summary.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Vanished => "vanished",
            Self::Expired => "expired",
            Self::Ephemeral => "ephemeral",
            Self::Refused => "refused",
            Self::NotKept => "not kept",
            Self::InvalidDeletion => "invalid deletion",
            Self::Invalid => "invalid",
            Self::Unwanted => "not asked for",
        }
    }

    /// A reason for outcomes that have no more specific one.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Stored => "it is stored",
            Self::Duplicate => "it is already stored",
            Self::Replaced => "a newer version is stored",
            Self::Deleted => "its author has deleted it",
            Self::Vanished => "its author has vanished",
            Self::Expired => "it has expired",
            Self::Ephemeral => "its kind is never stored",
            Self::Refused => "this relay must not store it",
            Self::NotKept => "the retention rules would remove it",
            Self::InvalidDeletion => "it targets nothing that its author may delete",
            Self::Invalid => "it is not an event",
            Self::Unwanted => "it was not asked for",
        }
    }

    /// The outcome of a line whose event the store has tried to take; `None` if there was no room for it.
    pub const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Stored(_) => Some(Self::Stored),
            Outcome::Duplicate => Some(Self::Duplicate),
            Outcome::Replaced => Some(Self::Replaced),
            Outcome::Deleted => Some(Self::Deleted),
            Outcome::Vanished => Some(Self::Vanished),
            Outcome::Expired => Some(Self::Expired),
            Outcome::Ephemeral => Some(Self::Ephemeral),
            Outcome::InvalidDeletion => Some(Self::InvalidDeletion),
            Outcome::Full => None,
        }
    }
}

/// The outcome of one line, and the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The line, from 1; of events that another relay sent, the number.
    pub line: u64,
    /// The id and `created_at` of the event, if it is one.
    pub event: Option<(EventId, Timestamp)>,
    /// Its outcome.
    pub outcome: LineOutcome,
    /// The reason.
    pub reason: Cow<'static, str>,
}
