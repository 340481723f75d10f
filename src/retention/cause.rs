//! Why the rules no longer keep an event.

use crate::nostr::Timestamp;
use crate::store::Seq;

/// Why an event is removed, with the index of its rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// It is older than `max_age`.
    Age(usize),
    /// Beyond `max_per_author_and_kind`: the author has newer events of this kind.
    PerAuthorAndKind(usize),
    /// Beyond the rule's `max_events`.
    RuleEvents(usize),
    /// Beyond the rule's `max_bytes`.
    RuleBytes(usize),
    /// Beyond `max_events_per_author`.
    AuthorEvents(usize),
    /// Beyond `max_bytes_per_author`.
    AuthorBytes(usize),
    /// To make room: `storage.max_bytes`, the map or the disk.
    Total(usize),
}

impl Cause {
    /// The index of the event's rule.
    #[must_use]
    pub const fn rule(self) -> usize {
        match self {
            Self::Age(rule)
            | Self::PerAuthorAndKind(rule)
            | Self::RuleEvents(rule)
            | Self::RuleBytes(rule)
            | Self::AuthorEvents(rule)
            | Self::AuthorBytes(rule)
            | Self::Total(rule) => rule,
        }
    }
}

/// An event that the rules no longer keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its arrival number.
    pub seq: Seq,
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// Bytes of its record.
    pub bytes: u64,
    /// Bytes that it takes in the data file: see [`crate::store::keys::footprint`].
    pub footprint: u64,
    /// Why it is removed.
    pub cause: Cause,
}
