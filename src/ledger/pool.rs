//! Places in something that is limited in all and by address. When there is no room, somebody gives way.
//!
//! A newcomer is never refused. What goes is the oldest place of the address that holds the most, so an address that
//! takes more than others loses its own places, and a stranger finds room. Nothing here waits or reads a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;

/// Names a place until it is left, and never another one after. Older places have lower keys.
pub type Key = u64;

/// Places by address, each with its units (sockets, bytes) and with what its owner is reached by.
///
/// Every operation takes the logarithm of the number of places, also the search for who must give way.
#[derive(Debug)]
pub struct Pool<T> {
    max: u64,
    total: u64,
    next: Key,
    addresses: HashMap<IpAddr, Held<T>>,
    /// Every address by what it holds, the greediest last; of equals, the one whose oldest place is the oldest.
    ranks: BTreeSet<Rank>,
}

type Rank = (u64, Reverse<Key>, IpAddr);

/// What one address holds, never without a place.
#[derive(Debug)]
struct Held<T> {
    units: u64,
    places: BTreeMap<Key, (u64, T)>,
}

impl<T> Held<T> {
    const fn new() -> Self {
        Self { units: 0, places: BTreeMap::new() }
    }

    fn rank(&self, address: IpAddr) -> Option<Rank> {
        self.places.first_key_value().map(|(oldest, _)| (self.units, Reverse(*oldest), address))
    }
}

/// A place that is taken away.
#[derive(Debug, PartialEq, Eq)]
pub struct GiveWay<T> {
    /// Reaches its owner, who must be told.
    pub owner: T,
    /// Whose it was.
    pub address: IpAddr,
    /// Whether the address was over its own bound, rather than all together over theirs.
    pub address_is_full: bool,
}

impl<T> Pool<T> {
    /// A pool of `max` units.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, total: 0, next: 0, addresses: HashMap::new(), ranks: BTreeSet::new() }
    }

    /// Units held now.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.total
    }

    /// Units that `address` holds now.
    #[must_use]
    pub fn units_of(&self, address: IpAddr) -> u64 {
        self.addresses.get(&address).map_or(0, |held| held.units)
    }

    /// Takes a place of `units` for `address`, which may hold `max_of_address`. Whoever must give way for it has lost
    /// the place already; the new one itself may be among them.
    pub fn enter(&mut self, address: IpAddr, units: u64, max_of_address: u64, owner: T) -> (Key, Vec<GiveWay<T>>) {
        let key = self.next;
        self.next += 1;
        self.change(address, |held| held.places.insert(key, (0, owner)).is_some());
        (key, self.resize(address, key, units, max_of_address))
    }

    /// Changes the units of a place, as [`Pool::enter`] takes one. Does nothing for a place that is gone.
    pub fn resize(&mut self, address: IpAddr, key: Key, units: u64, max_of_address: u64) -> Vec<GiveWay<T>> {
        let set = |held: &mut Held<T>| {
            let place = held.places.get_mut(&key)?;
            let before = std::mem::replace(&mut place.0, units);
            held.units = held.units - before + units;
            Some(before)
        };
        let Some(before) = self.change(address, set) else { return Vec::new() };
        self.total = self.total - before + units;
        let mut gone = Vec::new();
        while self.units_of(address) > max_of_address {
            let Some(owner) = self.take_oldest(address) else { break };
            gone.push(GiveWay { owner, address, address_is_full: true });
        }
        while self.total > self.max {
            let Some(greediest) = self.take_greediest() else { break };
            gone.push(greediest);
        }
        gone
    }

    /// Gives a place back. Does nothing for one that is gone.
    pub fn leave(&mut self, address: IpAddr, key: Key) {
        self.take(address, key);
    }

    /// Takes the oldest place of the address that holds the most; `None` when nobody holds any.
    pub fn take_greediest(&mut self) -> Option<GiveWay<T>> {
        let (_, _, address) = *self.ranks.last()?;
        self.take_oldest(address).map(|owner| GiveWay { owner, address, address_is_full: false })
    }

    fn take_oldest(&mut self, address: IpAddr) -> Option<T> {
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

    /// Changes what an address holds, and its rank with that.
    fn change<R>(&mut self, address: IpAddr, change: impl FnOnce(&mut Held<T>) -> R) -> R {
        let held = self.addresses.entry(address).or_insert_with(Held::new);
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

    fn owners<T>(gone: Vec<GiveWay<T>>) -> Vec<(T, bool)> {
        gone.into_iter().map(|gone| (gone.owner, gone.address_is_full)).collect()
    }

    #[test]
    fn the_oldest_place_of_the_greediest_address_gives_way_and_a_stranger_stays() {
        let mut pool = Pool::new(4);
        for owner in ["a1", "a2", "a3"] {
            assert_eq!(owners(pool.enter(address(1), 1, NO_BOUND, owner).1), []);
        }
        assert_eq!(owners(pool.enter(address(2), 1, NO_BOUND, "b1").1), []);
        assert_eq!(owners(pool.enter(address(3), 1, NO_BOUND, "c1").1), [("a1", false)]);
        // The greedy one that comes again pays for itself.
        assert_eq!(owners(pool.enter(address(1), 1, NO_BOUND, "a4").1), [("a2", false)]);
        assert_eq!((pool.units(), pool.units_of(address(1)), pool.units_of(address(3))), (4, 2, 1));
    }

    /// Where everybody holds as much, nobody is favoured by his address: a newcomer would be the one to go every time.
    #[test]
    fn of_addresses_that_hold_as_much_the_one_with_the_oldest_place_gives_way() {
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
        // What is gone cannot be changed or left again.
        assert_eq!(owners(pool.resize(address(1), first, 50, 2)), []);
        pool.leave(address(1), first);
        assert_eq!(pool.units(), 2);
    }

    #[test]
    fn a_place_that_grows_beyond_every_bound_gives_way_itself() {
        let mut pool = Pool::new(10);
        let (_, gone) = pool.enter(address(2), 4, NO_BOUND, "b");
        assert_eq!(owners(gone), []);
        let (key, gone) = pool.enter(address(1), 5, NO_BOUND, "a");
        assert_eq!(owners(gone), []);
        assert_eq!(owners(pool.resize(address(1), key, 7, NO_BOUND)), [("a", false)]);
        assert_eq!((pool.units(), pool.units_of(address(1))), (4, 0));
    }

    #[test]
    fn everything_that_is_left_is_given_back() {
        let mut pool = Pool::new(10);
        let keys: Vec<_> = (0..5).map(|n| (n, pool.enter(address(n % 2), 1, NO_BOUND, n).0)).collect();
        for (n, key) in keys {
            pool.leave(address(n % 2), key);
        }
        assert_eq!((pool.units(), pool.addresses.len(), pool.ranks.len()), (0, 0, 0));
        assert_eq!(pool.take_greediest(), None);
    }
}
