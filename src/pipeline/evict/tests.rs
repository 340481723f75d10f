//! The rules against a dumb model that sorts lists, with random rules, arrival orders and slices of a single row: counted,
//! executed by the command line and executed by the relay.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::nostr::testing::{self, author, trusted};
use crate::nostr::{self, EventId, EventView, Kind, Pubkey, Timestamp, VerifiedEvent};
use crate::pipeline::testing::start;
use crate::pipeline::{Pipeline, now};
use crate::policy::{
    Age, AgeBy, Bounds as RuleBounds, Follows, Keep, KeyFile, KeySet, KindSet, Retention, RetentionLimits, Rule,
    Selector, Settings,
};
use crate::retention::pass::pass_in_slices;
use crate::retention::sweep::SLICE_ROWS;
use crate::retention::*;
use crate::store::{Durability, Options, Outcome, Seq, Store};

const NOW: Timestamp = Timestamp(1_700_000_000);
const KINDS: [u16; 4] = [1, 7, 1111, 9735];
/// Whose follow list the rules go by.
const OWNER: u64 = 50;
static NEVER_STOP: AtomicBool = AtomicBool::new(false);

fn open(map_bytes: usize) -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes, durability: Durability::None, ..Options::default() };
    (Store::open(dir.path(), options).expect("a new store"), dir)
}

fn rule() -> impl Strategy<Value = Rule> {
    let kinds = proptest::sample::subsequence(KINDS.to_vec(), 0..=2);
    let authors = || proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=2);
    let limits = (
        (0_u64..12, any::<bool>()),
        0_u64..8,
        0_u64..4,
        (prop_oneof![Just(0), 1_u64..30], prop_oneof![Just(0), 200_u64..6000]),
        0_u8..5,
    );
    let (in_files, follows) = (any::<bool>(), proptest::bool::weighted(0.2));
    let selected = (kinds, authors(), authors(), in_files, follows, authors());
    (selected, limits).prop_map(
        |(
            (kinds, authors, not_authors, in_files, follows, addressed_to),
            ((age, by_arrival), grace, number, (max_events, max_bytes), forever),
        )| {
            let keys = |seeds: Vec<u64>| seeds.into_iter().map(author).collect();
            let selector = Selector {
                kinds: (!kinds.is_empty()).then(|| KindSet::of(&kinds)),
                authors: (!in_files && !authors.is_empty()).then(|| keys(authors.clone())),
                authors_file: (in_files && !authors.is_empty()).then(|| KeyFile::default().with_keys(keys(authors))),
                follows_of: follows.then(|| Follows { of: author(OWNER), keys: None }),
                not_authors: keys(if in_files { Vec::new() } else { not_authors.clone() }),
                not_authors_file: in_files.then(|| KeyFile::default().with_keys(keys(not_authors))),
                addressed_to: (!addressed_to.is_empty()).then(|| keys(addressed_to)),
            };
            let max_age = (age > 2).then_some(Age { seconds: age * 100 });
            let grace = (grace > 2).then_some(Age { seconds: grace * 100 });
            let bounds = match forever {
                0 => RuleBounds { keep: Some(Keep::Forever), ..RuleBounds::default() },
                _ => RuleBounds {
                    keep: None,
                    max_age,
                    age_by: if by_arrival && max_age.is_some() { AgeBy::Arrival } else { AgeBy::CreatedAt },
                    grace,
                    max_per_author_and_kind: number,
                    max_events,
                    max_bytes,
                },
            };
            Rule { selector, bounds }
        },
    )
}

/// Events of four authors in any order of arrival, many of the same second: by how many hundreds of seconds they are old.
/// The clock of the relay moves, so no event is near an age.
fn events(now: u64) -> impl Strategy<Value = Vec<VerifiedEvent>> {
    let recipients = proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=2);
    let length = prop_oneof![9 => 0_usize..300, 1 => 1900_usize..9000];
    let one = (0_u64..4, 0..KINDS.len(), 0_u64..14, length, recipients);
    let followed = proptest::option::of(proptest::sample::subsequence(vec![0_u64, 1, 2, 3], 0..=3));
    (proptest::collection::vec(one, 1..80), followed).prop_map(move |(all, followed)| {
        let of = |(index, (by, kind, hundreds, length, to)): (usize, (u64, usize, u64, usize, Vec<u64>))| {
            let to: Vec<String> = to.into_iter().map(|seed| author(seed).to_string()).collect();
            let tags: Vec<[&str; 2]> = to.iter().map(|key| ["p", key.as_str()]).chain([["t", "x"]]).collect();
            let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
            let text = format!("{index} {}", "z".repeat(length));
            trusted(author(by), KINDS[kind], now - 100 * hundreds - 50, &tags, &text)
        };
        let list = followed.map(|seeds| {
            let keys: Vec<String> = seeds.into_iter().map(|seed| author(seed).to_string()).collect();
            let tags: Vec<[&str; 2]> = keys.iter().map(|key| ["p", key.as_str()]).collect();
            let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
            trusted(author(OWNER), 3, now - 5000, &tags, "")
        });
        all.into_iter().enumerate().map(of).chain(list).collect()
    })
}

