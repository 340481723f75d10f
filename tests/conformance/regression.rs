//! Defects of this relay, each with the test that found it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Imports events with another process while the relay runs.
fn import(relay: &Relay, events: &[&Signed]) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["import", "--data"])
        .arg(relay.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the import starts");
    let mut input = child.stdin.take().expect("a pipe");
    for event in events {
        writeln!(input, "{}", event.text).expect("a line is written");
    }
    drop(input);
    assert!(child.wait().expect("the import ends").success());
}

#[test]
fn events_of_another_process_are_delivered_live() {
    let relay = Relay::start("");
    let key = Key::named("imported live");
    let mut follower = relay.connect();
    follower.open("s", &[json!({"authors": [key.hex]})]);
    let event = key.note("from a file");
    import(&relay, &[&event]);
    follower.expect(&event.frame("s"));
    follower.finds(json!({"ids": [event.id]}), &[&event]);
}

/// The live thread retried an event of another process that nobody may see any more, and delivered nothing else until
/// the event was removed, up to 5 s later.
#[test]
fn an_event_that_vanished_before_live_saw_it_holds_up_nothing() {
    let relay = Relay::start("");
    let mut follower = relay.connect();
    follower.open("s", &[json!({"kinds": [7]})]);
    follower.wait_at_most(Duration::from_secs(3));
    let mut client = relay.connect();
    for round in 0..4 {
        let key = Key::named(&format!("vanished before live {round}"));
        let at = now() - 10;
        let imported = key.event(1, at, json!([]), "imported");
        let request = key.event(62, at, json!([["relay", "ALL_RELAYS"]]), "");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| import(&relay, &[&imported]));
            // Right after the other process commits, before the live thread looks for it.
            while client.count(&json!({"ids": [imported.id]}))["count"] == json!(0) {}
            client.publish(&request);
            other.join().expect("the import ended well");
        });
        let marker = key.event(7, now(), json!([]), "+");
        client.publish(&marker);
        follower.expect(&marker.frame("s"));
    }
}
