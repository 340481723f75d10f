//! The `[membership]` section (NIP-43): whether only members publish here, and how keys become members.
//!
//! It decides about requests as far as no claim is concerned; who is a member is in [`Moderation`](super::Moderation).

use std::sync::Arc;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::metrics::PolicyRule;
use crate::nostr::{EventView, Kind, Prefix, Pubkey, TagElement, Timestamp};
use crate::schnorr::SigningKey;

/// Who becomes a member, and the key by which the relay tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Membership {
    /// A file with the relay's own secret key; without one there is no membership.
    pub key_file: SecretFile,
    /// Claims that make anybody a member who knows one.
    pub claims: Vec<String>,
    /// Whether a member gets an invite by asking for it (kind 28935).
    pub members_invite: bool,
    /// How many seconds an invite is good.
    pub invite_ttl_s: u64,
    /// How many seconds the `created_at` of a request may differ from the current time.
    pub request_window_s: u64,
}

/// A file with a secret key, written as its path; an empty path is no file. The key is read separately.
#[derive(Clone, Debug, Default)]
pub struct SecretFile {
    /// Its path, as written; empty if there is no file.
    pub path: String,
    /// The key that it held when it was read.
    pub signer: Option<Arc<SigningKey>>,
    /// Whether others than its owner may read it.
    pub is_open_to_others: bool,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            key_file: SecretFile::default(),
            claims: Vec::new(),
            members_invite: false,
            invite_ttl_s: 604_800,
            request_window_s: 300,
        }
    }
}

impl Membership {
    /// The shortest claim of the configuration, in bytes.
    pub const MIN_CLAIM: usize = 8;
    /// The longest one.
    pub const MAX_CLAIM: usize = 256;

    /// The relay's own key, if there is membership.
    #[must_use]
    pub fn signer(&self) -> Option<&SigningKey> {
        self.key_file.signer.as_deref()
    }

    /// Whether there is membership.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.key_file.signer.is_some()
    }

    /// The relay's own public key (NIP-11 `self`), if there is membership.
    #[must_use]
    pub fn own_key(&self) -> Option<Pubkey> {
        self.signer().map(|signer| Pubkey(signer.public()))
    }

    /// Whether an event is a request to join or to leave, which is answered and goes no further.
    #[must_use]
    pub fn is_request(&self, kind: Kind) -> bool {
        self.is_on() && matches!(kind, Kind::JOIN | Kind::LEAVE)
    }
}

/// Whether a request to join or to leave is well formed and made now. Its claim is not looked at.
///
/// # Errors
/// The refusal, for the client.
pub fn check_request(membership: &Membership, event: EventView<'_>, now: Timestamp) -> Result<(), Refusal> {
    let window = membership.request_window_s;
    if event.created_at().0.abs_diff(now.0) > window {
        let text = format!("created_at of the request is more than {window} s from now");
        return Err(Refusal::new(PolicyRule::Time, Prefix::Restricted, text));
    }
    let invalid = |text| Err(Refusal::new(PolicyRule::Member, Prefix::Invalid, text));
    match event.kind() {
        Kind::LEAVE if !event.is_protected() => invalid("a request to leave must have a \"-\" tag"),
        Kind::JOIN if claim(event).is_none() => invalid("a request to join must have a claim tag"),
        _ => Ok(()),
    }
}

/// The claim of a request to join.
#[must_use]
pub fn claim(event: EventView<'_>) -> Option<String> {
    event.tags().values("claim").next().map(TagElement::to_text)
}

impl PartialEq for SecretFile {
    fn eq(&self, other: &Self) -> bool {
        let public = |file: &Self| file.signer.as_ref().map(|key| key.public());
        (&self.path, public(self), self.is_open_to_others) == (&other.path, public(other), other.is_open_to_others)
    }
}

impl Eq for SecretFile {}

impl Serialize for SecretFile {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.serialize_str(&self.path)
    }
}

impl<'de> Deserialize<'de> for SecretFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { path: String::deserialize(deserializer)?, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, event_at};
    use super::*;

    #[test]
    fn a_request_is_made_now_and_has_its_tags() {
        let said = |created_at, kind: Kind, tags| {
            let event = event_at(created_at, kind.0, tags, r#""""#);
            check_request(&Membership::default(), event.view(), Timestamp(NOW))
                .map_err(|refusal| refusal.reason.to_string())
        };
        let late = Err("restricted: created_at of the request is more than 300 s from now".to_owned());
        for (created_at, expected) in
            [(NOW, Ok(())), (NOW - 300, Ok(())), (NOW + 300, Ok(())), (NOW - 301, late.clone()), (NOW + 301, late)]
        {
            assert_eq!(said(created_at, Kind::JOIN, r#"[["claim","x"]]"#), expected, "{created_at}");
        }
        let invalid = |text: &str| Err(format!("invalid: {text}"));
        assert_eq!(said(NOW, Kind::JOIN, r#"[["-"],["claim"]]"#), invalid("a request to join must have a claim tag"));
        assert_eq!(said(NOW, Kind::LEAVE, "[]"), invalid("a request to leave must have a \"-\" tag"));
        assert_eq!(said(NOW, Kind::LEAVE, r#"[["-"]]"#), Ok(()));
    }
}
