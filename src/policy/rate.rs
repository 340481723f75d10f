//! How fast: rates, and the buckets that enforce them by the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! A bucket is one number, the time at which it would be full again, so taking from it is one atomic exchange.
//! Nothing here reads a clock: `now_us` is microseconds of any clock that never goes back.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::address_list::{self, AddressSet};
use super::cost::Act;
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

/// Nanoseconds in a second.
pub(super) const NS: u64 = 1_000_000_000;

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self::new(0, 0);

    /// `per_second` in the long run, `burst` at once.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    pub(super) const fn is_unlimited(self) -> bool {
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
    pub(super) const ALL: [Self; 4] = [Self::Events, Self::Bytes, Self::Queries, Self::Cpu];

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
    /// The rate that limits `quantity`.
    pub(super) const fn rate(&self, quantity: Quantity) -> Rate {
        match quantity {
            Quantity::Events => self.events,
            Quantity::Bytes => self.bytes,
            Quantity::Queries => self.queries,
            Quantity::Cpu => self.cpu_us,
        }
    }

    /// What follows from a debt that takes `debt_ns` to be paid.
    pub(super) fn standing(&self, quantity: Quantity, debt_ns: u64) -> Standing {
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
    pub(super) fn debt_ns(&self, quantity: Quantity, rate: Rate, now_ns: u64) -> u64 {
        let full_again = self.0[quantity as usize].load(Ordering::Relaxed);
        full_again.saturating_sub(now_ns).saturating_sub(rate.burst_ns())
    }

    /// Takes `units`, also below zero; returns the debt.
    pub(super) fn charge(&self, quantity: Quantity, rate: Rate, units: u64, now_ns: u64) -> u64 {
        let cost_ns = rate.ns(units, quantity.per_unit());
        let after = |full_again: u64| full_again.max(now_ns).saturating_add(cost_ns);
        let bucket = &self.0[quantity as usize];
        // The closure always gives a value, so this cannot fail.
        let before = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(after(at))).unwrap_or(now_ns);
        (after(before) - now_ns).saturating_sub(rate.burst_ns())
    }

    /// Whether no bucket has anything taken from it.
    pub(super) fn are_full(&self, now_ns: u64) -> bool {
        self.0.iter().all(|full_again| full_again.load(Ordering::Relaxed) <= now_ns)
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
