//! One open subscription, from its REQ to its end: its stage, and where its frames go.
//!
//! Its session, the readers and the `live` thread share it. Nothing here blocks.

use crate::ledger::Hold;
use crate::live;
use crate::nostr::{SubscriptionId, reply};
use crate::sync::{Mutex, MutexGuard};
use crate::ws::Stream;

/// An open subscription of one client, shared by the threads that work for it.
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// `["EVENT",<sub>,`, rendered once.
    pub head: Box<[u8]>,
    /// Its frames: rows, EOSE, live events, and CLOSED when the relay ends it.
    pub stream: Stream,
    /// Counts its filters for as long as any thread works for it.
    memory: Hold,
    stage: Mutex<Stage>,
}

enum Stage {
    /// Stored events are on their way.
    Scanning,
    /// New events are delivered.
    Live(live::Handle),
    /// Ended by CLOSE or CLOSED, replaced, or disconnected.
    Ended,
}

impl Subscription {
    /// A subscription whose scan begins now, and whose filters are counted in `memory`.
    #[must_use]
    pub fn new(id: SubscriptionId, memory: Hold) -> Self {
        let mut head = Vec::with_capacity(16 + id.as_str().len());
        reply::event_head(&id, &mut head);
        Self { id, head: head.into(), stream: Stream::default(), memory, stage: Mutex::new(Stage::Scanning) }
    }

    /// Bytes of its filters.
    pub const fn filter_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("nothing panics while it holds a stage")
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        !self.stream.is_open()
    }

    /// Goes live through `register`, unless it has ended meanwhile.
    pub fn go_live<T>(&self, register: impl FnOnce() -> (live::Handle, T)) -> Option<T> {
        let mut stage = self.stage();
        match *stage {
            Stage::Scanning => {
                let (handle, value) = register();
                *stage = Stage::Live(handle);
                Some(value)
            }
            Stage::Live(_) | Stage::Ended => None,
        }
    }

    /// Ends it; returns its place in the live index, if it has one.
    #[must_use]
    pub fn leave(&self) -> Option<live::Handle> {
        match std::mem::replace(&mut *self.stage(), Stage::Ended) {
            Stage::Live(place) => Some(place),
            Stage::Scanning | Stage::Ended => None,
        }
    }
}
