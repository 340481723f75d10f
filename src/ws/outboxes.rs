//! All outboxes together: when they hold more than they may, the largest one of the greediest address gives way.
//!
//! What they hold is counted without a lock (`ledger`). Only when it is too much are they looked at, one after the
//! other, and then an eighth of the bound is freed at once, so that this is rare. A client that keeps up holds next to
//! nothing and is the last to go. Nothing here waits.

use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hashbrown::HashMap;

use super::outbox::Outbox;
use super::outgoing::Budget;

/// The outboxes of all addresses.
#[derive(Debug)]
pub struct Outboxes {
    budget: Arc<Budget>,
    leaving_bytes: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, Weak<Neighbours>>>,
}

/// The outboxes of one address, which live as long as one of them.
#[derive(Debug)]
pub(super) struct Neighbours {
    all: Arc<Outboxes>,
    address: IpAddr,
    budget: Arc<Budget>,
    leaving_bytes: AtomicU64,
    outboxes: Mutex<Vec<Weak<Outbox>>>,
}

impl Outboxes {
    /// None yet; what they hold together is counted in `budget`.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, leaving_bytes: AtomicU64::new(0), addresses: Mutex::default() })
    }

    /// Puts an outbox of `address` among all; what those of the address hold is counted in `budget`.
    pub fn enter(self: &Arc<Self>, address: IpAddr, budget: &Arc<Budget>, outbox: &Arc<Outbox>) {
        let neighbours = self.neighbours(address, budget);
        let mut outboxes = neighbours.outboxes();
        if outboxes.len() == outboxes.capacity() {
            outboxes.retain(|outbox| outbox.strong_count() > 0);
        }
        outboxes.push(Arc::downgrade(outbox));
        drop(outboxes);
        outbox.join(neighbours);
    }

    fn neighbours(self: &Arc<Self>, address: IpAddr, budget: &Arc<Budget>) -> Arc<Neighbours> {
        let mut addresses = self.addresses();
        if let Some(neighbours) = addresses.get(&address).and_then(Weak::upgrade) {
            return neighbours;
        }
        let neighbours = Arc::new(Neighbours {
            all: Arc::clone(self),
            address,
            budget: Arc::clone(budget),
            leaving_bytes: AtomicU64::new(0),
            outboxes: Mutex::default(),
        });
        addresses.insert(address, Arc::downgrade(&neighbours));
        neighbours
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Weak<Neighbours>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours {
    fn outboxes(&self) -> MutexGuard<'_, Vec<Weak<Outbox>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the outboxes of this address, and all, to their bounds.
    pub(super) fn make_room(&self) {
        if let Some(bytes) = excess_bytes(&self.budget, &self.leaving_bytes) {
            give_way(vec![self.held()], bytes);
        }
        if let Some(bytes) = excess_bytes(&self.all.budget, &self.all.leaving_bytes) {
            let addresses: Vec<_> = self.all.addresses().values().filter_map(Weak::upgrade).collect();
            give_way(addresses.iter().map(|neighbours| neighbours.held()).collect(), bytes);
        }
    }

    /// Counts what an outbox gave up and still holds, until its connection has its turn.
    pub(super) fn leaving(&self, bytes: u64) {
        self.leaving_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.leaving_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It holds that no longer.
    pub(super) fn left(&self, bytes: u64) {
        self.leaving_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.all.leaving_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn held(&self) -> Held<Arc<Outbox>> {
        let outboxes: Vec<_> = self.outboxes().iter().filter_map(Weak::upgrade).collect();
        Held::new(outboxes.into_iter().map(|outbox| (outbox.yielded_bytes(), outbox)))
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        let mut addresses = self.all.addresses();
        // A successor may stand there already.
        if addresses.get(&self.address).is_some_and(|held| held.strong_count() == 0) {
            addresses.remove(&self.address);
        }
    }
}

/// How much must go, if more is held than the bound allows, besides what goes already: down to seven eighths.
fn excess_bytes(budget: &Budget, leaving_bytes: &AtomicU64) -> Option<u64> {
    let max_bytes = budget.max_bytes().saturating_add(leaving_bytes.load(Ordering::Relaxed));
    let over = budget.used_bytes().checked_sub(max_bytes).filter(|over| *over > 0)?;
    Some(over + budget.max_bytes() / 8)
}

fn give_way(held: Vec<Held<Arc<Outbox>>>, bytes: u64) {
    greediest(held, bytes).into_iter().for_each(|outbox| outbox.give_way());
}

/// What one address holds.
#[derive(Debug)]
struct Held<T> {
    bytes: u64,
    /// The largest one last, of equals the oldest.
    places: Vec<(u64, T)>,
}

impl<T> Held<T> {
    /// The oldest place comes first.
    fn new(places: impl Iterator<Item = (u64, T)>) -> Self {
        let mut places: Vec<_> = places.filter(|(bytes, _)| *bytes > 0).collect();
        places.reverse();
        places.sort_by_key(|(bytes, _)| *bytes);
        Self { bytes: places.iter().map(|(bytes, _)| bytes).sum(), places }
    }
}

/// Who must give way so that `bytes` are freed: each time the largest of the address that then holds the most.
fn greediest<T>(mut held: Vec<Held<T>>, bytes: u64) -> Vec<T> {
    let mut ranks: BinaryHeap<(u64, usize)> = held.iter().enumerate().map(|(at, held)| (held.bytes, at)).collect();
    let (mut gone, mut freed_bytes) = (Vec::new(), 0);
    while freed_bytes < bytes
        && let Some((_, at)) = ranks.pop()
    {
        let held = &mut held[at];
        let Some((bytes, owner)) = held.places.pop() else { continue };
        held.bytes -= bytes;
        freed_bytes += bytes;
        gone.push(owner);
        ranks.push((held.bytes, at));
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tokio::io::AsyncWrite;

    use super::*;
    use crate::ws::{Frame, Live, OutboxOptions, Overflow, Rows, SharedBody, Stream, Writer};

    #[test]
    fn the_largest_of_the_address_that_then_holds_the_most_goes_until_enough_is_freed() {
        let held = || {
            vec![
                Held::new([(10, "a10"), (40, "a40"), (30, "a30")].into_iter()),
                Held::new([(0, "closed"), (60, "b60")].into_iter()),
                Held::new([(5, "c5")].into_iter()),
            ]
        };
        assert_eq!(greediest(held(), 1), ["a40"]);
        assert_eq!(greediest(held(), 101), ["a40", "b60", "a30"]);
        assert_eq!(greediest(held(), 1_000), ["a40", "b60", "a30", "a10", "c5"]);
    }

    struct Bench {
        budget: Arc<Budget>,
        all: Arc<Outboxes>,
        addresses: [Arc<Budget>; 3],
    }

    impl Bench {
        fn new(per_address: u64, total: u64) -> Self {
            let budget = Arc::new(Budget::new(total));
            let addresses = [(); 3].map(|()| Arc::new(Budget::of_address(&budget, per_address)));
            Self { all: Outboxes::new(Arc::clone(&budget)), budget, addresses }
        }

        fn connect(&self, address: u8) -> (Arc<Outbox>, Writer) {
            let budget = &self.addresses[usize::from(address)];
            let (outbox, writer) = Outbox::new(OutboxOptions::default(), Arc::clone(budget), None);
            self.all.enter([192, 0, 2, address].into(), budget, &outbox);
            (outbox, writer)
        }
    }

    fn rows(bytes: usize) -> Frame {
        Frame::encoded(vec![b' '; bytes])
    }

    /// Each is below its low water: none was ever slow by itself.
    #[test]
    fn many_small_outboxes_never_hold_more_than_all_may_and_a_stranger_stays() {
        let bench = Bench::new(1 << 20, 1 << 20);
        let (stranger, _writer) = bench.connect(0);
        assert_eq!(stranger.push_live(&Stream::default(), rows(10_000)), Live::Taken);
        let greedy: Vec<_> = (0..100).map(|n| bench.connect(1 + n % 2)).collect();
        for (outbox, _) in &greedy {
            assert_eq!(outbox.push_rows(&Stream::default(), rows(100_000)), Rows::More);
            assert!(bench.budget.used_bytes() <= 1 << 20, "{}", bench.budget.used_bytes());
        }
        let closed = greedy.iter().filter(|(outbox, _)| outbox.overflow() == Some(Overflow::Budget)).count();
        assert!((90..95).contains(&closed), "{closed}: a MiB holds ten of them, and an eighth is freed at a time");
        assert!(!stranger.is_closed());
        drop((greedy, stranger, _writer));
        assert_eq!(bench.budget.used_bytes(), 0);
        assert_eq!((bench.all.leaving_bytes.load(Ordering::Relaxed), bench.all.addresses().len()), (0, 0));
    }

    #[test]
    fn outboxes_of_one_address_give_way_among_themselves() {
        let bench = Bench::new(300_000, 1 << 30);
        let [(small, _a), (large, _b), (last, _c), (other, _d)] = [1, 1, 1, 2].map(|address| bench.connect(address));
        assert_eq!(other.push_rows(&Stream::default(), rows(200_000)), Rows::More);
        for (outbox, bytes) in [(&small, 100_000), (&large, 150_000), (&last, 100_000)] {
            assert_eq!(outbox.push_rows(&Stream::default(), rows(bytes)), Rows::More);
        }
        assert_eq!([&small, &large, &last, &other].map(|outbox| outbox.is_closed()), [false, true, false, false]);
    }

    /// A socket that takes nothing.
    struct Full;

    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }
    }

    /// What was given up is freed when the connection has its turn; nobody else goes for it meanwhile.
    #[test]
    fn what_is_about_to_be_freed_costs_nobody_else_his_place() {
        let bench = Bench::new(1 << 20, 1 << 20);
        let [(slow, mut slow_writer), (quick, _quick_writer)] = [1, 2].map(|address| bench.connect(address));
        let push = || {
            let body = SharedBody::new(vec![b'x'; 100_000], &bench.budget);
            assert_eq!(slow.push_live(&Stream::default(), body.frame(b"[", false)), Live::Taken);
        };
        (0..10).for_each(|_| push());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(slow_writer.poll_flush(&mut cx, Pin::new(&mut Full)).is_pending(), "it holds ten bodies now");
        push();
        assert_eq!(slow.overflow(), Some(Overflow::Budget));
        assert_eq!(quick.push_rows(&Stream::default(), rows(100_000)), Rows::More);
        assert_eq!((quick.overflow(), bench.budget.is_over()), (None, true));
        drop(slow_writer);
        assert!(bench.budget.used_bytes() < 101_000);
    }
}
