//! Who may: authorizations that are wrong in one thing each, used twice, or too large.

use serde_json::{Value, json};

use super::scene::{admin, authorization, body, call_as, header, payload, post, relay, result};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const RPC: (&str, &str) = ("Content-Type", "application/nostr+json+rpc");

/// Sends `supportedmethods` with this Authorization header; the status and the error.
fn with(relay: &Relay, auth: &str) -> (u16, String) {
    let (status, head, answer) = post(relay, &[RPC, ("Authorization", auth)], &body("supportedmethods", json!([])));
    assert_eq!(status == 401, head.lines().any(|line| line == "www-authenticate: nostr"), "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "a browser may read why: {head}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    (status, answer["error"].as_str().unwrap_or_default().into())
}

#[test]
fn an_authorization_that_is_wrong_in_one_thing_is_refused() {
    let (relay, admin) = (relay(), admin());
    let hash = payload(&body("supportedmethods", json!([])));
    let url = format!("http://{}/", relay.address);
    let good = json!([["u", url], ["method", "POST"], ["payload", hash]]);
    let tags = |name: &str, value: &str| {
        let mut tags = good.clone();
        let place = ["u", "method", "payload"].iter().position(|tag| *tag == name).expect("a tag");
        tags[place] = json!([name, value]);
        tags
    };
    let sign = |kind, at, tags| header(&admin.event(kind, at, tags, "").text);
    let time = "created_at of the authorization differs from the relay's time by more than 60 s";
    let own =
        "the u tag does not name this relay, which is known as ws://localhost, ws://127.0.0.1 and ws://[::1] only";
    let hashed = "the payload tag is not the SHA-256 of the body";
    for (auth, error) in [
        (sign(22242, now(), good.clone()), "the authorization must be an event of kind 27235"),
        (sign(27235, now() - 120, good.clone()), time),
        (sign(27235, now() + 120, good.clone()), time),
        (sign(27235, now(), tags("u", "https://relay.example.com")), own),
        (sign(27235, now(), json!([["method", "POST"], ["payload", hash]])), own),
        (sign(27235, now(), tags("method", "GET")), "the method tag is not POST"),
        (sign(27235, now(), tags("payload", &payload("{}"))), hashed),
        (sign(27235, now(), json!([["u", url], ["method", "POST"]])), hashed),
        (String::new(), "the Authorization header is not 'Nostr <base64>'"),
        ("Bearer abc".into(), "the Authorization header is not 'Nostr <base64>'"),
        ("Nostr".into(), "the Authorization header is not 'Nostr <base64>'"),
        ("Nostr ***".into(), "the Authorization header is not base64"),
        (header("{}"), "the Authorization header does not hold an event"),
        (header(&"[".repeat(6000)), "the Authorization header does not hold an event"),
    ] {
        assert_eq!(with(&relay, &auth), (401, error.into()));
    }
    let event = admin.event(27235, now(), good.clone(), "");
    let (id, signature) = (event.id.as_str(), event.text.split("\"sig\":\"").nth(1).expect("a signature"));
    let forged = event.with(&signature[..4], if signature.starts_with("0000") { "1111" } else { "0000" });
    assert_eq!(with(&relay, &header(&forged.text)), (401, "the signature of the authorization is wrong".into()));
    let renamed = event.with(&id[..4], if id.starts_with("0000") { "1111" } else { "0000" });
    assert_eq!(with(&relay, &header(&renamed.text)), (401, "the Authorization header does not hold an event".into()));
    assert_eq!(with(&relay, &header(&event.text)).0, 200);
    let (status, _, answer) = post(&relay, &[RPC], &body("supportedmethods", json!([])));
    assert_eq!(
        (status, answer),
        (401, json!({ "error": "an Authorization header with a NIP-98 event is required" }).to_string())
    );
    let two = [RPC, ("Authorization", "Nostr e30="), ("Authorization", "Nostr e30=")];
    assert_eq!(post(&relay, &two, "{}").0, 401);
    assert_eq!(call_as(&relay, &Key::named("stranger"), "banpubkey", json!([admin.hex])).0, 401);
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([]), "nothing was done");
}

/// Otherwise anybody could make the relay hold bodies.
#[test]
fn a_body_is_read_only_after_the_signature_of_an_admin() {
    let relay = relay();
    let stranger = authorization(&relay, &Key::named("stranger"), "{}");
    let tags = json!([["u", relay.url()], ["method", "POST"], ["payload", payload("{}")]]);
    let event = admin().event(27235, now(), tags, "");
    let signature = event.text.split("\"sig\":\"").nth(1).expect("a signature");
    let forged = event.with(&signature[..4], if signature.starts_with("0000") { "1111" } else { "0000" });
    let answers = [stranger, header(&forged.text)].map(|auth| {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: relay\r\nContent-Type: application/nostr+json+rpc\r\nAuthorization: {auth}\r\n\
             Content-Length: 65000\r\n\r\n"
        );
        relay.http(&request).1
    });
    let errors = ["this key is not an admin of this relay", "the signature of the authorization is wrong"];
    assert_eq!(answers, errors.map(|error| json!({ "error": error }).to_string()), "although no body came");
}

