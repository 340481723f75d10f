//! Who may do what, and how much: tiers, rates, lists, and what a reload changes.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

/// How many of `count` subscriptions stay open.
fn open_subscriptions(client: &mut Client<'_>, count: usize) -> usize {
    let mut open = 0;
    for n in 0..count {
        client.send(json!(["REQ", format!("sub {n}"), {"kinds": [9]}]).to_string());
        let answer = client.next();
        if answer.starts_with("[\"EOSE\"") {
            open += 1;
        } else {
            assert!(answer.contains(r#""error: too many subscriptions: "#), "{answer}");
        }
    }
    (0..count).for_each(|n| client.send(json!(["CLOSE", format!("sub {n}")]).to_string()));
    open
}

#[test]
fn limits_go_by_who_asks_anonymous_authenticated_or_listed() {
    let (listed, known) = (Key::named("tier listed"), Key::named("tier known"));
    let relay = Relay::start(&format!(
        "[tiers.anonymous]\nmax_subscriptions = 2\nmax_limit = 3\nmax_event_bytes = 1000\n\
         [tiers.authenticated]\nmax_subscriptions = 4\nmax_limit = 5\nmax_event_bytes = 2000\n\
         [tiers.listed]\nmax_subscriptions = 6\nmax_limit = 7\nmax_event_bytes = 4000\n\
         [limits]\ndefault_limit = 1\n[access]\nlisted_pubkeys = [\"{}\"]",
        listed.hex
    ));
    let mut client = relay.connect();
    client.publish_all(&(0..9).map(|n| known.note(&n.to_string())).collect::<Vec<_>>());
    for (key, subscriptions, limit, bytes) in
        [(None, 2, 3, 1000), (Some(&known), 4, 5, 2000), (Some(&listed), 6, 7, 4000)]
    {
        if let Some(key) = key {
            client.authenticate(key);
        }
        assert_eq!(open_subscriptions(&mut client, 10), subscriptions);
        assert_eq!(client.query(&[json!({"limit": 100})]).len(), limit);
        let large = known.note(&"x".repeat(bytes));
        client.send(large.message());
        let answer = client.next();
        let refusal = format!(" bytes, the limit is {bytes}\"]");
        assert!(
            answer.contains(r#"false,"invalid: the event is too large: "#) && answer.ends_with(&refusal),
            "{answer}"
        );
        client.publish(&known.note(&"y".repeat(bytes - 200)));
    }
    // The relay advertises the limits that everybody has.
    let limitation = &relay.information()["limitation"];
    assert_eq!((&limitation["max_subscriptions"], &limitation["max_limit"]), (&json!(2), &json!(3)));
}

#[test]
fn five_thousand_notes_sent_without_waiting_are_all_accepted() {
    let relay = Relay::start("[metrics]\nlisten = \"127.0.0.1:0\"\n[rates]\nexempt_addresses = []");
    let key = Key::named("first sync");
    let mut client = relay.connect();
    client.publish_all(&(0..5_000).map(|n| key.note(&n.to_string())).collect::<Vec<_>>());
    // Nor are they delayed: libraries wait only a few seconds for an OK.
    let (_, metrics) = relay.watch("/metrics");
    assert!(metrics.contains("\nweir_connections_held_seconds_total 0.0\n"), "{metrics}");
}

#[test]
fn what_comes_too_fast_is_read_later_and_answered() {
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\n[tiers.anonymous]\n\
         events = { per_second = 20, burst = 3 }\nqueries = { per_second = 20, burst = 4 }",
    );
    let key = Key::named("too fast");
    let mut client = relay.connect();
    client.publish_all(&(0..10).map(|n| key.note(&n.to_string())).collect::<Vec<_>>());
    (0..10).for_each(|n| client.send(json!(["REQ", format!("{n}"), {"ids": []}]).to_string()));
    let answers: Vec<String> = (0..10).map(|_| client.next()).collect();
    let expected: Vec<String> = (0..10).map(|n| format!(r#"["EOSE","{n}"]"#)).collect();
    assert_eq!(answers, expected);
}

/// In this tier a connection costs 20 s, and every message more.
const POOR: &str = "[tiers.anonymous]\ncpu_us = { per_second = 1, burst = 1 }\n\
                    [rates]\nexempt_addresses = []\nrefuse_after_s = 1\n";

#[test]
fn who_owes_too_much_is_refused_by_name() {
    let relay = Relay::start(&format!("{POOR}close_after_s = 3600"));
    let note = Key::named("owes too much").note("x");
    let mut client = relay.connect();
    let sent = [
        note.message(),
        r#"["REQ","r",{}]"#.into(),
        r#"["CLOSE","r"]"#.into(),
        r#"["COUNT","c",{}]"#.into(),
        r#"["NEG-OPEN","n",{},"6100000200"]"#.into(),
        r#"["NEG-MSG","m","6100000200"]"#.into(),
    ];
    sent.into_iter().for_each(|message| client.send(message));
    let heads = [
        format!(r#"["OK","{}",false,"#, note.id),
        r#"["CLOSED","r","#.into(),
        r#"["CLOSED","c","#.into(),
        r#"["NEG-ERR","n","#.into(),
        r#"["NEG-ERR","m","#.into(),
    ];
    for head in heads {
        let answer = client.next();
        let refusal = format!(r#"{head}"rate-limited: your requests cost too much; try again in "#);
        assert!(answer.starts_with(&refusal), "{answer}");
    }
}

#[test]
fn who_owes_far_too_much_is_closed_and_its_address_turned_away() {
    let relay = Relay::start(&format!("{POOR}close_after_s = 10"));
    let mut client = relay.connect();
    client.send(r#"["REQ","r",{}]"#);
    let answer = client.next();
    assert!(answer.starts_with(r#"["CLOSED","r","rate-limited: "#), "{answer}");
    assert_eq!(client.closing_code(), 1008);
    // A request costs 50 µs, and the address has 80: after two it owes 20 s.
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\nrefuse_after_s = 1\nclose_after_s = 10\n\
         cpu_us = { per_second = 1, burst = 80 }",
    );
    let get = "GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    let heads = [(); 2].map(|()| relay.http(get).0);
    assert!(heads[0].starts_with("http/1.1 200") && heads[1].starts_with("http/1.1 429"), "{heads:?}");
}

#[test]
fn filters_beyond_the_limits_are_closed_by_name() {
    let relay =
        Relay::start("[limits]\nmax_filters = 2\nmax_filter_items = 5\n[tiers.anonymous]\nmax_filter_bytes = 2000");
    let mut client = relay.connect();
    let closed = |text: &str| json!(["CLOSED", "s", text]).to_string();
    client.ask(r#"["REQ","s",{},{},{}]"#, &closed("invalid: too many filters: 3, the limit is 2"));
    let wide = r##"["REQ","s",{"kinds":[1,2,3]},{"#t":["a","b","c"]}]"##;
    client.ask(wide, &closed("invalid: too many values in the filters: 6, the limit is 5"));
    // Filters are charged by their bytes: one long value as much as many short ones.
    let long = json!({"#t": ["x".repeat(500)]});
    client.open("a", std::slice::from_ref(&long));
    client.send(json!(["REQ", "s", long]).to_string());
    let closed = client.next();
    assert!(
        closed.starts_with(r#"["CLOSED","s","error: filters too large: a connection may use at most 2000 bytes, "#)
    );
    client.send(json!(["COUNT", "c", long]).to_string());
    assert!(client.next().starts_with(r#"["CLOSED","c","error: filters too large: "#));
    client.open("a", std::slice::from_ref(&long));
    client.send(r#"["CLOSE","a"]"#);
    client.open("s", &[long]);
}

#[test]
fn kinds_and_authors_on_the_operators_lists_are_blocked() {
    let (alice, bob) = (Key::named("lists alice"), Key::named("lists bob"));
    let relay = Relay::start(&format!(
        "[access]\ndeny_pubkeys = [\"{}\"]\ndeny_kinds = [1984, \"30000-30009\"]\nallow_kinds = [1, 5, \"1000-40000\"]",
        bob.hex
    ));
    let mut client = relay.connect();
    client.publish(&alice.note("x"));
    client.refused(&bob.note("x"), "blocked: the author is not welcome here");
    for kind in [1984, 30_000, 30_009, 7, 0] {
        let reason = format!("blocked: kind {kind} is not accepted here");
        client.refused(&alice.event(kind, now(), json!([]), ""), &reason);
    }
    client.publish(&alice.event(30_010, now(), json!([]), ""));
}

#[test]
fn old_ephemeral_events_are_refused() {
    let relay = Relay::shared();
    let key = Key::named("old ephemeral");
    let old = key.event(20_001, now() - 400, json!([]), "");
    relay.connect().refused(&old, "invalid: created_at of an ephemeral event is more than 300 s ago");
}

#[test]
fn a_reload_holds_from_the_next_message_on_for_open_connections_too() {
    let relay = Relay::start("[tiers.anonymous]\nmax_subscriptions = 2");
    let mut client = relay.connect();
    assert_eq!(open_subscriptions(&mut client, 4), 2);
    relay.reload("[tiers.anonymous]\nmax_subscriptions = 3\n[limits]\nmax_event_tags = 1\n[info]\nname = \"renamed\"");
    relay.wait_for_log("the configuration was reloaded");
    assert_eq!(open_subscriptions(&mut client, 4), 3);
    let tagged = Key::named("reload").event(1, now(), json!([["t", "x"], ["t", "y"]]), "");
    client.refused(&tagged, "invalid: too many tags: 2, the limit is 1");
    let document = relay.information();
    assert_eq!((&document["name"], &document["limitation"]["max_subscriptions"]), (&json!("renamed"), &json!(3)));
}

#[test]
fn a_reload_of_a_file_with_an_error_changes_nothing() {
    let relay = Relay::start("[tiers.anonymous]\nmax_subscriptions = 2");
    let mut client = relay.connect();
    for broken in ["[tiers.anonymous]\nmax_subscription = 3", "[limits", "[limits]\nmax_filters = \"many\""] {
        relay.reload(broken);
        relay.wait_for_log("the configuration was not reloaded");
        assert_eq!(open_subscriptions(&mut client, 4), 2);
    }
}

#[test]
fn a_reload_changes_who_may_see_what_on_open_subscriptions() {
    let relay = Relay::start("");
    let key = Key::named("reload privacy");
    let mut follower = relay.connect();
    follower.open("s", &[json!({"authors": [key.hex]})]);
    let mut client = relay.connect();
    // The time is asked once: a second later, the second event would be the first.
    let start = now();
    let event = |n: u64| key.event(7, start - n, json!([]), "+");
    client.publish(&event(1));
    follower.expect(&event(1).frame("s"));
    relay.reload("[auth]\nread_kinds = [7]");
    relay.wait_for_log("the configuration was reloaded");
    let (hidden, marker) = (event(2), key.note("marker"));
    client.publish(&hidden);
    client.publish(&marker);
    follower.expect(&marker.frame("s"));
    client.finds(json!({"authors": [key.hex]}), &[&marker]);
}

#[test]
fn every_reason_begins_with_a_word_of_the_nips() {
    let words = [
        "duplicate",
        "pow",
        "blocked",
        "rate-limited",
        "invalid",
        "restricted",
        "mute",
        "error",
        "auth-required",
        "unsupported",
    ];
    let relay = Relay::start("[auth]\nread_kinds = [7]\n[access]\ndeny_kinds = [2]\n[limits]\nmax_filters = 1");
    let key = Key::named("reasons");
    let mut client = relay.connect();
    client.challenge();
    let kept = key.note("x");
    client.publish(&kept);
    let messages = [
        kept.message(),
        key.event(2, now(), json!([]), "").message(),
        key.event(20_000, now(), json!([]), "").message(),
        key.event(1, now() + 5000, json!([]), "").message(),
        key.event(1, now(), json!([["-"]]), "").message(),
        key.delete(now(), json!([])).message(),
        kept.with("\"content\":\"x\"", "\"content\":\"y\"").message(),
        r#"["REQ","s",{"kinds":[7]}]"#.into(),
        r#"["REQ","s",{},{}]"#.into(),
        r#"["REQ","s",{"search":"x"}]"#.into(),
        r#"["COUNT","s",{"kinds":[4]}]"#.into(),
        r#"["NONSENSE"]"#.into(),
    ];
    for message in messages {
        client.send(message);
        let answer: Value = serde_json::from_str(&client.next()).expect("JSON");
        let reason = answer.as_array().and_then(|answer| answer.last()).and_then(Value::as_str).expect("a reason");
        let (word, text) = reason.split_once(": ").expect("a word and a text");
        assert!(words.contains(&word) && !text.is_empty(), "{answer}");
    }
}
