//! The rules against a dumb model that sorts lists, with random rules and slices of a single row.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::pass::pass_in_slices;
use super::*;
use crate::nostr::testing::{author, trusted};
use crate::nostr::{EventId, Kind, Timestamp, VerifiedEvent};
use crate::policy::{Age, Bounds, Keep, KindSet, RetentionLimits, Rule, Selector};
use crate::store::{Durability, Options, Outcome, Seq, Store};

const NOW: Timestamp = Timestamp(1_700_000_000);
const KINDS: [u16; 4] = [1, 7, 1111, 9735];
static NEVER_STOP: AtomicBool = AtomicBool::new(false);

fn open(map_bytes: usize) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes, durability: Durability::None, ..Options::default() };
    (Store::open(dir.path(), options).expect("a new store"), dir)
}

fn rule() -> impl Strategy<Value = Rule> {
    let kinds = proptest::sample::subsequence(KINDS.to_vec(), 0..=2);
    let authors = || proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=2);
    let limits = (0_u64..60, 0_u64..4, prop_oneof![Just(0), 200_u64..3000], 0_u8..5);
    (kinds, authors(), authors(), limits).prop_map(|(kinds, authors, not_authors, (age, number, bytes, forever))| {
        let keys = |seeds: Vec<u64>| seeds.into_iter().map(author).collect();
        let selector = Selector {
            kinds: (!kinds.is_empty()).then(|| KindSet::of(&kinds)),
            authors: (!authors.is_empty()).then(|| keys(authors)),
            not_authors: keys(not_authors),
        };
        let max_age = (age > 5).then_some(Age { seconds: age * 10 });
        let bounds = match forever {
            0 => Bounds { keep: Some(Keep::Forever), ..Bounds::default() },
            _ => Bounds { keep: None, max_age, max_per_author_and_kind: number, max_bytes: bytes },
        };
        Rule { selector, bounds }
    })
}

/// Events of four authors, no two of the same second.
fn events() -> impl Strategy<Value = Vec<VerifiedEvent>> {
    let one = (0_u64..4, 0..KINDS.len(), 0_usize..300);
    (proptest::collection::vec(one, 1..80), any::<u64>()).prop_map(|(all, seed)| {
        let count = all.len() as u64;
        let of = |(index, (by, kind, length)): (usize, (u64, usize, usize))| {
            // 83 is prime, so every index has its own place in time, whatever the seed.
            let place = (index as u64 * (1 + seed % 82)) % 83;
            let created_at = NOW.0 - 7 * place - count % 7;
            trusted(author(by), KINDS[kind], created_at, &[&["t", "x"]], &"z".repeat(length))
        };
        all.into_iter().enumerate().map(of).collect()
    })
}

/// Which events are left, by sorting lists.
fn model(rules: &Retention, events: &[VerifiedEvent]) -> BTreeSet<EventId> {
    type One<'a> = (Option<usize>, &'a VerifiedEvent);
    let mut kept: Vec<One<'_>> = events
        .iter()
        .map(|event| (rules.rule_of(&event.view().pubkey(), event.view().kind()), event))
        .filter(|(rule, event)| rule.is_none_or(|rule| event.view().created_at() >= rules.rules()[rule].oldest(NOW)))
        .collect();
    kept.sort_by_key(|(_, event)| Reverse(event.view().created_at()));

    let mut seen: BTreeMap<(crate::nostr::Pubkey, Kind), u64> = BTreeMap::new();
    kept.retain(|(rule, event)| {
        let Some(rule) = rule else { return true };
        let count = seen.entry((event.view().pubkey(), event.view().kind())).or_default();
        *count += 1;
        let limit = rules.rules()[*rule].bounds.max_per_author_and_kind;
        limit == 0 || *count <= limit
    });

    kept.sort_by_key(|(rule, event)| (*rule, Reverse(event.view().created_at())));
    let mut of_author: BTreeMap<crate::nostr::Pubkey, u64> = BTreeMap::new();
    kept.retain(|(rule, event)| {
        let count = of_author.entry(event.view().pubkey()).or_default();
        *count += u64::from(rule.is_some());
        let limit = rules.limits().max_events_per_author;
        rule.is_none() || limit == 0 || *count <= limit
    });

    let mut bytes = vec![0; rules.rules().len()];
    let mut is_over = vec![false; rules.rules().len()];
    kept.retain(|(rule, event)| {
        let Some(rule) = *rule else { return true };
        bytes[rule] += event.view().record().len() as u64;
        let limit = rules.rules()[rule].bounds.max_bytes;
        is_over[rule] |= limit > 0 && bytes[rule] > limit;
        !is_over[rule]
    });
    kept.into_iter().map(|(_, event)| event.view().id()).collect()
}

