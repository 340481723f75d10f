//! NIP-91, a draft: filters for events that carry several tag values at once. Off unless the operator turns it on.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

#[test]
fn and_filters_are_unsupported_unless_turned_on() {
    let relay = Relay::shared();
    let refused = r#"["CLOSED","s","unsupported: filter key \"&t\" is unknown"]"#;
    relay.connect().ask(r#"["REQ","s",{"&t":["a","b"]}]"#, refused);
}

#[test]
fn an_event_must_carry_every_value_stored_counted_and_live() {
    let relay = Relay::start("[access]\nand_filters = true");
    let key = Key::named("and filters");
    let at = now();
    let tagged = |n: u64, values: &[&str]| {
        key.event(1, at - n, Value::from(values.iter().map(|value| json!(["t", value])).collect::<Vec<_>>()), "")
    };
    let (ab, a, abc) = (tagged(1, &["a", "b"]), tagged(2, &["a"]), tagged(3, &["c", "b", "x", "a"]));
    let mut client = relay.connect();
    client.publish_all([&ab, &a, &abc]);
    let cases: [(Value, Vec<&Signed>); 6] = [
        (json!({"&t": ["a", "b"]}), vec![&ab, &abc]),
        (json!({"&t": ["a"]}), vec![&ab, &a, &abc]),
        (json!({"&t": ["a", "b"], "#t": ["c", "d"]}), vec![&abc]),
        // A value of `&t` does not count among the values of `#t`.
        (json!({"&t": ["a", "b"], "#t": ["a", "c"]}), vec![&abc]),
        (json!({"&t": ["a", "z"]}), vec![]),
        (json!({"&t": []}), vec![]),
    ];
    for (filter, events) in cases {
        client.finds(filter.clone(), &events);
        client.counts(filter, events.len() as u64);
    }
    let mut follower = relay.connect();
    follower.open("s", &[json!({"&t": ["x", "y"]})]);
    let both = tagged(0, &["y", "x"]);
    client.publish(&tagged(0, &["x"]));
    client.publish(&both);
    follower.expect(&both.frame("s"));
    follower.is_silent();
}
