//! How fast: the generic cell rate algorithm (GCRA, ITU-T I.371) over connections, addresses and proven keys.
//!
//! A bucket is one number, the time at which it would be full again, so taking from it is one atomic exchange.
//! Nothing here reads a clock: `now_us` is microseconds of any clock that never goes back.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::address_list::{self, AddressSet};
use super::cost::Act;
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

    /// Nanoseconds in which `units` of `1 / per_unit` come back; `per_unit` is 1, or 1,000 for thousandths.
    const fn ns(self, units: u64, per_unit: u64) -> u64 {
        let per_second = if self.per_second == 0 { 1 } else { self.per_second as u64 };
        units.saturating_mul(NS / per_unit) / per_second
    }

    /// How long the burst takes to come back.
    const fn burst_ns(self) -> u64 {
        self.ns(self.burst as u64, 1)
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// EVENTs.
    Events,
    /// Bytes read from the socket, and those that came out of compressed messages.
    Bytes,
    /// REQ, COUNT and NEG-OPEN messages.
    Queries,
    /// CPU time of the relay: charged in nanoseconds, limited in microseconds.
    Cpu,
}

impl Quantity {
    const ALL: [Self; 4] = [Self::Events, Self::Bytes, Self::Queries, Self::Cpu];

    const fn refusal(self) -> &'static str {
        match self {
            Self::Events => "too many events",
            Self::Bytes => "too many bytes",
            Self::Queries => "too many queries",
            Self::Cpu => "what you ask for costs too much",
        }
    }

    /// How many charged units are one of the limit's.
    const fn per_unit(self) -> u64 {
        match self {
            Self::Events | Self::Bytes | Self::Queries => 1,
            Self::Cpu => 1_000,
        }
    }
}

impl TierLimits {
    const fn rate(&self, quantity: Quantity) -> Rate {
        match quantity {
            Quantity::Events => self.events,
            Quantity::Bytes => self.bytes,
            Quantity::Queries => self.queries,
            Quantity::Cpu => self.cpu_us,
        }
    }
}

