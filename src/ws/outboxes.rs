//! All outboxes together: when they hold more than they may, the largest one of the greediest address is evicted.
//!
//! What they hold is counted without a lock (`ledger`). Only when it is too much does this module look at each of them.
//! It then frees an eighth of the bound more than needed, so that this is rare. A client that keeps up holds next to
//! nothing and is evicted last. Nothing here waits.

use std::collections::BinaryHeap;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::outgoing::Budget;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// An outbox, as far as this module needs to know one.
pub(super) trait Evict: Send + Sync {
    /// Bytes that evicting it would free, counting the bodies that it shares with others; 0 once it is closed.
    fn evictable_bytes(&self) -> u64;

    /// Closes its connection, because others need the memory.
    fn evict(&self);
}

/// The outboxes of all addresses.
#[derive(Debug)]
pub struct Outboxes {
    budget: Arc<Budget>,
    leaving_bytes: AtomicU64,
    addresses: Mutex<HashMap<IpAddr, Weak<AddressOutboxes>>>,
}

/// The outboxes of one address. It lives as long as one of them.
#[derive(Debug)]
pub(super) struct AddressOutboxes {
    all: Arc<Outboxes>,
    address: IpAddr,
    budget: Arc<Budget>,
    leaving_bytes: AtomicU64,
    outboxes: Mutex<Vec<Weak<dyn Evict>>>,
}

