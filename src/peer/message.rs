//! What a relay sends: events, ends of queries, answers and notices.
//!
//! Pure, and strict about nothing that relays differ in: elements after the known ones are ignored, white space may
//! stand anywhere.

use memchr::memmem;

use crate::nostr::json::{Elements, Parser, Value};
use crate::nostr::{EventId, hex};

/// The longest reason or notice that is kept, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// The longest challenge that is answered, in bytes.
const MAX_CHALLENGE_BYTES: usize = 1024;

/// One message from a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming<'t> {
    /// An event for this subscription. The text of the message holds it; it was not parsed.
    Event(&'t str),
    /// All stored events of this subscription were sent.
    Eose(String),
    /// The relay ended this subscription, or refused it, for this reason.
    Closed(String, String),
    /// Whether the relay accepted an event, and what it says about it.
    Ok(EventId, bool, String),
    /// A text for people, which some relays use to refuse.
    Notice(String),
    /// A challenge to prove a key (NIP-42).
    Auth(String),
    /// A negentropy message (NIP-77).
    NegMsg(String, Vec<u8>),
    /// The relay ended this negentropy session, or refused it, for this reason.
    NegErr(String, String),
    /// Something that no relay need say to us.
    Other,
}

impl<'t> Incoming<'t> {
    /// Reads one text message. What is not a message of a relay is [`Incoming::Other`].
    #[must_use]
    pub fn parse(parser: &mut Parser, text: &'t str) -> Self {
        if let Some(sub) = event_head(text) {
            return Self::Event(sub);
        }
        parser.parse(text.as_bytes(), Self::read).ok().flatten().unwrap_or(Self::Other)
    }

    fn read(root: Value<'_, '_>) -> Option<Self> {
        let mut elements = root.as_array()?;
        Some(match elements.next()?.as_str()? {
            "EOSE" => Self::Eose(name(&mut elements)?),
            "CLOSED" => Self::Closed(name(&mut elements)?, text(&mut elements)),
            "OK" => {
                let id = EventId::from_hex(elements.next()?.as_str()?.as_bytes())?;
                let accepted = elements.next()?.as_bool()?;
                Self::Ok(id, accepted, text(&mut elements))
            }
            "NOTICE" => Self::Notice(text(&mut elements)),
            "AUTH" => {
                let challenge = elements.next()?.as_str()?;
                (challenge.len() <= MAX_CHALLENGE_BYTES).then(|| Self::Auth(challenge.into()))?
            }
            "NEG-MSG" => Self::NegMsg(name(&mut elements)?, hex::decode_vec(elements.next()?.as_str()?.as_bytes())?),
            "NEG-ERR" => Self::NegErr(name(&mut elements)?, text(&mut elements)),
            _ => return None,
        })
    }
}

/// The id of a subscription or session. Ours are short.
fn name(elements: &mut Elements<'_, '_>) -> Option<String> {
    elements.next()?.as_str().filter(|name| name.len() <= 64).map(str::to_owned)
}

/// A text for people, made fit to print; empty if there is none.
fn text(elements: &mut Elements<'_, '_>) -> String {
    elements.next().and_then(Value::as_str).map(printable).unwrap_or_default()
}

/// A text from elsewhere, cut and without characters that a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_TEXT_CHARS).is_some() {
        out.push('…');
    }
    out
}

/// The subscription of an EVENT message, found without reading the event; `None` for other messages, and for ids with
/// escapes, which ours have not.
fn event_head(text: &str) -> Option<&str> {
    let after = |text: &'_ str, mark: &str| text.trim_start().strip_prefix(mark).map(str::len);
    let mut rest = text;
    for mark in ["[", "\"EVENT\"", ",", "\""] {
        rest = &rest[rest.len() - after(rest, mark)?..];
    }
    let (sub, rest) = rest.split_once('"')?;
    (sub.len() <= 64 && !sub.contains('\\') && rest.trim_start().starts_with(',')).then_some(sub)
}

