//! Scan, export, delete, info, check and config.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use super::home::{Home, lines};
use super::support::event::{author, event};
use serde_json::Value;
use weir::nostr::Event;

/// Notes, reactions and tags by three authors.
fn events() -> Vec<Event> {
    let event = |n: u64| {
        let tag = (n % 5).to_string();
        event(author(n % 3), if n.is_multiple_of(2) { 1 } else { 7 }, 1000 + n / 2, &[&["t", &tag]], &n.to_string())
    };
    (0..300).map(event).collect()
}

#[test]
fn a_count_is_the_number_of_lines_and_an_explanation_names_the_index() {
    let home = Home::new();
    home.hold(&events());
    let by = format!(r#"{{"authors":["{}"],"kinds":[1]}}"#, author(1));
    let filters = [
        ("{}", 300, "time index"),
        (r#"{"kinds":[1]}"#, 150, "kind index"),
        (r#"{"kinds":[1],"limit":7}"#, 7, "kind index"),
        (r#"[{"kinds":[1]},{"kinds":[7],"limit":3}]"#, 153, "kind index"),
        (r##"{"#t":["1","2"]}"##, 120, "tag index"),
        (&by, 50, "author index"),
        (r#"{"ids":[]}"#, 0, "no index"),
    ];
    for (filter, count, index) in filters {
        assert_eq!(home.run(&["scan", filter]).good().lines().count(), count, "{filter}");
        assert_eq!(home.run(&["scan", "--count", filter]).good().trim(), count.to_string(), "{filter}");
        let explained = home.run(&["scan", "--explain", filter]).good();
        assert!(explained.starts_with(&format!("filter 1: {index}")), "{explained}");
        assert!(explained.contains(&format!("\nevents: {count}\n")), "{explained}");
    }
    assert_eq!(home.run_with(&["scan", "--count", "-"], b" {\"kinds\":[7]}\n").good(), "150\n");
    assert_eq!(home.run(&["scan", "--limit", "4", "{}"]).good().lines().count(), 4);
    let newest: Value = serde_json::from_str(home.run(&["scan", r#"{"limit":1}"#]).good().trim()).expect("an event");
    assert_eq!(newest["created_at"], 1149);
}

#[test]
fn an_export_is_cut_by_filter_and_time() {
    let home = Home::new();
    home.hold(&events());
    let count = |arguments: &[&str]| home.run(&[&["export"], arguments].concat()).good().lines().count();
    assert_eq!(count(&["--since", "1100"]), 100);
    assert_eq!(count(&["--until", "1099"]), 200);
    assert_eq!(count(&["--since", "1100", "--until", "1100"]), 2);
    assert_eq!(count(&["--filter", r#"{"kinds":[1],"since":1100}"#, "--until", "1109", "--reverse"]), 10);
    assert_eq!(count(&["--since", "1h"]), 0);
    let file = home.path("out.jsonl");
    let ran = home.run(&["export", file.to_str().expect("a plain name")]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", "300 events exported\n"));
    assert_eq!(std::fs::read_to_string(file).expect("a file").lines().collect::<Vec<_>>(), home.export());
}

#[test]
fn expired_events_are_not_exported() {
    let home = Home::new();
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs() + 2;
    let brief = event(author(1), 1, 1, &[&["expiration", &soon.to_string()]], "brief");
    let lasting = event(author(1), 1, 2, &[], "lasting");
    home.hold(&[brief, lasting.clone()]);
    while home.export().len() == 2 {}
    assert_eq!(home.export(), [lasting.view().to_json()]);
    assert_eq!(home.run(&["scan", "--count", "{}"]).good(), "1\n");
}

#[test]
fn a_dry_run_changes_nothing_and_a_delete_removes_just_that() {
    let home = Home::new();
    home.hold(&events());
    let before = home.export();
    let filter = r#"{"kinds":[1],"until":1099}"#;
    let dry = home.run(&["delete", "--filter", filter, "--dry-run"]).good();
    assert!(dry.starts_with("100 events would be removed, "), "{dry}");
    assert_eq!(home.export(), before);
    assert_eq!(home.run(&["delete", "--filter", filter]).good(), dry.replace("would be removed", "removed"));
    let is_left = |line: &&String| {
        let event: Value = serde_json::from_str(line).expect("an event");
        event["kind"] != 1 || event["created_at"].as_u64() > Some(1099)
    };
    assert_eq!(home.export(), before.iter().filter(is_left).cloned().collect::<Vec<_>>());
    home.run(&["check", "--signatures", "none"]).good();

    let all = lines(&events());
    assert_eq!(home.run_with(&["import", "--no-verify"], all.as_bytes()).count("stored"), 100, "they may come back");
    assert_eq!(home.export(), before);
    home.run(&["delete", "--refuse", "--filter", filter]).good();
    assert_eq!(home.run_with(&["import", "--no-verify"], all.as_bytes()).count("deleted"), 100, "they may not");
    home.run(&["check", "--signatures", "none"]).good();
}

#[test]
fn a_delete_goes_on_over_many_steps_and_everything_needs_saying_so() {
    let home = Home::new();
    let many: Vec<_> = (0..1500).map(|n| event(author(n % 7), 1, n, &[], "x")).collect();
    home.hold(&many);
    for refused in [&["--filter", "{}"][..], &["--filter", r#"[{"kinds":[1]},{"limit":5}]"#]] {
        let ran = home.run(&[&["delete"], refused].concat());
        assert_eq!((ran.code, ran.err.contains("--all")), (Some(2), true), "{ran:?}");
    }
    assert_eq!(home.run(&["delete"]).code, Some(2));
    assert_eq!(home.export().len(), 1500);
    assert!(home.run(&["delete", "--older-than", "90d", "--dry-run"]).good().starts_with("1500 events"));
    assert!(home.run(&["delete", "--all"]).good().starts_with("1500 events removed"));
    assert_eq!(home.export(), Vec::<String>::new());
    home.assert_clean();
}

#[test]
fn info_tells_the_same_to_people_and_to_programs() {
    let home = Home::new();
    home.hold(&events());
    let info: Value = serde_json::from_str(&home.run(&["info", "--json"]).good()).expect("JSON");
    assert_eq!((&info["events"], &info["last_seq"], &info["durability"]), (&300.into(), &300.into(), &"full".into()));
    let tables = info["tables"].as_array().expect("tables");
    let entries = |name: &str| tables.iter().find(|table| table["name"] == name).map(|table| table["entries"].clone());
    assert_eq!((entries("event"), entries("tag")), (Some(300.into()), Some(300.into())));
    for key in ["used_bytes", "file_bytes", "map_bytes", "disk_free_bytes"] {
        assert!(info[key].as_u64() > Some(0), "{key}");
    }
    assert!(home.run(&["info"]).good().contains("300 stored of 300 that arrived"));
    let kinds = info["kinds"].as_array().expect("kinds");
    let events = |rows: &[Value]| rows.iter().filter_map(|row| row["events"].as_u64()).sum::<u64>();
    assert_eq!((events(kinds), info["looked_at"].as_u64()), (300, Some(300)));
    let full: Value =
        serde_json::from_str(&home.run(&["info", "--full", "--json", "--top", "1000"]).good()).expect("JSON");
    let authors = full["authors"].as_array().expect("authors");
    assert_eq!((events(authors), &full["retention_removes_next"]["events"]), (300, &0.into()));
    assert!(home.run(&["info", "--full"]).good().contains("no rules: everything is kept"));
}

#[test]
fn a_wrong_signature_is_found_and_named() {
    let home = Home::new();
    let unsigned = event(author(1), 1, 1, &[], "nobody signed this");
    home.hold(std::slice::from_ref(&unsigned));
    let ran = home.run(&["check"]);
    assert_eq!(ran.code, Some(1));
    let found = format!("event 1: the signature is wrong ({})\n", unsigned.view().id());
    assert!(ran.out.starts_with(&found) && ran.out.ends_with("1 problems, 1 of them listed\n"), "{ran:?}");
    home.run(&["check", "--signatures", "none"]).good();
}

#[test]
fn what_is_configured_can_be_printed_and_checked() {
    let home = Home::new();
    let printed = home.run(&["config", "print"]).good();
    let file = home.write("weir.toml", &printed);
    assert_eq!(home.run(&["config", "print", "--config", &file]).good(), printed);
    assert!(home.run(&["config", "check", "--config", &file]).good().contains("memory: at most"));
    let nameless = home.write("nameless.toml", "[server]\nlisten = \"0.0.0.0:7777\"\n");
    let checked = home.run(&["config", "check", "--config", &nameless]).good();
    assert!(
        checked.starts_with("warning: auth.urls is empty although server.listen is a public address: "),
        "{checked}"
    );
    assert!(checked.ends_with("the configuration is valid\n"), "{checked}");
    let wrong = home.write("wrong.toml", "[limits]\nmax_fliters = 3\n");
    let ran = home.run(&["config", "check", "--config", &wrong]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    assert!(ran.out.starts_with(&format!("{wrong}:2:1: ")) && ran.out.contains("max_filters"), "{ran:?}");
    let ran = home.run(&["info", "--config", &wrong]);
    assert!(ran.code == Some(1) && ran.err.starts_with("weir: "), "{ran:?}");
}

#[test]
fn a_check_warns_of_limits_above_the_file_descriptors_and_of_a_proxy_that_is_not_trusted() {
    let home = Home::new();
    let file = home.write("weir.toml", "[auth]\nurls = [\"wss://relay.example.com\"]\n");
    let script = format!("ulimit -n 1000; exec {} config check --config {file}", env!("CARGO_BIN_EXE_weir"));
    let ran = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    for start in [
        "warning: server.trusted_proxies does not name this machine",
        "warning: server.max_connections and server.max_half_open take 34352 file descriptors, and a process that is \
         started here gets 1000: ",
    ] {
        assert!(said.lines().any(|line| line.starts_with(start)), "{start} in {said}");
    }
    assert!(ran.status.success() && said.ends_with("the configuration is valid\n"), "{said}");
}

#[test]
fn mistakes_are_told_on_standard_error_and_create_nothing() {
    let home = Home::new();
    for command in [&["info"][..], &["export"], &["check"], &["scan", "{}"], &["delete", "--all"]] {
        let ran = home.run(command);
        let expected = format!("weir: there is no store in {}", home.path("data").display());
        assert!(ran.code == Some(1) && ran.err.starts_with(&expected), "{ran:?}");
    }
    assert!(!home.path("data").exists());
    for wrong in
        [&["scan", r#"{"kind":[1]}"#][..], &["export", "--since", "soon"], &["import", "--batch", "0"], &["sacn"]]
    {
        let ran = home.run(wrong);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.starts_with("error: ")), (Some(2), "", true), "{ran:?}");
    }
    let ran = home.run(&["import", "/nowhere/events.jsonl"]);
    assert!(ran.code == Some(1) && ran.err.starts_with("weir: cannot read /nowhere/events.jsonl: "), "{ran:?}");
    for command in ["serve", "import", "export", "scan", "delete", "info", "check", "config"] {
        let help = home.run(&[command, "--help"]).good();
        assert!(help.contains("Examples:") && help.contains("--data") && help.contains("--config"), "{command}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_an_export_quietly() {
    let home = Home::new();
    let many: Vec<_> = (0..1000).map(|n| event(author(n % 7), 1, n, &[], &"x".repeat(2000))).collect();
    home.hold(&many);
    let mut command = home.command(&["export"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    assert_eq!(first.trim_end(), many[0].view().to_json());
    assert_eq!(child.wait().expect("the export ends").code(), Some(0));
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("UTF-8");
    assert_eq!(err, "");
}