fn held(store: &Store) -> BTreeSet<EventId> {
    let snapshot = store.read().expect("a snapshot");
    let all = snapshot.after(Seq(0)).expect("a walk");
    all.map(|row| row.expect("a row").1.id()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_pass_leaves_what_the_model_leaves_and_a_count_tells_it_before(
        rules in proptest::collection::vec(rule(), 1..4),
        most in prop_oneof![Just(0_u64), 1_u64..12],
        events in events(),
        rows in prop_oneof![Just(1_u32), Just(7), Just(SLICE_ROWS)],
    ) {
        let limits = RetentionLimits { max_events_per_author: most, ..RetentionLimits::default() };
        let rules = Retention::new(rules, limits);
        let (store, _dir) = open(64 << 20);
        store.writer().commit(&events, NOW).expect("a commit");
        let stored = held(&store);
        let pass = |mode, rows| {
            pass_in_slices(&store, &rules, NOW, mode, rows, &NEVER_STOP, |_| {}).expect("a pass")
        };
        let counted = pass(Mode::Count, rows);
        prop_assert_eq!(held(&store), stored.clone(), "a count removes nothing");
        let removed = pass(Mode::Remove, rows);
        prop_assert_eq!(held(&store), model(&rules, &events));
        prop_assert_eq!(removed.total().events as usize, stored.len() - held(&store).len());
        prop_assert_eq!(counted, removed);
        prop_assert_eq!(pass(Mode::Remove, rows), Found::default(), "a second pass finds nothing");
        prop_assert_eq!(store.check(|_, _| {}).expect("a check").problems, vec![]);
    }
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| serde_json::from_str(text).expect("a rule")).collect()
}

/// Kind and `created_at`.
type Times = Vec<(u16, u64)>;

