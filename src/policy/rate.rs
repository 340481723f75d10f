//! How fast: the generic cell rate algorithm (GCRA, ITU-T I.371) over connections, addresses and proven keys.
//!
//! A bucket is one number, the time at which it would be full again, so taking from it is one atomic exchange.
//! Nothing here reads a clock: `now_us` is microseconds of any clock that never goes back.

use std::borrow::Cow;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::address_list::{self, AddressSet};
use super::limits::{Tier, TierLimits};
use super::settings::Settings;
use crate::nostr::{Prefix, Reason};

/// How much per second, and how much at once after a pause. 0 per second is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Units per second in the long run; 0 is no limit.
    pub per_second: u32,
    /// Units at once; at least 1 where there is a limit.
    pub burst: u32,
}

const NS: u64 = 1_000_000_000;

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self::new(0, 0);

    /// `per_second` in the long run, `burst` at once.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    const fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// Nanoseconds in which `units` come back. At most 2^64 ns, which 2^32 units at one per second do not reach.
    fn ns(self, units: u64) -> u64 {
        units.saturating_mul(NS) / u64::from(self.per_second.max(1))
    }

    /// What one take costs: more than a burst could never pass, so it counts as a whole burst.
    fn cost_ns(self, units: u64) -> u64 {
        self.ns(units.min(self.burst.into()))
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// Events published.
    Events,
    /// Bytes of messages received.
    Bytes,
    /// REQ, COUNT and NEG-OPEN messages.
    Queries,
    /// Microseconds of a reader thread.
    QueryUs,
}

impl Quantity {
    const fn refusal(self) -> &'static str {
        match self {
            Self::Events => "too many events",
            Self::Bytes => "too many bytes",
            Self::Queries => "too many queries",
            Self::QueryUs => "your queries cost too much",
        }
    }
}

impl TierLimits {
    const fn rate(&self, quantity: Quantity) -> Rate {
        match quantity {
            Quantity::Events => self.events,
            Quantity::Bytes => self.bytes,
            Quantity::Queries => self.queries,
            Quantity::QueryUs => self.query_us,
        }
    }
}

/// Rates of one address over all its connections, except those of listed keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateOptions {
    /// Events published, per second.
    pub events: Rate,
    /// Bytes of messages received, per second.
    pub bytes: Rate,
    /// REQ, COUNT and NEG-OPEN messages, per second.
    pub queries: Rate,
    /// Microseconds of a reader thread, per second.
    pub query_us: Rate,
    /// Bits of an IPv4 address that make one client, 0 to 32.
    pub ipv4_prefix_bits: u8,
    /// Bits of an IPv6 address that make one client, 0 to 128: a customer has at least a /64.
    pub ipv6_prefix_bits: u8,
    /// Addresses that no rate holds for: tools on the same machine. Of a client behind a trusted proxy, the address
    /// is the one the proxy tells.
    pub exempt_addresses: AddressSet,
}

impl Default for RateOptions {
    fn default() -> Self {
        Self {
            events: Rate::new(200, 10_000),
            bytes: Rate::new(8 << 20, 128 << 20),
            queries: Rate::new(200, 2_000),
            query_us: Rate::new(800_000, 16_000_000),
            ipv4_prefix_bits: 32,
            ipv6_prefix_bits: 64,
            exempt_addresses: AddressSet::local(),
        }
    }
}

impl RateOptions {
    const fn rate(&self, quantity: Quantity) -> Rate {
        match quantity {
            Quantity::Events => self.events,
            Quantity::Bytes => self.bytes,
            Quantity::Queries => self.queries,
            Quantity::QueryUs => self.query_us,
        }
    }

    /// The network that `address` counts as.
    #[must_use]
    pub fn group(&self, address: IpAddr) -> IpAddr {
        address_list::group(address, self.ipv4_prefix_bits, self.ipv6_prefix_bits)
    }
}

/// One bucket for each [`Quantity`]: when it will be full again, in nanoseconds.
#[derive(Debug, Default)]
pub struct Buckets([AtomicU64; 4]);

impl Buckets {
    /// How long to wait for `units`, in nanoseconds; 0 when they are there.
    fn wait_ns(&self, quantity: Quantity, rate: Rate, units: u64, now_ns: u64) -> u64 {
        if rate.is_unlimited() {
            return 0;
        }
        let full_again = self.0[quantity as usize].load(Ordering::Relaxed).max(now_ns);
        full_again.saturating_add(rate.cost_ns(units)).saturating_sub(now_ns.saturating_add(rate.ns(rate.burst.into())))
    }

