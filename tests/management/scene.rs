//! A relay with an admin, and requests as management clients send them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::relay::Relay;
use crate::support::wire::{Key, hex, now};

/// The admin.
pub fn admin() -> Key {
    Key::named("admin")
}

/// A configuration with the admin.
pub fn config() -> String {
    format!("[metrics]\nlisten = \"127.0.0.1:0\"\n[management]\nadmins = [\"{}\"]\n", admin().hex)
}

/// A relay that the admin manages.
pub fn relay() -> Relay {
    Relay::start(&config())
}

/// The body of a request.
pub fn body(method: &str, params: Value) -> String {
    json!({ "method": method, "params": params }).to_string()
}

/// The hash of a body, for the `payload` tag.
pub fn payload(body: &str) -> String {
    hex(&Sha256::digest(body))
}

/// The Authorization header of an event.
pub fn header(event: &str) -> String {
    format!("Nostr {}", STANDARD.encode(event))
}

/// An authorization of this body.
pub fn authorization(relay: &Relay, key: &Key, body: &str) -> String {
    let url = format!("http://{}/", relay.address);
    // Bodies are often equal, and so would be the ids of their authorizations within a second.
    let nonce = NONCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
    let tags = json!([["u", url], ["method", "POST"], ["payload", payload(body)], ["nonce", nonce]]);
    header(&key.event(27235, now(), tags, "").text)
}

static NONCE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Sends a request with these headers; its status, head and body.
pub fn post(relay: &Relay, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let (head, answer) = relay.http(&(request + "\r\n" + body));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head, answer)
}

/// Calls a method as this key; the status and the answer.
pub fn call_as(relay: &Relay, key: &Key, method: &str, params: Value) -> (u16, Value) {
    let body = body(method, params);
    let auth = authorization(relay, key, &body);
    let headers = [("Content-Type", "application/nostr+json+rpc"), ("Authorization", auth.as_str())];
    let (status, _, answer) = post(relay, &headers, &body);
    (status, serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer} is JSON")))
}

/// Calls a method as the admin; the answer, which must have the status 200.
#[track_caller]
pub fn call(relay: &Relay, method: &str, params: Value) -> Value {
    let (status, answer) = call_as(relay, &admin(), method, params);
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Calls a method as the admin; its result.
#[track_caller]
pub fn result(relay: &Relay, method: &str, params: Value) -> Value {
    let answer = call(relay, method, params);
    answer.get("result").unwrap_or_else(|| panic!("{answer} has a result")).clone()
}
