//! A resource that is limited in total and per address. When it is full, the largest holder is evicted.
//!
//! A newcomer is never refused. Instead the oldest place of the address that holds the most is evicted, so an address
//! that takes more than others loses its own places, and others find room. Nothing here blocks or reads a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;

/// Identifies a place. Keys are never reused, and older places have lower keys.
pub type Key = u64;

/// Places by address, each with its units (sockets, bytes) and a handle to its owner.
///
/// Every operation takes logarithmic time in the number of places, including the choice of whom to evict.
#[derive(Debug)]
pub struct Pool<T> {
    max: u64,
    total: u64,
    next: Key,
    addresses: HashMap<IpAddr, AddressPlaces<T>>,
    /// Every address by the units it holds, the largest last; among equals, the one with the oldest place last.
    ranks: BTreeSet<Rank>,
}

type Rank = (u64, Reverse<Key>, IpAddr);

/// The places of one address, at least one.
#[derive(Debug)]
struct AddressPlaces<T> {
    units: u64,
    places: BTreeMap<Key, (u64, T)>,
}

impl<T> AddressPlaces<T> {
    const fn new() -> Self {
        Self { units: 0, places: BTreeMap::new() }
    }

    fn rank(&self, address: IpAddr) -> Option<Rank> {
        self.places.first_key_value().map(|(oldest, _)| (self.units, Reverse(*oldest), address))
    }
}

/// An evicted place.
#[derive(Debug, PartialEq, Eq)]
pub struct EvictedPlace<T> {
    /// The handle to its owner, who must be told.
    pub owner: T,
    /// The address that held it.
    pub address: IpAddr,
    /// Whether the address exceeded its own bound, rather than all addresses together theirs.
    pub address_is_full: bool,
}