    /// Takes `cost_ns` worth, also below zero.
    fn take(&self, quantity: Quantity, cost_ns: u64, now_ns: u64) {
        let after = |full_again: u64| Some(full_again.max(now_ns).saturating_add(cost_ns));
        // The closure always gives a value, so this cannot fail.
        let _ = self.0[quantity as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
    }

    fn are_full(&self, now_ns: u64) -> bool {
        self.0.iter().all(|full_again| full_again.load(Ordering::Relaxed) <= now_ns)
    }
}

/// The rates of one connection: its own, its address's and its first key's. Shared by reference: a reader thread
/// charges the cost of a query while the session goes on.
#[derive(Debug)]
pub struct RateLimiter {
    connection: Buckets,
    address: Arc<Buckets>,
    key: OnceLock<Arc<Buckets>>,
    is_exempt: bool,
}

impl RateLimiter {
    /// The rates of a connection from `address`, whose buckets come from the table of addresses.
    #[must_use]
    pub fn new(settings: &Settings, address: IpAddr, buckets: Arc<Buckets>) -> Self {
        let is_exempt = settings.rates.exempt_addresses.contains(address);
        Self { connection: Buckets::default(), address: buckets, key: OnceLock::new(), is_exempt }
    }

    /// Adds the buckets of the first key that was proven. Later keys change nothing: a client is not given
    /// another budget for each key it makes up.
    pub fn identify(&self, buckets: Arc<Buckets>) {
        self.key.get_or_init(|| buckets);
    }

    /// The buckets that count for `tier`, each with its rate.
    fn each<'a>(
        &'a self,
        settings: &Settings,
        tier: Tier,
        quantity: Quantity,
    ) -> impl Iterator<Item = (&'a Buckets, Rate)> + use<'a> {
        let own = settings.tiers.get(tier).rate(quantity);
        let shared = if tier == Tier::Listed { Rate::UNLIMITED } else { settings.rates.rate(quantity) };
        let key = self.key.get().map(|key| (&**key, own));
        let all = [Some((&self.connection, own)), Some((&*self.address, shared)), key];
        all.into_iter().flatten().filter(|(_, rate)| !rate.is_unlimited())
    }

    /// Takes `units` from every bucket, or from none. 0 units only ask whether the client is in debt.
    ///
    /// # Errors
    /// `rate-limited:` with the time to wait, when one bucket has too little.
    pub fn take(
        &self,
        settings: &Settings,
        tier: Tier,
        quantity: Quantity,
        units: u64,
        now_us: u64,
    ) -> Result<(), Reason> {
        if self.is_exempt {
            return Ok(());
        }
        let now_ns = now_us.saturating_mul(1_000);
        let waits = self.each(settings, tier, quantity);
        let wait_ns = waits.map(|(buckets, rate)| buckets.wait_ns(quantity, rate, units, now_ns)).max();
        if let Some(wait_ns) = wait_ns.filter(|&wait_ns| wait_ns > 0) {
            return Err(Reason::new(Prefix::RateLimited, refusal(quantity, wait_ns)));
        }
        for (buckets, rate) in self.each(settings, tier, quantity) {
            buckets.take(quantity, rate.cost_ns(units), now_ns);
        }
        Ok(())
    }

    /// Charges what was spent already, into debt if need be.
    pub fn charge(&self, settings: &Settings, tier: Tier, quantity: Quantity, units: u64, now_us: u64) {
        if self.is_exempt {
            return;
        }
        for (buckets, rate) in self.each(settings, tier, quantity) {
            buckets.take(quantity, rate.ns(units), now_us.saturating_mul(1_000));
        }
    }
}

fn refusal(quantity: Quantity, wait_ns: u64) -> Cow<'static, str> {
    let seconds = wait_ns.div_ceil(NS);
    format!("{}; try again in {seconds} s", quantity.refusal()).into()
}

/// The buckets of many addresses or keys, bounded.
///
/// When the table is full, those that nobody holds and that are full again go: forgetting them changes no
/// decision. If that makes no room, newcomers share one entry until it does.
#[derive(Debug)]
pub struct RateTable<K> {
    max: usize,
    overflow: Arc<Buckets>,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    buckets: HashMap<K, Arc<Buckets>>,
    /// When a sweep may run again: sweeping at each newcomer would be the attack itself.
    next_sweep_us: u64,
}

const SWEEP_EVERY_US: u64 = 1_000_000;

