//! NIP-11, the relay information document, and plain HTTP.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n")
}

/// The three headers that NIP-11 requires.
fn has_cors(head: &str) -> bool {
    [
        "access-control-allow-origin: *",
        "access-control-allow-headers: *",
        "access-control-allow-methods: get, head, options",
    ]
    .iter()
    .all(|header| head.contains(header))
}

#[test]
fn the_document_is_served_wherever_it_is_asked_for_in_a_list_of_types() {
    let relay = Relay::shared();
    for accept in ["application/nostr+json", "text/html, application/nostr+json;q=0.9, */*", "APPLICATION/NOSTR+JSON"] {
        let (head, body) = relay.http(&request("GET", "/", &format!("Accept: {accept}\r\n")));
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/nostr+json"), "{head}");
        assert!(has_cors(&head), "{head}");
        let document: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(document["name"], json!("weir"));
    }
    let two = "Accept: text/html\r\nAccept: application/nostr+json\r\n";
    assert!(relay.http(&request("GET", "/", two)).0.contains("application/nostr+json"));
    let (head, body) = relay.http(&request("GET", "/", "Accept: */*\r\n"));
    assert!(
        head.contains("content-type: text/plain") && body.contains("Nostr relay") && has_cors(&head),
        "{head}{body}"
    );
}

#[test]
fn a_preflight_is_answered_with_all_three_headers() {
    let relay = Relay::shared();
    let headers =
        "Origin: https://client\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: accept\r\n";
    let (head, body) = relay.http(&request("OPTIONS", "/", headers));
    assert!(head.starts_with("http/1.1 204") && has_cors(&head) && body.is_empty(), "{head}");
}

#[test]
fn other_paths_are_not_found_by_http_or_websocket() {
    let relay = Relay::shared();
    let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAccept: application/nostr+json\r\n";
    for path in ["/other", "//", "/index.html", "/nostr"] {
        assert!(relay.http(&request("GET", path, "")).0.starts_with("http/1.1 404"), "{path}");
        let asked = format!("GET {path} HTTP/1.1\r\nHost: relay\r\n{upgrade}\r\n");
        let refused = asked.replace("Connection: upgrade", "Connection: upgrade, close");
        assert!(relay.http(&refused).0.starts_with("http/1.1 404"), "{path}");
    }
    let elsewhere = Relay::start("[server]\npath = \"/nostr\"");
    assert!(elsewhere.http(&request("GET", "/", "")).0.starts_with("http/1.1 404"));
    assert!(elsewhere.http(&request("GET", "/nostr", "")).0.starts_with("http/1.1 200"));
    assert!(elsewhere.http(&request("GET", "/nostr?x=1", "")).0.starts_with("http/1.1 200"));
}

#[test]
fn other_methods_are_not_allowed_and_head_has_no_body() {
    let relay = Relay::shared();
    for method in ["PUT", "DELETE", "PATCH"] {
        let (head, _) = relay.http(&request(method, "/", ""));
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head, options"), "{method}: {head}");
    }
    let (head, body) = relay.http(&request("HEAD", "/", "Accept: application/nostr+json\r\n"));
    assert!(head.starts_with("http/1.1 200") && head.contains("application/nostr+json") && body.is_empty(), "{head}");
}

