//! From the stored events of a query to live ones, through the whole relay (INV-2, INV-3, INV-14, INV-16).

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::explore;
use super::outboxes::Socket;
use super::relay::{Got, Made, Next, Relay, Setup, made};
use crate::nostr::Filter;
use crate::pipeline::Bounds;
use crate::pipeline::commit::uncommitted::Relevance;
use crate::store::Seq;
use crate::sync::thread::{self, JoinHandle};
use crate::ws::OutboxOptions;

static NOTES: LazyLock<Vec<Made>> = LazyLock::new(|| made(&[1, 1, 1]));
static MIXED: LazyLock<Vec<Made>> = LazyLock::new(|| made(&[1, 7, 1, 7]));

fn texts(made: &[Made]) -> Vec<String> {
    made.iter().map(|one| one.message.clone()).collect()
}

/// Sends these messages at once and leaves when it has got as many OKs.
fn publish(relay: &Relay, mut messages: Vec<String>) -> JoinHandle<Got> {
    let most = messages.len();
    messages.reverse();
    relay.connect(move |got| match messages.pop() {
        Some(message) => Next::Send(message),
        None if got.iter().filter(|one| one[0] == "OK" && one[2] == true).count() == most => Next::Leave,
        None => Next::Wait,
    })
}

/// Subscribes and leaves when it has got EOSE and this many events.
fn subscribe(relay: &Relay, filter: &Value, most: usize) -> JoinHandle<Got> {
    let mut request = Some(json!(["REQ", "s", filter]).to_string());
    relay.connect(move |got| {
        let has = |what: &str| got.iter().filter(|one| one[0] == what).count();
        match request.take() {
            Some(request) => Next::Send(request),
            None if has("EVENT") >= most && has("EOSE") == 1 => Next::Leave,
            None => Next::Wait,
        }
    })
}

/// Every event came once, and the stored ones in NIP-01's order.
fn assert_once(got: &[Value], expected: &[Made]) {
    let events: Vec<&Value> = got.iter().filter(|one| one[0] == "EVENT").map(|one| &one[2]).collect();
    let ids: HashSet<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!((events.len(), ids.len()), (expected.len(), expected.len()), "INV-3: {got:?}");
    assert!(expected.iter().all(|one| ids.contains(one.id.as_str())));
    let stored = got.iter().take_while(|one| one[0] != "EOSE").map(|one| &one[2]);
    let rank = |event: &Value| (u64::MAX - event["created_at"].as_u64().unwrap_or(0), event["id"].to_string());
    assert!(stored.map(rank).is_sorted(), "INV-17: {got:?}");
}

fn in_the_middle_of_publishing(schedules: usize, setup: Setup, filter: &Value) {
    let filter = filter.clone();
    explore(schedules, move || {
        let relay = Relay::start(setup.clone());
        let notes = texts(&NOTES);
        let publishers = [publish(&relay, notes[..2].to_vec()), publish(&relay, notes[2..].to_vec())];
        let subscribers = [subscribe(&relay, &filter, 3), subscribe(&relay, &filter, 3)];
        for subscriber in subscribers {
            assert_once(&subscriber.join().expect("no panic").messages, &NOTES);
        }
        publishers.into_iter().for_each(|one| drop(one.join().expect("no panic")));
        assert_eq!(relay.finish().ids.len(), 3);
    });
}

