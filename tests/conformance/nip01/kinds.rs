//! NIP-01, kinds: regular, replaceable, ephemeral and addressable events.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const OLDER: &str = "duplicate: a newer version is already stored";

/// Two events of the same time, the one with the lower id first.
fn tie(key: &Key, kind: u64, at: u64, tags: &Value) -> [Signed; 2] {
    let mut pair = ["one", "two"].map(|content| key.event(kind, at, tags.clone(), content));
    pair.sort_by(|a, b| a.id.cmp(&b.id));
    pair
}

#[test]
fn regular_kinds_are_all_kept_also_those_that_no_range_names() {
    let (key, relay) = (Key::named("regular kinds"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    for kind in [1, 2, 6, 16, 40, 41, 42, 44, 45, 99, 999, 1_000, 9_999, 40_000, 65_535] {
        let [older, newer] = [at - 1, at].map(|at| key.event(kind, at, json!([["d", "x"]]), ""));
        client.publish(&newer);
        client.publish(&older);
        client.finds(json!({"authors": [key.hex], "kinds": [kind]}), &[&newer, &older]);
    }
}

#[test]
fn of_a_replaceable_kind_only_the_newest_is_kept() {
    let (key, relay) = (Key::named("replaceable"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    for kind in [0, 3, 10_000, 10_002, 19_999] {
        let versions = [at - 2, at - 1, at].map(|at| key.event(kind, at, json!([["d", at.to_string()]]), ""));
        let found = json!({"authors": [key.hex], "kinds": [kind]});
        client.publish(&versions[1]);
        client.refused(&versions[0], OLDER);
        client.finds(found.clone(), &[&versions[1]]);
        client.publish(&versions[2]);
        client.finds(found.clone(), &[&versions[2]]);
        client.refused(&versions[1], OLDER);
        client.ask(versions[2].message(), &versions[2].duplicate());
        client.finds(found, &[&versions[2]]);
        client.finds(json!({"ids": [versions[1].id]}), &[]);
    }
}

#[test]
fn of_versions_with_one_time_the_lowest_id_is_kept_in_either_order() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    for (kind, tags) in [(10_000, json!([])), (0, json!([])), (30_000, json!([["d", "x"]]))] {
        for higher_first in [true, false] {
            let key = Key::named(&format!("tie {kind} {higher_first}"));
            let [low, high] = tie(&key, kind, now(), &tags);
            if higher_first {
                client.publish(&high);
                client.publish(&low);
                client.refused(&high, OLDER);
            } else {
                client.publish(&low);
                client.refused(&high, OLDER);
            }
            client.finds(json!({"authors": [key.hex]}), &[&low]);
        }
    }
}

#[test]
fn versions_of_different_authors_and_kinds_do_not_replace_each_other() {
    let (alice, bob, relay) = (Key::named("coordinate alice"), Key::named("coordinate bob"), Relay::shared());
    let at = now();
    let events = [
        alice.event(10_000, at, json!([]), ""),
        alice.event(10_001, at - 1, json!([]), ""),
        bob.event(10_000, at - 2, json!([]), ""),
    ];
    let mut client = relay.connect();
    events.iter().for_each(|event| client.publish(event));
    client.finds(json!({"authors": [alice.hex, bob.hex]}), &events.each_ref());
}

#[test]
fn an_addressable_event_is_replaced_by_author_kind_and_d() {
    let (key, relay) = (Key::named("addressable"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    for kind in [30_000, 30_023, 39_999] {
        let version = |d: &str, at| key.event(kind, at, json!([["d", d]]), "");
        let (a, newer_a, b) = (version("a", at - 5), version("a", at - 1), version("b", at - 3));
        client.publish(&a);
        client.publish(&b);
        client.publish(&newer_a);
        client.refused(&a, OLDER);
        client.refused(&version("a", at - 2), OLDER);
        client.finds(json!({"authors": [key.hex], "kinds": [kind]}), &[&newer_a, &b]);
        client.finds(json!({"authors": [key.hex], "kinds": [kind], "#d": ["a"]}), &[&newer_a]);
    }
}

#[test]
fn no_d_tag_one_without_a_value_and_an_empty_one_are_the_same() {
    let (key, relay) = (Key::named("empty d"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    let all = [json!([["d", ""]]), json!([]), json!([["d"]]), json!([["d", "", "x"]]), json!([["t", "x"]])];
    let versions: Vec<Signed> = (at - 10..).zip(all).map(|(at, tags)| key.event(30_000, at, tags, "")).collect();
    for version in &versions {
        client.publish(version);
        client.finds(json!({"authors": [key.hex]}), &[version]);
    }
}

#[test]
fn of_several_d_tags_the_first_counts() {
    let (key, relay) = (Key::named("several d"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    let both = key.event(30_000, at - 2, json!([["d", "a"], ["d", "b"]]), "");
    let (only_b, only_a) =
        (key.event(30_000, at - 1, json!([["d", "b"]]), ""), key.event(30_000, at, json!([["d", "a"]]), ""));
    client.publish(&both);
    client.publish(&only_b);
    client.finds(json!({"authors": [key.hex]}), &[&only_b, &both]);
    client.publish(&only_a);
    client.finds(json!({"authors": [key.hex]}), &[&only_a, &only_b]);
}

#[test]
fn a_d_of_any_length_and_form_names_its_own_event() {
    let (key, relay) = (Key::named("odd d"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    let names =
        [key.hex.clone(), key.hex.to_uppercase(), "x".repeat(1_000), "x".repeat(1_001), "a:b:c".into(), "\n".into()];
    let events: Vec<Signed> =
        (0..).zip(&names).map(|(n, name)| key.event(30_000, at - n, json!([["d", name]]), "")).collect();
    client.publish_all(&events);
    client.finds(json!({"authors": [key.hex]}), &events.iter().collect::<Vec<_>>());
}

#[test]
fn an_ephemeral_event_is_delivered_and_never_stored() {
    let (key, relay) = (Key::named("ephemeral"), Relay::shared());
    let mut follower = relay.connect();
    follower.open("live", &[json!({"authors": [key.hex]})]);
    let mut client = relay.connect();
    for kind in [20_000, 20_001, 24_133, 29_999] {
        let event = key.event(kind, now(), json!([]), "");
        client.publish(&event);
        follower.expect(&event.frame("live"));
        client.finds(json!({"authors": [key.hex]}), &[]);
        client.counts(json!({"ids": [event.id]}), 0);
    }
}

#[test]
fn an_ephemeral_event_that_nobody_listens_for_is_muted() {
    let (key, relay) = (Key::named("muted"), Relay::shared());
    let event = key.event(20_000, now(), json!([]), "");
    relay.connect().refused(&event, "mute: no one listens for this ephemeral event");
}

#[test]
fn an_ephemeral_event_with_a_wrong_signature_is_not_delivered() {
    let (key, relay) = (Key::named("ephemeral forgery"), Relay::shared());
    let mut client = relay.connect();
    client.open("live", &[json!({"authors": [key.hex]})]);
    let event = key.event(20_000, now(), json!([]), "");
    let other = key.event(20_000, now(), json!([]), "other");
    let sig = |event: &Signed| event.text.rsplit('"').nth(1).expect("the signature is last").to_string();
    client.refused(&event.with(&sig(&event), &sig(&other)), "invalid: the signature is wrong");
    client.is_silent();
}
