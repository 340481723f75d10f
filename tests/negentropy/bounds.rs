//! The bounds on sessions and records (INV-12).

use serde_json::json;

use super::initiator::{ids, named, open};
use crate::support::client::Client;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed};

const PER_CONNECTION: &str = "rate-limited: too many open sessions; close some first";
const PER_ADDRESS: &str = "rate-limited: too many sessions are open from this address";
const IN_ALL: &str = "rate-limited: too many sessions are open at this relay";

fn opens(client: &mut Client<'_>, sub: &str) {
    client.ask(open(sub, &json!({"ids": []}), "61"), &json!(["NEG-MSG", sub, "61"]).to_string());
}

fn is_refused(client: &mut Client<'_>, sub: &str, reason: &str) {
    client.ask(open(sub, &json!({"ids": []}), "61"), &json!(["NEG-ERR", sub, reason]).to_string());
}

/// Opens a session as soon as there is room: the relay notices a moment later that a client has left.
fn opens_soon(client: &mut Client<'_>, sub: &str) {
    let end = std::time::Instant::now() + TIMEOUT;
    let opened = json!(["NEG-MSG", sub, "61"]).to_string();
    loop {
        client.send(open(sub, &json!({"ids": []}), "61"));
        let answer = client.next();
        if answer == opened {
            return;
        }
        assert!(std::time::Instant::now() < end, "there is room again, but {answer}");
    }
}

#[test]
fn a_connection_has_no_more_sessions_than_it_may() {
    let relay = Relay::start("[negentropy]\nmax_sessions_per_connection = 2");
    let mut client = relay.connect();
    opens(&mut client, "a");
    opens(&mut client, "b");
    is_refused(&mut client, "c", PER_CONNECTION);
    // Replacing a session does not add one.
    opens(&mut client, "b");
    client.send(r#"["NEG-CLOSE","a"]"#);
    opens(&mut client, "c");
    is_refused(&mut client, "a", PER_CONNECTION);
    opens(&mut relay.connect(), "a");
}

#[test]
fn an_address_has_no_more_sessions_than_it_may_over_all_its_connections() {
    let relay = Relay::start("[negentropy]\nmax_sessions_per_address = 3");
    let (mut first, mut second) = (relay.connect(), relay.connect());
    opens(&mut first, "a");
    opens(&mut first, "b");
    opens(&mut second, "a");
    is_refused(&mut second, "b", PER_ADDRESS);
    drop(first);
    opens_soon(&mut second, "b");
    opens_soon(&mut second, "c");
    is_refused(&mut second, "d", PER_ADDRESS);
}

#[test]
fn a_relay_has_no_more_sessions_than_it_may() {
    let relay = Relay::start("[negentropy]\nmax_sessions = 1");
    let (mut first, mut second) = (relay.connect(), relay.connect());
    opens(&mut first, "a");
    is_refused(&mut second, "a", IN_ALL);
    first.send(r#"["NEG-CLOSE","a"]"#);
    opens_soon(&mut second, "a");
}

#[test]
fn each_negentropy_message_that_is_refused_is_counted_once() {
    let relay = Relay::start(
        "[metrics]\nlisten = \"127.0.0.1:0\"\n[negentropy]\nmax_records = 2\nmax_sessions_per_connection = 1",
    );
    let mut client = relay.connect();
    let key = Key::named("counted");
    client.publish_all(&(0..3).map(|n| key.event(1, 1000 + n, json!([]), "")).collect::<Vec<Signed>>());
    client.ask(open("s", &json!({}), "61"), r#"["NEG-ERR","s","blocked: too many records (3, at most 2)",2]"#);
    client.ask(r#"["NEG-MSG","s","61"]"#, r#"["NEG-ERR","s","closed: no such session is open"]"#);
    opens(&mut client, "a");
    is_refused(&mut client, "b", PER_CONNECTION);
    client.ask(r#"["NEG-MSG","a","6g"]"#, r#"["NEG-ERR","a","invalid: the message is not lower-case hex"]"#);
    let counted = ["blocked", "closed", "rate-limited", "invalid"]
        .map(|prefix| relay.metric(&format!("weir_refusals_total{{prefix=\"{prefix}\"}}")));
    assert_eq!(counted, [1; 4]);
}

#[test]
fn a_query_with_too_many_records_is_blocked_and_told_how_many_there_may_be() {
    let relay = Relay::start("[negentropy]\nmax_records = 20");
    let mut client = relay.connect();
    let key = Key::named("too many");
    let events: Vec<Signed> = (0..21).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    client.publish_all(&events);
    client.ask(open("s", &json!({}), "61"), r#"["NEG-ERR","s","blocked: too many records (21, at most 20)",20]"#);
    client.ask(r#"["NEG-MSG","s","61"]"#, r#"["NEG-ERR","s","closed: no such session is open"]"#);
    assert_eq!(named(&mut client, &json!({"since": 1001})), ids(&events[1..]));
    assert_eq!(named(&mut client, &json!({"limit": 20})), ids(&events[1..]));
}

#[test]
fn all_sessions_together_hold_no_more_records_than_they_may() {
    let relay = Relay::start("[negentropy]\nmax_records = 20\nmax_records_per_address = 30\nmax_records_total = 30");
    let mut client = relay.connect();
    let key = Key::named("together");
    let events: Vec<Signed> = (0..20).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    client.publish_all(&events);
    client.ask(open("a", &json!({}), "61"), r#"["NEG-MSG","a","61"]"#);
    client.ask(
        open("b", &json!({}), "61"),
        r#"["NEG-ERR","b","rate-limited: all open sessions together hold as much as they may; try again later"]"#,
    );
    client.ask(open("c", &json!({"since": 1010}), "61"), r#"["NEG-MSG","c","61"]"#);
    client.send(r#"["NEG-CLOSE","a"]"#);
    // A reader thread may hold the session for a moment longer.
    relay.until(|| {
        client.send(open("b", &json!({}), "61"));
        client.next() == r#"["NEG-MSG","b","61"]"#
    });
}

#[test]
fn records_of_one_address_are_bounded_over_its_sessions() {
    let relay = Relay::start("[negentropy]\nmax_records = 20\nmax_records_per_address = 30\nmax_records_total = 60");
    let (mut first, mut second, mut stranger) =
        (relay.connect(), relay.connect(), Client::connect_from(&relay, [127, 0, 0, 2]));
    let key = Key::named("of one address");
    let events: Vec<Signed> = (0..20).map(|n| key.event(1, 1000 + n, json!([]), "")).collect();
    first.publish_all(&events);
    first.ask(open("a", &json!({}), "61"), r#"["NEG-MSG","a","61"]"#);
    let refused = r#"["NEG-ERR","b","rate-limited: all sessions of your address together hold as much as they may; try again later"]"#;
    second.ask(open("b", &json!({}), "61"), refused);
    second.ask(open("c", &json!({"since": 1010}), "61"), r#"["NEG-MSG","c","61"]"#);
    stranger.ask(open("a", &json!({}), "61"), r#"["NEG-MSG","a","61"]"#);
}
