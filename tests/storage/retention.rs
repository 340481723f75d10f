//! The retention rules at work on a running relay, and what `weir retention` tells of them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::scene::{assert_clean, eventually, free_address, get, held, metric, notes, storm, text, weir};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now, wait_until};

const MAX_BYTES: u64 = 16 << 20;

#[test]
fn max_bytes_keeps_the_file_small_and_the_newest_events_in_it() {
    let monitor = free_address();
    let config = format!(
        "metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = {MAX_BYTES}\n\
         [[storage.retention]]\nkinds = [0]\nkeep = \"forever\"\n[[storage.retention]]\n"
    );
    let dir = tempfile::tempdir().expect("a temporary directory");
    let relay = Relay::start_in(dir.path(), &config);
    let (author, mut client) = (Key::named("storm"), relay.connect());
    let profile = author.event(0, 1_600_000_000, json!([]), "{}");
    client.publish(&profile);
    // Four times as much as there is room for.
    let answers = storm(&mut client, notes(&author, 5000, 8000));
    let reasons = answers.reasons();
    assert!(
        reasons
            .iter()
            .all(|reason| *reason == "error: storage full" || reason.starts_with("blocked: there is only room"))
    );
    assert!(answers.stored.len() > 3000, "{} were stored, {reasons:?}", answers.stored.len());
    eventually("what is too much goes", || metric(monitor, "weir_store_used_bytes") < MAX_BYTES * 31 / 32);
    let mut left = held(&mut client, &answers.stored);
    eventually("it stops at the lower mark", || {
        let before = std::mem::replace(&mut left, held(&mut client, &answers.stored));
        before == left
    });
    assert!(left.len() > 400 && left.len() < 2100, "{} are left", left.len());
    // The newest, without a gap.
    assert!(left == answers.stored[answers.stored.len() - left.len()..]);
    client.finds(json!({ "kinds": [0] }), &[&profile]);
    let file = std::fs::metadata(relay.data().join("data.mdb")).expect("the data file").len();
    assert!(file < 2 * MAX_BYTES, "the file has {file} bytes");

    let comes_back = |client: &mut Client<'_>| {
        let refused = storm(client, [answers.stored[0].clone()]);
        let reason = refused.reasons().first().map(ToString::to_string).unwrap_or_default();
        assert!(reason.starts_with("blocked: there is only room for events of kind 1 since "), "{reason}");
    };
    comes_back(&mut client);
    assert_eq!(storm(&mut client, [author.note("new")]).reasons(), Vec::<&str>::new());
    // Removals are counted when a turn of them is over.
    let evicted = "weir_evicted_events_total{rule=\"2\",cause=\"room\"}";
    eventually("what went is counted", || metric(monitor, evicted) >= 3000 - 2100);
    assert_clean(&relay);
    // Killed, it knows at once what went before.
    drop(client);
    drop(relay);
    let relay = Relay::start_in(dir.path(), &config);
    comes_back(&mut relay.connect());
    assert_clean(&relay);
}

#[test]
fn what_was_too_much_of_an_author_does_not_come_back_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = "[[storage.retention]]\nkinds = [1]\nmax_per_author_and_kind = 50\n";
    let relay = Relay::start_in(dir.path(), config);
    let author = Key::named("restart");
    let all: Vec<Signed> = notes(&author, 100, 20).collect();
    relay.connect().publish_all(&all);
    eventually("the oldest go", || held(&mut relay.connect(), &all).len() <= 53);
    drop(relay);
    let relay = Relay::start_in(dir.path(), config);
    relay.connect().refused(&all[0], "blocked: the newest 50 events of kind 1 of one author are kept (rule 1)");
    assert_clean(&relay);
}

#[test]
fn what_reaches_max_age_goes_and_does_not_come_back() {
    let relay = Relay::start("[[storage.retention]]\nkinds = [7]\nmax_age = \"6s\"\n");
    let (author, mut client) = (Key::named("age"), relay.connect());
    let reaction = author.event(7, now() - 3, json!([["e", "ab".repeat(32)]]), "+");
    let note = author.event(1, now() - 100, json!([]), "stays");
    client.publish_all([&reaction, &note]);
    wait_until(now() + 4);
    eventually("the reaction goes", || held(&mut client, std::slice::from_ref(&reaction)).is_empty());
    client.refused(&reaction, "blocked: events of kind 7 are kept for 6s here (rule 1)");
    client.finds(json!({ "authors": [author.hex] }), &[&note]);
    assert_clean(&relay);
}

