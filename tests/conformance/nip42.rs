//! NIP-42, authentication of clients.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// The refusal of a stranger who asks for direct messages.
const PRIVATE: &str = r#""auth-required: direct messages are visible only to their author and their recipients""#;

fn auth(event: &Signed) -> String {
    format!(r#"["AUTH",{}]"#, event.text)
}

fn answer(key: &Key, kind: u64, at: u64, relay: &str, challenge: &str) -> Signed {
    key.event(kind, at, json!([["relay", relay], ["challenge", challenge]]), "")
}

#[test]
fn the_challenge_comes_first_and_is_new_for_each_connection() {
    let relay = Relay::start("[auth]\nchallenge = \"connect\"");
    let challenges = (0..20).map(|_| {
        let mut client = relay.connect_unchallenged();
        client.take_challenge();
        client.challenge()
    });
    assert_eq!(challenges.collect::<std::collections::HashSet<String>>().len(), 20);
}

#[test]
fn by_default_nothing_comes_before_a_client_speaks_nor_before_a_refusal_asks_for_a_key() {
    let relay = Relay::shared();
    let mut client = relay.connect_unchallenged();
    let note = Key::named("no greeting").note("no greeting");
    client.publish(&note);
    client.finds(json!({"ids": [note.id]}), &[&note]);
    client.send(r#"["REQ","s",{"kinds":[1059]}]"#);
    client.take_challenge();
    client.expect(&format!(r#"["CLOSED","s",{PRIVATE}]"#));
}

#[test]
fn where_reading_or_writing_needs_a_key_the_challenge_comes_at_connect() {
    for section in ["read = \"authenticated\"", "write = \"authenticated\""] {
        let relay = Relay::start(&format!("[auth]\n{section}"));
        let mut client = relay.connect_unchallenged();
        client.take_challenge();
        client.authenticate(&Key::named("at connect"));
    }
    let relay = Relay::start("[auth]\nread_kinds = [7]\nwrite_kinds = [8]");
    relay.connect_unchallenged().is_silent();
}

#[test]
fn on_demand_the_challenge_comes_right_before_the_first_auth_required() {
    let relay = Relay::start("[auth]\nchallenge = \"demand\"\nread_kinds = [7]\nwrite_kinds = [8]");
    let mut client = relay.connect_unchallenged();
    client.is_silent();
    client.send(r#"["REQ","s",{"kinds":[7]}]"#);
    client.take_challenge();
    client.expect(r#"["CLOSED","s","auth-required: these events are visible only to authenticated clients"]"#);
    client.ask(
        r#"["REQ","s",{"kinds":[7]}]"#,
        r#"["CLOSED","s","auth-required: these events are visible only to authenticated clients"]"#,
    );
    let key = Key::named("on demand");
    client.authenticate(&key);
    assert_eq!(client.open("s", &[json!({"kinds": [7]})]).1, r#"["EOSE","s"]"#);

    let event = key.event(8, now(), json!([]), "");
    let mut writer = relay.connect_unchallenged();
    writer.send(event.message());
    writer.take_challenge();
    writer.expect(&event.refused("auth-required: only authenticated clients may publish kind 8"));
    writer.authenticate(&key);
    writer.publish(&event);
}

#[test]
fn on_demand_the_challenge_comes_before_a_count_or_session_is_refused_too() {
    let relay = Relay::start("[auth]\nread_kinds = [7]");
    let cases = [
        (r#"["COUNT","c",{"kinds":[7]}]"#, r#"["CLOSED","c","#),
        (r#"["NEG-OPEN","n",{"kinds":[7]},"61"]"#, r#"["NEG-ERR","n","#),
    ];
    for (message, head) in cases {
        let mut client = relay.connect_unchallenged();
        client.send(message);
        client.take_challenge();
        client.expect(&format!(r#"{head}"auth-required: these events are visible only to authenticated clients"]"#));
    }
}

#[test]
fn a_start_without_urls_warns_if_clients_have_to_name_the_relay() {
    let config = "[auth]\nwrite = \"authenticated\"";
    let warnings = weir::config::Config::parse("weir.toml", config).expect("a configuration").warnings();
    let line = Relay::start(config).wait_for_log("auth.urls is empty");
    assert_eq!(line.split_once("  WARN weir::cli::serve: ").map(|(_, told)| told.into()), warnings.into_iter().next());
}

#[test]
fn an_answer_to_no_challenge_is_invalid() {
    let relay = Relay::start("[auth]\nchallenge = \"demand\"");
    let mut client = relay.connect_unchallenged();
    let event = answer(&Key::named("unasked"), 22_242, now(), &relay.url(), "");
    client.ask(auth(&event), &event.refused("invalid: the challenge is not the one that this connection was sent"));
}

#[test]
fn auth_of_the_wrong_kind_time_challenge_relay_or_signature_is_refused_and_proves_nothing() {
    let (key, relay) = (Key::named("wrong auth"), Relay::shared());
    let mut client = relay.connect();
    let (url, challenge, at) = (relay.url(), client.challenge(), now());
    let foreign = relay.connect().challenge();
    let far = "invalid: created_at of the AUTH event is too far from the current time";
    let other = "invalid: the challenge is not the one that this connection was sent";
    let unnamed = "invalid: the relay tag does not name this relay, which is known as ws://localhost, ws://127.0.0.1 and \
                   ws://[::1] only";
    let cases = [
        (answer(&key, 22_243, at, &url, &challenge), "invalid: an AUTH event must be of kind 22242"),
        (answer(&key, 1, at, &url, &challenge), "invalid: an AUTH event must be of kind 22242"),
        (answer(&key, 22_242, at - 700, &url, &challenge), far),
        (answer(&key, 22_242, at + 700, &url, &challenge), far),
        (answer(&key, 22_242, at, &url, &foreign), other),
        (answer(&key, 22_242, at, &url, ""), other),
        (answer(&key, 22_242, at, &url, &challenge[1..]), other),
        (key.event(22_242, at, json!([["relay", url]]), ""), other),
        (answer(&key, 22_242, at, "wss://another.example.com", &challenge), unnamed),
        (answer(&key, 22_242, at, "", &challenge), unnamed),
        (key.event(22_242, at, json!([["challenge", challenge]]), ""), unnamed),
    ];
    for (event, reason) in cases {
        client.ask(auth(&event), &event.refused(reason));
    }
    let good = answer(&key, 22_242, at, &url, &challenge);
    let forged = key.event(1, at, json!([]), "");
    let sig = |event: &Signed| event.text.rsplit('"').nth(1).expect("the signature is last").to_string();
    let wrong = good.with(&sig(&good), &sig(&forged));
    client.ask(auth(&wrong), &good.refused("invalid: the signature is wrong"));
    let changed = good.with(r#""content":"""#, r#""content":"x""#);
    client.ask(auth(&changed), &good.refused("invalid: id is not the SHA-256 of the event"));
    let private = json!(["REQ", "s", {"kinds": [1059], "#p": [key.hex]}]).to_string();
    client.ask(private, &format!(r#"["CLOSED","s",{PRIVATE}]"#));
    client.ask(auth(&good), &good.ok());
    assert_eq!(client.open("s", &[json!({"kinds": [1059], "#p": [key.hex]})]).1, r#"["EOSE","s"]"#);
}

#[test]
fn every_url_of_the_relay_is_taken_with_any_scheme_port_and_path() {
    let relay = Relay::start("[auth]\nurls = [\"wss://relay.example.com\", \"ws://hidden.onion:81/nostr\"]");
    let key = Key::named("urls");
    for url in
        ["wss://relay.example.com", "wss://RELAY.example.com/", "ws://relay.example.com:7777/x", "ws://hidden.onion"]
    {
        let mut client = relay.connect();
        let event = answer(&key, 22_242, now(), url, &client.challenge());
        client.ask(auth(&event), &event.ok());
    }
    for url in [
        "wss://relay.example.org",
        "wss://example.com",
        "ws://127.0.0.1",
        "relay.example.com",
        "https://relay.example.com",
    ] {
        let mut client = relay.connect();
        let event = answer(&key, 22_242, now(), url, &client.challenge());
        let named = "wss://relay.example.com or ws://hidden.onion:81/nostr";
        let wrong = format!("invalid: the relay tag does not name this relay, which is {named}");
        client.ask(auth(&event), &event.refused(&wrong));
    }
}

#[test]
fn an_international_name_is_known_by_its_punycode_too() {
    let key = Key::named("punycode");
    for own in ["wss://bücher.example", "wss://xn--bcher-kva.example"] {
        let relay = Relay::start(&format!("[auth]\nurls = [\"{own}\"]"));
        for url in ["wss://xn--bcher-kva.example/", "wss://Bücher.example"] {
            let mut client = relay.connect();
            let event = answer(&key, 22_242, now(), url, &client.challenge());
            client.ask(auth(&event), &event.ok());
        }
    }
}

#[test]
fn every_key_of_a_connection_counts_and_a_second_answer_of_one_is_fine() {
    let (alice, bob, relay) = (Key::named("keys alice"), Key::named("keys bob"), Relay::shared());
    let mut client = relay.connect();
    client.authenticate(&alice);
    client.authenticate(&bob);
    client.authenticate(&alice);
    let [hers, his] = [&alice, &bob].map(|key| key.event(1, now(), json!([["-"]]), ""));
    client.publish(&hers);
    client.publish(&his);
    for key in [&alice, &bob] {
        assert_eq!(client.open("s", &[json!({"kinds": [1059], "#p": [key.hex]})]).1, r#"["EOSE","s"]"#);
    }
}

#[test]
fn a_connection_proves_up_to_64_keys() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    let keys: Vec<Key> = (0..65).map(|n| Key::named(&format!("of 65: {n}"))).collect();
    keys[..64].iter().for_each(|key| client.authenticate(key));
    let event = keys[64].answer(&client.challenge(), &relay.url());
    client.ask(auth(&event), &event.refused("restricted: a connection may authenticate at most 64 keys"));
    client.authenticate(&keys[3]);
}

#[test]
fn kind_22242_is_never_taken_as_an_event_nor_delivered() {
    let (key, relay) = (Key::named("22242"), Relay::shared());
    let mut follower = relay.connect();
    follower.open("s", &[json!({"authors": [key.hex]})]);
    let mut client = relay.connect();
    let event = key.answer(&client.challenge(), &relay.url());
    client.refused(&event, "invalid: kind 22242 is for authentication and must not be published");
    client.ask(auth(&event), &event.ok());
    client.refused(&event, "invalid: kind 22242 is for authentication and must not be published");
    let marker = key.note("marker");
    client.publish(&marker);
    follower.expect(&marker.frame("s"));
    client.finds(json!({"authors": [key.hex]}), &[&marker]);
}

#[test]
fn reading_can_be_for_authenticated_or_listed_clients_only() {
    let (listed, other) = (Key::named("read listed"), Key::named("read other"));
    let relay = Relay::start(&format!("[auth]\nread = \"listed\"\n[access]\nlisted_pubkeys = [\"{}\"]", listed.hex));
    let mut client = relay.connect();
    let asked = r#"["CLOSED","s","auth-required: only authenticated clients may read"]"#;
    client.ask(r#"["REQ","s",{}]"#, asked);
    client.ask(r#"["COUNT","s",{}]"#, asked);
    client.authenticate(&other);
    client.ask(r#"["REQ","s",{}]"#, r#"["CLOSED","s","restricted: your key may not read here"]"#);
    client.publish(&other.note("anyone may write"));
    client.authenticate(&listed);
    assert_eq!(client.query(&[json!({})]).len(), 1);
}

#[test]
fn writing_can_be_for_authenticated_or_listed_clients_only() {
    let (listed, other) = (Key::named("write listed"), Key::named("write other"));
    let relay = Relay::start(&format!("[auth]\nwrite = \"listed\"\n[access]\nlisted_pubkeys = [\"{}\"]", listed.hex));
    let event = other.note("by whoever, from whom matters");
    let mut client = relay.connect();
    client.refused(&event, "auth-required: only authenticated clients may publish");
    client.finds(json!({}), &[]);
    client.authenticate(&other);
    client.refused(&event, "restricted: your key may not publish here");
    client.authenticate(&listed);
    client.publish(&event);
    assert_eq!(relay.information()["limitation"]["restricted_writes"], Value::from(true));
}

#[test]
fn a_subscription_refused_for_want_of_a_key_opens_after_auth() {
    let (key, relay) = (Key::named("after auth"), Relay::shared());
    let mut client = relay.connect();
    let filter = json!({"kinds": [4], "#p": [key.hex]});
    client.send(json!(["REQ", "s", filter]).to_string());
    client.take_challenge();
    client.expect(&format!(r#"["CLOSED","s",{PRIVATE}]"#));
    client.authenticate(&key);
    assert_eq!(client.open("s", &[filter]).1, r#"["EOSE","s"]"#);
    let message = Key::named("a friend").event(4, now(), json!([["p", key.hex]]), "x");
    relay.connect().publish(&message);
    client.expect(&message.frame("s"));
}
