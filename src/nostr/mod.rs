//! What the bytes mean: Nostr's events, filters and messages, as types that prove what was checked.
//!
//! Pure: no I/O, clock, threads or configuration. Bytes from the network or from disk are input, so no bytes make this
//! module panic. An [`Event`] has an `id` that is the SHA-256 of its NIP-01 serialization.

pub mod bech32;
pub mod event;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod hex;
pub mod hll;
pub mod json;
pub mod kind;
pub mod message;
#[cfg(any(test, fuzzing))]
pub(crate) mod oracle;
pub mod pow;
pub mod record;
pub mod render;
pub mod reply;
pub mod sign;
pub mod tag;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
pub mod types;
pub mod verify;
pub mod view;

pub use event::{Event, EventError};
pub use filter::{Filter, FilterError, ParseOptions};
pub use kind::{Kind, KindClass};
pub use message::ClientMessage;
pub use reply::{Hint, Prefix, Reason, RelayMessage};
pub use sign::{NewTags, own_event};
pub use tag::{Tag, TagElement, Tags};
pub use types::{EventId, Pubkey, Signature, SubscriptionId, Timestamp};
pub use verify::VerifiedEvent;
pub use view::EventView;
