//! A backup holds what was decided, and a restore puts it in force.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::scene::{config, relay, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, hex};

/// Runs a command; its exit code, and what it printed and complained about.
fn run(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let ran = command.arg("--data").arg(data).args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
    (ran.status.code(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
}

#[track_caller]
fn good(data: &Path, arguments: &[&str]) -> String {
    let (code, said) = run(data, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

/// A relay with a banned author and a banned event, and a backup of it.
fn backed_up() -> (Relay, PathBuf, Signed) {
    let (relay, bob) = (relay(), Key::named("bob"));
    let bad = Key::named("carol").note("bad");
    relay.connect().publish(&bad);
    result(&relay, "banpubkey", json!([bob.hex, "spam"]));
    result(&relay, "banevent", json!([bad.id, "doxing"]));
    result(&relay, "changerelayname", json!(["By the sea"]));
    let backup = relay.data().with_file_name("backup");
    good(&relay.data(), &["backup", &backup.to_string_lossy()]);
    (relay, backup, bad)
}

#[test]
fn bans_survive_a_restore_with_their_audit() {
    let (relay, backup, bad) = backed_up();
    let bob = Key::named("bob");
    result(&relay, "unbanpubkey", json!([bob.hex]));
    let dir = tempfile::tempdir().expect("a directory");
    let to = backup.to_string_lossy();
    good(&relay.data(), &["backup", &to]);
    let data = dir.path().join("data");
    let said = good(&data, &["restore", &to, "--run", "1"]);
    assert!(said.contains(&format!("decisions of admins are restored to {}", data.join("management").display())));
    let restored = Relay::start_in(dir.path(), &config());
    let mut client = restored.connect();
    client.refused(&bob.note("hello"), "blocked: the author is not welcome here");
    client.refused(&bad, "blocked: this event is not welcome here");
    assert_eq!(restored.information()["name"], "By the sea");
    let audit = result(&restored, "audit", json!([]));
    assert_eq!(audit.as_array().expect("acts").len(), 3);
    assert_eq!(result(&restored, "undo", json!([1])), json!(true));
    client.publish(&bob.note("hello again"));
    // The state after the second run.
    let dir = tempfile::tempdir().expect("a directory");
    good(&dir.path().join("data"), &["restore", &to]);
    let restored = Relay::start_in(dir.path(), &config());
    restored.connect().publish(&bob.note("welcome there"));
    restored.connect().refused(&bad, "blocked: this event is not welcome here");
}

#[test]
fn decisions_that_are_there_already_stay_and_a_restore_says_so() {
    let (relay, backup, _) = backed_up();
    let (dir, carol) = (tempfile::tempdir().expect("a directory"), Key::named("carol"));
    let (data, elsewhere) = (dir.path().join("data"), dir.path().join("decisions"));
    let file = dir.path().join("weir.toml");
    std::fs::write(&file, format!("[management]\nstate = {:?}\n", elsewhere.display())).expect("a file");
    let config = file.to_string_lossy();
    std::fs::create_dir_all(dir.path().join("other")).expect("a directory");
    good(&dir.path().join("other"), &["--config", &config, "ban", &carol.hex]);
    let before = std::fs::read(elsewhere.join("audit.jsonl")).expect("the audit");
    let said = good(&data, &["--config", &config, "restore", &backup.to_string_lossy()]);
    assert!(said.contains("has other decisions of admins, which stay"), "{said}");
    assert_eq!(std::fs::read(elsewhere.join("audit.jsonl")).expect("the audit"), before);
    drop(relay);
}

/// The part of a backup with the decisions, made of these files, and its entry in the manifest.
fn attach(backup: &Path, files: &[(&str, &[u8])]) {
    let manifest = backup.join("MANIFEST");
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    let mut json: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let mut part = b"weir\0bak".to_vec();
    for (name, bytes) in files {
        part.push(name.len() as u8);
        part.extend((bytes.len() as u32).to_be_bytes());
        part.extend(name.as_bytes());
        part.extend(*bytes);
    }
    let entry = &mut json["states"][0]["attached"];
    std::fs::write(backup.join(entry["name"].as_str().expect("a name")), &part).expect("a file");
    entry["bytes"] = part.len().into();
    entry["rows"] = files.len().into();
    entry["sha256"] = hex(&Sha256::digest(&part)).into();
    let line = json.to_string();
    std::fs::write(manifest, format!("{line}\n{}\n", hex(&Sha256::digest(&line)))).expect("a file");
}

#[test]
fn decisions_that_are_damaged_or_forged_keep_a_backup_from_being_restored() {
    let (relay, backup, _) = backed_up();
    let audit = std::fs::read(relay.data().join("management/audit.jsonl")).expect("the audit");
    let dir = tempfile::tempdir().expect("a directory");
    let (data, from) = (dir.path().join("data"), backup.to_string_lossy().into_owned());
    let foreign = "attached-1.weir is damaged: it holds a file that cannot be one of a backup";
    let many: Vec<String> = (0..17).map(|number| format!("a{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let half = &audit[audit.len() / 2..];
    for (files, why) in [
        (vec![("../weir.toml", &audit[..])], foreign),
        (vec![("a/b", &audit[..])], foreign),
        (vec![(".lock", &audit[..])], foreign),
        (vec![("", &audit[..])], foreign),
        (vec![("audit.jsonl", &audit[..]), ("audit.jsonl", &audit[..])], foreign),
        (many, foreign),
        (vec![("lock", &audit[..])], "\"lock\" is not a file of decisions"),
        (vec![("audit.jsonl", half)], "audit.jsonl:1: "),
        (vec![("state.jsonl", &audit[..])], "state.jsonl:1: "),
    ] {
        attach(&backup, &files);
        let (code, said) = run(&data, &["restore", &from]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(why) && !data.join("management").exists(), "{why}: {said}");
        assert!(!data.join("management.restored").exists());
    }
    attach(&backup, &[("audit.jsonl", &audit)]);
    good(&data, &["backup", &from, "--verify"]);
    let part = backup.join("attached-1.weir");
    let mut bytes = std::fs::read(&part).expect("a part");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&part, bytes).expect("a part");
    for arguments in [["backup", &from, "--verify"].as_slice(), &["restore", &from]] {
        let (code, said) = run(&data, arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("attached-1.weir is damaged: the SHA-256 does not match"), "{said}");
    }
    assert!(!data.join("management").exists());
}
