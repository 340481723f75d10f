//! Fuzz targets of JSON, client messages, events and filters, each against serde_json ([`oracle`](super::oracle)).

use std::sync::LazyLock;

use super::json::{JsonError, Parser, Value};
use super::oracle::{self, Fields, Json};
use super::testing::signed;
use super::{
    ClientMessage, Event, EventError, EventView, Filter, ParseOptions, RelayMessage, Tag, VerifiedEvent, json,
};
use crate::schnorr::{Options, Verifier};

/// Every part of the grammar.
const OPTIONS: ParseOptions = ParseOptions { and_filters: true };

/// The longest answer to a malformed message, whatever its length: an id of 512 bytes, escaped sixfold, and a sentence.
const MAX_ANSWER_BYTES: usize = 6 * 512 + 512;

/// Signed events of the common shapes.
pub(crate) static EVENTS: LazyLock<Vec<Event>> = LazyLock::new(|| {
    let (one, other) = ("ab".repeat(32), "0123456789abcdef".repeat(4));
    vec![
        signed(1, 1, 1_700_000_000, &[], "Hello, wörld \u{1f30a}\n\t\"quoted\" \\ \u{1}\u{7f}"),
        signed(
            2,
            1,
            1_700_000_001,
            &[&["e", &one, "wss://nos.lol", "root"], &["p", &other], &["t", "nostr"]],
            "a reply",
        ),
        signed(1, 0, 1_700_000_002, &[], r#"{"name":"weir","about":"a relay"}"#),
        signed(3, 3, 1_700_000_003, &[&["p", &one], &["p", &other, "", "a pet name"]], ""),
        signed(2, 5, 1_700_000_004, &[&["e", &one], &["a", &format!("30023:{other}:slug")], &["k", "1"]], "by mistake"),
        signed(4, 7, 1_700_000_005, &[&["e", &one], &["p", &other], &["k", "1"]], "+"),
        signed(3, 1_984, 0, &[&["p", &one, "spam"], &["-"]], "x".repeat(300).as_str()),
        signed(5, 30_023, 1_700_000_006, &[&["d", "slug"], &["title", "é"], &["expiration", "4102444800"]], "# Title"),
        signed(6, 20_001, (1 << 48) - 1, &[&["d"], &["", ""], &["relay", "wss://x/"]], "ephemeral"),
    ]
});

fn event_texts() -> impl Iterator<Item = String> {
    EVENTS.iter().map(|event| event.view().to_json())
}

fn bytes(texts: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Vec<Vec<u8>> {
    texts.into_iter().map(Into::into).collect()
}

pub(crate) fn event_seeds() -> Vec<Vec<u8>> {
    let whole = event_texts().next().expect("an event");
    let odd = [whole.replacen(":1,", ":1e0,", 1), whole.replacen('{', "{\"relays\":[null,true,-1.5],", 1)];
    bytes(event_texts().chain(odd))
}

fn filter_texts() -> Vec<String> {
    let ids: Vec<String> = EVENTS.iter().map(|event| event.view().id().to_string()).collect();
    let (author, one) = (EVENTS[0].view().pubkey(), "ab".repeat(32));
    vec![
        "{}".into(),
        format!(r#"{{"ids":["{}","{}"]}}"#, ids[0], ids[3]),
        format!(r#"{{"authors":["{author}"],"kinds":[0,1,1e0,99999,-1],"limit":20}}"#),
        format!(r##"{{"#e":["{one}"],"kinds":[1,5,7],"since":1700000000,"until":1700000005}}"##),
        r##"{"#t":["nostr","a"],"&t":["nostr"],"#d":["","slug"],"limit":1e400}"##.into(),
        r#"{"kinds":[],"since":-1,"until":281474976710656,"search":null}"#.into(),
        r#"{"search":"what","since":1.5}"#.into(),
    ]
}

pub(crate) fn filter_seeds() -> Vec<Vec<u8>> {
    bytes(filter_texts())
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let event = event_texts().nth(1).expect("an event");
    let filters = filter_texts();
    let mut texts = vec![
        format!(r#"["EVENT",{event}]"#),
        format!(r#"["AUTH",{event}]"#),
        format!(r#"["EVENT",{event},{event}]"#),
        format!(r#"["EVENT",{}]"#, event.replacen("\"kind\"", "\"kid\"", 1)),
        format!(r#"["REQ","sub",{},{}]"#, filters[1], filters[3]),
        r#"["REQ","sub"]"#.into(),
        r#"["REQ","\ud800",{}]"#.into(),
        format!(r#"["COUNT","é\u0000\"",{}]"#, filters[2]),
        r#"["CLOSE","sub"]"#.into(),
        format!(r#"["NEG-OPEN","neg",{},"6100000200"]"#, filters[2]),
        r#"["NEG-MSG","neg","6100000200"]"#.into(),
        r#"["NEG-CLOSE","neg"]"#.into(),
        format!(r#"["REQ","s",{{"{}":1}}]"#, "\u{200b}".repeat(2_000)),
        r#"["HELLO",{"deep":[[[[[[]]]]]]}]"#.into(),
    ];
    texts.extend(filters.iter().map(|filter| format!(r#"["REQ","s",{filter}]"#)));
    bytes(texts)
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let numbers = "[0,-0,1.0,-1.5e3,1E+2,18446744073709551615,18446744073709551616,-9223372036854775809,1e400]";
    let strings = r#"["","\"\\\/\b\f\n\r\t\u0041\u00e9\ud83c\udf0a","\ud800",""]"#;
    let odd =
        [numbers.into(), strings.into(), "[".repeat(33) + &"]".repeat(33), " \t{\"a\":[true,false,null]}\r\n".into()];
    bytes(message_seeds().into_iter().chain(bytes(odd)))
}

/// Whether a value of the tape is what serde_json read. Doubles are compared where both are whole numbers: serde_json
/// may be wrong in the last digit.
fn is_same(value: Value<'_, '_>, expected: &Json) -> bool {
    let nearly = |own: i128, other: f64| (own as f64 - other).abs() <= other.abs() * 1e-15;
    match expected {
        Json::Null => value.is_null(),
        Json::Bool => !value.is_null() && value.as_integer().is_none() && value.as_str().is_none(),
        Json::Integer(number) => value.as_integer() == Some(*number),
        Json::Double(number) => {
            // What does not fit becomes the largest integer.
            value.as_integer().is_none_or(|own| number.fract() != 0.0 || nearly(own, (*number as i128) as f64))
        }
        Json::Text(text) => value.as_str() == Some(text),
        Json::List(items) => value.as_array().is_some_and(|own| {
            own.len() == items.len() && own.zip(items).all(|(own, expected)| is_same(own, expected))
        }),
        Json::Object(entries) => value.as_object().is_some_and(|own| {
            let own: Vec<_> = own.collect();
            let is_entry = |((key, own), (name, value)): (&(&str, Value<'_, '_>), &(String, Json))| {
                key == name && is_same(*own, value)
            };
            own.len() == entries.len() && own.iter().zip(entries).all(is_entry)
        }),
    }
}

/// JSON is accepted exactly when serde_json accepts it and it is nested no deeper than 32 levels, and means the same.
pub(crate) fn json(text: &[u8]) {
    let expected = Json::read(text);
    let mut parser = Parser::default();
    let same = |root: Value<'_, '_>| expected.as_ref().is_none_or(|expected| is_same(root, expected));
    let read = parser.parse(text, same);
    match read {
        Ok(is_same) => {
            assert!(oracle::is_json(text), "it is not JSON");
            assert!(oracle::depth(text) <= json::MAX_DEPTH, "it is too deep");
            assert!(is_same, "serde_json reads {expected:?}");
        }
        Err(JsonError::Invalid) => assert!(!oracle::is_json(text), "it is JSON"),
        Err(JsonError::TooDeep) => assert!(oracle::depth(text) > json::MAX_DEPTH, "it is not deep"),
    }
    assert_eq!(parser.parse(text, same), read, "the second time");
}

fn text_of(tag: Tag<'_>) -> Vec<String> {
    std::iter::once(tag.name()).chain(tag.rest()).map(|element| element.to_text()).collect()
}

fn fields_of(event: EventView<'_>) -> Fields {
    Fields {
        id: event.id().to_string(),
        pubkey: event.pubkey().to_string(),
        created_at: event.created_at().0,
        kind: event.kind().0,
        tags: event.tags().map(text_of).collect(),
        content: String::from_utf8(event.content().into()).expect("an event that was parsed is UTF-8"),
        sig: event.signature().to_string(),
    }
}

/// An event that was parsed has the fields that serde_json found, and is the same after writing and parsing it again.
fn assert_is(event: &Event, expected: &Fields) {
    assert_eq!(fields_of(event.view()), *expected);
    assert_eq!(event.view().hash(), event.view().id());
    let again = Event::parse(&mut Parser::default(), event.view().to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(event), "written and parsed again");
    assert_eq!(event.view().to_event().as_ref(), Ok(event), "read from its record");
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(Options::default()));

/// Two copies, so that the fast engine decides where there is one, are verified exactly when libsecp256k1 accepts them.
fn assert_verified(event: &Event) {
    let view = event.view();
    let signature = secp256k1::schnorr::Signature::from_byte_array(view.signature().0);
    let key = secp256k1::XOnlyPublicKey::from_byte_array(view.pubkey().0);
    let expected = key.is_ok_and(|key| secp256k1::schnorr::verify(&signature, &view.id().0, &key).is_ok());
    for verdict in VerifiedEvent::verify(&VERIFIER, vec![event.clone(), event.clone()]) {
        assert_eq!(verdict.is_ok(), expected);
    }
    assert_eq!(VERIFIER.mismatches(), 0);
}

/// A text is an event exactly when serde_json finds the fields of NIP-01 in it and their SHA-256 is its id. With the
/// right id, whatever has the fields is an event. Its signature is good exactly when libsecp256k1 says so.
pub(crate) fn event(text: &[u8]) {
    let mut parser = Parser::default();
    let parsed = Event::parse(&mut parser, text);
    let is_deep = oracle::depth(text) > json::MAX_DEPTH;
    let Some(mut fields) = Json::read(text).as_ref().and_then(Fields::read).filter(|_| !is_deep) else {
        let is_odd = Json::read(text).is_none() && oracle::is_json(text);
        assert!(parsed.is_err() || is_odd, "serde_json finds no event");
        return;
    };
    match &parsed {
        Ok(event) => {
            assert_is(event, &fields);
            assert_verified(event);
        }
        Err(error) => {
            assert_eq!(*error, EventError::WrongId);
            assert_ne!(fields.hash(), fields.id);
        }
    }
    fields.id = fields.hash();
    let parsed = Event::parse(&mut parser, fields.to_json().as_bytes());
    let event = parsed.expect("an event with the right id");
    assert_is(&event, &fields);
    assert_verified(&event);
}

/// Memory is at most this often what the text takes. A value of four bytes takes most: `"a",`.
const MAX_GROWTH: usize = 64;

fn assert_bounded(filter: &Filter, text: &[u8]) {
    let bytes = filter.memory_bytes() - size_of::<Filter>();
    assert!(bytes <= MAX_GROWTH * text.len(), "{bytes} bytes");
}

/// A text is a filter exactly when serde_json finds only right keys in it. It matches the events that those keys
/// describe, and its memory is bounded by its length.
pub(crate) fn filter(text: &[u8]) {
    let parsed = Filter::parse(&mut Parser::default(), text, OPTIONS);
    if let Ok(filter) = &parsed {
        assert_bounded(filter, text);
    }
    let Some(json) = Json::read(text).filter(|_| oracle::depth(text) <= json::MAX_DEPTH) else {
        assert!(parsed.is_err() || oracle::is_json(text), "it is not JSON");
        return;
    };
    let keys = oracle::filter_keys(&json);
    assert_eq!(parsed.is_ok(), keys.is_some(), "{parsed:?}");
    let (Ok(filter), Some(keys)) = (parsed, keys) else { return };
    for event in EVENTS.iter() {
        let expected = oracle::matches(&keys, &fields_of(event.view()));
        assert_eq!(filter.matches(event.view()) && !filter.is_never(), expected, "{event:?}");
    }
}

/// What the answer to a malformed message must name: its first element and the id, if an id can be read (INV-14).
fn named_in_answer(json: &Json) -> Option<(&'static str, String)> {
    let items = json.list()?;
    let sub = || items.get(1)?.text().filter(|sub| (1..=64).contains(&sub.chars().count())).map(str::to_owned);
    match items.first()?.text()? {
        "EVENT" | "AUTH" => {
            let mut entries = items.get(1)?.object()?.iter();
            let id = entries.find(|(key, _)| key == "id")?.1.text()?;
            super::EventId::from_hex(id.as_bytes()).map(|_| ("OK", id.to_owned()))
        }
        "REQ" | "COUNT" => Some(("CLOSED", sub()?)),
        "NEG-OPEN" | "NEG-MSG" => Some(("NEG-ERR", sub()?)),
        _ => None,
    }
}

fn assert_answers(answer: &RelayMessage, text: &[u8]) {
    let answer = answer.to_text();
    assert!(answer.len() <= MAX_ANSWER_BYTES, "an answer of {} bytes", answer.len());
    let said: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("an answer is a JSON array");
    let json = Json::read(text).filter(|_| oracle::depth(text) <= json::MAX_DEPTH);
    if let Some((verb, id)) = json.as_ref().and_then(named_in_answer) {
        assert_eq!((&said[0], &said[1]), (&verb.into(), &id.into()), "{answer}");
    }
}

/// A message is refused with a short answer that names its id, or has the meaning that serde_json finds.
pub(crate) fn client_message(text: &[u8]) {
    let mut parser = Parser::default();
    let parsed = ClientMessage::parse(&mut parser, text, OPTIONS);
    assert_eq!(ClientMessage::parse(&mut parser, text, OPTIONS), parsed, "the second time");
    let message = match parsed {
        Ok(message) => message,
        Err(answer) => return assert_answers(&answer, text),
    };
    let json = Json::read(text);
    let element = |index: usize| Some(json.as_ref()?.list()?.get(index)?.clone());
    let said =
        |expected: &str| assert!(json.is_none() || element(0) == Some(Json::Text(expected.into())), "{expected}");
    let names = |sub: &super::SubscriptionId| {
        assert!(json.is_none() || element(1) == Some(Json::Text(sub.as_str().into())), "{sub:?}");
    };
    match &message {
        ClientMessage::Event(event) | ClientMessage::Auth(event) => {
            said(if matches!(message, ClientMessage::Event(_)) { "EVENT" } else { "AUTH" });
            if let Some(element) = element(1) {
                assert_is(event, &Fields::read(&element).expect("serde_json finds no event"));
            }
        }
        ClientMessage::Req(sub, filters) | ClientMessage::Count(sub, filters) => {
            said(if matches!(message, ClientMessage::Req(..)) { "REQ" } else { "COUNT" });
            names(sub);
            filters.iter().for_each(|filter| assert_bounded(filter, text));
        }
        ClientMessage::NegOpen(sub, filter, bytes) => {
            said("NEG-OPEN");
            names(sub);
            assert_bounded(filter, text);
            assert!(2 * bytes.len() < text.len());
        }
        ClientMessage::NegMsg(sub, bytes) => {
            said("NEG-MSG");
            names(sub);
            assert!(2 * bytes.len() < text.len());
        }
        ClientMessage::Close(sub) | ClientMessage::NegClose(sub) => {
            said(if matches!(message, ClientMessage::Close(_)) { "CLOSE" } else { "NEG-CLOSE" });
            names(sub);
        }
    }
}
