//! The web of trust: the operator's keys, whom they follow, whom those follow, and so on for a few hops, by the follow
//! lists (kind 3, NIP-02) that the store holds.
//!
//! It only reads, a few lists at a time, and holds no more keys than it is told. Whoever is nearer comes first.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::nostr::{Kind, Pubkey, TagElement};
use crate::policy::{KeySet, TrustOptions};
use crate::store::{Seq, Snapshot, Store, StoreError};

/// Follow lists (NIP-02).
const FOLLOW_LIST: Kind = Kind(3);

/// Lists read under one snapshot: a few milliseconds (INV-9).
const LISTS: usize = 64;

/// Who is in the web, and by whom.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Web {
    /// Each key with the place of the one that follows it; the nearest first.
    members: Vec<(Pubkey, Option<u32>)>,
    /// Where each hop ends in that list, from the operator's own keys on.
    hops: Vec<usize>,
    /// The lists that make it.
    pub lists: Vec<Seq>,
    /// Whether keys were left out for lack of room.
    pub is_cut: bool,
}

impl Web {
    /// The web as the store holds it now.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn read(store: &Store, options: &TrustOptions) -> Result<Self, StoreError> {
        let mut web = Self::default();
        let mut places: HashMap<Pubkey, u32> = HashMap::new();
        options.roots.iter().for_each(|root| web.add(*root, None, &mut places, options.max_keys));
        web.hops.push(web.members.len());
        for hop in 0..usize::from(options.within) {
            let begin = hop.checked_sub(1).map_or(0, |before| web.hops[before]);
            let end = web.hops[hop];
            for first in (begin..end).step_by(LISTS) {
                let snapshot = store.read()?;
                for place in first..end.min(first + LISTS) {
                    let (key, _) = web.members[place];
                    web.follow(&snapshot, &key, place, &mut places, options.max_keys)?;
                }
            }
            web.hops.push(web.members.len());
        }
        Ok(web)
    }

    /// Adds whom the member at `place` follows.
    fn follow(
        &mut self,
        snapshot: &Snapshot<'_>,
        key: &Pubkey,
        place: usize,
        places: &mut HashMap<Pubkey, u32>,
        max_keys: usize,
    ) -> Result<(), StoreError> {
        let Some(seq) = snapshot.newest_of(key, FOLLOW_LIST)? else { return Ok(()) };
        let Some(list) = snapshot.get(seq)? else { return Ok(()) };
        self.lists.push(seq);
        let by = u32::try_from(place).ok();
        for followed in list.tags().values("p").filter_map(TagElement::as_hex) {
            self.add(Pubkey(*followed), by, places, max_keys);
        }
        Ok(())
    }

    fn add(&mut self, key: Pubkey, by: Option<u32>, places: &mut HashMap<Pubkey, u32>, max_keys: usize) {
        let place = self.members.len();
        let is_full = place >= max_keys;
        match (places.entry(key), u32::try_from(place)) {
            (Entry::Occupied(_), _) => {}
            (Entry::Vacant(_), _) if is_full => self.is_cut = true,
            (Entry::Vacant(_), Err(_)) => self.is_cut = true,
            (Entry::Vacant(vacant), Ok(at)) => {
                vacant.insert(at);
                self.members.push((key, by));
            }
        }
    }

    /// Every key in the web.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        self.members.iter().map(|(key, _)| *key).collect()
    }

    /// The keys whose lists make the web: those of all hops but the last.
    #[must_use]
    pub fn listers(&self) -> KeySet {
        let end = self.hops.len().checked_sub(2).map_or(0, |before_last| self.hops[before_last]);
        self.members[..end].iter().map(|(key, _)| *key).collect()
    }

    /// How many keys are at each hop, from the operator's own on.
    #[must_use]
    pub fn sizes(&self) -> Vec<usize> {
        let begins = std::iter::once(0).chain(self.hops.iter().copied());
        self.hops.iter().zip(begins).map(|(end, begin)| end - begin).collect()
    }

    /// The shortest path to `key`: from one of the operator's keys, each followed by the one before. Empty if it is not
    /// in the web.
    #[must_use]
    pub fn path(&self, key: &Pubkey) -> Vec<Pubkey> {
        let mut path = Vec::new();
        let mut place = self.members.iter().position(|(member, _)| member == key);
        while let Some((member, by)) = place.map(|place| self.members[place]) {
            path.push(member);
            place = by.map(|by| by as usize);
        }
        path.reverse();
        path
    }
}

/// The keys that are trusted now; `None` if there is no web.
///
/// # Errors
/// When the store is damaged.
pub fn trusted(store: &Store, options: &TrustOptions) -> Result<Option<KeySet>, StoreError> {
    if options.roots.is_empty() { Ok(None) } else { Web::read(store, options).map(|web| Some(web.keys())) }
}