#[test]
fn clients_differ_in_what_they_send_and_are_understood() {
    let (relay, admin) = (relay(), admin());
    let text = body("listbannedpubkeys", json!([]));
    let hash = payload(&text);
    let urls = [
        format!("http://{}", relay.address),
        format!("https://{}/", relay.address),
        format!("ws://{}", relay.address),
        format!("wss://{}//", relay.address),
    ];
    for url in &urls {
        let auth = header(&admin.event(27235, now(), json!([["u", url], ["payload", hash.to_uppercase()]]), "").text);
        let answer = post(&relay, &[("Accept", "application/nostr+json+rpc"), ("Authorization", &auth)], &text);
        assert_eq!((answer.0, answer.2), (200, r#"{"result":[]}"#.to_owned()), "{url}");
    }
    let auth = authorization(&relay, &admin, &text).replacen("Nostr ", "nostr  ", 1);
    let auth = auth.trim_end_matches('=');
    let headers = [("Content-Type", "Application/Nostr+JSON+RPC; charset=utf-8"), ("Authorization", auth)];
    assert_eq!(post(&relay, &headers, &text).0, 200, "without padding");
    // The `params` of a method that takes none may be missing.
    let bare = r#"{"method":"listbannedpubkeys"}"#;
    assert_eq!(post(&relay, &[RPC, ("Authorization", &authorization(&relay, &admin, bare))], bare).0, 200);
}

#[test]
fn an_authorization_is_good_once_even_after_a_restart() {
    let (relay, admin, bob) = (relay(), admin(), Key::named("bob"));
    let ban = body("banpubkey", json!([bob.hex]));
    let auth = authorization(&relay, &admin, &ban);
    let headers = [RPC, ("Authorization", auth.as_str())];
    assert_eq!(post(&relay, &headers, &ban).0, 200);
    assert_eq!(result(&relay, "unbanpubkey", json!([bob.hex])), json!(true));
    let (status, _, answer) = post(&relay, &headers, &ban);
    let used = json!({ "error": "this authorization was used before; sign a new one" }).to_string();
    assert_eq!((status, answer), (401, used.clone()));
    // Neither changes anything.
    let others = [body("unbanpubkey", json!([bob.hex])), body("audit", json!([]))];
    let others = others.map(|body| (authorization(&relay, &admin, &body), body));
    for (auth, body) in &others {
        assert_eq!(post(&relay, &[RPC, ("Authorization", auth)], body).0, 200);
    }
    let relay = relay.restart_killed(&super::scene::config());
    let (status, _, answer) = post(&relay, &headers, &ban);
    assert_eq!((status, answer), (401, used.clone()));
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([]));
    result(&relay, "banpubkey", json!([bob.hex]));
    for (auth, body) in &others {
        let (status, _, answer) = post(&relay, &[RPC, ("Authorization", auth)], body);
        assert_eq!((status, answer), (401, used.clone()), "{body}");
    }
    assert_eq!(result(&relay, "listbannedpubkeys", json!([])), json!([{ "pubkey": bob.hex, "reason": "" }]));
}

#[test]
fn a_body_that_is_too_large_or_no_request_is_an_error() {
    let (relay, admin) = (relay(), admin());
    let send = |body: &str| {
        let auth = authorization(&relay, &admin, body);
        let (status, _, answer) = post(&relay, &[RPC, ("Authorization", &auth)], body);
        (status, serde_json::from_str::<Value>(&answer).expect("JSON")["error"].as_str().unwrap_or_default().to_owned())
    };
    let large = format!(r#"{{"method":"supportedmethods","params":["{}"]}}"#, "x".repeat(64 << 10));
    assert_eq!(send(&large), (413, "the body is larger than 64 KiB".into()));
    for wrong in ["", "[]", "{", r#"{"params":[]}"#, r#"{"method":7}"#, &"[".repeat(60_000)] {
        let (status, error) = send(wrong);
        assert_eq!((status, error.starts_with("the body is not a request such as ")), (200, true), "{error}");
    }
}

#[test]
fn an_admin_who_is_taken_out_of_the_configuration_may_no_more() {
    let relay = relay();
    assert_eq!(call_as(&relay, &admin(), "listbannedpubkeys", json!([])).0, 200);
    let other = Key::named("other admin");
    relay.reload(&super::scene::config().replace(&admin().hex, &other.hex));
    relay.wait_for_log("the configuration was reloaded");
    assert_eq!(call_as(&relay, &admin(), "listbannedpubkeys", json!([])).0, 401);
    assert_eq!(call_as(&relay, &other, "listbannedpubkeys", json!([])).0, 200);
}
