//! Every decision about who may connect, write and read, and how much.
//!
//! Decisions are pure: data and `now` in, a value out. Nothing here does I/O, reads a clock or waits. A refusal is a
//! [`Reason`](crate::nostr::Reason), ready to be sent to the client.

pub mod access;
pub mod address_list;
pub mod auth;
pub mod cost;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod http_auth;
mod ids;
pub mod info;
pub mod invites;
pub mod key_set;
pub mod limitation;
pub mod limits;
pub mod list_file;
pub mod membership;
pub mod moderation;
pub mod newcomers;
pub mod offenders;
pub mod options;
pub mod peer;
pub mod plugin;
pub mod rate;
pub mod rate_limiter;
pub mod read;
pub mod refusal;
pub mod retention;
pub mod rule;
pub mod rules;
pub mod sets;
pub mod settings;
pub mod urls;
pub mod write;

#[cfg(test)]
mod testing;

pub use access::Access;
pub use address_list::{AddressError, AddressSet, MalformedForwardedFor, Network, client_address};
pub use auth::check_auth;
pub use cost::Act;
pub use http_auth::{Login, NotAuthorized, check_http_auth, check_login, check_payload};
pub use info::Info;
pub use invites::check_invite;
pub use key_set::{Follows, KeySet};
pub use limitation::limitation;
pub use limits::{Limits, Tier, TierLimits, Tiers};
pub use list_file::{AddressFile, KeyFile, ListFile};
pub use membership::{Membership, SecretFile, check_request};
pub use moderation::{Moderation, Ruling};
pub use newcomers::{NewcomerOptions, Newcomers};
pub use offenders::{OffenderOptions, Offenders, Suspect, is_offence};
pub use options::{PolicyOptions, TrustOptions};
pub use peer::Peer;
pub use plugin::{OnFailure, PluginOptions, Source};
pub use rate::{Buckets, Quantity, Rate, RateOptions, Standing};
pub use rate_limiter::{RateLimiter, RateTable};
pub use read::{ReadGuard, check_count, check_filters, check_open, hold_filters, subscription_bytes};
pub use refusal::Refusal;
pub use retention::{Limits as RetentionLimits, Origin, Retention, RuleOfAll};
pub use rule::{Age, AgeBy, Bounds, Keep, Rule, Selector, is_addressed};
pub use rules::{ContentRule, KindLimits};
pub use sets::{KindSet, OptionalKey};
pub use settings::{Audience, Auth, ChallengeWhen, Settings};
pub use urls::{RelayUrl, RelayUrls};
pub use write::{Decision, accepts_kind, check_event, check_from_node, check_import, check_still_welcome, kind_edges};