#[test]
fn an_improper_handshake_is_refused_with_its_status() {
    let relay = Relay::shared();
    let upgrade = |version: &str, key: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )
    };
    let (head, _) = relay.http(&upgrade("8", "dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(head.starts_with("http/1.1 426") && head.contains("sec-websocket-version: 13"), "{head}");
    assert!(relay.http(&upgrade("13", "too short")).0.starts_with("http/1.1 400"));
}

#[test]
fn the_document_says_what_is_in_force() {
    let (operator, own) = (Key::named("operator"), Key::named("relay itself"));
    let relay = Relay::start(&format!(
        r#"
[limits]
max_message_length = 70000
default_limit = 11
max_event_tags = 22
max_content_length = 33
min_pow_difficulty = 4
created_at_lower_limit = 55
created_at_upper_limit = 66
[tiers.anonymous]
max_subscriptions = 7
max_limit = 88
[auth]
read = "authenticated"
write = "authenticated"
[info]
name = "quoted \"name\" \\ and \u0001"
description = "line\nline"
banner = "https://relay/banner.png"
icon = "https://relay/icon.png"
pubkey = "{operator}"
self = "{own}"
contact = "mailto:admin@example.com"
terms_of_service = "https://relay/terms"
payments_url = "https://relay/pay"
software = "https://relay/source"
payment_required = true
[info.fees]
admission = [{{ amount = 1000, unit = "msats" }}]
subscription = [{{ amount = 5000, unit = "msats", period = 2592000 }}]
publication = [{{ kinds = [4], amount = 100, unit = "msats" }}]
"#,
        operator = operator.hex,
        own = own.hex,
    ));
    let document = relay.information();
    let texts = json!({
        "name": "quoted \"name\" \\ and \u{1}", "description": "line\nline", "banner": "https://relay/banner.png",
        "icon": "https://relay/icon.png", "pubkey": operator.hex, "self": own.hex,
        "contact": "mailto:admin@example.com", "terms_of_service": "https://relay/terms",
        "payments_url": "https://relay/pay", "software": "https://relay/source",
    });
    for (key, value) in texts.as_object().expect("an object") {
        assert_eq!(&document[key], value, "{key}");
    }
    assert_eq!(
        document["limitation"],
        json!({
            "max_message_length": 70000, "max_subscriptions": 7, "max_limit": 88, "max_subid_length": 64,
            "max_event_tags": 22, "max_content_length": 33, "min_pow_difficulty": 4, "auth_required": true,
            "payment_required": true, "restricted_writes": true, "created_at_lower_limit": 55,
            "created_at_upper_limit": 66, "default_limit": 11,
        })
    );
    assert_eq!(
        document["fees"],
        json!({
            "admission": [{"amount": 1000, "unit": "msats"}],
            "subscription": [{"amount": 5000, "unit": "msats", "period": 2_592_000}],
            "publication": [{"amount": 100, "unit": "msats", "kinds": [4]}],
        })
    );
    assert_eq!(document["version"], json!(env!("CARGO_PKG_VERSION")));
}

#[test]
fn supported_nips_are_those_that_bind_a_relay_and_removed_fields_are_absent() {
    let document = Relay::shared().information();
    let nips: Vec<u64> = document["supported_nips"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|nip| nip.as_u64().expect("a number"))
        .collect();
    for nip in [1, 2, 4, 9, 11, 13, 17, 40, 42, 45, 59, 62, 70, 77] {
        assert!(nips.contains(&nip), "{nip}");
    }
    for nip in [12, 15, 16, 20, 26, 29, 33, 43, 50, 67, 86] {
        assert!(!nips.contains(&nip), "{nip}");
    }
    for removed in ["privacy_policy", "retention", "relay_countries", "language_tags", "tags", "posting_policy"] {
        assert_eq!(document.get(removed), None, "{removed}");
    }
    // Fields that the operator did not set are absent, and so is `software` unless it is a URL.
    for absent in ["banner", "icon", "pubkey", "self", "contact", "payments_url", "fees", "terms_of_service"] {
        assert_eq!(document.get(absent), None, "{absent}");
    }
    assert!(document.get("software").is_none_or(|url| url.as_str().is_some_and(|url| url.starts_with("http"))));
}

#[test]
fn limits_are_kept_as_advertised() {
    let relay = Relay::start(
        "[limits]\nmax_message_length = 5000\nmax_event_tags = 3\nmax_content_length = 10\n\
         created_at_lower_limit = 1000\ncreated_at_upper_limit = 100\n",
    );
    let limitation = relay.information()["limitation"].clone();
    let key = Key::named("limits");
    let mut client = relay.connect();
    let tags = |count: u64| Value::from((0..count).map(|n| json!(["t", n.to_string()])).collect::<Vec<_>>());
    client.publish(&key.event(1, now(), tags(3), ""));
    client.refused(&key.event(1, now(), tags(4), ""), "invalid: too many tags: 4, the limit is 3");
    client.publish(&key.event(1, now(), tags(0), &"😀".repeat(10)));
    let long = key.event(1, now(), tags(0), &"é".repeat(11));
    client.refused(&long, "invalid: content is too long: 11 characters, the limit is 10");
    client.publish(&key.event(1, now() - 990, tags(0), ""));
    client.refused(&key.event(1, now() - 1010, tags(0), ""), "invalid: created_at is more than 1000 s ago");
    client.publish(&key.event(1, now() + 90, tags(0), ""));
    client.refused(&key.event(1, now() + 110, tags(0), ""), "invalid: created_at is more than 100 s in the future");
    assert_eq!(limitation["max_message_length"], json!(5000));
    let padded = |length: usize| {
        let filter = r#"["COUNT","s",{"ids":[]}]"#;
        filter.replacen('[', &format!("[{}", " ".repeat(length - filter.len())), 1)
    };
    client.ask(padded(5000), r#"["COUNT","s",{"count":0}]"#);
    client.send(padded(5001));
    assert_eq!(client.closing_code(), 1009);
}

#[test]
fn a_follow_list_of_ten_thousand_fits_what_is_advertised_by_default() {
    let limitation = Relay::shared().information()["limitation"].clone();
    let number = |key: &str| limitation[key].as_u64().expect("a number");
    assert!(number("max_event_tags") > 10_000 && number("max_message_length") > 10_000 * 72);
    assert_eq!((number("max_limit"), number("default_limit"), number("max_subid_length")), (1_000, 500, 64));
}