#[test]
fn the_newest_of_an_author_and_kind_stay() {
    let relay = Relay::start("[[storage.retention]]\nkinds = [1]\nmax_per_author_and_kind = 50\n");
    let (author, other, mut client) = (Key::named("many"), Key::named("few"), relay.connect());
    let all: Vec<Signed> = notes(&author, 300, 20).collect();
    let few: Vec<Signed> = notes(&other, 20, 20).collect();
    client.publish_all(all.iter().chain(&few));
    eventually("the oldest go", || held(&mut client, &all).len() <= 53);
    let left = held(&mut client, &all);
    assert!(left.len() >= 50 && left == all[300 - left.len()..]);
    assert_eq!(held(&mut client, &few), few);
    client.refused(&all[0], "blocked: the newest 50 events of kind 1 of one author are kept (rule 1)");
    assert_clean(&relay);
}

#[test]
fn of_an_author_with_too_many_events_the_least_valuable_go() {
    let relay = Relay::start(
        "[storage]\nmax_events_per_author = 100\n[[storage.retention]]\nkinds = [1]\n[[storage.retention]]\n",
    );
    let (author, mut client) = (Key::named("total"), relay.connect());
    let all: Vec<Signed> = notes(&author, 60, 20).collect();
    let reactions: Vec<Signed> = (0..100).map(|n| author.event(7, now() - 100 + n, json!([]), "+")).collect();
    client.publish_all(all.iter().chain(&reactions));
    eventually("the oldest reactions go", || held(&mut client, &reactions).len() <= 50);
    let left = held(&mut client, &reactions);
    assert!(left.len() >= 40 && left == reactions[100 - left.len()..], "{} are left", left.len());
    assert_eq!(held(&mut client, &all), all);
    client.refused(&reactions[0], "blocked: the newest 100 events of one author are kept here");
    assert_clean(&relay);
}

#[test]
fn of_an_author_with_too_many_bytes_the_least_valuable_go() {
    let monitor = free_address();
    let relay = Relay::start(&format!(
        "metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes_per_author = \"100 kB\"\n\
         [[storage.retention]]\nkinds = [1]\n[[storage.retention]]\n"
    ));
    let (author, other, mut client) = (Key::named("bytes"), Key::named("other"), relay.connect());
    let all: Vec<Signed> = notes(&author, 40, 1000).collect();
    let reactions: Vec<Signed> =
        (0..100).map(|n| author.event(7, now() - 100 + n, json!([]), &"+".repeat(1000))).collect();
    let few: Vec<Signed> = notes(&other, 40, 1000).collect();
    client.publish_all(all.iter().chain(&reactions).chain(&few));
    // A reaction takes 1,309 bytes with its index entries and a note 1,366, so 34 or 35 reactions stay beside the
    // notes.
    eventually("the oldest reactions go", || held(&mut client, &reactions).len() <= 35);
    let left = held(&mut client, &reactions);
    assert!(left.len() >= 33 && left == reactions[100 - left.len()..], "{} are left", left.len());
    assert_eq!((held(&mut client, &all), held(&mut client, &few)), (all, few));
    client.refused(&reactions[0], "blocked: the newest 100000 bytes of one author are kept here");
    let large = author.event(1, now(), json!([]), &"x".repeat(100_000));
    client.refused(&large, "blocked: the newest 100000 bytes of one author are kept here");
    eventually("what went is counted", || {
        metric(monitor, "weir_evicted_events_total{rule=\"2\",cause=\"author_bytes\"}") >= 65
    });
    assert_clean(&relay);
}

#[test]
fn a_rule_keeps_as_many_bytes_as_it_says() {
    let relay = Relay::start("[[storage.retention]]\nkinds = [1]\nmax_bytes = 100000\n");
    let (author, mut client) = (Key::named("bytes"), relay.connect());
    let all: Vec<Signed> = notes(&author, 200, 1000).collect();
    client.publish_all(&all);
    // Each record has a little more than 1,150 bytes.
    eventually("the oldest go", || held(&mut client, &all).len() <= 87);
    let left = held(&mut client, &all);
    assert!(left.len() >= 80 && left == all[200 - left.len()..], "{} are left", left.len());
    assert_clean(&relay);
}

