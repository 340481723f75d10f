//! The follow lists (NIP-02) of the keys in `follows_of`, as the store holds them.
//!
//! An empty list counts as none: some clients overwrite lists with empty ones by mistake. The limits on an event bound
//! the length of a list. Only reads.

use crate::nostr::{Pubkey, TagElement};
use crate::policy::retention::FOLLOW_LIST;
use crate::policy::{KeySet, Retention};
use crate::store::{Seq, Store, StoreError};

/// Returns the rules with the follow lists that the store holds.
///
/// # Errors
/// When the store is damaged.
pub fn resolve(rules: Retention, store: &Store) -> Result<Retention, StoreError> {
    if rules.followed().next().is_none() {
        return Ok(rules);
    }
    let snapshot = store.read()?;
    rules.with_follows(|key| {
        let Some(list) = snapshot.newest_of(key, FOLLOW_LIST)?.map(|seq| snapshot.get(seq)).transpose()?.flatten()
        else {
            return Ok(None);
        };
        let keys: KeySet = list.tags().values("p").filter_map(TagElement::as_hex).map(|key| Pubkey(*key)).collect();
        Ok((!keys.is_empty()).then_some(keys))
    })
}

/// The arrival numbers of the lists that the rules use, in the order of the rules. Equal numbers mean equal lists.
///
/// # Errors
/// When the store is damaged.
pub fn lists(rules: &Retention, store: &Store) -> Result<Vec<Option<Seq>>, StoreError> {
    if rules.followed().next().is_none() {
        return Ok(Vec::new());
    }
    let snapshot = store.read()?;
    rules.followed().map(|key| snapshot.newest_of(key, FOLLOW_LIST)).collect()
}

/// Whether a follow list lost more than half of its keys from `old` to `new`, or was deleted; logs it. Some clients do
/// that by mistake, so the operator has to confirm it.
pub fn lost_much(old: &Retention, new: &Retention) -> bool {
    let lists = |rules: &Retention| -> Vec<_> {
        rules.rules().iter().filter_map(|rule| rule.selector.follows_of.clone()).collect()
    };
    let mut has_lost = false;
    for (old, new) in lists(old).iter().zip(lists(new)) {
        let (Some(before), now) = (&old.keys, new.keys.unwrap_or_default()) else { continue };
        let left = before.iter().filter(|key| now.contains(key)).count();
        if 2 * left < before.len() {
            has_lost = true;
            let (of, keys) = (old.of, before.len());
            tracing::warn!(
                %of, keys, left,
                "a follow list lost more than half of its keys: the one before stays in force until a reload or a restart"
            );
        }
    }
    has_lost
}

/// Logs the length of each follow list that the rules use.
pub fn tell(rules: &Retention) {
    for (rule, follows) in (1..).zip(rules.rules().iter().map(|rule| &rule.selector.follows_of)) {
        match follows.as_ref().map(|follows| (follows.of, &follows.keys)) {
            Some((of, Some(keys))) => tracing::info!(rule, %of, keys = keys.len(), "a rule goes by this follow list"),
            Some((of, None)) => {
                tracing::warn!(rule, %of, "no follow list of this key is stored: all that the rule may be about is kept");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::Timestamp;
    use crate::nostr::testing::{author, trusted};
    use crate::policy::RetentionLimits;
    use crate::store::{Durability, Options};

    #[test]
    fn the_newest_list_of_the_key_is_taken_and_one_without_keys_is_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options { map_bytes: 16 << 20, durability: Durability::None, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a new store");
        let text = format!(r#"[{{"follows_of":"{}"}},{{"follows_of":"{}"}}]"#, author(1), author(2));
        let rules = Retention::new(serde_json::from_str(&text).expect("rules"), RetentionLimits::default());
        let keys = || {
            let rules = resolve(rules.clone(), &store).expect("a read");
            let follows = rules.rules().iter().map(|rule| rule.selector.follows_of.clone().expect("a key").keys);
            follows.collect::<Vec<_>>()
        };
        let publish = |by, at, tags: &[&[&str]]| {
            store.writer().commit(&[trusted(author(by), 3, at, tags, "")], Timestamp(100)).expect("a commit");
            lists(&rules, &store).expect("a read")
        };
        let set = |seeds: &[u64]| Some(seeds.iter().map(|seed| author(*seed)).collect::<KeySet>());
        let [third, fourth] = [3, 4].map(|seed| author(seed).to_string());
        assert_eq!(keys(), [None, None]);
        let first = publish(1, 10, &[&["p", &third], &["p", &fourth], &["p", "bob"], &["e", &third]]);
        assert_eq!((keys(), first[1]), (vec![set(&[3, 4]), None], None));
        let other = publish(2, 10, &[&["p", &fourth]]);
        assert_eq!((keys(), other[0]), (vec![set(&[3, 4]), set(&[4])], first[0]));
        let newer = publish(1, 11, &[&["p", &fourth]]);
        assert_eq!((keys(), newer[1]), (vec![set(&[4]), set(&[4])], other[1]));
        assert_ne!(newer[0], first[0]);
        let before = resolve(rules.clone(), &store).expect("a read");
        publish(1, 12, &[]);
        let after = resolve(rules.clone(), &store).expect("a read");
        assert_eq!(
            [lost_much(&before, &after), lost_much(&after, &before), lost_much(&before, &before)],
            [true, false, false]
        );
        assert_eq!(keys(), [None, set(&[4])]);
    }

    #[test]
    fn a_list_that_keeps_half_of_its_keys_did_not_lose_much() {
        let text = format!(r#"[{{"follows_of":"{}"}}]"#, author(1));
        let with = |seeds: &[u64]| {
            let rules = Retention::new(serde_json::from_str(&text).expect("rules"), RetentionLimits::default());
            let keys: KeySet = seeds.iter().map(|seed| author(*seed)).collect();
            rules.with_follows(|_| Ok::<_, StoreError>(Some(keys.clone()))).expect("a list")
        };
        let lost = |seeds: &[u64]| lost_much(&with(&[3, 4, 5, 6]), &with(seeds));
        assert_eq!([lost(&[3, 4]), lost(&[3, 7, 8, 9]), lost(&[3, 4, 5, 6, 7])], [false, true, false]);
    }
}
