//! NIP-45, counting.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, hex, now};

/// The registers computed as NIP-45 describes it, on digits instead of bytes.
fn registers(target: &str, authors: &[&Key]) -> String {
    let digit = target.chars().nth(32).and_then(|digit| digit.to_digit(16)).expect("a hex digit");
    let offset = digit as usize + 8;
    let mut registers = [0_u32; 256];
    for author in authors {
        let bits: String =
            author.hex.chars().map(|digit| format!("{:04b}", digit.to_digit(16).expect("hex"))).collect();
        let register = usize::from_str_radix(&bits[offset * 8..offset * 8 + 8], 2).expect("eight bits");
        let zeros = bits[offset * 8 + 8..].find('1').expect("some bit is set") as u32;
        registers[register] = registers[register].max(zeros + 1);
    }
    registers.iter().map(|register| format!("{register:02x}")).collect()
}

#[test]
fn a_count_is_the_size_of_the_union_of_its_filters() {
    let (key, relay) = (Key::named("union"), Relay::shared());
    let mut client = relay.connect();
    let events: Vec<Signed> = (0..10).map(|n| key.event(101 + n % 2, now(), json!([]), &n.to_string())).collect();
    client.publish_all(&events);
    let of = |kind: u64| json!({"authors": [key.hex], "kinds": [kind]});
    client.ask(json!(["COUNT", "a", of(101)]).to_string(), r#"["COUNT","a",{"count":5}]"#);
    client.ask(json!(["COUNT", "a", of(101), of(102)]).to_string(), r#"["COUNT","a",{"count":10}]"#);
    let overlapping = json!(["COUNT", "a", of(101), {"authors": [key.hex]}, of(101), {"ids": [events[0].id]}]);
    client.ask(overlapping.to_string(), r#"["COUNT","a",{"count":10}]"#);
    client.ask(json!(["COUNT", "a", {"ids": []}]).to_string(), r#"["COUNT","a",{"count":0}]"#);
}

#[test]
fn a_count_goes_beyond_every_limit_of_req_and_is_exact() {
    let relay = Relay::start("[limits]\ndefault_limit = 2\n[tiers.anonymous]\nmax_limit = 3");
    let key = Key::named("beyond limits");
    let mut client = relay.connect();
    let events: Vec<Signed> = (0..20).map(|n| key.note(&n.to_string())).collect();
    client.publish_all(&events);
    client.ask(r#"["COUNT","a",{}]"#, r#"["COUNT","a",{"count":20}]"#);
    client.ask(r#"["COUNT","a",{"limit":1}]"#, r#"["COUNT","a",{"count":20}]"#);
}

#[test]
fn a_count_is_no_subscription() {
    let (key, relay) = (Key::named("no subscription"), Relay::start("[tiers.anonymous]\nmax_subscriptions = 1"));
    let mut client = relay.connect();
    client.open("s", &[json!({"kinds": [7]})]);
    for _ in 0..3 {
        client.counts(json!({"authors": [key.hex]}), 0);
    }
    // Nor does it affect a subscription with the same id.
    client.ask(json!(["COUNT", "s", {"authors": [key.hex]}]).to_string(), r#"["COUNT","s",{"count":0}]"#);
    client.publish(&key.note("x"));
    client.is_silent();
    let reaction = key.event(7, now(), json!([]), "+");
    client.send(reaction.message());
    client.expect_all([reaction.frame("s"), reaction.ok()]);
}

#[test]
fn registers_are_those_of_nip_45_for_every_kind_of_target() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let authors: Vec<Key> = (0..40).map(|n| Key::named(&format!("counted {n}"))).collect();
    let (id, friend) = (hex(&Sha256::digest("an event")), Key::named("counted friend").hex);
    let address = format!("30023:{friend}:article");
    let word = hex(&Sha256::digest("counted word"));
    let targets = [
        ("e", id.as_str(), 7, id.as_str()),
        ("q", &id, 1, &id),
        ("E", &id, 1111, &id),
        ("p", &friend, 3, &friend),
        ("a", &address, 1111, &friend),
        ("t", "counted word", 1, &word),
    ];
    for (tag, value, kind, target) in targets {
        let events: Vec<Signed> = authors.iter().map(|key| key.event(kind, now(), json!([[tag, value]]), "")).collect();
        client.publish_all(&events);
        let all: Vec<&Key> = authors.iter().collect();
        let answer = client.count(&json!({format!("#{tag}"): [value], "kinds": [kind]}));
        assert_eq!(answer, json!({"count": 40, "hll": registers(target, &all)}), "#{tag}");
    }
}

#[test]
fn an_author_is_counted_once_in_the_registers_and_every_event_in_the_count() {
    let relay = Relay::shared();
    let (key, id) = (Key::named("many reactions"), hex(&Sha256::digest("many reactions")));
    let mut client = relay.connect();
    let events: Vec<Signed> = (0..5).map(|n| key.event(7, now(), json!([["e", id]]), &n.to_string())).collect();
    client.publish_all(&events);
    let frame = json!(["COUNT", "a", {"#e": [id], "kinds": [7]}]).to_string();
    client.ask(frame, &format!(r#"["COUNT","a",{{"count":5,"hll":"{}"}}]"#, registers(&id, &[&key])));
}

#[test]
fn only_one_tag_condition_with_one_value_has_registers() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let id = "45".repeat(32);
    let without = [
        json!({"kinds": [7]}),
        json!({"#e": [id], "#p": [id]}),
        json!({"#e": [id, "54".repeat(32)]}),
        json!({"ids": [id]}),
    ];
    for filter in without {
        assert_eq!(client.count(&filter).get("hll"), None, "{filter}");
    }
    let two = json!(["COUNT", "a", {"#e": [id]}, {"#e": ["54".repeat(32)]}]).to_string();
    client.ask(two, r#"["COUNT","a",{"count":0}]"#);
    assert_eq!(client.count(&json!({"#e": [id]})), json!({"count": 0, "hll": "00".repeat(256)}));
}

#[test]
fn a_refused_count_is_closed() {
    let relay = Relay::start("[auth]\nread = \"authenticated\"\n[limits]\nmax_filters = 2");
    let mut client = relay.connect();
    client.ask(r#"["COUNT","a",{}]"#, r#"["CLOSED","a","auth-required: only authenticated clients may read"]"#);
    client.ask(r#"["COUNT","a",{},{},{}]"#, r#"["CLOSED","a","invalid: too many filters: 3, the limit is 2"]"#);
    client.ask(r#"["COUNT","a",{"x":1}]"#, r#"["CLOSED","a","unsupported: filter key \"x\" is unknown"]"#);
    client.authenticate(&Key::named("count reader"));
    assert_eq!(client.count(&json!({})), json!({"count": 0}));
}