/// The id of the event in an EVENT message, found without reading the event; `None` where it is not found. It is what
/// the relay says: only reading the event tells whether it is true.
#[must_use]
pub fn event_id(text: &str) -> Option<EventId> {
    // Within strings the quotes would be escaped, and the key of an object alone is followed by a colon.
    memmem::find_iter(text.as_bytes(), "\"id\"").find_map(|at| {
        let value = text[at + 4..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        EventId::from_hex(value.as_bytes().get(..64)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Incoming<'_> {
        Incoming::parse(&mut Parser::default(), text)
    }

    #[test]
    fn each_message_of_a_relay_is_read() {
        let id = "ab".repeat(32);
        assert_eq!(read(r#"["EVENT","d1",{"id":1}]"#), Incoming::Event("d1"));
        assert_eq!(read(" [ \"EVENT\" ,\n\"d1\" , {}]"), Incoming::Event("d1"));
        assert_eq!(read(r#"["EOSE","d1",{"more":true}]"#), Incoming::Eose("d1".into()));
        assert_eq!(read(r#"["CLOSED","d1","error: no"]"#), Incoming::Closed("d1".into(), "error: no".into()));
        assert_eq!(read(r#"["CLOSED","d1"]"#), Incoming::Closed("d1".into(), String::new()));
        assert_eq!(
            read(&format!(r#"["OK","{id}",false,"pow: 1"]"#)),
            Incoming::Ok(EventId([0xab; 32]), false, "pow: 1".into())
        );
        assert_eq!(read(&format!(r#"["OK","{id}",true]"#)), Incoming::Ok(EventId([0xab; 32]), true, String::new()));
        assert_eq!(read("[\"NOTICE\",\"a\\nb\\u001b[31m\"]"), Incoming::Notice("a b [31m".into()));
        assert_eq!(read(r#"["AUTH","x\"y"]"#), Incoming::Auth("x\"y".into()));
        assert_eq!(read(r#"["NEG-MSG","n1","61ff"]"#), Incoming::NegMsg("n1".into(), vec![0x61, 0xff]));
        assert_eq!(read(r#"["NEG-ERR","n1","closed: late",5]"#), Incoming::NegErr("n1".into(), "closed: late".into()));
    }

    #[test]
    fn the_id_of_an_event_is_found_wherever_it_stands() {
        let id = "ab".repeat(32);
        let texts = [
            format!(r#"["EVENT","d1",{{"id":"{id}","kind":1}}]"#),
            format!(
                r#"["EVENT","d1",{{"content":"\"id\":\"{}\"","tags":[["id","x"],["id"]],"id" : "{id}"}}]"#,
                "cd".repeat(32)
            ),
        ];
        for text in texts {
            assert_eq!(event_id(&text), Some(EventId([0xab; 32])), "{text}");
        }
        for text in ["", "\"id\"", "\"id\":\"ab\"", "\"id\":null", &format!("\"id\":\"{}é\"", "a".repeat(63))] {
            assert_eq!(event_id(text), None, "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_message() {
        let long = format!(r#"["EOSE","{}"]"#, "x".repeat(65));
        let challenge = format!(r#"["AUTH","{}"]"#, "x".repeat(MAX_CHALLENGE_BYTES + 1));
        for text in [
            "",
            "[]",
            "{}",
            "[1]",
            "[\"EVENT\"]",
            "[\"EVENT\",{}]",
            "[\"EVENT\",\"a\\\"b\",{}]",
            "[\"OK\",\"ab\",true]",
            "[\"NEG-MSG\",\"n\",\"6\"]",
            "[\"NEG-MSG\",\"n\",\"zz\"]",
            "[\"COUNT\",\"a\",{\"count\":1}]",
            "[\"EOSE\"]",
            &long,
            &challenge,
        ] {
            assert_eq!(read(text), Incoming::Other, "{text}");
        }
        let notice = format!(r#"["NOTICE","{}"]"#, "é".repeat(400));
        assert_eq!(read(&notice), Incoming::Notice("é".repeat(MAX_TEXT_CHARS) + "…"));
    }
}
