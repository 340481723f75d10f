//! The rules against a dumb model that sorts lists, with random rules, arrival orders and slices of a single row:
//! counted, executed by the command line and executed by the relay.

mod model;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use self::model::{Model, OWNER, arrivals, batches, events, fill, rule, size};
use crate::nostr::testing::{author, trusted};
use crate::nostr::{EventId, Kind, Timestamp, VerifiedEvent};
use crate::pipeline::testing::start;
use crate::pipeline::{Pipeline, now};
use crate::policy::{Age, Retention, RetentionLimits, Rule, Settings};
use crate::retention::pass::pass_in_slices;
use crate::retention::slice::SLICE_ROWS;
use crate::retention::*;
use crate::store::{Durability, Options, Outcome, Seq, Store};

const NOW: Timestamp = Timestamp(1_700_000_000);
static NEVER_STOP: AtomicBool = AtomicBool::new(false);

fn open(map_bytes: usize) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes, durability: Durability::None, ..Options::default() };
    (Store::open(dir.path(), options).expect("a new store"), dir)
}

fn held(store: &Store) -> BTreeSet<EventId> {
    let snapshot = store.read().expect("a snapshot");
    let all = snapshot.after(Seq(0)).expect("a walk");
    all.map(|row| row.expect("a row").1.id()).collect()
}

/// A relay's threads on a store, without a server.
fn relay(store: Store, retention: Retention) -> Pipeline {
    start(store, Settings { retention, ..Settings::default() }).0
}

