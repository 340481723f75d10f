//! The same acts as commands, on a relay that runs and on one that does not.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::scene::{config, relay, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// Runs a command on the store in `data`; its exit code and what it printed.
fn run(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let ran = command.arg("--data").arg(data).args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// The output of a command that must succeed.
#[track_caller]
fn good(data: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(data, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    out
}

fn publish(relay: &Relay, events: &[Signed]) {
    let mut client = relay.connect();
    for event in events {
        client.send(event.message());
        client.expect(&event.ok());
    }
}

/// The audit, oldest first: who, what, about whom.
fn audited(data: &Path) -> Vec<(u64, String, String)> {
    let lines = good(data, &["audit", "--json"]);
    let acts = lines.lines().rev().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let text = |act: &Value, name: &str| act[name].as_str().expect("a text").to_owned();
    acts.map(|act| (act["number"].as_u64().expect("a number"), text(&act, "method"), text(&act, "subject"))).collect()
}

#[test]
fn a_command_acts_on_the_relay_that_runs() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let data = relay.data();
    assert_eq!(good(&data, &["ban", &bob.hex, "192.0.2.0/24", "kind:7", "--reason", "spam"]), "");
    let note = bob.note("hello");
    let mut client = relay.connect();
    client.send(note.message());
    client.expect(&note.refused("blocked: the author is not welcome here"));
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([{ "pubkey": bob.hex, "reason": "spam" }]));
    let key = format!("key:{}", bob.hex);
    assert_eq!(good(&data, &["ban"]), format!("{key}  spam\naddress:192.0.2.0/24  spam\nkind:7\n"));
    assert_eq!(good(&data, &["audit", "--undo", "1"]), "");
    client.send(note.message());
    client.expect(&note.ok());
    assert_eq!(good(&data, &["unban", "192.0.2.0/24"]), "");
    assert_eq!(good(&data, &["allow", &bob.hex]), "");
    assert_eq!(good(&data, &["allow"]), format!("{key}\n"));
    assert_eq!(good(&data, &["ban"]), "kind:7\n");
    let acts = [("banpubkey", &*key), ("blockip", "address:192.0.2.0/24"), ("disallowkind", "kind:7"), ("undo", &key)];
    let acts = acts.into_iter().chain([("unblockip", "address:192.0.2.0/24"), ("allowpubkey", &key)]);
    let acts = (1..).zip(acts).map(|(number, (method, subject))| (number, method.to_owned(), subject.to_owned()));
    assert_eq!(audited(&data), acts.collect::<Vec<_>>());
    let (code, _, err) = run(&data, &["audit", "--undo", "1"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with(&format!("weir: {key} was decided again by act 6; undo that first")), "{err}");
    let uid = rustix::process::getuid().as_raw();
    let line = good(&data, &["audit", "--count", "1", "--skip", "5"]);
    assert!(line.contains(&format!("uid:{uid}  banpubkey {key}: spam")), "{line}");
    assert_eq!(good(&data, &["manage", "changerelayname", "By the sea"]), "true\n");
    assert_eq!(good(&data, &["manage", "listbannedpubkeys"]), "[]\n");
}

#[test]
fn a_command_without_a_relay_acts_on_its_files() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let data = relay.data();
    let [bad, fine] = ["bad", "fine"].map(|text| bob.note(text));
    publish(&relay, &[bad.clone(), fine.clone()]);
    relay.signal("TERM");
    let relay = relay.wait_for_exit();
    assert!(!data.join("admin.sock").exists(), "the socket goes with the relay");
    good(&data, &["ban", &format!("event:{}", bad.id), "--reason", "doxing"]);
    good(&data, &["ban", "192.0.2.7"]);
    assert_eq!(good(&data, &["ban"]), format!("event:{}  doxing\naddress:192.0.2.7\n", bad.id));
    let relay = relay.restart(&config());
    assert_eq!(result(&relay, "listblockedips", json!([])), json!([{ "ip": "192.0.2.7", "reason": "" }]));
    // The start removes what was banned meanwhile.
    relay.until(|| !good(&data, &["export"]).contains(&bad.id));
    assert!(good(&data, &["export"]).contains(&fine.id));
    let mut client = relay.connect();
    client.send(bad.message());
    client.expect(&bad.refused("blocked: this event is not welcome here"));
}