impl<T> Pool<T> {
    /// A pool of `max` units.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, total: 0, next: 0, addresses: HashMap::new(), ranks: BTreeSet::new() }
    }

    /// Units in use.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.total
    }

    /// Units that `address` uses.
    #[must_use]
    pub fn units_of(&self, address: IpAddr) -> u64 {
        self.addresses.get(&address).map_or(0, |held| held.units)
    }

    /// Adds a place of `units` for `address`, which may use `max_of_address`. Returns the places that were evicted for
    /// it; the new one itself may be among them.
    pub fn enter(&mut self, address: IpAddr, units: u64, max_of_address: u64, owner: T) -> (Key, Vec<EvictedPlace<T>>) {
        let key = self.next;
        self.next += 1;
        self.change(address, |held| held.places.insert(key, (0, owner)).is_some());
        (key, self.resize(address, key, units, max_of_address))
    }

    /// Changes the units of a place and returns evicted places like [`Pool::enter`]. Does nothing if the place is gone.
    pub fn resize(&mut self, address: IpAddr, key: Key, units: u64, max_of_address: u64) -> Vec<EvictedPlace<T>> {
        let set = |held: &mut AddressPlaces<T>| {
            let place = held.places.get_mut(&key)?;
            let before = std::mem::replace(&mut place.0, units);
            held.units = held.units - before + units;
            Some(before)
        };
        let Some(before) = self.change(address, set) else { return Vec::new() };
        self.total = self.total - before + units;
        let mut evicted = Vec::new();
        while self.units_of(address) > max_of_address {
            let Some(owner) = self.evict_oldest(address) else { break };
            evicted.push(EvictedPlace { owner, address, address_is_full: true });
        }
        while self.total > self.max {
            let Some(largest) = self.evict_largest() else { break };
            evicted.push(largest);
        }
        evicted
    }

    /// Removes a place. Does nothing if it is gone.
    pub fn leave(&mut self, address: IpAddr, key: Key) {
        self.take(address, key);
    }

    /// Evicts the oldest place of the address that holds the most; `None` when there is none.
    pub fn evict_largest(&mut self) -> Option<EvictedPlace<T>> {
        let (_, _, address) = *self.ranks.last()?;
        self.evict_oldest(address).map(|owner| EvictedPlace { owner, address, address_is_full: false })
    }

    fn evict_oldest(&mut self, address: IpAddr) -> Option<T> {
        let (oldest, _) = self.addresses.get(&address)?.places.first_key_value()?;
        self.take(address, *oldest)
    }

    fn take(&mut self, address: IpAddr, key: Key) -> Option<T> {
        let (units, owner) = self.change(address, |held| {
            let (units, owner) = held.places.remove(&key)?;
            held.units -= units;
            Some((units, owner))
        })?;
        self.total -= units;
        Some(owner)
    }

    /// Changes the places of an address and updates its rank.
    fn change<R>(&mut self, address: IpAddr, change: impl FnOnce(&mut AddressPlaces<T>) -> R) -> R {
        let held = self.addresses.entry(address).or_insert_with(AddressPlaces::new);
        let before = held.rank(address);
        let changed = change(held);
        let after = held.rank(address);
        if after.is_none() {
            self.addresses.remove(&address);
        }
        if before != after {
            if let Some(before) = before {
                self.ranks.remove(&before);
            }
            self.ranks.extend(after);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_BOUND: u64 = u64::MAX;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn owners<T>(evicted: Vec<EvictedPlace<T>>) -> Vec<(T, bool)> {
        evicted.into_iter().map(|place| (place.owner, place.address_is_full)).collect()
    }

    #[test]
    fn the_oldest_place_of_the_largest_holder_is_evicted_and_a_stranger_stays() {
        let mut pool = Pool::new(4);
        for owner in ["a1", "a2", "a3"] {
            assert_eq!(owners(pool.enter(address(1), 1, NO_BOUND, owner).1), []);
        }
        assert_eq!(owners(pool.enter(address(2), 1, NO_BOUND, "b1").1), []);
        assert_eq!(owners(pool.enter(address(3), 1, NO_BOUND, "c1").1), [("a1", false)]);
        // When the largest holder adds a place, it loses one of its own.
        assert_eq!(owners(pool.enter(address(1), 1, NO_BOUND, "a4").1), [("a2", false)]);
        assert_eq!((pool.units(), pool.units_of(address(1)), pool.units_of(address(3))), (4, 2, 1));
    }

    /// Among equals the address itself must not decide, or the same newcomer would be evicted every time.
    #[test]
    fn among_equal_addresses_the_one_with_the_oldest_place_is_evicted() {
        let mut pool = Pool::new(3);
        for (last, owner) in [(7, "first"), (1, "second"), (9, "third")] {
            assert_eq!(owners(pool.enter(address(last), 1, NO_BOUND, owner).1), []);
        }
        assert_eq!(owners(pool.enter(address(8), 1, NO_BOUND, "fourth").1), [("first", false)]);
        assert_eq!(owners(pool.enter(address(7), 1, NO_BOUND, "fifth").1), [("second", false)]);
    }

    #[test]
    fn an_address_over_its_own_bound_loses_its_oldest_place() {
        let mut pool = Pool::new(100);
        let (first, gone) = pool.enter(address(1), 1, 2, "a1");
        assert_eq!(owners(gone), []);
        assert_eq!(owners(pool.enter(address(1), 1, 2, "a2").1), []);
        assert_eq!(owners(pool.enter(address(1), 1, 2, "a3").1), [("a1", true)]);
        // An evicted place cannot be changed or left again.
        assert_eq!(owners(pool.resize(address(1), first, 50, 2)), []);
        pool.leave(address(1), first);
        assert_eq!(pool.units(), 2);
    }

    #[test]
    fn a_place_that_grows_beyond_every_bound_is_evicted_itself() {
        let mut pool = Pool::new(10);
        let (_, gone) = pool.enter(address(2), 4, NO_BOUND, "b");
        assert_eq!(owners(gone), []);
        let (key, gone) = pool.enter(address(1), 5, NO_BOUND, "a");
        assert_eq!(owners(gone), []);
        assert_eq!(owners(pool.resize(address(1), key, 7, NO_BOUND)), [("a", false)]);
        assert_eq!((pool.units(), pool.units_of(address(1))), (4, 0));
    }

    #[test]
    fn places_that_are_left_leave_nothing_behind() {
        let mut pool = Pool::new(10);
        let keys: Vec<_> = (0..5).map(|n| (n, pool.enter(address(n % 2), 1, NO_BOUND, n).0)).collect();
        for (n, key) in keys {
            pool.leave(address(n % 2), key);
        }
        assert_eq!((pool.units(), pool.addresses.len(), pool.ranks.len()), (0, 0, 0));
        assert_eq!(pool.evict_largest(), None);
    }
}