/// Waits until the rules were executed once.
fn wait_for_plan(pipeline: &Pipeline) {
    let end = Instant::now() + Duration::from_secs(60);
    while pipeline.heartbeat().plans() == 0 {
        assert!(Instant::now() < end, "the rules were never executed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many random stores: `WEIR_RETENTION_CASES`, for longer runs.
fn cases() -> u32 {
    std::env::var("WEIR_RETENTION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn what_is_left_is_what_the_model_leaves_be_it_counted_run_or_done_by_the_relay(
        rules in proptest::collection::vec(rule(), 1..4),
        most in prop_oneof![2 => Just(0_u64), 1 => 1_u64..12],
        most_bytes in prop_oneof![2 => Just(0_u64), 1 => 300_u64..8000],
        filled in prop_oneof![Just(0_u64), 5_u64..130],
        // The time of the case, not of the first one: it may run for long.
        (now, events) in Just(()).prop_flat_map(|()| { let now = now().0; (Just(now), events(now)) }),
        hundreds in arrivals(),
        rows in prop_oneof![Just(1_u32), Just(7), Just(SLICE_ROWS)],
        interrupted in 0_u64..3,
    ) {
        let whole: u64 = events.iter().map(|event| size(event.view())).sum();
        let limits = RetentionLimits {
            max_events_per_author: most,
            max_bytes_per_author: most_bytes,
            max_bytes: whole * filled / 100,
            confirm_removal_percent: 100,
            ..RetentionLimits::default()
        };
        let rules = Retention::new(rules, limits);
        let batches = batches(&events, &hundreds, now);
        let expected = Model::new(&rules, &batches, now).left();
        let (store, _dir) = open(64 << 20);
        fill(&store, &batches);
        let rules = resolve(rules, &store).expect("the follow lists");
        prop_assert_eq!(store.room().expect("the room").used_bytes, whole);
        let stored = held(&store);
        let pass = |mode, rows, stop: &AtomicBool| {
            pass_in_slices(&store, &rules, Timestamp(now), mode, rows, stop, |_| {}).expect("a pass")
        };
        let counted = pass(Mode::Count, rows, &NEVER_STOP);
        prop_assert_eq!(held(&store), stored.clone(), "a count removes nothing");
        let removed = pass(Mode::Remove, rows, &NEVER_STOP);
        prop_assert_eq!(held(&store), expected.clone());
        prop_assert_eq!(removed.total().events as usize, stored.len() - held(&store).len());
        prop_assert_eq!(&counted, &removed);
        let again = pass(Mode::Remove, rows, &NEVER_STOP);
        prop_assert_eq!(again.total().events, 0, "a second pass finds nothing");
        prop_assert_eq!(store.check(|_, _| {}).expect("a check").problems, vec![]);

        // The relay, while others publish what is kept for ever, and stopped in between.
        let (store, _dir) = open(64 << 20);
        fill(&store, &batches);
        for _ in 0..interrupted {
            let pipeline = relay(store.clone(), rules.clone());
            std::thread::sleep(Duration::from_micros(200));
            pipeline.finish();
        }
        let pipeline = relay(store.clone(), rules.clone());
        let published: Vec<_> = (0..20).map(|n| trusted(author(100 + n), 62, now - n, &[], "")).collect();
        if limits.max_bytes == 0 {
            for one in published.chunks(3) {
                store.writer().commit(one, Timestamp(now)).expect("a commit");
            }
        }
        wait_for_plan(&pipeline);
        pipeline.finish();
        let mut left = held(&store);
        left.retain(|id| published.iter().all(|event| event.view().id() != *id));
        prop_assert_eq!(left, expected);
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
fn a_follow_list_that_the_rules_go_by_takes_the_place_of_no_event() {
    let (store, _dir) = open(64 << 20);
    let (note, list) = (trusted(author(1), 1, NOW.0 - 5, &[], "note"), trusted(author(OWNER), 3, NOW.0 - 10, &[], ""));
    let bytes = note.view().record().len();
    store.writer().commit(&[note, list], NOW).expect("a commit");
    let all = held(&store);
    for limit in ["\"max_events\":1".to_string(), format!("\"max_bytes\":{bytes}")] {
        let of_friends = format!(r#"{{"kinds":[7],"follows_of":"{}","keep":"forever"}}"#, author(OWNER));
        let rules = rules(&[&of_friends, &format!("{{{limit}}}")]);
        let rules = resolve(Retention::new(rules, RetentionLimits::default()), &store).expect("the follow lists");
        pass(&store, &rules, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass");
        assert_eq!(held(&store), all, "{limit}");
    }
}

#[test]
fn alone_a_run_removes_thousands_with_a_commit_in_any_order_of_arrival() {
    let (store, _dir) = open(64 << 20);
    let of = |n: u64| trusted(author(n % 50), 7, NOW.0 - 100_000 - (n * 7919) % 10_000, &[], &n.to_string());
    let events: Vec<_> = (0..10_000).map(of).collect();
    store.writer().commit(&events, NOW).expect("a commit");
    let rules = Retention::new(rules(&[r#"{"max_age":"1d"}"#]), RetentionLimits::default());
    let before = store.txn_id().expect("a number");
    let found = pass(&store, &rules, NOW, Mode::Remove, &NEVER_STOP, |_| {}).expect("a pass");
    assert_eq!((found.total().events, held(&store).len()), (10_000, 0));
    // 256, then twice as many each time; each large one is followed by a small one for the sake of free pages.
    let commits = store.txn_id().expect("a number") - before;
    assert!(commits <= 12, "{commits} commits");
}

#[test]
fn what_was_evicted_for_room_or_number_is_refused_until_there_is_room() {
    let all = rules(&[r#"{"kinds":[1],"max_per_author_and_kind":2}"#, r#"{"kinds":[7]}"#]);
    let rules = Retention::new(all, RetentionLimits { max_events_per_author: 3, ..RetentionLimits::default() });
    let horizons = Horizons::default();
    horizons.begin(&rules);
    let said = |kind, at| match horizons.check(&rules, trusted(author(1), kind, at, &[], "").view(), NOW) {
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

    let mut walk = authors::AuthorWalk::new(author(1), authors::AuthorLimit::Both);
    let last = authors::Floor { rule: 1, created_at: Timestamp(60), spare_bytes: 0 };
    walk.floors = authors::Floors { kinds: vec![(0, Kind(1), Timestamp(50))], total: Some(last) };
    horizons.note(&walk);
    assert_eq!(said(1, 49), "blocked: the newest 2 events of kind 1 of one author are kept (rule 1)");
    assert_eq!(said(7, 59), "blocked: the newest 3 events of one author are kept here");
    assert_eq!([said(1, 50), said(7, 60)], [""; 2]);
    let mut graced = rules.rules().to_vec();
    graced[1].bounds.grace = Some(Age { seconds: 60 });
    let graced = Retention::new(graced, rules.limits());
    let said = |at| horizons.check(&graced, trusted(author(1), 7, at, &[], "").view(), Timestamp(110)).is_ok();
    horizons.set(1, |horizon| horizon.total = horizons::NEVER);
    assert_eq!([said(49), said(50)], [false, true], "what has its grace comes in");
    horizons.relax_total();
    let other = trusted(author(2), 7, 1, &[], "");
    assert!(horizons.check(&rules, other.view(), NOW).is_ok());
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
    assert_eq!(horizons.check(&bytes, newest_gone.view(), NOW).map_err(|reason| reason.to_string()), Err(reason));
    assert!(horizons.check(&bytes, events[left.len() - 1].view(), NOW).is_ok());
    let other = with(r#"{"max_bytes":30001}"#);
    let none = Horizons::load(&other, &store).expect("the row");
    assert!(none.check(&other, newest_gone.view(), NOW).is_ok(), "what other rules removed may come back");

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
    assert!(too_many.check(&number, events[20].view(), NOW).is_ok(), "more rows than a connection looks at");
}
