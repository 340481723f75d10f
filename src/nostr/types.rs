//! The small values of the protocol: event ids, keys, signatures, times and subscription ids.
//!
//! They only hold values. What may be published or asked for is decided in `policy`.

use std::fmt;
use std::sync::Arc;

use super::hex;

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads lower-case hexadecimal, exactly as NIP-01 writes it; `None` for anything else.
            #[must_use]
            pub fn from_hex(text: &[u8]) -> Option<Self> {
                hex::decode(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(&self.0))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}

bytes_type!(
    /// The SHA-256 of an event's NIP-01 serialization.
    EventId,
    32
);
bytes_type!(
    /// An author: the x-only public key of BIP-340.
    Pubkey,
    32
);
bytes_type!(
    /// A BIP-340 Schnorr signature over the 32 bytes of an [`EventId`].
    Signature,
    64
);

/// Seconds since the Unix epoch, as in `created_at`, `since` and `until`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The latest `created_at` that weir accepts: 48 bits, about nine million years.
    ///
    /// That covers the milliseconds that some clients write by mistake, and keeps index keys short.
    pub const MAX: Self = Self((1 << 48) - 1);
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subscription id: 1 to 64 characters of any kind, unique within its connection (NIP-01).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(Arc<str>);

impl SubscriptionId {
    /// The most characters that NIP-01 allows, counted as Unicode scalar values, not bytes.
    pub const MAX_CHARS: usize = 64;

    /// `None` for an empty text or one of more than 64 characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= Self::MAX_CHARS || text.chars().count() <= Self::MAX_CHARS;
        (!text.is_empty() && fits).then(|| Self(text.into()))
    }

    /// The text as the client sent it, unescaped.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for SubscriptionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubscriptionId({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_id_has_1_to_64_characters_counted_as_characters() {
        assert!(SubscriptionId::new("").is_none());
        assert!(SubscriptionId::new(&"é".repeat(64)).is_some());
        assert!(SubscriptionId::new(&"é".repeat(65)).is_none());
        assert!(SubscriptionId::new("\"\\\n").is_some());
    }

    #[test]
    fn hex_is_lower_case_and_of_the_exact_length() {
        assert_eq!(EventId::from_hex("0a".repeat(32).as_bytes()), Some(EventId([10; 32])));
        assert_eq!(EventId::from_hex("0A".repeat(32).as_bytes()), None);
        assert_eq!(EventId::from_hex("0a".repeat(31).as_bytes()), None);
        assert_eq!(EventId::from_hex("0a".repeat(33).as_bytes()), None);
        assert_eq!(EventId::from_hex("0g".repeat(32).as_bytes()), None);
    }
}
