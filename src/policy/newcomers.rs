//! Stricter rates for keys that are new here: a spammer makes a key for each of his floods.
//!
//! A key is new from its first event with a good signature for `period_s`, unless the store held an event of
//! it then. Kinds that do not count are left out of both ([`Access::counts_for_newcomers`](super::Access)).
//! The table is bounded; nothing here reads a clock or the store. `now_us` is in microseconds of any monotonic clock.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::metrics::PolicyRule;
use crate::nostr::{Prefix, Pubkey};

/// What new keys may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewcomerOptions {
    /// Seconds for which a key is new; 0 means that none is.
    pub period_s: u64,
    /// Events of a new key, in an hour and at once.
    pub events_per_hour: u32,
    /// Events of all new keys from one address, in an hour and at once.
    pub address_events_per_hour: u32,
}

impl Default for NewcomerOptions {
    fn default() -> Self {
        Self { period_s: 0, events_per_hour: 30, address_events_per_hour: 120 }
    }
}

const HOUR_US: u64 = 3_600_000_000;

/// How often a full table is searched for what it may forget.
const SWEEP_EVERY_US: u64 = 1_000_000;

/// The new keys and their addresses.
#[derive(Debug)]
pub struct Newcomers {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each new key was first seen, and its bucket.
    keys: HashMap<Pubkey, (u64, Bucket)>,
    addresses: HashMap<IpAddr, Bucket>,
    /// The bucket of all keys, and addresses, that find no room.
    overflow: [Bucket; 2],
    next_sweep_us: u64,
}

/// Events by the hour: the time at which all of them will be available again (GCRA, see `rate`).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_again_us: u64,
}

impl Bucket {
    /// Microseconds until an event is available; 0 if one is.
    const fn wait_us(self, per_hour: u32, now_us: u64) -> u64 {
        let owed_us = self.full_again_us.saturating_sub(now_us);
        (owed_us + Self::event_us(per_hour)).saturating_sub(HOUR_US)
    }

    const fn take(&mut self, per_hour: u32, now_us: u64) {
        let from = if self.full_again_us > now_us { self.full_again_us } else { now_us };
        self.full_again_us = from + Self::event_us(per_hour);
    }

    const fn event_us(per_hour: u32) -> u64 {
        // 0 allows nothing: an event would take more than the hour.
        if per_hour == 0 { HOUR_US + 1 } else { HOUR_US / per_hour as u64 }
    }
}

impl Newcomers {
    /// A table of at most `max` keys and as many addresses, about 60 bytes each.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, state: Mutex::default() }
    }

    /// Whether this key is known to be new, or known not to be; `None` if only the store can tell.
    #[must_use]
    pub fn is_new(&self, options: &NewcomerOptions, key: &Pubkey, now_us: u64) -> Option<bool> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since_us, _) = state.keys.get(key)?;
        Some(now_us.saturating_sub(*since_us) < period_us(options))
    }

    /// Charges an event of a new key to the key and its address. Its signature must be good: others must not spend what
    /// the key has.
    ///
    /// # Errors
    /// `rate-limited:` with the time to wait, without charging anything.
    pub fn charge(&self, options: &NewcomerOptions, key: Pubkey, address: IpAddr, now_us: u64) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { keys, addresses, overflow, next_sweep_us } = &mut *state;
        let is_full = keys.len() >= self.max || addresses.len() >= self.max;
        if is_full && now_us >= *next_sweep_us {
            *next_sweep_us = now_us.saturating_add(SWEEP_EVERY_US);
            // A key that is no longer new has had its events stored, or has had none that could be.
            keys.retain(|_, (since_us, _)| now_us.saturating_sub(*since_us) < period_us(options));
            addresses.retain(|_, bucket| bucket.full_again_us > now_us);
        }
        let [key_overflow, address_overflow] = overflow;
        let own = entry(keys, key, self.max, (now_us, Bucket::default())).map_or(key_overflow, |(_, bucket)| bucket);
        let shared = entry(addresses, address, self.max, Bucket::default()).unwrap_or(address_overflow);
        let wait_us =
            own.wait_us(options.events_per_hour, now_us).max(shared.wait_us(options.address_events_per_hour, now_us));
        if wait_us > 0 {
            let text =
                format!("this key is new here and publishes too much; try again in {} s", wait_us.div_ceil(1_000_000));
            return Err(Refusal::new(PolicyRule::NewKey, Prefix::RateLimited, text));
        }
        own.take(options.events_per_hour, now_us);
        shared.take(options.address_events_per_hour, now_us);
        Ok(())
    }
}

