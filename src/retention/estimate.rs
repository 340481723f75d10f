//! An estimate of what comes and goes that reads a few events at a time, so that no request pays for all of it.
//!
//! Wherever it stops, the events are spread evenly over the order of arrival: each place is the golden section of all
//! places further than the one before (additive recurrence, a low-discrepancy sequence). In as many steps as there are
//! places, each is looked at once. Never writes.

use super::usage::{RuleUsage, Survey};
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::{Seq, Store, StoreError};

/// Places that are looked at, at most.
const MOST: u64 = 10_000;

/// Places that are looked at in any case, as far as there are so many.
const LEAST: u64 = 400;

/// See the module.
pub struct Estimate {
    survey: Survey,
    /// The arrival numbers from 1 to this are its places.
    places: u64,
    step: u64,
    place: u64,
    looked: u64,
}

impl Estimate {
    /// An estimate that has read nothing yet.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn begin(store: &Store, rules: &Retention, now: Timestamp) -> Result<Self, StoreError> {
        let places = store.read()?.last_seq()?.0;
        Ok(Self { survey: Survey::begin(store, rules, now)?, places, step: step(places), place: 0, looked: 0 })
    }

    /// Looks at up to `most` further places. The rules must be those that it began with.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn read_more(&mut self, store: &Store, rules: &Retention, most: u64) -> Result<(), StoreError> {
        store.follow()?;
        let snapshot = store.read()?;
        for _ in 0..most.min(self.places().saturating_sub(self.looked)) {
            let seq = Seq(1 + self.place);
            if let Some(event) = snapshot.get(seq)? {
                self.survey.add(rules, seq, event);
            }
            self.place = (self.place + self.step) % self.places;
            self.looked += 1;
        }
        Ok(())
    }

    /// How many places were looked at.
    #[must_use]
    pub const fn looked(&self) -> u64 {
        self.looked
    }

    /// How many places it looks at, at most.
    #[must_use]
    pub fn places(&self) -> u64 {
        self.places.min(MOST)
    }

    /// Whether enough of the events that were read are recent to estimate growth from them.
    #[must_use]
    pub fn shows_growth(&self) -> bool {
        self.survey.shows_growth()
    }

    /// Whether to look further would add little.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.looked >= if self.shows_growth() { self.places().min(LEAST) } else { self.places() }
    }

    /// The usage of each rule, as it is estimated by now.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn usages(&self, store: &Store) -> Result<Vec<RuleUsage>, StoreError> {
        self.survey.stands_for(store)
    }
}

/// A number near the golden section of `places` that has no divisor in common with it. Of the next 64 numbers, it is
/// the one whose share of `places` is furthest from simple fractions, at which the places would cluster.
fn step(places: u64) -> u64 {
    let golden = ((places as f64 * 0.618_033_988_749_895) as u64).max(1);
    let candidates = golden..golden + 64;
    candidates.filter_map(|step| Some((largest_quotient(places, step)?, step))).min().map_or(1, |(_, step)| step)
}

/// The largest number in the continued fraction of `one / other`; `None` if the two have a divisor in common.
fn largest_quotient(mut one: u64, mut other: u64) -> Option<u64> {
    let mut largest = 0;
    while other > 0 {
        largest = largest.max(one / other);
        (one, other) = (other, one % other);
    }
    (one == 1).then_some(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that are looked at, in their order.
    fn order(places: u64) -> Vec<u64> {
        let step = step(places);
        (0..places).scan(0, |place, _| Some(std::mem::replace(place, (*place + step) % places))).collect()
    }

    #[test]
    fn every_place_is_looked_at_once() {
        for places in (1..200).chain([65_536, 99_991, 510_510]) {
            let mut all = order(places);
            all.sort_unstable();
            assert_eq!(all, (0..places).collect::<Vec<_>>(), "of {places}");
        }
    }

    #[test]
    fn the_first_places_are_spread_evenly() {
        for places in [65_536, 99_991, 510_510] {
            for first in [16, 128, 1000, 10_000] {
                let mut some = order(places)[..first].to_vec();
                some.sort_unstable();
                let widest = some.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some gaps");
                assert!(widest <= 3 * places / first as u64, "{first} of {places}: {widest}");
            }
        }
    }
}
