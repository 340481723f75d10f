//! One negentropy session from our side: which ids of a window does only one of the two relays have?
//!
//! Pure. The other side's answers are input: they cost what they take, and an answer that brings nothing new is
//! forgiven only so often.

use std::collections::HashSet;
use std::sync::Arc;

use crate::negentropy::{Differences, Initiator, NegError, Records};
use crate::nostr::EventId;

/// The largest message that we send, in bytes; twice that in hexadecimal. strfry takes 128 KiB.
const FRAME_BYTES: usize = 60_000;

/// Answers in a row that may bring no id that is new. Honest sides need four or five before the first.
const MAX_BARREN: u32 = 64;

/// Ids that a window may be said to lack. More, and it is compared in halves.
const MAX_NEEDED: usize = 1 << 20;

/// Why a session cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ComparisonError {
    /// A message is malformed.
    #[error(transparent)]
    Malformed(#[from] NegError),
    /// We lack more ids than are kept at a time.
    #[error("more than {MAX_NEEDED} events are missing here")]
    TooMany,
    /// The other side goes on without end.
    #[error("its negentropy messages bring nothing new and do not end")]
    Endless,
}

/// A session.
pub struct Comparison {
    initiator: Initiator,
    /// Every difference so far, since some ranges are compared twice.
    seen: HashSet<EventId>,
    needed: usize,
    barren: u32,
    /// Answers read.
    pub rounds: u64,
}

/// What an answer brought.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Ids that only we have, told for the first time.
    pub have: Vec<EventId>,
    /// Ids that only the other side has, told for the first time.
    pub need: Vec<EventId>,
    /// The next message; `None` when everything is known.
    pub next: Option<Vec<u8>>,
}

impl Comparison {
    /// A session over our records, and its first message. If both sides were equal the last time, the message is a
    /// single fingerprint.
    #[must_use]
    pub fn open(records: Records, was_equal: bool) -> (Self, Vec<u8>) {
        let initiator = Initiator::new(Arc::new(records), FRAME_BYTES);
        let message = initiator.open_in(if was_equal { 1 } else { initiator.parts() });
        (Self { initiator, seen: HashSet::new(), needed: 0, barren: 0, rounds: 0 }, message)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is malformed, or the session would not end or grow too large.
    pub fn answer(&mut self, message: &[u8]) -> Result<Answer, ComparisonError> {
        let mut found = Differences::default();
        let next = self.initiator.next(message, &mut found)?;
        let mut fresh = |ids: std::collections::BTreeSet<EventId>| {
            ids.into_iter().filter(|id| self.seen.insert(*id)).collect::<Vec<_>>()
        };
        let (have, need) = (fresh(found.have), fresh(found.need));
        self.rounds += 1;
        self.needed += need.len();
        self.barren = if have.is_empty() && need.is_empty() { self.barren + 1 } else { 0 };
        if next.is_some() && self.needed > MAX_NEEDED {
            return Err(ComparisonError::TooMany);
        }
        if next.is_some() && self.barren > MAX_BARREN {
            return Err(ComparisonError::Endless);
        }
        Ok(Answer { have, need, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negentropy::{RecordsBuilder, Session};
    use crate::nostr::Timestamp;
    use sha2::{Digest as _, Sha256};

    fn id(n: u64) -> EventId {
        EventId(Sha256::digest(n.to_le_bytes()).into())
    }

    fn records(numbers: impl Iterator<Item = u64>) -> Records {
        let mut builder = RecordsBuilder::new(usize::MAX);
        for n in numbers {
            builder.push(Timestamp(1_700_000_000 + n * 60), id(n)).expect("there is no limit");
        }
        builder.finish()
    }

    /// Both sides to the end: the differences, the round trips and the bytes of all messages in hexadecimal.
    fn run(ours: Records, theirs: Records, was_equal: bool) -> (Vec<EventId>, Vec<EventId>, u64, usize) {
        let session = Session::new(Arc::new(theirs), 60_000);
        let (mut comparison, first) = Comparison::open(ours, was_equal);
        let (mut have, mut need, mut bytes, mut next) = (Vec::new(), Vec::new(), 0, Some(first));
        while let Some(message) = next {
            let reply = session.reply(&message).expect("a good message");
            bytes += 2 * (message.len() + reply.len());
            let answer = comparison.answer(&reply).expect("a good answer");
            have.extend(answer.have);
            need.extend(answer.need);
            next = answer.next;
        }
        have.sort_unstable();
        need.sort_unstable();
        (have, need, comparison.rounds, bytes)
    }

    fn sorted(numbers: impl Iterator<Item = u64>) -> Vec<EventId> {
        let mut ids: Vec<_> = numbers.map(id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn twenty_differences_among_two_hundred_thousand_take_two_round_trips() {
        const ALL: u64 = 200_000;
        let is_ours = |n: &u64| n % 20_000 != 7;
        let is_theirs = |n: &u64| n % 20_000 != 9_999;
        let (have, need, rounds, bytes) =
            run(records((0..ALL).filter(is_ours)), records((0..ALL).filter(is_theirs)), false);
        assert_eq!(have, sorted((0..ALL).filter(|n| !is_theirs(n))));
        assert_eq!(need, sorted((0..ALL).filter(|n| !is_ours(n))));
        assert!(rounds <= 2 && bytes <= 100_000, "{rounds} round trips, {bytes} bytes");
    }

    #[test]
    fn equal_sides_that_were_equal_before_exchange_two_short_messages() {
        let (have, need, rounds, bytes) = run(records(0..5_000), records(0..5_000), true);
        assert_eq!((have, need, rounds), (Vec::new(), Vec::new(), 1));
        assert!(bytes <= 100, "{bytes} bytes");
    }

    #[test]
    fn each_difference_is_told_once_however_often_it_is_seen() {
        // So many differences that frames end early and ranges are compared again.
        let (have, need, ..) = run(records(0..30_000), records(20_000..50_000), false);
        assert_eq!(have, sorted(0..20_000));
        assert_eq!(need, sorted(30_000..50_000));
    }

    #[test]
    fn a_side_that_never_comes_to_an_end_is_given_up() {
        let (mut comparison, _) = Comparison::open(records(0..5_000), false);
        // One fingerprint of everything that is never ours, again and again.
        let endless = [&[0x61, 0, 0, 1][..], &[7; 16]].concat();
        let ended = (0..1_000)
            .map(|_| comparison.answer(&endless))
            .position(|answer| answer.is_err_and(|error| error == ComparisonError::Endless));
        assert_eq!(ended, Some(MAX_BARREN as usize));
    }

    #[test]
    fn ids_without_end_are_cut_off() {
        let (mut comparison, _) = Comparison::open(records(0..0), false);
        let mut told = 0;
        for round in 0u64.. {
            let mut message = vec![0x61, 1, 1, 7, 2, 0x81, 0];
            // A range below a bound with 128 ids, and a fingerprint of the rest.
            (0..128).for_each(|n| message.extend(id(round * 128 + n).0));
            message.extend([0, 0, 1]);
            message.extend([7; 16]);
            match comparison.answer(&message) {
                Ok(answer) => told += answer.need.len(),
                Err(error) => {
                    assert_eq!(error, ComparisonError::TooMany);
                    break;
                }
            }
        }
        assert_eq!(told, MAX_NEEDED);
    }
}
