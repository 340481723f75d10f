//! How much a client may request and send. Limits have NIP-11's names where NIP-11 has one.
//!
//! Nothing here decides about a particular event or filter.

use serde::{Deserialize, Serialize};

use super::rate::{Quantity, Rate};

/// Limits that apply to every client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one message from a client, from `[` to `]`, over all its WebSocket fragments (NIP-11).
    ///
    /// The default is 1 MiB: a follow list of 10,000 `p` tags is about 720 KB of JSON, the largest notes in public use
    /// are 200 KB.
    pub max_message_length: usize,
    /// Filters in one REQ or COUNT.
    pub max_filters: usize,
    /// Values in all lists of all filters of one REQ, COUNT or NEG-OPEN: ids, authors, kinds and tag values.
    pub max_filter_items: usize,
    /// Stored events returned for a filter without `limit` (NIP-11).
    pub default_limit: u32,
    /// Whether EOSE says if there are more events, and pages end between two seconds (NIP-67). Advertised in NIP-11.
    /// Off by default, since some clients in use treat an EOSE with a third element as malformed.
    pub eose_hints: bool,
    /// With `eose_hints`: by how many events a page may exceed `default_limit`, but never `max_limit`, to include every
    /// event of its last second.
    pub max_tie_extension: u32,
    /// Tags of one event (NIP-11). 15,000 is about what fits in `max_message_length`.
    pub max_event_tags: usize,
    /// Unicode characters of `content` (NIP-11).
    pub max_content_length: usize,
    /// Leading zero bits that an event id must have, 0 to 256 (NIP-13); 0 requires no work.
    pub min_pow_difficulty: u16,
    /// Whether the `nonce` tag must commit to a target of at least `min_pow_difficulty` (NIP-13). Otherwise a flood of
    /// cheap events would contain a lucky one now and then.
    pub require_committed_target: bool,
    /// How many seconds `created_at` may lie in the past (NIP-11); 0 means no limit.
    pub created_at_lower_limit: u64,
    /// How many seconds `created_at` may lie in the future (NIP-11).
    pub created_at_upper_limit: u64,
    /// Maximum age of an ephemeral event in seconds; 0 means no limit. Ephemeral gift wraps are exempt, because NIP-59
    /// backdates them on purpose.
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

/// The class of a client that determines its limits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// The client has not authenticated.
    Anonymous,
    /// The client has authenticated at least one key (NIP-42).
    Authenticated,
    /// One of the authenticated keys is in `access.listed_pubkeys`.
    Listed,
}

/// Limits by the client's tier.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tiers {
    /// Clients that have not authenticated. NIP-11 advertises these limits.
    pub anonymous: TierLimits,
    /// Clients that have authenticated (NIP-42).
    pub authenticated: TierLimits,
    /// Clients that have authenticated a key in `access.listed_pubkeys`.
    pub listed: TierLimits,
}

/// Limits of one tier. A rate applies to each connection, and to each authenticated key over all its connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierLimits {
    /// Open subscriptions per connection (NIP-11).
    pub max_subscriptions: usize,
    /// Bytes of memory for the filters of a connection's open subscriptions and waiting queries. An author takes 72.
    pub max_filter_bytes: u64,
    /// Stored events returned per filter; larger limits are lowered to it (NIP-11).
    pub max_limit: u32,
    /// Bytes of an event as it is stored: a little more than half of its JSON.
    pub max_event_bytes: usize,
    /// EVENTs, per second.
    pub events: Rate,
    /// Bytes received, on the wire and out of compressed messages, per second.
    pub bytes: Rate,
    /// REQ, COUNT and NEG-OPEN messages, per second.
    pub queries: Rate,
    /// Microseconds of the relay's CPU per second: the cost of the client's messages ([`Act`](super::Act)) and the time
    /// of its queries.
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

    /// The size of the largest event that any client may publish.
    #[must_use]
    pub fn largest_event_bytes(&self) -> usize {
        let tiers = [&self.anonymous, &self.authenticated, &self.listed];
        tiers.into_iter().map(|tier| tier.max_event_bytes).fold(0, usize::max)
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
