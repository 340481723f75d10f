//! NIP-01, filters: which events match, in which order, and how many are sent.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// The texts of events.
fn texts<'a>(events: impl IntoIterator<Item = &'a Signed>) -> Vec<String> {
    events.into_iter().map(|event| event.text.clone()).collect()
}

/// Newest first, then lowest id.
fn in_order(created: Vec<(u64, Signed)>) -> Vec<Signed> {
    let mut created = created;
    created.sort_by(|(at, a), (bt, b)| bt.cmp(at).then_with(|| a.id.cmp(&b.id)));
    created.into_iter().map(|(_, event)| event).collect()
}

/// 40 events of 10 seconds, four of each, in the order of an answer.
fn four_a_second(key: &Key, from: u64) -> Vec<Signed> {
    let event =
        |n: u64| (from + n % 10, key.event(1, from + n % 10, json!([["t", (n % 3).to_string()]]), &n.to_string()));
    in_order((0..40).map(event).collect())
}

#[test]
fn stored_events_come_newest_first_and_ties_by_lowest_id() {
    let (key, relay) = (Key::named("order"), Relay::shared());
    let events = four_a_second(&key, now() - 100);
    let mut client = relay.connect();
    client.publish_all(&events);
    assert_eq!(client.query(&[json!({"authors": [key.hex]})]), texts(&events));
    assert_eq!(client.query(&[json!({"authors": [key.hex], "kinds": [1, 2]})]), texts(&events));
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(client.query(&[json!({"ids": ids})]), texts(&events));
    let tagged = client.query(&[json!({"authors": [key.hex], "#t": ["2", "0", "1"]})]);
    assert_eq!(tagged, texts(&events));
}

#[test]
fn conditions_of_a_filter_all_hold_and_of_a_list_one() {
    let (alice, bob, relay) = (Key::named("and alice"), Key::named("and bob"), Relay::shared());
    let at = now();
    let a1 = alice.event(1, at, json!([["t", "and x"], ["r", "y"]]), "");
    let a7 = alice.event(7, at - 1, json!([["t", "and x"]]), "");
    let b1 = bob.event(1, at - 2, json!([["r", "y"], ["t", "and z"]]), "");
    let mut client = relay.connect();
    client.publish_all([&a1, &a7, &b1]);
    let both = json!([alice.hex, bob.hex]);
    let cases = [
        (json!({"authors": both}), vec![&a1, &a7, &b1]),
        (json!({"authors": both, "kinds": [1]}), vec![&a1, &b1]),
        (json!({"authors": both, "kinds": [1, 7], "#t": ["and x"]}), vec![&a1, &a7]),
        (json!({"authors": both, "#t": ["and x", "and z"], "#r": ["y"]}), vec![&a1, &b1]),
        (json!({"authors": both, "#t": ["and x"], "#r": ["y"]}), vec![&a1]),
        (json!({"authors": both, "#t": ["y"]}), vec![]),
        (json!({"#t": ["and x", "and z"]}), vec![&a1, &a7, &b1]),
        (json!({"ids": [a1.id, b1.id], "authors": [bob.hex]}), vec![&b1]),
        (json!({"ids": [a1.id, a7.id], "kinds": [7], "since": at - 1, "until": at - 1}), vec![&a7]),
        (json!({"ids": [a1.id], "kinds": [7]}), vec![]),
    ];
    for (filter, events) in cases {
        client.finds(filter.clone(), &events);
        client.counts(filter, events.len() as u64);
    }
}

#[test]
fn several_filters_are_one_stream_without_repeats_and_each_with_its_own_limit() {
    let (key, relay) = (Key::named("several filters"), Relay::shared());
    let at = now() - 100;
    let events = in_order((0..30).map(|n| (at + n, key.event(101 + n % 3, at + n, json!([]), ""))).collect());
    let mut client = relay.connect();
    client.publish_all(&events);
    let of_kind = |kind: u64| json!({"authors": [key.hex], "kinds": [kind]});
    let all = client.query(&[of_kind(102), of_kind(103), of_kind(101), json!({"authors": [key.hex]})]);
    assert_eq!(all, texts(&events));
    let limited = client.query(&[
        json!({"authors": [key.hex], "kinds": [101], "limit": 2}),
        json!({"authors": [key.hex], "kinds": [102], "limit": 1}),
        json!({"authors": [key.hex], "kinds": [102, 101], "since": at + 28}),
    ]);
    // Kinds 101, 102, 103 take turns; the newest, at 29, is of kind 103: kind 102 at 28, kind 101 at 27 and 24.
    assert_eq!(limited, texts([&events[1], &events[2], &events[5]]));
}

