//! The scan against a dumb oracle: sort everything, match with a matcher that knows nothing of indexes.
//!
//! `WEIR_SCAN_CASES` sets how many queries are tried, `WEIR_SCAN_SEED` which ones.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/world.rs"]
mod world;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use corpus::Random;
use serde_json::{Map, Value, json};
use weir::nostr::{EventView, Hint, Timestamp};
use weir::store::{Budget, Flow, Query, QueryLimits, Scan, Seq, Step, Visitor};
use world::{KINDS, World};

/// Whether the event satisfies the filter, by the words of NIP-01.
fn matches(filter: &Value, event: &Value) -> bool {
    let has = |list: &Value, value: &Value| list.as_array().is_some_and(|list| list.contains(value));
    let tags = event["tags"].as_array().expect("tags");
    filter.as_object().expect("a filter").iter().all(|(key, wanted)| match key.as_str() {
        "ids" => has(wanted, &event["id"]),
        "authors" => has(wanted, &event["pubkey"]),
        "kinds" => has(wanted, &event["kind"]),
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        "until" => event["created_at"].as_u64() <= wanted.as_u64(),
        "limit" => true,
        _ => {
            let carries = |value: &Value| tags.iter().any(|tag| tag[0] == key[1..] && tag.get(1) == Some(value));
            let mut values = wanted.as_array().expect("values").iter();
            if key.starts_with('&') { values.clone().count() > 0 && values.all(carries) } else { values.any(carries) }
        }
    })
}

/// One event that the store holds.
#[derive(Clone, PartialEq, Debug)]
struct Held {
    seq: Seq,
    event: Value,
}

impl Held {
    fn rank(&self) -> (std::cmp::Reverse<u64>, &str) {
        (std::cmp::Reverse(self.created_at()), self.event["id"].as_str().expect("an id"))
    }

    fn created_at(&self) -> u64 {
        self.event["created_at"].as_u64().expect("a time")
    }

    /// A stand-in for what a policy hides.
    fn is_private(&self) -> bool {
        self.event["content"].as_str().is_some_and(|content| content.starts_with("private"))
    }
}

/// How many events of a filter have gone out.
#[derive(Clone)]
struct Room {
    left: u32,
    ties_left: u32,
    last: u64,
}

impl Room {
    fn new(filter: &Value, limits: QueryLimits) -> Self {
        let own = filter.get("limit").map(|limit| limit.as_u64().expect("a limit") as u32);
        let left = own.unwrap_or(limits.default_limit).min(limits.max_limit);
        let ties_left = if own.is_some() { 0 } else { limits.tie_extension.min(limits.max_limit - left) };
        Self { left, ties_left, last: 0 }
    }

    fn is_open(&self, time: u64) -> bool {
        self.left > 0 || (self.ties_left > 0 && self.last == time)
    }

    fn count(&mut self, time: u64) {
        if self.left > 0 {
            (self.left, self.last) = (self.left - 1, time);
        } else if self.last == time {
            self.ties_left = self.ties_left.saturating_sub(1);
        }
    }
}

/// The answer to the filters out of `held`, which is sorted, and the hint for EOSE.
fn answer(filters: &[Value], held: &[Held], limits: QueryLimits, hide: bool) -> (Vec<Held>, Option<Hint>) {
    let mut rooms: Vec<Room> = filters.iter().map(|filter| Room::new(filter, limits)).collect();
    let empty: Vec<bool> = rooms.iter().map(|room| room.left == 0).collect();
    let (mut sent, mut more) = (Vec::new(), false);
    for one in held.iter().filter(|one| !(hide && one.is_private())) {
        let matching: Vec<usize> =
            (0..filters.len()).filter(|&number| !empty[number] && matches(&filters[number], &one.event)).collect();
        if matching.iter().any(|&number| rooms[number].is_open(one.created_at())) {
            matching.iter().for_each(|&number| rooms[number].count(one.created_at()));
            sent.push(one.clone());
        } else if !matching.is_empty() {
            more = true;
        }
    }
    let hint = match (more, empty.contains(&true)) {
        _ if !limits.hints => None,
        (true, _) => Some(Hint::More),
        (false, true) => None,
        (false, false) => Some(Hint::Finish),
    };
    (sent, hint)
}

/// Takes rows into a list, hides private ones if told to, and pauses now and then if told to.
struct Taker {
    taken: Vec<Held>,
    hide: bool,
    pause_once_in: Option<u64>,
    random: Random,
}

