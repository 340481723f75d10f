//! The log of slow queries.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::Key;

#[test]
fn a_slow_query_is_logged_with_its_plan_and_the_rows_that_it_looked_at_and_a_quick_one_is_not() {
    let relay = Relay::start("[pipeline]\nslow_query_ms = 1\ninline_us = 0\n[log]\nformat = \"json\"\n");
    let alice = Key::named("alice");
    let notes: Vec<_> = (0..3000).map(|number| alice.note(&number.to_string())).collect();
    let mut client = relay.connect();
    for page in notes.chunks(200) {
        client.publish_all(page);
    }
    client.finds(json!({"ids": [notes[7].id]}), &[&notes[7]]);
    // It asks for rows that are not there, so everything of this author is looked at.
    client.counts(json!({"authors": [alice.hex], "#t": ["none"], "kinds": [1]}), 0);
    client.counts(json!({"authors": [alice.hex], "kinds": [1]}), 3000);
    let line: Value = serde_json::from_str(&relay.wait_for_log("a slow query")).expect("JSON");
    let fields = &line["fields"];
    let told = ["address", "verb", "filters", "rows", "left_out"].map(|name| fields[name].clone());
    let filters = json!([{"authors": [alice.hex], "kinds": [1]}]).to_string();
    assert_eq!(
        (&told[0], &told[1], &told[2], &told[4]),
        (&json!("127.0.0.1"), &json!("COUNT"), &json!(filters), &json!(0))
    );
    assert!(fields["rows"].as_u64().is_some_and(|rows| rows >= 3000), "{line}");
    assert_eq!(fields["plan"], json!("author index, 1 range"), "{line}");
    assert!(fields["worked_ms"].as_u64() <= fields["waited_ms"].as_u64(), "{line}");
}
