//! NIP-09, deletion requests.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const DELETED: &str = "blocked: the author deleted this event";
const NOTHING: &str = "invalid: the deletion names nothing that its author may delete";

fn e(event: &Signed) -> Value {
    json!(["e", event.id])
}

fn a(kind: u64, key: &Key, d: &str) -> Value {
    json!(["a", format!("{kind}:{}:{d}", key.hex)])
}

#[test]
fn an_author_deletes_events_by_id_and_the_request_itself_stays() {
    let (key, relay) = (Key::named("delete by id"), Relay::shared());
    let at = now();
    let events = [at - 3, at - 2, at - 1].map(|at| key.event(1, at, json!([]), ""));
    let request = key.delete(at, json!([e(&events[0]), ["k", "1"], e(&events[2])]));
    let mut client = relay.connect();
    client.publish_all(&events);
    client.publish(&request);
    client.finds(json!({"authors": [key.hex]}), &[&request, &events[1]]);
    client.finds(json!({"ids": [events[0].id, events[1].id]}), &[&events[1]]);
    client.counts(json!({"ids": [events[2].id]}), 0);
    relay.connect().finds(json!({"ids": [request.id]}), &[&request]);
}

#[test]
fn a_deleted_event_is_not_taken_again_from_anyone() {
    let (key, relay) = (Key::named("no return"), Relay::shared());
    let event = key.note("gone");
    let mut client = relay.connect();
    client.publish(&event);
    client.publish(&key.delete(now(), json!([e(&event)])));
    client.refused(&event, DELETED);
    relay.connect().refused(&event, DELETED);
}

#[test]
fn nobody_deletes_the_events_of_another_and_his_own_in_the_same_request_are_deleted() {
    let (alice, bob, relay) = (Key::named("foreign alice"), Key::named("foreign bob"), Relay::shared());
    let at = now();
    let (hers, his) = (alice.event(1, at - 2, json!([]), ""), bob.event(1, at - 1, json!([]), ""));
    let article = alice.event(30_023, at - 3, json!([["d", "x"]]), "");
    let mut client = relay.connect();
    client.publish_all([&hers, &his, &article]);
    let request = bob.delete(at, json!([e(&hers), a(30_023, &alice, "x"), e(&his)]));
    client.publish(&request);
    client.finds(json!({"authors": [alice.hex, bob.hex]}), &[&request, &hers, &article]);
    let foreign = bob.delete(at, json!([e(&hers), a(30_023, &alice, "x")]));
    client.refused(&foreign, NOTHING);
    client.ask(hers.message(), &hers.duplicate());
}

#[test]
fn a_request_that_names_nothing_is_invalid() {
    let (key, relay) = (Key::named("names nothing"), Relay::shared());
    let mut client = relay.connect();
    let tags = [
        json!([]),
        json!([["k", "1"]]),
        json!([["e", "not an id"]]),
        json!([["e"]]),
        json!([["a", "nonsense"]]),
        json!([["a", format!("1:{}:", key.hex)]]),
        json!([["a", format!("30023:{}:x", "ab".repeat(32))]]),
    ];
    for tags in tags {
        client.refused(&key.delete(now(), tags), NOTHING);
    }
    let event = key.note("kept in spite of nonsense beside it");
    client.publish(&event);
    client.publish(&key.delete(now(), json!([["a", "nonsense"], ["e", "x"], e(&event)])));
    client.counts(json!({"ids": [event.id]}), 0);
}

#[test]
fn an_event_deleted_before_it_was_seen_is_refused_if_it_is_of_the_same_author() {
    let (alice, bob, relay) = (Key::named("unseen alice"), Key::named("unseen bob"), Relay::shared());
    let (hers, his) = (alice.note("unseen"), bob.note("unseen"));
    let mut client = relay.connect();
    client.publish(&alice.delete(now(), json!([e(&hers), e(&his)])));
    client.refused(&hers, DELETED);
    client.publish(&his);
}

