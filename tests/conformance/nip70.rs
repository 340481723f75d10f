//! NIP-70, protected events and reposts of them.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const ONLY_AUTHOR: &str = "this event may only be published by its author";

#[test]
fn a_protected_event_is_taken_from_its_author_only() {
    let (alice, bob, relay) = (Key::named("protected alice"), Key::named("protected bob"), Relay::shared());
    let event = alice.event(1, now(), json!([["t", "x"], ["-"]]), "mine alone");
    let mut client = relay.connect();
    client.send(event.message());
    client.take_challenge();
    client.expect(&event.refused(&format!("auth-required: {ONLY_AUTHOR}")));
    client.authenticate(&bob);
    client.refused(&event, &format!("restricted: {ONLY_AUTHOR}"));
    client.finds(json!({"authors": [alice.hex]}), &[]);
    client.authenticate(&alice);
    client.publish(&event);
    relay.connect().finds(json!({"authors": [alice.hex]}), &[&event]);
}

#[test]
fn on_demand_the_challenge_comes_before_the_refusal() {
    let relay = Relay::start("[auth]\nchallenge = \"demand\"");
    let alice = Key::named("protected on demand");
    let event = alice.event(1, now(), json!([["-"]]), "");
    let mut client = relay.connect_unchallenged();
    client.send(event.message());
    client.take_challenge();
    client.expect(&event.refused(&format!("auth-required: {ONLY_AUTHOR}")));
    client.authenticate(&alice);
    client.publish(&event);
}

#[test]
fn the_operator_may_refuse_them_all_and_a_listed_key_is_no_author() {
    let (alice, friend) = (Key::named("protected listed alice"), Key::named("protected listed friend"));
    let event = alice.event(1, now(), json!([["-", "x"]]), "");
    let none = Relay::start("[access]\nprotected_events = false");
    let mut client = none.connect();
    client.authenticate(&alice);
    client.refused(&event, "blocked: protected events are not accepted here");
    let listing = Relay::start(&format!("[access]\nlisted_pubkeys = [\"{}\"]", friend.hex));
    let mut client = listing.connect();
    client.authenticate(&friend);
    client.refused(&event, &format!("restricted: {ONLY_AUTHOR}"));
}

#[test]
fn a_repost_that_embeds_a_protected_event_is_refused_however_it_is_written() {
    let (alice, bob, relay) = (Key::named("repost alice"), Key::named("repost bob"), Relay::shared());
    let protected = alice.event(1, now(), json!([["-"]]), "mine");
    let open = alice.event(1, now(), json!([["t", "-"], ["x", "[\"-\"]"]]), r#"talks about ["-"]"#);
    let mut client = relay.connect();
    let repost = |kind: u64, content: &str| bob.event(kind, now(), json!([["p", alice.hex]]), content);
    let refusal = "invalid: a repost must not embed a protected event";
    for kind in [6, 16] {
        for written in [r#"["-"]"#, r#"[ "-" ]"#, r#"["\u002d"]"#, r#"["-","x"]"#] {
            let embedded = protected.with(r#"["-"]"#, written);
            client.refused(&repost(kind, &embedded.text), refusal);
        }
        for innocent in [open.text.as_str(), "", r#"["-"]"#, r#"{"tags":"#, r#"{"content":"[\"-\"]"}"#] {
            client.publish(&repost(kind, innocent));
        }
    }
    // Only reposts embed events.
    client.publish(&bob.event(1, now(), json!([]), &protected.text));
    assert!(serde_json::from_str::<Value>(&protected.text).is_ok());
}
