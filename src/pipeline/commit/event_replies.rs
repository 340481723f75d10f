//! What a client is told of its event: one wording for what is known at once and for what a commit decides.
//!
//! Pure: it queues nothing and counts nothing.

use crate::metrics::EventOutcome;
use crate::nostr::{EventId, Prefix, Reason, RelayMessage};
use crate::store::{Outcome, StoreError};

/// The OK for an event of this outcome (NIP-01).
#[must_use]
pub fn reply_for(id: EventId, outcome: Outcome) -> RelayMessage {
    let accepted = |reason| RelayMessage::Ok { id, accepted: true, reason };
    match outcome {
        Outcome::Stored(_) => accepted(None),
        Outcome::Duplicate => accepted(Some(Reason::new(Prefix::Duplicate, "already have this event"))),
        Outcome::Replaced => RelayMessage::refused(id, Prefix::Duplicate, "a newer version is already stored"),
        Outcome::Deleted => RelayMessage::refused(id, Prefix::Blocked, "the author deleted this event"),
        Outcome::Vanished => RelayMessage::refused(id, Prefix::Blocked, "the author asked to vanish"),
        Outcome::Expired => RelayMessage::refused(id, Prefix::Invalid, "the event is expired"),
        Outcome::Ephemeral => RelayMessage::refused(id, Prefix::Error, "an ephemeral event reached the store"),
        Outcome::Full => RelayMessage::refused(id, Prefix::Error, "storage full"),
        Outcome::InvalidDeletion => {
            RelayMessage::refused(id, Prefix::Invalid, "the deletion names nothing that its author may delete")
        }
    }
}

/// The word under which the metrics count an event of this outcome.
#[must_use]
pub const fn counted_as(outcome: Outcome) -> EventOutcome {
    match outcome {
        Outcome::Stored(_) => EventOutcome::Stored,
        Outcome::Duplicate => EventOutcome::Duplicate,
        Outcome::Replaced => EventOutcome::Replaced,
        Outcome::Deleted => EventOutcome::Deleted,
        Outcome::Vanished => EventOutcome::Vanished,
        Outcome::Expired => EventOutcome::Expired,
        Outcome::Full => EventOutcome::Full,
        Outcome::Ephemeral => EventOutcome::Failed,
        Outcome::InvalidDeletion => EventOutcome::Invalid,
    }
}

/// The OKs for events of a batch whose commit failed; their clients may try again. The events are not known to be
/// missing: a frame may be in the log although its sync failed, and the next transaction adds it then.
#[must_use]
pub fn refuse_all(ids: impl Iterator<Item = EventId>, error: &StoreError) -> Vec<RelayMessage> {
    let text = match error {
        // Logged once, by whoever notes that the store is full.
        StoreError::Full => "storage full",
        StoreError::Removed(_) => "the relay cannot store events now",
        _ => "it could not be confirmed that the event is stored; it may still be; send it again",
    };
    ids.map(|id| RelayMessage::refused(id, Prefix::Error, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Known, Seq};

    #[test]
    fn what_the_store_knows_already_is_answered_as_a_commit_answers_it() {
        let id = EventId([7; 32]);
        let reply = |known: Known| {
            let outcome = Outcome::of(known).expect("it is not new");
            (counted_as(outcome), reply_for(id, outcome))
        };
        let duplicate = Reason::new(Prefix::Duplicate, "already have this event");
        let accepted = RelayMessage::Ok { id, accepted: true, reason: Some(duplicate) };
        assert_eq!(reply(Known::Stored), (EventOutcome::Duplicate, accepted));
        let refused = |prefix, text| RelayMessage::refused(id, prefix, text);
        let expected = [
            (EventOutcome::Replaced, refused(Prefix::Duplicate, "a newer version is already stored")),
            (EventOutcome::Deleted, refused(Prefix::Blocked, "the author deleted this event")),
            (EventOutcome::Vanished, refused(Prefix::Blocked, "the author asked to vanish")),
            (EventOutcome::Expired, refused(Prefix::Invalid, "the event is expired")),
        ];
        assert_eq!([Known::Superseded, Known::Deleted, Known::Vanished, Known::Expired].map(reply), expected);
        let stored = RelayMessage::Ok { id, accepted: true, reason: None };
        assert_eq!(reply_for(id, Outcome::Stored(Seq(1))), stored);
    }
}
