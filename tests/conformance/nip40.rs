//! NIP-40, expiration.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now, wait_until};

fn expiring(key: &Key, kind: u64, expiration: &Value) -> Signed {
    key.event(kind, now(), json!([["expiration", expiration]]), "")
}

#[test]
fn an_expired_event_is_refused() {
    let (key, relay) = (Key::named("expired"), Relay::shared());
    let mut client = relay.connect();
    for at in [0, 1, now() - 1, now()] {
        client.refused(&expiring(&key, 1, &json!(at.to_string())), "invalid: the event is expired");
    }
    client.publish(&expiring(&key, 1, &json!((now() + 1000).to_string())));
    client.publish(&expiring(&key, 1, &json!("99999999999999999999999999")));
}

#[test]
fn an_expiration_that_is_no_time_is_invalid_and_the_first_one_counts() {
    let (key, relay) = (Key::named("odd expiration"), Relay::shared());
    let mut client = relay.connect();
    for odd in ["", "soon", "-1", "1.5", "1e9", " 99999999999", "+99999999999", "0x9"] {
        client.send(expiring(&key, 1, &json!(odd)).message());
        let answer = client.next();
        assert!(answer.contains(r#"false,"invalid: "#), "{odd:?}: {answer}");
    }
    let (past, future) = ("1".to_string(), (now() + 1000).to_string());
    let both =
        |first: &str, second: &str| key.event(1, now(), json!([["expiration", first], ["expiration", second]]), "");
    client.publish(&both(&future, &past));
    client.refused(&both(&past, &future), "invalid: the event is expired");
}

#[test]
fn an_event_is_served_until_it_expires_and_not_after() {
    let (key, relay) = (Key::named("expires soon"), Relay::shared());
    let expiry = now() + 2;
    let soon = key.event(1, now(), json!([["expiration", expiry.to_string()], ["t", "soon"]]), "");
    let list = key.event(10_002, now(), json!([["expiration", expiry.to_string()]]), "");
    let mut client = relay.connect();
    client.publish(&soon);
    client.publish(&list);
    let filter = json!({"authors": [key.hex]});
    assert_eq!(client.query(std::slice::from_ref(&filter)).len(), 2);
    wait_until(expiry);
    for filter in [filter, json!({"ids": [soon.id, list.id]}), json!({"#t": ["soon"], "authors": [key.hex]})] {
        client.finds(filter.clone(), &[]);
        client.counts(filter, 0);
    }
    client.refused(&soon, "invalid: the event is expired");
    let older = key.event(10_002, now() - 1000, json!([]), "");
    client.send(older.message());
    // Expired events are not served, whether or not they have been removed.
    client.next();
    client.counts(json!({"ids": [list.id]}), 0);
}

#[test]
fn what_expired_is_no_reason_to_say_that_there_is_more() {
    let (key, relay) = (Key::named("expired and more"), Relay::start("[limits]\neose_hints = true"));
    let (at, expiry) = (now(), now() + 1);
    let kept = key.event(1, at, json!([]), "");
    let soon = key.event(1, at - 1, json!([["expiration", expiry.to_string()]]), "");
    let mut client = relay.connect();
    client.publish(&kept);
    client.send(soon.message());
    client.next();
    wait_until(expiry + 1);
    let (events, eose) = client.open("s", &[json!({"authors": [key.hex], "limit": 1})]);
    assert_eq!((events, eose), (vec![kept.text], r#"["EOSE","s",["finish"]]"#.into()));
}

#[test]
fn expiration_says_nothing_about_ephemeral_events() {
    let (key, relay) = (Key::named("ephemeral expiration"), Relay::shared());
    let mut client = relay.connect();
    client.open("s", &[json!({"authors": [key.hex]})]);
    let event = expiring(&key, 20_000, &json!("1"));
    client.send(event.message());
    client.expect_all([event.frame("s"), event.ok()]);
}
