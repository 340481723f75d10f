//! Rates, and the buckets that enforce them by the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! A bucket is one number, the time at which it will be full again, so taking from it is one atomic exchange. Nothing
//! here reads a clock: `now_us` is in microseconds of any monotonic clock.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::address_list::{self, AddressSet};
use super::cost::Act;
use crate::nostr::{Prefix, Reason};

/// Units per second, and units at once after a pause. 0 per second means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Units per second in the long run; 0 means no limit.
    pub per_second: u32,
    /// Units at once; at least 1 if there is a limit.
    pub burst: u32,
}

/// Nanoseconds in a second.
pub(super) const NS: u64 = 1_000_000_000;

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self::new(0, 0);

    /// A rate of `per_second` in the long run and `burst` at once.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    pub(super) const fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// Nanoseconds until `units` of size `1 / per_unit` are available again; `per_unit` is 1, or 1,000 for thousandths.
    const fn ns(self, units: u64, per_unit: u64) -> u64 {
        let per_second = if self.per_second == 0 { 1 } else { self.per_second as u64 };
        units.saturating_mul(NS / per_unit) / per_second
    }

    /// Nanoseconds until an exhausted burst is available again.
    const fn burst_ns(self) -> u64 {
        self.ns(self.burst as u64, 1)
    }
}

/// What a rate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// EVENTs.
    Events,
    /// Bytes read from the socket, and bytes decompressed from messages.
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
            Self::Cpu => "your requests cost too much",
        }
    }

    /// How many charged units make one unit of the limit.
    const fn per_unit(self) -> u64 {
        match self {
            Self::Events | Self::Bytes | Self::Queries => 1,
            Self::Cpu => 1_000,
        }
    }
}

/// Rates of one address over all its connections, except those of listed keys, and the consequences of a debt.
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
    /// While a debt takes at most this many seconds to pay off, the relay only stops reading from the client. Beyond
    /// that, it refuses the client's messages as `rate-limited:`.
    pub refuse_after_s: u32,
    /// Once a debt takes more than this many seconds to pay off, a client that keeps sending is disconnected.
    pub close_after_s: u32,
    /// Leading bits of an IPv4 address that identify a client, 0 to 32.
    pub ipv4_prefix_bits: u8,
    /// Leading bits of an IPv6 address that identify a client, 0 to 128: a customer has at least a /64.
    pub ipv6_prefix_bits: u8,
    /// Addresses exempt from all rates: tools on the same machine. For a client behind a trusted proxy, the address
    /// that the proxy reports counts.
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

    /// The consequence of a debt that takes `debt_ns` to pay off.
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

    /// Charges the CPU time of `act` to an `address` that has no connection yet, and returns the consequence.
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

/// One bucket per [`Quantity`]: the time at which it will be full again, in nanoseconds.
#[derive(Debug, Default)]
pub struct Buckets([AtomicU64; 4]);

impl Buckets {
    /// Nanoseconds until the debt is paid off; 0 if there is none.
    pub(super) fn debt_ns(&self, quantity: Quantity, rate: Rate, now_ns: u64) -> u64 {
        let full_again = self.0[quantity as usize].load(Ordering::Relaxed);
        full_again.saturating_sub(now_ns).saturating_sub(rate.burst_ns())
    }

    /// Takes `units`, going into debt if necessary; returns the nanoseconds until the debt is paid off.
    pub(super) fn charge(&self, quantity: Quantity, rate: Rate, units: u64, now_ns: u64) -> u64 {
        let cost_ns = rate.ns(units, quantity.per_unit());
        let after = |full_again: u64| full_again.max(now_ns).saturating_add(cost_ns);
        let bucket = &self.0[quantity as usize];
        // The closure always returns a value, so this cannot fail.
        let before = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(after(at))).unwrap_or(now_ns);
        (after(before) - now_ns).saturating_sub(rate.burst_ns())
    }

    /// Whether all buckets are full.
    pub(super) fn are_full(&self, now_ns: u64) -> bool {
        self.0.iter().all(|full_again| full_again.load(Ordering::Relaxed) <= now_ns)
    }
}

/// The consequence of a client's debt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has no debt.
    Clear,
    /// The relay stops reading from it until the debt is paid off.
    Held {
        /// Microseconds until then.
        wait_us: u64,
    },
    /// Its messages are refused with this reason.
    Refused(Reason),
    /// If it sends anything, it is disconnected with this reason.
    Closed(Reason),
}
