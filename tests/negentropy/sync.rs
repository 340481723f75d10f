//! The ids that a session names: everything that the client may read, and nothing else.

use serde_json::json;

use super::initiator::{Ids, compare, ids, initiator, named, open, reply};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Small frames, so that a session takes several rounds.
const SMALL_FRAMES: &str = "[negentropy]\nframe_bytes = 4096";

fn made(key: &Key, name: &str, count: u64, seconds: u64) -> Vec<Signed> {
    let at = now() - 1000;
    (0..count).map(|n| key.event(1, at + n % seconds, json!([]), &format!("{name} {n}"))).collect()
}

#[test]
fn both_sides_learn_exactly_what_they_lack() {
    let relay = Relay::start(SMALL_FRAMES);
    let mut client = relay.connect();
    let cases =
        [(0, 0, 0), (0, 3, 0), (0, 0, 3), (31, 1, 0), (500, 2, 2), (1500, 150, 150), (0, 700, 0), (0, 300, 400)];
    for (case, (shared, theirs, ours)) in cases.into_iter().enumerate() {
        // Either few different seconds, so that bounds must include ids, or one for each event.
        for seconds in [3, 10_000] {
            let key = Key::named(&format!("both sides {case} {seconds}"));
            let [both, remote, local] = [("both", shared), ("theirs", theirs), ("ours", ours)]
                .map(|(name, count)| made(&key, name, count, seconds));
            client.publish_all(both.iter().chain(&remote));
            let filter = json!({"authors": [key.hex]});
            let (have, need, rounds) = compare(&mut client, &filter, both.iter().chain(&local));
            assert_eq!((have, need), (ids(&local), ids(&remote)), "{shared} {theirs} {ours}");
            assert!(rounds > 1 || shared + theirs < 200, "small frames take rounds");

            // With what each side has learned, both now have the same events.
            client.publish_all(&local);
            let all = both.iter().chain(&remote).chain(&local);
            assert_eq!(compare(&mut client, &filter, all), (Ids::new(), Ids::new(), 1));
        }
    }
}

#[test]
fn since_until_and_limit_bound_a_session() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let key = Key::named("bounded");
    let events: Vec<Signed> = (0..50).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    client.publish_all(&events);
    let author = [key.hex.as_str()];
    assert_eq!(named(&mut client, &json!({"authors": author, "since": 1010})), ids(&events[10..]));
    assert_eq!(named(&mut client, &json!({"authors": author, "until": 1010})), ids(&events[..=10]));
    assert_eq!(named(&mut client, &json!({"authors": author, "since": 1010, "until": 1010})), ids(&events[10..=10]));
    assert_eq!(named(&mut client, &json!({"authors": author, "limit": 7})), ids(&events[43..]));
    assert_eq!(named(&mut client, &json!({"authors": author, "limit": 0})), Ids::new());
    assert_eq!(named(&mut client, &json!({"authors": author, "until": 1020, "limit": 2})), ids(&events[19..=20]));
    // More than a page of a REQ: a session has no such limit unless its filter does.
    let many: Vec<Signed> = (0..1200).map(|n| key.event(7, 2000 + n, json!([]), "")).collect();
    client.publish_all(&many);
    assert_eq!(named(&mut client, &json!({"authors": author, "kinds": [7]})), ids(&many));
}

/// INV-15.
#[test]
fn direct_messages_are_named_to_those_involved_alone() {
    let relay = Relay::start("");
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(Key::named);
    let at = now();
    let note = alice.event(1, at, json!([["p", bob.hex]]), "open");
    let letter = alice.event(4, at, json!([["p", bob.hex]]), "kind 4");
    let wrap = Key::named("made up").event(1059, at, json!([["p", bob.hex]]), "kind 1059");
    let mut nobody = relay.connect();
    nobody.publish_all([&note, &letter, &wrap]);
    let everything = json!({});
    assert_eq!(named(&mut nobody, &everything), ids([&note]));
    let cases = [(&alice, ids([&note, &letter])), (&bob, ids([&note, &letter, &wrap])), (&carol, ids([&note]))];
    for (key, seen) in cases {
        let mut client = relay.connect();
        client.authenticate(key);
        for filter in [everything.clone(), json!({"#p": [bob.hex]}), json!({"kinds": [1, 4, 1059]})] {
            assert_eq!(named(&mut client, &filter), seen, "{filter}");
        }
    }
    // A client that has a message cannot find out this way whether the relay has it.
    let (have, need, _) = compare(&mut nobody, &everything, [&note, &letter, &wrap]);
    assert_eq!((have, need), (ids([&letter, &wrap]), Ids::new()));
}

