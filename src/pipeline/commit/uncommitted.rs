//! What is acknowledged and not yet committed: a query that would miss it waits for the commit.
//!
//! Events are answered once they are in the write-ahead log, but readers see them only after their group is committed
//! (`store::Group`). In between they are listed here. A query checks this list first. Usually nothing in it matches,
//! and the query reads at once; otherwise it is parked here, the writer is asked to commit, and the query runs after
//! that. So a client that has its OK finds the event, and no query waits longer than a commit takes. Nothing here
//! blocks.
//!
//! When the commit fails, everything stays listed until one succeeds, which adds the events from the log, and the
//! queries wait as long. Meanwhile no other event is acknowledged before its commit, so no second group is listed.
//!
//! The size of a group bounds the events, `queues.scans` the parked queries: one more goes back to Q4 and checks again
//! when its turn comes. While commits fail it is refused: it would check for nothing, over and over.

use hashbrown::HashMap;

use crate::nostr::{EventId, EventView, Filter, Kind};
use crate::pipeline::channel::WeakSender;
use crate::pipeline::queues::{Committed, WriteCommand};
use crate::store::Seq;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard};

/// The most events that a query is compared with: comparing more would take longer than waiting for the commit. While
/// commits fail, it is compared with all.
const MOST_COMPARED: usize = 512;

/// Events that are acknowledged and not yet committed, and queries `Q` that wait for the commit.
pub struct Uncommitted<Q> {
    state: Mutex<State<Q>>,
    max_waiting: usize,
    is_empty: AtomicBool,
    is_wanted: AtomicBool,
    writer: WeakSender<WriteCommand>,
}

struct State<Q> {
    batches: Vec<Arc<[Committed]>>,
    events: usize,
    /// What the group does to events, by id.
    changes: HashMap<EventId, Change>,
    /// Records that the group removes.
    removed: Vec<Box<[u8]>>,
    /// The group has a vanish request, which may concern every query.
    has_vanish: bool,
    last: Seq,
    waiting: Vec<Q>,
    /// Queries that wait too, while [`Uncommitted::keep`] looks at them.
    aside: usize,
    /// The commit failed, and nobody knows when one succeeds.
    has_failed: bool,
}

impl<Q> Default for State<Q> {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            events: 0,
            changes: HashMap::new(),
            removed: Vec::new(),
            has_vanish: false,
            last: Seq::default(),
            waiting: Vec::new(),
            aside: 0,
            has_failed: false,
        }
    }
}

impl<Q> State<Q> {
    fn concerns(&self, filters: &[Filter]) -> bool {
        let names = |filter: &Filter| match &filter.ids {
            Some(ids) => ids.iter().any(|id| self.changes.contains_key(id)),
            None => false,
        };
        let matches = |event: EventView<'_>| filters.iter().any(|filter| filter.ids.is_none() && filter.matches(event));
        if self.has_vanish || filters.iter().any(names) {
            return true;
        }
        // Most queries by id end here, even under load.
        filters.iter().any(|filter| filter.ids.is_none())
            && ((self.events + self.removed.len() > MOST_COMPARED && !self.has_failed)
                || self.batches.iter().flat_map(|batch| batch.iter()).any(|one| matches(one.event.view()))
                || self.removed.iter().any(|record| EventView::from_record(record).is_some_and(matches)))
    }
}

/// What a group does to an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is added.
    Added,
    /// It is removed: a newer version came, or its author deleted it. The store may still hold it.
    Removed,
}

/// What a query learns here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relevance {
    /// It misses nothing: every event up to this number that matches it is in the store.
    Unconcerned(Seq),
    /// It would miss an event.
    Concerned,
}

/// Whether a query `J` was parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Wait<J> {
    /// It is parked here.
    Left,
    /// It was not: everything is committed, so it may read.
    Over(J),
    /// It was not: too many are, so it has to check again later.
    Full(J),
    /// It was not: too many are, and commits fail. It is to be refused.
    Refused(J),
}

impl<Q> Uncommitted<Q> {
    /// An empty list. Commits are requested from `writer`, and at most `max_waiting` queries are parked.
    #[must_use]
    pub fn new(writer: WeakSender<WriteCommand>, max_waiting: usize) -> Self {
        let (is_empty, is_wanted) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { state: Mutex::default(), max_waiting, is_empty, is_wanted, writer }
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().expect("nothing panics while it holds what is uncommitted")
    }

    /// Adds a durable batch, and the records that it removes. To be called before live gets the batch and before its
    /// OKs.
    pub fn add(&self, batch: &Arc<[Committed]>, removed: Vec<Box<[u8]>>) {
        let mut state = self.state();
        state.changes.extend(batch.iter().map(|one| (one.event.view().id(), Change::Added)));
        state.has_vanish |= batch.iter().any(|one| one.event.view().kind() == Kind::VANISH);
        state.last = batch.last().map_or(state.last, |one| one.seq);
        state.events += batch.len();
        state.batches.push(Arc::clone(batch));
        for event in removed.iter().filter_map(|record| EventView::from_record(record)) {
            state.changes.insert(event.id(), Change::Removed);
        }
        state.removed.extend(removed);
        self.is_empty.store(false, Ordering::Release);
    }

