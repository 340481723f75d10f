//! What admins decided while the relay ran (NIP-86), in the form in which events and addresses are looked up.
//!
//! It only answers look-ups. Who decided what and why, and how that is kept, is in [`management`](crate::management).

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::address_list::{AddressSet, Network};
use super::ids::Ids;
use super::info::Info;
use super::refusal::Refusal;
use crate::nostr::{EventId, EventView, Kind, Pubkey};

/// The decisions in force: one immutable value, replaced as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Moderation {
    banned_keys: Ids,
    allowed_keys: Ids,
    banned_events: Ids,
    banned_kinds: Arc<HashSet<Kind>>,
    allowed_kinds: Arc<HashSet<Kind>>,
    blocked: Arc<HashSet<Network>>,
    /// The same as `blocked`, for look-ups.
    blocked_addresses: AddressSet,
    name: Option<Arc<str>>,
    description: Option<Arc<str>>,
    icon: Option<Arc<str>>,
}

/// A decision as far as look-ups need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling<'a> {
    /// An author. `Some(true)`: allowed; `Some(false)`: banned.
    Key(Pubkey, Option<bool>),
    /// An event, likewise.
    Event(EventId, Option<bool>),
    /// A kind, likewise.
    Kind(Kind, Option<bool>),
    /// An address or prefix: whether it is blocked.
    Address(Network, bool),
    /// The relay's name, in place of the configured one.
    Name(Option<&'a str>),
    /// The relay's description, likewise.
    Description(Option<&'a str>),
    /// The URL of the relay's icon, likewise.
    Icon(Option<&'a str>),
}

/// Adds a value to a shared set, or takes it out.
fn put<T: Clone + Eq + std::hash::Hash>(set: &mut Arc<HashSet<T>>, value: T, is_in: bool) {
    if is_in {
        Arc::make_mut(set).insert(value);
    } else if set.contains(&value) {
        Arc::make_mut(set).remove(&value);
    }
}

/// Whether a set holds a value. Most sets are empty, and then nothing is hashed.
fn holds<T: Eq + std::hash::Hash>(set: &HashSet<T>, value: &T) -> bool {
    !set.is_empty() && set.contains(value)
}

impl Moderation {
    /// Puts a decision in force, in place of an earlier one on the same subject.
    pub fn put(&mut self, ruling: Ruling<'_>) {
        match ruling {
            Ruling::Key(key, verdict) => {
                self.banned_keys.put(key.0, verdict == Some(false));
                self.allowed_keys.put(key.0, verdict == Some(true));
            }
            Ruling::Event(id, verdict) => self.banned_events.put(id.0, verdict == Some(false)),
            Ruling::Kind(kind, verdict) => {
                put(&mut self.banned_kinds, kind, verdict == Some(false));
                put(&mut self.allowed_kinds, kind, verdict == Some(true));
            }
            Ruling::Address(network, is_blocked) => {
                put(&mut self.blocked, network, is_blocked);
                self.blocked_addresses = self.blocked.iter().copied().collect();
            }
            Ruling::Name(text) => self.name = text.map(Arc::from),
            Ruling::Description(text) => self.description = text.map(Arc::from),
            Ruling::Icon(text) => self.icon = text.map(Arc::from),
        }
    }

    /// Whether the event, its author or its kind is banned.
    ///
    /// # Errors
    /// The refusal, for the client.
    pub fn check_bans(&self, event: EventView<'_>) -> Result<(), Refusal> {
        if self.bans_key(&event.pubkey()) {
            return Err(Refusal::author());
        }
        if self.bans_event(&event.id()) {
            return Err(Refusal::event());
        }
        if self.bans_kind(event.kind()) { Err(Refusal::kind(event.kind())) } else { Ok(()) }
    }

    /// The events that are refused and were not `before`.
    pub fn newly_banned<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = EventId> + 'a {
        self.banned_events.since(&before.banned_events).map(EventId)
    }

    /// Whether the event is refused.
    #[must_use]
    pub fn bans_event(&self, id: &EventId) -> bool {
        self.banned_events.holds(&id.0)
    }

    /// Whether the author's events are refused.
    #[must_use]
    pub fn bans_key(&self, key: &Pubkey) -> bool {
        self.banned_keys.holds(&key.0)
    }

    /// Whether the kind is refused.
    #[must_use]
    pub fn bans_kind(&self, kind: Kind) -> bool {
        holds(&self.banned_kinds, &kind)
    }

    /// Whether the kind is accepted although the configured list does not name it.
    #[must_use]
    pub fn allows_kind(&self, kind: Kind) -> bool {
        holds(&self.allowed_kinds, &kind)
    }

    /// Whether the author is accepted although the configured list does not name it.
    #[must_use]
    pub fn allows_key(&self, key: &Pubkey) -> bool {
        self.allowed_keys.holds(&key.0)
    }

    /// How many authors are accepted although the configured list may not name them.
    #[must_use]
    pub const fn allowed_keys(&self) -> usize {
        self.allowed_keys.len()
    }

    /// Whether clients at this address are turned away.
    #[must_use]
    pub fn blocks(&self, address: IpAddr) -> bool {
        self.blocked_addresses.contains(address)
    }

    /// The kinds that admins banned or allowed, in any order.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.banned_kinds.iter().chain(&*self.allowed_kinds).copied()
    }

    /// The configured document with the name, description and icon that admins gave the relay.
    #[must_use]
    pub fn info(&self, configured: &Info) -> Info {
        let mut info = configured.clone();
        let texts =
            [(&mut info.name, &self.name), (&mut info.description, &self.description), (&mut info.icon, &self.icon)];
        for (text, given) in texts {
            if let Some(given) = given {
                *text = given.to_string();
            }
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, event_at};
    use super::*;

    #[test]
    fn the_last_decision_on_a_subject_counts_and_none_takes_it_back() {
        let event = event_at(NOW, 1, "[]", r#""""#);
        let (key, id) = (event.view().pubkey(), event.view().id());
        let mut moderation = Moderation::default();
        let said = |moderation: &Moderation| {
            moderation.check_bans(event.view()).err().map(|refusal| refusal.reason.to_string())
        };
        assert_eq!(said(&moderation), None);
        let before = moderation.clone();
        moderation.put(Ruling::Event(id, Some(false)));
        let newly = |before: &Moderation| moderation.newly_banned(before).collect::<Vec<_>>();
        assert_eq!([newly(&before), newly(&Moderation::default()), newly(&moderation)], [vec![id], vec![id], vec![]]);
        assert_eq!(said(&moderation).as_deref(), Some("blocked: this event is not welcome here"));
        moderation.put(Ruling::Key(key, Some(false)));
        assert_eq!(said(&moderation).as_deref(), Some("blocked: the author is not welcome here"));
        moderation.put(Ruling::Key(key, Some(true)));
        moderation.put(Ruling::Event(id, Some(true)));
        assert_eq!((said(&moderation), moderation.allows_key(&key)), (None, true));
        moderation.put(Ruling::Kind(Kind(1), Some(false)));
        assert_eq!(said(&moderation).as_deref(), Some("blocked: kind 1 is not accepted here"));
        moderation.put(Ruling::Kind(Kind(1), None));
        moderation.put(Ruling::Key(key, None));
        assert_eq!((said(&moderation), moderation.allows_key(&key)), (None, false));
        assert_eq!(moderation, Moderation::default());
    }

    #[test]
    fn a_blocked_prefix_covers_its_addresses_and_a_name_replaces_the_configured_one() {
        let mut moderation = Moderation::default();
        let network = |text: &str| text.parse::<Network>().expect("a prefix");
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        moderation.put(Ruling::Address(network("192.0.2.0/24"), true));
        moderation.put(Ruling::Address(network("2001:db8::1"), true));
        let blocked =
            ["192.0.2.9", "::ffff:192.0.2.9", "192.0.3.1", "2001:db8::1"].map(|text| moderation.blocks(at(text)));
        assert_eq!(blocked, [true, true, false, true]);
        moderation.put(Ruling::Address(network("192.0.2.0/24"), false));
        assert!(!moderation.blocks(at("192.0.2.9")));
        moderation.put(Ruling::Name(Some("other")));
        let info = moderation.info(&Info::default());
        assert_eq!(info, Info { name: "other".into(), ..Info::default() });
    }
}
