//! What a plugin is asked and what its answers mean, on the wire.

use serde_json::{Value, json};

use crate::scene::{FAILED, answered, asked, notes, noting_relay, relay, verdicts};
use crate::support::wire::{Key, Signed, now};

/// An event's JSON with its keys in alphabetical order.
fn sorted(event: &str) -> String {
    let event: Value = serde_json::from_str(event).expect("JSON");
    let keys = ["content", "created_at", "id", "kind", "pubkey", "sig", "tags"];
    let fields: Vec<String> = keys.iter().map(|key| format!("\"{key}\":{}", event[key])).collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn a_plugin_is_asked_as_strfry_asks_it_and_its_verdicts_reach_the_client() {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", "");
    let mut client = relay.connect();
    let contents = ["hello \u{e9}\n", "reject blocked: not on white-list", "reject just no", "reject", "shadowReject"];
    let [hello, listed, plain, silent, shadow] = &notes("asked", &contents)[..] else { unreachable!("five") };
    let before = now();
    client.publish(hello);
    client.refused(listed, "blocked: not on white-list");
    client.refused(plain, "blocked: just no");
    client.refused(silent, "blocked: the relay's policy does not allow this event");
    client.ask(shadow.message(), &shadow.ok());
    client.finds(json!({"authors": [Key::named("asked").hex]}), &[hello]);
    let key = Key::named("proven");
    client.authenticate(&key);
    let own = key.note("hello");
    client.publish(&own);

    let lines = asked(&file);
    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let received: Vec<u64> = told.iter().map(|line| line["receivedAt"].as_u64().expect("a time")).collect();
    assert!(received.iter().all(|time| (before..=now()).contains(time)), "{received:?}");
    let line = |authed: &str, event: &str, received: u64| {
        format!(
            r#"{{{authed}"event":{},"receivedAt":{received},"sourceInfo":"127.0.0.1","sourceType":"IP4","type":"new"}}"#,
            sorted(event)
        )
    };
    let wanted = [hello, listed, plain, silent, shadow, &own];
    let proven = format!("\"authed\":\"{}\",", key.hex);
    let wanted: Vec<String> = (0..)
        .zip(wanted)
        .zip(received)
        .map(|((place, event), received)| line(if place == 5 { &proven } else { "" }, &event.text, received))
        .collect();
    assert_eq!(lines, wanted);
    assert_eq!(["accept", "reject", "shadow-reject", "failed"].map(|word| verdicts(&relay, word)), [2, 3, 1, 0]);
}

#[test]
fn a_plugin_is_not_asked_about_what_is_refused_or_known_or_must_be_obeyed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", "");
    let mut client = relay.connect();
    let key = Key::named("known");
    let note = key.note("once");
    client.publish(&note);
    client.ask(note.message(), &note.duplicate());
    let forged = note.with("once", "twice");
    client.send(forged.message());
    assert!(client.next().contains("false,\"invalid:"));
    let other = Key::named("other").note("x");
    let signature = |text: &str| text.split("\"sig\":\"").nth(1).expect("a signature").to_owned();
    let wrong = key.note("wrong");
    let wrong = wrong.with(&signature(&wrong.text), &signature(&other.text));
    client.refused(&wrong, "invalid: the signature is wrong");
    let vanish = key.event(62, now(), json!([["relay", "ALL_RELAYS"]]), "reject me if you can");
    client.publish(&vanish);
    assert_eq!(asked(&file).len(), 1);
}

#[test]
fn ephemeral_events_are_judged() {
    let relay = relay("judge", "");
    let (mut reader, mut writer) = (relay.connect(), relay.connect());
    reader.open("live", &[json!({"kinds": [20001]})]);
    let key = Key::named("ephemeral");
    let refused = key.event(20001, now(), json!([]), "reject blocked: no");
    let accepted = key.event(20001, now(), json!([]), "yes");
    writer.refused(&refused, "blocked: no");
    writer.publish(&accepted);
    reader.expect(&accepted.frame("live"));
    reader.is_silent();
}

#[test]
fn an_unknown_action_is_no_verdict() {
    let relay = relay("judge", "");
    let mut client = relay.connect();
    let [unknown, good] = &notes("unknown", &["unknown", "good"])[..] else { unreachable!("two") };
    client.refused(unknown, FAILED);
    client.publish(good);
    assert_eq!(verdicts(&relay, "failed"), 1);
}

#[test]
fn rubbish_and_second_answers_between_the_answers_change_nothing() {
    let relay = relay("judge", "");
    let mut client = relay.connect();
    for (number, content) in ["rubbish", "twice", "rubbish", "twice"].into_iter().enumerate() {
        client.publish(&Key::named(&format!("rubbish {number}")).note(content));
    }
    client.refused(&Key::named("rubbish").note("reject blocked: no"), "blocked: no");
    assert_eq!(relay.metric("weir_plugin_rubbish_total"), 14);
    relay.wait_for_log("the plugin printed a line that is not used");
}

#[test]
fn answers_without_an_id_are_taken_one_by_one() {
    let relay = relay("no-id", "in_flight = 50");
    let mut client = relay.connect();
    answered(&mut client, "nameless", &["one", "reject blocked: no", "three", "four", "reject blocked: no"]);
}

#[test]
fn events_of_a_connection_keep_their_order_when_answers_come_out_of_order() {
    let relay = relay("reverse", "in_flight = 50");
    let mut client = relay.connect();
    client.publish(&Key::named("opener").note("first"));
    let six = ["one", "reject blocked: two", "three", "four", "five", "reject blocked: six"];
    answered(&mut client, "out of order", &six);
    // The newer version is judged first.
    let key = Key::named("profile");
    let profiles = [5, 4, 3].map(|ago| key.event(0, now() - ago, json!([]), &format!("version {ago}")));
    client.send_all(&profiles.iter().map(Signed::message).collect::<Vec<_>>());
    profiles.iter().for_each(|profile| client.expect(&profile.ok()));
    client.finds(json!({"kinds": [0], "authors": [key.hex]}), &[&profiles[2]]);
}

#[test]
fn one_process_is_asked_about_all_events_of_an_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", "workers = 3");
    relay.until(|| relay.metric("weir_plugin_processes") == 3);
    let mut client = relay.connect();
    let all: Vec<_> = (0..40).map(|number| Key::named(&format!("many {number}")).note("x")).collect();
    client.publish_all(&all);
    let asked: Vec<Value> = asked(&file).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids: Vec<&str> = asked.iter().filter_map(|line| line["event"]["id"].as_str()).collect();
    assert_eq!(ids, all.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), "one process notes them in order");
}
