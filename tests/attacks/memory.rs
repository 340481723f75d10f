//! What clients make the relay hold: bounded by connection, by address and in all, and given back.

use serde_json::json;

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// Few values, each as long as a message may be: what `max_filter_items` does not bound.
#[test]
fn filters_of_one_connection_are_bounded_by_their_bytes() {
    let relay = Relay::start(METRICS);
    let mut client = relay.connect();
    let ends: Vec<String> = (0..20)
        .map(|n| {
            let filter = json!({"limit": 0, "#t": [format!("{n}-{}", "x".repeat(500_000))]});
            client.ask_for_end(&json!(["REQ", format!("s{n}"), filter]).to_string())
        })
        .collect();
    assert!(ends[..4].iter().all(|end| end.starts_with("[\"EOSE\"")), "{ends:?}");
    let refused =
        |end: &String| end.contains("\"error: filters too large: a connection may use at most 2097152 bytes, ");
    assert!(ends[4..].iter().all(refused), "{ends:?}");
    let held = relay.metric("weir_filter_bytes");
    assert!((2_000_000..2_097_152).contains(&held), "{held}");
    // A subscription that takes the place of another needs no more room than that.
    let filter = json!({"limit": 0, "#t": ["x".repeat(500_000)]});
    let end = client.ask_for_end(&json!(["REQ", "s0", filter]).to_string());
    assert!(end.starts_with("[\"EOSE\""), "{end}");
    drop(client);
    relay.until(|| relay.metric("weir_filter_bytes") == 0);
}

#[test]
fn filters_of_one_address_are_bounded_over_its_connections_and_strangers_have_room() {
    let relay =
        Relay::start(&format!("{METRICS}[memory]\nfilters = {{ per_address_bytes = 2000000, total_bytes = 4000000 }}"));
    let mut greedy: Vec<_> = (0..4).map(|_| relay.connect()).collect();
    let filter = json!({"limit": 0, "#t": ["x".repeat(900_000)]});
    let request = json!(["REQ", "s", filter]).to_string();
    let ends: Vec<String> = greedy.iter_mut().map(|client| client.ask_for_end(&request)).collect();
    let full = r#"["CLOSED","s","error: filters too large: your address has reached its limit; close some subscriptions first"]"#;
    let eose = ends[0].clone();
    assert!(eose.starts_with("[\"EOSE\""), "{eose}");
    assert_eq!(ends, [eose.as_str(), eose.as_str(), full, full]);
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 2]);
    assert_eq!(stranger.ask_for_end(&request), eose);
    drop(greedy.remove(0));
    relay.until(|| greedy[2].ask_for_end(&request) == eose);
}

/// The beginning of a text frame of `length` bytes, masked with zeros, of which `sent` bytes come.
fn half_a_message(length: u64, sent: usize) -> Vec<u8> {
    let mut frame = vec![0x81, 0xff];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + sent, b' ');
    frame
}

#[test]
fn half_messages_of_many_connections_are_bounded_and_a_stranger_sends_his() {
    let bound = "[limits]\nmax_message_length = 500000\n[memory]\npartial_messages = { per_address_bytes = 1000000, total_bytes = 1500000 }";
    let relay = Relay::start(&format!("{METRICS}{bound}"));
    let closed = || relay.metric("weir_connections_closed_total{reason=\"memory\"}");
    let half = half_a_message(490_000, 480_000);
    let mut greedy = Vec::new();
    for n in 0..5 {
        let mut client = Client::connect_from(&relay, [127, 0, 0, 2]);
        client.send_bytes(&half);
        greedy.push(client);
        if n >= 2 {
            assert_eq!(greedy.remove(0).closing_code(), 1013, "the oldest goes first");
        }
    }
    relay.until(|| closed() == 3);
    assert!(relay.metric("weir_partial_message_bytes") <= 1_000_000);
    // Others have as much, and then a stranger finds room at the cost of the greediest.
    let mut other = Client::connect_from(&relay, [127, 0, 0, 3]);
    other.send_bytes(&half);
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 4]);
    let key = Key::named("among half messages");
    let event = key.event(1, now(), json!([]), &"x".repeat(400_000));
    stranger.publish(&event);
    relay.until(|| relay.metric("weir_partial_message_bytes") <= 1_500_000);
    drop((greedy, other));
    relay.until(|| relay.metric("weir_partial_message_bytes") == 0);
}

