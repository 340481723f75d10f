//! The messages: ids, versions, and the answers to malformed ones.

use serde_json::json;

use super::initiator::{Ids, bytes, ids, initiator, open, reply};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, hex};

const NOTHING: &str = r#"["NEG-OPEN","s",{"ids":[]},"61"]"#;
const NOTHING_NEW: &str = r#"["NEG-MSG","s","61"]"#;
const NOT_OPEN: &str = r#"["NEG-ERR","s","closed: no such session is open"]"#;

fn message(client: &mut Client<'_>, digits: &str, answer: &str) {
    client.ask(json!(["NEG-MSG", "s", digits]).to_string(), answer);
}

#[test]
fn a_message_for_no_session_is_answered_by_name() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    message(&mut client, "61", NOT_OPEN);
    // Closing a session that is not open is no error.
    client.send(r#"["NEG-CLOSE","s"]"#);
    client.is_silent();
    client.ask(NOTHING, NOTHING_NEW);
    message(&mut client, "61", NOTHING_NEW);
    client.send(r#"["NEG-CLOSE","s"]"#);
    message(&mut client, "61", NOT_OPEN);
    // A session belongs to one connection.
    client.ask(NOTHING, NOTHING_NEW);
    message(&mut relay.connect(), "61", NOT_OPEN);
}

#[test]
fn another_version_is_answered_with_the_byte_of_ours_and_may_go_on() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let event = Key::named("versions").note("");
    client.publish(&event);
    for version in ["60", "62", "6f"] {
        client.ask(open("s", &json!({}), &format!("{version}00")), NOTHING_NEW);
        let (mut negentropy, first) = initiator([]);
        client.send(json!(["NEG-MSG", "s", first]).to_string());
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let answer = reply(&mut client, "s");
        negentropy.reconcile_with_ids(&answer, &mut have, &mut need).expect("a well-formed answer");
        let need: Ids = need.iter().map(|id| hex(id.as_bytes())).collect();
        assert_eq!(need, ids([&event]));
    }
}

#[test]
fn a_malformed_message_ends_its_session_and_nothing_else() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let malformed = [
        ("", "the negentropy message is empty"),
        ("50", "0x50 is not a negentropy version"),
        ("6100", "the negentropy message ends too early"),
        ("61000003", "3 is not a mode of a range"),
        ("61000001aabb", "the negentropy message ends too early"),
        ("61000002ffffffffff7f", "the negentropy message ends too early"),
        ("6100210200", "a bound has an id of 33 bytes"),
        ("61ffffffffffffffffffff7f0000", "a number in the negentropy message is too large"),
        ("6G", "the message is not lower-case hex"),
        ("610", "the message is not lower-case hex"),
    ];
    for (digits, text) in malformed {
        let refused = json!(["NEG-ERR", "s", format!("invalid: {text}")]).to_string();
        client.ask(open("s", &json!({"ids": []}), digits), &refused);
        message(&mut client, "61", NOT_OPEN);
        client.ask(NOTHING, NOTHING_NEW);
        message(&mut client, digits, &refused);
        message(&mut client, "61", NOT_OPEN);
        // A session that cannot be opened still ends the one that it would replace.
        client.ask(NOTHING, NOTHING_NEW);
        client.ask(open("s", &json!({"ids": []}), digits), &refused);
        message(&mut client, "61", NOT_OPEN);
    }
    client.ask(NOTHING, NOTHING_NEW);
    let refused = r#"["NEG-ERR","s","invalid: ids is not a list of strings of 64 lower-case hex digits"]"#;
    client.ask(open("s", &json!({"ids": 1}), "61"), refused);
    message(&mut client, "61", NOT_OPEN);
}

