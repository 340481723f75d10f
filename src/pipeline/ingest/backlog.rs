//! Events that wait at a thread which takes them in batches: which go next, when more wait than one batch takes.
//!
//! While all of them fit, they go in the order in which they came, and nothing is charged. Otherwise the address that
//! used least lately goes first ([`fair`](crate::pipeline::fair)), and those that used alike take turns, small events
//! before large ones, so an address with thousands of events does not hold up a stranger's one. Events of one address
//! always keep their order.
//!
//! It is bounded by the gate ([`Gate`](crate::pipeline::ingest::gate::Gate)), which every event has passed. The event
//! of a stranger waits for the batch in hand and goes with the next one, at `verify` and at `writer`. With their
//! batches of 4 and of 8 ms that is 24 ms of their work, two syncs of the log and one commit, whatever others send.
//! Only addresses that used less than [`LIGHT_US`](crate::pipeline::fair::LIGHT_US) lately, some 600 events, may go
//! before it, each with one event.

use std::net::IpAddr;

use crate::pipeline::fair::FairQueue;
use crate::pipeline::queues::{Submission, Verified};

/// Microseconds that an event takes in `verify` or in `writer`, as the work of a batch is estimated: 13 to 19 were
/// measured in both together (README.md), and about as many on a slower core.
const EVENT_US: u64 = 16;

/// Bytes of an event that take one more microsecond: they go to the log, to the store and to live.
const BYTES_PER_US: u64 = 256;

/// What a large event takes, in microseconds: it has 60 KB or more. It does not go in one batch with small ones before
/// it, which would wait for the disk as long as it does.
const LARGE_US: u64 = 256;

/// The events that wait at one thread, with the expected cost of each in microseconds; a batch takes `batch_us` of
/// them.
pub struct Backlog<T> {
    batch_us: u64,
    /// What came since the last batch, in its order.
    new: Vec<T>,
    new_us: u64,
    /// What waits since then.
    waiting: FairQueue<T>,
}

/// An event that waits.
pub trait WaitingEvent {
    /// Who sent it.
    fn address(&self) -> IpAddr;

    /// How large it is.
    fn bytes(&self) -> usize;

    /// What it is expected to take.
    fn cost_us(&self) -> u64 {
        EVENT_US + self.bytes() as u64 / BYTES_PER_US
    }

    /// Whether small events should not wait for it.
    fn is_large(&self) -> bool {
        self.cost_us() >= LARGE_US
    }
}

impl WaitingEvent for Submission {
    fn address(&self) -> IpAddr {
        self.from.address
    }

    fn bytes(&self) -> usize {
        self.event.view().record().len()
    }
}

impl WaitingEvent for Verified {
    fn address(&self) -> IpAddr {
        self.from.address
    }

    fn bytes(&self) -> usize {
        self.event.view().record().len()
    }
}

impl<T: WaitingEvent> Backlog<T> {
    /// An empty one, whose batches take about `batch_us`.
    pub fn new(batch_us: u64) -> Self {
        Self { batch_us, new: Vec::new(), new_us: 0, waiting: FairQueue::in_order() }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.waiting.is_empty()
    }

    /// Adds what came.
    pub fn add(&mut self, events: Vec<T>) {
        self.new_us += events.iter().map(WaitingEvent::cost_us).sum::<u64>();
        if self.new.is_empty() {
            self.new = events;
        } else {
            self.new.extend(events);
        }
    }

