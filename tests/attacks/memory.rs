//! What clients make the relay hold: bounded by connection, by address and in all, and given back.

use serde_json::json;

use crate::support::client::Client;
use crate::support::relay::Relay;

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
    let refused = |end: &String| end.contains("\"error: filters too large: a connection has at most 2097152 bytes, ");
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
    let relay = Relay::start(&format!("{METRICS}[memory]\nfilters = {{ per_address = 2000000, total = 4000000 }}"));
    let mut greedy: Vec<_> = (0..4).map(|_| relay.connect()).collect();
    let filter = json!({"limit": 0, "#t": ["x".repeat(900_000)]});
    let request = json!(["REQ", "s", filter]).to_string();
    let ends: Vec<String> = greedy.iter_mut().map(|client| client.ask_for_end(&request)).collect();
    let full =
        r#"["CLOSED","s","error: filters too large: your address has as many open as it may; close some first"]"#;
    let eose = ends[0].clone();
    assert!(eose.starts_with("[\"EOSE\""), "{eose}");
    assert_eq!(ends, [eose.as_str(), eose.as_str(), full, full]);
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 2]);
    assert_eq!(stranger.ask_for_end(&request), eose);
    drop(greedy.remove(0));
    relay.until(|| greedy[2].ask_for_end(&request) == eose);
}
