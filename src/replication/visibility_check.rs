//! Whether the other relay shows what it has just taken: many show direct messages only to those involved. What it
//! hides counts as absent in the next comparison, which would otherwise find it and send it again.
//!
//! Pure. Only events of kinds that this relay would hide itself are asked for, a few hundred at a time. Bounded: what
//! is beyond [`MAX_WAITING`] is found by the next sync.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::remembered::MAX_REMEMBERED;
use crate::nostr::EventId;

/// Ids in one query.
const BATCH: usize = 200;

/// Ids that wait to be asked for.
const MAX_WAITING: usize = MAX_REMEMBERED;

/// See the module.
#[derive(Default)]
pub struct VisibilityCheck {
    /// Events that were sent and not answered.
    sent: HashSet<EventId>,
    queue: VecDeque<EventId>,
    open: Option<OpenQuery>,
    asked: u64,
}

struct OpenQuery {
    name: String,
    missing: HashSet<EventId>,
    since: Instant,
}

impl VisibilityCheck {
    /// An event was sent that may be hidden.
    pub fn sent(&mut self, id: EventId) {
        self.sent.insert(id);
    }

    /// The relay answered an event.
    pub fn answered(&mut self, id: &EventId, has_taken: bool) {
        if self.sent.remove(id) && has_taken && self.queue.len() < MAX_WAITING {
            self.queue.push_back(*id);
        }
    }

    /// The next query to send: its name and its ids. A query for a few ids waits while `more` may come.
    pub fn next_query(&mut self, more: bool) -> Option<(String, Vec<EventId>)> {
        if self.open.is_some() || self.queue.is_empty() || (more && self.queue.len() < BATCH) {
            return None;
        }
        let ids: Vec<EventId> = self.queue.drain(..BATCH.min(self.queue.len())).collect();
        self.asked += 1;
        let name = format!("s{}", self.asked);
        self.open =
            Some(OpenQuery { name: name.clone(), missing: ids.iter().copied().collect(), since: Instant::now() });
        Some((name, ids))
    }

    /// An event came. Returns whether it was asked for.
    pub fn event(&mut self, name: &str, id: Option<EventId>) -> bool {
        let open = self.open.as_mut().filter(|open| open.name == name);
        open.zip(id).is_some_and(|(open, id)| open.missing.remove(&id))
    }

    /// A query is answered. Returns the ids of what is hidden, if the query was open.
    pub fn end(&mut self, name: &str) -> Option<HashSet<EventId>> {
        self.open.take_if(|open| open.name == name).map(|open| open.missing)
    }

    /// A query was refused: nothing more is asked for. Returns whether it was open.
    pub fn refused(&mut self, name: &str) -> bool {
        let is_ours = self.open.take_if(|open| open.name == name).is_some();
        if is_ours {
            self.queue.clear();
        }
        is_ours
    }

    /// The connection is lost: what was not answered is to be asked for again.
    pub fn take_up(&mut self) {
        self.queue.extend(self.open.take().into_iter().flat_map(|open| open.missing));
        self.sent.clear();
    }

    /// Whether nothing is to be asked for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.open.is_none()
    }

    /// Whether an answer is owed.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.open.is_some()
    }

    /// Whether an answer has been owed for longer than this.
    #[must_use]
    pub fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.open.as_ref().is_some_and(|open| now.duration_since(open.since) > timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u16>) -> Vec<EventId> {
        range.map(|n| EventId(std::array::from_fn(|at| n.to_be_bytes()[at % 2]))).collect()
    }

    /// Has taken these.
    fn taken(range: std::ops::Range<u16>) -> VisibilityCheck {
        let mut check = VisibilityCheck::default();
        for id in ids(range) {
            check.sent(id);
            check.answered(&id, true);
        }
        check
    }

    #[test]
    fn what_was_taken_and_does_not_come_is_hidden() {
        let mut check = taken(0..3);
        assert_eq!(check.next_query(true), None, "more may come");
        assert_eq!(check.next_query(false), Some(("s1".into(), ids(0..3))));
        assert!(check.event("s1", Some(ids(1..2)[0])));
        let others = [("s1", Some(ids(1..2)[0])), ("s1", Some(ids(7..8)[0])), ("s1", None), ("d1", Some(ids(0..1)[0]))];
        assert_eq!(others.map(|(name, id)| check.event(name, id)), [false; 4]);
        assert_eq!((check.end("d1"), check.is_waiting()), (None, true));
        assert_eq!(check.end("s1"), Some([ids(0..1)[0], ids(2..3)[0]].into()));
        assert!(check.is_idle());
    }

    #[test]
    fn only_what_was_sent_and_taken_is_asked_for_a_query_at_a_time() {
        let mut check = taken(0..250);
        check.answered(&ids(300..301)[0], true);
        check.sent(ids(301..302)[0]);
        check.answered(&ids(301..302)[0], false);
        assert_eq!(check.next_query(true), Some(("s1".into(), ids(0..200))));
        assert_eq!(check.next_query(false), None);
        assert_eq!(check.end("s1").map(|hidden| hidden.len()), Some(200));
        assert_eq!(check.next_query(false), Some(("s2".into(), ids(200..250))));
        check.take_up();
        let again = check.next_query(false).map(|(name, ids)| (name, ids.len()));
        assert_eq!(again, Some(("s3".into(), 50)));
    }

    #[test]
    fn a_relay_that_refuses_is_not_asked_again() {
        let mut check = taken(0..250);
        assert!(check.next_query(false).is_some() && !check.refused("d1") && check.refused("s1"));
        assert!(check.is_idle());
    }
}