/// How many hundreds of seconds ago some events arrived, the first of them first: as many in each batch.
fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    proptest::sample::subsequence((0..14).rev().collect::<Vec<u64>>(), 1..=5)
}

/// When the events of each batch had arrived for certain: half a minute from any age.
fn batches<'a>(events: &'a [VerifiedEvent], hundreds: &[u64], now: u64) -> Vec<(&'a [VerifiedEvent], u64)> {
    let each = events.len().div_ceil(hundreds.len());
    events.chunks(each).zip(hundreds).map(|(batch, hundreds)| (batch, now - 100 * hundreds - 30)).collect()
}

/// Stores each batch a minute before it is known to have arrived.
fn fill(store: &Store, batches: &[(&[VerifiedEvent], u64)]) {
    for (batch, arrived) in batches {
        store.writer().commit(batch, Timestamp(arrived - 60)).expect("a commit");
        store.writer().reap_expired(Timestamp(*arrived), 1).expect("upkeep");
    }
}

/// Which events are left, by sorting lists. It knows of rules what the documentation says.
struct Model<'a> {
    rules: &'a Retention,
    now: u64,
    arrived: BTreeMap<EventId, u64>,
    /// With the rule of each, the most valuable first; `None` is for ever.
    kept: Vec<(Option<usize>, EventView<'a>)>,
}

impl<'a> Model<'a> {
    fn rule_of(rules: &Retention, event: EventView<'_>, followed: &KeySet) -> Option<usize> {
        let (author, kind) = (event.pubkey(), event.kind());
        let goes_by_list = |rule: &Rule| rule.selector.follows_of.is_some();
        if kind.0 == 3 && author == testing::author(OWNER) && rules.rules().iter().any(goes_by_list) {
            return None;
        }
        let is_unknown = followed.is_empty();
        let place = rules.rules().iter().position(|Rule { selector, .. }| {
            let file = selector.authors_file.as_ref().map(|file| &file.keys);
            let follows = selector.follows_of.as_ref().map(|_| followed);
            let mut names = [selector.authors.as_ref(), file, follows].into_iter().flatten().peekable();
            selector.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
                && ((follows.is_some() && is_unknown)
                    || names.peek().is_none()
                    || names.any(|keys| keys.contains(&author)))
                && !selector.not_authors.contains(&author)
                && !selector.not_authors_file.as_ref().is_some_and(|file| file.keys.contains(&author))
                && selector.addressed_to.as_ref().is_none_or(|keys| {
                    let json: serde_json::Value = serde_json::from_str(&event.to_json()).expect("JSON");
                    let tags = json["tags"].as_array().expect("a list");
                    keys.iter().any(|key| tags.iter().any(|tag| tag[0] == "p" && tag[1] == key.to_string()))
                })
        })?;
        let rule = &rules.rules()[place];
        (rule.bounds.keep.is_none() && !(goes_by_list(rule) && is_unknown)).then_some(place)
    }

