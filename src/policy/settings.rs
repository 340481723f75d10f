//! The reloadable settings: one immutable value, shared by an `Arc` and replaced as a whole.
//!
//! Each message is handled under one snapshot from start to end (INV-13).

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::info::Info;
use super::key_set::KeySet;
use super::limits::{Limits, Tiers};
use super::membership::Membership;
use super::moderation::Moderation;
use super::options::PolicyOptions;
use super::plugin::PluginOptions;
use super::rate::RateOptions;
use super::retention::Retention;
use super::sets::KindSet;
use super::urls::RelayUrls;
use crate::nostr::{ParseOptions, Pubkey};

/// All settings that policy decides by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Which reload of the configuration they came with. Whoever changes a part of them leaves it as it is.
    pub reload: u64,
    /// Limits for every client.
    pub limits: Limits,
    /// Limits by the client's tier.
    pub tiers: Tiers,
    /// Limits by network address.
    pub rates: RateOptions,
    /// What requires authentication (NIP-42).
    pub auth: Auth,
    /// Allow and deny lists.
    pub access: Access,
    /// Rules about events.
    pub policy: PolicyOptions,
    /// The keys in the web of trust; `None` while it is not known, or there is none.
    pub trusted: Option<KeySet>,
    /// The operator's part of the NIP-11 document.
    pub info: Info,
    /// The retention rules.
    pub retention: Retention,
    /// The program that judges events.
    pub plugin: PluginOptions,
    /// The keys that may manage the relay over HTTP (NIP-86).
    pub admins: KeySet,
    /// Who becomes a member (NIP-43).
    pub membership: Membership,
    /// What admins decided while the relay ran.
    pub moderation: Arc<Moderation>,
}

impl Settings {
    /// Whether clients at this address are served at all.
    #[must_use]
    pub fn welcomes_address(&self, address: IpAddr) -> bool {
        self.access.admits(address) && !self.moderation.blocks(address)
    }

    /// Whether events of this key are not refused whatever they are.
    #[must_use]
    pub fn welcomes_key(&self, key: &Pubkey) -> bool {
        !self.access.denies(key) && !self.moderation.bans_key(key)
    }

    /// The options for parsing messages.
    #[must_use]
    pub const fn parse_options(&self) -> ParseOptions {
        ParseOptions { and_filters: self.access.and_filters }
    }
}

/// The clients that may do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Every client.
    #[default]
    Anyone,
    /// Clients that have authenticated.
    Authenticated,
    /// Clients that have authenticated a key in `access.listed_pubkeys`.
    Listed,
}

/// When the challenge is sent (NIP-42).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeWhen {
    /// As soon as a client connects if reading or writing requires authentication, otherwise on demand. After a
    /// challenge that nothing needs, some clients ignore every EOSE, and others never reconnect.
    #[default]
    Auto,
    /// As soon as a client connects: some clients expect it only then.
    Connect,
    /// Just before the first `auth-required:` answer.
    Demand,
}

/// What requires authentication (NIP-42).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// When the challenge is sent.
    pub challenge: ChallengeWhen,
    /// The relay's own URLs, which AUTH events and vanish requests must name. If the list is empty, only names of the
    /// local machine are accepted (`localhost`, `127.0.0.1`, `[::1]`).
    pub urls: RelayUrls,
    /// How many seconds the `created_at` of an AUTH event may differ from the current time.
    pub window: u64,
    /// Who may send REQ, COUNT and NEG-OPEN.
    pub read: Audience,
    /// Who may publish.
    pub write: Audience,
    /// Kinds that only authenticated clients may publish.
    pub write_kinds: KindSet,
    /// Kinds that only authenticated clients may read.
    pub read_kinds: KindSet,
    /// Kinds that only the author and the keys in the event's `p` tags may read (NIP-04, NIP-17, NIP-59).
    pub involved_kinds: KindSet,
    /// Kinds that only the author may read, such as drafts (NIP-37).
    pub author_only_kinds: KindSet,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            challenge: ChallengeWhen::Auto,
            urls: RelayUrls::default(),
            window: 600,
            read: Audience::Anyone,
            write: Audience::Anyone,
            write_kinds: KindSet::default(),
            read_kinds: KindSet::default(),
            involved_kinds: KindSet::of(&[4, 1059, 21059]),
            author_only_kinds: KindSet::default(),
        }
    }
}

impl Auth {
    /// Whether the challenge is sent as soon as a client connects.
    ///
    /// Restricted kinds alone do not cause it: a client that never touches them need not authenticate.
    #[must_use]
    pub fn challenges_at_connect(&self) -> bool {
        match self.challenge {
            ChallengeWhen::Auto => self.read != Audience::Anyone || self.write != Audience::Anyone,
            ChallengeWhen::Connect => true,
            ChallengeWhen::Demand => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_comes_at_connect_where_reading_or_writing_needs_a_key() {
        let (read_kinds, write_kinds) = (KindSet::of(&[7]), KindSet::of(&[8]));
        let auth = Auth { read_kinds, write_kinds, ..Auth::default() };
        assert!(!auth.challenges_at_connect());
        let with = |challenge, read, write| Auth { challenge, read, write, ..Auth::default() }.challenges_at_connect();
        let (anyone, authenticated, listed) = (Audience::Anyone, Audience::Authenticated, Audience::Listed);
        assert!(with(ChallengeWhen::Auto, authenticated, anyone) && with(ChallengeWhen::Auto, anyone, listed));
        assert!(with(ChallengeWhen::Connect, anyone, anyone));
        assert!(!with(ChallengeWhen::Demand, listed, authenticated));
    }
}
