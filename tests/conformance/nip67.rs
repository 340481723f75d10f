//! NIP-67, what EOSE says about completeness.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const FINISH: &str = r#"["EOSE","s",["finish"]]"#;
const MORE: &str = r#"["EOSE","s",["more"]]"#;

/// How many events come, and what EOSE says.
fn page(client: &mut Client<'_>, filters: &[Value]) -> (usize, String) {
    let (events, eose) = client.open("s", filters);
    (events.len(), eose)
}

#[test]
fn eose_says_finish_when_everything_was_sent_and_more_when_not() {
    let (key, relay) = (Key::named("hints"), Relay::shared());
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
    let (key, relay) = (Key::named("no hint"), Relay::shared());
    let mut client = relay.connect();
    client.publish(&key.note("x"));
    assert_eq!(page(&mut client, &[json!({"authors": [key.hex], "limit": 0})]), (0, r#"["EOSE","s"]"#.into()));
}

#[test]
fn finish_is_said_only_if_no_filter_was_cut() {
    let (key, relay) = (Key::named("several hints"), Relay::shared());
    let at = now() - 100;
    let mut client = relay.connect();
    client.publish_all(&(0..6).map(|n| key.event(101 + n % 2, at + n, json!([]), "")).collect::<Vec<_>>());
    let of = |kind: u64, limit: u64| json!({"authors": [key.hex], "kinds": [kind], "limit": limit});
    assert_eq!(page(&mut client, &[of(101, 3), of(102, 3)]), (6, FINISH.into()));
    assert_eq!(page(&mut client, &[of(101, 3), of(102, 2)]), (5, MORE.into()));
    // Cut by one filter, but sent for the other.
    assert_eq!(page(&mut client, &[of(101, 1), json!({"authors": [key.hex]})]), (6, FINISH.into()));
}

#[test]
fn a_page_holds_every_event_of_its_last_second() {
    let (key, relay) = (Key::named("ties"), Relay::shared());
    let at = now() - 100;
    let mut client = relay.connect();
    let event = |n: u64| key.event(1, at + n / 8, json!([]), &n.to_string());
    client.publish_all(&(0..24).map(event).collect::<Vec<Signed>>());
    let limited = |limit: u64| json!({"authors": [key.hex], "limit": limit});
    assert_eq!(page(&mut client, &[limited(3)]), (8, MORE.into()));
    assert_eq!(page(&mut client, &[limited(8)]), (8, MORE.into()));
    assert_eq!(page(&mut client, &[limited(9)]), (16, MORE.into()));
    assert_eq!(page(&mut client, &[limited(17)]), (24, FINISH.into()));
}

#[test]
fn paging_by_until_meets_every_event_once() {
    let (key, relay) = (Key::named("paging"), Relay::shared());
    let at = now() - 1000;
    let mut client = relay.connect();
    // Seconds of one to five events.
    let event = |n: u64| key.event(1, at + n * n % 37, json!([]), &n.to_string());
    let events: Vec<Signed> = (0..60).map(event).collect();
    client.publish_all(&events);
    let mut got = Vec::new();
    let mut until = now();
    loop {
        let (page, eose) = client.open("s", &[json!({"authors": [key.hex], "limit": 7, "until": until})]);
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
    let relay = Relay::start("[limits]\nmax_tie_extension = 4");
    let (key, at) = (Key::named("flood of a second"), now() - 100);
    let mut client = relay.connect();
    client.publish_all(&(0..20).map(|n| key.event(1, at, json!([]), &n.to_string())).collect::<Vec<_>>());
    assert_eq!(page(&mut client, &[json!({"limit": 5})]), (9, MORE.into()));
    assert_eq!(page(&mut client, &[json!({"limit": 16})]), (20, FINISH.into()));
    assert_eq!(page(&mut client, &[json!({"limit": 15})]), (19, MORE.into()));
}
