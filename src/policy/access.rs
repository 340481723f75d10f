//! The `[access]` section: who may connect, and whose events of which kinds are accepted.
//!
//! It answers what its lists say; `write` and `peer` decide what follows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address_list::AddressSet;
use super::key_set::KeySet;
use super::list_file::{AddressFile, KeyFile};
use super::moderation::Moderation;
use super::rule::is_addressed;
use super::sets::KindSet;
use crate::nostr::{EventView, Kind, Pubkey};

/// Allow and deny lists.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Authors whose events are accepted; empty accepts all, if there is no file either.
    pub allow_pubkeys: KeySet,
    /// A file with more of them.
    pub allow_pubkeys_file: KeyFile,
    /// Authors whose events are refused.
    pub deny_pubkeys: KeySet,
    /// A file with more of them.
    pub deny_pubkeys_file: KeyFile,
    /// Authors whose events are dropped, while their clients are told that they were accepted.
    pub mute_pubkeys: KeySet,
    /// A file with more of them.
    pub mute_pubkeys_file: KeyFile,
    /// Keys whose clients get the limits of `[tiers.listed]`.
    pub listed_pubkeys: KeySet,
    /// A file with more of them.
    pub listed_pubkeys_file: KeyFile,
    /// Kinds that anyone may publish to an allowed or listed key: gift wraps are signed with throwaway keys (NIP-59),
    /// and what wallets and remote signers send is signed with keys of their own (NIP-46, NIP-47, NIP-57).
    pub addressed_kinds: KindSet,
    /// Kinds that are accepted; empty accepts all.
    pub allow_kinds: KindSet,
    /// Kinds that are refused.
    pub deny_kinds: KindSet,
    /// Addresses and prefixes that may connect; empty admits all.
    pub allow_addresses: AddressSet,
    /// A file with more of them.
    pub allow_addresses_file: AddressFile,
    /// Addresses and prefixes that may not connect; overrides `allow_addresses`.
    pub deny_addresses: AddressSet,
    /// A file with more of them.
    pub deny_addresses_file: AddressFile,
    /// Whether authors may publish their own protected events (NIP-70). No one may publish those of others.
    pub protected_events: bool,
    /// Whether filters may require several tag values at once with `&x` keys (NIP-91, a draft).
    pub and_filters: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            allow_pubkeys: KeySet::default(),
            allow_pubkeys_file: KeyFile::default(),
            deny_pubkeys: KeySet::default(),
            deny_pubkeys_file: KeyFile::default(),
            mute_pubkeys: KeySet::default(),
            mute_pubkeys_file: KeyFile::default(),
            listed_pubkeys: KeySet::default(),
            listed_pubkeys_file: KeyFile::default(),
            addressed_kinds: KindSet::of(&[1059, 21059, 9735, 23194, 23195, 24133]),
            allow_kinds: KindSet::default(),
            deny_kinds: KindSet::default(),
            allow_addresses: AddressSet::default(),
            allow_addresses_file: AddressFile::default(),
            deny_addresses: AddressSet::default(),
            deny_addresses_file: AddressFile::default(),
            protected_events: true,
            and_filters: false,
        }
    }
}

impl Access {
    /// Whether a client at `address` may connect at all.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let is_in = |own: &AddressSet, file: &AddressFile| own.contains(address) || file.held.contains(address);
        let admits_all = self.allow_addresses.is_empty() && !self.allow_addresses_file.is_set();
        !is_in(&self.deny_addresses, &self.deny_addresses_file)
            && (admits_all || is_in(&self.allow_addresses, &self.allow_addresses_file))
    }

    /// Whether events of this author are refused.
    #[must_use]
    pub fn denies(&self, author: &Pubkey) -> bool {
        self.deny_pubkeys.contains(author) || self.deny_pubkeys_file.held.contains(author)
    }

    /// Whether events of this author are dropped.
    #[must_use]
    pub fn mutes(&self, author: &Pubkey) -> bool {
        self.mute_pubkeys.contains(author) || self.mute_pubkeys_file.held.contains(author)
    }

    /// Whether only listed authors may publish here.
    #[must_use]
    pub fn allows_members_only(&self) -> bool {
        !self.allow_pubkeys.is_empty() || self.allow_pubkeys_file.is_set()
    }

    /// Whether this author is one of those.
    #[must_use]
    pub fn allows(&self, author: &Pubkey) -> bool {
        self.allow_pubkeys.contains(author) || self.allow_pubkeys_file.held.contains(author)
    }

    /// Whether clients with this key get the limits of `[tiers.listed]`.
    #[must_use]
    pub fn lists(&self, key: &Pubkey) -> bool {
        self.listed_pubkeys.contains(key) || self.listed_pubkeys_file.held.contains(key)
    }

    /// Whether any key is listed.
    #[must_use]
    pub fn lists_nobody(&self) -> bool {
        self.listed_pubkeys.is_empty() && !self.listed_pubkeys_file.is_set()
    }

    /// Whether this author may publish where only members may: the operator or an admin named it, or it joined.
    #[must_use]
    pub fn is_member(&self, author: &Pubkey, moderation: &Moderation) -> bool {
        self.allows(author) || moderation.allows_key(author)
    }

    /// Whether the operator knows this key.
    #[must_use]
    pub fn knows(&self, key: &Pubkey, moderation: &Moderation) -> bool {
        self.is_member(key, moderation) || self.lists(key)
    }

    /// Whether events of this kind count against a new key, and make it known. Those that others address to members do
    /// not, since each gift wrap has a new key, and neither do requests to vanish, which everyone may make.
    #[must_use]
    pub fn counts_for_newcomers(&self, kind: Kind) -> bool {
        kind != Kind::VANISH && !self.addressed_kinds.contains(kind)
    }

    /// Whether anyone may publish this event because of whom it is for.
    #[must_use]
    pub fn is_for_member(&self, event: EventView<'_>, moderation: &Moderation) -> bool {
        self.addressed_kinds.contains(event.kind()) && is_addressed(event, |key| self.knows(key, moderation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_overrides_allow_and_an_empty_list_admits_all() {
        let set = |texts: &[&str]| -> AddressSet { texts.iter().map(|text| text.parse().expect("a prefix")).collect() };
        let at = |text: &str| text.parse().expect("an address");
        let mut access = Access::default();
        assert!(access.admits(at("10.0.0.1")));
        access.allow_addresses = set(&["10.0.0.0/8"]);
        access.deny_addresses = set(&["10.0.0.1"]);
        assert_eq!([at("10.0.0.1"), at("10.0.0.2"), at("11.0.0.1")].map(|a| access.admits(a)), [false, true, false]);
    }
}
