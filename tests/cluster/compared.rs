//! Nodes find by comparing what no stream brings.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;

use super::nats::{Nats, free_port};
use super::scene::{config, holds, joined, node, settle};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

#[test]
fn what_was_stored_before_a_relay_became_a_node_is_found_private_and_protected_events_too() {
    let Some(nats) = Nats::start() else { return };
    let relay = Relay::start("");
    let (key, friend) = (Key::named("author"), Key::named("friend"));
    let mut expected = BTreeSet::new();
    {
        let mut client = relay.connect();
        client.authenticate(&key);
        let message = key.event(4, now(), json!([["p", friend.hex]]), "a direct message");
        let protected = key.event(1, now(), json!([["-"]]), "to this relay alone");
        for event in [message, protected].into_iter().chain((0..300).map(|n| key.note(&format!("note {n}")))) {
            client.publish(&event);
            expected.insert(event.id);
        }
    }
    let a = relay.restart_killed(&config(&[nats.url()], "a", ""));
    joined(&a);
    let b = node(&nats, "b");
    assert_eq!(settle(&[&a, &b], &expected), expected);
    assert_eq!(b.metric("weir_cluster_received_total{outcome=\"compared\"}"), expected.len() as u64);
    // What was fetched is not published again.
    b.until(|| b.metric("weir_cluster_behind_events") == 0);
    assert_eq!(b.metric("weir_cluster_sent_total{result=\"published\"}"), 0);
}

#[test]
fn a_node_that_the_stream_has_outrun_fetches_the_rest_from_another() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let key = Key::named("author");
    let publish = |relay: &Relay, text: &str| {
        let note = key.note(text);
        relay.connect().publish(&note);
        note.id
    };
    let mut expected: BTreeSet<String> = [publish(&a, "before")].into();
    settle(&[&a, &b], &expected);
    b.until(|| b.metric("weir_cluster_waiting_messages") == 0);
    b.signal("STOP");
    expected.extend((0..20).map(|n| publish(&a, &format!("meanwhile {n}"))));
    a.until(|| a.metric("weir_cluster_sent_total{result=\"published\"}") == 21);
    nats.client().call("STREAM.PURGE.weir-main", &json!({}));
    let b = b.restart_killed(&config(&[nats.url()], "b", ""));
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

#[test]
fn a_node_that_the_stream_outruns_while_it_is_joined_notices_and_fetches_the_rest() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let key = Key::named("author");
    let publish = |text: &str| {
        let note = key.note(text);
        a.connect().publish(&note);
        note.id
    };
    let mut expected: BTreeSet<String> = [publish("before")].into();
    settle(&[&a, &b], &expected);
    b.until(|| b.metric("weir_cluster_waiting_messages") == 0);
    // The comparison of its beginning is over, so nothing but what it notices makes it compare soon.
    b.wait_for_log("compared with another node");
    b.signal("STOP");
    expected.extend((0..20).map(|n| publish(&format!("meanwhile {n}"))));
    a.until(|| a.metric("weir_cluster_sent_total{result=\"published\"}") == 21);
    nats.client().call("STREAM.PURGE.weir-main", &json!({}));
    b.signal("CONT");
    b.wait_for_log("drops messages before this node has taken them");
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

/// A node that has stored these events before it became one.
fn node_with_stored(nats: &Nats, events: &[&Signed]) -> Relay {
    let relay = Relay::start("");
    relay.connect().publish_all(events.iter().copied());
    let node = relay.restart_killed(&config(&[nats.url()], "a", ""));
    joined(&node);
    node
}

#[test]
fn events_that_do_not_fit_into_one_answer_are_asked_for_again() {
    let Some(nats) = Nats::start() else { return };
    let key = Key::named("author");
    let note = |n: usize, kib: usize| key.note(&format!("{n} {}", "x".repeat(kib << 10)));
    let large = note(0, 200);
    // They are asked for in the order of their ids, so the small one comes alone, in an answer that is far from full.
    let small = (1..1000).map(|n| note(n, 100)).find(|small| small.id < large.id).expect("half of them are");
    let a = node_with_stored(&nats, &[&large, &small]);
    let b = node(&nats, "b");
    let expected = [large.id, small.id].into();
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

#[test]
fn an_answer_is_no_longer_than_a_message_of_nats_and_what_fits_into_none_stays() {
    let Some(nats) = Nats::start_with(free_port(), "max_payload: 65536") else { return };
    let key = Key::named("author");
    let notes: Vec<Signed> = (0..2_000).map(|n| key.note(&format!("note {n}"))).collect();
    let large: Vec<Signed> = (0..3).map(|n| key.note(&format!("{n} {}", "x".repeat(40 << 10)))).collect();
    let too_large = key.note(&"x".repeat(90 << 10));
    let fitting: Vec<&Signed> = notes.iter().chain(&large).collect();
    let _a = node_with_stored(&nats, &[&fitting[..], &[&too_large]].concat());
    let b = node(&nats, "b");
    let expected: BTreeSet<String> = fitting.into_iter().map(|note| note.id.clone()).collect();
    b.until(|| holds(&b) == expected);
}

#[test]
fn questions_that_no_node_asks_are_answered_and_stop_nothing() {
    let Some(nats) = Nats::start() else { return };
    let a = node(&nats, "a");
    let mut client = nats.client();
    let ids = vec!["ab".repeat(32); 1000];
    let questions = [
        json!({}),
        json!([]),
        json!({"ask": "drop"}),
        json!({"ask": "open", "since": 0, "until": 9, "kinds": [], "authors": ["x"], "message": "61"}),
        json!({"ask": "open", "since": 0, "until": 9, "kinds": [], "authors": [], "message": "zz"}),
        json!({"ask": "open", "since": 9, "until": 0, "kinds": [], "authors": [], "message": "61ffffff"}),
        json!({"ask": "next", "session": 99, "message": "61"}),
    ];
    for question in questions {
        let answer = client.ask("weir.main.ask.a", &question);
        assert_eq!(answer["answer"], json!("failed"), "{question}: {answer}");
    }
    assert_eq!(client.ask("weir.main.ask.a", &json!({"ask": "events", "ids": ids})), json!(null));
    assert_eq!(client.ask("weir.main.ask.a", &json!({"ask": "status"}))["answer"], json!("status"));
    assert_eq!(a.metric("weir_cluster_connected"), 1);
}

#[test]
fn the_status_shows_every_node_and_who_does_not_answer() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let status = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["cluster", "status", "--config"]).arg(a.data().with_file_name("weir.toml"));
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let note = Key::named("author").note("hello");
    a.connect().publish(&note);
    settle(&[&a, &b], &[note.id].into());
    a.until(|| {
        let (code, text) = status();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let version = env!("CARGO_PKG_VERSION");
        code == Some(0)
            && rows[0][..2] == ["weir-main:", "1"]
            && rows[2][..5] == ["a", version, "1", "0", "0"]
            && rows[3][..5] == ["b", version, "1", "0", "0"]
    });
    drop(b);
    let (code, text) = status();
    assert!(code == Some(1) && text.contains("b     no answer"), "{text}");
    assert_eq!(holds(&a).len(), 1);
}
