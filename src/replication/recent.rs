//! The events that a relay has shown lately, or that other nodes have brought, so that they are not sent back.
//!
//! Bounded: the oldest are forgotten, and then whoever gets an event back calls it a duplicate.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::nostr::EventId;

/// Events remembered of one relay: about a megabyte.
const MAX_RECENT: usize = 1 << 15;

/// The ids of the last events that a relay has shown, shortened to 8 bytes. Shared by all links to one relay.
pub struct Recent {
    inner: Mutex<Inner>,
    most: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self::of(MAX_RECENT)
    }
}

#[derive(Default)]
struct Inner {
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

/// Half of 16 bytes would do: an id that meets another by chance is not sent to a relay that lacks it, once in 10^15.
fn short(id: &EventId) -> u64 {
    let (head, _) = id.0.split_first_chunk().expect("an id has 32 bytes");
    u64::from_le_bytes(*head)
}

impl Recent {
    /// Remembers so many.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { inner: Mutex::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay has shown this event.
    pub fn note(&self, id: &EventId) {
        let mut inner = self.lock();
        if !inner.ids.insert(short(id)) {
            return;
        }
        inner.order.push_back(short(id));
        if inner.order.len() > self.most
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.ids.remove(&oldest);
        }
    }

    /// Whether the relay has shown this event lately.
    #[must_use]
    pub fn has(&self, id: &EventId) -> bool {
        self.lock().ids.contains(&short(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        EventId(std::array::from_fn(|at| n.to_le_bytes()[at % 8]))
    }

    #[test]
    fn what_was_shown_lately_is_known_and_the_oldest_is_forgotten() {
        let recent = Recent::default();
        for n in 0..MAX_RECENT as u64 {
            recent.note(&id(n));
            recent.note(&id(n));
        }
        assert!(recent.has(&id(0)) && !recent.has(&id(MAX_RECENT as u64)));
        recent.note(&id(MAX_RECENT as u64));
        assert!(!recent.has(&id(0)) && recent.has(&id(1)) && recent.has(&id(MAX_RECENT as u64)));
        let inner = recent.lock();
        assert_eq!((inner.ids.len(), inner.order.len()), (MAX_RECENT, MAX_RECENT));
    }
}