#[test]
fn what_a_command_recorded_beside_a_relay_that_it_could_not_reach_takes_effect() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let data = relay.data();
    let [bad, late] = ["bad", "late"].map(|text| bob.note(text));
    publish(&relay, std::slice::from_ref(&bad));
    std::fs::remove_file(data.join("admin.sock")).expect("the socket");
    good(&data, &["ban", &format!("event:{}", bad.id)]);
    // An act that changes nothing reads what the command recorded.
    assert_eq!(result(&relay, "changerelayname", json!([""])), json!(true));
    relay.until(|| !good(&data, &["export"]).contains(&bad.id));
    good(&data, &["ban", &bob.hex]);
    assert_eq!(result(&relay, "changerelayname", json!([""])), json!(true));
    let mut client = relay.connect();
    relay.until(|| {
        client.send(late.message());
        client.next() == late.refused("blocked: the author is not welcome here")
    });
}

#[test]
fn a_command_that_is_told_the_store_alone_finds_decisions_that_are_kept_elsewhere() {
    let (bob, state) = (Key::named("bob"), tempfile::tempdir().expect("a directory"));
    let elsewhere = config() + &format!("state = \"{}\"\n", state.path().join("decisions").display());
    let relay = Relay::start(&elsewhere);
    let data = relay.data();
    relay.signal("TERM");
    let relay = relay.wait_for_exit();
    good(&data, &["ban", &bob.hex]);
    let note = bob.note("hello");
    // With another directory and without.
    let mut relay = relay.restart(&elsewhere);
    for config in [elsewhere, config()] {
        let mut client = relay.connect();
        client.send(note.message());
        client.expect(&note.refused("blocked: the author is not welcome here"));
        drop(client);
        relay = relay.restart_killed(&config);
    }
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([{ "pubkey": bob.hex, "reason": "" }]));
}

#[test]
fn a_purge_counts_first_and_then_removes_what_is_stored_of_a_key() {
    let (relay, bob, carol) = (relay(), Key::named("bob"), Key::named("carol"));
    let data = relay.data();
    let notes: Vec<_> = (0..700).map(|number| bob.note(&format!("note {number}"))).collect();
    let [kept, again] = [carol.note("kept"), bob.note("again")];
    publish(&relay, &notes);
    publish(&relay, std::slice::from_ref(&kept));
    relay.until(|| good(&data, &["export"]).lines().count() == 701);
    let counted = good(&data, &["purge", &bob.hex]);
    assert!(counted.starts_with(&format!("700 events of key:{} are stored, ", bob.hex)), "{counted}");
    assert_eq!(good(&data, &["export"]).lines().count(), 701, "nothing was removed");
    let purged = good(&data, &["purge", &bob.hex, "--yes", "--reason", "spam"]);
    assert!(purged.ends_with("700 events removed\n"), "{purged}");
    assert_eq!(good(&data, &["export"]), format!("{}\n", kept.text));
    publish(&relay, &[again, notes[0].clone()]);
    let number = audited(&data).len() as u64;
    assert_eq!(audited(&data), [(number, "purge".to_owned(), format!("key:{}", bob.hex))]);
    assert_eq!(run(&data, &["audit", "--undo", "1"]).2, "weir: act 1 changed no decision: there is nothing to undo\n");
    relay.signal("TERM");
    drop(relay.wait_for_exit());
}

#[test]
fn a_purge_without_a_relay_removes_too() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let data = relay.data();
    publish(&relay, &[bob.note("one"), bob.note("two")]);
    relay.signal("TERM");
    let relay = relay.wait_for_exit();
    let purged = good(&data, &["purge", "kind:1", "--yes"]);
    assert!(purged.ends_with("2 events removed\n"), "{purged}");
    assert_eq!((good(&data, &["export"]).as_str(), audited(&data).len()), ("", 1));
    assert_eq!(run(&data, &["purge", "192.0.2.7"]).2, "weir: address:192.0.2.7 has no stored events\n");
    drop(relay);
}