impl<K: Eq + Hash> RateTable<K> {
    /// A table of at most `max` entries, about 100 bytes each.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let held = Held { buckets: HashMap::new(), next_sweep_us: 0 };
        Self { max, overflow: Arc::default(), held: Mutex::new(held) }
    }

    /// The buckets of `key`, new and full if there were none.
    pub fn get(&self, key: K, now_us: u64) -> Arc<Buckets> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = held.buckets.get(&key) {
            return buckets.clone();
        }
        if held.buckets.len() >= self.max && now_us >= held.next_sweep_us {
            held.next_sweep_us = now_us.saturating_add(SWEEP_EVERY_US);
            let now_ns = now_us.saturating_mul(1_000);
            held.buckets.retain(|_, buckets| Arc::strong_count(buckets) > 1 || !buckets.are_full(now_ns));
        }
        if held.buckets.len() >= self.max {
            return self.overflow.clone();
        }
        held.buckets.entry(key).or_default().clone()
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).buckets.len()
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn settings(connection: Rate, address: Rate) -> Settings {
        let mut settings = Settings::default();
        settings.tiers.anonymous.events = connection;
        settings.tiers.authenticated.events = connection;
        settings.rates.events = address;
        settings
    }

    fn take(limiter: &RateLimiter, settings: &Settings, now_us: u64) -> Result<(), String> {
        let taken = limiter.take(settings, Tier::Anonymous, Quantity::Events, 1, now_us);
        taken.map_err(|reason| reason.to_string())
    }

    #[test]
    fn a_burst_passes_then_one_per_interval_and_the_refusal_tells_when() {
        let settings = settings(Rate::new(2, 3), Rate::UNLIMITED);
        let limiter = RateLimiter::new(&settings, CLIENT, Arc::default());
        let start = 5_000_000;
        let refused = Err("rate-limited: too many events; try again in 1 s".to_string());
        let taken: Vec<_> = (0..4).map(|_| take(&limiter, &settings, start)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), refused.clone()]);
        assert_eq!(take(&limiter, &settings, start + 499_999), refused);
        assert_eq!(take(&limiter, &settings, start + 500_000), Ok(()));
        assert_eq!(take(&limiter, &settings, start + 500_000), refused);
        let later = start + 60_000_000;
        let taken: Vec<_> = (0..4).map(|_| take(&limiter, &settings, later).is_ok()).collect();
        assert_eq!(taken, [true, true, true, false]);
    }

    #[test]
    fn connections_of_one_address_share_its_rate_and_a_refusal_takes_nothing() {
        let settings = settings(Rate::new(1, 2), Rate::new(1, 3));
        let table = RateTable::new(8);
        let connect = || RateLimiter::new(&settings, CLIENT, table.get(CLIENT, 0));
        let (one, two) = (connect(), connect());
        assert_eq!([take(&one, &settings, 0), take(&one, &settings, 0)], [Ok(()), Ok(())]);
        assert!(take(&one, &settings, 0).is_err());
        assert_eq!(take(&two, &settings, 0), Ok(()));
        assert!(take(&two, &settings, 0).is_err());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn connections_of_one_key_share_its_rate_from_any_address() {
        let settings = settings(Rate::new(1, 2), Rate::UNLIMITED);
        let table = RateTable::new(8);
        let connect = |address: [u8; 4]| {
            let limiter = RateLimiter::new(&settings, address.into(), Arc::default());
            limiter.identify(table.get("key", 0));
            limiter.identify(table.get("another key", 0));
            limiter
        };
        let limiters = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]].map(connect);
        assert_eq!(limiters.map(|limiter| take(&limiter, &settings, 0).is_ok()), [true, true, false]);
    }

    #[test]
    fn a_query_that_cost_too_much_is_paid_off_before_the_next() {
        let mut settings = Settings::default();
        settings.tiers.anonymous.query_us = Rate::new(100_000, 1_000_000);
        let limiter = RateLimiter::new(&settings, CLIENT, Arc::default());
        let ask = |now_us| limiter.take(&settings, Tier::Anonymous, Quantity::QueryUs, 0, now_us);
        assert_eq!(ask(0), Ok(()));
        limiter.charge(&settings, Tier::Anonymous, Quantity::QueryUs, 1_200_000, 0);
        let refused = ask(0).expect_err("a refusal").to_string();
        assert_eq!(refused, "rate-limited: your queries cost too much; try again in 2 s");
        assert_eq!(ask(2_000_000), Ok(()));
    }

    #[test]
    fn more_than_a_burst_passes_when_the_bucket_is_full() {
        let settings = settings(Rate::new(10, 10), Rate::UNLIMITED);
        let limiter = RateLimiter::new(&settings, CLIENT, Arc::default());
        let taken = |now_us| limiter.take(&settings, Tier::Anonymous, Quantity::Events, 1_000, now_us).is_ok();
        assert_eq!([taken(0), taken(999_999), taken(1_000_000)], [true, false, true]);
    }

    #[test]
    fn exempt_addresses_and_listed_keys_are_not_held_up_by_the_address() {
        let settings = settings(Rate::new(1, 1), Rate::new(1, 1));
        let local = RateLimiter::new(&settings, [127, 0, 0, 1].into(), Arc::default());
        assert!((0..9).all(|_| take(&local, &settings, 0).is_ok()));
        let listed = RateLimiter::new(&settings, CLIENT, Arc::default());
        assert!((0..9).all(|_| listed.take(&settings, Tier::Listed, Quantity::Events, 1, 0).is_ok()));
    }

    #[test]
    fn a_full_table_forgets_who_owes_nothing_and_stays_within_its_bound() {
        let rate = Rate::new(1, 2);
        let table = RateTable::new(2);
        let first = table.get(1, 0);
        first.take(Quantity::Events, rate.cost_ns(1), 0);
        drop(first);
        let second = table.get(2, 0);
        let third = table.get(3, 0);
        assert!(Arc::ptr_eq(&third, &table.get(4, 0)), "newcomers share when there is no room");
        drop(second);
        let _ = table.get(5, 999_999);
        assert_eq!(table.len(), 2);
        // After a second both are full again and nobody holds them.
        let fresh = table.get(6, 1_000_000);
        assert!(!Arc::ptr_eq(&fresh, &third));
        assert_eq!(table.len(), 1);
    }
}