    /// Takes the next batch, of one event at the least if any waits.
    pub fn take(&mut self, now_us: u64) -> Vec<T> {
        let new_us = std::mem::take(&mut self.new_us);
        let new = std::mem::take(&mut self.new);
        if self.waiting.is_empty() && new_us <= self.batch_us {
            return new;
        }
        for event in new {
            let (address, cost_us) = (event.address(), event.cost_us());
            let refused = self.waiting.push(address, event, cost_us, now_us);
            assert!(refused.is_none(), "a queue without a bound refuses nothing");
        }
        let (mut batch, mut left_us) = (Vec::<T>::new(), self.batch_us);
        while left_us > 0
            && let Some(next) = self.waiting.peek(now_us)
        {
            if next.is_large() && batch.first().is_some_and(|first| !first.is_large()) {
                break;
            }
            batch.extend(self.waiting.pop(|cost_us| cost_us, now_us).map(|(_, event)| event));
            left_us = left_us.saturating_sub(batch.last().map_or(0, T::cost_us));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Event {
        from: u8,
        number: usize,
        bytes: usize,
    }

    impl WaitingEvent for Event {
        fn address(&self) -> IpAddr {
            [192, 0, 2, self.from].into()
        }

        fn bytes(&self) -> usize {
            self.bytes
        }
    }

    /// Batches of ten small events.
    fn backlog() -> Backlog<Event> {
        Backlog::new(10 * EVENT_US)
    }

    fn events(from: u8, numbers: std::ops::Range<usize>) -> Vec<Event> {
        numbers.map(|number| Event { from, number, bytes: 0 }).collect()
    }

    #[test]
    fn events_that_fit_in_one_batch_go_as_they_came() {
        let mut backlog = backlog();
        let came: Vec<Event> = [events(1, 0..6), events(2, 0..1), events(1, 6..9)].concat();
        backlog.add(came[..7].to_vec());
        backlog.add(came[7..].to_vec());
        assert_eq!(backlog.take(0), came);
        assert!(backlog.is_empty() && backlog.take(0).is_empty());
    }

    #[test]
    fn one_event_of_a_stranger_goes_with_the_next_batch_however_many_others_sent() {
        let mut backlog = backlog();
        (1..=50).for_each(|greedy| backlog.add(events(greedy, 0..700)));
        // Until each used more than a light user: those are served as they come.
        for _ in 0..50 * 640 / 10 {
            assert_eq!(backlog.take(0).len(), 10);
        }
        let strangers = [events(200, 0..1), events(201, 0..1)].concat();
        backlog.add(strangers.clone());
        let next = backlog.take(0);
        assert!(strangers.iter().all(|event| next[..3].contains(event)), "{next:?}");
    }

    #[test]
    fn small_events_of_strangers_go_before_large_ones_of_newcomers_and_not_in_one_batch_with_them() {
        let mut backlog = Backlog::new(8_000);
        let large = |from, number| Event { from, number, bytes: 500_000 };
        (1..=50).for_each(|newcomer| backlog.add(vec![large(newcomer, 0), large(newcomer, 1)]));
        assert_eq!(backlog.take(0), (1..=5).map(|from| large(from, 0)).collect::<Vec<_>>());
        let behind = Event { from: 7, number: 9, bytes: 0 };
        backlog.add([events(200, 0..2), vec![behind]].concat());
        assert_eq!(backlog.take(0), events(200, 0..2));
        let next = backlog.take(0);
        assert_eq!(next[..2], [large(6, 0), large(7, 0)], "an address keeps its order, though {behind:?} is small");
    }

    #[test]
    fn addresses_that_used_alike_take_turns() {
        let mut backlog = backlog();
        (1..=2).for_each(|from| backlog.add(events(from, 0..9)));
        backlog.add(events(3, 0..1));
        let order: Vec<u8> = backlog.take(0).iter().map(|event| event.from).collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn a_batch_of_large_events_is_short_and_has_one_at_the_least() {
        let mut backlog = backlog();
        let large = |number| Event { from: 1, number, bytes: 1_000 * EVENT_US as usize * BYTES_PER_US as usize };
        backlog.add((0..3).map(large).collect());
        assert_eq!(backlog.take(0), [large(0)]);
        backlog.add(events(2, 0..2));
        let next = [(); 3].map(|()| backlog.take(0));
        assert_eq!(next, [events(2, 0..2), vec![large(1)], vec![large(2)]], "it used less, and does not wait for them");
    }

    proptest! {
        #[test]
        fn every_event_goes_exactly_once_and_those_of_one_address_in_their_order(
            steps in proptest::collection::vec((1..5_u8, 0..30_usize, 0..9_000_usize), 1..60)
        ) {
            let (mut backlog, mut came, mut gone) = (backlog(), 0, Vec::new());
            for (at, (from, count, bytes)) in steps.into_iter().enumerate() {
                backlog.add((came..came + count).map(|number| Event { from, number, bytes }).collect());
                came += count;
                gone.extend(backlog.take(at as u64 * 1_000));
            }
            while !backlog.is_empty() {
                let batch = backlog.take(0);
                prop_assert!(!batch.is_empty());
                gone.extend(batch);
            }
            for from in 1..5 {
                let own = gone.iter().filter(|event| event.from == from).map(|event| event.number);
                prop_assert!(own.is_sorted());
            }
            let mut numbers: Vec<usize> = gone.iter().map(|event| event.number).collect();
            numbers.sort_unstable();
            prop_assert!(numbers.into_iter().eq(0..came));
        }
    }
}
