//! Compares the store with a list of events and a second implementation of the rules, which share no code.
//!
//! After any operations in any batches, outcomes, visible events and known events must be the same.

use proptest::prelude::*;

use super::removals::removals_after;
use super::*;

const DAY: u64 = 86_400;
const AUTHORS: u64 = 3;

/// One event of the pool, in numbers that collide often.
#[derive(Clone, Debug)]
struct Spec {
    author: u64,
    kind: u16,
    /// In days.
    at: u64,
    d: u8,
    /// The author that the `p` tag names.
    to: u64,
    /// In days; zero for none.
    expires: u64,
    /// Places in the pool that `e` tags name, reduced to places before this event.
    ids: Vec<usize>,
    /// Author, kind and `d` of `a` tags.
    addresses: Vec<(u64, u16, u8)>,
}

/// An operation on the store.
#[derive(Clone, Debug)]
enum Op {
    /// Evict these numbers and publish these places of the pool as one batch.
    Publish(Vec<usize>, Vec<u64>),
    /// Publish these batches as one group, each with evictions; true for a commit that fails.
    Group(Vec<(Vec<usize>, Vec<u64>)>, bool),
    /// Let days pass.
    Wait(u64),
    /// Remove the expired events, this many at a time.
    Reap(usize),
    /// Purge in a number of steps of a number of rows.
    Purge(usize, usize),
    /// Remove the event with this number; true to refuse it from now on.
    Remove(u64, bool),
    /// Close and reopen the store.
    Reopen,
}

/// An event as the oracle sees it.
#[derive(Clone, Debug)]
struct Plain {
    spec: Spec,
    id: String,
    ids: Vec<String>,
    event: VerifiedEvent,
}

fn d_value(d: u8) -> String {
    if d == 2 { "0f".repeat(32) } else { format!("d:{d}") }
}

fn build(pool: &[Spec]) -> Vec<Plain> {
    let mut plains: Vec<Plain> = Vec::new();
    for (place, spec) in pool.iter().enumerate() {
        let ids: Vec<String> =
            spec.ids.iter().filter(|_| place > 0).map(|&named| plains[named % place].id.clone()).collect();
        let mut tags: Vec<Vec<String>> = vec![
            vec!["p".into(), author(spec.to).to_string()],
            vec!["d".into(), d_value(spec.d)],
            vec!["n".into(), place.to_string()],
        ];
        if spec.expires > 0 {
            tags.push(vec!["expiration".into(), (spec.expires * DAY).to_string()]);
        }
        tags.extend(ids.iter().map(|id| vec!["e".into(), id.clone()]));
        for &(by, kind, d) in &spec.addresses {
            let d = if kind < 30_000 { String::new() } else { d_value(d) };
            tags.push(vec!["a".into(), format!("{kind}:{}:{d}", author(by))]);
        }
        let tags: Vec<Vec<&str>> = tags.iter().map(|tag| tag.iter().map(String::as_str).collect()).collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
        let event = trusted(author(spec.author), spec.kind, spec.at * DAY, &tags, "");
        plains.push(Plain { spec: spec.clone(), id: id(&event), ids, event });
    }
    plains
}

/// The oracle's verdict on an event. Whether an event counts as deleted or vanished may depend on how far a purge has
/// come, so the oracle does not distinguish them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Stored(u64),
    New,
    Held,
    KeptOut,
    Replaced,
    Expired,
    Ephemeral,
    Invalid,
}

#[derive(Default)]
struct Oracle {
    day: u64,
    last: u64,
    held: Vec<(u64, Plain)>,
    /// Event and deleter.
    tombstones: Vec<(String, u64)>,
    /// Author, kind, `d` and the last day that is deleted.
    addresses: Vec<(u64, u16, u8, u64)>,
    /// Author and the last day that vanished.
    vanished: Vec<(u64, u64)>,
    /// Refused forever by the operator.
    operator: Vec<String>,
}

fn coordinate(spec: &Spec) -> Option<(u64, u16, u8)> {
    match spec.kind {
        0 | 10_002 => Some((spec.author, spec.kind, 0)),
        30_000 => Some((spec.author, spec.kind, spec.d)),
        _ => None,
    }
}

fn may_delete(by: u64, target: &Plain) -> bool {
    target.spec.author == by || (target.spec.kind == 1059 && target.spec.to == by)
}