    /// Forgets everything, since the group is committed, and returns the queries that waited for that.
    #[must_use]
    pub fn clear(&self) -> Vec<Q> {
        self.is_wanted.store(false, Ordering::Release);
        let mut state = self.state();
        self.is_empty.store(true, Ordering::Release);
        std::mem::take(&mut *state).waiting
    }

    /// Keeps everything, since the commit failed and another one is tried later. Returns the queries that are over, as
    /// this tells: their clients do not wait any more.
    #[must_use]
    pub fn keep(&self, is_over: impl Fn(&Q) -> bool) -> Vec<Q> {
        let mut state = self.state();
        state.has_failed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.aside = waiting.len();
        drop(state);
        // Without the lock, which is a leaf: to look at a query takes others.
        let (over, mut waiting): (Vec<Q>, Vec<Q>) = waiting.into_iter().partition(is_over);
        let mut state = self.state();
        waiting.append(&mut state.waiting);
        (state.waiting, state.aside) = (waiting, 0);
        over
    }

    /// Whether everything that is acknowledged is committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Acquire)
    }

    /// Whether a query waits for the commit.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// What the group does to an event, if anything: the store does not know yet.
    #[must_use]
    pub fn change(&self, id: &EventId) -> Option<Change> {
        if self.is_empty() { None } else { self.state().changes.get(id).copied() }
    }

    /// The number of the latest event that was added since the commit.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.state().last
    }

    /// The batches that wait for the commit and have events after this number, in the order of their numbers. What is
    /// neither here nor in a snapshot taken later has no number up to theirs.
    #[must_use]
    pub fn after(&self, seq: Seq) -> Vec<Arc<[Committed]>> {
        if self.is_empty() {
            return Vec::new();
        }
        let state = self.state();
        let is_later = |batch: &&Arc<[Committed]>| batch.last().is_some_and(|last| last.seq > seq);
        let mut batches: Vec<_> = state.batches.iter().rev().take_while(is_later).cloned().collect();
        batches.reverse();
        batches
    }

    /// Whether an event up to this number waits for the commit.
    #[must_use]
    pub fn holds(&self, seq: Seq) -> bool {
        let state = self.state();
        let first = state.batches.iter().find_map(|batch| batch.first());
        first.is_some_and(|first| first.seq <= seq)
    }

    /// Whether a query would miss an event. To be called before the query takes its snapshot.
    #[must_use]
    pub fn look(&self, filters: &[Filter]) -> Relevance {
        if self.is_empty() {
            return Relevance::Unconcerned(Seq::default());
        }
        let state = self.state();
        if state.concerns(filters) { Relevance::Concerned } else { Relevance::Unconcerned(state.last) }
    }

    /// Parks a query until the commit, and requests that. It comes back at once when everything is committed or too
    /// many are parked.
    pub fn wait<J: Into<Q>>(&self, query: J) -> Wait<J> {
        let mut state = self.state();
        if state.batches.is_empty() {
            return Wait::Over(query);
        }
        if state.waiting.len() + state.aside >= self.max_waiting {
            return if state.has_failed { Wait::Refused(query) } else { Wait::Full(query) };
        }
        state.waiting.push(query.into());
        drop(state);
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            // A writer whose queue is full checks the flag after its current batch. While commits fail it tries one
            // every few seconds, whoever waits. It ends after the readers, so nobody asks one that has ended.
            let _ = self.writer.try_send(WriteCommand::Commit);
        }
        Wait::Left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::Timestamp;
    use crate::nostr::testing::{author, trusted};
    use crate::pipeline::channel::channel;

    fn batch(first: u64, kinds: &[u16]) -> Arc<[Committed]> {
        let one =
            |(seq, kind): (u64, &u16)| Committed { seq: Seq(seq), event: trusted(author(1), *kind, seq, &[], "") };
        (first..).zip(kinds).map(one).collect()
    }

    fn of_kind(kind: u16) -> [Filter; 1] {
        [Filter { kinds: Some([Kind(kind)].into()), ..Filter::default() }]
    }

    #[test]
    fn a_query_waits_only_for_what_concerns_it() {
        let (writer, inbox) = channel(1);
        let uncommitted = Uncommitted::<char>::new(writer.downgrade(), 2);
        assert_eq!(uncommitted.look(&of_kind(1)), Relevance::Unconcerned(Seq(0)));
        let added = batch(7, &[1, 3]);
        let gone = trusted(author(2), 0, 5, &[], "");
        uncommitted.add(&added, vec![gone.view().record().into()]);
        let looks = [1, 3, 0, 4].map(|kind| uncommitted.look(&of_kind(kind)));
        assert_eq!(
            looks,
            [Relevance::Concerned, Relevance::Concerned, Relevance::Concerned, Relevance::Unconcerned(Seq(8))]
        );
        let late = [Filter { since: Some(Timestamp(9)), ..Filter::default() }];
        assert_eq!(uncommitted.look(&late), Relevance::Unconcerned(Seq(8)));
        let changes = || [&added[0].event, &gone].map(|event| uncommitted.change(&event.view().id()));
        assert_eq!(changes(), [Some(Change::Added), Some(Change::Removed)]);
        assert!(!uncommitted.is_wanted());

        let waits = ['a', 'b', 'c'].map(|query| uncommitted.wait(query));
        assert_eq!(waits, [Wait::Left, Wait::Left, Wait::Full('c')]);
        assert!(matches!(inbox.try_recv(), Some(WriteCommand::Commit)) && inbox.is_empty(), "asked for once");
        assert!(uncommitted.is_wanted());
        assert_eq!(uncommitted.clear(), ['a', 'b']);
        assert!(!uncommitted.is_wanted());
        assert_eq!(changes(), [None, None]);
        assert_eq!(uncommitted.look(&of_kind(1)), Relevance::Unconcerned(Seq(0)));
        assert_eq!(uncommitted.wait('d'), Wait::Over('d'), "there is nothing to wait for");
    }

    #[test]
    fn what_a_failed_commit_leaves_stays_listed_and_queries_wait_on_unless_they_are_over() {
        let (writer, inbox) = channel(1);
        let uncommitted = Uncommitted::<char>::new(writer.downgrade(), 3);
        uncommitted.add(&batch(1, &[1; MOST_COMPARED + 1]), Vec::new());
        assert_eq!(
            uncommitted.look(&of_kind(4)),
            Relevance::Concerned,
            "it waits for a commit rather than compare so many"
        );
        assert_eq!(['a', 'b', 'c'].map(|query| uncommitted.wait(query)), [Wait::Left; 3]);
        assert!(matches!(inbox.try_recv(), Some(WriteCommand::Commit)));
        assert_eq!(uncommitted.keep(|query| *query == 'b'), ['b']);
        let last = Seq(MOST_COMPARED as u64 + 1);
        assert_eq!(uncommitted.look(&of_kind(4)), Relevance::Unconcerned(last), "nobody knows how long it would wait");
        assert_eq!(uncommitted.look(&of_kind(1)), Relevance::Concerned);
        assert_eq!((uncommitted.holds(last), uncommitted.is_empty()), (true, false));
        assert_eq!(['d', 'e'].map(|query| uncommitted.wait(query)), [Wait::Left, Wait::Refused('e')]);
        assert!(inbox.is_empty(), "no other commit is asked for: the writer tries one every few seconds");
        assert!(uncommitted.keep(|_| false).is_empty());
        assert_eq!(uncommitted.clear(), ['a', 'c', 'd'], "in their order");
        assert!(uncommitted.is_empty() && !uncommitted.is_wanted());
        uncommitted.add(&batch(1000, &[1]), Vec::new());
        let waits = ['f', 'g', 'h', 'i'].map(|query| uncommitted.wait(query));
        assert_eq!(waits, [Wait::Left, Wait::Left, Wait::Left, Wait::Full('i')], "commits succeed again");
    }

    #[test]
    fn what_was_added_before_is_committed_although_more_follows() {
        let (writer, _inbox) = channel(1);
        let uncommitted = Uncommitted::<char>::new(writer.downgrade(), 2);
        assert!(!uncommitted.holds(uncommitted.last()), "there is nothing");
        uncommitted.add(&batch(7, &[1, 3]), Vec::new());
        let last = uncommitted.last();
        assert_eq!((last, uncommitted.holds(last), uncommitted.holds(Seq(6))), (Seq(8), true, false));
        let firsts = |seq| uncommitted.after(Seq(seq)).iter().map(|batch| batch[0].seq.0).collect::<Vec<_>>();
        assert_eq!([6, 7, 8].map(firsts), [vec![7], vec![7], vec![]]);
        drop(uncommitted.clear());
        assert_eq!(firsts(0), [0; 0]);
        uncommitted.add(&batch(9, &[1]), Vec::new());
        assert_eq!((uncommitted.holds(last), uncommitted.holds(Seq(9))), (false, true));
    }

    #[test]
    fn everybody_waits_for_a_request_to_vanish_and_for_more_events_than_are_worth_comparing() {
        let (writer, _inbox) = channel(1);
        let uncommitted = Uncommitted::<char>::new(writer.downgrade(), 2);
        uncommitted.add(&batch(1, &[62]), Vec::new());
        assert_eq!(uncommitted.look(&of_kind(4)), Relevance::Concerned);
        drop(uncommitted.clear());
        uncommitted.add(&batch(1, &[1; MOST_COMPARED]), Vec::new());
        assert_eq!(uncommitted.look(&of_kind(4)), Relevance::Unconcerned(Seq(MOST_COMPARED as u64)));
        let last = batch(1000, &[1]);
        uncommitted.add(&last, Vec::new());
        assert_eq!(uncommitted.look(&of_kind(4)), Relevance::Concerned);
        let by_id = |id| [Filter { ids: Some([id].into()), ..Filter::default() }];
        assert_eq!(uncommitted.look(&by_id(EventId([7; 32]))), Relevance::Unconcerned(Seq(1000)), "ids are looked up");
        assert_eq!(uncommitted.look(&by_id(last[0].event.view().id())), Relevance::Concerned);
    }
}
