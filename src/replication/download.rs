//! Which events are asked for, and which queries are open: several at a time, each for a few hundred ids.
//!
//! Pure. What is asked for is bounded by the queue, which the comparison fills only while it is short.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::import::Wanted;
use crate::nostr::{EventId, EventView, Filter};

/// Ids in one query. Relays take 500 or more, and a message of this many is below 16 KiB.
const BATCH: usize = 200;

/// Queries open at a time: 1,200 ids in flight. Relays allow ten subscriptions or more.
const MAX_OPEN: usize = 6;

/// The comparison is held back while this many ids wait to be asked for.
const ENOUGH: usize = 20_000;

/// Events beyond those asked for that one query may bring before the relay counts as flooding.
const EXCESS: usize = 100;

/// Ids asked for in a row of which none was delivered, after which the relay counts as making them up.
const MAX_FRUITLESS: usize = 10_000;

/// Ids asked for that may not have come. What waits is far less; a relay that names more delivers too few of them.
const MAX_MISSING: usize = 1 << 20;

/// What was asked for and has not come, and the filter that it must match. Threads that check events share it.
pub struct RequestedEvents {
    filter: Filter,
    missing: Mutex<HashSet<EventId>>,
}

impl RequestedEvents {
    /// Nothing yet. Whatever is asked for must match the filter.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self { filter, missing: Mutex::default() }
    }

    fn missing(&self) -> MutexGuard<'_, HashSet<EventId>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds ids. Returns those that were not asked for before; `None` when too many have not come.
    #[must_use]
    pub fn add(&self, ids: &[EventId]) -> Option<Vec<EventId>> {
        let mut missing = self.missing();
        let fresh = ids.iter().copied().filter(|id| missing.insert(*id)).collect();
        (missing.len() <= MAX_MISSING).then_some(fresh)
    }

    /// Takes what was asked for and never came.
    #[must_use]
    pub fn take_missing(&self) -> HashSet<EventId> {
        std::mem::take(&mut self.missing())
    }
}

impl Wanted for RequestedEvents {
    fn wants(&self, event: EventView<'_>) -> bool {
        self.missing().remove(&event.id()) && self.filter.matches(event)
    }
}

/// The relay sends far more than it was asked for, or names what it does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Abuse {
    /// A flood.
    #[error("it sends many more events than it was asked for")]
    Flood,
    /// Ids of nothing.
    #[error("it names {MAX_FRUITLESS} events and delivers none of them")]
    Invented,
}

struct OpenQuery {
    ids: Vec<EventId>,
    /// Ids that have not come, as far as messages tell.
    missing: HashSet<EventId>,
    received: usize,
    since: Instant,
}

/// The queue and the open queries.
pub struct Downloads {
    queue: VecDeque<EventId>,
    open: HashMap<String, OpenQuery>,
    /// How many queries may be open.
    width: usize,
    next: u64,
    fruitless: usize,
    /// Events that came for a query of ours.
    pub received: u64,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { queue: VecDeque::new(), open: HashMap::new(), width: MAX_OPEN, next: 0, fruitless: 0, received: 0 }
    }
}

impl Downloads {
    /// Adds ids to ask for.
    pub fn add(&mut self, ids: impl IntoIterator<Item = EventId>) {
        self.queue.extend(ids);
    }