#[test]
fn a_rule_keeps_as_many_events_as_it_says_but_for_those_in_their_grace() {
    let relay = Relay::start("[[storage.retention]]\nkinds = [1]\nmax_events = 50\ngrace = \"1h\"\n");
    let (authors, mut client) = (["one", "two"].map(Key::named), relay.connect());
    let old: Vec<Signed> =
        (0..100).map(|n| authors[n as usize % 2].event(1, now() - 10_000 + n, json!([]), &n.to_string())).collect();
    client.publish_all(&old);
    eventually("the oldest go", || held(&mut client, &old).len() <= 50);
    let left = held(&mut client, &old);
    assert!(left.len() >= 45 && left == old[100 - left.len()..], "{} are left", left.len());
    let new: Vec<Signed> = notes(&authors[0], 60, 20).collect();
    client.publish_all(&new);
    eventually("nothing old is left", || held(&mut client, &old).is_empty());
    assert_eq!(held(&mut client, &new), new, "more than the rule keeps, and all of them young");
    assert_clean(&relay);
}

#[test]
fn rules_hold_from_a_reload_on() {
    let relay = Relay::start("");
    let (author, mut client) = (Key::named("reload"), relay.connect());
    let old = author.event(1, now() - 1000, json!([]), "old");
    client.publish(&old);
    relay.reload("storage.confirm_removal_percent = 100\n[[storage.retention]]\nmax_age = \"10m\"\n");
    eventually("the old note goes", || held(&mut client, std::slice::from_ref(&old)).is_empty());
    client.refused(&old, "blocked: events of kind 1 are kept for 10m here (rule 1)");
}

#[test]
fn authors_of_a_file_are_read_again_by_a_reload_and_a_file_with_a_wrong_line_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [member, guest] = ["member", "guest"].map(Key::named);
    let members = dir.path().join("members.txt");
    std::fs::write(&members, format!("# members\n{}\n", member.hex)).expect("a file");
    let rules = "storage.confirm_removal_percent = 100\n[[storage.retention]]\nauthors_file = \"members.txt\"\nkeep = \"forever\"\n\
                 [[storage.retention]]\nkinds = [1]\nmax_age = \"10m\"\n";
    let relay = Relay::start_in(dir.path(), rules);
    let mut client = relay.connect();
    let [kept, of_guest] = [&member, &guest].map(|key| key.event(1, now() - 1000, json!([]), "old"));
    client.publish(&kept);
    client.refused(&of_guest, "blocked: events of kind 1 are kept for 10m here (rule 2)");
    std::fs::write(&members, format!("{}\nalice\n", guest.hex)).expect("a file");
    relay.reload(rules);
    let line = relay.wait_for_log("members.txt:2: ");
    assert!(line.contains("weir.toml:3:1: storage.retention[1].authors_file: "), "{line}");
    client.refused(&of_guest, "blocked: events of kind 1 are kept for 10m here (rule 2)");
    std::fs::write(&members, format!("{}\n", guest.hex)).expect("a file");
    relay.reload(rules);
    eventually("who is no member is removed", || held(&mut client, std::slice::from_ref(&kept)).is_empty());
    client.publish(&of_guest);
    client.refused(&kept, "blocked: events of kind 1 are kept for 10m here (rule 2)");
    assert_clean(&relay);
}

