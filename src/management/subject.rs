//! What a decision is about, and its text in files and on the command line, such as `key:<64 hex digits>`.
//!
//! It only holds values.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::role::RoleId;
use crate::nostr::bech32::{parse_note, parse_pubkey};
use crate::nostr::{EventId, Filter, Kind, Pubkey, hex};
use crate::policy::Network;

/// What a decision is about. Each has at most one decision at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// An author.
    Key(Pubkey),
    /// An event.
    Event(EventId),
    /// A kind.
    Kind(Kind),
    /// An address or a prefix of addresses.
    Address(Network),
    /// The relay's name.
    Name,
    /// The relay's description.
    Description,
    /// The URL of the relay's icon.
    Icon,
    /// An invite (NIP-43).
    Invite(InviteCode),
    /// A role (NIP-43).
    Role(RoleId),
    /// Which roles a key has.
    Roles(Pubkey),
}

/// The code of an invite: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InviteCode(pub [u8; 16]);

impl InviteCode {
    /// Reads the 32 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// A text that names no subject.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{text:?} is none of npub1…, 64 hex digits of a key, note1…, event:<64 hex digits>, kind:<number> or an address{why}"
)]
pub struct NotASubject {
    text: String,
    why: String,
}

impl Subject {
    /// A filter for its stored events; `None` for what has none.
    #[must_use]
    pub fn filter(&self) -> Option<Filter> {
        let all = Filter::default();
        match self {
            Self::Key(key) => Some(Filter { authors: Some([*key].into()), ..all }),
            Self::Event(id) => Some(Filter { ids: Some([*id].into()), ..all }),
            Self::Kind(kind) => Some(Filter { kinds: Some([*kind].into()), ..all }),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Event(id) => write!(f, "event:{id}"),
            Self::Kind(kind) => write!(f, "kind:{kind}"),
            Self::Address(network) => write!(f, "address:{network}"),
            Self::Name => f.write_str("name"),
            Self::Description => f.write_str("description"),
            Self::Icon => f.write_str("icon"),
            Self::Invite(code) => write!(f, "invite:{code}"),
            Self::Role(id) => write!(f, "role:{id}"),
            Self::Roles(key) => write!(f, "roles:{key}"),
        }
    }
}

/// Reads what `Display` writes, and what people type: `npub1…`, `note1…`, the hex digits of a key, an address.
impl FromStr for Subject {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        let not = |why: String| NotASubject { text: text.chars().take(100).collect(), why };
        match text {
            "name" => return Ok(Self::Name),
            "description" => return Ok(Self::Description),
            "icon" => return Ok(Self::Icon),
            _ => {}
        }
        // An IPv6 address has colons too, but none of these words before the first.
        match text.split_once(':') {
            Some(("key", key)) => parse_pubkey(key).map(Self::Key).map_err(|error| not(format!(": {error}"))),
            Some(("event", id)) => {
                let id = EventId::from_hex(id.as_bytes()).or_else(|| parse_note(id));
                id.map(Self::Event).ok_or_else(|| not(String::new()))
            }
            Some(("kind", kind)) => kind.parse().map(|kind| Self::Kind(Kind(kind))).map_err(|_| not(String::new())),
            Some(("invite", code)) => InviteCode::parse(code).map(Self::Invite).ok_or_else(|| not(String::new())),
            Some(("role", id)) => id.parse().map(Self::Role).map_err(|error| not(format!(": {error}"))),
            Some(("roles", key)) => parse_pubkey(key).map(Self::Roles).map_err(|error| not(format!(": {error}"))),
            Some(("address", address)) => address.parse().map(Self::Address).map_err(|error| not(format!(": {error}"))),
            _ => match text.parse() {
                Ok(network) => Ok(Self::Address(network)),
                Err(_) => match (parse_note(text), parse_pubkey(text)) {
                    (Some(id), _) => Ok(Self::Event(id)),
                    (None, Ok(key)) => Ok(Self::Key(key)),
                    (None, Err(_)) => Err(not(String::new())),
                },
            },
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_read_as_it_is_written_and_as_people_type_it() {
        let (key, id) = (Pubkey([0xab; 32]), EventId([0xcd; 32]));
        let subjects = [
            (Subject::Key(key), format!("key:{key}")),
            (Subject::Event(id), format!("event:{id}")),
            (Subject::Kind(Kind(1984)), "kind:1984".into()),
            (Subject::Address("192.0.2.7".parse().expect("an address")), "address:192.0.2.7".into()),
            (Subject::Address("2001:db8::/32".parse().expect("a prefix")), "address:2001:db8::/32".into()),
            (Subject::Name, "name".into()),
            (Subject::Description, "description".into()),
            (Subject::Icon, "icon".into()),
            (Subject::Invite(InviteCode([0xef; 16])), format!("invite:{}", "ef".repeat(16))),
            (Subject::Role("28b7e50f".parse().expect("a role")), "role:28b7e50f".into()),
            (Subject::Roles(key), format!("roles:{key}")),
        ];
        for (subject, text) in subjects {
            assert_eq!((subject.to_string(), text.parse()), (text.clone(), Ok(subject)));
        }
        for (typed, text) in [
            (crate::nostr::bech32::npub(&key), format!("key:{key}")),
            (key.to_string(), format!("key:{key}")),
            ("192.0.2.7".into(), "address:192.0.2.7".into()),
            ("2001:db8::1".into(), "address:2001:db8::1".into()),
            ("198.51.100.9/24".into(), "address:198.51.100.0/24".into()),
            ("note1fntxtkcy9pjwucqwa9mddn7v03wwwsu9j330jj350nvhpky2tuaspk6nqc".into(), {
                "event:4cd665db042864ee600ee976d6cfcc7c5ce743859462f94a347cd970d88a5f3b".into()
            }),
        ] {
            assert_eq!(typed.parse::<Subject>().map(|subject| subject.to_string()), Ok(text));
        }
        for wrong in [
            "",
            "alice",
            "key:",
            "event:ab",
            "kind:65536",
            "kind:x",
            "invite:ab",
            "role:",
            "role:a b",
            "address:1.2.3",
            "nsec1x",
            "npub1x",
        ] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
