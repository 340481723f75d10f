//! Which events are sent up, and which of them the relay has not answered: a window that it moves by answering.
//!
//! Pure: it holds ids; what they stand for is rendered when its turn comes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::nostr::EventId;

/// Events that may be unanswered. A relay that commits in groups answers hundreds at a time.
const MAX_EVENTS: usize = 500;

/// Bytes of events that may be unanswered.
const MAX_BYTES: usize = 4 << 20;

/// The comparison is held back while this many ids wait to be sent.
const ENOUGH: usize = 20_000;

/// The queue and the window.
#[derive(Default)]
pub struct Uploads {
    queue: VecDeque<EventId>,
    /// Their bytes, and when they were sent.
    unanswered: HashMap<EventId, (usize, Instant)>,
    bytes: usize,
    /// What was sent over a connection that was lost before the answer.
    lost: HashSet<EventId>,
}

impl Uploads {
    /// Adds ids to send.
    pub fn add(&mut self, ids: impl IntoIterator<Item = EventId>) {
        self.queue.extend(ids);
    }

    /// Whether so many ids wait that no more should be looked for.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.queue.len() >= ENOUGH
    }

    /// Whether everything is sent and answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unanswered.is_empty()
    }

    /// Whether answers are owed.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The next ids to send, a few at a time so that they are read from the store together; empty while the window is
    /// full.
    #[must_use]
    pub fn next(&mut self) -> Vec<EventId> {
        if self.bytes >= MAX_BYTES {
            return Vec::new();
        }
        let room = MAX_EVENTS.saturating_sub(self.unanswered.len()).min(64);
        self.queue.drain(..room.min(self.queue.len())).collect()
    }

    /// An event of this many bytes was sent.
    pub fn sent(&mut self, id: EventId, bytes: usize) {
        if self.unanswered.insert(id, (bytes, Instant::now())).is_none() {
            self.bytes += bytes;
        }
    }

    /// The relay answered. Returns whether an answer was owed.
    pub fn answered(&mut self, id: &EventId) -> bool {
        let Some((bytes, _)) = self.unanswered.remove(id) else { return false };
        self.bytes -= bytes;
        true
    }

    /// The connection is lost: what was not answered is to be sent again.
    pub fn take_up(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        self.lost.extend(unanswered.keys());
        self.queue.extend(unanswered.into_keys());
        self.bytes = 0;
    }

    /// Whether the relay may have this event from us, although it never said so.
    #[must_use]
    pub fn may_have_arrived(&self, id: &EventId) -> bool {
        self.lost.contains(id)
    }

    /// Whether an answer has been owed for longer than this.
    #[must_use]
    pub fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.unanswered.values().any(|(_, since)| now.duration_since(*since) > timeout)
    }

    /// Sends an event again, after the others.
    pub fn again(&mut self, id: EventId) {
        self.queue.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u16>) -> Vec<EventId> {
        range.map(|n| EventId(std::array::from_fn(|at| n.to_be_bytes()[at % 2]))).collect()
    }

    fn send_all(uploads: &mut Uploads, bytes: usize) -> usize {
        let mut sent = 0;
        loop {
            let next = uploads.next();
            if next.is_empty() {
                return sent;
            }
            sent += next.len();
            next.into_iter().for_each(|id| uploads.sent(id, bytes));
        }
    }

    #[test]
    fn the_window_is_bounded_by_number_and_bytes_and_moves_with_answers() {
        let mut uploads = Uploads::default();
        uploads.add(ids(0..2_000));
        assert_eq!(send_all(&mut uploads, 100), MAX_EVENTS);
        ids(0..10).iter().for_each(|id| assert!(uploads.answered(id)));
        assert!(!uploads.answered(&ids(0..1)[0]), "no longer owed");
        assert_eq!(send_all(&mut uploads, 100), 10);
        ids(10..510).iter().for_each(|id| assert!(uploads.answered(id)));
        // 64 are taken at a time, so that the bound is exceeded by as many at most.
        assert_eq!(send_all(&mut uploads, MAX_BYTES), 64);
        assert!(uploads.is_waiting() && !uploads.is_idle());
    }

    #[test]
    fn what_a_lost_connection_left_unanswered_is_sent_again() {
        let mut uploads = Uploads::default();
        uploads.add(ids(0..3));
        uploads.next().iter().for_each(|id| uploads.sent(*id, MAX_BYTES));
        assert!(uploads.answered(&ids(0..1)[0]));
        uploads.take_up();
        assert!(!uploads.is_waiting() && !uploads.answered(&ids(1..2)[0]));
        let mut again = uploads.next();
        again.sort_unstable_by_key(|id| id.0);
        assert_eq!(again, ids(1..3));
        assert_eq!([0, 1, 2].map(|n| uploads.may_have_arrived(&ids(n..n + 1)[0])), [false, true, true]);
    }

    #[test]
    fn an_answer_is_overdue_once_it_is_owed_for_too_long() {
        let mut uploads = Uploads::default();
        uploads.sent(ids(0..1)[0], 1);
        let (now, timeout) = (Instant::now(), Duration::from_secs(9));
        assert!(!uploads.is_overdue(now, timeout) && uploads.is_overdue(now + 2 * timeout, timeout));
    }

    #[test]
    fn what_is_sent_again_comes_last() {
        let mut uploads = Uploads::default();
        uploads.add(ids(0..3));
        let first = uploads.next();
        first.iter().for_each(|id| uploads.sent(*id, 1));
        assert!(uploads.answered(&first[0]));
        uploads.again(first[0]);
        assert_eq!(uploads.next(), ids(0..1));
    }
}
