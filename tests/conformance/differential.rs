//! Random events and filters over the socket against a simple oracle on JSON values: stored, counted and live.
//!
//! `WEIR_DIFF_CASES` sets the number of filters, `WEIR_DIFF_SEED` the seed, which every failure prints. The oracle of
//! `tests/scan.rs` does the same at the level of the store with far more cases.

use serde_json::{Map, Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        (0..=self.below(most)).map(|_| self.pick(from).clone()).collect()
    }
}

const KINDS: [u64; 4] = [1, 7, 1000, 40_000];

/// The values of events and filters. There are few, so that many events match.
struct World {
    authors: Vec<Key>,
    times: Vec<u64>,
    /// Tag letters and values.
    tags: Vec<(String, Value)>,
}

impl World {
    fn new(run: &str) -> Self {
        let authors: Vec<Key> = (0..5).map(|n| Key::named(&format!("differential {run} {n}"))).collect();
        let at = now() - 1000;
        let mut tags: Vec<(String, Value)> = Vec::new();
        for (letter, values) in [("t", vec!["a", "b", "", "é"]), ("T", vec!["a"]), ("d", vec!["x"]), ("r", vec!["a"])]
        {
            tags.extend(values.into_iter().map(|value| (letter.to_string(), json!(format!("{run}{value}")))));
        }
        tags.extend(authors.iter().map(|key| ("p".to_string(), json!(key.hex))));
        Self { authors, times: (at..at + 12).collect(), tags }
    }

    fn event(&self, random: &mut Random, content: &str) -> Signed {
        let count = random.below(4);
        let tags = (0..count).map(|_| {
            let (letter, value) = random.pick(&self.tags);
            json!([letter, value, "more"])
        });
        let tags: Vec<Value> = tags.collect();
        let (author, kind, at) = (random.below(self.authors.len()), *random.pick(&KINDS), *random.pick(&self.times));
        self.authors[author].event(kind, at, Value::from(tags), content)
    }

    /// A filter that always names authors, so that other tests on the same relay do not interfere.
    fn filter(&self, random: &mut Random, held: &[Signed]) -> Value {
        let mut filter = Map::new();
        let authors: Vec<String> = self.authors.iter().map(|key| key.hex.clone()).collect();
        let authors = if random.below(2) == 0 { random.some(&authors, 3) } else { authors };
        filter.insert("authors".into(), json!(authors));
        if random.below(2) == 0 {
            filter.insert("kinds".into(), json!(random.some(&KINDS, 3)));
        }
        if random.below(6) == 0 {
            let ids: Vec<String> = held.iter().map(|event| event.id.clone()).collect();
            filter.insert("ids".into(), json!(random.some(&ids, 5)));
        }
        for _ in 0..random.below(3) {
            let (letter, value) = random.pick(&self.tags).clone();
            let others = self.tags.iter().filter(|tag| tag.0 == letter).map(|tag| tag.1.clone()).collect::<Vec<_>>();
            let mut values = random.some(&others, 2);
            values.push(value);
            filter.insert(format!("#{letter}"), json!(values));
        }
        for bound in ["since", "until"] {
            if random.below(4) == 0 {
                filter.insert(bound.into(), json!(random.pick(&self.times)));
            }
        }
        if random.below(3) == 0 {
            filter.insert("limit".into(), json!(random.below(12)));
        }
        Value::from(filter)
    }
}

/// NIP-01, word for word.
fn matches(filter: &Value, event: &Value) -> bool {
    let within = |list: &Value, value: &Value| list.as_array().expect("a list").contains(value);
    filter.as_object().expect("a filter").iter().all(|(key, wanted)| match key.as_str() {
        "ids" => within(wanted, &event["id"]),
        "authors" => within(wanted, &event["pubkey"]),
        "kinds" => within(wanted, &event["kind"]),
        "since" => event["created_at"].as_u64() >= wanted.as_u64(),
        "until" => event["created_at"].as_u64() <= wanted.as_u64(),
        "limit" => true,
        tag => {
            let tags = event["tags"].as_array().expect("tags");
            tags.iter().any(|own| own[0].as_str() == tag.strip_prefix('#') && within(wanted, &own[1]))
        }
    })
}

/// The expected answer to a REQ: the newest of each filter, in one order, without duplicates.
fn answer(filters: &[Value], events: &[Value]) -> Vec<String> {
    let rank = |event: &Value| (u64::MAX - event["created_at"].as_u64().expect("a time"), event["id"].to_string());
    let mut sorted: Vec<&Value> = events.iter().collect();
    sorted.sort_by_key(|event| rank(event));
    let mut ids = Vec::new();
    for filter in filters {
        let all: Vec<&&Value> = sorted.iter().filter(|event| matches(filter, event)).collect();
        let limit = filter["limit"].as_u64().map_or(all.len(), |limit| all.len().min(limit as usize));
        ids.extend(all[..limit].iter().map(|event| event["id"].clone()));
    }
    let given = sorted.into_iter().filter(|event| ids.contains(&event["id"]));
    given.map(|event| event["id"].as_str().expect("an id").to_string()).collect()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn id_of(event: &str) -> String {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["id"].as_str().expect("an id").into()
}

#[test]
fn stored_counted_and_live_agree_with_a_dumb_oracle() {
    let (cases, seed) = (number("WEIR_DIFF_CASES", 400), number("WEIR_DIFF_SEED", 7));
    println!("WEIR_DIFF_SEED={seed} WEIR_DIFF_CASES={cases}");
    let relay = Relay::start("");
    let mut random = Random(seed);
    let mut client = relay.connect();
    let mut left = cases;
    for run in 0.. {
        if left == 0 {
            return;
        }
        let world = World::new(&format!("{seed} {run} "));
        let stored: Vec<Signed> = (0..60).map(|n| world.event(&mut random, &n.to_string())).collect();
        client.publish_all(&stored);
        let values: Vec<Value> = stored.iter().map(|event| serde_json::from_str(&event.text).expect("JSON")).collect();
        let mut follower = relay.connect();
        let mut open: Vec<Vec<Value>> = Vec::new();
        for case in 0..left.min(50) {
            let filters: Vec<Value> = (0..=random.below(3)).map(|_| world.filter(&mut random, &stored)).collect();
            let (got, _) = follower.open(&case.to_string(), &filters);
            let got: Vec<String> = got.iter().map(|event| id_of(event)).collect();
            assert_eq!(got, answer(&filters, &values), "seed {seed}, run {run}: {filters:?}");
            let union = values.iter().filter(|event| filters.iter().any(|filter| matches(filter, event))).count();
            let mut message = vec![json!("COUNT"), json!("c")];
            message.extend(filters.clone());
            client.send(Value::from(message).to_string());
            let counted: Value = serde_json::from_str(&client.next()).expect("JSON");
            assert_eq!(counted[2]["count"], json!(union), "seed {seed}, run {run}: {filters:?}");
            open.push(filters);
        }
        for n in 0..20 {
            let event = world.event(&mut random, &format!("live {n}"));
            let value: Value = serde_json::from_str(&event.text).expect("JSON");
            client.publish(&event);
            let subs =
                open.iter().enumerate().filter(|(_, filters)| filters.iter().any(|filter| matches(filter, &value)));
            follower.expect_all(subs.map(|(sub, _)| event.frame(&sub.to_string())));
        }
        follower.is_silent();
        left -= left.min(50);
    }
}
