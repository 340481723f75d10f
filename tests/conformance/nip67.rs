//! NIP-67: what EOSE says about completeness, and where pages end. Off unless the operator turns it on.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const PLAIN: &str = r#"["EOSE","s"]"#;
const FINISH: &str = r#"["EOSE","s",["finish"]]"#;
const MORE: &str = r#"["EOSE","s",["more"]]"#;

/// A relay that gives hints, with more limits as TOML text.
fn hinting(limits: &str) -> Relay {
    Relay::start(&format!("[limits]\neose_hints = true\n{limits}"))
}

/// The number of events, and what EOSE says.
fn page(client: &mut Client<'_>, filters: &[Value]) -> (usize, String) {
    let (events, eose) = client.open("s", filters);
    (events.len(), eose)
}

/// This many events of one second.
fn of_one_second(key: &Key, count: u64) -> Vec<Signed> {
    let at = now() - 100;
    (0..count).map(|n| key.event(1, at, json!([]), &n.to_string())).collect()
}

#[test]
fn by_default_eose_has_two_elements_and_no_limit_is_exceeded_by_ties() {
    let relay = Relay::start("[limits]\ndefault_limit = 10\n[tiers.anonymous]\nmax_limit = 20");
    assert!(!relay.information()["supported_nips"].as_array().expect("a list").contains(&json!(67)));
    let key = Key::named("no hints");
    let mut client = relay.connect();
    client.publish_all(&of_one_second(&key, 30));
    for (limit, count) in [(1, 1), (2, 2), (20, 20), (21, 20), (1000, 20)] {
        assert_eq!(page(&mut client, &[json!({"limit": limit})]), (count, PLAIN.into()), "limit {limit}");
    }
    assert_eq!(page(&mut client, &[json!({})]), (10, PLAIN.into()));
    assert_eq!(page(&mut client, &[json!({"ids": []})]), (0, PLAIN.into()));
}

#[test]
fn hints_are_advertised_where_they_are_given_and_a_reload_turns_them_on() {
    let relay = Relay::start("");
    let mut client = relay.connect();
    assert_eq!(page(&mut client, &[json!({})]), (0, PLAIN.into()));
    relay.reload("[limits]\neose_hints = true");
    relay.wait_for_log("the configuration was reloaded");
    assert_eq!(page(&mut client, &[json!({})]), (0, FINISH.into()));
    assert!(relay.information()["supported_nips"].as_array().expect("a list").contains(&json!(67)));
}

#[test]
fn eose_says_finish_when_everything_was_sent_and_more_when_not() {
    let (key, relay) = (Key::named("hints"), hinting(""));
    let at = now() - 100;
    let mut client = relay.connect();
    client.publish_all(&(0..10).map(|n| key.event(1, at + n, json!([]), "")).collect::<Vec<_>>());
    let mut of = |filter: Value| page(&mut client, &[filter]);
    assert_eq!(of(json!({"authors": [key.hex]})), (10, FINISH.into()));
    assert_eq!(of(json!({"authors": [key.hex], "limit": 11})), (10, FINISH.into()));
    assert_eq!(of(json!({"authors": [key.hex], "limit": 10})), (10, FINISH.into()));
    assert_eq!(of(json!({"authors": [key.hex], "limit": 9})), (9, MORE.into()));
    assert_eq!(of(json!({"authors": [key.hex], "limit": 1, "until": at})), (1, FINISH.into()));
    assert_eq!(of(json!({"authors": ["ab".repeat(32)]})), (0, FINISH.into()));
    assert_eq!(of(json!({"authors": []})), (0, FINISH.into()));
}

#[test]
fn a_limit_of_zero_gets_no_hint() {
    let (key, relay) = (Key::named("no hint"), hinting(""));
    let mut client = relay.connect();
    client.publish(&key.note("x"));
    assert_eq!(page(&mut client, &[json!({"authors": [key.hex], "limit": 0})]), (0, PLAIN.into()));
}

