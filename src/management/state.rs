//! The decisions in force, in memory: what the acts of the audit come to.
//!
//! Their number is bounded by kind of subject, so that neither an admin's script nor a stolen key fills the memory.

use std::collections::BTreeMap;

use super::audit::{AuditEntry, Decision, Verdict};
use super::decision_order::DecisionOrder;
use super::role::RoleId;
use super::subject::{InviteCode, Subject};
use crate::metrics::Decided;
use crate::nostr::Pubkey;
use crate::policy::{Moderation, Ruling};

/// Authors that are banned, at about 400 bytes each, with their reasons.
pub const MAX_BANNED: usize = 1_000_000;

/// Authors that are allowed. Members join by themselves, so there may be fewer.
pub const MAX_ALLOWED: usize = 100_000;

/// Decisions about events.
pub const MAX_EVENTS: usize = 100_000;

/// Decisions about addresses.
pub const MAX_ADDRESSES: usize = 10_000;

/// Invites that are not used up. Expired ones make room for others.
pub const MAX_INVITES: usize = 10_000;

/// Roles, and keys that have some.
pub const MAX_ROLES: usize = 100;
/// See [`MAX_ROLES`].
pub const MAX_HOLDERS: usize = 10_000;

/// A list of decisions that admins ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    /// Keys that are banned.
    BannedKeys,
    /// Keys that are allowed, or joined.
    AllowedKeys,
    /// Events that are banned.
    BannedEvents,
    /// Addresses that are blocked.
    BlockedAddresses,
}

impl List {
    /// The list that holds such a decision, if one does.
    const fn of(subject: Subject, verdict: Verdict) -> Option<Self> {
        match (subject, verdict) {
            (Subject::Key(_), Verdict::Ban) => Some(Self::BannedKeys),
            (Subject::Key(_), Verdict::Allow) => Some(Self::AllowedKeys),
            (Subject::Event(_), Verdict::Ban) => Some(Self::BannedEvents),
            (Subject::Address(_), Verdict::Ban) => Some(Self::BlockedAddresses),
            _ => None,
        }
    }
}

/// The decision on each subject that has one, with their numbers by kind of subject: at most 1,000,000 keys that are
/// banned, 100,000 that are allowed, 100,000 events, 10,000 addresses, invites and keys with roles, and 100 roles.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    decisions: BTreeMap<Subject, Decision>,
    /// By [`List`].
    lists: [DecisionOrder; 4],
    /// The number of the last act.
    last: u64,
    keys: usize,
    events: usize,
    kinds: usize,
    addresses: usize,
    invites: usize,
    roles: usize,
    holders: usize,
    moderation: Moderation,
}

impl State {
    /// The state after act `last`, before its decisions are put in.
    #[must_use]
    pub fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// The number of the last act.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The decision about a subject.
    #[must_use]
    pub fn get(&self, subject: &Subject) -> Option<&Decision> {
        self.decisions.get(subject)
    }