/// Fills a store with notes, reactions and profiles and lets a pass shrink it to `max_bytes`.
fn shrunk_to(max_bytes: u64) -> (Times, Times, u64) {
    let (store, _dir) = open(64 << 20);
    let of = |n: u64| match n % 10 {
        0 => trusted(author(n), 0, NOW.0 - n, &[], &"p".repeat(300)),
        1..5 => trusted(author(n % 50), 7, NOW.0 - n, &[&["e", &"ab".repeat(32)]], "+"),
        _ => trusted(author(n % 50), 1, NOW.0 - n, &[], &"n".repeat(300)),
    };
    let events: Vec<_> = (0..4000).map(of).collect();
    let outcomes = store.writer().commit(&events, NOW).expect("a commit");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))));
    let all = rules(&[r#"{"kinds":[0],"keep":"forever"}"#, r#"{"kinds":[1]}"#, r#"{}"#]);
    let rules = Retention::new(all, RetentionLimits { max_bytes, ..RetentionLimits::default() });
    pass(&store, &rules, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass");
    let left = held(&store);
    let split = |is_left: bool| {
        let some = events.iter().map(VerifiedEvent::view).filter(|event| left.contains(&event.id()) == is_left);
        some.map(|event| (event.kind().0, event.created_at().0)).collect()
    };
    assert_eq!(store.check(|_, _| {}).expect("a check").problems, []);
    (split(true), split(false), store.room().expect("the room").used_bytes)
}

#[test]
fn for_room_the_last_rule_goes_first_and_of_a_rule_the_oldest() {
    let (_, none, whole) = shrunk_to(0);
    assert_eq!(none, []);
    let oldest = |list: &[(u16, u64)], kind| list.iter().filter(|one| one.0 == kind).map(|one| one.1).min();
    let newest = |list: &[(u16, u64)], kind| list.iter().filter(|one| one.0 == kind).map(|one| one.1).max();

    // A tree gives pages back only when neighbours are half empty, so more goes than the bytes alone would need.
    let mut kinds_gone = BTreeSet::new();
    for limit in [whole + whole / 40, whole * 3 / 4, whole / 2] {
        let (left, gone, used) = shrunk_to(limit);
        assert!(used <= Marks::new(limit).stop);
        assert!(oldest(&left, 7) > newest(&gone, 7) || oldest(&left, 7).is_none());
        assert!(oldest(&left, 1) > newest(&gone, 1));
        assert_eq!(oldest(&gone, 0), None);
        let is_last_used_up = oldest(&left, 7).is_none();
        assert!(is_last_used_up || oldest(&gone, 1).is_none());
        kinds_gone.insert(is_last_used_up);
    }
    assert_eq!(kinds_gone, [false, true].into());

    let (left, _, used) = shrunk_to(4096);
    assert!(used > 4096 && left.len() == 400 && left.iter().all(|one| one.0 == 0), "what is for ever stays");
}

#[test]
fn what_was_evicted_for_room_or_number_is_refused_until_there_is_room() {
    let all = rules(&[r#"{"kinds":[1],"max_per_author_and_kind":2}"#, r#"{"kinds":[7]}"#]);
    let rules = Retention::new(all, RetentionLimits { max_events_per_author: 3, ..RetentionLimits::default() });
    let horizons = Horizons::default();
    horizons.begin(&rules);
    let said = |kind, at| match horizons.check(&rules, trusted(author(1), kind, at, &[], "").view()) {
        Ok(()) => String::new(),
        Err(reason) => reason.to_string(),
    };
    assert_eq!([said(1, 5), said(7, 5)], [""; 2]);
    horizons.set(1, |horizon| horizon.total = Timestamp(100));
    assert_eq!(said(7, 99), "blocked: there is only room for events of kind 7 since 100 (rule 2)");
    assert_eq!([said(7, 100), said(1, 5), said(9735, 5), said(5, 5)], [""; 4]);
    horizons.set(1, |horizon| horizon.total = horizons::NEVER);
    assert_eq!(said(7, 1000), "blocked: there is no room for events of kind 7 here (rule 2)");
    horizons.relax_total();
    assert_eq!(said(7, 99), "");

    let (kinds, total) = (vec![(Kind(1), Timestamp(50))], Some((1, Timestamp(60))));
    horizons.note(author(1), &sweep::Floors { kinds, total });
    assert_eq!(said(1, 49), "blocked: the newest 2 events of kind 1 of one author are kept (rule 1)");
    assert_eq!(said(7, 59), "blocked: the newest 3 events of one author are kept here");
    assert_eq!([said(1, 50), said(7, 60)], [""; 2]);
    let other = trusted(author(2), 7, 1, &[], "");
    assert!(horizons.check(&rules, other.view()).is_ok());
}

#[test]
fn what_the_rules_removed_is_refused_after_a_restart_but_not_by_other_rules() {
    let (store, _dir) = open(64 << 20);
    let of = |n: u64| trusted(author(n % 2), 1, NOW.0 - n, &[], &"n".repeat(300));
    let events: Vec<_> = (0..200).map(of).collect();
    store.writer().commit(&events, NOW).expect("a commit");
    let with = |text: &str| Retention::new(rules(&[text]), RetentionLimits::default());
    let bytes = with(r#"{"max_bytes":30000}"#);
    pass(&store, &bytes, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass");
    let left = held(&store);
    assert!(left.len() > 10 && left.len() < 190, "{} are left", left.len());
    let newest_gone = &events[left.len()];
    let horizons = Horizons::load(&bytes, &store).expect("the row");
    let since = newest_gone.view().created_at().0 + 1;
    let reason = format!("blocked: there is only room for events of kind 1 since {since} (rule 1)");
    assert_eq!(horizons.check(&bytes, newest_gone.view()).map_err(|reason| reason.to_string()), Err(reason));
    assert!(horizons.check(&bytes, events[left.len() - 1].view()).is_ok());
    let other = with(r#"{"max_bytes":30001}"#);
    let none = Horizons::load(&other, &store).expect("the row");
    assert!(none.check(&other, newest_gone.view()).is_ok(), "what other rules removed may come back");

    // What an author has is looked at, not remembered; and once only.
    let number = with(r#"{"max_per_author_and_kind":10}"#);
    pass(&store, &number, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass");
    let check = |horizons: &Horizons, event: &VerifiedEvent| {
        let result = horizons.check_held(&store, &number, event.view(), NOW);
        result.map_err(|reason| reason.to_string())
    };
    let horizons = Horizons::load(&number, &store).expect("the row");
    let reason = "blocked: the newest 10 events of kind 1 of one author are kept (rule 1)";
    assert_eq!(check(&horizons, &events[20]), Err(reason.to_string()));
    assert_eq!([check(&horizons, &events[19]), check(&horizons, &of(1))], [Ok(()), Ok(())]);
    let snapshot = store.read().expect("a snapshot");
    let too_many = Horizons::load(&number, &open(1 << 20).0).expect("no row");
    too_many.look(&number, author(0), &snapshot, NOW, 5).expect("a look");
    assert!(too_many.check(&number, events[20].view()).is_ok(), "more rows than a connection looks at");
}

#[test]
fn what_is_removed_between_events_that_stay_gives_its_pages_back() {
    let (store, _dir) = open(64 << 20);
    let of =
        |n: u64| trusted(author(n % 50), if n.is_multiple_of(2) { 7 } else { 1 }, NOW.0 - n, &[], &"x".repeat(400));
    let events: Vec<_> = (0..4000).map(of).collect();
    store.writer().commit(&events, NOW).expect("a commit");
    let records = || {
        let usage = store.usage().expect("usage");
        usage.tables.iter().find(|table| table.name == "event").expect("the event table").bytes
    };
    let (before, stored) = (records(), held(&store));
    let rules = Retention::new(rules(&[r#"{"kinds":[7],"max_age":"1s"}"#]), RetentionLimits::default());
    let removed = pass(&store, &rules, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass").total().events;
    assert_eq!(held(&store).len() as u64, stored.len() as u64 - removed);
    // Half of the records are gone; where runs meet, pages may stay thin.
    assert!(records() * 100 < before * 65, "{} bytes of {before}", records());
    assert_eq!(store.check(|_, _| {}).expect("a check").problems, []);
}
