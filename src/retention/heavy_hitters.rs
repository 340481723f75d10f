//! The keys with the most bytes out of any number of keys, in bounded memory.
//!
//! The summary of Misra and Gries with batched removals (Anderson et al., "A High-Performance Algorithm for Identifying
//! Frequent Items in Data Streams", 2017): when there are more keys than counters, the smaller half is dropped, and a
//! key that appears afterwards may have missed as much as the largest dropped counter. It is exact while all keys fit.
//! Beyond that it never overstates a key, and misses at most 2/N of all bytes for any key, with N counters.

use std::cmp::Reverse;

use hashbrown::HashMap;

use crate::nostr::{EventView, Pubkey};
use crate::store::Amount;

/// The number of counters: about 6 MiB.
const COUNTERS: usize = 65_536;

/// What one key has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hitter {
    /// The key.
    pub key: Pubkey,
    /// Its events, at least.
    pub amount: Amount,
    /// Bytes in the data file that may be missing in `amount`.
    pub missed: u64,
}

/// Counters by key: events and bytes. At most 65,536 unless it is made with another number.
pub struct HeavyHitters {
    counters: HashMap<Pubkey, (Amount, u64)>,
    most: usize,
    /// The most bytes that a key without a counter may have in the data file.
    missed: u64,
}

impl Default for HeavyHitters {
    fn default() -> Self {
        Self::new(COUNTERS)
    }
}

impl HeavyHitters {
    fn new(most: usize) -> Self {
        Self { counters: HashMap::new(), most, missed: 0 }
    }

    /// Counts an event for a key.
    pub fn add(&mut self, key: Pubkey, event: EventView<'_>) {
        self.counters.entry(key).or_insert((Amount::default(), self.missed)).0.add(event);
        if self.counters.len() > self.most {
            let mut bounds: Vec<u64> =
                self.counters.values().map(|(amount, missed)| amount.footprint + missed).collect();
            let half = bounds.len() / 2;
            self.missed = *bounds.select_nth_unstable(half).1;
            self.counters.retain(|_, (amount, missed)| amount.footprint + *missed > self.missed);
        }
    }

    /// The `count` keys with the most bytes in the data file, largest first; ties are ordered by key.
    #[must_use]
    pub fn largest(&self, count: usize) -> Vec<Hitter> {
        let hitter =
            |(key, (amount, missed)): (&Pubkey, &(Amount, u64))| Hitter { key: *key, amount: *amount, missed: *missed };
        let mut all: Vec<Hitter> = self.counters.iter().map(hitter).collect();
        all.sort_unstable_by_key(|hitter| (Reverse(hitter.amount.footprint), hitter.key.0));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nostr::testing::{author, event};
    use crate::store::keys::footprint;

    #[test]
    fn with_a_counter_for_each_key_it_is_exact_and_with_fewer_it_errs_by_its_bound() {
        for most in [16_usize, 64, 1000] {
            let mut hitters = HeavyHitters::new(most);
            let mut exact: BTreeMap<[u8; 32], u64> = BTreeMap::new();
            let mut whole = 0;
            for n in 0..4000_u64 {
                // Author k has about 1/k of it, in a shuffled order.
                let shuffled = (n * 7919) % 4000;
                let by = author(4000 / (shuffled + 10));
                let event = event(by, 1, n, &[], &"x".repeat((n % 50) as usize));
                hitters.add(by, event.view());
                *exact.entry(by.0).or_default() += footprint(event.view());
                whole += footprint(event.view());
            }
            assert!(hitters.counters.len() <= most && hitters.missed <= 2 * whole / most as u64);
            for (key, bytes) in &exact {
                let found = hitters.counters.get(&Pubkey(*key));
                let (least, missed) = found.map_or((0, hitters.missed), |(amount, missed)| (amount.footprint, *missed));
                assert!(least <= *bytes && *bytes <= least + missed, "{least} <= {bytes} <= {least} + {missed}");
            }
            let mut ranked: Vec<(u64, [u8; 32])> = exact.iter().map(|(key, bytes)| (*bytes, *key)).collect();
            ranked.sort_unstable_by_key(|(bytes, key)| (Reverse(*bytes), *key));
            let largest = hitters.largest(1);
            assert_eq!(largest.first().map(|hitter| hitter.key.0), ranked.first().map(|(_, key)| *key));
            if most == 1000 {
                let all = hitters.largest(most).into_iter().map(|hitter| (hitter.amount.footprint, hitter.key.0));
                assert_eq!(all.collect::<Vec<_>>(), ranked);
            }
        }
    }
}