#[test]
fn since_and_until_are_both_inclusive() {
    let (key, relay) = (Key::named("window"), Relay::shared());
    let at = now() - 100;
    let events = in_order((0..5).map(|n| (at + n, key.event(1, at + n, json!([]), ""))).collect());
    let mut client = relay.connect();
    client.publish_all(&events);
    let window = |since: u64, until: u64| json!({"authors": [key.hex], "since": since, "until": until});
    client.finds(window(at + 1, at + 3), &[&events[1], &events[2], &events[3]]);
    client.finds(window(at + 2, at + 2), &[&events[2]]);
    client.finds(window(at + 3, at + 1), &[]);
    client.finds(json!({"authors": [key.hex], "since": at + 3}), &[&events[0], &events[1]]);
    client.finds(json!({"authors": [key.hex], "until": at}), &[&events[4]]);
    client.finds(json!({"authors": [key.hex], "since": 0, "until": u64::MAX}), &events.iter().collect::<Vec<_>>());
}

#[test]
fn an_empty_list_matches_nothing_stored_or_live() {
    let (key, relay) = (Key::named("empty list"), Relay::shared());
    let mut client = relay.connect();
    client.publish(&key.note("before"));
    let author = json!([key.hex]);
    let empty = [
        json!({"ids": []}),
        json!({"authors": []}),
        json!({"authors": author, "kinds": []}),
        json!({"authors": author, "#t": []}),
        json!({"authors": author, "#e": []}),
    ];
    for (sub, filter) in ["a", "b", "c", "d", "e"].iter().zip(empty) {
        assert_eq!(client.open(sub, std::slice::from_ref(&filter)), (vec![], format!(r#"["EOSE","{sub}"]"#)));
        client.counts(filter, 0);
    }
    client.publish(&key.note("after"));
    client.is_silent();
}

#[test]
fn a_limit_gives_the_newest_and_zero_gives_none_but_stays_open() {
    let (key, relay) = (Key::named("limit"), Relay::shared());
    let at = now() - 100;
    let events = in_order((0..6).map(|n| (at + n, key.event(1, at + n, json!([]), ""))).collect());
    let mut client = relay.connect();
    client.publish_all(&events);
    for limit in [1, 3, 6, 7, 100_000_000_000_u64] {
        let wanted = texts(events.iter().take(limit as usize));
        assert_eq!(client.query(&[json!({"authors": [key.hex], "limit": limit})]), wanted, "limit {limit}");
    }
    assert_eq!(
        client.open("zero", &[json!({"authors": [key.hex], "limit": 0})]),
        (vec![], r#"["EOSE","zero"]"#.into())
    );
    let live = key.note("live");
    client.send(live.message());
    client.expect_all([live.frame("zero"), live.ok()]);
}

#[test]
fn after_eose_limit_no_longer_counts() {
    let (key, relay) = (Key::named("limit is for stored"), Relay::shared());
    let mut follower = relay.connect();
    follower.open("one", &[json!({"authors": [key.hex], "limit": 1})]);
    let events = ["a", "b", "c"].map(|content| key.note(content));
    let mut client = relay.connect();
    for event in &events {
        client.publish(event);
        follower.expect(&event.frame("one"));
    }
}

#[test]
fn a_value_out_of_form_closes_the_subscription_as_invalid() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let hex = "ab".repeat(32);
    let cases = [
        (json!({"ids": [hex.to_uppercase()]}), "ids is not a list of strings of 64 lower-case hex digits"),
        (json!({"ids": [format!("0x{}", &hex[2..])]}), "ids is not a list of strings of 64 lower-case hex digits"),
        (json!({"ids": [&hex[..62]]}), "ids is not a list of strings of 64 lower-case hex digits"),
        (json!({"ids": hex}), "ids is not a list of strings of 64 lower-case hex digits"),
        (json!({"authors": [&hex[..8]]}), "authors is not a list of strings of 64 lower-case hex digits"),
        (json!({"authors": [hex, 1]}), "authors is not a list of strings of 64 lower-case hex digits"),
        (json!({"#e": ["x"]}), "#e is not a list of strings of 64 lower-case hex digits"),
        (json!({"#p": [hex.to_uppercase()]}), "#p is not a list of strings of 64 lower-case hex digits"),
        (json!({"#t": ["a", 1]}), "#t is not a list of Unicode strings"),
        (json!({"#t": "a"}), "#t is not a list of Unicode strings"),
        (json!({"kinds": 1}), "kinds is not a list of whole numbers"),
        (json!({"kinds": ["1"]}), "kinds is not a list of whole numbers"),
        (json!({"kinds": [1.5]}), "kinds is not a list of whole numbers"),
        (json!({"kinds": [null]}), "kinds is not a list of whole numbers"),
        (json!({"since": "1"}), "since is not a whole number"),
        (json!({"until": 1.5}), "until is not a whole number"),
        (json!({"limit": -1}), "limit is not a whole number of 0 or more"),
        (json!({"limit": "1"}), "limit is not a whole number of 0 or more"),
        (json!([]), "the filter is not a JSON object"),
        (json!("x"), "the filter is not a JSON object"),
    ];
    for (filter, text) in cases {
        let answer = json!(["CLOSED", "s", format!("invalid: {text}")]).to_string();
        client.ask(json!(["REQ", "s", filter]).to_string(), &answer);
        client.ask(json!(["COUNT", "s", {"kinds": [1]}, filter]).to_string(), &answer);
    }
    client.ask(r#"["REQ","s",{"kinds":[1],"kinds":[2]}]"#, r#"["CLOSED","s","invalid: kinds appears twice"]"#);
    client.is_silent();
}

/// `["<verb>","s",<filter>]`, with numbers that serde_json cannot hold.
fn ask(verb: &str, filter: &str) -> String {
    format!(r#"["{verb}","s",{filter}]"#)
}

#[test]
fn kinds_that_no_event_has_match_nothing_stored_counted_or_live() {
    let (key, relay) = (Key::named("no such kind"), Relay::shared());
    let mut client = relay.connect();
    let note = key.note("before");
    client.publish(&note);
    let none = ["[99999]", "[65536]", "[-1]", "[18446744073709551616,-1e400]"];
    for kinds in none {
        let filter = format!(r#"{{"authors":["{}"],"kinds":{kinds}}}"#, key.hex);
        client.ask(ask("REQ", &filter), r#"["EOSE","s"]"#);
        client.ask(ask("COUNT", &filter), r#"["COUNT","s",{"count":0}]"#);
        client.publish(&key.note(kinds));
        client.is_silent();
    }
    let filter = format!(r#"{{"authors":["{}"],"kinds":[-1,1,99999,1.0],"until":1e400}}"#, key.hex);
    client.ask(ask("COUNT", &filter), &format!(r#"["COUNT","s",{{"count":{}}}]"#, 1 + none.len()));
}

#[test]
fn times_and_limits_beyond_64_bits_are_read_for_what_they_mean() {
    let (key, relay) = (Key::named("beyond 64 bits"), Relay::shared());
    let mut client = relay.connect();
    client.publish(&key.note("one"));
    let cases = [
        (r#""since":-1"#, 1),
        (r#""since":-1e400"#, 1),
        (r#""until":18446744073709551616"#, 1),
        (r#""since":0.0,"until":1e400,"limit":1e400"#, 1),
        (r#""limit":18446744073709551616"#, 1),
        (r#""since":18446744073709551616"#, 0),
        (r#""since":281474976710656"#, 0),
        (r#""until":-1"#, 0),
    ];
    for (condition, count) in cases {
        let filter = format!(r#"{{"authors":["{}"],{condition}}}"#, key.hex);
        client.ask(ask("COUNT", &filter), &format!(r#"["COUNT","s",{{"count":{count}}}]"#));
        client.send(ask("REQ", &filter));
        assert_eq!(client.rest("s").0.len(), count, "{condition}");
    }
    let wrong = r#""s","invalid: limit is not a whole number of 0 or more"]"#;
    client.ask(ask("REQ", r#"{"limit":-1e400}"#), &format!(r#"["CLOSED",{wrong}"#));
    client.ask(r#"["NEG-OPEN","s",{"limit":-1e400},"61"]"#, &format!(r#"["NEG-ERR",{wrong}"#));
}

#[test]
fn null_in_a_filter_is_absence() {
    let (key, relay) = (Key::named("null"), Relay::shared());
    let mut client = relay.connect();
    let note = key.note("note");
    client.publish(&note);
    let nulls = r##""ids":null,"kinds":null,"#e":null,"since":null,"until":null,"limit":null,"search":null"##;
    let filter = format!(r#"{{"authors":["{}"],{nulls}}}"#, key.hex);
    client.ask(ask("COUNT", &filter), r#"["COUNT","s",{"count":1}]"#);
    client.ask(ask("REQ", &filter), &note.frame("s"));
    client.rest("s");
    let twice = r#"["CLOSED","s","invalid: kinds appears twice"]"#;
    client.ask(ask("REQ", r#"{"kinds":null,"kinds":[1]}"#), twice);
    client.ask(ask("REQ", r#"{"kinds":[1],"kinds":null}"#), twice);
}

#[test]
fn an_unknown_key_closes_the_subscription_as_unsupported() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    for key in ["search", "x", "#tt", "#1", "#", "&t", "Kinds", "id"] {
        let answer = json!(["CLOSED", "s", format!("unsupported: filter key {key:?} is unknown")]).to_string();
        client.ask(json!(["REQ", "s", {"limit": 1}, {key: ["a"]}]).to_string(), &answer);
    }
    client.is_silent();
}

#[test]
fn without_a_limit_the_default_holds_and_larger_ones_are_cut_in_silence() {
    let relay = Relay::start(
        "[limits]\ndefault_limit = 3\n[tiers.anonymous]\nmax_limit = 5\n[tiers.authenticated]\nmax_limit = 7",
    );
    let key = Key::named("clamp");
    let at = now() - 100;
    let events = in_order((0..9).map(|n| (at + n, key.event(1, at + n, json!([]), ""))).collect());
    let mut client = relay.connect();
    client.publish_all(&events);
    let mut given = |filter: Value| client.query(&[filter]).len();
    assert_eq!(given(json!({})), 3);
    assert_eq!([2, 4, 5, 6, 1_000].map(|limit| given(json!({"limit": limit}))), [2, 4, 5, 5, 5]);
    let limitation = &relay.information()["limitation"];
    assert_eq!((&limitation["default_limit"], &limitation["max_limit"]), (&json!(3), &json!(5)));
    client.authenticate(&key);
    assert_eq!(client.query(&[json!({"limit": 1_000})]).len(), 7);
}

#[test]
fn matching_is_the_same_for_what_is_stored_counted_and_live() {
    let (key, relay) = (Key::named("three ways"), Relay::shared());
    let at = now();
    let event = key.event(1, at, json!([["t", "three"], ["e", "ab".repeat(32)], ["p", key.hex]]), "");
    let yes = [
        json!({"ids": [event.id]}),
        json!({"authors": [key.hex], "kinds": [1]}),
        json!({"#t": ["three"], "since": at, "until": at}),
        json!({"#p": [key.hex], "#e": ["ab".repeat(32)]}),
    ];
    let no = [
        json!({"ids": [key.hex]}),
        json!({"authors": [key.hex], "kinds": [2]}),
        json!({"#t": ["three"], "since": at + 1}),
        json!({"#p": [key.hex], "#e": ["cd".repeat(32)]}),
    ];
    let mut follower = relay.connect();
    for (n, filter) in yes.iter().chain(&no).enumerate() {
        follower.open(&n.to_string(), std::slice::from_ref(filter));
    }
    let mut client = relay.connect();
    client.publish(&event);
    follower.expect_all(["0", "1", "2", "3"].map(|sub| event.frame(sub)));
    follower.is_silent();
    for (filters, count) in [(yes, 1), (no, 0)] {
        for filter in filters {
            assert_eq!(client.query(std::slice::from_ref(&filter)).len(), count);
            client.counts(filter, count as u64);
        }
    }
}
