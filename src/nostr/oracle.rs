//! A second reader of JSON, events and filters, for tests: by serde_json, slow and simple. It shares no code with what
//! it checks, and keeps duplicate keys, which serde_json's own values would drop.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

/// A JSON value, with the entries of objects in their order.
#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    Null,
    Bool,
    Integer(i128),
    Double(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value of this text; `None` when serde_json cannot hold it: it is not JSON, has half a surrogate pair, or a
    /// number that is no double.
    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    pub fn object(&self) -> Option<&[(String, Self)]> {
        if let Self::Object(entries) = self { Some(entries) } else { None }
    }

    fn whole(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Double(number) => Some(*number).filter(|number| number.fract() == 0.0),
            _ => None,
        }
    }

    /// Texts, all of which `is_right` accepts.
    fn texts(&self, is_right: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
        self.list()?.iter().map(|item| item.text().filter(|text| is_right(text))).collect()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Bool)
            }

            fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Integer(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Integer(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
                Ok(Json::Double(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut object = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    object.push(entry);
                }
                Ok(Json::Object(object))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Whether the text is one JSON value in UTF-8 (RFC 8259), however its numbers and escapes look.
pub fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// How deeply a valid text nests arrays and objects.
pub fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The fields of an event, as NIP-01 has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields {
    pub id: String,
    pub pubkey: String,
    pub created_at: u64,
    pub kind: u16,
    pub tags: Vec<Vec<String>>,
    pub content: String,
    pub sig: String,
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn whole_up_to(json: &Json, most: u64) -> Option<u64> {
    json.whole().filter(|number| (0.0..=most as f64).contains(number)).map(|number| number as u64)
}

impl Fields {
    /// The event that this object is, whatever its id says; `None` when it is not one.
    pub fn read(json: &Json) -> Option<Self> {
        let entries = json.object()?;
        let field = |name: &str| {
            let mut found = entries.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
            found.next().filter(|_| found.next().is_none())
        };
        let hex = |name: &str, digits| field(name)?.text().filter(|text| is_hex(text, digits)).map(str::to_owned);
        let tag = |tag: &Json| Some(tag.texts(|_| true)?.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let tags: Vec<_> = field("tags")?.list()?.iter().map(tag).collect::<Option<_>>()?;
        let expiration = tags.iter().find(|tag| tag.first().is_some_and(|name| name == "expiration"));
        let is_time = |tag: &Vec<String>| {
            tag.get(1).is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if tags.iter().any(Vec::is_empty) || expiration.is_some_and(|tag| !is_time(tag)) {
            return None;
        }
        Some(Self {
            id: hex("id", 64)?,
            pubkey: hex("pubkey", 64)?,
            created_at: whole_up_to(field("created_at")?, (1 << 48) - 1)?,
            kind: u16::try_from(whole_up_to(field("kind")?, 65_535)?).ok()?,
            tags,
            content: field("content")?.text()?.to_owned(),
            sig: hex("sig", 128)?,
        })
    }

    /// The SHA-256 of the NIP-01 serialization.
    pub fn hash(&self) -> String {
        let array = (0, &self.pubkey, self.created_at, self.kind, &self.tags, &self.content);
        let text = serde_json::to_string(&array).expect("strings and numbers are JSON");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn to_json(&self) -> String {
        let Self { id, pubkey, created_at, kind, tags, content, sig } = self;
        serde_json::json!({
            "content": content, "created_at": created_at, "id": id, "kind": kind, "pubkey": pubkey, "sig": sig,
            "tags": tags,
        })
        .to_string()
    }
}

/// The keys of a filter that are given; `None` when the object is not a filter (NIP-01, NIP-91).
pub fn filter_keys(json: &Json) -> Option<Vec<(&str, &Json)>> {
    let entries = json.object()?;
    let mut names: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    names.sort_unstable();
    let are_distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
    let given: Vec<_> = entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let given: Vec<_> = given.into_iter().filter(|(_, value)| **value != Json::Null).collect();
    let is_right = |(key, value): &(&str, &Json)| match (*key, key.as_bytes()) {
        ("ids" | "authors" | "#e" | "#p" | "&e" | "&p", _) => value.texts(|text| is_hex(text, 64)).is_some(),
        ("kinds", _) => value.list().is_some_and(|items| items.iter().all(|item| item.whole().is_some())),
        ("since" | "until", _) => value.whole().is_some(),
        ("limit", _) => value.whole().is_some_and(|limit| limit >= 0.0),
        (_, [b'#' | b'&', letter]) if letter.is_ascii_alphabetic() => value.texts(|_| true).is_some(),
        _ => false,
    };
    (are_distinct && given.iter().all(is_right)).then_some(given)
}

/// Whether an event meets every condition of a filter.
pub fn matches(keys: &[(&str, &Json)], event: &Fields) -> bool {
    let is_in = |list: &Json, wanted: &str| list.texts(|_| true).is_some_and(|texts| texts.contains(&wanted));
    let has = |letter: &str, value: &str| {
        event.tags.iter().any(|tag| tag[0] == letter && tag.get(1).is_some_and(|own| own == value))
    };
    keys.iter().all(|(key, value)| match *key {
        "ids" => is_in(value, &event.id),
        "authors" => is_in(value, &event.pubkey),
        "kinds" => value.list().is_some_and(|kinds| kinds.iter().any(|kind| kind.whole() == Some(event.kind.into()))),
        "since" => value.whole().is_some_and(|since| since <= event.created_at as f64),
        "until" => value.whole().is_some_and(|until| event.created_at as f64 <= until),
        "limit" => true,
        _ => {
            let (letter, values) = (&key[1..], value.texts(|_| true).unwrap_or_default());
            if key.starts_with('&') {
                return !values.is_empty() && values.iter().all(|value| has(letter, value));
            }
            // What `&x` asks for already is no choice of `#x`.
            let and = keys.iter().find(|(other, _)| *other == format!("&{letter}"));
            let required = and.and_then(|(_, value)| value.texts(|_| true)).unwrap_or_default();
            let mut left = values.iter().filter(|value| !required.contains(value)).peekable();
            (left.peek().is_none() && !values.is_empty()) || left.any(|value| has(letter, value))
        }
    })
}