impl Oracle {
    fn is_kept_out(&self, event: &Plain) -> bool {
        let spec = &event.spec;
        let is_immune = spec.kind == 5 || spec.kind == 62;
        let vanished =
            |by: u64, slack: u64| self.vanished.iter().any(|&(who, day)| who == by && spec.at + slack <= day);
        self.operator.contains(&event.id)
            || !is_immune && self.tombstones.iter().any(|(id, by)| *id == event.id && may_delete(*by, event))
            || coordinate(spec).is_some_and(|(by, kind, d)| {
                self.addresses.iter().any(|&(b, k, e, until)| (b, k, e) == (by, kind, d) && spec.at <= until)
            })
            || spec.kind != 62 && vanished(spec.author, 0)
            || spec.kind == 1059 && vanished(spec.to, 2)
    }

    fn older(&self, event: &Plain) -> Option<usize> {
        let own = coordinate(&event.spec)?;
        self.held.iter().position(|(_, held)| coordinate(&held.spec) == Some(own))
    }

    fn judge(&self, event: &Plain) -> Verdict {
        if event.spec.kind == 20_001 {
            return Verdict::Ephemeral;
        }
        if event.spec.expires > 0 && event.spec.expires <= self.day {
            return Verdict::Expired;
        }
        if self.held.iter().any(|(_, held)| held.id == event.id) {
            return Verdict::Held;
        }
        if self.is_kept_out(event) {
            return Verdict::KeptOut;
        }
        if let Some(place) = self.older(event) {
            let held = &self.held[place].1;
            if held.spec.at > event.spec.at || held.spec.at == event.spec.at && held.id < event.id {
                return Verdict::Replaced;
            }
        }
        Verdict::New
    }

    fn publish(&mut self, event: &Plain) -> Verdict {
        let verdict = self.judge(event);
        if verdict != Verdict::New {
            return verdict;
        }
        let spec = &event.spec;
        if spec.kind == 5 && !self.delete(event) {
            return Verdict::Invalid;
        }
        if let Some(place) = self.older(event) {
            self.held.remove(place);
        }
        self.last += 1;
        self.held.push((self.last, event.clone()));
        if spec.kind == 62 {
            self.vanish(spec.author, spec.at);
        }
        Verdict::Stored(self.last)
    }

    fn delete(&mut self, request: &Plain) -> bool {
        let by = request.spec.author;
        let mut is_valid = false;
        for id in &request.ids {
            if self.held.iter().any(|(_, held)| held.id == *id && !may_delete(by, held)) {
                continue;
            }
            is_valid = true;
            self.tombstones.push((id.clone(), by));
            self.held.retain(|(_, held)| held.id != *id || held.spec.kind == 5 || held.spec.kind == 62);
        }
        for &(named, kind, d) in request.spec.addresses.iter().filter(|&&(named, kind, _)| named == by && kind != 1) {
            is_valid = true;
            let d = if kind == 30_000 { d } else { 0 };
            self.addresses.push((named, kind, d, request.spec.at));
            self.held
                .retain(|(_, held)| coordinate(&held.spec) != Some((named, kind, d)) || held.spec.at > request.spec.at);
        }
        is_valid
    }

    fn vanish(&mut self, by: u64, day: u64) {
        if self.vanished.iter().any(|&(who, before)| who == by && before >= day) {
            return;
        }
        self.vanished.push((by, day));
        let (gone, held) = std::mem::take(&mut self.held).into_iter().partition(|(_, held)| {
            let is_wrap = held.spec.kind == 1059 && held.spec.to == by;
            is_wrap || held.spec.kind != 62 && held.spec.author == by && held.spec.at <= day
        });
        self.held = held;
        let gone: Vec<(u64, Plain)> = gone;
        let wraps = gone.into_iter().filter(|(_, gone)| gone.spec.kind == 1059 && gone.spec.to == by);
        self.tombstones.extend(wraps.map(|(_, wrap)| (wrap.id, by)));
    }

    fn remove(&mut self, seq: u64, refuse: bool) {
        let Some(place) = self.held.iter().position(|&(own, _)| own == seq) else { return };
        let (_, event) = self.held.remove(place);
        if refuse {
            self.operator.push(event.id);
        }
    }
}