#[test]
fn finish_is_said_only_if_no_filter_was_cut() {
    let (key, relay) = (Key::named("several hints"), hinting(""));
    let at = now() - 100;
    let mut client = relay.connect();
    client.publish_all(&(0..6).map(|n| key.event(101 + n % 2, at + n, json!([]), "")).collect::<Vec<_>>());
    let of = |kind: u64, limit: u64| json!({"authors": [key.hex], "kinds": [kind], "limit": limit});
    assert_eq!(page(&mut client, &[of(101, 3), of(102, 3)]), (6, FINISH.into()));
    assert_eq!(page(&mut client, &[of(101, 3), of(102, 2)]), (5, MORE.into()));
    // The limit of one filter cuts it off, but the other filter sends it.
    assert_eq!(page(&mut client, &[of(101, 1), json!({"authors": [key.hex]})]), (6, FINISH.into()));
}

#[test]
fn a_page_that_the_default_limit_cut_holds_every_event_of_its_last_second() {
    let (key, relay) = (Key::named("ties"), hinting("default_limit = 9"));
    let at = now() - 100;
    let mut client = relay.connect();
    let event = |n: u64| key.event(1, at + n / 8, json!([]), &n.to_string());
    client.publish_all(&(0..24).map(event).collect::<Vec<Signed>>());
    let mut of = |filter: Value| page(&mut client, &[filter]);
    assert_eq!(of(json!({"authors": [key.hex]})), (16, MORE.into()));
    assert_eq!(of(json!({"authors": [key.hex], "until": at + 1})), (16, FINISH.into()));
    assert_eq!(of(json!({"authors": [key.hex], "until": at})), (8, FINISH.into()));
    // The client gets as many as it asked for.
    for limit in [1, 3, 9, 17] {
        assert_eq!(of(json!({"authors": [key.hex], "limit": limit})), (limit, MORE.into()), "limit {limit}");
    }
    assert_eq!(of(json!({"authors": [key.hex], "limit": 24})), (24, FINISH.into()));
}

#[test]
fn paging_by_until_meets_every_event_once() {
    let (key, relay) = (Key::named("paging"), hinting("default_limit = 7"));
    let at = now() - 1000;
    let mut client = relay.connect();
    // Seconds of one to five events.
    let event = |n: u64| key.event(1, at + n * n % 37, json!([]), &n.to_string());
    let events: Vec<Signed> = (0..60).map(event).collect();
    client.publish_all(&events);
    let mut got = Vec::new();
    let mut until = now();
    loop {
        let (page, eose) = client.open("s", &[json!({"authors": [key.hex], "until": until})]);
        let last: Value = serde_json::from_str(page.last().expect("a page has events")).expect("JSON");
        until = last["created_at"].as_u64().expect("a time") - 1;
        got.extend(page);
        if eose == FINISH {
            break;
        }
        assert_eq!(eose, MORE);
    }
    let mut wanted: Vec<String> = events.into_iter().map(|event| event.text).collect();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

#[test]
fn a_flood_of_one_second_extends_a_page_only_so_far() {
    let limits = "default_limit = 5\nmax_tie_extension = 4\n[tiers.anonymous]\nmax_limit = 100\n";
    let relay = hinting(&format!("{limits}[tiers.authenticated]\nmax_limit = 7\n[auth]\nchallenge = \"connect\""));
    let key = Key::named("flood of a second");
    let mut client = relay.connect();
    client.publish_all(&of_one_second(&key, 20));
    assert_eq!(page(&mut client, &[json!({})]), (9, MORE.into()));
    assert_eq!(page(&mut client, &[json!({"limit": 16})]), (16, MORE.into()));
    // The largest limit of a filter is never exceeded.
    client.authenticate(&key);
    assert_eq!(page(&mut client, &[json!({})]), (7, MORE.into()));
    assert_eq!(page(&mut client, &[json!({"limit": 16})]), (7, MORE.into()));
}
