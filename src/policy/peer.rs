//! The client at the other end of a connection: its address and the keys that it has authenticated (NIP-42).

use std::net::IpAddr;
use std::sync::Arc;

use super::limits::Tier;
use super::settings::{Audience, Settings};
use crate::nostr::{Prefix, Pubkey, Reason};

/// A client as policy sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The client's address, behind any trusted proxies.
    pub address: IpAddr,
    /// Sorted, without duplicates.
    keys: Arc<[Pubkey]>,
}

impl Peer {
    /// The maximum number of keys per connection: enough for every account of a person, and a bound on memory.
    pub const MAX_KEYS: usize = 64;

    /// A client that has not authenticated.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self { address, keys: Arc::default() }
    }

    /// Adds an authenticated key. Adding it again changes nothing; earlier keys stay authenticated (NIP-42).
    ///
    /// # Errors
    /// `restricted:` when there are [`Peer::MAX_KEYS`] already.
    pub fn authenticate(&mut self, key: Pubkey) -> Result<(), Reason> {
        let Err(place) = self.keys.binary_search(&key) else {
            return Ok(());
        };
        if self.keys.len() == Self::MAX_KEYS {
            let text = format!("a connection may authenticate at most {} keys", Self::MAX_KEYS);
            return Err(Reason::new(Prefix::Restricted, text));
        }
        let mut keys = self.keys.to_vec();
        keys.insert(place, key);
        self.keys = keys.into();
        Ok(())
    }

    /// The authenticated keys, sorted.
    #[must_use]
    pub const fn keys(&self) -> &Arc<[Pubkey]> {
        &self.keys
    }

    /// Whether the client has authenticated any key.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether the client has authenticated `key`.
    #[must_use]
    pub fn is(&self, key: &Pubkey) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// The tier whose limits apply to the client.
    #[must_use]
    pub fn tier(&self, settings: &Settings) -> Tier {
        if self.keys.is_empty() {
            Tier::Anonymous
        } else if !settings.access.lists_nobody() && self.keys.iter().any(|key| settings.access.lists(key)) {
            Tier::Listed
        } else {
            Tier::Authenticated
        }
    }

    /// Whether the client belongs to `who`, to do `what`.
    ///
    /// # Errors
    /// `auth-required:` when it has not authenticated, `restricted:` when none of its keys is listed.
    pub fn check(&self, settings: &Settings, who: Audience, what: &'static str) -> Result<(), Reason> {
        match (who, self.tier(settings)) {
            (Audience::Anyone, _)
            | (Audience::Authenticated, Tier::Authenticated | Tier::Listed)
            | (Audience::Listed, Tier::Listed) => Ok(()),
            (_, Tier::Anonymous) => {
                Err(Reason::new(Prefix::AuthRequired, format!("only authenticated clients may {what}")))
            }
            _ => Err(Reason::new(Prefix::Restricted, format!("your key may not {what} here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::new(IpAddr::from([127, 0, 0, 1]))
    }

    #[test]
    fn every_authenticated_key_stays_authenticated() {
        let mut peer = peer();
        for key in [9, 3, 9, 5] {
            assert_eq!(peer.authenticate(Pubkey([key; 32])), Ok(()));
        }
        assert_eq!(peer.keys()[..], [3, 5, 9].map(|key| Pubkey([key; 32])));
    }

    #[test]
    fn the_sixty_fifth_key_is_refused_and_a_known_one_still_accepted() {
        let mut peer = peer();
        for key in 0..64 {
            assert_eq!(peer.authenticate(Pubkey([key; 32])), Ok(()));
        }
        let refused = peer.authenticate(Pubkey([64; 32])).expect_err("a refusal");
        assert_eq!(refused.to_string(), "restricted: a connection may authenticate at most 64 keys");
        assert_eq!(peer.authenticate(Pubkey([7; 32])), Ok(()));
    }

    #[test]
    fn auth_required_asks_for_a_key_and_restricted_refuses_one() {
        let mut settings = Settings::default();
        settings.access.listed_pubkeys = [Pubkey([2; 32])].into_iter().collect();
        let mut peer = peer();
        let said = |peer: &Peer, who| peer.check(&settings, who, "write").map_err(|reason| reason.to_string());
        assert_eq!(said(&peer, Audience::Anyone), Ok(()));
        let asked = "auth-required: only authenticated clients may write".to_string();
        assert_eq!(said(&peer, Audience::Listed), Err(asked.clone()));
        assert_eq!(said(&peer, Audience::Authenticated), Err(asked));
        assert_eq!(peer.authenticate(Pubkey([1; 32])), Ok(()));
        assert_eq!(said(&peer, Audience::Authenticated), Ok(()));
        assert_eq!(said(&peer, Audience::Listed), Err("restricted: your key may not write here".into()));
        assert_eq!(peer.authenticate(Pubkey([2; 32])), Ok(()));
        assert_eq!((said(&peer, Audience::Listed), peer.tier(&settings)), (Ok(()), Tier::Listed));
    }
}
