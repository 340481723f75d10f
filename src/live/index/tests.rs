//! The index against a simple oracle: a list of all subscriptions, matched on plain JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::candidates::Dimension;
use super::*;
use crate::nostr::{Event, ParseOptions, json::Parser};

/// SplitMix64 (Steele, Lea, Flood 2014): numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// 32 bytes in hex from a small pool. Some in the pool share their first eight bytes.
    fn hex(&mut self, pool: u64) -> String {
        let number = self.below(pool);
        format!("{:016x}{number:048x}", number / 2)
    }

    fn tag_value(&mut self, letter: char) -> String {
        if matches!(letter, 'e' | 'p') || self.one_in(2) { self.hex(5) } else { format!("w{}", self.below(4)) }
    }

    fn list<T>(&mut self, most: u64, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = if self.one_in(30) { 0 } else { 1 + self.below(most) };
        (0..len).map(|_| item(self)).collect()
    }

    fn letter(&mut self) -> char {
        ['e', 'p', 't', 'P'][self.below(4) as usize]
    }

    fn event(&mut self) -> Value {
        let tags = self.list(6, |random| {
            let letter = random.letter();
            let value = random.tag_value(letter);
            match random.below(12) {
                0 => json!([letter]),
                1 => json!(["client", value]),
                2 => json!([letter, value, random.tag_value('t')]),
                _ => json!([letter, value]),
            }
        });
        let (pubkey, created_at, kind) = (self.hex(6), self.below(20), self.kind());
        let content = format!("{}", self.below(3));
        let preimage = json!([0, pubkey, created_at, kind, tags, content]).to_string();
        let id: String = Sha256::digest(preimage.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"id": id, "pubkey": pubkey, "created_at": created_at, "kind": kind, "tags": tags,
               "content": content, "sig": "0".repeat(128)})
    }

    fn kind(&mut self) -> u64 {
        [0, 1, 7, 1059, 20_001, 30_023][self.below(6) as usize]
    }

    fn filter(&mut self, events: &[Value]) -> Value {
        let mut filter = serde_json::Map::new();
        let mut put = |key: &str, value: Value| filter.insert(key.into(), value);
        if self.one_in(6) {
            let id = |random: &mut Self| events[random.below(events.len() as u64) as usize]["id"].clone();
            put("ids", self.list(3, id).into());
        }
        if self.one_in(3) {
            put("authors", self.list(4, |random| random.hex(6)).into());
        }
        if self.one_in(2) {
            put("kinds", self.list(3, Self::kind).into());
        }
        for mark in ["#", "#", "&"] {
            if self.one_in(4) {
                let letter = self.letter();
                put(&format!("{mark}{letter}"), self.list(3, |random| random.tag_value(letter)).into());
            }
        }
        if self.one_in(6) {
            put("since", self.below(20).into());
        }
        if self.one_in(6) {
            put("until", self.below(20).into());
        }
        filter.into()
    }
}

/// NIP-01 and NIP-91 taken literally, on JSON.
fn oracle_matches(filter: &Value, event: &Value) -> bool {
    let has = |list: &Value, value: &Value| list.as_array().is_some_and(|list| list.contains(value));
    let carries = |letter: &str, value: &Value| {
        let tags = event["tags"].as_array().into_iter().flatten();
        tags.into_iter().any(|tag| tag[0] == letter && tag[1] == *value)
    };
    filter.as_object().expect("an object").iter().all(|(key, wanted)| match key.as_str() {
        "ids" => has(wanted, &event["id"]),
        "authors" => has(wanted, &event["pubkey"]),
        "kinds" => has(wanted, &event["kind"]),
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        "until" => event["created_at"].as_u64() <= wanted.as_u64(),
        _ => {
            let (mark, letter) = key.split_at(1);
            let mut values = wanted.as_array().expect("a list").iter();
            if mark == "&" {
                // An empty list matches nothing, as for the other keys.
                return !values.as_slice().is_empty() && values.all(|value| carries(letter, value));
            }
            let every = filter.get(format!("&{letter}"));
            let counted: Vec<_> = values.filter(|value| every.is_none_or(|every| !has(every, value))).collect();
            // `&x` has all the values, unless the list was empty to begin with.
            (counted.is_empty() && !wanted.as_array().expect("a list").is_empty())
                || counted.iter().any(|value| carries(letter, value))
        }
    })
}

struct Asked {
    handle: Handle,
    filters: Vec<Value>,
    until_seq: u64,
}

fn compile(filters: &[Value]) -> Arc<[Filter]> {
    let options = ParseOptions { and_filters: true };
    let mut parser = Parser::default();
    let compiled = |filter: &Value| Filter::parse(&mut parser, filter.to_string().as_bytes(), options);
    filters.iter().map(compiled).map(|filter| filter.expect("a filter")).collect()
}

