//! What passes through this relay and is of interest to its neighbours in a cluster: that events arrived, and ephemeral
//! events, which no store holds.
//!
//! It never waits and costs one load of a flag while there is no cluster. Ephemeral events that nobody takes are
//! dropped and counted: nothing promises their delivery.

use std::collections::VecDeque;

use tokio::sync::Notify;

use crate::nostr::VerifiedEvent;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// The most ephemeral events that wait, and their bytes.
const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Default)]
pub struct Outward {
    is_on: AtomicBool,
    news: Notify,
    waiting: Mutex<QueuedEvents>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct QueuedEvents {
    events: VecDeque<VerifiedEvent>,
    bytes: usize,
}

impl Outward {
    /// The most bytes that wait here.
    pub const BYTES: usize = MAX_BYTES;

    fn waiting(&self) -> MutexGuard<'_, QueuedEvents> {
        self.waiting.lock().expect("nothing panics while it holds the ephemeral events")
    }

    /// From now on somebody takes what is here, or nobody does any more.
    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Release);
        if !is_on {
            *self.waiting() = QueuedEvents::default();
        }
    }

    /// Whether somebody takes what is here.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Events have arrived in the store.
    pub fn arrived(&self) {
        if self.is_on() {
            self.news.notify_one();
        }
    }

    /// Takes an ephemeral event, unless there is no room.
    pub fn ephemeral(&self, event: &VerifiedEvent) {
        let bytes = event.view().record().len();
        let mut waiting = self.waiting();
        if waiting.events.len() >= MAX_EVENTS || waiting.bytes + bytes > MAX_BYTES {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.events.push_back(event.clone());
        drop(waiting);
        self.news.notify_one();
    }

    /// Takes the ephemeral events that wait, in their order.
    #[must_use]
    pub fn take(&self) -> Vec<VerifiedEvent> {
        std::mem::take(&mut *self.waiting()).events.into()
    }

    /// Ephemeral events that found no room, since the last call.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Resolves once something has happened since the last time it did. For one task alone.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, trusted};

    #[test]
    fn ephemeral_events_wait_in_their_order_and_those_that_find_no_room_are_counted() {
        let outward = Outward::default();
        let event = |n: u64| trusted(author(1), 20_001, n, &[], "");
        (0..MAX_EVENTS as u64 + 3).for_each(|n| outward.ephemeral(&event(n)));
        let times: Vec<u64> = outward.take().iter().map(|event| event.view().created_at().0).collect();
        assert_eq!(times, (0..MAX_EVENTS as u64).collect::<Vec<_>>());
        assert_eq!((outward.take_dropped(), outward.take_dropped()), (3, 0));
        let large = "x".repeat(MAX_BYTES / 2);
        (0..2).for_each(|n| outward.ephemeral(&trusted(author(1), 20_001, n, &[], &large)));
        assert_eq!((outward.take().len(), outward.take_dropped()), (1, 1));
        outward.ephemeral(&event(7));
        outward.turn(false);
        assert!(outward.take().is_empty(), "nobody takes them any more");
    }
}
