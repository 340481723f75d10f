//! The plugin's queues filled on purpose: while it judges nothing, who waits, who does not, and what becomes of it all.

use serde_json::json;

use crate::scene::{asked, messages, notes, noting_relay, verdicts};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// More than any test waits.
const PATIENT: &str = "timeout_ms = 3600000\nin_flight = 1";

fn waiting(relay: &Relay) -> u64 {
    relay.metric("weir_queue_entries{queue=\"plugin\"}")
}

#[test]
fn a_full_queue_to_the_plugin_closes_the_gate_and_later_every_event_is_judged_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", &format!("{PATIENT}\n[queues]\ningest_events = 32"));
    let mut greedy = [2, 3].map(|last| Client::connect_from(&relay, [127, 0, 0, last]));
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 4]);
    let contents: Vec<String> = (0..60).map(|number| format!("note {number}")).collect();
    let contents: Vec<&str> = ["wait"].into_iter().chain(contents.iter().map(String::as_str)).collect();
    let many = ["greedy", "greedier"].map(|author| notes(author, &contents));
    // Two of the 32 places are kept for strangers. An address may have as many of the others as are free: 15, then 8 of
    // the 15 left.
    greedy[0].send_all(&messages(&many[0]));
    relay.until(|| waiting(&relay) == 15 && asked(&file).len() == 1);
    greedy[1].send_all(&messages(&many[1]));
    relay.until(|| waiting(&relay) == 23);
    let one = Key::named("stranger").note("one");
    stranger.send(one.message());
    relay.until(|| waiting(&relay) == 24);
    Client::connect_from(&relay, [127, 0, 0, 5]).finds(json!({"kinds": [1]}), &[]);
    assert_eq!((waiting(&relay), asked(&file).len()), (24, 1), "the others are read no further");

    std::fs::write(file.with_extension("go"), "").expect("written");
    stranger.expect(&one.ok());
    for (client, notes) in greedy.iter_mut().zip(&many) {
        client.expect_all(notes.iter().map(Signed::ok));
    }
    assert_eq!((waiting(&relay), verdicts(&relay, "accept"), asked(&file).len()), (0, 123, 123));
}

/// A dry run: while the plugin judges none, every event gets its OK. Later, `judged` of them are judged, and no others.
fn copies(events: &[Signed], judged: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (relay, file) = noting_relay(dir.path(), "judge", &format!("{PATIENT}\ndry_run = true"));
    let mut client = relay.connect();
    let (wait, skipped) = (Key::named("opener").note("wait"), (events.len() + 1 - judged) as u64);
    client.publish(&wait);
    client.publish_all(events);
    assert_eq!(verdicts(&relay, "skipped"), skipped, "those that found no room are not judged");
    std::fs::write(file.with_extension("go"), "").expect("written");
    relay.until(|| verdicts(&relay, "accept") == judged as u64);
    let next = Key::named("opener").note("next");
    client.publish(&next);
    relay.until(|| verdicts(&relay, "accept") == judged as u64 + 1);
    assert_eq!(verdicts(&relay, "skipped"), skipped, "there is room again");
    let ids: Vec<&String> =
        [&wait].into_iter().chain(&events[..judged - 1]).chain([&next]).map(|one| &one.id).collect();
    let lines = asked(&file);
    assert!(lines.len() == ids.len() && lines.iter().zip(ids).all(|(line, id)| line.contains(id)), "in their order");
}

#[test]
fn in_a_dry_run_1024_events_wait_for_the_plugin_and_further_ones_pass_without_it() {
    let (key, now) = (Key::named("dry"), now());
    let events: Vec<Signed> = (0..1_033).map(|n| key.event(1, now - n, json!([]), "")).collect();
    copies(&events, 1_024);
}

#[test]
fn in_a_dry_run_16_mib_wait_for_the_plugin_and_larger_ones_pass_without_it() {
    let (key, now) = (Key::named("dry and large"), now());
    let content = "x".repeat(128 << 10);
    let events: Vec<Signed> = (0..130).map(|n| key.event(1, now - n, json!([]), &content)).collect();
    // Each has a few more bytes than an eighth of a mebibyte, so 127 fit.
    copies(&events, 128);
}