fn parse(event: &Value) -> Event {
    Event::parse(&mut Parser::default(), event.to_string().as_bytes()).expect("an event")
}

fn run_case(seed: u64) {
    let mut random = Random(seed);
    let pool: Vec<Value> = (0..40).map(|_| random.event()).collect();
    let events: Vec<Event> = pool.iter().map(parse).collect();
    let mut index = LiveIndex::new([random.next(), random.next()]);
    let mut asked: BTreeMap<u64, Asked> = BTreeMap::new();
    let mut gone = Vec::new();
    for step in 0..400 {
        match random.below(5) {
            0 | 1 => {
                let filters = random.list(3, |random| random.filter(&pool));
                let until_seq = random.below(10);
                let handle = if random.one_in(2) {
                    index.insert(step, compile(&filters), until_seq)
                } else {
                    let handle = index.begin(step, compile(&filters));
                    while !index.list(handle, 1 + random.below(3) as usize) {}
                    index.open(handle, until_seq);
                    handle
                };
                asked.insert(step, Asked { handle, filters, until_seq });
            }
            2 if !asked.is_empty() => {
                let name = *asked.keys().nth(random.below(asked.len() as u64) as usize).expect("in range");
                let out = asked.remove(&name).expect("it was listed");
                let is_at_once = random.one_in(2);
                let recipient = loop {
                    let max = if is_at_once { usize::MAX } else { 1 + random.below(3) as usize };
                    if let Unlisted::All(recipient) = index.unlist(out.handle, max) {
                        break recipient;
                    }
                };
                assert_eq!(recipient, Some(name), "seed {seed}");
                gone.push(out.handle);
            }
            _ => {
                let at = random.below(pool.len() as u64) as usize;
                let seq = (!random.one_in(4)).then(|| random.below(12));
                let mut visited = Vec::new();
                let lookup = index.matches(events[at].view(), seq, |name| visited.push(*name));
                assert_eq!(lookup.matches, visited.len());
                visited.sort_unstable();
                let wants = |(_, asked): &(&u64, &Asked)| {
                    seq.is_none_or(|seq| seq > asked.until_seq)
                        && asked.filters.iter().any(|filter| oracle_matches(filter, &pool[at]))
                };
                let expected: Vec<u64> = asked.iter().filter(wants).map(|(name, _)| *name).collect();
                assert_eq!(visited, expected, "seed {seed}, step {step}, event {}", pool[at]);
            }
        }
        assert_eq!(index.len(), asked.len());
        assert_eq!(filters(&index), asked.values().map(|asked| asked.filters.len()).sum::<usize>());
    }
    assert!(gone.iter().all(|handle| index.remove(*handle).is_none()), "seed {seed}");
    for (name, asked) in asked {
        assert_eq!(index.remove(asked.handle), Some(name), "seed {seed}");
    }
    assert_empty(&index);
}

/// How many filters the subscriptions have, those that cannot match included.
fn filters<R>(index: &LiveIndex<R>) -> usize {
    index.subscriptions.iter().flatten().map(|subscription| subscription.filters.len()).sum()
}

fn assert_empty<R>(index: &LiveIndex<R>) {
    let listed: usize = Dimension::ALL.iter().map(|dimension| index.used.filters(*dimension)).sum();
    assert_eq!((index.len(), filters(index), index.items(), index.postings.keys(), listed), (0, 0, 0, 0, 0));
    // The empty tables and the empty lists of blocks remain.
    assert!(index.memory_bytes() < 8 << 10, "{} bytes held by an empty index", index.memory_bytes());
}

