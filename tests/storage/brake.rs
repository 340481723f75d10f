//! The brake: rules that would remove much wait for the operator, and meanwhile the former ones stay in force.

use serde_json::json;

use super::scene::{assert_clean, eventually, free_address, get, held, metric, notes, storm, text, weir};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// The line of the log at which the relay says that it removes nothing.
const WAITS: &str = "the retention rules would remove more than 10 % of the store, so they wait, and until then";

/// A number in a line of the log.
#[track_caller]
fn number(line: &str, field: &str) -> u64 {
    let value = line.split(' ').find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {field} in {line}"))
}

#[test]
fn rules_that_would_remove_much_wait_until_they_are_accepted_and_others_wait_again() {
    let monitor = free_address();
    let relay = Relay::start(&format!("metrics.listen = \"{monitor}\"\n"));
    let (author, mut client) = (Key::named("brake"), relay.connect());
    let old: Vec<Signed> = (0..20).map(|n| author.event(7, now() - 1000 + n, json!([]), "+")).collect();
    let all: Vec<Signed> = notes(&author, 40, 20).collect();
    client.publish_all(old.iter().chain(&all));
    let rules = |age: &str| format!("metrics.listen = \"{monitor}\"\n[[storage.retention]]\nmax_age = \"{age}\"\n");
    let accept = || {
        let config = relay.data().with_file_name("weir.toml");
        let output = weir(&relay.data(), &["retention", "--accept", "--config", config.to_str().expect("UTF-8")]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    // A query sees to it that they are committed.
    assert_eq!((held(&mut client, &old), held(&mut client, &all)), (old.clone(), all.clone()));
    relay.reload(&rules("10m"));
    let waits = relay.wait_for_log(WAITS);
    let line = relay.wait_for_log("would be removed");
    assert!(line.contains("rule=1") && line.contains("cause=\"age\"") && line.contains("events=20"), "{line}");
    assert_eq!([&waits, &line].map(|line| number(line, "events")), [20; 2]);
    let to_go = number(&line, "used_bytes");
    assert_eq!((number(&waits, "of_events"), number(&waits, "used_bytes")), (60, to_go));
    assert_eq!(number(&waits, "of_used_bytes"), metric(monitor, "weir_store_used_bytes"));
    assert_eq!(metric(monitor, "weir_retention_waiting_events"), 20);
    assert_eq!(get(monitor, "/readyz").0, "200");
    eventually("info says so", || text(&weir(&relay.data(), &["info"]).stdout).contains("will remove 20 events"));
    assert_eq!(storm(&mut client, [author.note("meanwhile")]).reasons(), Vec::<&str>::new());
    assert_eq!(held(&mut client, &old), old, "nothing is removed");

    assert!(accept().contains("20 of 61 events would be removed"));
    relay.wait_for_log("the operator accepted");
    let line = relay.wait_for_log("the retention rules removed events");
    assert!(line.contains("rule=1") && line.contains("cause=\"age\"") && line.contains("events=20"), "{line}");
    assert_eq!(number(&line, "used_bytes"), to_go);
    assert_eq!(metric(monitor, "weir_evicted_bytes_total{rule=\"1\",cause=\"age\"}"), to_go);
    assert_eq!((held(&mut client, &old), held(&mut client, &all)), (vec![], all.clone()));
    assert_eq!(metric(monitor, "weir_retention_waiting_events"), 0);
    assert_eq!(metric(monitor, "weir_evicted_events_total{rule=\"1\",cause=\"age\"}"), 20);
    eventually("info says no more", || !text(&weir(&relay.data(), &["info"]).stdout).contains("once accepted"));

    // A slip of the pen later is another matter, also for a relay that is started with it.
    relay.reload(&rules("10s"));
    relay.wait_for_log(WAITS);
    drop(client);
    let relay = relay.restart_killed(&rules("10s"));
    let line = relay.wait_for_log(WAITS);
    assert!(line.contains("no rules are in force, so nothing is removed"), "{line}");
    let mut client = relay.connect();
    eventually("it waits again", || metric(monitor, "weir_retention_waiting_events") > 20);
    assert_eq!(held(&mut client, &all), all);
    assert_clean(&relay);
}

#[test]
fn while_new_rules_wait_the_former_ones_make_room_and_answer_clients() {
    let monitor = free_address();
    let base = format!("metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = \"8 MiB\"\n");
    let relay = Relay::start(&format!("{base}[[storage.retention]]\nkinds = [1]\n"));
    let (author, mut client) = (Key::named("former"), relay.connect());
    let first = storm(&mut client, notes(&author, 600, 4000));
    assert_eq!(first.reasons(), Vec::<&str>::new());
    assert_eq!(held(&mut client, &first.stored), first.stored);
    relay.reload(&format!("{base}[[storage.retention]]\nmax_age = \"10s\"\n"));
    let line = relay.wait_for_log(WAITS);
    assert!(line.contains("the former rules stay in force"), "{line}");
    // Twice the limit comes, and the oldest go.
    let second = storm(&mut client, notes(&author, 3000, 5000));
    let is_known =
        |reason: &&str| *reason == "error: storage full" || reason.starts_with("blocked: there is only room");
    assert!(second.reasons().iter().all(is_known), "{:?}", second.reasons());
    eventually("room is made", || metric(monitor, "weir_store_used_bytes") < (8 << 20) * 31 / 32);
    assert!(metric(monitor, "weir_retention_waiting_events") > 500);
    let left = held(&mut client, &second.stored);
    assert!(!left.is_empty() && left == second.stored[second.stored.len() - left.len()..], "{} are left", left.len());
    // The new rules would refuse it.
    client.publish(&author.event(7, now() - 1000, json!([]), "old"));
    // Back to the former ones, and nothing waits any more.
    relay.reload(&format!("{base}[[storage.retention]]\nkinds = [1]\n"));
    eventually("nothing waits", || metric(monitor, "weir_retention_waiting_events") == 0);
    assert_clean(&relay);
}

#[test]
fn after_a_start_with_rules_that_wait_the_former_ones_make_room() {
    let monitor = free_address();
    let base = format!("metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = \"8 MiB\"\n");
    let relay = Relay::start(&format!("{base}[[storage.retention]]\nkinds = [1]\n"));
    let (author, mut client) = (Key::named("former"), relay.connect());
    let first = storm(&mut client, notes(&author, 1500, 5000));
    // Until it is made, the former rules would remove much themselves.
    eventually("room is made", || {
        metric(monitor, "weir_evicted_events_total{rule=\"1\",cause=\"room\"}") > 100
            && metric(monitor, "weir_store_used_bytes") < (8 << 20) * 31 / 32
    });
    drop(client);
    let relay = relay.restart_killed(&format!("{base}[[storage.retention]]\nmax_age = \"10s\"\n"));
    relay.wait_for_log(WAITS);
    relay.wait_for_log("the rules from before the start stay in force until the new ones are accepted");
    let mut client = relay.connect();
    let again = storm(&mut client, [first.stored[0].clone()]);
    let blocked = |reason: &&str| reason.starts_with("blocked: there is only room for events of kind 1 since ");
    assert!(again.reasons().len() == 1 && again.reasons().iter().all(blocked), "{:?}", again.reasons());
    let second = storm(&mut client, notes(&author, 1500, 5000));
    eventually("room is made", || metric(monitor, "weir_store_used_bytes") < (8 << 20) * 31 / 32);
    assert!(metric(monitor, "weir_retention_waiting_events") > 500);
    assert!(!held(&mut client, &second.stored).is_empty());
    assert_clean(&relay);
}