/// Rates of one address over all its connections, except those of listed keys, and what follows from a debt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateOptions {
    /// EVENTs, per second.
    pub events: Rate,
    /// Bytes received, on the wire and out of compressed messages, per second.
    pub bytes: Rate,
    /// REQ, COUNT and NEG-OPEN messages, per second.
    pub queries: Rate,
    /// Microseconds of the relay's CPU, per second.
    pub cpu_us: Rate,
    /// Seconds that a debt takes to be paid up to which a client is only read no further. Beyond, what it sends is
    /// refused as `rate-limited:`.
    pub refuse_after_s: u32,
    /// Seconds that a debt takes to be paid beyond which a client that sends on is closed.
    pub close_after_s: u32,
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
            events: Rate::new(200, 40_000),
            bytes: Rate::new(8 << 20, 128 << 20),
            queries: Rate::new(200, 2_000),
            cpu_us: Rate::new(500_000, 4_000_000),
            refuse_after_s: 10,
            close_after_s: 60,
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
            Quantity::Cpu => self.cpu_us,
        }
    }

    /// What follows from a debt that takes `debt_ns` to be paid.
    fn standing(&self, quantity: Quantity, debt_ns: u64) -> Standing {
        let refusal = || {
            let text = format!("{}; try again in {} s", quantity.refusal(), debt_ns.div_ceil(NS));
            Reason::new(Prefix::RateLimited, text)
        };
        if debt_ns == 0 {
            Standing::Clear
        } else if debt_ns <= u64::from(self.refuse_after_s) * NS {
            Standing::Held { wait_us: debt_ns.div_ceil(1_000) }
        } else if debt_ns <= u64::from(self.close_after_s) * NS {
            Standing::Refused(refusal())
        } else {
            Standing::Closed(refusal())
        }
    }

    /// Charges the CPU time of `act` to an `address` that has no connection yet; tells what follows from what it owes for
    /// that.
    #[must_use]
    pub fn charge_address(&self, address: IpAddr, buckets: &Buckets, act: Act, now_us: u64) -> Standing {
        if self.cpu_us.is_unlimited() || self.exempt_addresses.contains(address) {
            return Standing::Clear;
        }
        let now_ns = now_us.saturating_mul(1_000);
        self.standing(Quantity::Cpu, buckets.charge(Quantity::Cpu, self.cpu_us, act.ns(), now_ns))
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
    /// How long a debt takes to be paid, in nanoseconds; 0 if there is none.
    fn debt_ns(&self, quantity: Quantity, rate: Rate, now_ns: u64) -> u64 {
        let full_again = self.0[quantity as usize].load(Ordering::Relaxed);
        full_again.saturating_sub(now_ns).saturating_sub(rate.burst_ns())
    }

    /// Takes `units`, also below zero; returns the debt.
    fn charge(&self, quantity: Quantity, rate: Rate, units: u64, now_ns: u64) -> u64 {
        let cost_ns = rate.ns(units, quantity.per_unit());
        let after = |full_again: u64| full_again.max(now_ns).saturating_add(cost_ns);
        let bucket = &self.0[quantity as usize];
        // The closure always gives a value, so this cannot fail.
        let before = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(after(at))).unwrap_or(now_ns);
        (after(before) - now_ns).saturating_sub(rate.burst_ns())
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

    /// Whether no rate holds for the connection.
    #[must_use]
    pub const fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// Charges what was done, into debt if need be; returns how long that debt takes to be paid, in microseconds. CPU time
    /// is in nanoseconds.
    pub fn charge(&self, settings: &Settings, tier: Tier, quantity: Quantity, units: u64, now_us: u64) -> u64 {
        if self.is_exempt || units == 0 {
            return 0;
        }
        let now_ns = now_us.saturating_mul(1_000);
        let charged = self.each(settings, tier, quantity);
        let debts = charged.map(|(buckets, rate)| buckets.charge(quantity, rate, units, now_ns));
        debts.max().unwrap_or(0).div_ceil(1_000)
    }

    /// Charges the CPU time of `act`.
    pub fn charge_act(&self, settings: &Settings, tier: Tier, act: Act, now_us: u64) {
        self.charge(settings, tier, Quantity::Cpu, act.ns(), now_us);
    }

    /// What follows from what the client owes.
    #[must_use]
    pub fn standing(&self, settings: &Settings, tier: Tier, now_us: u64) -> Standing {
        if self.is_exempt {
            return Standing::Clear;
        }
        let now_ns = now_us.saturating_mul(1_000);
        let debts = Quantity::ALL.into_iter().flat_map(|quantity| {
            let buckets = self.each(settings, tier, quantity);
            buckets.map(move |(buckets, rate)| (buckets.debt_ns(quantity, rate, now_ns), quantity))
        });
        let owed = debts.max_by_key(|(debt_ns, _)| *debt_ns);
        owed.map_or(Standing::Clear, |(debt_ns, quantity)| settings.rates.standing(quantity, debt_ns))
    }
}