#[test]
fn who_is_followed_is_kept_as_the_list_changes_and_without_a_list_nothing_is_removed() {
    let monitor = free_address();
    let [owner, friend, stranger] = ["owner", "friend", "stranger"].map(Key::named);
    let relay = Relay::start("");
    let mut client = relay.connect();
    let notes_of = |key: &Key| (0..10).map(|n| key.event(1, now() - 1000 + n, json!([]), "old")).collect::<Vec<_>>();
    let [of_friend, of_stranger] = [&friend, &stranger].map(notes_of);
    client.publish_all(of_friend.iter().chain(&of_stranger));
    let rules = |percent: u8| {
        format!(
            "metrics.listen = \"{monitor}\"\n[storage]\nconfirm_removal_percent = {percent}\n[[storage.retention]]\n\
             follows_of = \"{}\"\nkeep = \"forever\"\n[[storage.retention]]\nmax_age = \"10m\"\n",
            owner.hex
        )
    };
    drop(client);
    let relay = relay.restart_killed(&rules(10));
    let mut client = relay.connect();
    relay.wait_for_log("no follow list of this key is stored: all that the rule may be about is kept");
    let list = |at: u64, keys: &[&Key]| {
        owner.event(3, now() - 5000 + at, json!(keys.iter().map(|key| json!(["p", key.hex])).collect::<Vec<_>>()), "")
    };
    // The list is old too, and kept.
    client.publish(&list(1, &[&friend]));
    eventually("more than the share would go", || metric(monitor, "weir_retention_waiting_events") == 10);
    assert_eq!(
        (held(&mut client, &of_friend), held(&mut client, &of_stranger)),
        (of_friend.clone(), of_stranger.clone())
    );
    relay.reload(&rules(100));
    eventually("a stranger's go", || held(&mut client, &of_stranger).is_empty());
    assert_eq!(held(&mut client, &of_friend), of_friend);
    client.refused(&of_stranger[0], "blocked: events of kind 1 are kept for 10m here (rule 2)");
    client.publish(&list(2, &[&friend, &stranger]));
    eventually("a stranger no more", || storm(&mut client, [of_stranger[0].clone()]).reasons().is_empty());
    // A client that overwrites the list by mistake.
    client.publish(&list(3, &[]));
    relay.wait_for_log("a follow list lost more than half of its keys");
    assert_eq!(held(&mut client, &of_friend), of_friend);
    client.publish(&list(4, &[&stranger]));
    eventually("a friend no more", || held(&mut client, &of_friend).is_empty());
    assert_eq!(held(&mut client, &of_stranger), of_stranger[..1]);
    assert_clean(&relay);
}

