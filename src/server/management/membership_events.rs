//! What the relay publishes of its members (NIP-43): the list, who was added or removed, and the roles.
//!
//! It compares what is stored with what was decided. So whoever decided it, and whatever a kill interrupted, the next
//! look publishes what is missing. It stores nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::management::state::State;
use crate::management::{Role, RoleId, roles};
use crate::nostr::{Event, EventView, Filter, Kind, NewTags, Pubkey, TagElement, Timestamp, own_event};
use crate::schnorr::SigningKey;
use crate::store::{Budget, Flow, Query, Scan, Seq, Store, StoreError};

/// Members of the list, the newest: 400 KB. NIP-43 does not ask for a whole one.
const MAX_LISTED: usize = 5_000;

/// Members whose arrival or departure is published at a time. Of more, only the list tells.
const MAX_TOLD: usize = 100;

/// How far the clock may go back before an event gets a date in its future.
const CLOCK_S: u64 = 60;

/// The relay's own events of these kinds, as they are stored. Each role has one.
#[derive(Default)]
pub struct StoredMembership {
    list: Option<(Timestamp, NewTags)>,
    roles: BTreeMap<String, (Seq, Timestamp, NewTags)>,
}

/// What is to be done to make them right.
#[derive(Default)]
pub struct Difference {
    /// To be stored.
    pub events: Vec<Event>,
    /// To be removed.
    pub gone: Vec<Seq>,
    /// Something is left for the next second, since an event replaces only earlier ones.
    pub is_early: bool,
}

impl StoredMembership {
    /// Reads them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &Store, own: Pubkey) -> Result<Self, StoreError> {
        let filter = Filter {
            authors: Some([own].into()),
            kinds: Some([Kind::MEMBERS, Kind::ROLE].into()),
            ..Filter::default()
        };
        let mut scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits: None });
        let mut stored = Self::default();
        let snapshot = store.read()?;
        // A list and a hundred roles, so all of them at once.
        let mut visitor = |seq: Seq, event: EventView<'_>| {
            let tags: NewTags = event
                .tags()
                .map(|tag| std::iter::once(tag.name()).chain(tag.rest()).map(TagElement::to_text).collect())
                .collect();
            if event.kind() == Kind::MEMBERS {
                stored.list = Some((event.created_at(), tags));
            } else {
                let id = event.d_tag().map(TagElement::to_text).unwrap_or_default();
                stored.roles.insert(id, (seq, event.created_at(), tags));
            }
            Flow::Continue
        };
        scan.run(&snapshot, Budget::UNLIMITED, &mut visitor)?;
        Ok(stored)
    }

    /// The members of the list.
    fn members(&self) -> Option<BTreeSet<String>> {
        let (_, tags) = self.list.as_ref()?;
        let member = |tag: &Vec<String>| (tag[0] == "member").then(|| tag.get(1).cloned()).flatten();
        Some(tags.iter().filter_map(member).collect())
    }
}

/// What differs.
#[must_use]
pub fn difference(state: &State, stored: &StoredMembership, signer: &SigningKey, now: Timestamp) -> Difference {
    let mut found = Difference::default();
    for (id, decision) in state.roles() {
        let tags = Role::of_text(&decision.text).tags(&id);
        let held = stored.roles.get(&id.to_string()).map(|(_, at, held)| (*at, held));
        found.replace(signer, Kind::ROLE, held, &tags, now);
    }
    let is_role = |id: &String| id.parse().is_ok_and(|id: RoleId| state.roles().any(|(own, _)| own == id));
    found.gone.extend(stored.roles.iter().filter(|(id, _)| !is_role(id)).map(|(_, (seq, ..))| *seq));
    let tags = list(state);
    let held = stored.list.as_ref().map(|(at, held)| (*at, held));
    if found.replace(signer, Kind::MEMBERS, held, &tags, now)
        && let Some(before) = stored.members()
    {
        found.tell(state, &before, signer, now);
    }
    found
}

/// The tags of the list.
fn list(state: &State) -> NewTags {
    let mut members: Vec<Pubkey> = state.members().take(MAX_LISTED).map(|(key, _)| key).collect();
    members.sort_unstable();
    let tag = |key: &Pubkey| {
        let roles = roles::of_key(state, key);
        ["member".into(), key.to_string()].into_iter().chain(roles.iter().map(ToString::to_string)).collect()
    };
    std::iter::once(vec!["-".into()]).chain(members.iter().map(tag)).collect()
}

impl Difference {
    /// Makes a replaceable event, unless the one that is held has these tags. Returns whether it did.
    fn replace(
        &mut self,
        signer: &SigningKey,
        kind: Kind,
        held: Option<(Timestamp, &NewTags)>,
        tags: &NewTags,
        now: Timestamp,
    ) -> bool {
        let created_at = match held {
            Some((_, held)) if held == tags => return false,
            Some((at, _)) if at >= now && at.0 <= now.0 + CLOCK_S => {
                self.is_early = true;
                return false;
            }
            Some((at, _)) => now.max(Timestamp(at.0 + 1)),
            None => now,
        };
        self.events.push(own_event(signer, kind, created_at, tags));
        true
    }

    /// Tells who was added and who was removed since the last list.
    fn tell(&mut self, state: &State, before: &BTreeSet<String>, signer: &SigningKey, now: Timestamp) {
        let members: BTreeSet<String> = state.members().map(|(key, _)| key.to_string()).collect();
        // Of a list that was cut, nobody knows who is new.
        let is_whole = before.len() < MAX_LISTED;
        let added =
            members.iter().filter(|key| is_whole && !before.contains(*key)).map(|key| (Kind::MEMBER_ADDED, key));
        let removed = before.iter().filter(|key| !members.contains(*key)).map(|key| (Kind::MEMBER_REMOVED, key));
        for (kind, key) in added.chain(removed).take(MAX_TOLD) {
            let tags = vec![vec!["-".into()], vec!["p".into(), key.clone()]];
            self.events.push(own_event(signer, kind, now, &tags));
        }
    }
}
