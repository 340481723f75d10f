//! Bounds the memory of partial messages, by address and in all.
//!
//! Nothing here waits. When there is no room, the address that holds the most loses its oldest partial message, and
//! that connection is closed. To stop reading would not help: a message that is not read further never completes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::{Bound, Key, Pool};
use crate::ws::{CloseCode, Outbox};

/// Up to this many bytes are not counted, because every read of a busy socket ends inside some message. They are part
/// of what a connection takes.
pub const FREE_BYTES: u64 = 4 << 10;

/// All partial messages.
pub struct PartialMessages {
    max_per_address: u64,
    pool: Mutex<Pool<Arc<Holder>>>,
}

/// A connection with a partial message, as others see it.
struct Holder {
    outbox: Arc<Outbox>,
    gave_way: AtomicBool,
}

impl PartialMessages {
    /// None yet.
    pub fn new(bound: Bound) -> Self {
        Self { max_per_address: bound.per_address_bytes, pool: Mutex::new(Pool::new(bound.total_bytes)) }
    }

    /// The bytes held now.
    pub fn bytes(&self) -> u64 {
        self.pool().units()
    }

    fn pool(&self) -> MutexGuard<'_, Pool<Arc<Holder>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partial message of one connection.
pub struct PartialMessage {
    address: IpAddr,
    bytes: u64,
    place: Option<(Key, Arc<Holder>)>,
}

impl PartialMessage {
    /// None yet, for a connection from the network `address`.
    pub const fn new(address: IpAddr) -> Self {
        Self { address, bytes: 0, place: None }
    }

    /// Notes that the connection holds `bytes` now. Closes the connections that must give way, possibly this one.
    pub fn hold(&mut self, all: &PartialMessages, outbox: &Arc<Outbox>, bytes: u64) {
        let bytes = if bytes > FREE_BYTES { bytes } else { 0 };
        if bytes == std::mem::replace(&mut self.bytes, bytes) {
            return;
        }
        let gone = match &self.place {
            _ if bytes == 0 => return self.leave(all),
            Some((key, _)) => all.pool().resize(self.address, *key, bytes, all.max_per_address),
            None => {
                let holder = Arc::new(Holder { outbox: Arc::clone(outbox), gave_way: AtomicBool::new(false) });
                let (key, gone) = all.pool().enter(self.address, bytes, all.max_per_address, Arc::clone(&holder));
                self.place = Some((key, holder));
                gone
            }
        };
        for gone in gone {
            gone.owner.gave_way.store(true, Ordering::Release);
            // Wakes its task, which releases the memory.
            gone.owner.outbox.close(CloseCode::Again, "too much memory is held by messages that are not complete");
        }
    }

    /// Whether the connection must release its memory.
    pub fn gave_way(&self) -> bool {
        self.place.as_ref().is_some_and(|(_, holder)| holder.gave_way.load(Ordering::Acquire))
    }

    /// Notes that the connection holds nothing any more.
    pub fn leave(&mut self, all: &PartialMessages) {
        self.bytes = 0;
        if let Some((key, _)) = self.place.take() {
            all.pool().leave(self.address, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{Budget, OutboxOptions, Writer};

    #[test]
    fn the_oldest_part_of_the_greediest_address_is_given_up_and_its_connection_closed() {
        let all = PartialMessages::new(Bound { per_address_bytes: 100_000, total_bytes: 150_000 });
        let connect = |last: u8| {
            let (outbox, writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
            (PartialMessage::new([192, 0, 2, last].into()), outbox, writer)
        };
        let mut parts = [1, 1, 2, 3].map(connect);
        let hold = |parts: &mut [(PartialMessage, Arc<Outbox>, _); 4], at: usize, bytes| {
            let (part, outbox, _) = &mut parts[at];
            part.hold(&all, outbox, bytes);
            parts.each_ref().map(|(part, outbox, _)| (part.gave_way(), outbox.is_closed()))
        };
        let (stays, goes) = ((false, false), (true, true));
        assert_eq!(hold(&mut parts, 0, FREE_BYTES), [stays; 4]);
        assert_eq!(all.bytes(), 0, "a few bytes are the connection's own");
        assert_eq!(hold(&mut parts, 0, 50_000), [stays; 4]);
        assert_eq!(hold(&mut parts, 1, 50_000), [stays; 4]);
        assert_eq!(hold(&mut parts, 2, 50_000), [stays; 4]);
        assert_eq!(hold(&mut parts, 3, 20_000), [goes, stays, stays, stays]);
        assert_eq!(all.bytes(), 120_000);
        assert_eq!(hold(&mut parts, 1, 110_000), [goes, goes, stays, stays], "an address has a bound of its own");
        assert_eq!(hold(&mut parts, 2, 0), [goes, goes, stays, stays]);
        parts.iter_mut().for_each(|(part, ..)| part.leave(&all));
        assert_eq!(all.bytes(), 0);
    }
}