#[test]
fn filters_that_a_req_may_not_have_open_no_session() {
    let relay = Relay::start("");
    let [bob, carol] = ["bob", "carol"].map(Key::named);
    let mut client = relay.connect();
    let wraps = json!(["NEG-OPEN", "s", {"kinds": [1059], "#p": [bob.hex]}, "61"]).to_string();
    let private = "direct messages are visible only to their author and their recipients";
    client.send(&wraps);
    client.take_challenge();
    client.expect(&json!(["NEG-ERR", "s", format!("auth-required: {private}")]).to_string());
    client.authenticate(&carol);
    client.ask(&wraps, &json!(["NEG-ERR", "s", format!("restricted: {private}")]).to_string());
    let mut client = relay.connect();
    client.authenticate(&bob);
    client.ask(&wraps, r#"["NEG-MSG","s","61"]"#);

    let closed = Relay::start("[auth]\nread = \"authenticated\"");
    let mut client = closed.connect();
    client.send(r#"["NEG-OPEN","s",{},"61"]"#);
    let refused = client.next();
    assert!(refused.starts_with(r#"["NEG-ERR","s","auth-required: "#), "{refused}");
    client.authenticate(&carol);
    client.ask(r#"["NEG-OPEN","s",{},"61"]"#, r#"["NEG-MSG","s","61"]"#);
}

#[test]
fn deleted_expired_and_vanished_events_are_not_named() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let [author, leaver] = ["author", "leaver"].map(Key::named);
    let at = now();
    let [kept, deleted] = ["kept", "deleted"].map(|content| author.event(1, at, json!([]), content));
    let expiring = author.event(1, at, json!([["expiration", (at + 2).to_string()]]), "expiring");
    let left = leaver.event(1, at - 10, json!([]), "left");
    client.publish_all([&kept, &deleted, &expiring, &left]);
    let deletion = author.delete(at, json!([["e", deleted.id]]));
    client.publish(&deletion);
    let vanish = leaver.event(62, at, json!([["relay", "ALL_RELAYS"]]), "");
    client.publish(&vanish);
    // It was there, and from the second of its expiration on it is not. Only the clock changes.
    while now() <= at + 2 {
        client.query(&[json!({"ids": [expiring.id]})]);
    }
    assert_eq!(named(&mut client, &json!({})), ids([&kept, &deletion, &vanish]));
}

#[test]
fn a_session_holds_what_was_there_when_it_was_opened() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let key = Key::named("as of then");
    let events = made(&key, "before", 100, 100);
    client.publish_all(&events);
    let (mut negentropy, message) = super::initiator::initiator([]);
    client.send(super::initiator::open("s", &json!({}), &message));
    let answer = super::initiator::reply(&mut client, "s");
    client.publish(&key.note("after"));
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut next = negentropy.reconcile_with_ids(&answer, &mut have, &mut need).expect("an answer");
    while let Some(message) = next {
        client.send(json!(["NEG-MSG", "s", crate::support::wire::hex(&message)]).to_string());
        let answer = super::initiator::reply(&mut client, "s");
        next = negentropy.reconcile_with_ids(&answer, &mut have, &mut need).expect("an answer");
    }
    let need: Ids = need.iter().map(|id| crate::support::wire::hex(id.as_bytes())).collect();
    assert_eq!(need, ids(&events));
}

#[test]
fn a_session_holds_what_the_same_connection_published_right_before_it() {
    let (key, relay) = (Key::named("own events in a session"), Relay::shared());
    let mut client = relay.connect();
    let events: Vec<Signed> = (0..50).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    let mut messages: Vec<String> = events.iter().map(|event| event.message()).collect();
    let (mut negentropy, message) = initiator(&[]);
    messages.push(open("s", &json!({"authors": [key.hex]}), &message));
    client.send_all(&messages);
    client.expect_all(events.iter().map(|event| event.ok()));
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let answer = reply(&mut client, "s");
    let next = negentropy.reconcile_with_ids(&answer, &mut have, &mut need).expect("a well-formed answer");
    assert_eq!((next, have.len(), need.len()), (None, 0, 50));
}
