//! The local socket against clients that misbehave.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::json;

use super::scene::{config, relay, result};
use crate::support::preload::compiled;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, now};

fn connect(relay: &Relay) -> UnixStream {
    let stream = UnixStream::connect(relay.data().join("admin.sock")).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// Sends bytes and reads one line.
fn ask(stream: &mut UnixStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    line
}

#[test]
fn only_the_owner_may_open_the_socket_and_it_takes_the_place_of_one_that_was_left() {
    let relay = relay();
    let mode = |relay: &Relay| {
        let file = std::fs::metadata(relay.data().join("admin.sock")).expect("the socket");
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode(&relay), 0o600);
    let relay = relay.restart_killed(&config());
    assert_eq!(mode(&relay), 0o600);
    assert_eq!(ask(&mut connect(&relay), b"{\"method\":\"listblockedips\"}\n"), "{\"result\":[]}\n");
    let left: Vec<_> = std::fs::read_dir(relay.data()).expect("the directory").flatten().collect();
    assert!(left.iter().all(|file| !file.file_name().to_string_lossy().starts_with(".admin-")), "{left:?}");
}

#[test]
fn rubbish_is_answered_and_a_line_without_an_end_is_cut_off() {
    let relay = relay();
    let mut stream = connect(&relay);
    for rubbish in ["\n", "hello\n", "[]\n", "{\"method\":5}\n", "\u{0}\u{1}\n", "{\"method\":\"x\",\"params\":{}}\n"] {
        let answer = ask(&mut stream, rubbish.as_bytes());
        assert!(answer.starts_with("{\"error\":\"the body is not a request"), "{answer}");
    }
    assert!(ask(&mut stream, b"\xff\xfe\n").starts_with("{\"error\""));
    assert_eq!(ask(&mut stream, b"{\"method\":\"nothing\"}\n"), "{\"error\":\"unknown method \\\"nothing\\\"\"}\n");
    for params in ["[]", "[5]", "[\"nobody\"]", "[\"192.0.2.7\"]", "[\"kind:1\",\"x\"]"] {
        let answer = ask(&mut stream, format!("{{\"method\":\"purge\",\"params\":{params}}}\n").as_bytes());
        assert!(answer.starts_with("{\"error\""), "{params}: {answer}");
    }
    let mut long = connect(&relay);
    // It may be cut off while it still sends.
    let _ = long.write_all(&vec![b'x'; 1 << 20]);
    let mut answer = String::new();
    let _ = BufReader::new(&long).read_line(&mut answer);
    assert!(["{\"error\":\"the request is larger than 64 KiB\"}\n", ""].contains(&answer.as_str()), "{answer}");
    assert_eq!(result(&relay, "listblockedips", json!([])), json!([]), "the relay goes on");
}

#[test]
fn a_purge_and_a_list_of_reports_find_what_was_acknowledged_and_is_not_committed_yet() {
    let relay = Relay::start(&(config() + "[pipeline]\ncommit_interval_ms = 1000\n"));
    let (bob, carol) = (Key::named("bob"), Key::named("carol"));
    let notes: Vec<_> = (0..30).map(|number| bob.note(&format!("note {number}"))).collect();
    let tags = json!([["e", notes[0].id, "spam"], ["p", bob.hex]]);
    let report = carol.event(1984, now(), tags, "");
    let mut client = relay.connect();
    client.publish_all(notes.iter().chain([&report]));
    let reported = result(&relay, "listeventsneedingmoderation", json!([]));
    assert_eq!(reported.as_array().map(Vec::len), Some(1), "{reported}");
    let again: Vec<_> = (30..60).map(|number| bob.note(&format!("note {number}"))).collect();
    client.publish_all(&again);
    let purge = format!("{{\"method\":\"purge\",\"params\":[\"key:{}\"]}}\n", bob.hex);
    assert_eq!(ask(&mut connect(&relay), purge.as_bytes()), "{\"result\":{\"removed\":60}}\n");
    client.finds(json!({ "kinds": [1, 1984] }), &[&report]);
}

#[test]
fn many_silent_connections_keep_out_neither_http_nor_each_other_for_long() {
    let relay = relay();
    let silent: Vec<_> = (0..16).map(|_| connect(&relay)).collect();
    let mut refused = connect(&relay);
    let mut said = String::new();
    // All are accepted in order.
    refused.read_to_string(&mut said).expect("the end");
    assert_eq!(said, "{\"error\":\"too many commands are connected; try again later\"}\n");
    let bob = Key::named("bob").hex;
    assert_eq!(result(&relay, "banpubkey", json!([bob])), json!(true));
    drop(silent);
    relay.until(|| {
        let mut stream = connect(&relay);
        ask(&mut stream, b"{\"method\":\"supportedmethods\"}\n").starts_with("{\"result\":[\"banpubkey\"")
    });
}

/// `tests/management/dies.c` kills a new process when it says that it serves.
#[test]
fn a_new_process_that_dies_before_it_serves_leaves_the_socket_to_the_one_that_serves_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("weir");
    let (library, weir) = (compiled("tests/management/dies.c", "dies"), env!("CARGO_BIN_EXE_weir"));
    let script = format!("#!/bin/sh\nLD_PRELOAD={} exec {weir} \"$@\"\n", library.display());
    std::fs::write(&program, script).expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    // The relay runs what lies there again.
    let mut command = Command::new(weir);
    std::os::unix::process::CommandExt::arg0(&mut command, &program);
    let relay = Relay::start_by(command, dir.path(), &config());
    let note = Key::named("bob").note("hello");
    let mut client = relay.connect();
    client.send(note.message());
    client.expect(&note.ok());
    relay.signal("USR2");
    relay.wait_for_log("the new process does not take over, this one keeps serving");
    let ban = format!("{{\"method\":\"banevent\",\"params\":[\"{}\"]}}\n", note.id);
    assert_eq!(ask(&mut connect(&relay), ban.as_bytes()), "{\"result\":true}\n");
    client.send(format!(r#"["REQ","a",{{"ids":["{}"]}}]"#, note.id));
    client.expect(r#"["EOSE","a"]"#);
    let mut left: Vec<_> = std::fs::read_dir(relay.data()).expect("the directory").flatten().collect();
    left.retain(|file| file.file_name().to_string_lossy().contains("admin"));
    assert_eq!(left.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["admin.sock"]);
}
