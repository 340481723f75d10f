//! The fuzz target of management: the `Authorization` header, which anybody may send, and the body of a request.

use base64::Engine as _;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::endpoint::authorization;
use crate::management::Request;
use crate::nostr::json::Parser;
use crate::nostr::testing::signed;
use crate::nostr::{Event, hex};
use crate::policy::{Settings, check_http_auth, check_payload};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &str = "https://relay.example.com/";

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let body = r#"{"method":"banpubkey","params":["abcdef",null,7]}"#;
    let payload = hex::encode(&Sha256::digest(body));
    let tags: [&[&str]; 3] = [&["u", URL], &["method", "POST"], &["payload", &payload]];
    let events = [signed(1, 27_235, 1_700_000_000, &tags, ""), signed(2, 1, 5, &[], "x")];
    let mut seeds: Vec<String> =
        events.iter().map(|event| format!("Nostr {}\n{body}", encoded(&event.view().to_json()))).collect();
    seeds.push(format!("nostr\t {} \n[\"supportedmethods\"]", encoded("{}").trim_end_matches('=')));
    seeds.push("Basic dXNlcjpwYXNz\n{\"method\":\"listbannedpubkeys\"}".into());
    seeds.push("Nostr \n{\"params\":[],\"method\":1e3}".into());
    seeds.into_iter().map(Into::into).collect()
}

/// A header holds exactly the event that a second decoder finds. It authorizes nothing but what its tags name, and
/// nobody but an admin. A request is what serde_json finds.
pub(crate) fn check(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    request(body);
    let Ok(value) = HeaderValue::from_bytes(header) else { return };
    let mut parser = Parser::default();
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, value.clone());
    let found = authorization(&mut parser, &headers).ok();
    let expected = event_of(header).and_then(|text| Event::parse(&mut parser, &text).ok());
    assert_eq!(
        found.as_ref().map(Event::view).map(|event| event.to_json()),
        expected.map(|event| event.view().to_json())
    );
    if let Some(event) = found {
        authorizes(&event, body);
    }
    headers.append(AUTHORIZATION, value);
    assert_eq!(authorization(&mut parser, &headers).err(), Some("there is more than one Authorization header"));
}

/// What a header holds in base64, digit by digit.
fn event_of(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = header.trim_ascii().split_at_checked(5)?;
    let text = rest.trim_ascii();
    let digits = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let most_padding = [0, 0, 2, 1][digits % 4];
    let is_well_formed = scheme.eq_ignore_ascii_case(b"nostr")
        && rest.first().is_some_and(u8::is_ascii_whitespace)
        && digits % 4 != 1
        && text.len() - digits <= most_padding;
    let (mut decoded, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for digit in &text[..digits] {
        let value = DIGITS.iter().position(|one| one == digit)?;
        (bits, held) = (bits << 6 | value as u32, held + 6);
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (is_well_formed && bits == 0).then_some(decoded)
}

fn authorizes(event: &Event, body: &[u8]) {
    let view = event.view();
    let mut settings = Settings::default();
    settings.auth.urls = crate::policy::RelayUrl::parse(URL).into_iter().collect();
    let payload = Sha256::digest(body).into();
    let is_good = |settings: &Settings| {
        check_http_auth(settings, view, view.created_at()).is_ok() && check_payload(view, &payload).is_ok()
    };
    assert!(!is_good(&settings), "nobody is an admin");
    settings.admins = [view.pubkey()].into_iter().collect();
    let json: Value = serde_json::from_str(&view.to_json()).expect("JSON");
    let first = |name: &str| {
        let tags = json["tags"].as_array().into_iter().flatten();
        tags.map(|tag| (&tag[0], tag[1].as_str())).find(|(tag, _)| *tag == name).and_then(|(_, value)| value)
    };
    let is_named = json["kind"] == 27_235
        && first("payload").is_some_and(|text| text.eq_ignore_ascii_case(&hex::encode(&payload)))
        && first("u").is_some_and(|url| url.to_ascii_lowercase().contains("relay.example.com"))
        && first("method").is_none_or(|method| method.eq_ignore_ascii_case("post"));
    assert!(is_named || !is_good(&settings), "{json}");
}

fn request(body: &[u8]) {
    let Ok(request) = Request::parse(body) else { return };
    let value: Value = serde_json::from_slice(body).expect("it is JSON");
    let [method, params] = match &value {
        Value::Array(fields) => [0, 1].map(|at| fields.get(at).cloned().unwrap_or_default()),
        fields => ["method", "params"].map(|name| fields[name].clone()),
    };
    assert_eq!((json!(request.method), json!(request.params)), (method, params));
}
