//! The gate in front of Q1: counts what is between the sockets and the disk.
//!
//! It never blocks: a connection that is refused stops reading and is woken when there is room.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::queues::Bounds;

/// How many events and bytes are on their way to the disk, and who waits to add more.
pub struct Ingest {
    max_events: usize,
    max_bytes: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
    room: Notify,
}

impl Ingest {
    /// A gate with the bounds of Q1.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            max_events: bounds.ingest_events,
            max_bytes: bounds.ingest_bytes,
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// Takes a place for one event, or says that there is none.
    ///
    /// An event larger than all of `ingest_bytes` may enter alone: otherwise its client would wait for ever.
    pub fn try_enter(&self, bytes: usize) -> bool {
        let events = self.events.fetch_add(1, Ordering::AcqRel);
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if events < self.max_events && (held + bytes <= self.max_bytes || events == 0) {
            return true;
        }
        self.leave(1, bytes);
        false
    }

    /// Gives places back once events are answered.
    pub fn leave(&self, events: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let before = self.events.fetch_sub(events, Ordering::AcqRel);
        assert!(before >= events, "INV-12: more events left the gate than entered");
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

    /// Bytes of those events.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(ingest_events: usize, ingest_bytes: usize) -> Ingest {
        Ingest::new(&Bounds { ingest_events, ingest_bytes, ..Bounds::default() })
    }

    #[test]
    fn the_gate_counts_events_and_bytes_in_and_out() {
        let gate = gate(2, 100);
        assert!(gate.try_enter(60));
        assert!(!gate.try_enter(41));
        assert!(gate.try_enter(40));
        assert!(!gate.try_enter(0));
        gate.leave(1, 60);
        assert!(gate.try_enter(60));
        gate.leave(2, 100);
        assert_eq!((gate.events(), gate.bytes()), (0, 0));
    }

    #[test]
    fn an_event_larger_than_the_bound_enters_alone() {
        let gate = gate(10, 100);
        assert!(gate.try_enter(1000));
        assert!(!gate.try_enter(1));
        gate.leave(1, 1000);
        assert!(gate.try_enter(1));
    }

    #[tokio::test]
    async fn one_who_waits_is_woken_when_something_leaves() {
        let gate = gate(1, 100);
        assert!(gate.try_enter(1));
        let room = gate.room();
        assert!(!gate.try_enter(1));
        gate.leave(1, 1);
        room.await;
        assert!(gate.try_enter(1));
    }
}