/// What follows from what a client owes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It owes nothing.
    Clear,
    /// It is read no further until its debt is paid.
    Held {
        /// How long that takes, in microseconds.
        wait_us: u64,
    },
    /// What it sends is refused for this reason.
    Refused(Reason),
    /// If it sends anything, it is closed for this reason.
    Closed(Reason),
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
        settings.rates.events = address;
        settings
    }

    /// Charges one event; the debt in microseconds.
    fn charge(limiter: &RateLimiter, settings: &Settings, now_us: u64) -> u64 {
        limiter.charge(settings, Tier::Anonymous, Quantity::Events, 1, now_us)
    }

    fn standing(limiter: &RateLimiter, settings: &Settings, now_us: u64) -> Standing {
        limiter.standing(settings, Tier::Anonymous, now_us)
    }

    #[test]
    fn a_burst_passes_and_what_is_charged_beyond_it_is_paid_by_the_rate() {
        let settings = settings(Rate::new(2, 3), Rate::UNLIMITED);
        let limiter = RateLimiter::new(&settings, CLIENT, Arc::default());
        let start = 5_000_000;
        let charged: Vec<_> = (0..5).map(|_| charge(&limiter, &settings, start)).collect();
        assert_eq!(charged, [0, 0, 0, 500_000, 1_000_000]);
        assert_eq!(standing(&limiter, &settings, start + 999_999), Standing::Held { wait_us: 1 });
        assert_eq!(standing(&limiter, &settings, start + 1_000_000), Standing::Clear);
        assert_eq!(charge(&limiter, &settings, start + 1_000_000), 500_000);
        let later = start + 60_000_000;
        let charged: Vec<_> = (0..4).map(|_| charge(&limiter, &settings, later)).collect();
        assert_eq!(charged, [0, 0, 0, 500_000], "a pause gives no more than a burst");
    }

    #[test]
    fn connections_of_one_address_share_its_debt_and_a_new_one_begins_with_it() {
        let settings = settings(Rate::new(1, 9), Rate::new(1, 3));
        let table = RateTable::new(8);
        let connect = || RateLimiter::new(&settings, CLIENT, table.get(CLIENT, 0));
        let (one, two) = (connect(), connect());
        let charged = [&one, &two, &one, &two].map(|limiter| charge(limiter, &settings, 0));
        assert_eq!(charged, [0, 0, 0, 1_000_000]);
        drop((one, two));
        assert_eq!(standing(&connect(), &settings, 0), Standing::Held { wait_us: 1_000_000 });
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn connections_of_one_key_share_its_debt_from_any_address() {
        let settings = settings(Rate::new(1, 2), Rate::UNLIMITED);
        let table = RateTable::new(8);
        let connect = |address: [u8; 4]| {
            let limiter = RateLimiter::new(&settings, address.into(), Arc::default());
            limiter.identify(table.get("key", 0));
            limiter.identify(table.get("another key", 0));
            limiter
        };
        let limiters = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]].map(connect);
        assert_eq!(limiters.map(|limiter| charge(&limiter, &settings, 0)), [0, 0, 1_000_000]);
    }

    #[test]
    fn a_debt_holds_then_refuses_with_the_time_to_wait_and_then_closes() {
        let mut settings = Settings::default();
        settings.tiers.anonymous.cpu_us = Rate::new(100_000, 1_000_000);
        settings.rates.cpu_us = Rate::UNLIMITED;
        (settings.rates.refuse_after_s, settings.rates.close_after_s) = (10, 60);
        let limiter = RateLimiter::new(&settings, CLIENT, Arc::default());
        let charge = |cpu_ns| limiter.charge(&settings, Tier::Anonymous, Quantity::Cpu, cpu_ns, 0);
        let reason = |seconds| {
            let text = format!("what you ask for costs too much; try again in {seconds} s");
            Reason::new(Prefix::RateLimited, text)
        };
        // The burst, then as much again, which is paid in ten seconds.
        assert_eq!((charge(NS), standing(&limiter, &settings, 0)), (0, Standing::Clear));
        assert_eq!(
            (charge(NS), standing(&limiter, &settings, 0)),
            (10_000_000, Standing::Held { wait_us: 10_000_000 })
        );
        assert_eq!((charge(1), standing(&limiter, &settings, 0)), (10_000_001, Standing::Refused(reason(11))));
        assert_eq!((charge(5 * NS), standing(&limiter, &settings, 0)), (60_000_001, Standing::Closed(reason(61))));
        assert_eq!(standing(&limiter, &settings, 1), Standing::Refused(reason(60)));
        assert_eq!(standing(&limiter, &settings, 60_000_001), Standing::Clear);
    }

    #[test]
    fn exempt_addresses_owe_nothing_and_listed_keys_nothing_to_the_address() {
        let settings = settings(Rate::new(1, 1), Rate::new(1, 1));
        let local = RateLimiter::new(&settings, [127, 0, 0, 1].into(), Arc::default());
        assert_eq!([0; 9].map(|now_us| charge(&local, &settings, now_us)), [0; 9]);
        let listed = RateLimiter::new(&settings, CLIENT, Arc::default());
        let listed = [0; 9].map(|now_us| listed.charge(&settings, Tier::Listed, Quantity::Events, 1, now_us));
        assert_eq!(listed, [0; 9]);
    }

    #[test]
    fn a_full_table_forgets_who_owes_nothing_and_stays_within_its_bound() {
        let rate = Rate::new(1, 2);
        let table = RateTable::new(2);
        let first = table.get(1, 0);
        first.charge(Quantity::Events, rate, 1, 0);
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
