//! Charges clients: the buckets of connections, addresses and authenticated keys, and the debt over all of them.
//!
//! Nothing here reads a clock: `now_us` is in microseconds of any monotonic clock.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;

use super::cost::Act;
use super::limits::Tier;
use super::rate::{Buckets, Quantity, Rate, Standing};
use super::settings::Settings;

/// The rates of one connection: its own, those of its address and those of its first key. Shared by reference, since a
/// reader thread charges the cost of a query while the session continues.
#[derive(Debug)]
pub struct RateLimiter {
    connection: Buckets,
    address: Arc<Buckets>,
    key: OnceLock<Arc<Buckets>>,
    is_exempt: bool,
}

impl RateLimiter {
    /// The rates of a connection from `address`, with the buckets of that address.
    #[must_use]
    pub fn new(settings: &Settings, address: IpAddr, buckets: Arc<Buckets>) -> Self {
        let is_exempt = settings.rates.exempt_addresses.contains(address);
        Self { connection: Buckets::default(), address: buckets, key: OnceLock::new(), is_exempt }
    }

    /// Adds the buckets of the first key that the client authenticates. Later keys change nothing: a client does not
    /// get another budget for each key that it makes up.
    pub fn identify(&self, buckets: Arc<Buckets>) {
        self.key.get_or_init(|| buckets);
    }

    /// The buckets that apply to `tier`, each with its rate.
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

    /// Whether the connection is exempt from all rates.
    #[must_use]
    pub const fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// Charges `units`, going into debt if necessary; returns the microseconds until the debt is paid off. CPU time is
    /// charged in nanoseconds.
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

    /// The consequence of the client's debt.
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

/// The buckets of many addresses or keys, bounded.
///
/// When the table is full, unused entries whose buckets are full again are dropped, which changes no decision. If that
/// makes no room, newcomers share one entry until it does.
#[derive(Debug)]
pub struct RateTable<K> {
    max: usize,
    overflow: Arc<Buckets>,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    buckets: HashMap<K, Arc<Buckets>>,
    /// When the next sweep may run: sweeping for every newcomer would itself make an attack.
    next_sweep_us: u64,
}

const SWEEP_EVERY_US: u64 = 1_000_000;

impl<K: Eq + Hash> RateTable<K> {
    /// A table of at most `max` entries, about 100 bytes each.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let state = State { buckets: HashMap::new(), next_sweep_us: 0 };
        Self { max, overflow: Arc::default(), state: Mutex::new(state) }
    }

    /// The buckets of `key`; new, full ones if it has none.
    pub fn get(&self, key: K, now_us: u64) -> Arc<Buckets> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = state.buckets.get(&key) {
            return buckets.clone();
        }
        if state.buckets.len() >= self.max && now_us >= state.next_sweep_us {
            state.next_sweep_us = now_us.saturating_add(SWEEP_EVERY_US);
            let now_ns = now_us.saturating_mul(1_000);
            state.buckets.retain(|_, buckets| Arc::strong_count(buckets) > 1 || !buckets.are_full(now_ns));
        }
        if state.buckets.len() >= self.max {
            return self.overflow.clone();
        }
        state.buckets.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::NS;
    use super::*;
    use crate::nostr::{Prefix, Reason};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn settings(connection: Rate, address: Rate) -> Settings {
        let mut settings = Settings::default();
        settings.tiers.anonymous.events = connection;
        settings.rates.events = address;
        settings
    }

    fn entries<K>(table: &RateTable<K>) -> usize {
        table.state.lock().expect("no panic").buckets.len()
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
        assert_eq!(entries(&table), 1);
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
            let text = format!("your requests cost too much; try again in {seconds} s");
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
    fn exempt_addresses_are_never_charged_and_listed_keys_not_for_their_address() {
        let settings = settings(Rate::new(1, 1), Rate::new(1, 1));
        let local = RateLimiter::new(&settings, [127, 0, 0, 1].into(), Arc::default());
        assert_eq!([0; 9].map(|now_us| charge(&local, &settings, now_us)), [0; 9]);
        let listed = RateLimiter::new(&settings, CLIENT, Arc::default());
        let listed = [0; 9].map(|now_us| listed.charge(&settings, Tier::Listed, Quantity::Events, 1, now_us));
        assert_eq!(listed, [0; 9]);
    }

    #[test]
    fn a_full_table_drops_entries_without_debt_and_stays_within_its_bound() {
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
        assert_eq!(entries(&table), 2);
        // After a second both are full again and nobody holds them.
        let fresh = table.get(6, 1_000_000);
        assert!(!Arc::ptr_eq(&fresh, &third));
        assert_eq!(entries(&table), 1);
    }
}