/// Whether an event that arrived after `seq` may have changed the web: a list of one of `listers`, or a deletion or
/// request to vanish by one. Returns the last number that was looked at, too, since it looks at `max` events at most.
///
/// # Errors
/// When the store is damaged.
pub fn has_changed(snapshot: &Snapshot<'_>, listers: &KeySet, seq: Seq, max: usize) -> Result<(bool, Seq), StoreError> {
    let mut last = seq;
    for event in snapshot.after(seq)?.take(max) {
        let (arrived, event) = event?;
        last = arrived;
        if matches!(event.kind(), FOLLOW_LIST | Kind::DELETION | Kind::VANISH) && listers.contains(&event.pubkey()) {
            return Ok((true, last));
        }
    }
    Ok((false, last))
}

/// Whether all of these events are still stored. What removes one, a rule or an admin, leaves nothing that
/// [`has_changed`] could find.
///
/// # Errors
/// When the store is damaged.
pub fn are_held(snapshot: &Snapshot<'_>, events: &[Seq]) -> Result<bool, StoreError> {
    for seq in events {
        if snapshot.get(*seq)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::Timestamp;
    use crate::nostr::testing::{author, trusted};
    use crate::store::{Options, Store};

    /// A store in which each key of the first numbers follows the second ones.
    fn store(lists: &[(u64, &[u64])]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), Options::default()).expect("a store");
        let events: Vec<_> = lists.iter().map(|(of, follows)| list(*of, 1, follows)).collect();
        store.writer().commit(&events, Timestamp(10)).expect("committed");
        (dir, store)
    }

    fn list(of: u64, created_at: u64, follows: &[u64]) -> crate::nostr::VerifiedEvent {
        let keys: Vec<String> = follows.iter().map(|seed| author(*seed).to_string()).collect();
        let tags: Vec<[&str; 2]> = keys.iter().map(|key| ["p", key.as_str()]).collect();
        let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
        trusted(author(of), 3, created_at, &tags, "")
    }

    fn options(within: u8, max_keys: usize) -> TrustOptions {
        TrustOptions { roots: [author(1)].into_iter().collect(), within, max_keys }
    }

    #[test]
    fn a_web_reaches_as_far_as_it_is_told_by_the_shortest_path() {
        let (_dir, store) = store(&[(1, &[2, 3, 1]), (2, &[3, 4]), (3, &[5, 2]), (5, &[6]), (7, &[1])]);
        let at = |within| Web::read(&store, &options(within, 100)).expect("a web");
        assert_eq!(
            [0, 1, 2, 3].map(|within| at(within).sizes()),
            [vec![1], vec![1, 2], vec![1, 2, 2], vec![1, 2, 2, 1]]
        );
        let path = |seed| at(2).path(&author(seed));
        assert_eq!([path(1), path(3), path(6), path(7)], [vec![author(1)], vec![author(1), author(3)], vec![], vec![]]);
        assert_eq!(path(5), [1, 3, 5].map(author));
        let (keys, listers) = (at(2).keys(), at(2).listers());
        assert_eq!([keys.len(), listers.len()], [5, 3]);
        assert!(keys.contains(&author(5)) && !keys.contains(&author(6)) && !listers.contains(&author(4)));
    }

    #[test]
    fn a_web_without_room_keeps_the_nearest_and_says_so() {
        let (_dir, store) = store(&[(1, &[2, 3]), (2, &[4, 5])]);
        let [three, all] = [3, 5].map(|max| Web::read(&store, &options(2, max)).expect("a web"));
        assert_eq!((three.sizes(), three.is_cut), (vec![1, 2, 0], true));
        assert_eq!((all.sizes(), all.is_cut), (vec![1, 2, 2], false));
    }

    #[test]
    fn a_web_of_many_lists_is_read_in_several_slices() {
        let many: Vec<u64> = (2..200).collect();
        let lists: Vec<(u64, Vec<u64>)> = many.iter().map(|seed| (*seed, vec![seed + 1_000])).collect();
        let all: Vec<(u64, &[u64])> = std::iter::once((1, many.as_slice()))
            .chain(lists.iter().map(|(of, list)| (*of, list.as_slice())))
            .collect();
        let (_dir, store) = store(&all);
        assert_eq!(Web::read(&store, &options(2, 1_000)).expect("a web").sizes(), [1, 198, 198]);
    }

    #[test]
    fn only_lists_deletions_and_requests_of_those_whose_lists_count_may_change_a_web() {
        let (_dir, store) = store(&[(1, &[2]), (2, &[3])]);
        let listers = Web::read(&store, &options(2, 9)).expect("a web").listers();
        let begin = store.read().expect("a snapshot").last_seq().expect("a number");
        let mut writer = store.writer();
        let mut after = |event| {
            let from = store.read().expect("a snapshot").last_seq().expect("a number");
            writer.commit(&[event], Timestamp(10)).expect("committed");
            has_changed(&store.read().expect("a snapshot"), &listers, from, 9).expect("read").0
        };
        assert!(!after(trusted(author(1), 1, 2, &[], "a note")));
        assert!(!after(list(3, 2, &[4])));
        assert!(after(list(2, 2, &[4])));
        let deleted = list(1, 1, &[2]).view().id().to_string();
        assert!(after(trusted(author(1), 5, 2, &[&["e", &deleted]], "")));
        let snapshot = store.read().expect("a snapshot");
        assert!(!has_changed(&snapshot, &listers, begin, 2).expect("read").0, "two at a time");
    }
}