    fn new(rules: &'a Retention, batches: &[(&'a [VerifiedEvent], u64)], now: u64) -> Self {
        let id = |event: &VerifiedEvent| event.view().id();
        let arrived = batches.iter().flat_map(|(batch, by)| batch.iter().map(move |event| (id(event), *by))).collect();
        let events = || batches.iter().flat_map(|(batch, _)| *batch);
        let of_list = |tag: nostr::Tag<'_>| Pubkey::from_hex(tag.value().expect("a value").to_text().as_bytes());
        let list = events().map(VerifiedEvent::view).find(|event| event.kind().0 == 3);
        let followed = list.iter().flat_map(|list| list.tags()).filter_map(of_list).collect();
        let kept = events().map(|event| (Self::rule_of(rules, event.view(), &followed), event.view()));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by_key(|(rule, event)| (*rule, Reverse(event.created_at()), event.id()));
        Self { rules, now, arrived, kept }
    }

    fn has_grace(rules: &Retention, now: u64, rule: Option<usize>, event: EventView<'_>) -> bool {
        let grace = rule.and_then(|rule| rules.rules()[rule].bounds.grace);
        grace.is_some_and(|grace| event.created_at().0 >= now - grace.seconds)
    }

    fn bounds(&self, rule: usize) -> RuleBounds {
        self.rules.rules()[rule].bounds
    }

    fn left(mut self) -> BTreeSet<EventId> {
        let rules = self.rules;
        let bounds = |rule: usize| rules.rules()[rule].bounds;
        let now = self.now;
        let has_grace = |rule, event| Self::has_grace(rules, now, rule, event);
        self.kept.retain(|(rule, event)| {
            let Some((age, age_by)) = rule.and_then(|rule| Some((bounds(rule).max_age?, bounds(rule).age_by))) else {
                return true;
            };
            let since = if age_by == AgeBy::Arrival { self.arrived[&event.id()] } else { event.created_at().0 };
            since >= now - age.seconds
        });
        let mut seen: BTreeMap<(usize, Pubkey, Kind), u64> = BTreeMap::new();
        self.kept.retain(|(rule, event)| {
            let Some(rule) = rule else { return true };
            let count = seen.entry((*rule, event.pubkey(), event.kind())).or_default();
            *count += 1;
            let limit = bounds(*rule).max_per_author_and_kind;
            limit == 0 || *count <= limit || has_grace(Some(*rule), *event)
        });
        for rule in 0..rules.rules().len() {
            let limit = self.bounds(rule).max_events;
            while limit > 0 && self.of(rule).count() as u64 > limit && self.drop_oldest(rule) {}
        }
        for rule in 0..rules.rules().len() {
            let limit = self.bounds(rule).max_bytes;
            let bytes = |model: &Self| model.of(rule).map(|event| event.record().len() as u64).sum::<u64>();
            while limit > 0 && bytes(&self) > limit && self.drop_oldest(rule) {}
        }
        self.limit_authors();
        self.make_room();
        self.kept.into_iter().map(|(_, event)| event.id()).collect()
    }

    /// The worst of each author go until what is left is within both limits.
    fn limit_authors(&mut self) {
        let limits = self.rules.limits();
        let authors: BTreeSet<Pubkey> = self.kept.iter().map(|(_, event)| event.pubkey()).collect();
        for author in authors {
            loop {
                let of = |(rule, event): &&(Option<usize>, EventView<'_>)| rule.is_some() && event.pubkey() == author;
                let count = self.kept.iter().filter(of).count() as u64;
                let bytes = self.kept.iter().filter(of).map(|(_, event)| size(*event)).sum::<u64>();
                let is_over = |limit: u64, held: u64| limit > 0 && held > limit;
                if !is_over(limits.max_events_per_author, count) && !is_over(limits.max_bytes_per_author, bytes) {
                    break;
                }
                let (rules, now) = (self.rules, self.now);
                let may_go =
                    |one: &(Option<usize>, EventView<'_>)| of(&one) && !Self::has_grace(rules, now, one.0, one.1);
                let Some(worst) = self.kept.iter().rposition(may_go) else { break };
                self.kept.remove(worst);
            }
        }
    }

    fn make_room(&mut self) {
        let limit = self.rules.limits().max_bytes;
        let used = |model: &Self| model.kept.iter().map(|(_, event)| size(*event)).sum::<u64>();
        if limit == 0 || used(self) <= limit - limit / 32 {
            return;
        }
        for rule in (0..self.rules.rules().len()).rev() {
            while used(self) > limit - 2 * (limit / 32) && self.drop_oldest(rule) {}
        }
    }

    fn of(&self, rule: usize) -> impl Iterator<Item = EventView<'a>> {
        self.kept.iter().filter(move |(of, _)| *of == Some(rule)).map(|(_, event)| *event)
    }

    /// False when there is none.
    fn drop_oldest(&mut self, rule: usize) -> bool {
        let may_go = |of, event| of == Some(rule) && !Self::has_grace(self.rules, self.now, of, event);
        let last = self.kept.iter().rposition(|(of, event)| may_go(*of, *event));
        last.map(|last| self.kept.remove(last)).is_some()
    }
}

/// What an event of these tests takes, by the arithmetic of the documentation: 153 bytes for four index entries, 48 for each tag,
/// and the record with 16 bytes, in whole pages if two do not fit into one.
fn size(event: EventView<'_>) -> u64 {
    let record = event.record().len() as u64 + 16;
    153 + 48 * event.tags().count() as u64 + if record > 2040 { record.div_ceil(4096) * 4096 } else { record }
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
    while pipeline.shared().beat.plans() == 0 {
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