impl Outboxes {
    /// No outboxes yet; `budget` counts what they hold together.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, leaving_bytes: AtomicU64::new(0), addresses: Mutex::default() })
    }

    /// Adds an outbox of `address`; `budget` counts what the outboxes of that address hold.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        budget: &Arc<Budget>,
        outbox: Weak<dyn Evict>,
    ) -> Arc<AddressOutboxes> {
        let of_address = self.of_address(address, budget);
        let mut outboxes = of_address.outboxes();
        if outboxes.len() == outboxes.capacity() {
            outboxes.retain(|outbox| outbox.strong_count() > 0);
        }
        outboxes.push(outbox);
        drop(outboxes);
        of_address
    }

    fn of_address(self: &Arc<Self>, address: IpAddr, budget: &Arc<Budget>) -> Arc<AddressOutboxes> {
        let mut addresses = self.addresses();
        if let Some(found) = addresses.get(&address).and_then(Weak::upgrade) {
            return found;
        }
        let new = Arc::new(AddressOutboxes {
            all: Arc::clone(self),
            address,
            budget: Arc::clone(budget),
            leaving_bytes: AtomicU64::new(0),
            outboxes: Mutex::default(),
        });
        addresses.insert(address, Arc::downgrade(&new));
        new
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Weak<AddressOutboxes>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressOutboxes {
    fn outboxes(&self) -> MutexGuard<'_, Vec<Weak<dyn Evict>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts outboxes of this address, and then of all, until they hold no more than they may.
    pub(super) fn make_room(&self) {
        if let Some(bytes) = excess_bytes(&self.budget, &self.leaving_bytes) {
            evict(vec![self.held()], bytes);
        }
        if let Some(bytes) = excess_bytes(&self.all.budget, &self.all.leaving_bytes) {
            let addresses: Vec<_> = self.all.addresses().values().filter_map(Weak::upgrade).collect();
            evict(addresses.iter().map(|of_address| of_address.held()).collect(), bytes);
        }
    }

    /// Counts what an evicted outbox still holds until its connection has its turn.
    pub(super) fn add_leaving(&self, bytes: u64) {
        self.leaving_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.leaving_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The outbox holds that no longer.
    pub(super) fn sub_leaving(&self, bytes: u64) {
        self.leaving_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.all.leaving_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn held(&self) -> AddressShare<Arc<dyn Evict>> {
        let outboxes: Vec<_> = self.outboxes().iter().filter_map(Weak::upgrade).collect();
        AddressShare::new(outboxes.into_iter().map(|outbox| (outbox.evictable_bytes(), outbox)))
    }
}

impl Drop for AddressOutboxes {
    fn drop(&mut self) {
        let mut addresses = self.all.addresses();
        // There may be a successor already.
        if addresses.get(&self.address).is_some_and(|held| held.strong_count() == 0) {
            addresses.remove(&self.address);
        }
    }
}

/// How many bytes to free if more is held than the budget allows, not counting what is being freed already. Frees an
/// eighth of the budget more than needed, so that this is rare.
fn excess_bytes(budget: &Budget, leaving_bytes: &AtomicU64) -> Option<u64> {
    let max_bytes = budget.max_bytes().saturating_add(leaving_bytes.load(Ordering::Relaxed));
    let over = budget.used_bytes().checked_sub(max_bytes).filter(|over| *over > 0)?;
    Some(over + budget.max_bytes() / 8)
}

fn evict(held: Vec<AddressShare<Arc<dyn Evict>>>, bytes: u64) {
    victims(held, bytes).into_iter().for_each(|outbox| outbox.evict());
}

/// What one address holds.
#[derive(Debug)]
struct AddressShare<T> {
    bytes: u64,
    /// By size, the largest last; among equals, the oldest last.
    outboxes: Vec<(u64, T)>,
}

impl<T> AddressShare<T> {
    /// Takes the outboxes oldest first.
    fn new(outboxes: impl Iterator<Item = (u64, T)>) -> Self {
        let mut outboxes: Vec<_> = outboxes.filter(|(bytes, _)| *bytes > 0).collect();
        outboxes.reverse();
        outboxes.sort_by_key(|(bytes, _)| *bytes);
        Self { bytes: outboxes.iter().map(|(bytes, _)| bytes).sum(), outboxes }
    }
}

/// Which outboxes to evict so that `bytes` are freed: time after time, the largest one of the address that then holds
/// the most.
fn victims<T>(mut held: Vec<AddressShare<T>>, bytes: u64) -> Vec<T> {
    let mut ranks: BinaryHeap<(u64, usize)> = held.iter().enumerate().map(|(at, held)| (held.bytes, at)).collect();
    let (mut gone, mut freed_bytes) = (Vec::new(), 0);
    while freed_bytes < bytes
        && let Some((_, at)) = ranks.pop()
    {
        let held = &mut held[at];
        let Some((bytes, owner)) = held.outboxes.pop() else { continue };
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
    use crate::ws::{Frame, LivePush, Outbox, OutboxOptions, Overflow, RowsPush, SharedBody, Stream, Writer};

    #[test]
    fn the_largest_of_the_address_that_then_holds_the_most_goes_until_enough_is_freed() {
        let held = || {
            vec![
                AddressShare::new([(10, "a10"), (40, "a40"), (30, "a30")].into_iter()),
                AddressShare::new([(0, "closed"), (60, "b60")].into_iter()),
                AddressShare::new([(5, "c5")].into_iter()),
            ]
        };
        assert_eq!(victims(held(), 1), ["a40"]);
        assert_eq!(victims(held(), 101), ["a40", "b60", "a30"]);
        assert_eq!(victims(held(), 1_000), ["a40", "b60", "a30", "a10", "c5"]);
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
            let (outbox, writer) = Writer::with_outbox(OutboxOptions::default(), Arc::clone(budget), None);
            outbox.join(&self.all, [192, 0, 2, address].into());
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
        assert_eq!(stranger.push_live(&Stream::default(), rows(10_000)), LivePush::Taken);
        let greedy: Vec<_> = (0..100).map(|n| bench.connect(1 + n % 2)).collect();
        for (outbox, _) in &greedy {
            assert_eq!(outbox.push_rows(&Stream::default(), rows(100_000)), RowsPush::More);
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
        assert_eq!(other.push_rows(&Stream::default(), rows(200_000)), RowsPush::More);
        for (outbox, bytes) in [(&small, 100_000), (&large, 150_000), (&last, 100_000)] {
            assert_eq!(outbox.push_rows(&Stream::default(), rows(bytes)), RowsPush::More);
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
            assert_eq!(slow.push_live(&Stream::default(), body.frame(b"[", false)), LivePush::Taken);
        };
        (0..10).for_each(|_| push());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            slow_writer.poll_flush(&mut cx, Pin::new(&mut Full), usize::MAX).is_pending(),
            "it holds ten bodies now"
        );
        push();
        assert_eq!(slow.overflow(), Some(Overflow::Budget));
        assert_eq!(quick.push_rows(&Stream::default(), rows(100_000)), RowsPush::More);
        assert_eq!((quick.overflow(), bench.budget.is_over()), (None, true));
        drop(slow_writer);
        assert!(bench.budget.used_bytes() < 101_000);
    }
}
