//! The gate in front of Q1: it counts the events between the sockets and the disk.
//!
//! It never blocks: a connection that it refuses stops reading and is woken when there is room.
//!
//! An address may hold as many events as it leaves free: a single one gets half of the gate, and `n` that flood it get
//! 1/(n + 1) each and leave as much. But the first of them to look when many events leave at once takes half of that
//! room, the next half of the rest, and one of which all events left takes the last place. So a sixteenth is kept for
//! addresses that hold none, for one event each: up to so many addresses, a stranger always finds room. Bytes are
//! counted in the account of the address, which has its own bound, and of all, of which a sixteenth is kept likewise.
//!
//! While it is closed, nobody enters, and what is inside leaves as usual: so a relay that hands over empties it.

use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use crate::ledger::Address;
use crate::pipeline::queues::Bounds;
use crate::sync::{Mutex, MutexGuard};

/// The part of the gate that is kept for addresses that hold nothing there.
const KEPT_PARTS: usize = 16;

/// How many events are on their way to the disk, and which connections wait to add more.
pub struct Gate {
    max_events: usize,
    /// What one address holds changes under the same lock, so deciding and counting are one step.
    state: Mutex<State>,
    room: Notify,
}

#[derive(Default)]
struct State {
    /// Events of all addresses.
    events: usize,
    is_closed: bool,
}