    /// Whether so many ids wait that no more should be looked for.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.queue.len() >= ENOUGH
    }

    /// Whether nothing is wanted and nothing open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.open.is_empty()
    }

    /// Whether answers are owed.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// The next query to send: its name and its ids. A query for a few ids waits for more only while `more` may come
    /// and others are open.
    pub fn next_query(&mut self, more: bool) -> Option<(String, &[EventId])> {
        let is_worth_it = self.queue.len() >= BATCH || self.open.is_empty() || !more;
        if self.queue.is_empty() || self.open.len() >= self.width || !is_worth_it {
            return None;
        }
        let ids: Vec<_> = self.queue.drain(..self.queue.len().min(BATCH)).collect();
        self.next += 1;
        let name = format!("d{}", self.next);
        let open = OpenQuery { missing: ids.iter().copied().collect(), ids, received: 0, since: Instant::now() };
        let open = self.open.entry(name.clone()).insert_entry(open).into_mut();
        Some((name, open.ids.as_slice()))
    }

    /// An event came, with this id, if it was found. Returns whether it is for an open query.
    ///
    /// # Errors
    /// When the relay floods.
    pub fn event(&mut self, name: &str, id: Option<EventId>) -> Result<bool, Abuse> {
        let Some(open) = self.open.get_mut(name) else { return Ok(false) };
        if let Some(id) = id {
            open.missing.remove(&id);
        }
        open.received += 1;
        self.received += 1;
        if open.received > open.ids.len() + EXCESS { Err(Abuse::Flood) } else { Ok(true) }
    }

    /// A query is answered. Returns whether it was open.
    ///
    /// A relay may return fewer events at a time than it is asked for. So what is missing is asked for again, as long
    /// as some of it comes.
    ///
    /// # Errors
    /// When the relay names many events and delivers none.
    pub fn end(&mut self, name: &str) -> Result<bool, Abuse> {
        let Some(open) = self.open.remove(name) else { return Ok(false) };
        let some_came = open.missing.len() < open.ids.len();
        self.fruitless = if some_came { 0 } else { self.fruitless + open.ids.len() };
        if some_came {
            self.queue.extend(open.ids.into_iter().filter(|id| open.missing.contains(id)));
        }
        if self.fruitless > MAX_FRUITLESS { Err(Abuse::Invented) } else { Ok(true) }
    }

    /// A query was refused and is to be asked again. With `narrower`, fewer are open at a time from now on.
    pub fn again(&mut self, name: &str, narrower: bool) {
        let Some(open) = self.open.remove(name) else { return };
        open.ids.into_iter().rev().for_each(|id| self.queue.push_front(id));
        if narrower {
            self.width = (self.width / 2).max(1);
        }
    }

    /// The connection is lost: what has not come is to be asked for again.
    pub fn take_up(&mut self) {
        for open in std::mem::take(&mut self.open).into_values() {
            self.queue.extend(open.ids.into_iter().filter(|id| open.missing.contains(id)));
        }
    }

    /// Whether a query with this name is open.
    #[must_use]
    pub fn is_open(&self, name: &str) -> bool {
        self.open.contains_key(name)
    }

    /// Whether a query has been open for longer than this.
    #[must_use]
    pub fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.open.values().any(|open| now.duration_since(open.since) > timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, event};

    fn ids(range: std::ops::Range<u16>) -> Vec<EventId> {
        range.map(|n| EventId(std::array::from_fn(|at| n.to_be_bytes()[at % 2]))).collect()
    }

    fn all(downloads: &mut Downloads) -> Vec<(String, usize)> {
        std::iter::from_fn(|| downloads.next_query(true).map(|(name, ids)| (name, ids.len()))).collect()
    }

    #[test]
    fn a_few_full_queries_are_open_at_a_time_and_a_short_one_waits_for_more() {
        let mut downloads = Downloads::default();
        downloads.add(ids(0..1350));
        let names = (1..=6).map(|n| (format!("d{n}"), 200)).collect::<Vec<_>>();
        assert_eq!(all(&mut downloads), names);
        assert_eq!(downloads.end("d3"), Ok(true));
        assert_eq!(all(&mut downloads), []);
        let last = downloads.next_query(false).map(|(name, ids)| (name, ids.len()));
        assert_eq!(last, Some(("d7".into(), 150)));
        assert!(!downloads.is_idle());
    }

    #[test]
    fn a_refused_query_is_asked_again_and_fewer_are_open() {
        let mut downloads = Downloads::default();
        downloads.add(ids(0..1200));
        assert_eq!(all(&mut downloads).len(), 6);
        downloads.again("d6", true);
        assert_eq!(all(&mut downloads), []);
        (1..=4).for_each(|n| assert_eq!(downloads.end(&format!("d{n}")), Ok(true)));
        let (name, again) = downloads.next_query(true).expect("room for one");
        assert_eq!((name.as_str(), again.to_vec()), ("d7", ids(1000..1200)));
    }

    #[test]
    fn what_has_not_come_over_a_lost_connection_is_asked_for_again() {
        let mut downloads = Downloads::default();
        downloads.add(ids(0..250));
        assert_eq!(all(&mut downloads), [("d1".into(), 200)]);
        ids(0..150).into_iter().for_each(|id| assert_eq!(downloads.event("d1", Some(id)), Ok(true)));
        downloads.take_up();
        let (name, again) = downloads.next_query(false).expect("what is left");
        assert_eq!((name.as_str(), again.to_vec()), ("d2", [ids(200..250), ids(150..200)].concat()));
        assert_eq!(downloads.next_query(false), None);
    }

    #[test]
    fn what_a_relay_leaves_out_is_asked_for_again_while_some_of_it_comes() {
        let mut downloads = Downloads::default();
        downloads.add(ids(0..5));
        let mut asked = Vec::new();
        while let Some((name, wanted)) = downloads.next_query(false).map(|(name, ids)| (name, ids.to_vec())) {
            // It returns two at a time, and never the last.
            for id in wanted.iter().filter(|id| **id != ids(4..5)[0]).take(2) {
                assert_eq!(downloads.event(&name, Some(*id)), Ok(true));
            }
            assert_eq!(downloads.end(&name), Ok(true));
            asked.push(wanted);
        }
        assert_eq!(asked, [ids(0..5), ids(2..5), ids(4..5)]);
        assert!(downloads.is_idle());
    }

    #[test]
    fn floods_and_invented_ids_are_noticed() {
        let mut downloads = Downloads::default();
        downloads.add(ids(0..10));
        assert_eq!(all(&mut downloads), [("d1".into(), 10)]);
        let flood = (0..).map(|_| downloads.event("d1", None)).position(|event| event == Err(Abuse::Flood));
        assert_eq!(flood, Some(10 + EXCESS));
        assert_eq!(downloads.event("d2", None), Ok(false));

        let mut downloads = Downloads::default();
        let ended = (1..1_000).find(|n| {
            downloads.add(ids(0..200));
            downloads.next_query(false).expect("one at a time");
            downloads.end(&format!("d{n}")) == Err(Abuse::Invented)
        });
        assert_eq!(ended, Some(MAX_FRUITLESS / BATCH + 1));
    }

    #[test]
    fn an_event_is_wanted_once_and_only_if_it_was_asked_for_and_matches() {
        let filter = Filter { since: Some(crate::nostr::Timestamp(10)), ..Filter::default() };
        let asked = RequestedEvents::new(filter);
        let (new, old) = (event(author(1), 1, 10, &[], "new"), event(author(1), 1, 9, &[], "old"));
        assert!(!asked.wants(new.view()));
        assert_eq!(asked.add(&[new.view().id(), old.view().id()]).map(|fresh| fresh.len()), Some(2));
        assert_eq!(asked.add(&[new.view().id()]), Some(Vec::new()), "it is asked for already");
        assert_eq!([new.view(), new.view(), old.view()].map(|event| asked.wants(event)), [true, false, false]);
        assert_eq!(asked.add(&ids(1..2)), Some(ids(1..2)));
        assert_eq!(asked.take_missing(), ids(1..2).into_iter().collect());
    }
}
