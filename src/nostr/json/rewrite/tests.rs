//! The parser and its rewriting against the grammar of serde_json.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::super::{Parser, Value};
use super::rewrite;

fn rewritten(text: &str) -> String {
    let mut out = Vec::new();
    let changed = rewrite(text.as_bytes(), &mut out);
    let out = String::from_utf8(out).expect("UTF-8 stays UTF-8");
    assert_eq!(changed, out != text, "{text}");
    out
}

#[test]
fn numbers_beyond_64_bits_become_doubles_and_all_others_stay() {
    let cases = [
        ("[18446744073709551616]", "[1.8446744073709552e19]"),
        ("[-9223372036854775809,1]", "[-9.223372036854776e18,1]"),
        ("[1e400,-1E+400]", "[1e308,-1e308]"),
        ("[18446744073709551615,-9223372036854775808,1.50,1e-400,0e999,-0]", ""),
        (r#"["18446744073709551616","\"1e400"]"#, ""),
        ("[018446744073709551616,1e400.,--1e400,1e400e1]", ""),
    ];
    for (text, wanted) in cases {
        assert_eq!(rewritten(text), if wanted.is_empty() { text } else { wanted });
    }
}

#[test]
fn a_string_with_half_a_surrogate_pair_is_no_string() {
    let cases = [
        (r#"["\ud800",1]"#, "[false,1]"),
        (r#"["\uDC00\ud83d","\ud83d\ude00"]"#, r#"[false,"\ud83d\ude00"]"#),
        (r#"{"a\ud800" : "\ude00"}"#, r#"{"a\ufffd" : false}"#),
        (r#"["\\ud800","\ud83d\\ude00"]"#, r#"["\\ud800",false]"#),
    ];
    for (text, wanted) in cases {
        assert_eq!(rewritten(text), wanted);
    }
}

#[test]
fn a_string_that_is_no_json_is_never_hidden() {
    for text in [r#"["\ud800\x"]"#, "[\"\\ud800\n\"]", r#"["\ud800\u12"]"#, r#"["\ud800"#, r#"["\ud800\"#] {
        assert!(Parser::default().parse(text.as_bytes(), |_| ()).is_err(), "{text}");
    }
    assert!(Parser::default().parse(b"[\"\\ud800\xff\"]", |_| ()).is_err());
}

/// JSON text of every form, with numbers and escapes of every size, and the value that it must be read as.
fn json() -> impl Strategy<Value = (String, serde_json::Value)> {
    let number = "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,4})?".prop_map(|text| {
        let nearest: f64 = text.parse().expect("a number");
        (text, if nearest.is_finite() { nearest } else { 1e308_f64.copysign(nearest) }.into())
    });
    let string = r#""([a-zé😀 ]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\u[dD][89a-fA-F][0-9a-f]{2}){0,6}""#;
    // serde_json cannot hold half a surrogate pair.
    let string = string.prop_map(|text| {
        let value = serde_json::from_str::<String>(&text).map_or(false.into(), serde_json::Value::from);
        (text, value)
    });
    let words = [("true", true.into()), (" false ", false.into()), ("null", serde_json::Value::Null)];
    let word = prop::sample::select(words.map(|(text, value)| (text.to_string(), value)).to_vec());
    let key =
        prop::sample::select(vec![(r#""a""#, "a"), (r#""\n\ud83d\ude00""#, "\n😀"), (r#""a\ud800""#, "a\u{fffd}")]);
    prop_oneof![number, string, word].prop_recursive(5, 40, 5, move |inner| {
        let array = prop::collection::vec(inner.clone(), 0..5).prop_map(|items| {
            let (texts, values): (Vec<String>, Vec<serde_json::Value>) = items.into_iter().unzip();
            (format!("[{}]", texts.join(", ")), values.into())
        });
        let entry =
            (key.clone(), inner).prop_map(|((key, name), (text, value))| (format!("{key}\n:{text}"), (name, value)));
        let object = prop::collection::vec(entry, 0..5).prop_map(|entries| {
            let (texts, entries): (Vec<String>, Vec<_>) = entries.into_iter().unzip();
            (format!("{{{}}}", texts.join(",")), entries.into_iter().collect())
        });
        prop_oneof![array, object]
    })
}

/// Whether serde_json accepts the text. Numbers may have any size, and escapes may be half a surrogate pair.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The value that serde_json reads, with numbers as doubles.
fn tree(value: Value<'_, '_>) -> serde_json::Value {
    if let Some(items) = value.as_array() {
        return items.map(tree).collect();
    }
    if let Some(entries) = value.as_object() {
        return entries.map(|(key, value)| (key.to_string(), tree(value))).collect();
    }
    match value.nodes.first() {
        Some(simd_json::Node::String(text)) => (*text).into(),
        Some(simd_json::Node::Static(simd_json::StaticNode::Bool(condition))) => (*condition).into(),
        Some(simd_json::Node::Static(simd_json::StaticNode::Null)) => serde_json::Value::Null,
        Some(simd_json::Node::Static(simd_json::StaticNode::U64(number))) => (*number as f64).into(),
        Some(simd_json::Node::Static(simd_json::StaticNode::I64(number))) => (*number as f64).into(),
        Some(simd_json::Node::Static(simd_json::StaticNode::F64(number))) => (*number).into(),
        other => panic!("a value, not {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_json_is_read_whatever_its_numbers_and_escapes((text, value) in json()) {
        prop_assert!(is_json(text.as_bytes()), "{text}");
        prop_assert_eq!(Parser::default().parse(text.as_bytes(), tree), Ok(value), "{}", text);
    }

    #[test]
    fn damaged_json_is_judged_as_serde_json_judges_it(
        (text, _) in json(),
        at in any::<prop::sample::Index>(),
        damage in prop::sample::select(&b"\"\\[]{},:-+.eE019udnt \n\x00\xff\x80"[..]),
        how in 0..3,
    ) {
        let mut text = text.into_bytes();
        let at = at.index(text.len());
        match how {
            0 => text[at] = damage,
            1 => text.insert(at, damage),
            _ => drop(text.remove(at)),
        }
        let ours = Parser::default().parse(&text, |_| ()).is_ok();
        prop_assert_eq!(ours, is_json(&text), "{}", String::from_utf8_lossy(&text));
    }
}