fn verdict_of(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Stored(seq) => Verdict::Stored(seq.0),
        Outcome::Duplicate => Verdict::Held,
        Outcome::Replaced => Verdict::Replaced,
        Outcome::Deleted | Outcome::Vanished => Verdict::KeptOut,
        Outcome::Expired => Verdict::Expired,
        Outcome::Ephemeral => Verdict::Ephemeral,
        Outcome::InvalidDeletion => Verdict::Invalid,
        Outcome::Full => panic!("the map is large"),
    }
}

fn known_of(known: Known) -> Verdict {
    match known {
        Known::New => Verdict::New,
        Known::Stored => Verdict::Held,
        Known::Deleted | Known::Vanished => Verdict::KeptOut,
        Known::Superseded => Verdict::Replaced,
        Known::Expired => Verdict::Expired,
    }
}

/// Applies one operation to the store and the oracle.
fn apply(op: Op, home: Home, oracle: &mut Oracle, pool: &[Plain]) -> Home {
    let mut writer = home.store.writer();
    let now = Timestamp(oracle.day * DAY);
    match op {
        Op::Publish(places, gone) => {
            let gone: Vec<Seq> = gone.into_iter().map(|seq| Seq(seq % (oracle.last + 1))).collect();
            let batch: Vec<&Plain> = places.iter().map(|place| &pool[place % pool.len()]).collect();
            let events: Vec<_> = batch.iter().map(|plain| plain.event.clone()).collect();
            let (outcomes, _) =
                writer.commit_evicting(&events, now, Evicted { seqs: &gone, horizons: None }).expect("a commit");
            gone.into_iter().for_each(|seq| oracle.remove(seq.0, false));
            let expected: Vec<_> = batch.iter().map(|plain| oracle.publish(plain)).collect();
            assert_eq!(outcomes.into_iter().map(verdict_of).collect::<Vec<_>>(), expected);
        }
        Op::Group(batches, fails) => {
            // An evictor chooses only committed events.
            let committed = oracle.last + 1;
            let result = writer.group(|group| {
                for (places, gone) in batches {
                    // A failed commit removes nothing, so the batches of a failing group evict nothing.
                    let gone: Vec<Seq> = gone.into_iter().filter(|_| !fails).map(|seq| Seq(seq % committed)).collect();
                    let batch: Vec<&Plain> = places.iter().map(|place| &pool[place % pool.len()]).collect();
                    let events: Vec<_> = batch.iter().map(|plain| plain.event.clone()).collect();
                    let AddedBatch { outcomes, is_durable, .. } =
                        group.add(&events, now, Evicted { seqs: &gone, horizons: None })?;
                    gone.into_iter().for_each(|seq| oracle.remove(seq.0, false));
                    let expected: Vec<_> = batch.iter().map(|plain| oracle.publish(plain)).collect();
                    assert_eq!(outcomes.into_iter().map(verdict_of).collect::<Vec<_>>(), expected);
                    assert!(is_durable);
                }
                if fails { Err(StoreError::Full) } else { Ok(()) }
            });
            assert_eq!(result.is_err(), fails);
            home.store.checkpoint().expect("a commit");
        }
        Op::Wait(days) => oracle.day += days,
        Op::Reap(step) => {
            while writer.reap_expired(now, step).expect("a commit").events == step as u64 {}
            let day = oracle.day;
            oracle.held.retain(|(_, held)| held.spec.expires == 0 || held.spec.expires > day);
        }
        Op::Purge(steps, rows) => (0..steps).for_each(|_| {
            writer.purge_vanished(rows).expect("a commit");
        }),
        Op::Remove(seq, refuse) => {
            let seq = seq % (oracle.last + 1);
            let back = if refuse { Return::Refused } else { Return::Allowed };
            writer.remove(&[Seq(seq)], back).expect("a commit");
            oracle.remove(seq, refuse);
        }
        Op::Reopen => {
            drop(writer);
            let Home { store, dir } = home;
            drop(store);
            return Home { store: Store::open(dir.path(), options()).expect("the same store"), dir };
        }
    }
    home
}