#[test]
fn a_subscription_opened_in_the_middle_of_publishing_gets_every_event_once() {
    in_the_middle_of_publishing(120, Setup::default(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_whose_scan_pauses_at_every_row_gets_every_event_once() {
    in_the_middle_of_publishing(120, Setup::default().in_slices(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_gets_every_event_once_without_the_log() {
    in_the_middle_of_publishing(80, Setup::default().without_log(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_gets_every_event_once_where_live_events_are_gathered() {
    in_the_middle_of_publishing(80, Setup::default().gathering(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_that_is_listed_in_steps_gets_every_event_once() {
    let kinds: Vec<u16> = (1..=600).collect();
    in_the_middle_of_publishing(80, Setup::default(), &json!({"kinds": kinds}));
}

/// INV-2: an event and a query in one burst, or the query after the OK.
#[test]
fn a_client_finds_what_it_published_however_soon_it_asks() {
    explore(120, || {
        let relay = Relay::start(Setup::default());
        let clients = [false, true].map(|waits| {
            let note = &NOTES[usize::from(waits)];
            let (event, query) = (note.message.clone(), json!(["REQ", "s", {"ids": [note.id]}]).to_string());
            let (mut event, mut query) = (Some(event), Some(query));
            relay.connect(move |got| match event.take() {
                Some(event) => Next::Send(event),
                None if waits && got.is_empty() => Next::Wait,
                None => match query.take() {
                    Some(query) => Next::Send(query),
                    None if got.len() == 3 => Next::Leave,
                    None => Next::Wait,
                },
            })
        });
        for client in clients {
            let got = client.join().expect("no panic").messages;
            let verbs: Vec<&str> = got.iter().filter_map(|one| one[0].as_str()).collect();
            assert_eq!(verbs, ["OK", "EVENT", "EOSE"], "INV-2");
        }
        relay.finish();
    });
}

/// A subscription that goes live reads from the store what `live` has delivered, and waits for the commit of what is
/// not there. So that must be listed before `live` gets it. Listed later, it is missed in one order of some hundred.
#[test]
fn what_live_has_delivered_is_in_the_store_or_listed_as_uncommitted() {
    explore(1_000, || {
        let relay = Relay::start(Setup::default());
        let publisher = publish(&relay, texts(&NOTES[..2]));
        let reading = relay.reading();
        let observer = thread::spawn(move || {
            let mut delivered = Seq(0);
            while delivered < Seq(2) {
                delivered = reading.live.covered();
                if matches!(reading.uncommitted.look(&[Filter::default()]), Relevance::Unconcerned(_)) {
                    let stored = reading.store.read().expect("a snapshot").last_seq().expect("a number");
                    assert!(stored >= delivered, "INV-3: {delivered:?} is neither stored nor listed");
                }
                thread::yield_now();
            }
        });
        publisher.join().expect("no panic");
        observer.join().expect("no panic");
        relay.finish();
    });
}

/// A commit fails, wherever that hits the queries, and whoever asks for it. The next one succeeds; as no wait times out
/// here, it comes with a removal of nothing. One client leaves while its query waits.
fn while_a_commit_fails(schedules: usize, setup: Setup, filter: &Value) {
    let filter = filter.clone();
    explore(schedules, move || {
        let relay = Relay::start(setup.clone());
        let (store, removals) = (relay.serving().store.clone(), relay.serving().removals.clone());
        store.commits_to_fail().store(1, SeqCst);
        let publisher = publish(&relay, texts(&NOTES[..2]));
        let subscribers = [subscribe(&relay, &filter, 2), subscribe(&relay, &filter, 2)];
        let mut request = Some(json!(["REQ", "s", filter]).to_string());
        let leaver = relay.connect(move |_| request.take().map_or(Next::Leave, Next::Send));
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let retry = thread::spawn(move || {
            while store.commits_to_fail().load(SeqCst) > 0 && !ends.load(SeqCst) {
                thread::yield_now();
            }
            while removals.ask(Vec::new()).is_none() {
                thread::yield_now();
            }
        });
        publisher.join().expect("no panic");
        for subscriber in subscribers {
            assert_once(&subscriber.join().expect("no panic").messages, &NOTES[..2]);
        }
        leaver.join().expect("no panic");
        is_over.store(true, SeqCst);
        retry.join().expect("no panic");
        assert_eq!(relay.finish().ids.len(), 2);
    });
}

#[test]
fn a_subscription_opened_while_a_commit_fails_gets_every_event_once() {
    while_a_commit_fails(120, Setup::default(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_whose_scan_pauses_at_every_row_while_a_commit_fails_gets_every_event_once() {
    while_a_commit_fails(120, Setup::default().in_slices(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_that_is_listed_in_steps_while_a_commit_fails_gets_every_event_once() {
    let kinds: Vec<u16> = (1..=600).collect();
    while_a_commit_fails(80, Setup::default(), &json!({"kinds": kinds}));
}

/// INV-14: a client may run one query and have one EVENT unanswered, and there is room for one event at the gate.
#[test]
fn whatever_has_to_wait_is_woken_and_answered() {
    explore(120, || {
        let bounds = Bounds {
            ingest_events: 2,
            unanswered_events: 1,
            scans_per_connection: 1,
            write_batches: 1,
            ..Bounds::default()
        };
        let relay = Relay::start(Setup { bounds, ..Setup::default() }.in_slices());
        let clients = [0, 1].map(|number| {
            let query = |n: usize| json!(["REQ", format!("s{n}"), {"kinds": [1]}]).to_string();
            let own = &NOTES[number].message;
            let mut messages = vec![query(3), query(2), own.clone(), query(1), NOTES[2].message.clone(), query(0)];
            relay.connect(move |got| match messages.pop() {
                Some(message) => Next::Send(message),
                None => {
                    let ends = got.iter().filter(|one| one[0] == "EOSE" || one[0] == "OK").count();
                    if ends == 6 { Next::Leave } else { Next::Wait }
                }
            })
        });
        clients.into_iter().for_each(|client| drop(client.join().expect("no panic")));
        assert_eq!(relay.finish().ids.len(), 3);
    });
}

/// INV-14: the only place for a query is free once its query was closed, whether that had sent something or not.
#[test]
fn a_query_begins_although_the_one_before_it_was_closed_and_sends_nothing() {
    explore(200, || {
        let bounds = Bounds { scans_per_connection: 1, ..Setup::default().bounds };
        let relay = Relay::start(Setup { bounds, ..Setup::default() }.in_slices());
        let request = |sub: &str| json!(["REQ", sub, {"kinds": [1]}]).to_string();
        let mut messages = vec![request("b"), json!(["CLOSE", "a"]).to_string(), request("a")];
        let client = relay.connect(move |got| match messages.pop() {
            Some(message) => Next::Send(message),
            None if got.iter().any(|one| one[0] == "EOSE" && one[1] == "b") => Next::Leave,
            None => Next::Wait,
        });
        client.join().expect("no panic");
        relay.finish();
    });
}

#[test]
fn a_query_of_a_slow_reader_parks_and_sends_the_rest() {
    explore(80, || {
        let outbox = OutboxOptions { high_water_bytes: 400, low_water_bytes: 100, ..OutboxOptions::default() };
        let relay = Relay::start(Setup { outbox, ..Setup::default() }.in_slices());
        publish(&relay, texts(&NOTES)).join().expect("no panic");
        let socket = Socket::full_after(10);
        let mut request = Some(json!(["REQ", "s", {"kinds": [1]}]).to_string());
        let client = relay.connect_by(socket.clone(), move |got| match request.take() {
            Some(request) => Next::Send(request),
            None if got.last().is_some_and(|one| one[0] == "EOSE") => Next::Leave,
            None => Next::Wait,
        });
        (0..4).for_each(|_| socket.read(200));
        socket.read_all();
        assert_once(&client.join().expect("no panic").messages, &NOTES);
        relay.finish();
    });
}

/// A REQ with the id of an open subscription, at any moment of its life.
fn replaced(schedules: usize, setup: Setup, first: &Value) {
    let first = json!(["REQ", "s", first]).to_string();
    explore(schedules, move || {
        let relay = Relay::start(setup.clone());
        let publisher = publish(&relay, texts(&MIXED));
        let at = Arc::new(std::sync::Mutex::new(0));
        let (mut step, first, replaced_at) = (0, first.clone(), Arc::clone(&at));
        let client = relay.connect(move |got| {
            step += 1;
            let second = json!(["REQ", "s", {"kinds": [7]}]).to_string();
            let at = *replaced_at.lock().expect("no panic");
            match step {
                1 => Next::Send(first.clone()),
                2 if got.is_empty() => Next::Wait,
                _ if at == 0 => {
                    *replaced_at.lock().expect("no panic") = got.len() + 1;
                    Next::Send(second)
                }
                _ if got[at - 1..].iter().filter(|one| one[2]["kind"] == 7 || one[0] == "EOSE").count() == 3 => {
                    Next::Leave
                }
                _ => Next::Wait,
            }
        });
        let got = client.join().expect("no panic").messages;
        let at = *at.lock().expect("no panic") - 1;
        assert!(got[at..].iter().all(|one| one[2]["kind"] != 1), "INV-16: {at} {got:?}");
        let ends = got[at..].iter().filter(|one| one[0] == "EOSE").count();
        let reactions: HashSet<String> =
            got[at..].iter().filter(|one| one[0] == "EVENT").map(|one| one[2]["id"].to_string()).collect();
        let events = got[at..].iter().filter(|one| one[0] == "EVENT").count();
        assert_eq!((ends, events, reactions.len()), (1, 2, 2), "INV-3: {at} {got:?}");
        publisher.join().expect("no panic");
        relay.finish();
    });
}

#[test]
fn a_replaced_subscription_sends_nothing_more_and_its_successor_everything_once() {
    replaced(120, Setup::default(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_replaced_between_its_slices_sends_nothing_more_and_its_successor_everything_once() {
    replaced(120, Setup::default().in_slices(), &json!({"kinds": [1]}));
}

#[test]
fn a_subscription_replaced_while_it_is_listed_in_steps_sends_nothing_more_and_leaves_nothing() {
    let kinds: Vec<u16> = (1..=600).filter(|kind| *kind != 7).collect();
    replaced(60, Setup::default(), &json!({"kinds": kinds}));
}
