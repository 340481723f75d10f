//! NIP-01, messages: subscriptions and answers.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Ids of 1 to 64 characters of every kind.
fn odd_ids() -> Vec<String> {
    let all =
        ["x", "\"", "\\", "\\\"\n\u{0}\u{1f}", " ", "😀", "{\"a\":1}", "\u{7f}", "é\u{301}", "\u{10ffff}", "null"];
    let long = ["a".repeat(64), "😀".repeat(64), "\"".repeat(64), "\u{1}".repeat(64)];
    all.iter().map(|id| (*id).to_string()).chain(long).collect()
}

#[test]
fn a_subscription_id_is_any_1_to_64_characters_and_escaped_in_answers() {
    let (key, relay) = (Key::named("odd ids"), Relay::shared());
    let mut client = relay.connect();
    let stored = key.note("stored");
    client.publish(&stored);
    let filter = json!({"authors": [key.hex]});
    for id in odd_ids() {
        let quoted = Value::from(id.clone()).to_string();
        client.send(json!(["REQ", id, filter]).to_string());
        client.expect(&format!(r#"["EVENT",{quoted},{}]"#, stored.text));
        client.expect(&format!(r#"["EOSE",{quoted}]"#));
    }
    let live = key.note("live");
    client.send(live.message());
    let frame = |id: String| format!(r#"["EVENT",{},{}]"#, Value::from(id), live.text);
    client.expect_all(odd_ids().into_iter().map(frame).chain([live.ok()]));
    for id in odd_ids() {
        client.send(json!(["CLOSE", id]).to_string());
        let closed = format!(r#"["CLOSED",{},"invalid: a filter is missing"]"#, Value::from(id.clone()));
        client.ask(json!(["REQ", id]).to_string(), &closed);
    }
    client.publish(&key.note("after every CLOSE"));
    client.is_silent();
}

#[test]
fn an_id_that_is_empty_or_too_long_is_refused_by_name_and_no_string_by_notice() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let wrong = "invalid: a subscription id has 1 to 64 characters";
    for id in [String::new(), "a".repeat(65), "😀".repeat(65)] {
        client.ask(json!(["REQ", id, {}]).to_string(), &json!(["CLOSED", id, wrong]).to_string());
        client.ask(json!(["COUNT", id, {}]).to_string(), &json!(["CLOSED", id, wrong]).to_string());
    }
    client.ask(json!(["REQ", "a".repeat(10_000), {}]).to_string(), &json!(["NOTICE", wrong]).to_string());
    let missing = r#"["NOTICE","invalid: the subscription id is missing or not a string"]"#;
    for message in [r#"["REQ"]"#, r#"["REQ",1,{}]"#, r#"["REQ",null,{}]"#, r#"["COUNT",{},{}]"#] {
        client.ask(message, missing);
    }
}

#[test]
fn a_req_without_a_filter_is_closed_as_invalid() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    client.ask(r#"["REQ","s"]"#, r#"["CLOSED","s","invalid: a filter is missing"]"#);
    client.ask(r#"["COUNT","s"]"#, r#"["CLOSED","s","invalid: a filter is missing"]"#);
}

#[test]
fn what_names_nothing_gets_a_notice_and_the_connection_lives_on() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let cases = [
        ("{}", "invalid: the message is not a JSON array"),
        ("1", "invalid: the message is not a JSON array"),
        (r#""EVENT""#, "invalid: the message is not a JSON array"),
        ("[]", "invalid: the message does not begin with its type"),
        ("[1]", "invalid: the message does not begin with its type"),
        (r#"["X"]"#, "unsupported: message \"X\" is unknown"),
        (r#"["event",{}]"#, "unsupported: message \"event\" is unknown"),
        (r#"["OK"]"#, "unsupported: message \"OK\" is unknown"),
        (r#"["EVENT",[]]"#, "invalid: the event is not a JSON object"),
        (r#"["AUTH","x"]"#, "invalid: the event is not a JSON object"),
        (r#"["CLOSE"]"#, "invalid: CLOSE does not have a subscription id of 1 to 64 characters"),
        (r#"["CLOSE",1]"#, "invalid: CLOSE does not have a subscription id of 1 to 64 characters"),
    ];
    for (text, notice) in cases {
        client.ask(text, &json!(["NOTICE", notice]).to_string());
    }
    for text in
        ["", " ", "[", "[\"REQ\",\"s\",{}", "not JSON", "[\"REQ\",\"s\",{}]]", "\u{0}", "[\"REQ\",\"s\",{'a':1}]"]
    {
        client.send(text);
        client.expect(r#"["NOTICE","invalid: the message is not valid JSON"]"#);
    }
    client.is_silent();
}

#[test]
fn json_nested_without_end_gets_a_notice() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    for text in ["[".repeat(100_000), format!(r#"["REQ","s",{}1{}]"#, "[".repeat(5_000), "]".repeat(5_000))] {
        client.ask(text, r#"["NOTICE","invalid: the message is nested deeper than 32"]"#);
    }
    client.is_silent();
}

#[test]
fn a_binary_message_is_not_nostr_and_closes_the_connection() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    client.send_message(Message::binary(br#"["REQ","s",{}]"#.to_vec()));
    assert_eq!(client.closing_code(), 1003);
}

#[test]
fn eose_comes_once_after_the_stored_events_and_live_ones_follow() {
    let (key, relay) = (Key::named("eose"), Relay::shared());
    let (stored, live) = (key.note("stored"), [key.note("live 1"), key.note("live 2")]);
    let mut client = relay.connect();
    client.publish(&stored);
    let (events, eose) =
        client.open("s", &[json!({"authors": [key.hex]}), json!({"authors": [key.hex], "kinds": [1]})]);
    assert_eq!((events, eose), (vec![stored.text], r#"["EOSE","s"]"#.into()));
    let mut publisher = relay.connect();
    for event in &live {
        publisher.publish(event);
        client.expect(&event.frame("s"));
    }
    client.is_silent();
}

#[test]
fn an_event_for_two_subscriptions_comes_once_for_each() {
    let (key, relay) = (Key::named("two subscriptions"), Relay::shared());
    let mut client = relay.connect();
    client.open("a", &[json!({"authors": [key.hex]}), json!({"kinds": [1], "authors": [key.hex]})]);
    client.open("b", &[json!({"authors": [key.hex]})]);
    let event = key.note("for both");
    relay.connect().publish(&event);
    client.expect_all([event.frame("a"), event.frame("b")]);
    client.is_silent();
}

#[test]
fn a_close_ends_delivery_and_one_of_an_unknown_id_is_silent() {
    let (key, relay) = (Key::named("close"), Relay::shared());
    let mut client = relay.connect();
    client.open("a", &[json!({"authors": [key.hex]})]);
    client.open("b", &[json!({"authors": [key.hex]})]);
    client.send(r#"["CLOSE","a"]"#);
    client.send(r#"["CLOSE","never opened"]"#);
    client.send(r#"["CLOSE","a"]"#);
    client.is_silent();
    let event = key.note("after");
    relay.connect().publish(&event);
    client.expect(&event.frame("b"));
    client.is_silent();
}

#[test]
fn a_req_with_an_open_id_replaces_that_subscription_without_a_word() {
    let (alice, bob, relay) = (Key::named("replaced alice"), Key::named("replaced bob"), Relay::shared());
    let mut client = relay.connect();
    let old = bob.note("old");
    client.publish(&old);
    client.open("s", &[json!({"authors": [alice.hex]})]);
    let (events, eose) = client.open("s", &[json!({"authors": [bob.hex]})]);
    assert_eq!((events, eose), (vec![old.text], r#"["EOSE","s"]"#.into()));
    let (of_alice, of_bob) = (alice.note("x"), bob.note("x"));
    let mut publisher = relay.connect();
    publisher.publish(&of_alice);
    publisher.publish(&of_bob);
    client.expect(&of_bob.frame("s"));
    client.is_silent();
}

#[test]
fn a_subscription_id_belongs_to_its_connection() {
    let (alice, bob, relay) = (Key::named("connection alice"), Key::named("connection bob"), Relay::shared());
    let (mut one, mut two) = (relay.connect(), relay.connect());
    one.open("s", &[json!({"authors": [alice.hex]})]);
    two.open("s", &[json!({"authors": [bob.hex]})]);
    two.send(r#"["CLOSE","s"]"#);
    two.is_silent();
    let event = alice.note("x");
    relay.connect().publish(&event);
    one.expect(&event.frame("s"));
    two.is_silent();
}

#[test]
fn more_subscriptions_than_advertised_are_closed_and_a_replacement_is_not() {
    let relay = Relay::start("[tiers.anonymous]\nmax_subscriptions = 3");
    assert_eq!(relay.information()["limitation"]["max_subscriptions"], json!(3));
    let mut client = relay.connect();
    for sub in ["a", "b", "c"] {
        client.open(sub, &[json!({"kinds": [1]})]);
    }
    let refused =
        r#"["CLOSED","d","error: too many subscriptions: a connection may have at most 3; close some first"]"#;
    client.ask(r#"["REQ","d",{"kinds":[1]}]"#, refused);
    // At the limit, an open subscription can still be replaced.
    assert_eq!(client.open("b", &[json!({"kinds": [7]})]).0, [""; 0]);
    let event = Key::named("at the cap").event(7, now(), json!([]), "+");
    relay.connect().publish(&event);
    client.expect(&event.frame("b"));
    client.send(r#"["CLOSE","a"]"#);
    assert_eq!(client.open("d", &[json!({"kinds": [9]})]).0, [""; 0]);
    client.is_silent();
}

#[test]
fn every_event_gets_one_ok_in_a_burst_of_good_bad_and_repeated_ones() {
    let (key, relay) = (Key::named("burst"), Relay::shared());
    let good: Vec<_> = (0..50).map(|n| key.note(&n.to_string())).collect();
    let bad = key.note("bad");
    let broken = bad.with(r#""content":"bad""#, r#""content":"changed""#);
    let mut client = relay.connect();
    let mut wanted = Vec::new();
    for event in &good {
        client.send(event.message());
        client.send(broken.message());
        wanted.extend([event.ok(), bad.refused("invalid: id is not the SHA-256 of the event")]);
    }
    client.expect_all(wanted);
    good.iter().for_each(|event| client.send(event.message()));
    client.expect_all(good.iter().map(|event| event.duplicate()));
    client.is_silent();
}

#[test]
fn an_event_repeated_in_one_burst_is_stored_and_delivered_once() {
    let (key, relay) = (Key::named("same event in a burst"), Relay::shared());
    let mut follower = relay.connect();
    follower.open("live", &[json!({"authors": [key.hex]})]);
    let event = key.note("again and again");
    let mut clients = [relay.connect(), relay.connect()];
    for client in &mut clients {
        (0..20).for_each(|_| client.send(event.message()));
    }
    let mut answers: Vec<String> = Vec::new();
    for client in &mut clients {
        answers.extend((0..20).map(|_| client.next()));
    }
    assert_eq!(answers.iter().filter(|answer| **answer == event.ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == event.duplicate()).count(), 39);
    follower.expect(&event.frame("live"));
    follower.is_silent();
    clients[0].finds(json!({"authors": [key.hex]}), &[&event]);
}

#[test]
fn what_was_accepted_is_found_by_the_very_next_query_of_anyone() {
    let (key, relay) = (Key::named("read your writes"), Relay::shared());
    let (mut writer, mut reader) = (relay.connect(), relay.connect());
    for n in 0..30 {
        let event = key.note(&n.to_string());
        writer.publish(&event);
        reader.finds(json!({"ids": [event.id]}), &[&event]);
    }
}

#[test]
fn something_after_an_event_is_refused_by_its_id() {
    let event = Key::named("something follows").note("x");
    let relay = Relay::shared();
    let mut client = relay.connect();
    client.ask(format!(r#"["EVENT",{},1]"#, event.text), &event.refused("invalid: unexpected element after the event"));
}

#[test]
fn a_query_finds_what_the_same_connection_published_right_before_it() {
    let (key, relay) = (Key::named("own events"), Relay::shared());
    let at = now() - 100;
    let mut client = relay.connect();
    for round in 0..5 {
        // Newest first, as they come back.
        let events: Vec<_> =
            (0..50).rev().map(|n| key.event(1, at + n, json!([["r", round.to_string()]]), "")).collect();
        // With a single value the count would have registers.
        let filter = json!({"authors": [key.hex], "#r": [round.to_string(), "none"]});
        let mut messages: Vec<String> = events.iter().map(|event| event.message()).collect();
        let mut queries = [json!(["REQ", "s", filter]), json!(["COUNT", "c", filter])];
        // Each of them is sent right behind the events, in turn.
        queries.rotate_left(round % 2);
        messages.extend(queries.map(|query| query.to_string()));
        client.send_all(&messages);
        client.expect_all(events.iter().map(|event| event.ok()));
        let rows = events.iter().map(|event| event.frame("s"));
        client.expect_all(rows.chain([r#"["EOSE","s"]"#.into(), r#"["COUNT","c",{"count":50}]"#.into()]));
        client.send(r#"["CLOSE","s"]"#);
    }
}

#[test]
fn events_and_queries_in_turn_are_all_answered_with_every_bound_at_its_least() {
    let bounds = "[queues]\ningest_events = 1\nunanswered_events = 1\nscans_per_connection = 1";
    let relay = Relay::start(bounds);
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let relay = &relay;
            scope.spawn(move || {
                let key = Key::named(name);
                let mut client = relay.connect();
                let events: Vec<_> = (0..40).map(|n| key.note(&n.to_string())).collect();
                let pair =
                    |event: &Signed| [event.message(), json!(["COUNT", "c", {"authors": [key.hex]}]).to_string()];
                client.send_all(&events.iter().flat_map(pair).collect::<Vec<String>>());
                let frames: Vec<String> = (0..80).map(|_| client.next()).collect();
                let (counts, mut answers): (Vec<String>, Vec<String>) =
                    frames.into_iter().partition(|frame| frame.starts_with(r#"["COUNT""#));
                let mut wanted: Vec<String> = events.iter().map(Signed::ok).collect();
                answers.sort();
                wanted.sort();
                assert_eq!(answers, wanted);
                // A count may include later events, but must include the earlier ones.
                for (least, frame) in (1..).zip(&counts) {
                    let message: Value = serde_json::from_str(frame).expect("JSON");
                    let count = message[2]["count"].as_u64().expect("a count");
                    assert!((least..=40).contains(&count), "{count} of {least}");
                }
            });
        }
    });
}
