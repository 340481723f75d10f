//! What is published at one node is stored and delivered by all.

use serde_json::json;

use super::nats::Nats;
use super::scene::{holds, node, node_with, settle};
use crate::support::wire::{Key, now};

#[test]
fn what_is_published_at_one_node_is_stored_and_delivered_live_by_the_others() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let (mut at_a, mut at_b) = (a.connect(), b.connect());
    at_b.ask(r#"["REQ","live",{"kinds":[1]}]"#, r#"["EOSE","live"]"#);
    let key = Key::named("author");
    for n in 0..3 {
        let note = key.note(&format!("note {n}"));
        at_a.ask(note.message(), &note.ok());
        at_b.expect(&note.frame("live"));
        at_b.ask(note.message(), &note.duplicate());
    }
    assert_eq!(holds(&a), holds(&b));
}

#[test]
fn protected_events_travel_since_the_nodes_are_one_relay() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let key = Key::named("author");
    let mut at_a = a.connect();
    at_a.authenticate(&key);
    let event = key.event(1, now(), json!([["-"]]), "to this relay alone");
    at_a.ask(event.message(), &event.ok());
    settle(&[&a, &b], &[event.id.clone()].into());
}

#[test]
fn ephemeral_events_reach_listeners_at_other_nodes_and_no_store() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let (mut at_a, mut at_b) = (a.connect(), b.connect());
    at_b.ask(r#"["REQ","live",{"kinds":[20001]}]"#, r#"["EOSE","live"]"#);
    let event = Key::named("author").event(20_001, now(), json!([]), "typing");
    at_a.ask(event.message(), &event.ok());
    at_b.expect(&event.frame("live"));
    assert_eq!((holds(&a).len(), holds(&b).len()), (0, 0));
    // It does not come back, nor does it go round.
    b.until(|| b.metric("weir_cluster_received_total{outcome=\"ephemeral\"}") == 1);
    assert_eq!(a.metric("weir_cluster_received_total{outcome=\"ephemeral\"}"), 0);
    assert_eq!(b.metric("weir_cluster_sent_total{result=\"ephemeral\"}"), 0);
}

#[test]
fn a_node_takes_the_kinds_and_authors_that_it_asks_for() {
    let Some(nats) = Nats::start() else { return };
    let (friend, stranger) = (Key::named("friend"), Key::named("stranger"));
    let a = node(&nats, "a");
    let more = format!("kinds = [0, 1]\nauthors = [\"{}\"]", friend.hex);
    let b = node_with(&nats, "b", &more);
    let c = node(&nats, "c");
    let mut at_a = a.connect();
    let mut wanted = std::collections::BTreeSet::new();
    let mut all = std::collections::BTreeSet::new();
    for (key, kind) in [(&friend, 0), (&friend, 1), (&friend, 7), (&stranger, 1)] {
        let event = key.event(kind, now(), json!([]), "{}");
        at_a.ask(event.message(), &event.ok());
        all.insert(event.id.clone());
        if kind < 2 && std::ptr::eq(key, &friend) {
            wanted.insert(event.id.clone());
        }
    }
    assert_eq!(settle(&[&a, &c], &all), all);
    b.until(|| holds(&b) == wanted);
    // What is published there goes everywhere.
    let own = stranger.event(7, now(), json!([["e", wanted.first().expect("one")]]), "+");
    b.connect().ask(own.message(), &own.ok());
    wanted.insert(own.id.clone());
    all.insert(own.id.clone());
    assert_eq!(settle(&[&a, &c], &all), all);
    assert_eq!(holds(&b), wanted);
}

#[test]
fn deletions_and_newer_versions_hold_at_every_node() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let (mut at_a, mut at_b) = (a.connect(), b.connect());
    let key = Key::named("author");
    let note = key.event(1, now() - 5, json!([]), "to be deleted");
    let [old, new] = [10, 1].map(|ago| key.event(0, now() - ago, json!([]), &format!("{{\"ago\":{ago}}}")));
    at_a.ask(note.message(), &note.ok());
    at_a.ask(old.message(), &old.ok());
    b.until(|| holds(&b).len() == 2);
    let deletion = key.delete(now(), json!([["e", note.id]]));
    at_b.ask(deletion.message(), &deletion.ok());
    at_b.ask(new.message(), &new.ok());
    let expected = [&deletion.id, &new.id].into_iter().cloned().collect();
    a.until(|| holds(&a) == expected);
    assert_eq!(holds(&b), expected);
}