impl Visitor for Taker {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        !(self.hide && event.content().starts_with(b"private"))
    }

    fn take(&mut self, seq: Seq, event: EventView<'_>) -> Flow {
        let json: Value = serde_json::from_str(&event.to_json()).expect("JSON");
        self.taken.push(Held { seq, event: json });
        match self.pause_once_in {
            Some(times) if self.random.once_in(times) => Flow::Pause,
            _ => Flow::Continue,
        }
    }
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// The budget of each slice; `None` draws one.
    budget: Option<Budget>,
    pause_once_in: Option<u64>,
    /// Whether events come and go between slices.
    changes: bool,
}

const ROWS_1: Budget = Budget { rows: 1, time: Duration::MAX };
const ROWS_2: Budget = Budget { rows: 2, time: Duration::MAX };
const NO_TIME: Budget = Budget { rows: u32::MAX, time: Duration::ZERO };

fn mode(random: &mut Random) -> Mode {
    let budget = *random.pick(&[Some(ROWS_1), Some(ROWS_2), Some(NO_TIME), Some(Budget::UNLIMITED), None]);
    let pause_once_in = *random.pick(&[None, Some(1), Some(3)]);
    Mode { budget, pause_once_in, changes: random.once_in(5) }
}

/// Runs a scan to its end, with `between` called between slices.
fn run(
    world: &mut World,
    scan: &mut Scan,
    mode: Mode,
    taker: &mut Taker,
    mut between: impl FnMut(&mut World),
) -> Option<Hint> {
    for _ in 0..100_000 {
        let rows = 1 + world.random.below(9) as u32;
        let budget = mode.budget.unwrap_or(Budget { rows, time: Duration::MAX });
        let snapshot = world.store.read().expect("a snapshot");
        let step = scan.run(&snapshot, budget, taker).expect("a slice");
        drop(snapshot);
        match step {
            Step::Done { hint } => return hint,
            Step::Paused => between(world),
        }
    }
    panic!("the scan does not end");
}

/// One query in a world that stays as it is: the answer is the oracle's, row for row, and so is the hint.
fn check_still(world: &mut World, filters: &[Value], query: &Query, mode: Mode, taker: &mut Taker) {
    let held = world.held(query.until_seq);
    let limits = query.limits.expect("limits");
    let (expected, expected_hint) = answer(filters, &held, limits, taker.hide);
    let mut scan = Scan::new(query.clone());
    let hint = run(world, &mut scan, mode, taker, |_| {});
    assert_eq!((&taker.taken, hint), (&expected, expected_hint), "{filters:?} {query:?} {mode:?}");

    // A COUNT.
    let mut all = Taker { taken: Vec::new(), hide: taker.hide, pause_once_in: None, random: Random(1) };
    run(world, &mut Scan::new(Query { limits: None, ..query.clone() }), mode, &mut all, |_| {});
    let is_counted = |one: &&Held| !(taker.hide && one.is_private()) && filters.iter().any(|f| matches(f, &one.event));
    assert_eq!(all.taken.len(), held.iter().filter(is_counted).count(), "{filters:?}");
}

/// One query while events come and go: in order, without repeats, nothing left out that was there all along
/// unless each of its filters was full, nothing sent without room.
fn check_changing(world: &mut World, filters: &[Value], query: &Query, mode: Mode, taker: &mut Taker) {
    let before = world.held(query.until_seq);
    let mut scan = Scan::new(query.clone());
    run(world, &mut scan, mode, taker, |world| {
        if world.random.once_in(3) {
            world.grow(4);
        }
    });
    let after: HashSet<Seq> = world.held(query.until_seq).iter().map(|one| one.seq).collect();
    let limits = query.limits.expect("limits");
    let mut rooms: Vec<Room> = filters.iter().map(|filter| Room::new(filter, limits)).collect();
    let mut taken = taker.taken.iter().peekable();
    let known: HashMap<Seq, &Value> = before.iter().map(|one| (one.seq, &one.event)).collect();
    assert!(taker.taken.is_sorted_by(|a, b| a.rank() < b.rank()), "order {filters:?}");
    for one in &before {
        let time = one.created_at();
        let matching: Vec<usize> =
            (0..filters.len()).filter(|&n| !is_empty(&filters[n]) && matches(&filters[n], &one.event)).collect();
        let is_open = matching.iter().any(|&n| rooms[n].is_open(time));
        let is_taken = taken.next_if(|taken| taken.seq == one.seq).is_some();
        if is_taken {
            assert_eq!(known[&one.seq], &one.event);
            assert!(is_open && !(taker.hide && one.is_private()), "{one:?} has no room: {filters:?}");
            matching.iter().for_each(|&n| rooms[n].count(time));
        } else if after.contains(&one.seq) {
            assert!(
                !is_open || (taker.hide && one.is_private()),
                "{one:?} is left out: {filters:?} {query:?} {mode:?}"
            );
        }
    }
    assert_eq!(taken.next(), None, "an event that was not there");
}

