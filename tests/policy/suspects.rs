//! Keys that are new here, and clients whose events are refused over and over.

use serde_json::json;

use crate::scene::{DENIED, config, refused_by};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const STRICT: &str = "[policy.newcomers]\nperiod_s = \"1h\"\nevents_per_hour = 2\naddress_events_per_hour = 5\n";

#[test]
fn a_new_key_has_a_stricter_rate_and_one_that_has_published_here_does_not() {
    let relay = Relay::start(&config(""));
    let [old, new, victim] = ["old", "new", "victim"].map(Key::named);
    let mut client = strict_but_to(&old, &relay, "");
    publishes_two_and_no_third(&mut client, &new);
    // A wrap has its own key, and forged events spend nothing of their victim's.
    client.publish(&new.event(1059, now(), json!([["p", old.hex]]), "wrapped"));
    for number in 0..3 {
        client.send(victim.note("forged").with("forged", &format!("forge{number}")).message());
        assert!(client.next().contains("false,\"invalid: "));
    }
    client.publish(&victim.note("one"));
    client.publish(&victim.note("two"));
    // Further keys share what is left to their address.
    client.publish(&Key::named("third").note("one"));
    let last = Key::named("fourth").note("one");
    client.send(last.message());
    assert!(is_late(&client.next(), &last.id));
    assert_eq!(refused_by(&relay, "new-key"), 2);
    client.publish(&old.note("the old key goes on"));
}

/// Makes a relay with these keys strict with new authors, and has `old`, who published before, publish as it likes.
fn strict_but_to<'a>(old: &Key, relay: &'a Relay, keys: &str) -> Client<'a> {
    let mut client = relay.connect();
    client.publish(&old.note("long ago"));
    // A query has it committed, not only written to the log.
    client.counts(json!({"authors": [old.hex]}), 1);
    relay.reload(&config(&format!("{keys}\n{STRICT}")));
    relay.wait_for_log("the configuration was reloaded");
    for number in 0..5 {
        client.publish(&old.note(&format!("note {number}")));
    }
    client
}

fn publishes_two_and_no_third(client: &mut Client<'_>, new: &Key) {
    client.publish(&new.note("one"));
    client.publish(&new.note("two"));
    let three = new.note("three");
    client.send(three.message());
    assert!(is_late(&client.next(), &three.id));
}

fn is_late(answer: &str, id: &str) -> bool {
    answer.starts_with(&format!("[\"OK\",\"{id}\",false,\"rate-limited: this key is new here and publishes too much"))
}

#[test]
fn events_that_do_not_count_make_no_key_known() {
    let relay = Relay::start(&config(STRICT));
    let mut client = relay.connect();
    let first = [(9_735, json!([["p", Key::named("anyone").hex]])), (62, json!([["relay", "ALL_RELAYS"]]))];
    for (kind, tags) in first {
        let key = Key::named(&format!("begins with {kind}"));
        client.publish(&key.event(kind, now() - 100, tags, ""));
        client.counts(json!({"authors": [key.hex]}), 1);
        publishes_two_and_no_third(&mut client, &key);
    }
}

#[test]
fn a_key_is_new_where_io_threads_leave_the_store_alone_too() {
    let relay = Relay::start(&config("pipeline.inline_us = 0"));
    let [old, new] = ["old", "new"].map(Key::named);
    let mut client = strict_but_to(&old, &relay, "pipeline.inline_us = 0");
    publishes_two_and_no_third(&mut client, &new);
}

/// A relay that denies this author and takes three offences.
fn relay(denied: &Key) -> Relay {
    Relay::start(&config(&format!(
        "access.deny_pubkeys = [\"{}\"]\nrates.exempt_addresses = []\n\
         [policy.offenders]\noffences = 3\nrefused_s = \"1h\"\n",
        denied.hex
    )))
}

fn turned_away(relay: &Relay) -> u64 {
    relay.metric("weir_connections_turned_away_total{reason=\"offender\"}")
}

/// Whether a client at this address may connect.
fn is_served(relay: &Relay, last: u8) -> bool {
    use std::io::{Read as _, Write as _};
    let mut stream = relay.stream_from([127, 0, 0, last]);
    let request = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    status == *b"HTTP/1.1 101"
}

#[test]
fn an_address_whose_events_are_refused_over_and_over_is_closed_and_not_served_for_a_while() {
    let denied = Key::named("spammer");
    let relay = relay(&denied);
    let mut client = Client::connect_from(&relay, [127, 0, 0, 5]);
    let mut beside = Client::connect_from(&relay, [127, 0, 0, 5]);
    for number in 0..3 {
        client.refused(&denied.note(&format!("spam {number}")), DENIED);
    }
    assert_eq!(client.closing_code(), 1008);
    beside.send("[\"CLOSE\",\"x\"]");
    assert_eq!(beside.closing_code(), 1008, "its other connections, too");
    assert_eq!([is_served(&relay, 5), is_served(&relay, 6)], [false, true]);
    assert_eq!(turned_away(&relay), 1);
    relay.until(|| relay.metric("weir_connections_closed_total{reason=\"offender\"}") == 2);
}

#[test]
fn a_proven_key_whose_events_are_refused_over_and_over_is_not_served_from_elsewhere_either() {
    let (denied, own) = (Key::named("others"), Key::named("proven"));
    let relay = relay(&denied);
    let mut client = Client::connect_from(&relay, [127, 0, 0, 5]);
    client.authenticate(&own);
    for number in 0..3 {
        client.refused(&denied.note(&format!("spam {number}")), DENIED);
    }
    assert_eq!(client.closing_code(), 1008);
    let mut elsewhere = Client::connect_from(&relay, [127, 0, 0, 6]);
    elsewhere.authenticate(&own);
    assert_eq!(elsewhere.closing_code(), 1008);
    // What a client only claims counts against nobody: the denied author itself may still prove its key and read.
    let mut author = Client::connect_from(&relay, [127, 0, 0, 7]);
    author.authenticate(&denied);
    author.is_silent();
}

#[test]
fn wrong_signatures_are_offences_and_one_mistake_is_not() {
    let key = Key::named("forger");
    let relay = relay(&Key::named("nobody"));
    let mut client = Client::connect_from(&relay, [127, 0, 0, 5]);
    let sign_wrong = |content: &str| {
        let (note, other) = (key.note(content), key.note("other"));
        let sig = |event: &Signed| event.text.rsplit('"').nth(1).expect("a signature").to_owned();
        note.with(&sig(&note), &sig(&other))
    };
    client.refused(&sign_wrong("one"), "invalid: the signature is wrong");
    client.refused(&sign_wrong("two"), "invalid: the signature is wrong");
    client.publish(&key.note("a good one"));
    client.refused(&sign_wrong("three"), "invalid: the signature is wrong");
    client.send("[\"CLOSE\",\"x\"]");
    assert_eq!(client.closing_code(), 1008);
    assert!(!is_served(&relay, 5));
}
