//! The gate in front of Q1: counts what is between the sockets and the disk.
//!
//! It never blocks: a connection that is refused stops reading and is woken when there is room.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::queues::Bounds;
use crate::ledger::Account;

/// How many events are on their way to the disk, and who waits to add more. Their bytes are counted in the account of
/// their client's address, so that one address cannot fill the gate with large events.
pub struct Ingest {
    max_events: usize,
    events: AtomicUsize,
    room: Notify,
}

impl Ingest {
    /// A gate with the bounds of Q1.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        Self { max_events: bounds.ingest_events, events: AtomicUsize::new(0), room: Notify::new() }
    }

    /// Takes a place for one event of `bytes`, or says that there is none.
    ///
    /// An event larger than a bound on bytes may enter alone: otherwise its client would wait for ever.
    pub fn try_enter(&self, memory: &Account, bytes: usize) -> bool {
        let events = self.events.fetch_add(1, Ordering::AcqRel);
        if events < self.max_events && memory.try_add_or_alone(bytes as u64) {
            return true;
        }
        self.give_back();
        false
    }

    /// Gives the place of an event back once it is answered.
    pub fn leave(&self, memory: &Account, bytes: usize) {
        memory.sub(bytes as u64);
        self.give_back();
    }

    fn give_back(&self) {
        let before = self.events.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "INV-12: more events left the gate than entered");
        self.room.notify_waiters();
    }

    /// Resolves when something left. Create it before a last [`Ingest::try_enter`], or a wake may be missed.
    pub fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Events on their way now.
    pub fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn gate(ingest_events: usize) -> Ingest {
        Ingest::new(&Bounds { ingest_events, ..Bounds::default() })
    }

    fn addresses(per_address: u64, total: u64) -> [Account; 2] {
        let all = Arc::new(Account::new(total));
        [Account::of_address(&all, per_address), Account::of_address(&all, per_address)]
    }

    #[test]
    fn the_gate_counts_events_and_bytes_in_and_out() {
        let (gate, [one, _]) = (gate(2), addresses(100, 100));
        assert!(gate.try_enter(&one, 60));
        assert!(!gate.try_enter(&one, 41));
        assert!(gate.try_enter(&one, 40));
        assert!(!gate.try_enter(&one, 0));
        gate.leave(&one, 60);
        assert!(gate.try_enter(&one, 60));
        gate.leave(&one, 60);
        gate.leave(&one, 40);
        assert_eq!((gate.events(), one.used_bytes()), (0, 0));
    }

    #[test]
    fn an_address_that_fills_its_share_leaves_room_for_a_stranger() {
        let (gate, [one, other]) = (gate(10), addresses(60, 100));
        assert!(gate.try_enter(&one, 60));
        assert!(!gate.try_enter(&one, 1));
        assert!(gate.try_enter(&other, 40));
        assert!(!gate.try_enter(&other, 1), "all together are bounded too");
        assert_eq!((gate.events(), one.used_bytes(), other.used_bytes()), (2, 60, 40));
    }

    #[test]
    fn an_event_larger_than_the_bound_enters_alone() {
        let (gate, [one, _]) = (gate(10), addresses(100, 100));
        assert!(gate.try_enter(&one, 1000));
        assert!(!gate.try_enter(&one, 1));
        gate.leave(&one, 1000);
        assert!(gate.try_enter(&one, 1));
    }

    #[tokio::test]
    async fn one_who_waits_is_woken_when_something_leaves() {
        let (gate, [one, _]) = (gate(1), addresses(100, 100));
        assert!(gate.try_enter(&one, 1));
        let room = gate.room();
        assert!(!gate.try_enter(&one, 1));
        gate.leave(&one, 1);
        room.await;
        assert!(gate.try_enter(&one, 1));
    }
}
