//! NIP-01, events: format, id, signature and tags.

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// All control characters, characters that JSON must or may escape, and text that normalization would change.
const ODD_CHARACTERS: &str = "\u{0}\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{e}\u{f}\u{10}\u{11}\u{12}\
    \u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}\u{1a}\u{1b}\u{1c}\u{1d}\u{1e}\u{1f}\"\\/\u{7f}\u{80}\u{9f}\u{2028}\u{2029}\
    \u{feff}é e\u{301} \u{212b} 😀 \u{fdd1}\u{fffe}\u{ffff}\u{1fffe}\u{1ffff}\u{10ffff}";

#[test]
fn an_event_comes_back_byte_for_byte_with_every_character_in_content_and_tags() {
    let (key, relay) = (Key::named("odd characters"), Relay::shared());
    let event =
        key.event(1, now(), json!([["t", ODD_CHARACTERS], [ODD_CHARACTERS, "", ODD_CHARACTERS]]), ODD_CHARACTERS);
    let mut client = relay.connect();
    client.publish(&event);
    client.finds(json!({"ids": [event.id]}), &[&event]);
    client.finds(json!({"authors": [key.hex], "#t": [ODD_CHARACTERS]}), &[&event]);
}

#[test]
fn the_seven_escapes_and_lower_case_u00xx_are_what_is_hashed_and_sent() {
    let (key, relay) = (Key::named("seven escapes"), Relay::shared());
    let escaped = r#""\n\"\\\r\t\b\f\u0000\u0001\u001f"#.to_string() + "\u{7f}/\"";
    let at = now().to_string();
    let preimage = format!(r#"[0,"{}",{at},1,[],{escaped}]"#, key.hex);
    let event = key.sign(&preimage, "1", &at, "[]", &escaped);
    let mut client = relay.connect();
    client.publish(&event);
    client.finds(json!({"ids": [event.id]}), &[&event]);
}

#[test]
fn any_legal_escape_is_resolved_before_hashing() {
    let (key, relay) = (Key::named("legal escapes"), Relay::shared());
    let event = key.event(1, now(), json!([["t", "a/b"]]), "A/😀\n");
    let written = event.with(r#""A/😀\n""#, r#""\u0041\/\uD83D\ude00\u000A""#).with(r#""a/b""#, r#""\u0061\/b""#);
    let mut client = relay.connect();
    client.ask(written.message(), &event.ok());
    client.finds(json!({"ids": [event.id]}), &[&event]);
}

#[test]
fn a_lone_surrogate_is_invalid_by_id() {
    let (key, relay) = (Key::named("surrogates"), Relay::shared());
    let event = key.event(1, now(), json!([["t", "y"]]), "x");
    let mut client = relay.connect();
    for lone in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ude00\ud83d"] {
        let content = event.with(r#""x""#, &format!(r#""{lone}""#));
        client.ask(content.message(), &event.refused("invalid: content is not a Unicode string"));
        let tag = event.with(r#""y""#, &format!(r#""{lone}""#));
        client.ask(tag.message(), &event.refused("invalid: a tag is an array of one or more Unicode strings"));
    }
    client.is_silent();
}

#[test]
fn a_number_of_any_size_in_an_unknown_field_does_no_harm() {
    let (key, relay) = (Key::named("large numbers"), Relay::shared());
    let mut client = relay.connect();
    for number in ["18446744073709551616", "-9223372036854775809", "1e400", "[-1E+999999,{\"a\":1e-999999}]"] {
        let event = key.note(number);
        let more = event.with("{", &format!(r#"{{"seen":{number},"\udead":"\ud800","#));
        client.ask(more.message(), &event.ok());
        client.finds(json!({"ids": [event.id]}), &[&event]);
    }
}

#[test]
fn a_number_that_equals_an_integer_is_one_if_the_id_is_that_of_the_integer() {
    let (key, relay) = (Key::named("integers"), Relay::shared());
    let mut client = relay.connect();
    for (old, new) in [("1700000000", "1.7e9"), ("1700000000", "1700000000.0"), (r#""kind":1,"#, r#""kind":1.0,"#)] {
        let event = key.event(1, 1_700_000_000, json!([]), new);
        client.ask(event.with(old, new).message(), &event.ok());
        client.finds(json!({"ids": [event.id]}), &[&event]);
    }
    let event = key.event(1, 1_700_000_000, json!([]), "another time");
    let other = event.with("1700000000", "1.6e9");
    client.ask(other.message(), &event.refused("invalid: id is not the SHA-256 of the event"));
}

#[test]
fn white_space_and_the_order_of_keys_do_not_matter() {
    let (key, relay) = (Key::named("white space"), Relay::shared());
    let event = key.note("spaces");
    let Value::Object(fields) = serde_json::from_str(&event.text).expect("JSON") else { panic!("an object") };
    let mut entries: Vec<String> = fields.iter().map(|(name, value)| format!("\t{name:?} :\r\n {value} ")).collect();
    entries.sort();
    let mut client = relay.connect();
    client.ask(format!(" [ \"EVENT\" ,\n{{ {} }} ] ", entries.join(",")), &event.ok());
    client.finds(json!({"ids": [event.id]}), &[&event]);
}

#[test]
fn unknown_fields_are_dropped() {
    let (key, relay) = (Key::named("unknown fields"), Relay::shared());
    let event = key.note("fields");
    let more = event.with("{", r#"{"seen_on":["wss://x"],"rating":{"kind":9},"a":null,"#);
    let mut client = relay.connect();
    client.ask(more.message(), &event.ok());
    client.finds(json!({"ids": [event.id]}), &[&event]);
}

/// The reason why a changed event is refused.
fn refusal(event: &Signed, old: &str, new: &str) -> String {
    let relay = Relay::shared();
    let mut client = relay.connect();
    client.send(event.with(old, new).message());
    let answer: Value = serde_json::from_str(&client.next()).expect("JSON");
    let (head, reason) = (answer.as_array().expect("an array")[..3].to_vec(), &answer[3]);
    assert_eq!(head, [json!("OK"), json!(event.id), json!(false)], "{old} as {new}");
    client.is_silent();
    reason.as_str().expect("a reason").into()
}

#[test]
fn a_field_out_of_form_is_invalid() {
    let key = Key::named("out of form");
    let at = now();
    let event = key.event(1, at, json!([["t", "x"]]), "y");
    let upper = key.hex.to_uppercase();
    let time = format!(r#""created_at":{at}"#);
    let cases = [
        (key.hex.as_str(), upper.as_str(), "invalid: pubkey is not 64 lower-case hex digits"),
        (&key.hex, &key.hex[1..], "invalid: pubkey is not 64 lower-case hex digits"),
        (r#""sig":""#, r#""sig":"0"#, "invalid: sig is not 128 lower-case hex digits"),
        (&time, r#""created_at":1.5"#, "invalid: created_at is not a whole number"),
        (&time, r#""created_at":1e-9"#, "invalid: created_at is not a whole number"),
        (&time, r#""created_at":1e400"#, "invalid: created_at is not a whole number"),
        (&time, r#""created_at":18446744073709551616"#, "invalid: created_at is not a whole number"),
        (&time, r#""created_at":-1"#, "invalid: created_at is not a whole number"),
        (&time, r#""created_at":"1""#, "invalid: created_at is not a whole number"),
        (r#""kind":1"#, r#""kind":65536"#, "invalid: kind is not a whole number from 0 to 65535"),
        (r#""kind":1"#, r#""kind":-1"#, "invalid: kind is not a whole number from 0 to 65535"),
        (r#""kind":1"#, r#""kind":1.5"#, "invalid: kind is not a whole number from 0 to 65535"),
        (r#""kind":1"#, r#""kind":18446744073709551616"#, "invalid: kind is not a whole number from 0 to 65535"),
        (r#""kind":1"#, r#""kind":null"#, "invalid: kind is not a whole number from 0 to 65535"),
        (r#"[["t","x"]]"#, "null", "invalid: tags is not an array"),
        (r#"[["t","x"]]"#, r#"{"t":"x"}"#, "invalid: tags is not an array"),
        (r#"[["t","x"]]"#, r#"["t","x"]"#, "invalid: a tag is"),
        (r#"[["t","x"]]"#, "[[]]", "invalid: a tag is"),
        (r#"[["t","x"]]"#, r#"[["t",1]]"#, "invalid: a tag is"),
        (r#"[["t","x"]]"#, r#"[["t",null]]"#, "invalid: a tag is"),
        (r#"[["t","x"]]"#, r#"[["t",["x"]]]"#, "invalid: a tag is"),
        (r#""content":"y""#, r#""content":null"#, "invalid: content is not a Unicode string"),
        (r#""content":"y","#, "", "invalid: content is missing"),
        (r#""content":"y""#, r#""content":"y","content":"y""#, "invalid: content appears twice"),
        (r#""content":"y""#, r#""content":"z""#, "invalid: id is not the SHA-256 of the event"),
    ];
    for (old, new, reason) in cases {
        let got = refusal(&event, old, new);
        assert!(got.starts_with(reason), "{old} as {new}: {got}");
    }
}

#[test]
fn an_event_whose_id_cannot_be_read_gets_a_notice() {
    let (key, relay) = (Key::named("no id"), Relay::shared());
    let event = key.note("no id");
    let mut client = relay.connect();
    let wrong = r#"["NOTICE","invalid: id is not 64 lower-case hex digits"]"#;
    client.ask(event.with(&event.id, &event.id.to_uppercase()).message(), wrong);
    client.ask(event.with(&event.id, &format!("0x{}", &event.id[2..])).message(), wrong);
    client.ask(event.with(&event.id, "").message(), wrong);
    let without = event.with(&format!(r#""id":"{}","#, event.id), "");
    client.ask(without.message(), r#"["NOTICE","invalid: id is missing"]"#);
    client.ask(r#"["EVENT",1]"#, r#"["NOTICE","invalid: the event is not a JSON object"]"#);
    client.ask(r#"["EVENT"]"#, r#"["NOTICE","invalid: the event is missing"]"#);
}

#[test]
fn a_signature_over_something_else_or_by_another_key_is_invalid() {
    let (key, other, relay) = (Key::named("wrong signature"), Key::named("another signer"), Relay::shared());
    let event = key.note("mine");
    let mut client = relay.connect();
    let signature = |event: &Signed| event.text.rsplit('"').nth(1).expect("the signature is last").to_string();
    let sig = signature(&event);
    for wrong in [signature(&key.note("another")), signature(&other.note("mine")), "0".repeat(128), "f".repeat(128)] {
        client.refused(&event.with(&sig, &wrong), "invalid: the signature is wrong");
    }
    client.publish(&event);
}

#[test]
fn a_pubkey_that_is_no_point_on_the_curve_is_invalid() {
    let (key, relay) = (Key::named("no point"), Relay::shared());
    let zeros = "0".repeat(64);
    let at = now().to_string();
    let event = key.sign(&format!(r#"[0,"{zeros}",{at},1,[],""]"#), "1", &at, "[]", r#""""#);
    relay.connect().refused(&event.with(&key.hex, &zeros), "invalid: the signature is wrong");
}

#[test]
fn a_duplicate_is_answered_true() {
    let (key, relay) = (Key::named("duplicate"), Relay::shared());
    let event = key.note("twice");
    let mut client = relay.connect();
    client.publish(&event);
    client.ask(event.message(), &event.duplicate());
    relay.connect().ask(event.message(), &event.duplicate());
    client.finds(json!({"ids": [event.id]}), &[&event]);
}

#[test]
fn only_the_first_value_of_a_single_letter_tag_is_indexed_and_case_matters() {
    let (key, relay) = (Key::named("tags"), Relay::shared());
    let event = key.event(1, now(), json!([["t", "first", "second"], ["T", "upper"], ["title", "long"], ["r"]]), "");
    let mut client = relay.connect();
    client.publish(&event);
    let by = |tag: &str, value: &str| json!({"authors": [key.hex], tag: [value]});
    client.finds(by("#t", "first"), &[&event]);
    client.finds(by("#T", "upper"), &[&event]);
    for (tag, value) in [("#t", "second"), ("#T", "first"), ("#t", "upper"), ("#t", "FIRST"), ("#r", ""), ("#t", "")] {
        client.finds(by(tag, value), &[]);
    }
}

#[test]
fn every_letter_is_indexed() {
    let (key, relay) = (Key::named("letters"), Relay::shared());
    let mut client = relay.connect();
    let at = now();
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
    let value = |letter: char| if matches!(letter, 'e' | 'p') { key.hex.clone() } else { format!("value of {letter}") };
    let events: Vec<Signed> =
        letters.iter().map(|&letter| key.event(1, at, json!([[letter.to_string(), value(letter)]]), "")).collect();
    client.publish_all(&events);
    for (&letter, event) in letters.iter().zip(&events) {
        let filter = json!({"authors": [key.hex], format!("#{letter}"): [value(letter)]});
        client.finds(filter, &[event]);
    }
}

#[test]
fn values_of_e_and_p_tags_may_be_anything_but_are_found_only_if_hex() {
    let (key, relay) = (Key::named("odd e and p"), Relay::shared());
    let event =
        key.event(1, now(), json!([["e", "not hex"], ["p", ""], ["e", key.hex], ["p"], ["e", "AB".repeat(32)]]), "");
    let mut client = relay.connect();
    client.publish(&event);
    client.finds(json!({"authors": [key.hex], "#e": [key.hex]}), &[&event]);
    client.ask(
        json!(["REQ", "s", {"#e": ["not hex"]}]).to_string(),
        r##"["CLOSED","s","invalid: #e is not a list of strings of 64 lower-case hex digits"]"##,
    );
}

#[test]
fn tag_values_of_any_length_are_found() {
    let (key, relay) = (Key::named("long values"), Relay::shared());
    let mut client = relay.connect();
    for length in [0, 1, 63, 64, 65, 255, 256, 511, 512, 1_000, 65_535, 65_536, 200_000] {
        let (value, other) = ("v".repeat(length), "v".repeat(length.max(1) - 1) + "w");
        let event = key.event(1, now(), json!([["t", value], ["x", length.to_string()]]), "");
        client.publish(&event);
        client.finds(json!({"authors": [key.hex], "#t": [value]}), &[&event]);
        client.finds(json!({"authors": [key.hex], "#t": [other]}), &[]);
    }
}

#[test]
fn a_follow_list_of_ten_thousand_is_stored_found_and_delivered() {
    let (key, relay) = (Key::named("huge follow list"), Relay::shared());
    let tags: Vec<Value> = (0..10_000).map(|n| json!(["p", format!("{n:064x}")])).collect();
    let event = key.event(3, now(), Value::from(tags), "");
    let mut follower = relay.connect();
    assert_eq!(follower.open("live", &[json!({"authors": [key.hex]})]).0, [""; 0]);
    let mut client = relay.connect();
    client.publish(&event);
    follower.expect(&event.frame("live"));
    client.finds(json!({"authors": [key.hex], "kinds": [3]}), &[&event]);
    for n in [0, 4_711, 9_999] {
        client.finds(json!({"authors": [key.hex], "#p": [format!("{n:064x}")]}), &[&event]);
    }
}
