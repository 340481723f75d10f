//! NIP-62, requests to vanish.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const VANISHED: &str = "blocked: the author asked to vanish";

fn vanish(key: &Key, at: u64, relays: &[&str]) -> Signed {
    let tags: Vec<Value> = relays.iter().map(|relay| json!(["relay", relay])).collect();
    key.event(62, at, Value::from(tags), "please")
}

/// Whether the relay refuses an event for good: now, and once the event has been removed.
fn is_refused_as_vanished(client: &mut Client<'_>, event: &Signed) {
    client.send(event.message());
    let answer = client.next();
    assert!(answer.starts_with(&format!(r#"["OK","{}",false,"blocked: "#, event.id)), "{answer}");
}

#[test]
fn everything_up_to_the_time_of_the_request_is_gone_at_once_also_deletions() {
    let (key, other, relay) = (Key::named("vanish"), Key::named("vanish witness"), Relay::shared());
    let at = now() - 100;
    let note = key.event(1, at - 3, json!([]), "");
    let gone = [
        key.event(0, at - 5, json!([]), ""),
        key.event(30_023, at - 4, json!([["d", "x"]]), ""),
        key.event(4, at, json!([["p", other.hex]]), ""),
        key.delete(at - 2, json!([["e", note.id]])),
        key.event(1, at, json!([["t", "vanish"]]), ""),
    ];
    let newer = key.event(1, at + 1, json!([]), "newer");
    let witness = other.event(1, at - 1, json!([["p", key.hex], ["t", "vanish"]]), "stays");
    let mut client = relay.connect();
    client.publish(&note);
    gone.iter().for_each(|event| client.publish(event));
    client.publish_all([&newer, &witness]);
    let request = vanish(&key, at, &[&relay.url()]);
    client.publish(&request);
    client.finds(json!({"authors": [key.hex]}), &[&newer, &request]);
    let ids: Vec<&str> = gone.iter().map(|event| event.id.as_str()).collect();
    client.finds(json!({"ids": ids}), &[]);
    client.counts(json!({"authors": [key.hex]}), 2);
    client.finds(json!({"#t": ["vanish"], "authors": [key.hex, other.hex]}), &[&witness]);
    gone.iter().chain([&note]).for_each(|event| is_refused_as_vanished(&mut client, event));
    client.refused(&key.event(1, at, json!([]), "unseen and as old"), VANISHED);
    client.publish(&key.event(1, at + 2, json!([]), "newer still"));
}

#[test]
fn wraps_for_the_author_vanish_too_and_stay_away() {
    let (key, relay) = (Key::named("vanish wraps"), Relay::shared());
    let at = now();
    let wrap = |at: u64, content: &str| Key::named("vanish wrapper").event(1059, at, json!([["p", key.hex]]), content);
    let held = [wrap(at - 200_000, "old"), wrap(at - 5, "new")];
    let mut client = relay.connect();
    client.publish_all(&held);
    client.authenticate(&key);
    client.finds(json!({"kinds": [1059], "#p": [key.hex]}), &[&held[1], &held[0]]);
    client.publish(&vanish(&key, at - 1, &["ALL_RELAYS"]));
    client.finds(json!({"kinds": [1059], "#p": [key.hex]}), &[]);
    held.iter().for_each(|event| is_refused_as_vanished(&mut client, event));
    // Dated at least two days before the request, so it is covered.
    is_refused_as_vanished(&mut client, &wrap(at - 173_000, "unseen"));
    client.publish(&wrap(at, "after the request"));
    client.counts(json!({"kinds": [1059], "#p": [key.hex]}), 1);
}

#[test]
fn a_request_that_does_not_name_this_relay_is_refused_and_changes_nothing() {
    let (key, relay) = (Key::named("vanish elsewhere"), Relay::shared());
    let note = key.event(1, now() - 10, json!([]), "");
    let mut client = relay.connect();
    client.publish(&note);
    let wrong = "invalid: the request does not name this relay, which is known as ws://localhost, ws://127.0.0.1 and \
                 ws://[::1] only";
    for relays in [&[][..], &["wss://another.example.com"], &["all_relays"], &["*"], &[""]] {
        client.refused(&vanish(&key, now(), relays), wrong);
    }
    client.finds(json!({"authors": [key.hex]}), &[&note]);
}

#[test]
fn this_relay_may_be_named_among_others_and_its_url_is_normalised() {
    let relay = Relay::start("[auth]\nurls = [\"wss://relay.example.com\", \"ws://hidden.onion/nostr\"]");
    let mut client = relay.connect();
    let good = ["WSS://Relay.Example.com:443/", "ws://relay.example.com.", "ws://hidden.onion:80/nostr/", "ALL_RELAYS"];
    for (n, url) in good.into_iter().enumerate() {
        let key = Key::named(&format!("vanish url {n}"));
        client.publish(&key.event(1, now() - 10, json!([]), ""));
        client.publish(&vanish(&key, now(), &["wss://another.example.com", url]));
        client.counts(json!({"authors": [key.hex], "kinds": [1]}), 0);
    }
    let key = Key::named("vanish url wrong");
    for url in [
        "wss://relay.example.com/other",
        "wss://relay.example.com:7777",
        "ws://hidden.onion",
        "relay.example.com",
        "ws://127.0.0.1",
    ] {
        let named = "wss://relay.example.com or ws://hidden.onion/nostr";
        let wrong = format!("invalid: the request does not name this relay, which is {named}");
        client.refused(&vanish(&key, now(), &[url]), &wrong);
    }
}

#[test]
fn a_deletion_has_no_effect_on_a_request_to_vanish() {
    let (key, relay) = (Key::named("delete a vanish"), Relay::shared());
    let at = now() - 10;
    let note = key.event(1, at - 1, json!([]), "");
    let request = vanish(&key, at, &["ALL_RELAYS"]);
    let mut client = relay.connect();
    client.publish(&note);
    client.publish(&request);
    client.publish(&key.delete(at + 1, json!([["e", request.id]])));
    client.counts(json!({"ids": [request.id]}), 1);
    is_refused_as_vanished(&mut client, &note);
}

#[test]
fn a_request_is_obeyed_by_a_relay_that_takes_no_other_event_from_its_author() {
    let key = Key::named("vanish from a restricted relay");
    let relay = Relay::start(&format!(
        "[auth]\nwrite = \"listed\"\n[access]\nallow_kinds = [1]\nlisted_pubkeys = [\"{}\"]\ndeny_pubkeys = [\"{}\"]\n[limits]\ncreated_at_lower_limit = 60\n",
        Key::named("somebody listed").hex,
        key.hex,
    ));
    let mut client = relay.connect();
    client.publish(&vanish(&key, now() - 1000, &["ALL_RELAYS"]));
    client.refused(&key.note("x"), "blocked: the author is not welcome here");
}

#[test]
fn a_later_request_covers_more_and_an_earlier_one_changes_nothing() {
    let (key, relay) = (Key::named("vanish twice"), Relay::shared());
    let at = now() - 100;
    let mut client = relay.connect();
    client.publish(&vanish(&key, at, &["ALL_RELAYS"]));
    let newer = key.event(1, at + 1, json!([]), "");
    client.publish(&newer);
    client.publish(&vanish(&key, at - 50, &["ALL_RELAYS"]));
    client.counts(json!({"ids": [newer.id]}), 1);
    client.refused(&key.event(1, at, json!([]), ""), VANISHED);
    client.publish(&vanish(&key, at + 1, &["ALL_RELAYS"]));
    client.counts(json!({"ids": [newer.id]}), 0);
    is_refused_as_vanished(&mut client, &newer);
}

#[test]
fn what_vanished_stays_away_after_the_relay_was_killed() {
    let relay = Relay::start("");
    let key = Key::named("vanish and kill");
    let at = now() - 100;
    let events: Vec<Signed> = (0..600).map(|n| key.event(1, at, json!([]), &n.to_string())).collect();
    let request = vanish(&key, at, &["ALL_RELAYS"]);
    let mut client = relay.connect();
    client.publish_all(&events);
    client.publish(&request);
    client.finds(json!({"authors": [key.hex]}), &[&request]);
    drop(client);
    let relay = relay.restart_killed("");
    let mut client = relay.connect();
    client.finds(json!({"authors": [key.hex]}), &[&request]);
    client.counts(json!({}), 1);
    is_refused_as_vanished(&mut client, &events[0]);
    is_refused_as_vanished(&mut client, &events[599]);
}