fn compare(home: &Home, oracle: &Oracle, pool: &[Plain]) {
    let report = home.assert_clean();
    assert_eq!(report.events - report.awaiting_purge, oracle.held.len() as u64);
    let snapshot = home.store.read().expect("a snapshot");
    assert_eq!(snapshot.last_seq().expect("a number"), Seq(oracle.last));
    let visible = snapshot.after(Seq(0)).expect("a walk").map(|row| row.expect("a row"));
    let visible = visible.filter(|(seq, event)| !snapshot.is_hidden(*seq, *event).expect("a lookup"));
    let visible: Vec<_> = visible.map(|(seq, event)| (seq.0, event.id().to_string())).collect();
    let expected: Vec<_> = oracle.held.iter().map(|(seq, held)| (*seq, held.id.clone())).collect();
    assert_eq!(visible, expected);
    for plain in pool.iter().filter(|plain| plain.spec.kind != 20_001) {
        let known = snapshot.status(plain.event.view(), Timestamp(oracle.day * DAY)).expect("a status");
        assert_eq!(known_of(known), oracle.judge(plain), "{plain:?}");
    }
}

/// What somebody holds who is told of arrivals and removals, and how far they were told.
#[derive(Default)]
struct Reader {
    held: std::collections::BTreeMap<String, u64>,
    arrived: Seq,
    removed: u64,
}

impl Reader {
    /// Tells it what is new, and compares what it holds with the store.
    fn read(&mut self, store: &Store) {
        for removal in removals_after(store, self.removed).expect("few removals") {
            self.held.remove(&removal.id.to_string());
            self.removed = removal.number;
        }
        let snapshot = store.read().expect("a snapshot");
        for row in snapshot.after(self.arrived).expect("a walk") {
            let (seq, event) = row.expect("a row");
            self.held.insert(event.id().to_string(), seq.0);
            self.arrived = seq;
        }
        let all = snapshot.after(Seq(0)).expect("a walk").map(|row| row.expect("a row"));
        let all: std::collections::BTreeMap<_, _> = all.map(|(seq, event)| (event.id().to_string(), seq.0)).collect();
        assert_eq!(self.held, all);
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop::sample::select(vec![0, 1, 1, 5, 5, 5, 62, 1059, 1059, 10_002, 20_001, 30_000, 30_000]);
    let address = (0..AUTHORS, prop::sample::select(vec![0u16, 1, 10_002, 30_000]), 0..3u8);
    let expires = prop_oneof![3 => Just(0), 1 => 1..12u64];
    (0..AUTHORS, kind, 0..8u64, 0..3u8, 0..AUTHORS, expires, prop::collection::vec(any::<usize>(), 0..4), address)
        .prop_flat_map(|(author, kind, at, d, to, expires, ids, address)| {
            let addresses = prop::collection::vec(Just(address), 0..2);
            (Just(ids), addresses).prop_map(move |(ids, addresses)| {
                let (ids, addresses) = if kind == 5 { (ids, addresses) } else { (Vec::new(), Vec::new()) };
                Spec { author, kind, at, d, to, expires, ids, addresses }
            })
        })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (prop::collection::vec(any::<usize>(), 1..8), prop::collection::vec(any::<u64>(), 0..2))
            .prop_map(|(places, gone)| Op::Publish(places, gone)),
        5 => (prop::collection::vec((prop::collection::vec(any::<usize>(), 1..5), prop::collection::vec(any::<u64>(), 0..2)), 1..4), any::<bool>())
            .prop_map(|(batches, fails)| Op::Group(batches, fails)),
        1 => (1..3u64).prop_map(Op::Wait),
        1 => (1..3usize).prop_map(Op::Reap),
        3 => (1..4usize, 1..4usize).prop_map(|(steps, rows)| Op::Purge(steps, rows)),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(seq, refuse)| Op::Remove(seq, refuse)),
        1 => Just(Op::Reopen),
    ]
}

/// 150 cases unless `PROPTEST_CASES` says otherwise.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: 150, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_store_does_what_the_oracle_says(
        pool in prop::collection::vec(spec(), 1..40),
        ops in prop::collection::vec(op(), 1..30),
    ) {
        let pool = build(&pool);
        let mut oracle = Oracle::default();
        let (mut home, mut often, mut seldom) = (home(), Reader::default(), Reader::default());
        for op in ops {
            home = apply(op, home, &mut oracle, &pool);
            compare(&home, &oracle, &pool);
            often.read(&home.store);
        }
        seldom.read(&home.store);
        prop_assert_eq!(often.held, seldom.held);
    }
}