    /// Every decision, by subject.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Subject, &Decision)> {
        self.decisions.iter()
    }

    /// The decisions of a list after the first `skip`, the latest first.
    pub fn listed(&self, list: List, skip: usize) -> impl Iterator<Item = (Subject, &Decision)> {
        self.lists[list as usize].latest(skip).filter_map(|subject| Some((subject, self.get(&subject)?)))
    }

    /// How many decisions a list has.
    #[must_use]
    pub const fn listed_count(&self, list: List) -> usize {
        self.lists[list as usize].count()
    }

    /// The keys that were allowed or joined, the latest first.
    pub fn members(&self) -> impl Iterator<Item = (Pubkey, &Decision)> {
        self.listed(List::AllowedKeys, 0).filter_map(|(subject, decision)| {
            if let Subject::Key(key) = subject { Some((key, decision)) } else { None }
        })
    }

    /// The invites that are not used up, expired or not.
    pub fn invites(&self) -> impl Iterator<Item = (InviteCode, &Decision)> {
        let invites =
            self.decisions.range(Subject::Invite(InviteCode([0; 16]))..=Subject::Invite(InviteCode([0xff; 16])));
        invites.filter_map(
            |(subject, decision)| if let Subject::Invite(code) = subject { Some((*code, decision)) } else { None },
        )
    }

    /// The roles.
    pub fn roles(&self) -> impl Iterator<Item = (RoleId, &Decision)> {
        let roles = self.decisions.range(Subject::Role(RoleId::FIRST)..=Subject::Role(RoleId::LAST));
        roles.filter_map(
            |(subject, decision)| if let Subject::Role(id) = subject { Some((*id, decision)) } else { None },
        )
    }

    /// The keys that have roles.
    pub fn holders(&self) -> impl Iterator<Item = (Pubkey, &Decision)> {
        let keys = self.decisions.range(Subject::Roles(Pubkey([0; 32]))..=Subject::Roles(Pubkey([0xff; 32])));
        keys.filter_map(
            |(subject, decision)| if let Subject::Roles(key) = subject { Some((*key, decision)) } else { None },
        )
    }

    /// What events and addresses are looked up in.
    #[must_use]
    pub const fn moderation(&self) -> &Moderation {
        &self.moderation
    }

    /// How many decisions there are, by what they are about.
    #[must_use]
    pub fn counts(&self) -> [(Decided, usize); Decided::ALL.len()] {
        let allowed = self.moderation.allowed_keys();
        [
            (Decided::BannedKey, self.keys - allowed),
            (Decided::AllowedKey, allowed),
            (Decided::Event, self.events),
            (Decided::Kind, self.kinds),
            (Decided::Address, self.addresses),
            (Decided::Invite, self.invites),
            (Decided::Role, self.roles),
            (Decided::RoleHolder, self.holders),
        ]
    }

    /// Whether there is room for such a decision about `subject`, and if not, how many there may be.
    ///
    /// # Errors
    /// The bound.
    pub fn check_room(&self, subject: &Subject, verdict: Verdict) -> Result<(), usize> {
        let former = self.decisions.get(subject);
        let (held, most) = match subject {
            Subject::Key(_) => {
                // Each verdict has a bound of its own.
                let is_held = former.is_some_and(|former| former.verdict == verdict);
                let list = List::of(*subject, verdict).filter(|_| !is_held);
                let most = if verdict == Verdict::Allow { MAX_ALLOWED } else { MAX_BANNED };
                let has_room = list.is_none_or(|list| self.listed_count(list) < most);
                return if has_room { Ok(()) } else { Err(most) };
            }
            Subject::Event(_) => (self.events, MAX_EVENTS),
            Subject::Address(_) => (self.addresses, MAX_ADDRESSES),
            Subject::Invite(_) => (self.invites, MAX_INVITES),
            Subject::Role(_) => (self.roles, MAX_ROLES),
            Subject::Roles(_) => (self.holders, MAX_HOLDERS),
            // There are 65,536 kinds, and one of each of the others.
            Subject::Kind(_) | Subject::Name | Subject::Description | Subject::Icon => return Ok(()),
        };
        if held < most || former.is_some() { Ok(()) } else { Err(most) }
    }

    /// Applies an act.
    pub fn apply(&mut self, entry: &AuditEntry) {
        self.last = entry.number;
        if let Some(change) = &entry.change {
            self.put(entry.subject, change.after.clone());
        }
    }

    /// Replaces the decision about a subject.
    pub fn put(&mut self, subject: Subject, decision: Option<Decision>) {
        if let Some(ruling) = ruling(subject, decision.as_ref()) {
            self.moderation.put(ruling);
        }
        let place = |decision: &Decision| Some((List::of(subject, decision.verdict)? as usize, decision.number));
        if let Some((list, number)) = self.decisions.get(&subject).and_then(place) {
            self.lists[list].remove(number, subject);
        }
        if let Some((list, number)) = decision.as_ref().and_then(place) {
            self.lists[list].insert(number, subject);
        }
        let (was, is) = match decision {
            Some(decision) => (self.decisions.insert(subject, decision).is_some(), true),
            None => (self.decisions.remove(&subject).is_some(), false),
        };
        let held = match subject {
            Subject::Key(_) => &mut self.keys,
            Subject::Event(_) => &mut self.events,
            Subject::Kind(_) => &mut self.kinds,
            Subject::Address(_) => &mut self.addresses,
            Subject::Invite(_) => &mut self.invites,
            Subject::Role(_) => &mut self.roles,
            Subject::Roles(_) => &mut self.holders,
            Subject::Name | Subject::Description | Subject::Icon => return,
        };
        *held = *held + usize::from(is) - usize::from(was);
    }
}

/// The decision for look-ups; `None` where events and addresses do not depend on it.
fn ruling(subject: Subject, decision: Option<&Decision>) -> Option<Ruling<'_>> {
    let verdict = decision.map(|decision| decision.verdict == Verdict::Allow);
    let text = decision.map(|decision| decision.text.as_str());
    Some(match subject {
        Subject::Key(key) => Ruling::Key(key, verdict),
        Subject::Event(id) => Ruling::Event(id, verdict),
        Subject::Kind(kind) => Ruling::Kind(kind, verdict),
        Subject::Address(network) => Ruling::Address(network, verdict == Some(false)),
        Subject::Name => Ruling::Name(text),
        Subject::Description => Ruling::Description(text),
        Subject::Icon => Ruling::Icon(text),
        Subject::Invite(_) | Subject::Role(_) | Subject::Roles(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_no_more_keys_may_be_allowed_there_is_room_for_bans() {
        let key = |number: u32| {
            let mut key = [0; 32];
            key[28..].copy_from_slice(&number.to_be_bytes());
            Subject::Key(Pubkey(key))
        };
        let decision = |verdict, number: u32| Decision {
            verdict,
            text: String::new(),
            number: number.into(),
            at: 7,
            by: "uid:0".into(),
        };
        let mut state = State::default();
        for number in 0..100_000 {
            state.put(key(number), Some(decision(Verdict::Allow, number)));
        }
        let room = |state: &State, number, verdict| state.check_room(&key(number), verdict);
        assert_eq!(room(&state, 100_000, Verdict::Allow), Err(100_000));
        assert_eq!(room(&state, 100_000, Verdict::Ban), Ok(()));
        assert_eq!([room(&state, 7, Verdict::Allow), room(&state, 7, Verdict::Ban)], [Ok(()), Ok(())]);
        state.put(key(7), Some(decision(Verdict::Ban, 100_000)));
        assert_eq!(room(&state, 100_000, Verdict::Allow), Ok(()), "a ban makes room");
        assert_eq!([List::AllowedKeys, List::BannedKeys].map(|list| state.listed_count(list)), [99_999, 1]);
    }
}