#[test]
fn a_deletion_by_address_takes_versions_up_to_and_with_its_time() {
    let (key, relay) = (Key::named("by address"), Relay::shared());
    let mut client = relay.connect();
    let at = now() - 100;
    let version = |at: u64, d: &str| key.event(30_023, at, json!([["d", d]]), "");
    let (old, other) = (version(at, "x"), version(at, "y"));
    client.publish(&old);
    client.publish(&other);
    let request = key.delete(at, json!([a(30_023, &key, "x")]));
    client.publish(&request);
    client.counts(json!({"authors": [key.hex], "kinds": [30_023], "#d": ["x"]}), 0);
    client.refused(&version(at - 1, "x"), DELETED);
    client.refused(&old, DELETED);
    let newer = version(at + 1, "x");
    client.publish(&newer);
    client.finds(json!({"authors": [key.hex], "kinds": [30_023]}), &[&newer, &other]);
    // A request that is older than the stored version deletes nothing, and keeps out only versions older than itself.
    client.publish(&key.delete(at, json!([a(30_023, &key, "x"), ["k", "30023"]])));
    client.counts(json!({"ids": [newer.id]}), 1);
}

#[test]
fn a_deletion_by_address_works_for_replaceable_kinds_too() {
    let (key, relay) = (Key::named("by replaceable address"), Relay::shared());
    let mut client = relay.connect();
    let at = now() - 100;
    for (kind, d) in [(0, ""), (3, ""), (10_002, ""), (10_003, "")] {
        let event = key.event(kind, at, json!([]), "");
        client.publish(&event);
        client.publish(&key.delete(at + 1, json!([a(kind, &key, d)])));
        client.counts(json!({"authors": [key.hex], "kinds": [kind]}), 0);
        client.refused(&event, DELETED);
        client.publish(&key.event(kind, at + 2, json!([]), "newer"));
        client.counts(json!({"authors": [key.hex], "kinds": [kind]}), 1);
    }
}

#[test]
fn an_address_deleted_before_it_was_seen_bars_only_versions_up_to_that_time() {
    let (key, relay) = (Key::named("unseen address"), Relay::shared());
    let mut client = relay.connect();
    let at = now() - 100;
    client.publish(&key.delete(at, json!([a(30_000, &key, "d:with:colons")])));
    let version = |at: u64| key.event(30_000, at, json!([["d", "d:with:colons"]]), "");
    client.refused(&version(at), DELETED);
    client.publish(&version(at + 1));
}

#[test]
fn deletions_are_not_deleted() {
    let (key, relay) = (Key::named("delete a deletion"), Relay::shared());
    let event = key.note("gone");
    let mut client = relay.connect();
    client.publish(&event);
    let request = key.delete(now(), json!([e(&event)]));
    client.publish(&request);
    let against = key.delete(now(), json!([e(&request), ["k", "5"]]));
    client.publish(&against);
    client.counts(json!({"ids": [request.id, against.id]}), 2);
    client.refused(&event, DELETED);
}

#[test]
fn an_older_version_does_not_come_back_when_the_newest_is_deleted() {
    let (key, relay) = (Key::named("no revival"), Relay::shared());
    let mut client = relay.connect();
    let at = now() - 100;
    let [old, new] = [at, at + 1].map(|at| key.event(10_002, at, json!([]), ""));
    client.publish(&old);
    client.publish(&new);
    client.publish(&key.delete(at + 2, json!([e(&new)])));
    client.counts(json!({"authors": [key.hex], "kinds": [10_002]}), 0);
    client.refused(&new, DELETED);
}

#[test]
fn a_deletion_is_delivered_live_like_any_event() {
    let (key, relay) = (Key::named("live deletion"), Relay::shared());
    let event = key.note("gone");
    let (mut client, mut follower) = (relay.connect(), relay.connect());
    client.publish(&event);
    follower.open("s", &[json!({"kinds": [5], "authors": [key.hex]})]);
    let request = key.delete(now(), json!([e(&event)]));
    client.publish(&request);
    follower.expect(&request.frame("s"));
}

#[test]
fn deletions_hold_after_the_relay_was_killed() {
    let relay = Relay::start("");
    let key = Key::named("killed");
    let at = now() - 100;
    let (note, list) = (key.event(1, at, json!([]), ""), key.event(30_000, at, json!([["d", "x"]]), ""));
    let request = key.delete(at + 1, json!([e(&note), a(30_000, &key, "x")]));
    let mut client = relay.connect();
    client.publish_all([&note, &list]);
    client.publish(&request);
    drop(client);
    let relay = relay.restart_killed("");
    let mut client = relay.connect();
    client.finds(json!({"authors": [key.hex]}), &[&request]);
    client.refused(&note, DELETED);
    client.refused(&list, DELETED);
}
