//! `weir import` with a plugin.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::scene::{asked, command, config, notes};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Runs the command on a file with these events. Returns what it printed on both outputs.
fn import(dir: &Path, config: &str, events: &[Signed]) -> String {
    let (file, input) = (dir.join("weir.toml"), dir.join("events.jsonl"));
    std::fs::write(&file, config).expect("written");
    let lines: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
    std::fs::write(&input, lines.join("\n")).expect("written");
    let run = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["import", "--show-refused", "--config"])
        .arg(&file)
        .arg("--data")
        .arg(dir.join("data"))
        .arg(&input)
        .output()
        .expect("the binary runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn events() -> Vec<Signed> {
    let contents = ["one", "reject blocked: two", "shadowReject", "four", "die", "six"];
    let vanish = Key::named("gone").event(62, now(), serde_json::json!([["relay", "ALL_RELAYS"]]), "reject");
    [notes("imported", &contents), vec![vanish]].concat()
}

#[test]
fn an_import_stores_what_the_plugin_accepts_and_says_why_it_does_not_store_the_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("asked");
    let command = command(&format!("judge {}", file.display()));
    let said = import(dir.path(), &config(&command, "sources = [\"import\"]\nworkers = 2"), &events());
    for line in [
        "  stored: 4",
        "  refused: 3",
        "line 2: refused: the plugin refused it: blocked: two",
        "line 3: refused: the plugin dropped it",
        "line 5: refused: the plugin failed and did not judge it",
    ] {
        assert!(said.lines().any(|said| said == line), "{line} in {said}");
    }
    let told: Value = serde_json::from_str(&asked(&file)[0]).expect("JSON");
    assert_eq!((told["sourceType"].as_str(), told["sourceInfo"].as_str()), (Some("Import"), Some("")));
    let relay = Relay::start_in(dir.path(), "");
    let good: Vec<Signed> = [0, 3, 5].map(|place| events()[place].clone()).to_vec();
    let found = relay.connect().query(&[serde_json::json!({"authors": [Key::named("imported").hex]})]);
    let contents = |texts: &[&str]| -> Vec<String> {
        let read = |text: &&str| serde_json::from_str::<Value>(text).expect("JSON")["content"].to_string();
        texts.iter().map(read).collect()
    };
    let good: Vec<&str> = good.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(contents(&found.iter().map(String::as_str).collect::<Vec<_>>()), contents(&good));
}

#[test]
fn an_import_does_not_ask_the_plugin_unless_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = import(dir.path(), &config(&command("judge"), ""), &events());
    assert!(said.contains("  stored: 7"), "{said}");
}
