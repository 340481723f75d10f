//! INV-3: a subscription that opens in the middle of a publishing storm gets every event exactly once, be it stored or
//! live.

mod support;

#[path = "support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Barrier;

use corpus::Random;
use serde_json::{Value, json};
use support::client::Client;
use support::relay::Relay;
use support::wire::{Key, Signed, now};

const PUBLISHERS: usize = 3;
const EVENTS_EACH: usize = 500;
const SUBSCRIBERS: usize = 6;
const SUBSCRIPTIONS_EACH: usize = 8;

/// Large pages, so that every REQ asks for all there is.
const ALL: &str = "[limits]\ndefault_limit = 5000\n[tiers.anonymous]\nmax_limit = 5000\n\
                   [tiers.authenticated]\nmax_limit = 5000\n[tiers.listed]\nmax_limit = 5000\n";

/// Slices of a few rows, so that most of the storm falls between the slices of some scan.
const TINY_SLICES: &str = "[pipeline]\nslice_rows = 7\ninline_rows = 3\n";

/// Filters that ask for all events of the storm, each by another index.
fn filters(keys: &[Key]) -> Vec<Vec<Value>> {
    let authors: Vec<&str> = keys.iter().map(|key| key.hex.as_str()).collect();
    let since = now() - 100_000;
    // So many authors that the subscription is listed in steps, after its scan.
    let crowd: Vec<String> =
        (0..3_000).map(|n| format!("{n:064x}")).chain(authors.iter().map(|key| (*key).into())).collect();
    vec![
        vec![json!({"#t": ["storm"]})],
        vec![json!({"authors": crowd})],
        vec![json!({"authors": authors})],
        vec![json!({"kinds": [1, 7]})],
        vec![json!({"since": since})],
        vec![json!({"kinds": [7], "authors": authors}), json!({"#t": ["storm"]}), json!({"authors": authors[..1]})],
        vec![json!({"#t": ["storm", "other"], "kinds": [1]}), json!({"kinds": [7], "#t": ["storm"]})],
    ]
}

/// Publishes and waits for each OK, some at a time, so that the storm lasts.
fn publish(relay: &Relay, events: &[Signed]) {
    let mut client = relay.connect();
    for some in events.chunks(10) {
        client.publish_all(some);
    }
}

/// What has come for one subscription.
#[derive(Default)]
struct Received {
    seen: HashSet<String>,
    is_live: bool,
    /// (created_at, id) of the last stored event: they come newest first, ties by lowest id.
    last: Option<(u64, String)>,
}

impl Received {
    fn take(&mut self, sub: &str, event: &Value) {
        let id = event["id"].as_str().expect("an id").to_owned();
        if !self.is_live {
            let at = event["created_at"].as_u64().expect("a date");
            if let Some((last_at, last_id)) = &self.last {
                assert!(at < *last_at || (at == *last_at && id > *last_id), "{sub}: stored events are in order");
            }
            self.last = Some((at, id.clone()));
        }
        assert!(self.seen.insert(id), "INV-3: {sub} got an event twice: {event}");
    }
}

