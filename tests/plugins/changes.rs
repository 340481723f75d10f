//! How a plugin is exchanged, tried out and stopped.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::scene::{FAILED, command, config, notes, relay, verdicts};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// Puts a program in place of another one at once, as an installation does.
fn install(file: &Path, mode: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("#!/bin/sh\nexec {}\n", command(mode))).expect("written");
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).expect("executable");
    std::fs::rename(&new, file).expect("installed");
}

/// A program that gives every event the same verdict.
fn always(action: &str) -> String {
    let answer = r#"json.dumps({"id": json.loads(line)["event"]["id"], "action": sys.argv[1]})"#;
    let script = format!("import json, sys; [print({answer}, flush=True) for line in sys.stdin]");
    format!("python3 -c '{script}' {action}")
}

const REFUSED: &str = "blocked: the relay's policy does not allow this event";

#[test]
fn a_program_whose_file_changes_is_started_again_and_no_event_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("plugin");
    std::fs::write(&file, format!("#!/bin/sh\n{}\n", always("accept"))).expect("written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("executable");
    let relay = Relay::start(&config(&file.display().to_string(), ""));
    let mut client = relay.connect();
    client.publish(&Key::named("before").note("reject blocked: no"));
    install(&file, "judge");
    let mut number = 0;
    loop {
        number += 1;
        let note = Key::named(&format!("changed {number}")).note("reject blocked: no");
        client.send(note.message());
        let answer = client.next();
        if answer == note.refused("blocked: no") {
            break;
        }
        assert_eq!(answer, note.ok());
    }
    relay.wait_for_log("the plugin's file has changed");
    assert_eq!(verdicts(&relay, "failed"), 0);
}

#[test]
fn a_reload_exchanges_the_plugin_turns_it_off_and_on_and_answers_what_waits() {
    let relay = relay("slow 300", "");
    let mut client = relay.connect();
    let waiting = notes("waiting", &["one", "two", "reject blocked: three", "four"]);
    client.send_all(&waiting.iter().map(Signed::message).collect::<Vec<_>>());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 4);
    relay.reload(&config(&always("reject"), ""));
    relay.wait_for_log("the configuration was reloaded");
    // The first is in flight with the former plugin, which answers it; the others go to the new one.
    let refused = |note: &Signed| note.refused(REFUSED);
    client.expect_all([waiting[0].ok(), refused(&waiting[1]), refused(&waiting[2]), refused(&waiting[3])]);
    relay.reload(&config("", ""));
    relay.wait_for_log("the configuration was reloaded");
    client.publish(&Key::named("off").note("reject blocked: no"));
    relay.until(|| relay.metric("weir_plugin_processes") == 0);
    relay.reload(&config(&command("judge"), "workers = 2"));
    relay.wait_for_log("the configuration was reloaded");
    client.refused(&Key::named("on").note("reject blocked: no"), "blocked: no");
    assert_eq!(verdicts(&relay, "failed"), 0);
}

#[test]
fn a_configuration_with_a_mistake_leaves_the_plugin_in_force() {
    let relay = relay("judge", "");
    let mut client = relay.connect();
    client.refused(&Key::named("first").note("reject blocked: no"), "blocked: no");
    relay.reload(&config(&always("accept"), "workers = 0"));
    relay.wait_for_log("plugin.workers: 0 is not between 1 and 64");
    client.refused(&Key::named("second").note("reject blocked: no"), "blocked: no");
}

#[test]
fn a_dry_run_counts_and_lets_everything_pass_even_when_the_plugin_hangs() {
    let relay = relay("judge", "dry_run = true\ntimeout_ms = 3600000");
    let mut client = relay.connect();
    for note in notes("tried", &["one", "reject blocked: two", "shadowReject", "hang"]) {
        client.publish(&note);
    }
    relay.until(|| verdicts(&relay, "shadow-reject") == 1);
    for number in 0..1100 {
        client.publish(&Key::named("after").note(&format!("note {number}")));
    }
    assert_eq!(["accept", "reject", "shadow-reject", "failed"].map(|word| verdicts(&relay, word)), [1, 1, 1, 0]);
    assert_eq!(verdicts(&relay, "skipped"), 1100 - 1023, "1,024 wait, with the one that hangs");
}

#[test]
fn sources_without_clients_leave_them_alone() {
    let relay = relay("judge", "sources = [\"import\"]");
    relay.connect().publish(&Key::named("alone").note("reject blocked: no"));
    assert_eq!(relay.metric("weir_plugin_processes"), 0);
}

#[test]
fn a_relay_that_stops_answers_what_the_plugin_still_judges() {
    let relay = relay("slow 400", "");
    let mut client = relay.connect();
    let notes = notes("stopping", &["one", "reject blocked: two", "three"]);
    client.send_all(&notes.iter().map(Signed::message).collect::<Vec<_>>());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 3);
    relay.signal("TERM");
    client.expect_all([notes[0].ok(), notes[1].refused("blocked: two"), notes[2].ok()]);
    assert_eq!(client.closing_code(), 1012);
    drop(client);
    relay.wait_for_exit();
}

#[test]
fn a_relay_stops_although_the_plugin_hangs() {
    let relay = Relay::start(&format!("server.drain_timeout_s = 1\n{}", config(&command("judge"), "")));
    let mut client = relay.connect();
    client.send(Key::named("hangs").note("hang").message());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 1);
    relay.signal("TERM");
    drop(client);
    relay.wait_for_exit();
}

#[test]
fn a_plugin_that_can_never_start_is_named_when_the_relay_starts() {
    let relay = Relay::start(&config("/nonexistent/plugin", ""));
    let line = relay.wait_for_log("/nonexistent/plugin: ");
    assert!(line.contains("plugin.command"), "{line}");
    relay.connect().refused(&Key::named("never").note("x"), FAILED);
}

/// Whether a process runs, and is not only waiting to be reaped.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_relay_that_is_killed_keeps_what_it_acknowledged_and_leaves_no_plugin_running() {
    let plugin = config(&command("judge"), "");
    let relay = Relay::start(&plugin);
    let line = relay.wait_for_log("the plugin was started");
    let pid = line.split("pid=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a number").to_owned();
    let kept = notes("kept", &["one", "reject blocked: two", "three", "hang"]);
    let mut client = relay.connect();
    client.publish(&kept[0]);
    client.refused(&kept[1], "blocked: two");
    client.publish(&kept[2]);
    client.send(kept[3].message());
    relay.until(|| relay.metric("weir_queue_entries{queue=\"plugin\"}") == 1);
    drop(client);
    assert!(is_running(&pid));
    let relay = relay.restart_killed(&plugin);
    relay.connect().finds(json!({"authors": [Key::named("kept").hex]}), &[&kept[0], &kept[2]]);
    relay.until(|| !is_running(&pid));
}