fn is_empty(filter: &Value) -> bool {
    filter.get("limit") == Some(&json!(0))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn a_scan_gives_what_sorting_and_filtering_everything_gives() {
    let (cases, seed) = (number("WEIR_SCAN_CASES", 4_000), number("WEIR_SCAN_SEED", 1));
    println!("WEIR_SCAN_SEED={seed} WEIR_SCAN_CASES={cases}");
    let mut random = Random(seed);
    let mut world = World::new(random.clone(), 5);
    let mut hits = 0;
    for case in 0..cases {
        if case % 64 == 0 || world.ids.len() > 240 {
            let authors = *random.pick(&[5, 5, 40, 80]);
            hits += world.store.newest_counts().hits;
            world = World::new(Random(random.next()), authors);
            world.grow(70);
            world.grow(if authors > 5 { 160 } else { 70 });
        }
        let filters: Vec<Value> = (0..=world.random.below(4)).map(|_| world.filter()).collect();
        let limits = QueryLimits {
            default_limit: 1 + world.random.below(60) as u32,
            max_limit: 1 + world.random.below(40) as u32,
            hints: !world.random.once_in(4),
            tie_extension: *world.random.pick(&[0, 1, 3, 256]),
        };
        let last = world.last_seq();
        let until_seq = if world.random.once_in(2) { last } else { Seq(world.random.below(last.0 + 1)) };
        let query = Query { filters: world.compile(&filters), until_seq, limits: Some(limits) };
        let mode = mode(&mut world.random);
        let mut taker = Taker {
            taken: Vec::new(),
            hide: world.random.once_in(3),
            pause_once_in: mode.pause_once_in,
            random: Random(case),
        };
        if mode.changes {
            check_changing(&mut world, &filters, &query, mode, &mut taker);
        } else {
            check_still(&mut world, &filters, &query, mode, &mut taker);
        }
    }
    assert!(hits > 0, "the times of newest events are used");
}

/// A filter with many authors, whose ranges are opened by the times of their newest events.
fn feed(world: &mut World) -> Value {
    let mut filter = Map::new();
    let authors = world.authors.clone();
    let mut list: Vec<String> = authors.into_iter().filter(|_| world.random.once_in(2)).collect();
    list.extend((0..world.random.below(9)).map(|_| world.random.hex32()));
    filter.insert("authors".into(), json!(list));
    filter.insert("kinds".into(), json!(world.some(&KINDS, 3)));
    for bound in ["since", "until"] {
        if world.random.once_in(5) {
            filter.insert(bound.into(), json!(world.time()));
        }
    }
    if world.random.once_in(2) {
        filter.insert("limit".into(), json!(world.random.below(20)));
    }
    Value::Object(filter)
}

#[test]
fn feeds_beside_commits_give_what_sorting_and_filtering_everything_gives() {
    let (cases, seed) = (number("WEIR_SCAN_CASES", 4_000), number("WEIR_SCAN_SEED", 1));
    println!("WEIR_SCAN_SEED={seed} WEIR_SCAN_CASES={cases}");
    let mut random = Random(seed);
    let mut world = World::new(random.clone(), 40);
    let mut hits = 0;
    for case in 0..cases {
        if case % 64 == 0 || world.ids.len() > 240 {
            hits += world.store.newest_counts().hits;
            world = World::new(Random(random.next()), 40);
            world.grow(160);
        }
        if world.random.once_in(4) {
            // It raises bounds, and replaces and deletes events.
            world.grow(6);
        }
        let filters: Vec<Value> = (0..=world.random.below(2)).map(|_| feed(&mut world)).collect();
        let hints = world.random.once_in(2);
        let limits = QueryLimits { default_limit: 60, max_limit: 100, hints, tie_extension: 3 };
        let last = world.last_seq();
        let until_seq = if world.random.once_in(2) { last } else { Seq(world.random.below(last.0 + 1)) };
        let query = Query { filters: world.compile(&filters), until_seq, limits: Some(limits) };
        let mode = mode(&mut world.random);
        let (hide, pause_once_in) = (world.random.once_in(3), mode.pause_once_in);
        let mut taker = Taker { taken: Vec::new(), hide, pause_once_in, random: Random(case) };
        if mode.changes {
            check_changing(&mut world, &filters, &query, mode, &mut taker);
        } else {
            check_still(&mut world, &filters, &query, mode, &mut taker);
        }
    }
    println!("{hits} times of newest events were known");
    assert!(hits > cases, "the times of newest events are used");
}

/// A store in which authors and tags have more rows of each kind than a first look takes in.
fn crowd(mut random: Random) -> World {
    let mut world = World::new(Random(random.next()), 2);
    let named = world.hexes[..2].to_vec();
    let events: Vec<Value> = (0..480)
        .map(|_| {
            let tags = [["t", "x"], ["t", "y"], ["p", &named[0]], ["p", &named[1]]];
            let tags: Vec<_> = tags.into_iter().filter(|_| random.once_in(2)).collect();
            let (author, content) = (random.pick(&world.authors), *random.pick(&["", "private"]));
            let (kind, time) = (*random.pick(&[1, 7]), 1_700_000_000 + random.below(160));
            corpus::event(author, time, kind, &json!(tags), content)
        })
        .collect();
    let batch: Vec<_> = events.iter().map(|event| corpus::trusted(&mut world.parser, event)).collect();
    world.ids = events.iter().map(|event| event["id"].as_str().expect("an id").to_string()).collect();
    world.store.writer().commit(&batch, Timestamp(1)).expect("a commit");
    world
}

/// A filter that two indexes can answer.
fn crossing(world: &mut World) -> Value {
    let mut filter = Map::new();
    let (authors, named) = (world.authors.clone(), world.hexes[..2].to_vec());
    let mark = if world.random.once_in(6) { '&' } else { '#' };
    filter.insert(format!("{mark}t"), json!(world.some(&["x", "y"], 2)));
    match world.random.below(3) {
        0 => drop(filter.insert("#p".into(), json!(world.some(&named, 2)))),
        1 => drop(filter.insert("authors".into(), json!(world.some(&authors, 2)))),
        _ => {
            filter.insert("authors".into(), json!(world.some(&authors, 1)));
            filter.insert("#p".into(), json!(world.some(&named, 1)));
        }
    }
    match world.random.below(4) {
        0 => None,
        1 => filter.insert("kinds".into(), json!([1, 7])),
        _ => filter.insert("kinds".into(), json!([1])),
    };
    for (bound, time) in [("since", 1_700_000_000), ("until", 1_700_000_080)] {
        if world.random.once_in(5) {
            filter.insert(bound.into(), json!(time + world.random.below(80)));
        }
    }
    if world.random.once_in(2) {
        filter.insert("limit".into(), json!(1 + world.random.below(30)));
    }
    Value::Object(filter)
}

#[test]
fn two_indexes_walked_together_give_what_sorting_and_filtering_everything_gives() {
    let (cases, seed) = (number("WEIR_SCAN_CASES", 4_000) / 20, number("WEIR_SCAN_SEED", 1));
    println!("WEIR_SCAN_SEED={seed} WEIR_SCAN_CASES={}", cases * 20);
    let mut random = Random(seed);
    let mut world = crowd(random.clone());
    let mut together = 0;
    for case in 0..cases {
        if case % 16 == 0 {
            world = crowd(Random(random.next()));
        }
        let mut filters = vec![crossing(&mut world)];
        if world.random.once_in(4) {
            filters.push(if world.random.once_in(2) { crossing(&mut world) } else { world.filter() });
        }
        let limits =
            QueryLimits { default_limit: 200, max_limit: 210, hints: true, tie_extension: *random.pick(&[0, 3, 256]) };
        let last = world.last_seq();
        let until_seq = if random.once_in(2) { last } else { Seq(random.below(last.0 + 1)) };
        let query = Query { filters: world.compile(&filters), until_seq, limits: Some(limits) };
        let plans = Scan::new(query.clone()).explain(&world.store.read().expect("a snapshot")).expect("plans");
        together += usize::from(plans[0].intersected.is_some());
        let mode = mode(&mut random);
        let (hide, pause_once_in) = (random.once_in(3), mode.pause_once_in);
        let mut taker = Taker { taken: Vec::new(), hide, pause_once_in, random: Random(case) };
        if mode.changes {
            check_changing(&mut world, &filters, &query, mode, &mut taker);
        } else {
            check_still(&mut world, &filters, &query, mode, &mut taker);
        }
    }
    assert!(together as u64 > cases / 4, "{together} of {cases} walked two indexes together");
}

/// A store of one author's notes, one each second, and a query for them.
fn diary(notes: u64) -> (World, String) {
    let mut world = World::new(Random(3), 5);
    let author = world.authors[0].clone();
    let write = |n| corpus::event(&author, 1_000 + n, 1, &json!([["t", if n == 7 { "rare" } else { "usual" }]]), "");
    let notes: Vec<_> = (0..notes).map(|n| corpus::trusted(&mut world.parser, &write(n))).collect();
    world.store.writer().commit(&notes, Timestamp(1)).expect("a commit");
    (world, author)
}

/// How many steps the answer takes: the slices of one step each.
fn steps(world: &mut World, filter: &Value) -> (usize, u32) {
    let limits = QueryLimits { default_limit: 500, max_limit: 500, hints: true, tie_extension: 0 };
    let filters = world.compile(std::slice::from_ref(filter));
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: Some(limits) });
    let random = Random(1);
    let mut taker = Taker { taken: Vec::new(), hide: false, pause_once_in: None, random };
    let mut slices = 0;
    run(world, &mut scan, Mode { budget: Some(ROWS_1), pause_once_in: None, changes: false }, &mut taker, |_| {
        slices += 1
    });
    (taker.taken.len(), slices)
}