#[test]
fn a_session_that_may_not_be_opened_ends_the_one_that_it_would_have_replaced() {
    let relay = Relay::start("[auth]\nread_kinds = [7]");
    let mut client = relay.connect();
    client.ask(NOTHING, NOTHING_NEW);
    client.send(open("s", &json!({"kinds": [7]}), "61"));
    client.take_challenge();
    client.expect(r#"["NEG-ERR","s","auth-required: these events are visible only to authenticated clients"]"#);
    message(&mut client, "61", NOT_OPEN);
}

#[test]
fn a_malformed_req_ends_the_subscription_that_it_would_have_replaced() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    client.open("s", &[json!({"kinds": [1]})]);
    client.ask(r#"["REQ","s",{"kinds":"all"}]"#, r#"["CLOSED","s","invalid: kinds is not a list of whole numbers"]"#);
    client.publish(&Key::named("malformed REQ").note("nobody is told"));
    client.is_silent();
}

#[test]
fn an_open_id_is_replaced() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let [first, second] = ["first", "second"].map(|name| Key::named(name).note(name));
    client.publish_all([&first, &second]);
    let (_, begin) = initiator([]);
    for event in [&first, &second, &first] {
        client.send(open("s", &json!({"ids": [event.id]}), &begin));
        let answer = hex(&reply(&mut client, "s"));
        assert!(answer.contains(&event.id), "the session of the newest filter answers");
    }
    client.send(r#"["NEG-CLOSE","s"]"#);
    message(&mut client, "61", NOT_OPEN);
}

#[test]
fn sessions_and_subscriptions_do_not_share_their_ids() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    client.open("s", &[json!({"kinds": [1]})]);
    client.ask(NOTHING, NOTHING_NEW);
    client.send(r#"["NEG-CLOSE","s"]"#);
    let event = Key::named("namespaces").note("live");
    client.send(event.message());
    client.expect_all([event.frame("s"), event.ok()]);
    client.ask(NOTHING, NOTHING_NEW);
    client.send(r#"["CLOSE","s"]"#);
    message(&mut client, "61", NOTHING_NEW);
}

#[test]
fn a_session_that_is_silent_for_too_long_is_ended_by_name() {
    let relay = Relay::start("[negentropy]\nidle_timeout_s = 1");
    let mut client = relay.connect();
    client.ask(NOTHING, NOTHING_NEW);
    client.expect(r#"["NEG-ERR","s","closed: you took too long to respond!"]"#);
    message(&mut client, "61", NOT_OPEN);
    client.ask(NOTHING, NOTHING_NEW);
}

#[test]
fn a_relay_that_does_not_serve_it_does_not_say_so_and_refuses() {
    let nips = |relay: &Relay| relay.information()["supported_nips"].as_array().expect("a list").contains(&json!(77));
    let relay = Relay::start("[negentropy]\nenabled = false");
    assert!(!nips(&relay));
    let refused = r#"["NEG-ERR","s","unsupported: negentropy is off at this relay"]"#;
    relay.connect().ask(NOTHING, refused);
    assert!(nips(&Relay::shared()));
}

#[test]
fn the_bytes_of_an_answer_are_those_of_the_protocol() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    let event = Key::named("bytes").event(1, 1000, json!([]), "");
    client.publish(&event);
    // One list of ids up to infinity, empty on our side, with the relay's one id in the answer.
    client.send(open("s", &json!({}), "6100000200"));
    assert_eq!(reply(&mut client, "s"), bytes(&format!("6100000201{}", event.id)));
}

/// Sends messages in one write and reads up to the answer of the last. Before it may come what was sent before the
/// relay read on: in their order, answers of sessions that ended. Tells how many did.
fn early_answers(client: &mut Client<'_>, messages: &[&String], ended: &[&str], last: &str) -> usize {
    client.send_all(messages.iter().copied());
    let (mut ended, mut early) = (ended.iter(), 0);
    loop {
        match client.next() {
            frame if frame == last => return early,
            frame => assert!(ended.any(|answer| *answer == frame), "{frame} before {last}"),
        }
        early += 1;
    }
}

#[test]
fn nothing_of_a_session_follows_the_answer_to_what_ended_it() {
    let relay = Relay::start("[negentropy]\nmax_records = 20\n[pipeline]\nslice_rows = 3");
    let mut client = relay.connect();
    let key = Key::named("replaced sessions");
    let events: Vec<Signed> = (0..21).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    client.publish_all(&events);
    // A session over events that are not yet committed waits for the commit, and counts while it waits.
    client.query(&[json!({})]);
    let (many, some) = (open("s", &json!({}), "61"), open("s", &json!({"since": 1010}), "61"));
    let (too_many, opened) = (r#"["NEG-ERR","s","blocked: too many records (21, at most 20)",20]"#, NOTHING_NEW);
    // An answer that no other session gives.
    let one = open("s", &json!({"ids": [events[0].id]}), "6100000200");
    let named = json!(["NEG-MSG", "s", format!("6100000201{}", events[0].id)]).to_string();
    let close = r#"["NEG-CLOSE","s"]"#.to_string();
    let unread = r#"["NEG-OPEN","s",{"x":1},"61"]"#.to_string();
    let refused = r#"["NEG-ERR","s","unsupported: filter key \"x\" is unknown"]"#;
    let mut round = || {
        let mut early = [0; 4];
        for _ in 0..20 {
            early[0] += early_answers(&mut client, &[&many, &one], &[too_many], &named);
            early[1] += early_answers(&mut client, &[&some, &many, &close, &one], &[opened, too_many], &named);
            early[2] += early_answers(&mut client, &[&many, &unread], &[too_many], refused);
            early[3] += early_answers(&mut client, &[&many, &close, &one], &[too_many], &named);
            client.send_all([&close]);
            client.is_silent();
        }
        early
    };
    // Of 20 each, the second of 40. On a busy machine a turn of the io thread may end between two messages of one
    // write, so a round or two may have more.
    let rounds: Vec<[usize; 4]> = std::iter::repeat_with(&mut round).take(5).collect();
    let is_calm = |early: &[usize; 4]| early.iter().all(|early| *early < 12);
    assert!(rounds.iter().any(is_calm), "{rounds:?} answers of sessions that had ended");
}

#[test]
fn a_refusal_that_waits_is_withdrawn_when_its_id_is_opened_again() {
    let relay = Relay::start(
        "[metrics]\nlisten = \"127.0.0.1:0\"\n[negentropy]\nmax_records = 20\n[pipeline]\nread_threads = 1\n\
         [server]\noutbox_bytes = \"32 MiB\"\noutbox_high_water_bytes = \"30 MiB\"",
    );
    let key = Key::named("a refusal that waits");
    let events: Vec<Signed> = (0..40).map(|n| key.event(1, 1000 + n, json!([]), &"x".repeat(400_000))).collect();
    let (mut client, mut other) = (relay.connect(), relay.connect());
    other.publish_all(&events);
    // More than the system holds for a client that does not read.
    client.send(r#"["REQ","rows",{}]"#);
    relay.until(|| relay.metric("weir_rows_sent_total") == 40);
    let is_opened = |count| relay.metric("weir_messages_total{verb=\"neg-open\"}") == count;
    client.send(open("s", &json!({}), "61"));
    relay.until(|| is_opened(1));
    // One thread collects for both: once the other is refused, so is this one.
    let refused = r#"["NEG-ERR","other","blocked: too many records (21, at most 20)",20]"#;
    other.ask(open("other", &json!({}), "61"), refused);
    client.send(open("t", &json!({"ids": []}), "61"));
    client.send(open("s", &json!({"ids": [events[0].id]}), "6100000200"));
    relay.until(|| is_opened(4));
    assert_eq!(client.rest("rows").0.len(), 40);
    let named = json!(["NEG-MSG", "s", format!("6100000201{}", events[0].id)]).to_string();
    client.expect_all([r#"["NEG-MSG","t","61"]"#.into(), named]);
    client.is_silent();
}
