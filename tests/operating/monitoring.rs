//! `/metrics`, `/healthz` and `/readyz`.

use std::time::Instant;

use serde_json::json;

use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, now};

const WATCHED: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// The value of a sample, by its name and labels as they are written.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find(|line| line.split(' ').next() == Some(sample));
    let line = line.unwrap_or_else(|| panic!("there is no {sample} in {page}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

/// Reads the metrics until the sample has this value, for what is counted after the client was answered.
fn wait_for(relay: &Relay, sample: &str, expected: f64) {
    let end = Instant::now() + TIMEOUT;
    loop {
        let (_, page) = relay.watch("/metrics");
        let is = value(&page, sample);
        if is == expected {
            return;
        }
        assert!(Instant::now() < end, "{sample} is {is}, not {expected}");
    }
}

#[test]
fn sidecars_of_strfry_find_their_three_names() {
    let relay = Relay::start(&format!("{WATCHED}strfry_names = true\n"));
    let alice = Key::named("alice");
    let mut client = relay.connect();
    let note = alice.note("counted");
    client.publish(&note);
    client.ask(note.message(), &note.duplicate());
    client.publish(&alice.event(7, now(), json!([]), "+"));
    client.open("s", &[json!({"kinds": [1]})]);
    wait_for(&relay, "weir_req_eose_seconds_count", 1.0);
    let (_, page) = relay.watch("/metrics");
    let expected = [
        ("nostr_client_messages_total{verb=\"EVENT\"}", 3.0),
        ("nostr_client_messages_total{verb=\"REQ\"}", 1.0),
        ("nostr_relay_messages_total{verb=\"EVENT\"}", 1.0),
        ("nostr_relay_messages_total{verb=\"OK\"}", 3.0),
        ("nostr_relay_messages_total{verb=\"EOSE\"}", 1.0),
        ("nostr_events_total{kind=\"1\"}", 1.0),
        ("nostr_events_total{kind=\"7\"}", 1.0),
    ];
    assert_eq!(expected.map(|(sample, _)| (sample, value(&page, sample))), expected);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn what_clients_do_is_counted() {
    let relay = Relay::start(&format!("{WATCHED}[access]\ndeny_kinds = [7]\n[pipeline]\ncommit_interval_ms = 0\n"));
    let alice = Key::named("alice");
    let mut client = relay.connect();
    let note = alice.note("counted");
    client.publish(&note);
    client.ask(note.message(), &note.duplicate());
    let reaction = alice.event(7, now(), json!([]), "+");
    client.send(reaction.message());
    assert!(client.next().contains("\"blocked: "));
    client.send(note.with("counted", "altered").message());
    assert!(client.next().contains("\"invalid: "));
    client.send("[\"NONSENSE\"]");
    assert!(client.next().starts_with("[\"NOTICE\""));
    let (rows, _) = client.open("s", &[json!({"kinds": [1]})]);
    assert_eq!(rows.len(), 1);
    let live = alice.note("live");
    client.send(live.message());
    client.expect_all([live.ok(), live.frame("s")]);

    let (status, page) = relay.watch("/metrics");
    assert_eq!(status, 200);
    let expected = [
        ("weir_connections", 1.0),
        ("weir_connections_opened_total", 1.0),
        ("weir_subscriptions", 1.0),
        ("weir_filter_items", 1.0),
        ("weir_messages_total{verb=\"event\"}", 4.0),
        ("weir_messages_total{verb=\"req\"}", 1.0),
        ("weir_messages_total{verb=\"malformed\"}", 2.0),
        ("weir_events_total{outcome=\"stored\"}", 2.0),
        ("weir_events_total{outcome=\"duplicate\"}", 1.0),
        ("weir_events_total{outcome=\"refused\"}", 1.0),
        ("weir_events_total{outcome=\"invalid\"}", 1.0),
        ("weir_events_total{outcome=\"full\"}", 0.0),
        ("weir_events_total{outcome=\"failed\"}", 0.0),
        ("weir_refusals_total{prefix=\"blocked\"}", 1.0),
        ("weir_refusals_total{prefix=\"invalid\"}", 1.0),
        ("weir_rows_sent_total", 1.0),
        ("weir_event_ok_seconds_count", 2.0),
        ("weir_req_eose_seconds_count", 1.0),
        ("weir_commit_events_sum", 2.0),
        ("weir_queue_entries{queue=\"ingest\"}", 0.0),
        ("weir_queue_bound{queue=\"scans\"}", 4096.0),
        ("weir_store_entries{table=\"event\"}", 2.0),
        ("weir_storage_writable", 1.0),
        ("weir_verify_mismatches", 0.0),
    ];
    let have: Vec<(&str, f64)> = expected.iter().map(|(sample, _)| (*sample, value(&page, sample))).collect();
    assert_eq!(have, expected);
    let above_zero = [
        "weir_store_used_bytes",
        "weir_store_file_bytes",
        "weir_store_map_bytes",
        "weir_store_full_bytes",
        "weir_store_reader_slots",
        "weir_disk_free_bytes",
        "weir_process_private_bytes",
        "weir_process_resident_bytes",
        "weir_process_cpu_seconds_total",
        "weir_process_start_time_seconds",
        "weir_received_bytes_total",
        "weir_sent_bytes_total",
    ];
    above_zero.into_iter().for_each(|sample| assert!(value(&page, sample) > 0.0, "{sample}"));
    wait_for(&relay, "weir_deliveries_total", 1.0);
    wait_for(&relay, "weir_fanout_seconds_count", 2.0);
    drop(client);
    wait_for(&relay, "weir_connections", 0.0);
}

#[test]
fn reloads_are_counted_by_how_they_end() {
    let relay = Relay::start(WATCHED);
    relay.reload(&format!("{WATCHED}[limits]\nmax_filters = 3\n"));
    wait_for(&relay, "weir_config_reloads_total{result=\"applied\"}", 1.0);
    relay.reload("nonsense");
    wait_for(&relay, "weir_config_reloads_total{result=\"failed\"}", 1.0);
}

#[test]
fn a_relay_is_ready_until_its_storage_is_full() {
    let relay = Relay::start(&format!("{WATCHED}[storage]\nmax_bytes = 1048576\n"));
    assert_eq!(relay.watch("/healthz"), (200, "ok\n".into()));
    assert_eq!(relay.watch("/readyz"), (200, "ready\n".into()));
    let alice = Key::named("alice");
    let mut client = relay.connect();
    let large = "x".repeat(60_000);
    let first = alice.note("first");
    client.publish(&first);
    let refused = (0..100).any(|n| {
        let note = alice.note(&format!("{n}{large}"));
        client.send(note.message());
        let answer = client.next();
        answer != note.ok() && answer.contains("\"error: storage full")
    });
    assert!(refused, "a megabyte holds no hundred notes of 60 KB");
    assert_eq!(relay.watch("/readyz"), (503, "storage full: reads go on, events are refused\n".into()));
    assert_eq!(relay.watch("/healthz").0, 200);
    assert_eq!(value(&relay.watch("/metrics").1, "weir_storage_writable"), 0.0);
    client.finds(json!({"ids": [first.id]}), &[&first]);
}

#[test]
fn only_get_is_served_there_and_other_methods_are_told_so() {
    let relay = Relay::start(WATCHED);
    for (method, path) in [("POST", "/metrics"), ("HEAD", "/readyz"), ("DELETE", "/elsewhere")] {
        let (head, _) = relay.watch_by(method, path);
        assert!(head.starts_with("http/1.1 405") && head.contains("\r\nallow: get\r\n"), "{method}: {head}");
    }
}

#[test]
fn only_what_is_served_there_is_found_there() {
    let relay = Relay::start(WATCHED);
    assert_eq!(relay.watch("/").0, 404);
    let (head, _) = relay.http("GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("http/1.1 404"), "clients do not see the metrics: {head}");
}
