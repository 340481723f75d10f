//! NATS is away, forgets everything, or a node is away: that costs time, and no event.

use std::collections::BTreeSet;

use serde_json::json;

use super::nats::Nats;
use super::scene::{config, joined, node, settle};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::Key;

/// Publishes so many notes, which are answered; their ids.
fn publish(client: &mut Client<'_>, from: &str, count: usize) -> BTreeSet<String> {
    let key = Key::named(from);
    let one = |n| {
        let note = key.note(&format!("{from} {n}"));
        client.ask(note.message(), &note.ok());
        note.id
    };
    (0..count).map(one).collect()
}

#[test]
fn nodes_serve_while_nats_is_away_and_are_level_once_it_is_back() {
    let Some(mut nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    nats.kill();
    let mut expected = publish(&mut a.connect(), "first", 20);
    expected.extend(publish(&mut b.connect(), "second", 20));
    a.until(|| a.metric("weir_cluster_connected") == 0);
    a.until(|| a.metric("weir_cluster_behind_events") == 20);
    nats.run();
    assert_eq!(settle(&[&a, &b], &expected), expected);
    a.until(|| a.metric("weir_cluster_behind_events") == 0);
    // What waits at the same time shares messages.
    let messages = nats.client().call("STREAM.INFO.weir-main", &json!({}))["state"]["messages"].clone();
    assert!(messages.as_u64().is_some_and(|messages| (2..10).contains(&messages)), "{messages}");
    assert_eq!([&a, &b].map(|node| node.metric("weir_cluster_sent_total{result=\"published\"}")), [20, 20]);
}

#[test]
fn a_relay_starts_without_nats_and_joins_when_it_is_there() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let [a, b] = ["a", "b"].map(|name| Relay::start(&config(&[nats.url()], name, "")));
    a.wait_for_log("not joined with the other nodes");
    let expected = publish(&mut a.connect(), "early", 5);
    nats.run();
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

#[test]
fn a_relay_that_is_killed_before_it_ever_joined_publishes_what_it_had_acknowledged() {
    let Some(mut nats) = Nats::start() else { return };
    nats.kill();
    let config = config(&[nats.url()], "a", "");
    let a = Relay::start(&config);
    let expected = publish(&mut a.connect(), "early", 5);
    let a = a.restart_killed(&config);
    nats.run();
    joined(&a);
    a.until(|| a.metric("weir_cluster_sent_total{result=\"published\"}") == 5);
    let b = node(&nats, "b");
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

#[test]
fn what_a_wiped_stream_held_is_published_again_as_far_as_others_lack_it() {
    let Some(mut nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    settle(&[&a, &b], &publish(&mut a.connect(), "before", 20));
    // The other node is away, so only the stream has what comes now.
    drop(b);
    let meanwhile = publish(&mut a.connect(), "meanwhile", 20);
    a.until(|| a.metric("weir_cluster_sent_total{result=\"published\"}") == 40);
    nats.wipe();
    nats.run();
    joined(&a);
    let late = node(&nats, "c");
    late.until(|| super::scene::holds(&late).is_superset(&meanwhile));
}

#[test]
fn a_stream_that_is_deleted_under_way_is_made_again() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let mut expected = publish(&mut a.connect(), "before", 5);
    settle(&[&a, &b], &expected);
    nats.client().call("STREAM.DELETE.weir-main", &json!({}));
    expected.extend(publish(&mut a.connect(), "after", 5));
    expected.extend(publish(&mut b.connect(), "there", 5));
    assert_eq!(settle(&[&a, &b], &expected), expected);
}

#[test]
fn a_node_that_was_away_catches_up_alone() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let mut expected = publish(&mut a.connect(), "before", 5);
    settle(&[&a, &b], &expected);
    let data = b.data();
    let dir = data.parent().expect("a directory").to_path_buf();
    let kept = tempfile::tempdir().expect("a directory");
    // Its directory outlives it.
    let moved = kept.path().join("node");
    b.signal("STOP");
    std::fs::rename(&dir, &moved).expect("it moves");
    drop(b);
    expected.extend(publish(&mut a.connect(), "meanwhile", 30));
    let b = Relay::start_in(&moved, &config(&[nats.url()], "b", ""));
    assert_eq!(settle(&[&a, &b], &expected), expected);
}