const fn period_us(options: &NewcomerOptions) -> u64 {
    options.period_s.saturating_mul(1_000_000)
}

/// The entry of `key`, made if there is room for it.
fn entry<K: Eq + Hash, V>(table: &mut HashMap<K, V>, key: K, max: usize, new: V) -> Option<&mut V> {
    if table.len() < max {
        return Some(table.entry(key).or_insert(new));
    }
    table.get_mut(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: NewcomerOptions =
        NewcomerOptions { period_s: 7_200, events_per_hour: 2, address_events_per_hour: 3 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn key(byte: u8) -> Pubkey {
        Pubkey([byte; 32])
    }

    /// The seconds that it is told to wait; 0 if it may publish.
    fn wait(table: &Newcomers, key: Pubkey, address: IpAddr, now_us: u64) -> u64 {
        let Err(refusal) = table.charge(&OPTIONS, key, address, now_us) else { return 0 };
        assert_eq!((refusal.rule, refusal.reason.prefix), (PolicyRule::NewKey, Prefix::RateLimited));
        let words = refusal.reason.text.rsplit(' ').nth(1).expect("a number").to_owned();
        words.parse().expect("a number")
    }

    #[test]
    fn a_new_key_has_its_events_by_the_hour_and_all_of_an_address_share_theirs() {
        let table = Newcomers::new(9);
        let at = |key_byte, last, now_us| wait(&table, key(key_byte), address(last), now_us);
        assert_eq!([at(1, 1, 0), at(1, 1, 0), at(1, 1, 0)], [0, 0, 1_800]);
        assert_eq!(at(1, 2, 1_799_000_000), 1, "from any address");
        assert_eq!([at(2, 1, 0), at(3, 1, 0), at(3, 2, 0)], [0, 1_200, 0], "the address has had three");
        assert_eq!([at(1, 1, HOUR_US), at(1, 1, HOUR_US), at(1, 1, HOUR_US)], [0, 0, 1_800], "a pause gives an hour's");
    }

    #[test]
    fn a_key_is_new_for_its_period_and_an_unknown_one_is_left_to_the_store() {
        let table = Newcomers::new(9);
        let is_new = |now_us| table.is_new(&OPTIONS, &key(1), now_us);
        assert_eq!(is_new(0), None);
        assert_eq!(wait(&table, key(1), address(1), 5), 0);
        assert_eq!(
            [is_new(5), is_new(2 * HOUR_US + 4), is_new(2 * HOUR_US + 5)],
            [Some(true), Some(true), Some(false)]
        );
    }

    #[test]
    fn a_full_table_forgets_keys_that_are_no_longer_new_and_others_share_what_one_has() {
        let table = Newcomers::new(2);
        let at = |key_byte, now_us| wait(&table, key(key_byte), address(key_byte), now_us);
        assert_eq!([at(1, 0), at(2, 0), at(3, 0), at(4, 0), at(5, 0)], [0, 0, 0, 0, 1_800]);
        assert_eq!([at(1, 0), at(1, 0)], [0, 1_800], "those in it keep their own");
        let later = 2 * HOUR_US + 1;
        assert_eq!([at(5, later), at(6, later), at(5, later), at(6, later)], [0; 4]);
        assert_eq!(table.is_new(&OPTIONS, &key(5), later), Some(true));
        assert_eq!(table.state.lock().expect("no panic").keys.len(), 2);
    }

    #[test]
    fn no_events_by_the_hour_are_none() {
        let options = NewcomerOptions { events_per_hour: 0, ..OPTIONS };
        assert!(Newcomers::new(9).charge(&options, key(1), address(1), 0).is_err());
    }
}