#[test]
fn a_dry_run_tells_what_each_rule_would_remove_and_a_run_removes_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let relay = Relay::start_in(dir.path(), "");
    let (author, mut client) = (Key::named("dry"), relay.connect());
    let old: Vec<Signed> = (0..5).map(|n| author.event(7, now() - 1000 + n, json!([]), "+")).collect();
    let all: Vec<Signed> = notes(&author, 30, 20).collect();
    client.publish_all(old.iter().chain(&all));
    let file = dir.path().join("rules.toml");
    let rules = "[[storage.retention]]\nkinds = [7]\nmax_age = \"5m\"\n[[storage.retention]]\nkinds = [1]\nmax_per_author_and_kind = 10\n";
    std::fs::write(&file, rules).expect("the rules are written");
    let run = |how: &str| {
        let output = weir(&relay.data(), &["retention", how, "--config", file.to_str().expect("a path in UTF-8")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = run("--dry-run");
    // Of a cause: rule, word, events; the rest is held against an export by tests/cli.
    let rows = |text: &str| {
        let table = text.split("\n\n").nth(1).expect("a table").lines().skip(1);
        table.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let expected = "rule 1: kinds = [7], max_age = \"5m\"\nrule 2: kinds = [1], max_per_author_and_kind = 10\n\n";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(rows(&said), ["1 age 5", "2 per_author_and_kind 20"]);
    assert!(said.contains("\n25 of 35 events would be removed, "), "{said}");
    assert_eq!(held(&mut client, &all).len() + held(&mut client, &old).len(), 35);
    let ran = run("--run");
    assert_eq!(rows(&ran), rows(&said));
    assert!(ran.contains("\n25 of 35 events were removed, "), "{ran}");
    assert_eq!((held(&mut client, &all), held(&mut client, &old)), (all[20..].to_vec(), vec![]));
    assert!(run("--dry-run").contains("\n0 of 10 events would be removed, 0 B of "));
    assert_clean(&relay);
}

#[test]
fn what_is_kept_for_ever_and_takes_more_than_max_bytes_is_told_with_the_place_of_the_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rules = "[storage]\nmax_bytes = \"1 MiB\"\n[[storage.retention]]\nkinds = [0, 1]\nkeep = \"forever\"\n\
                 [[storage.retention]]\n";
    let relay = Relay::start_in(dir.path(), "");
    let answers = storm(&mut relay.connect(), notes(&Key::named("forever"), 300, 5000));
    assert_eq!(answers.reasons(), Vec::<&str>::new());
    drop(relay);
    let relay = Relay::start_in(dir.path(), rules);
    let line = relay.wait_for_log("nothing is left that the retention rules would remove for room");
    assert!(line.contains("weir.toml:2:1: storage.max_bytes: "), "{line}");
    let config = dir.path().join("weir.toml");
    let output = weir(&relay.data(), &["retention", "--config", config.to_str().expect("UTF-8")]);
    let said = text(&output.stderr);
    assert!(said.contains("weir.toml:2:1: storage.max_bytes: ") && said.contains("kept forever"), "{said}");
}

#[test]
fn a_relay_that_is_killed_while_it_removes_leaves_what_the_plan_leaves() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let relay = Relay::start_in(dir.path(), "");
    let [author, other] = ["a", "b"].map(Key::named);
    // Arrivals are in no order of age: a third is old, a third too much of one author, and reactions go for bytes.
    let (begin, shuffled) = (now(), |n: u64| (n * 7919) % 3000);
    let of = |n: u64| match n % 3 {
        0 => author.event(1111, begin - 10_000 - shuffled(n), json!([["t", "x"]]), &n.to_string()),
        1 => other.event(1, begin - shuffled(n), json!([["t", "x"]]), &n.to_string()),
        _ => author.event(7, begin - shuffled(n), json!([]), &n.to_string()),
    };
    let all: Vec<Signed> = (0..3000).map(of).collect();
    storm(&mut relay.connect(), all.clone());
    drop(relay);
    let rules = "[storage]\nconfirm_removal_percent = 100\n[[storage.retention]]\nkinds = [1111]\nmax_age = \"1h\"\n\
                 [[storage.retention]]\nkinds = [1]\nmax_per_author_and_kind = 100\n";
    let mut notes: Vec<u64> = (0..3000).filter(|n| n % 3 == 1).collect();
    notes.sort_by_key(|n| shuffled(*n));
    let is_kept = |n: u64| n % 3 == 2 || notes[..100].contains(&n);
    let expected: Vec<Signed> = (0..).zip(&all).filter(|(n, _)| is_kept(*n)).map(|(_, event)| event.clone()).collect();
    for _ in 0..4 {
        // Killed as soon as it listens, and so at whatever it does then.
        drop(Relay::start_in(dir.path(), rules));
    }
    let relay = Relay::start_in(dir.path(), rules);
    let mut client = relay.connect();
    let new: Vec<Signed> = (0..50).map(|n| author.event(7, now(), json!([]), &format!("new {n}"))).collect();
    storm(&mut client, new.clone());
    eventually("the rules are executed", || held(&mut client, &all).len() <= expected.len());
    assert!(held(&mut client, &all) == expected && held(&mut client, &new) == new);
    assert_clean(&relay);
}

/// What a command tells in JSON of the store in `dir` under the rules there.
fn said(dir: &Path, arguments: &[&str]) -> Value {
    let config = dir.join("weir.toml");
    let rules = ["--json", "--config", config.to_str().expect("a path in UTF-8")];
    let output = weir(&dir.join("data"), &[arguments, &rules].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The ids of all events that the store in `dir` holds.
fn exported(dir: &Path) -> BTreeSet<String> {
    let lines = text(&weir(&dir.join("data"), &["export"]).stdout);
    let id = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["id"].as_str()?.to_string());
    lines.lines().map(|line| id(line).expect("an event")).collect()
}

#[test]
fn what_ages_make_room_for_is_not_removed_for_room_be_it_counted_run_or_done_by_the_relay() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let [at_once, by_relay] = dirs.each_ref().map(tempfile::TempDir::path);
    // Over a hundred days, in no order of age; none is 30 days old within half an hour from now.
    let (author, begin) = (Key::named("ages"), now());
    let old = |n: u64| 3600 + (n * 7919) % 3000 * 2880;
    let kind = |n: u64| [1, 6, 7, 9735, 1111][n as usize % 5];
    let of = |n: u64| author.event(kind(n), begin - old(n), json!([]), &format!("{n} {}", "x".repeat(700)));
    let all: Vec<Signed> = (0..3000).map(of).collect();
    let is_kept = |n: &u64| kind(*n) == 1111 || old(*n) < 30 * 86_400;
    let expected: BTreeSet<String> = (0..3000).filter(is_kept).map(|n| all[n as usize].id.clone()).collect();
    let gone = all.len() - expected.len();
    let file = at_once.join("events.jsonl");
    std::fs::write(&file, all.iter().map(|event| format!("{}\n", event.text)).collect::<String>()).expect("a file");
    for dir in [at_once, by_relay] {
        let output = weir(&dir.join("data"), &["import", file.to_str().expect("a path in UTF-8")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    std::fs::write(at_once.join("weir.toml"), "").expect("the rules are written");
    let used = said(at_once, &["info"])["used_bytes"].as_u64().expect("a number");
    let monitor = free_address();
    let config = format!(
        "metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = {}\nconfirm_removal_percent = 100\n\
         [[storage.retention]]\nkinds = [1, 6, 7, 9735]\nmax_age = \"30d\"\n[[storage.retention]]\n",
        used * 50 / 58
    );
    std::fs::write(at_once.join("weir.toml"), &config).expect("the rules are written");
    let rows = |how: &str| {
        let found = said(at_once, &["retention", how]);
        let causes = found["causes"].as_array().expect("a list").iter();
        causes.map(|one| json!([one["rule"], one["cause"], one["events"]])).collect::<Vec<_>>()
    };
    let ages = [json!([1, "age", gone])];
    assert_eq!(rows("--dry-run"), ages);
    assert_eq!(rows("--run"), ages);
    assert!(exported(at_once) == expected);

    let relay = Relay::start_in(by_relay, &config);
    let counted = format!("weir_evicted_events_total{{rule=\"1\",cause=\"age\"}} {gone}\n");
    eventually("the rules are executed", || get(monitor, "/metrics").1.contains(&counted));
    assert!(exported(by_relay) == expected);
    assert_clean(&relay);
}

#[test]
fn a_lower_max_bytes_removes_while_events_go_on_being_stored() {
    let rules = |max: u64| {
        format!("[storage]\nmax_bytes = {max}\nconfirm_removal_percent = 100\n[[storage.retention]]\nkinds = [1]\n")
    };
    let relay = Relay::start(&rules(24 << 20));
    let (author, mut client) = (Key::named("shrink"), relay.connect());
    // Half of it goes at once, so there are free pages in the file.
    let answers = storm(&mut client, notes(&author, 1500, 8000));
    assert_eq!(answers.reasons(), Vec::<&str>::new());
    let tags: Vec<_> = answers.stored[..700].iter().map(|event| json!(["e", event.id])).collect();
    client.publish(&author.delete(now(), json!(tags)));
    relay.reload(&rules(4 << 20));
    // Fewer than what fits between the lower mark and the limit, should the old ones be gone by then.
    let answers = storm(&mut client, notes(&author, 20, 4000));
    assert_eq!(answers.reasons(), Vec::<&str>::new(), "there were 5 MiB of free pages");
    eventually("it shrinks", || {
        let info = weir(&relay.data(), &["info", "--json"]);
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).expect("JSON");
        info["used_bytes"].as_u64().expect("a number") <= 4 << 20
    });
    assert_clean(&relay);
}

#[test]
fn at_a_limit_that_is_held_readyz_says_full_only_while_events_are_refused() {
    let monitor = free_address();
    let relay = Relay::start(&format!(
        "metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = {}\n[[storage.retention]]\n",
        8 << 20
    ));
    let (author, mut client) = (Key::named("held"), relay.connect());
    let (mut refused, mut said_full) = (0, 0);
    let all: Vec<Signed> = notes(&author, 4000, 3000).collect();
    for some in all.chunks(20) {
        let answers = storm(&mut client, some.to_vec());
        let full = answers.refused.get("error: storage full").map_or(0, Vec::len);
        refused += usize::from(full > 0);
        said_full += usize::from(get(monitor, "/readyz").0 == "503");
    }
    assert!(said_full <= refused, "{said_full} of 200 samples say full; in {refused} events were refused");
    assert_clean(&relay);
}

#[test]
fn at_a_limit_that_is_held_events_that_come_at_full_speed_wait_for_room_and_none_is_refused() {
    for interval_ms in [100, 0] {
        let relay = Relay::start(&format!(
            "pipeline.commit_interval_ms = {interval_ms}\n[storage]\nmax_bytes = {}\n[[storage.retention]]\n",
            4 << 20
        ));
        let (author, mut client) = (Key::named("storm"), relay.connect());
        let all: Vec<Signed> = notes(&author, 3000, 4000).collect();
        let answers = storm(&mut client, all.clone());
        assert_eq!(answers.reasons(), Vec::<&str>::new(), "{interval_ms} ms");
        let left = held(&mut client, &all);
        assert!(left.len() > 400 && left == all[all.len() - left.len()..], "{} are left", left.len());
        assert_clean(&relay);
    }
}
