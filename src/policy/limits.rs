//! How much a client may ask for and send, under NIP-11's names where NIP-11 has one.
//!
//! Nothing here decides about a particular event or filter.

use serde::{Deserialize, Serialize};

use super::rate::{Quantity, Rate};

/// Limits that hold for everybody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one message from a client, from `[` to `]`, over all its WebSocket fragments (NIP-11).
    ///
    /// 1 MiB: a follow list of 10,000 `p` tags is about 720 KB of JSON, the largest notes in public use 200 KB.
    pub max_message_length: usize,
    /// Filters in one REQ or COUNT.
    pub max_filters: usize,
    /// Values in all lists of all filters of one REQ, COUNT or NEG-OPEN: ids, authors, kinds and tag values.
    pub max_filter_items: usize,
    /// Stored events returned for a filter without `limit` (NIP-11).
    pub default_limit: u32,
    /// Whether EOSE tells if there is more, and pages end between two seconds (NIP-67). NIP-11 advertises it. Off, since
    /// clients in use take an EOSE with a third element for malformed.
    pub eose_hints: bool,
    /// Where `eose_hints` is on: how far a page may grow beyond `default_limit`, and never beyond `max_limit`, to hold
    /// every event of its last second, in events.
    pub max_tie_extension: u32,
    /// Tags of one event (NIP-11). 15,000 is about what fits in `max_message_length`.
    pub max_event_tags: usize,
    /// Unicode characters of `content` (NIP-11).
    pub max_content_length: usize,
    /// Leading zero bits that an event id must have, 0 to 256 (NIP-13); 0 asks for no work.
    pub min_pow_difficulty: u16,
    /// Whether the `nonce` tag must commit to a target of at least `min_pow_difficulty` (NIP-13): without it, a
    /// flood of cheap events has a lucky one now and then.
    pub require_committed_target: bool,
    /// How many seconds before now `created_at` may lie (NIP-11); 0 is no limit.
    pub created_at_lower_limit: u64,
    /// How many seconds after now `created_at` may lie (NIP-11).
    pub created_at_upper_limit: u64,
    /// How many seconds old an ephemeral event may be; 0 is no limit. Ephemeral gift wraps are exempt, because
    /// NIP-59 dates them back on purpose.
    pub ephemeral_max_age: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_length: 1 << 20,
            max_filters: 100,
            max_filter_items: 10_000,
            default_limit: 500,
            eose_hints: false,
            max_tie_extension: 256,
            max_event_tags: 15_000,
            max_content_length: 512 * 1024,
            min_pow_difficulty: 0,
            require_committed_target: true,
            created_at_lower_limit: 0,
            created_at_upper_limit: 900,
            ephemeral_max_age: 300,
        }
    }
}

/// Who a client is to the limits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Nobody: no key was proven.
    Anonymous,
    /// At least one key was proven (NIP-42).
    Authenticated,
    /// One of the proven keys is on the operator's list.
    Listed,
}

impl Tier {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Authenticated => "authenticated",
            Self::Listed => "listed",
        }
    }
}

/// Limits by who asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiers {
    /// Clients that have not proven a key. NIP-11 advertises these.
    pub anonymous: TierLimits,
    /// Clients that have proven a key (NIP-42).
    pub authenticated: TierLimits,
    /// Clients that have proven a key of `access.listed_pubkeys`.
    pub listed: TierLimits,
}

/// Limits of one tier. A rate holds for each connection and again for each proven key over all its connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierLimits {
    /// Open subscriptions of one connection (NIP-11).
    pub max_subscriptions: usize,
    /// Bytes in the filters of one connection's open subscriptions and waiting queries. An author takes 72.
    pub max_filter_bytes: u64,
    /// Stored events returned for one filter; larger limits are cut to it (NIP-11).
    pub max_limit: u32,
    /// Bytes of one event as it is stored: a bit over half of its JSON.
    pub max_event_bytes: usize,
    /// EVENTs, per second.
    pub events: Rate,
    /// Bytes received, on the wire and out of compressed messages, per second.
    pub bytes: Rate,
    /// REQ, COUNT and NEG-OPEN messages, per second.
    pub queries: Rate,
    /// Microseconds of the relay's CPU, per second: what the client's messages cost ([`Act`](super::Act)) and its queries
    /// took.
    pub cpu_us: Rate,
}

impl TierLimits {
    /// The rate that limits `quantity`.
    pub(super) const fn rate(&self, quantity: Quantity) -> Rate {
        match quantity {
            Quantity::Events => self.events,
            Quantity::Bytes => self.bytes,
            Quantity::Queries => self.queries,
            Quantity::Cpu => self.cpu_us,
        }
    }

    const fn anonymous() -> Self {
        Self {
            max_subscriptions: 100,
            max_filter_bytes: 2 << 20,
            max_limit: 1_000,
            max_event_bytes: 512 * 1024,
            events: Rate::new(50, 10_000),
            bytes: Rate::new(1 << 20, 32 << 20),
            queries: Rate::new(50, 500),
            cpu_us: Rate::new(200_000, 2_000_000),
        }
    }

    const fn authenticated() -> Self {
        Self {
            max_subscriptions: 200,
            max_filter_bytes: 4 << 20,
            max_limit: 2_000,
            max_event_bytes: 1 << 20,
            events: Rate::new(100, 20_000),
            bytes: Rate::new(4 << 20, 64 << 20),
            queries: Rate::new(100, 1_000),
            cpu_us: Rate::new(400_000, 4_000_000),
        }
    }

    const fn listed() -> Self {
        Self {
            max_subscriptions: 1_000,
            max_filter_bytes: 16 << 20,
            max_limit: 5_000,
            max_event_bytes: 1 << 20,
            events: Rate::UNLIMITED,
            bytes: Rate::UNLIMITED,
            queries: Rate::UNLIMITED,
            cpu_us: Rate::UNLIMITED,
        }
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self {
            anonymous: TierLimits::anonymous(),
            authenticated: TierLimits::authenticated(),
            listed: TierLimits::listed(),
        }
    }
}

impl Tiers {
    /// The limits of `tier`.
    #[must_use]
    pub const fn get(&self, tier: Tier) -> &TierLimits {
        match tier {
            Tier::Anonymous => &self.anonymous,
            Tier::Authenticated => &self.authenticated,
            Tier::Listed => &self.listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eleven_subscriptions_of_two_thousand_follows_fit_an_anonymous_connection() {
        let authors = (0..2_000).map(|n| format!("\"{n:064x}\"")).collect::<Vec<_>>().join(",");
        let filter = super::super::testing::filter(&format!(r#"{{"authors":[{authors}],"kinds":[0,1,3,6,7]}}"#));
        let bytes = 11 * super::super::read::subscription_bytes(&[filter]);
        assert!(bytes < TierLimits::anonymous().max_filter_bytes, "{bytes}");
    }

    #[test]
    fn a_follow_list_of_ten_thousand_fits_the_default_limits() {
        let limits = Limits::default();
        let one = r#"["p","0000000000000000000000000000000000000000000000000000000000000000"],"#.len();
        assert!(10_000 * one + 1_000 < limits.max_message_length);
        assert!(limits.max_event_tags > 10_000);
        // In the record a `p` tag is its count, the name's code, the value's header and 32 bytes.
        assert!(10_000 * 35 + 1_000 < TierLimits::anonymous().max_event_bytes);
    }
}