/// Each connection stays far below its own bound; together they would take as much as all clients may.
#[test]
fn what_waits_for_one_address_is_bounded_and_strangers_are_served() {
    let relay = Relay::start(&format!(
        "{METRICS}[server]\noutbox_bytes = 2000000\n\
         [memory]\noutboxes = {{ per_address_bytes = 3000000, total_bytes = 100000000 }}"
    ));
    let key = Key::named("nobody reads");
    let mut publisher = Client::connect_from(&relay, [127, 0, 0, 3]);
    // More than the system takes for a client.
    let now = now();
    let events: Vec<_> = (0..60).map(|n| key.event(1, now - n, json!([]), &"x".repeat(100_000))).collect();
    publisher.publish_all(&events);
    let silent: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::connect_from(&relay, [127, 0, 0, 2]);
            client.send(json!(["REQ", "s", {"authors": [key.hex]}]).to_string());
            client
        })
        .collect();
    // Every scan is answered or parked by the time a later one of the same address has its first rows.
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 4]);
    stranger.finds(json!({"authors": [key.hex]}), &events.iter().collect::<Vec<_>>());
    relay.until(|| relay.metric("weir_connections_closed_total{reason=\"slow\"}") > 0);
    relay.until(|| relay.metric("weir_outbox_bytes") <= 3_000_000);
    stranger.finds(json!({"authors": [key.hex]}), &events.iter().collect::<Vec<_>>());
    drop(silent);
    relay.until(|| relay.metric("weir_outbox_bytes") == 0);
}

/// A few authors and a few kinds make many ranges, each with its next row at hand.
#[test]
fn what_a_query_keeps_between_slices_counts_with_the_filters_of_its_address() {
    let relay = Relay::start(&format!(
        "{METRICS}[pipeline]\ninline_us = 0\nslice_rows = 450\n\
         [memory]\nfilters = {{ per_address_bytes = 8000, total_bytes = 1000000 }}"
    ));
    let mut client = relay.connect();
    let keys: Vec<Key> = (0..20).map(|n| Key::named(&format!("one of each kind {n}"))).collect();
    let kinds: Vec<u64> = (4_000..4_020).collect();
    let of_each = |key: &Key| kinds.iter().map(|kind| key.event(*kind, now(), json!([]), "")).collect::<Vec<_>>();
    client.publish_all(&keys.iter().flat_map(of_each).collect::<Vec<_>>());
    let authors: Vec<&str> = keys.iter().map(|key| key.hex.as_str()).collect();
    let mut ask =
        |authors: &[&str]| client.ask_for_end(&json!(["REQ", "s", {"authors": authors, "kinds": kinds}]).to_string());
    let refused =
        r#"["CLOSED","s","error: query too large: too much memory is held by queries; ask for less at a time"]"#;
    assert_eq!(ask(&authors), refused);
    assert!(relay.metric("weir_filter_bytes") < 4_000, "only its filter is left");
    let end = ask(&authors[..5]);
    assert!(end.starts_with("[\"EOSE\""), "{end}");
}

/// The threads that took it sleep when it is freed by others.
#[test]
fn what_waited_for_clients_goes_back_to_the_system_when_they_are_gone() {
    let relay = Relay::start(METRICS);
    let key = Key::named("rows for many");
    let mut publisher = relay.connect();
    let events: Vec<_> =
        (0..60).map(|n| key.event(1, now() - n, json!([]), &"x".repeat(40_000 + n as usize * 1_000))).collect();
    publisher.publish_all(&events);
    let resident = || relay.metric("weir_process_resident_bytes");
    let quiet = resident();
    let silent: Vec<_> = (0..100)
        .map(|_| {
            let mut client = relay.connect();
            client.send(json!(["REQ", "s", {"authors": [key.hex]}]).to_string());
            client
        })
        .collect();
    relay.until(|| relay.metric("weir_outbox_bytes") > 25 << 20);
    assert!(resident() > quiet + (15 << 20));
    drop(silent);
    relay.until(|| relay.metric("weir_outbox_bytes") == 0);
    relay.until(|| resident() < quiet + (10 << 20));
}
