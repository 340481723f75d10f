//! Events read from JSON, and damaged records.

use sha2::{Digest, Sha256};

use super::super::tag::TagElement;
use super::*;

/// A well-formed event with the right id and a signature of zeros, from its unsigned parts.
fn with_id(created_at: u64, kind: u16, tags: &str, content: &str) -> String {
    let pubkey = "ab".repeat(32);
    let preimage = format!("[0,\"{pubkey}\",{created_at},{kind},{tags},{content}]");
    let id = hex::encode(&Sha256::digest(preimage.as_bytes()));
    let sig = "00".repeat(64);
    format!(
        r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind},"tags":{tags},"content":{content},"sig":"{sig}"}}"#
    )
}

fn parse(text: &str) -> Result<Event, EventError> {
    Event::parse(&mut Parser::default(), text.as_bytes())
}

#[test]
fn canonical_json_parses_back_to_itself() {
    let hexed = "0f".repeat(32);
    let tags = format!(
        r#"[["e","{hexed}","wss://relay.damus.io","root"],["p","{}"],["t","é\n"],["-"],["",""]]"#,
        "0F".repeat(32)
    );
    let text = with_id(1_694_192_155_914, 30023, &tags, r#""a \"quoted\"\nline \u0001\u001f é""#);
    let event = parse(&text).expect("an event");
    assert_eq!(event.view().to_json(), text);
    assert!(event.view().is_protected());
    let values: Vec<_> = event.view().tags().map(|tag| tag.value().map(TagElement::to_text)).collect();
    assert_eq!(values[0], Some(hexed));
    assert_eq!((&values[3], &values[4]), (&None, &Some(String::new())));
}

#[test]
fn every_escape_is_resolved_before_hashing() {
    let canonical = with_id(1, 1, "[]", r#""/A\"é😀""#);
    let escaped = canonical.replace(r#""/A\"é😀""#, r#""\/\u0041\u0022\u00e9\ud83d\ude00""#);
    assert_eq!(parse(&escaped), parse(&canonical));
}

#[test]
fn unknown_keys_are_dropped_and_known_ones_stand_once() {
    let text = with_id(1, 1, "[]", r#""x""#);
    let more = text.replacen('{', r#"{"seen_on":["x",{"id":1}],"#, 1);
    assert_eq!(parse(&more), parse(&text));
    let beyond = text.replacen('{', r#"{"a":18446744073709551616,"b":[-1e400,{"\udead":"\ud800"}],"#, 1);
    assert_eq!(parse(&beyond), parse(&text));
    let twice = text.replacen('{', r#"{"kind":1,"#, 1);
    assert_eq!(parse(&twice), Err(EventError::Duplicate("kind")));
}

#[test]
fn a_number_that_equals_an_integer_is_one_and_hashed_as_one() {
    let text = with_id(1000, 1, "[]", r#""x""#);
    for (from, to) in [("1000", "1e3"), ("1000", "1000.0"), (r#""kind":1"#, r#""kind":1.0E+0"#)] {
        assert_eq!(parse(&text.replacen(from, to, 1)), parse(&text), "{to}");
    }
    assert_eq!(parse(&text.replacen("1000", "1e2", 1)), Err(EventError::WrongId));
}

#[test]
fn what_nip_01_does_not_allow_is_refused() {
    let good = with_id(1, 1, r#"[["t","x"]]"#, r#""x""#);
    assert!(parse(&good).is_ok());
    let pubkey = "ab".repeat(32);
    let cases = [
        (r#""kind":1"#, r#""kind":65536"#),
        (r#""kind":1"#, r#""kind":1.5"#),
        (r#""kind":1"#, r#""kind":1e400"#),
        (r#""kind":1"#, r#""kind":-1"#),
        (r#""kind":1"#, r#""kind":"1""#),
        (r#""created_at":1"#, r#""created_at":-1"#),
        (r#""created_at":1"#, r#""created_at":1e-3"#),
        (r#""created_at":1"#, r#""created_at":18446744073709551616"#),
        (r#""created_at":1"#, r#""created_at":281474976710656"#),
        (r#"[["t","x"]]"#, r#"[["t",1]]"#),
        (r#"[["t","x"]]"#, r#"[["t",null]]"#),
        (r#"[["t","x"]]"#, r#"[["t","\ud800"]]"#),
        (r#"[["t","x"]]"#, r#""\ud800""#),
        (r#""content":"x""#, r#""content":"\ud800""#),
        (r#"[["t","x"]]"#, "[[]]"),
        (r#"[["t","x"]]"#, r#"["t"]"#),
        (r#"[["t","x"]]"#, "{}"),
        (r#""content":"x""#, r#""content":null"#),
        (&pubkey, &pubkey.to_uppercase()),
        (&pubkey, &pubkey[2..]),
    ];
    for (from, to) in cases {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(matches!(parse(&bad), Err(EventError::Malformed(_))), "{bad}");
    }
    assert_eq!(parse(&good.replacen(r#""content":"x""#, r#""content":"y""#, 1)), Err(EventError::WrongId));
    assert_eq!(parse("[]"), Err(EventError::NotAnObject));
}

#[test]
fn the_first_expiration_counts_and_must_be_a_time() {
    let event = parse(&with_id(1, 1, r#"[["expiration","7"],["expiration","x"]]"#, r#""""#)).expect("an event");
    assert_eq!(event.view().expiration(), Some(Timestamp(7)));
    assert!(event.view().is_expired(Timestamp(7)) && !event.view().is_expired(Timestamp(6)));
    for tags in [r#"[["expiration"]]"#, r#"[["expiration","x"]]"#, r#"[["expiration",""]]"#, r#"[["expiration","-1"]]"#]
    {
        assert!(matches!(parse(&with_id(1, 1, tags, r#""""#)), Err(EventError::Malformed(_))), "{tags}");
    }
}

#[test]
fn the_first_d_tag_names_an_addressable_event() {
    let d = |kind, tags: &str| {
        parse(&with_id(1, kind, tags, r#""""#)).expect("an event").view().d_tag().map(|d| d.to_text())
    };
    assert_eq!(d(30_000, r#"[["d","a"],["d","b"]]"#), Some("a".into()));
    assert_eq!(d(30_000, r#"[["d"],["d","b"]]"#), Some(String::new()));
    assert_eq!(d(30_000, "[]"), Some(String::new()));
    assert_eq!(d(0, r#"[["d","a"]]"#), Some(String::new()));
    assert_eq!(d(1, r#"[["d","a"]]"#), None);
}

#[test]
fn a_record_is_never_trusted() {
    let event = parse(&with_id(1, 1, r#"[["e","x"],["p","y","z"]]"#, r#""content""#)).expect("an event");
    let record = event.view().record();
    for len in 0..record.len() {
        if let Some(view) = EventView::from_record(&record[..len]) {
            let _ = (view.tags().count(), view.to_json(), view.expiration());
            assert_eq!(view.to_event(), Err(EventError::WrongId));
        }
    }
    for at in offset::KIND..record.len() {
        for value in [0, 1, 3, 0x7f, 0x80, 0xff] {
            let mut damaged = record.to_vec();
            damaged[at] = value;
            if let Some(view) = EventView::from_record(&damaged) {
                let _ = (view.tags().indexed().count(), view.to_json(), view.d_tag(), view.expiration());
            }
        }
    }
}