#[test]
fn a_deep_page_costs_no_more_than_the_first() {
    let (mut world, author) = diary(900);
    let first = steps(&mut world, &json!({"authors": [author], "kinds": [1], "limit": 20}));
    let deep = steps(&mut world, &json!({"authors": [author], "kinds": [1], "limit": 20, "until": 1_100}));
    assert_eq!((first.0, deep), (20, first));
}

#[test]
fn of_two_indexes_the_one_with_fewer_rows_is_walked() {
    let (mut world, author) = diary(900);
    let (found, slices) = steps(&mut world, &json!({"authors": [author], "#t": ["rare"], "kinds": [1]}));
    assert!(found == 1 && slices < 10, "{slices} steps");
    let filters = world.compile(&[json!({"authors": [author], "#t": ["rare"], "kinds": [1]})]);
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: None });
    assert_eq!(scan.plans()[0].to_string(), "index not chosen yet");
    let plans = scan.explain(&world.store.read().expect("a snapshot")).expect("plans");
    assert_eq!(plans[0].to_string(), "tag index, 1 range, at most 2 rows and ranges to look at");
}

#[test]
fn of_two_common_indexes_only_records_in_both_are_looked_at() {
    let (mut world, author) = diary(900);
    let others = |n: u64| corpus::event(&"ab".repeat(32), 1_000 + n, 1, &json!([["t", "common"]]), "");
    let own = |n: u64| corpus::event(&author, 990 + 100 * n, 1, &json!([["t", "common"]]), "both");
    let events: Vec<_> = (0..900).map(others).chain((0..5).map(own)).collect();
    let events: Vec<_> = events.iter().map(|event| corpus::trusted(&mut world.parser, event)).collect();
    world.store.writer().commit(&events, Timestamp(1)).expect("a commit");
    let filter = json!({"authors": [author], "#t": ["common"], "kinds": [1]});
    let filters = world.compile(std::slice::from_ref(&filter));
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: None });
    let plans = scan.explain(&world.store.read().expect("a snapshot")).expect("plans");
    assert_eq!(plans[0].to_string(), "tag index, 1 range, intersected with the author index");
    // Sixteen keys a step, where records would be one a step.
    let (found, slices) = steps(&mut world, &filter);
    assert!(found == 5 && slices < 1_805 / 8, "{found} found in {slices} steps");
}

#[test]
fn a_parked_follow_feed_takes_less_than_32_kib() {
    let mut world = World::new(Random(4), 302);
    let authors: Vec<String> = world.authors[..300].to_vec();
    let write = |author: &String| [1, 6].map(|kind| corpus::event(author, 1_000, kind, &json!([]), ""));
    let events: Vec<_> =
        authors.iter().flat_map(write).map(|event| corpus::trusted(&mut world.parser, &event)).collect();
    world.store.writer().commit(&events, Timestamp(1)).expect("a commit");
    let filters = world.compile(&[json!({"authors": authors, "kinds": [1, 6]})]);
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: None });
    let mut taken = 0;
    let mut take = |_: Seq, _: EventView<'_>| {
        taken += 1;
        Flow::Pause
    };
    scan.run(&world.store.read().expect("a snapshot"), Budget::UNLIMITED, &mut take).expect("a slice");
    assert!(taken == 1 && scan.bytes() < 32 << 10, "{} bytes", scan.bytes());
}