/// Opens subscriptions at moments of its own choice, and reads until each has got all events. Returns how many came
/// live.
fn subscribe(client: &mut Client<'_>, filters: &[Vec<Value>], seed: u64, ready: &Barrier) -> usize {
    let mut random = Random(seed);
    let all = PUBLISHERS * EVENTS_EACH;
    let mut moments: Vec<usize> = (0..SUBSCRIPTIONS_EACH).map(|_| random.below(all as u64) as usize).collect();
    moments.sort_unstable();
    let mut moments = moments.into_iter().enumerate().peekable();
    let mut subscriptions: HashMap<String, Received> = HashMap::new();
    let mut live = 0;
    // One that is open before the storm, by which the moments are told.
    client.open("s", &[json!({"#t": ["storm"], "limit": 0})]);
    subscriptions.insert("s".into(), Received { is_live: true, ..Received::default() });
    ready.wait();
    while moments.peek().is_some() || subscriptions.values().any(|one| !one.is_live || one.seen.len() < all) {
        let moment = subscriptions["s"].seen.len();
        while let Some((n, _)) = moments.next_if(|(_, at)| *at <= moment) {
            let sub = format!("s{n}");
            let mut message = vec![json!("REQ"), json!(sub)];
            message.extend_from_slice(random.pick::<Vec<Value>>(filters));
            client.send(Value::from(message).to_string());
            subscriptions.insert(sub, Received::default());
        }
        let frame: Value = serde_json::from_str(&client.next()).expect("JSON");
        let sub = frame[1].as_str().expect("a subscription id");
        let received = subscriptions.get_mut(sub).expect("it is open");
        match frame[0].as_str() {
            Some("EVENT") => {
                live += usize::from(received.is_live);
                received.take(sub, &frame[2]);
            }
            Some("EOSE") => assert!(!std::mem::replace(&mut received.is_live, true), "{sub}: one EOSE"),
            _ => panic!("{frame}"),
        }
    }
    client.is_silent();
    live
}

fn storm(config: &str) {
    let seed = now();
    println!("seed {seed}");
    let relay = Relay::start(config);
    let keys: Vec<Key> = (0..PUBLISHERS).map(|n| Key::named(&format!("handover {seed} {n}"))).collect();
    let mut random = Random(seed);
    let mut made: BTreeMap<usize, Vec<Signed>> = BTreeMap::new();
    for n in 0..PUBLISHERS * EVENTS_EACH {
        let kind = if random.once_in(3) { 7 } else { 1 };
        // Dates in no order and with many ties: what is new need not be the newest.
        let at = now() - random.below(300);
        let event = keys[n % PUBLISHERS].event(kind, at, json!([["t", "storm"]]), &n.to_string());
        made.entry(n % PUBLISHERS).or_default().push(event);
    }
    let (filters, ready) = (filters(&keys), Barrier::new(SUBSCRIBERS + 1));
    let live: usize = std::thread::scope(|scope| {
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| {
                let (seed, relay, filters, ready) = (random.next(), &relay, &filters, &ready);
                scope.spawn(move || subscribe(&mut relay.connect(), filters, seed, ready))
            })
            .collect();
        ready.wait();
        for events in made.values() {
            let relay = &relay;
            scope.spawn(move || publish(relay, events));
        }
        subscribers.into_iter().map(|one| one.join().expect("every event once")).sum()
    });
    println!("{live} of {} events came live", SUBSCRIBERS * (SUBSCRIPTIONS_EACH + 1) * PUBLISHERS * EVENTS_EACH);
}

#[test]
fn every_event_of_a_storm_comes_once_whenever_a_subscription_opens() {
    storm(ALL);
}

#[test]
fn every_event_of_a_storm_comes_once_while_scans_pause_every_few_rows() {
    storm(&format!("{ALL}{TINY_SLICES}"));
}

#[test]
fn every_event_of_a_storm_comes_once_while_live_events_are_gathered() {
    storm(&format!("{ALL}{TINY_SLICES}fanout_interval_ms = 20\n"));
}

#[test]
fn events_of_one_client_arrive_in_its_order_whether_they_come_alone_or_many_at_once() {
    let relay = Relay::start("");
    let key = Key::named("the only author");
    let (mut subscriber, mut publisher) = (relay.connect(), relay.connect());
    subscriber.open("s", &[json!({"authors": [key.hex]})]);
    let mut sent = Vec::new();
    for round in 0..30 {
        let event = |n| key.event(1, now(), json!([]), &format!("{round} {n}"));
        let events: Vec<Signed> = (0..10).map(event).collect();
        if round % 2 == 0 {
            publisher.publish_all(&events);
        } else {
            events.iter().for_each(|event| publisher.publish(event));
        }
        sent.extend(events.into_iter().map(|event| event.id));
    }
    let received: Vec<String> = (0..sent.len())
        .map(|_| {
            let frame: Value = serde_json::from_str(&subscriber.next()).expect("JSON");
            frame[2]["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(received, sent);
}
