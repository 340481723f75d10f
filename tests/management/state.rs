//! What is left of decisions after a restart, a kill, a reload, or damage.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::scene::admin;
use super::scene::{call_as, config, relay, result};
use crate::support::wire::Key;

#[test]
fn decisions_outlive_a_restart_and_a_reload() {
    let (relay, bob) = (relay(), Key::named("bob"));
    assert_eq!(result(&relay, "banpubkey", json!([bob.hex, "spam"])), json!(true));
    relay.reload(&(config() + "[info]\nname = \"other\"\n"));
    relay.wait_for_log("the configuration was reloaded");
    let note = bob.note("hello");
    let refused = note.refused("blocked: the author is not welcome here");
    let mut client = relay.connect();
    client.send(note.message());
    client.expect(&refused);
    drop(client);
    let relay = relay.restart_killed(&config());
    let mut client = relay.connect();
    client.send(note.message());
    client.expect(&refused);
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([{ "pubkey": bob.hex, "reason": "spam" }]));
}

#[test]
fn a_relay_that_is_killed_between_acts_keeps_each_that_was_answered() {
    let mut relay = relay();
    let mut banned: Vec<String> = Vec::new();
    for round in 0..3 {
        let acts = std::thread::scope(|scope| {
            let shared = &relay;
            let acting = scope.spawn(move || {
                let mut done = Vec::new();
                for number in 0.. {
                    let key = Key::named(&format!("{round} {number}")).hex;
                    let ban = || call_as(shared, &admin(), "banpubkey", json!([key]));
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(ban)) {
                        Ok((200, answer)) if answer == json!({ "result": true }) => done.push(key),
                        _ => break,
                    }
                }
                done
            });
            relay.until(|| lines(&relay).len() >= banned.len() + 10);
            relay.signal("KILL");
            acting.join().expect("no panic")
        });
        assert!(!acts.is_empty());
        banned.extend(acts);
        relay = relay.restart_killed(&config());
        let listed = result(&relay, "listbannedpubkeys", json!([]));
        let listed: Vec<&str> =
            listed.as_array().expect("a list").iter().filter_map(|one| one["pubkey"].as_str()).collect();
        assert!(banned.iter().all(|key| listed.contains(&key.as_str())), "every act that was answered is there");
        let audited: Vec<String> = lines(&relay)
            .iter()
            .rev()
            .map(|line| {
                let act: Value = serde_json::from_str(line).expect("a line of JSON");
                act["subject"].as_str().expect("a subject").trim_start_matches("key:").to_owned()
            })
            .collect();
        assert_eq!(listed, audited, "the audit and the state agree");
        banned = audited;
    }
}

#[test]
fn what_is_banned_is_not_imported_either() {
    let (relay, bob) = (relay(), Key::named("bob"));
    let [by_bob, banned, fine] =
        [bob.note("by bob"), Key::named("carol").note("bad"), Key::named("carol").note("fine")];
    result(&relay, "banpubkey", json!([bob.hex]));
    result(&relay, "banevent", json!([banned.id]));
    let file = relay.data().with_file_name("events.jsonl");
    std::fs::write(&file, [&by_bob, &banned, &fine].map(|event| event.text.clone() + "\n").concat()).expect("a file");
    let mut import = Command::new(env!("CARGO_BIN_EXE_weir"));
    let ran = import.arg("--data").arg(relay.data()).args(["import", "--show-refused"]).arg(&file).output();
    let ran = ran.expect("the binary runs");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout);
    for text in ["the author is not welcome here", "this event is not welcome here", "stored: 1", "refused: 2"] {
        assert!(said.contains(text), "{text} in {said}");
    }
}

/// The whole lines of the audit.
fn lines(relay: &crate::support::relay::Relay) -> Vec<String> {
    let text = std::fs::read_to_string(relay.data().join("management/audit.jsonl")).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(String::from).collect()
}

#[test]
fn a_damaged_file_keeps_the_relay_from_starting_and_is_named_with_its_line() {
    let relay = relay();
    result(&relay, "banpubkey", json!([Key::named("bob").hex]));
    result(&relay, "banpubkey", json!([Key::named("carol").hex]));
    let (data, audit) = (relay.data(), relay.data().join("management/audit.jsonl"));
    relay.signal("TERM");
    let relay = relay.wait_for_exit();
    let text = std::fs::read_to_string(&audit).expect("the audit");
    std::fs::write(&audit, text.replacen("\"number\":2", "\"number\":\"2\"", 1)).expect("the audit");
    let ran = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("management/audit.jsonl:2: invalid type"), "{said}");
    assert_eq!(ran.status.code(), Some(1));
    std::fs::write(&audit, text).expect("the audit");
    assert_eq!(result(&relay.restart(&config()), "listbannedpubkeys", json!([])).as_array().expect("a list").len(), 2);
}
