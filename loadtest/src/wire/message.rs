//! The messages a relay sends (NIP-01), found by offset.
//!
//! It must never parse an event's body: the id is taken where it is expected, and only a message in an unusual layout
//! (spaces, escapes) goes through a JSON parser.

use std::borrow::Cow;

use memchr::memmem;

/// One message of a relay; unknown ones are `Other`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// `["EVENT",<sub>,<event>]`
    Event {
        /// Subscription id.
        sub: Cow<'a, str>,
        /// The event's JSON.
        event: Cow<'a, [u8]>,
    },
    /// `["OK",<id>,<accepted>,<text>]`
    Ok {
        /// The event's id as written.
        id: Cow<'a, str>,
        /// Third element.
        accepted: bool,
        /// Fourth element.
        text: Cow<'a, str>,
    },
    /// `["EOSE",<sub>]`
    Eose {
        /// Subscription id.
        sub: Cow<'a, str>,
    },
    /// `["CLOSED",<sub>,<text>]`
    Closed {
        /// Subscription id.
        sub: Cow<'a, str>,
        /// Why.
        text: Cow<'a, str>,
    },
    /// `["NOTICE",<text>]`
    Notice(Cow<'a, str>),
    /// AUTH, COUNT and whatever else is well formed.
    Other,
}

/// Takes a message apart.
///
/// # Errors
/// If it is not a JSON array that starts with a string, or a known message lacks its parts.
pub fn parse(text: &[u8]) -> Result<Message<'_>, &'static str> {
    if let Some(message) = fast(text) {
        return Ok(message);
    }
    slow(text)
}

/// The usual layout: no whitespace, no escape before the event.
fn fast(text: &[u8]) -> Option<Message<'_>> {
    if let Some(rest) = text.strip_prefix(b"[\"EVENT\",\"") {
        let (sub, rest) = plain_string(rest)?;
        let event = rest.strip_prefix(b",")?.strip_suffix(b"]")?;
        return event.starts_with(b"{").then_some(Message::Event { sub: sub.into(), event: event.into() });
    }
    if let Some(rest) = text.strip_prefix(b"[\"OK\",\"") {
        let (id, rest) = plain_string(rest)?;
        let (accepted, rest) = match rest.strip_prefix(b",true,\"") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix(b",false,\"")?),
        };
        let (reason, rest) = plain_string(rest)?;
        return (rest == b"]").then_some(Message::Ok { id: id.into(), accepted, text: reason.into() });
    }
    let (sub, rest) = plain_string(text.strip_prefix(b"[\"EOSE\",\"")?)?;
    // NIP-67 adds a third element.
    (rest == b"]" || rest.starts_with(b",")).then_some(Message::Eose { sub: sub.into() })
}

/// Everything up to the next quote, if nothing in it is escaped.
fn plain_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', bytes)?;
    (bytes[end] == b'"').then_some(())?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn slow(text: &[u8]) -> Result<Message<'static>, &'static str> {
    use serde_json::Value;
    let Ok(Value::Array(parts)) = serde_json::from_slice::<Value>(text) else {
        return Err("not a JSON array");
    };
    let string = |at: usize| match parts.get(at) {
        Some(Value::String(text)) => Some(Cow::<'static, str>::Owned(text.clone())),
        _ => None,
    };
    let message = match string(0).ok_or("the first element is not a string")?.as_ref() {
        "EVENT" => (|| {
            let event = parts.get(2)?.to_string().into_bytes();
            Some(Message::Event { sub: string(1)?, event: event.into() })
        })(),
        "OK" => (|| {
            let accepted = parts.get(2)?.as_bool()?;
            Some(Message::Ok { id: string(1)?, accepted, text: string(3)? })
        })(),
        "EOSE" => string(1).map(|sub| Message::Eose { sub }),
        "CLOSED" => string(1).map(|sub| Message::Closed { sub, text: string(2).unwrap_or_default() }),
        "NOTICE" => string(1).map(Message::Notice),
        _ => Some(Message::Other),
    };
    message.ok_or("a known message lacks its parts")
}

/// The id of an event. The raw bytes `"id":"` cannot occur inside a JSON string (its quotes would be escaped), so the
/// first hit is the key, wherever the relay puts it.
pub fn event_id(event: &[u8]) -> Option<[u8; 32]> {
    const KEY: &[u8] = b"\"id\":\"";
    let at = if event.get(1..1 + KEY.len()) == Some(KEY) {
        1
    } else if let Some(at) = memmem::find(event, KEY) {
        at
    } else {
        return slow_event_id(event);
    };
    let hex = event.get(at + KEY.len()..at + KEY.len() + 64)?;
    crate::corpus::event::decode_id(hex)
}

fn slow_event_id(event: &[u8]) -> Option<[u8; 32]> {
    let value: serde_json::Value = serde_json::from_slice(event).ok()?;
    crate::corpus::event::decode_id(value.get("id")?.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_every_message_give_the_same_parts() {
        let cases: [(&[u8], &[u8], Message<'_>); 3] = [
            (b"[\"EOSE\",\"s1\"]", b"[ \"EOSE\", \"s1\" ]", Message::Eose { sub: "s1".into() }),
            (
                b"[\"OK\",\"ab\",false,\"invalid: x\"]",
                b"[\"OK\", \"ab\", false, \"invalid: x\"]",
                Message::Ok { id: "ab".into(), accepted: false, text: "invalid: x".into() },
            ),
            (
                b"[\"EVENT\",\"s\",{\"id\":\"x\"}]",
                b"[\"EVENT\", \"s\", {\"id\": \"x\"}]",
                Message::Event { sub: "s".into(), event: b"{\"id\":\"x\"}".into() },
            ),
        ];
        for (compact, spaced, expected) in cases {
            assert_eq!(parse(compact), Ok(expected.clone()));
            assert_eq!(parse(spaced), Ok(expected));
        }
    }

    #[test]
    fn an_escaped_reason_is_unescaped() {
        let text = br#"["CLOSED","q","error: \"no\""]"#;
        assert_eq!(parse(text), Ok(Message::Closed { sub: "q".into(), text: "error: \"no\"".into() }));
    }

    #[test]
    fn the_id_is_found_wherever_the_key_is_and_not_in_the_content() {
        let id = "ab".repeat(32);
        let wrong = "cd".repeat(32);
        for event in [
            format!(r#"{{"id":"{id}","content":""}}"#),
            format!(r#"{{"content":"{{\"id\":\"{wrong}\"}}","id":"{id}"}}"#),
            format!(r#"{{ "content" : "", "id" : "{id}" }}"#),
        ] {
            assert_eq!(event_id(event.as_bytes()), Some([0xab; 32]), "{event}");
        }
        assert_eq!(event_id(b"{}"), None);
    }

    #[test]
    fn what_is_not_a_relay_message_is_an_error() {
        assert_eq!(parse(b"hello"), Err("not a JSON array"));
        assert_eq!(parse(b"[\"OK\",\"ab\"]"), Err("a known message lacks its parts"));
    }
}
