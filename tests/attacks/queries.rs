//! Crowds that ask for much: a stranger's query is answered while theirs wait.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// Each COUNT takes a slice for each event, and a stranger's query three.
#[test]
fn a_strangers_queries_are_answered_while_a_crowd_of_newcomers_waits() {
    const CROWD: u8 = 50;
    let relay = Relay::start(&format!("{METRICS}[pipeline]\nread_threads = 1\ninline_us = 0\nslice_rows = 1\n"));
    let key = Key::named("a crowd counts");
    let events: Vec<Signed> = (0..300).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    relay.connect().publish_all(&events);
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 2]);
    let mut crowd: Vec<_> = (0..CROWD).map(|n| Client::connect_from(&relay, [127, 0, 1, n])).collect();
    for client in &mut crowd {
        (0..4).for_each(|n| client.send(format!(r#"["COUNT","c{n}",{{}}]"#)));
    }
    for _ in 0..10 {
        stranger.finds(json!({"limit": 2}), &[&events[299], &events[298]]);
    }
    assert!(relay.metric("weir_queue_entries{queue=\"scans\"}") > 0, "the crowd is not done");
    for client in &mut crowd {
        let mut answers: Vec<String> = (0..4).map(|_| client.next()).collect();
        answers.sort();
        assert_eq!(answers, [0, 1, 2, 3].map(|n| format!(r#"["COUNT","c{n}",{{"count":300}}]"#)));
    }
}

/// Filters of thousands of values are put into the live index and taken out in steps, beside events and other queries.
#[test]
fn the_widest_subscriptions_come_and_go_in_steps_and_get_every_event_once() {
    const AUTHORS: usize = 4_000;
    let relay = Relay::start(METRICS);
    let keys: Vec<Key> = (0..3).map(|n| Key::named(&format!("followed by many {n}"))).collect();
    // The keys stand at the beginning, in the middle and at the end of a filter.
    let strangers =
        |n: usize, from: usize, to: usize| (from..to).map(move |m| format!("{:064x}", (n + 1) * 1_000_000 + m));
    let request = |n: usize| -> String {
        let authors: Vec<Value> = [keys[0].hex.clone()]
            .into_iter()
            .chain(strangers(n, 0, AUTHORS / 2))
            .chain([keys[1].hex.clone()])
            .chain(strangers(n, AUTHORS / 2, AUTHORS))
            .chain([keys[2].hex.clone()])
            .map(Value::from)
            .collect();
        json!(["REQ", "wide", {"authors": authors, "since": now() - 1000}]).to_string()
    };
    let mut publisher = Client::connect_from(&relay, [127, 0, 0, 2]);
    let mut wide: Vec<_> = (0..8).map(|n| Client::connect_from(&relay, [127, 0, 1, n])).collect();
    let mut notes = Vec::new();
    for (n, client) in wide.iter_mut().enumerate() {
        client.send(request(n));
        let note = keys[n % 3].note(&format!("while {n} is listed"));
        publisher.publish(&note);
        publisher.finds(json!({"ids": [note.id]}), &[&note]);
        notes.push(note);
    }
    // Each got the notes that were there before it came, then EOSE, and then the others.
    for client in &mut wide {
        let mut got: Vec<String> =
            (0..=notes.len()).map(|_| client.next()).filter(|one| !one.starts_with("[\"EOSE")).collect();
        let mut expected: Vec<String> = notes.iter().map(|note| note.frame("wide")).collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
    }
    // Replaced by one that matches nothing, closed, or gone: whatever came first leaves the index.
    for client in &mut wide[..3] {
        client.ask_for_end(r#"["REQ","wide",{"ids":[]}]"#);
    }
    for client in &mut wide[3..6] {
        client.send(r#"["CLOSE","wide"]"#);
    }
    let late = keys[0].note("after most have left");
    publisher.publish(&late);
    for client in &mut wide[6..] {
        client.expect(&late.frame("wide"));
    }
    for client in &mut wide[..6] {
        client.ask_for_end(r#"["REQ","last",{"ids":[]}]"#);
    }
    drop(wide);
    relay.until(|| relay.metric("weir_filter_bytes") == 0);
    relay.until(|| relay.metric("weir_filter_items") == 0);
}
