//! A relay with the plugin of these tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// The reason that a client is given for an event that the plugin did not judge.
pub const FAILED: &str = "error: the relay could not ask its policy; try again later";

/// The command that runs the plugin of these tests.
pub fn command(mode: &str) -> String {
    format!("python3 {}/tests/plugins/plugin.py {mode}", env!("CARGO_MANIFEST_DIR"))
}

/// A configuration with a plugin and more keys of its section.
pub fn config(command: &str, more: &str) -> String {
    format!("[metrics]\nlisten = \"127.0.0.1:0\"\n[plugin]\ncommand = {}\n{more}\n", Value::from(command))
}

/// A relay whose plugin runs in this mode.
pub fn relay(mode: &str, more: &str) -> Relay {
    Relay::start(&config(&command(mode), more))
}

/// A relay whose plugin notes what it is asked in a file, and that file.
pub fn noting_relay(dir: &Path, mode: &str, more: &str) -> (Relay, PathBuf) {
    let file = dir.join("asked");
    let relay = relay(&format!("{mode} {}", file.display()), more);
    (relay, file)
}

/// What the plugin was asked, line by line.
pub fn asked(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(String::from).collect()
}

/// Notes by one author with these contents, all different.
pub fn notes(author: &str, contents: &[&str]) -> Vec<Signed> {
    let key = Key::named(author);
    let note = |(number, content): (u64, &&str)| key.event(1, now() - number, json!([]), content);
    (0..).zip(contents).map(note).collect()
}

/// The messages that publish these events.
pub fn messages(events: &[Signed]) -> Vec<String> {
    events.iter().map(Signed::message).collect()
}

/// Sends notes in one write and expects the answers that their contents ask for.
#[track_caller]
pub fn answered(client: &mut Client<'_>, author: &str, contents: &[&str]) {
    let notes = notes(author, contents);
    client.send_all(&messages(&notes));
    let answer = |(note, content): (&Signed, &&str)| match content.strip_prefix("reject ") {
        Some(reason) => note.refused(reason),
        None if *content == "die" => note.refused(FAILED),
        None => note.ok(),
    };
    client.expect_all(notes.iter().zip(contents).map(answer));
}

/// How many events the plugin gave this verdict.
pub fn verdicts(relay: &Relay, verdict: &str) -> u64 {
    relay.metric(&format!("weir_plugin_verdicts_total{{verdict=\"{verdict}\"}}"))
}

/// How often its processes failed for this cause.
pub fn failures(relay: &Relay, cause: &str) -> u64 {
    relay.metric(&format!("weir_plugin_failures_total{{cause=\"{cause}\"}}"))
}