#[test]
fn the_index_visits_exactly_the_subscriptions_that_a_dumb_oracle_finds() {
    let cases = std::env::var("WEIR_LIVE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let first = std::env::var("WEIR_LIVE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("WEIR_LIVE_SEED={first} WEIR_LIVE_CASES={cases}");
    (first..first + cases).for_each(run_case);
}

fn one_filter(filter: Value) -> Arc<[Filter]> {
    compile(&[filter])
}

#[test]
fn a_subscription_is_visited_once_however_many_of_its_filters_and_values_match() {
    let hex = |n: u8| format!("{n:064x}");
    let tags: Vec<Value> = (0..50).map(|n| json!(["p", hex(n)])).collect();
    let preimage = json!([0, hex(1), 5, 1, tags, ""]).to_string();
    let id = crate::nostr::hex::encode(&Sha256::digest(preimage.as_bytes()));
    let event = parse(&json!({"id": id, "pubkey": hex(1), "created_at": 5, "kind": 1, "tags": tags, "content": "",
        "sig": "0".repeat(128)}));
    let mut index = LiveIndex::new([1, 2]);
    let people: Vec<String> = (0..50).map(hex).collect();
    let filters = compile(&[
        json!({"#p": people}),
        json!({"authors": [hex(1), hex(2)]}),
        json!({"ids": [id]}),
        json!({"kinds": [1]}),
        json!({}),
    ]);
    index.insert("all", filters, 0);
    let mut visited = Vec::new();
    let lookup = index.matches(event.view(), Some(1), |name| visited.push(*name));
    assert_eq!((visited, lookup), (vec!["all"], Lookup { candidates: 54, matches: 1 }));
}

#[test]
fn an_event_at_or_below_until_seq_is_left_to_the_scan() {
    let event = parse(&Random(1).event());
    let mut index = LiveIndex::new([1, 2]);
    index.insert("reader", one_filter(json!({})), 7);
    let mut visits = |seq| index.matches(event.view(), seq, |_| ()).matches;
    assert_eq!([Some(6), Some(7), Some(8), None].map(&mut visits), [0, 0, 1, 1]);
}

#[test]
fn a_subscription_that_is_partly_listed_or_leaves_gets_no_stored_event_and_leaves_nothing_behind() {
    let hex = |n: u64| format!("{n:064x}");
    let event = |n: u64| {
        let preimage = json!([0, hex(n), 5, 1, [], ""]).to_string();
        let id = crate::nostr::hex::encode(&Sha256::digest(preimage.as_bytes()));
        parse(&json!({"id": id, "pubkey": hex(n), "created_at": 5, "kind": 1, "tags": [], "content": "",
            "sig": "0".repeat(128)}))
    };
    let filters = compile(&[
        json!({"authors": (0..40).map(hex).collect::<Vec<_>>()}),
        json!({"kinds": []}),
        json!({"authors": (40..90).map(hex).collect::<Vec<_>>()}),
    ]);
    let mut index = LiveIndex::new([1, 2]);
    let visits =
        |index: &mut LiveIndex<&str>, seq| [0, 35, 70, 89].map(|n| index.matches(event(n).view(), seq, |_| ()).matches);
    let handle = index.begin("wide", Arc::clone(&filters));
    assert!(!index.list(handle, 30));
    assert_eq!((index.postings.keys(), visits(&mut index, Some(9))), (30, [0; 4]));
    assert_eq!(visits(&mut index, None), [1, 0, 0, 0], "ephemeral events are delivered by what is listed");
    assert_eq!([30, 29, 1].map(|max| index.list(handle, max)), [false, false, true]);
    index.open(handle, 8);
    assert_eq!((visits(&mut index, Some(8)), visits(&mut index, Some(9))), ([0; 4], [1; 4]));
    index.close(handle);
    assert_eq!((index.postings.keys(), visits(&mut index, Some(9))), (90, [0; 4]));
    assert_eq!(index.unlist(handle, 60), Unlisted::Some);
    assert!(index.list(handle, 60), "what leaves is not listed");
    index.open(handle, 0);
    assert_eq!((index.postings.keys(), visits(&mut index, Some(9))), (30, [0; 4]));
    assert_eq!(
        [index.unlist(handle, 30), index.unlist(handle, 30)],
        [Unlisted::All(Some("wide")), Unlisted::All(None)]
    );
    assert_empty(&index);
    // One that leaves before it is listed.
    let handle = index.begin("early", filters);
    assert!(!index.list(handle, 45));
    assert_eq!((index.items_of(handle), index.remove(handle), index.items_of(handle)), (90, Some("early"), 0));
    assert_empty(&index);
}

#[test]
fn a_filter_that_matches_nothing_is_not_listed() {
    let mut index = LiveIndex::new([1, 2]);
    let never = compile(&[json!({"kinds": []}), json!({"since": 2, "until": 1}), json!({"&t": []})]);
    let handle = index.insert("never", never, 0);
    assert_eq!((index.len(), filters(&index), index.postings.keys()), (1, 3, 0));
    assert_eq!(index.remove(handle), Some("never"));
    assert_empty(&index);
}

#[test]
fn an_author_feed_is_not_tried_for_a_kind_it_did_not_ask_for() {
    let hex = |n: u64| format!("{n:064x}");
    let feed = |n: u64| json!({"authors": (0..300).map(|m| hex(m + n)).collect::<Vec<_>>(), "kinds": [1, 6]});
    let mut index = LiveIndex::new([1, 2]);
    let handles: Vec<Handle> = (0..200).map(|n| index.insert(n, one_filter(feed(n)), 0)).collect();
    assert_eq!((index.items(), index.postings.keys(), index.used.filters(Dimension::Author)), (200 * 302, 499, 200));
    println!("{} bytes an item", index.memory_bytes() / index.items());
    assert!(index.memory_bytes() < 64 * index.items(), "{} bytes", index.memory_bytes());
    assert!(handles.into_iter().all(|handle| index.remove(handle).is_some()));
    assert_empty(&index);
}