impl Gate {
    /// A gate with the bounds of Q1.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        Self { max_events: bounds.ingest_events, state: Mutex::default(), room: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the gate, but for an invariant that ends the process")
    }

    /// Takes a place for one event of `bytes`; `false` if there is none, which changes nothing and wakes nobody.
    ///
    /// An event larger than a bound on bytes may enter alone; otherwise its client would wait forever.
    pub fn try_enter(&self, address: &Address, bytes: usize) -> bool {
        let mut all = self.state();
        let own = address.events.load(Ordering::Relaxed);
        let kept_parts = if own == 0 { usize::MAX } else { KEPT_PARTS };
        let has_room = !all.is_closed
            && all.events + own < self.max_events - self.max_events / kept_parts
            && address.waiting_events.try_add_or_alone(bytes as u64, kept_parts as u64);
        if has_room {
            all.events += 1;
            address.events.store(own + 1, Ordering::Relaxed);
        }
        has_room
    }

    /// Frees the places of events once they are answered, each with the bytes that it entered with.
    pub fn leave<'a>(&self, events: impl IntoIterator<Item = (&'a Address, usize)>) {
        let mut all = self.state();
        for (address, bytes) in events {
            let own = address.events.load(Ordering::Relaxed);
            assert!(own > 0 && all.events > 0, "INV-12: more events left the gate than entered");
            address.events.store(own - 1, Ordering::Relaxed);
            address.waiting_events.sub(bytes as u64);
            all.events -= 1;
        }
        drop(all);
        self.wake();
    }

    /// Lets nobody in until [`Gate::open`].
    pub fn close(&self) {
        self.state().is_closed = true;
    }

    /// Lets events in again.
    pub fn open(&self) {
        self.state().is_closed = false;
        self.wake();
    }

    /// Whether nobody is let in.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Lets those that wait for room look again.
    pub fn wake(&self) {
        self.room.notify_waiters();
    }

    /// Resolves when an event leaves or the gate opens. Create it before the last [`Gate::try_enter`], or a wake-up may
    /// be missed.
    pub fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Events on their way now.
    pub fn events(&self) -> usize {
        self.state().events
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{Bound, Ledger, Options};

    fn gate(ingest_events: usize) -> Gate {
        Gate::new(&Bounds { ingest_events, ..Bounds::default() })
    }

    fn addresses(count: u8, per_address_bytes: u64, total_bytes: u64) -> Vec<Arc<Address>> {
        let waiting_events = Bound { per_address_bytes, total_bytes };
        let ledger = Ledger::new(Options { waiting_events, ..Options::default() });
        (0..count).map(|last| ledger.address([192, 0, 2, last].into())).collect()
    }

    fn used(address: &Address) -> (usize, u64) {
        (address.events.load(Ordering::Relaxed), address.waiting_events.used_bytes())
    }

    /// Events of one byte that each address gets in, if all try as often as they can, taking turns.
    fn flood(gate: &Gate, addresses: &[Arc<Address>]) -> Vec<usize> {
        let mut before = usize::MAX;
        while before != gate.events() {
            before = gate.events();
            for address in addresses {
                gate.try_enter(address, 1);
            }
        }
        addresses.iter().map(|address| used(address).0).collect()
    }

    #[test]
    fn the_gate_counts_events_and_bytes_in_and_out() {
        let (gate, addresses) = (gate(4), addresses(2, 100, 200));
        let [one, other] = &addresses[..] else { unreachable!("two") };
        assert!(gate.try_enter(one, 60));
        assert!(!gate.try_enter(one, 41));
        assert!(gate.try_enter(one, 40));
        assert!(!gate.try_enter(one, 0), "it leaves no more than it holds");
        assert!(gate.try_enter(other, 0));
        assert_eq!((gate.events(), used(one), used(other)), (3, (2, 100), (1, 0)));
        gate.leave([(&**one, 60), (&**other, 0)]);
        assert!(gate.try_enter(one, 60));
        gate.leave([(&**one, 60), (&**one, 40)]);
        assert_eq!((gate.events(), used(one), used(other)), (0, (0, 0), (0, 0)));
    }

    #[test]
    fn however_many_events_some_addresses_send_there_is_room_for_another() {
        for (greedy, share) in [(1, 1920), (15, 240), (63, 60)] {
            let (gate, addresses) = (gate(4096), addresses(greedy + 1, 1 << 20, 1 << 20));
            let (stranger, greedy) = addresses.split_last().expect("one at the least");
            assert!(flood(&gate, greedy).iter().all(|events| *events == share));
            assert!(gate.try_enter(stranger, 1), "beside {}", greedy.len());
        }
    }

    /// They look in the same order each time, and what leaves is not spread evenly: so the shares do not stay alike.
    #[test]
    fn a_stranger_finds_room_whenever_it_looks_while_others_take_what_leaves() {
        for bytes in [1, 4_000] {
            let (gate, addresses) = (gate(4096), addresses(61, 1 << 20, 8 << 20));
            let (stranger, greedy) = addresses.split_last().expect("one at the least");
            for round in 0..500 {
                while greedy.iter().filter(|address| gate.try_enter(address, bytes)).count() > 0 {}
                assert!(gate.try_enter(stranger, bytes), "{bytes} bytes each, round {round}");
                gate.leave([(&**stranger, bytes)]);
                for address in greedy.iter().cycle().skip(round * 7 % 60).take(11) {
                    gate.leave((0..used(address).0).map(|_| (&**address, bytes)));
                }
            }
        }
    }

    #[test]
    fn an_address_that_fills_its_share_of_the_bytes_leaves_room_for_a_stranger() {
        let (gate, addresses) = (gate(10), addresses(2, 60, 100));
        let [one, other] = &addresses[..] else { unreachable!("two") };
        assert!(gate.try_enter(one, 60));
        assert!(!gate.try_enter(one, 1));
        assert!(gate.try_enter(other, 40));
        assert!(!gate.try_enter(other, 1), "all together are bounded too");
        assert_eq!((gate.events(), used(one), used(other)), (2, (1, 60), (1, 40)));
    }

    #[test]
    fn an_event_larger_than_the_bound_enters_alone() {
        let (gate, addresses) = (gate(10), addresses(1, 100, 100));
        let one = &addresses[0];
        assert!(gate.try_enter(one, 1000));
        assert!(!gate.try_enter(one, 1));
        gate.leave([(&**one, 1000)]);
        assert!(gate.try_enter(one, 1));
    }

    #[tokio::test]
    async fn one_who_waits_is_woken_when_something_leaves_and_by_nobody_who_is_refused() {
        let (gate, addresses) = (gate(1), addresses(2, 100, 100));
        let [one, other] = &addresses[..] else { unreachable!("two") };
        assert!(gate.try_enter(one, 1));
        let mut room = Box::pin(gate.room());
        let mut polled = || room.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled().is_pending());
        assert!(!gate.try_enter(one, 1) && !gate.try_enter(other, 1));
        assert!(polled().is_pending(), "or two that wait would wake each other for ever");
        gate.leave([(&**one, 1)]);
        room.await;
        assert!(gate.try_enter(other, 1));
    }

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_in_and_everybody_out_and_wakes_who_waits_when_it_opens() {
        let (gate, addresses) = (gate(4), addresses(2, 100, 100));
        let [one, other] = &addresses[..] else { unreachable!("two") };
        assert!(gate.try_enter(one, 1));
        gate.close();
        assert!(!gate.try_enter(other, 1) && gate.is_closed());
        assert_eq!(used(other), (0, 0), "a refusal changes nothing");
        gate.leave([(&**one, 1)]);
        assert!(!gate.try_enter(other, 1) && gate.events() == 0);
        let mut room = Box::pin(gate.room());
        assert!(room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        gate.open();
        room.await;
        assert!(gate.try_enter(other, 1) && !gate.is_closed());
    }

    proptest! {
        /// Addresses that enter and leave as they like, against lists of who is in.
        #[test]
        fn an_address_enters_exactly_while_it_holds_fewer_than_are_free(
            steps in proptest::collection::vec((0..5_usize, proptest::bool::ANY), 1..200)
        ) {
            let (max, kept, addresses) = (32, 2, addresses(5, 1 << 20, 1 << 20));
            let (gate, mut inside) = (gate(max), Vec::new());
            for (who, enters) in steps {
                let own = inside.iter().filter(|other| **other == who).count();
                if enters {
                    let has_room = inside.len() + own < if own == 0 { max } else { max - kept };
                    prop_assert_eq!(gate.try_enter(&addresses[who], 1), has_room);
                    inside.extend(has_room.then_some(who));
                } else if let Some(at) = inside.iter().position(|other| *other == who) {
                    inside.remove(at);
                    gate.leave([(&*addresses[who], 1)]);
                }
                prop_assert_eq!(gate.events(), inside.len());
            }
        }
    }
}
