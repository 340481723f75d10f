//! What a message from NATS holds, which anybody with credentials may have written.
//!
//! A message of stored events has one on each line, as many as its writer liked; they have the kind that ends its
//! subject. A message of an ephemeral event or an act holds that alone.
//!
//! Pure. What is none of ours is poison: it is counted and passed, and stops nothing.

use crate::management::AuditEntry;
use crate::nostr::json::Parser;
use crate::nostr::{Event, EventError, EventView};

/// Why a message is passed over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Poison {
    /// It is too long for an event.
    #[error("it has {0} bytes, and no event has so many")]
    TooLong(usize),
    /// It is no event.
    #[error("it holds no event: {0}")]
    NotAnEvent(EventError),
    /// Its subject is that of another kind.
    #[error("an event of kind {0} has the subject {1}")]
    WrongSubject(u16, String),
    /// Its signature is wrong.
    #[error("the signature is wrong")]
    BadSignature,
    /// Stored events do not come as ephemeral ones, nor the other way round.
    #[error("events of kind {0} do not come this way")]
    WrongWay(u16),
    /// It is no act.
    #[error("it holds no act: {0}")]
    NotAnAct(String),
}

/// Events that one message holds at most, as this version writes them.
pub const MAX_EVENTS: usize = 32;

/// Bytes of a message with more than one event: about as many as [`MAX_EVENTS`] have.
pub const MAX_BYTES: usize = 32 << 10;

/// Lines that are read of a message. What is behind the last counts to it, and then is no event.
const MAX_LINES: usize = 1024;

/// The lines of a message of stored events, each of which should be one. There is one at least.
pub fn lines(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    (1..=MAX_LINES).map_while(move |number| {
        let text = rest?;
        let end = memchr::memchr(b'\n', text).filter(|_| number < MAX_LINES);
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// The JSON of an event, as it travels.
#[must_use]
pub fn write(event: EventView<'_>) -> Vec<u8> {
    let mut json = Vec::with_capacity(event.record().len() * 2);
    event.write_json(&mut json);
    json
}

/// Reads an event that came with `subject`. Its signature is not checked.
///
/// # Errors
/// When the text is poison.
pub fn read(
    parser: &mut Parser,
    subject: &str,
    text: &[u8],
    max_bytes: usize,
    is_ephemeral: bool,
) -> Result<Event, Poison> {
    let event = read_bare(parser, text, max_bytes)?;
    let kind = event.view().kind();
    let named = subject.rsplit('.').next().and_then(|token| token.parse().ok());
    if named != Some(kind.0) {
        // NATS filters by subject: a node that asks for some kinds only would get others.
        return Err(Poison::WrongSubject(kind.0, subject.chars().take(128).collect()));
    }
    if kind.is_ephemeral() != is_ephemeral {
        return Err(Poison::WrongWay(kind.0));
    }
    Ok(event)
}

/// Reads an event that came without a subject. Its signature is not checked.
///
/// # Errors
/// When the text is poison.
pub fn read_bare(parser: &mut Parser, text: &[u8], max_bytes: usize) -> Result<Event, Poison> {
    if text.len() > max_bytes {
        return Err(Poison::TooLong(text.len()));
    }
    Event::parse(parser, text).map_err(Poison::NotAnEvent)
}

/// The longest text of an act: a description, each byte escaped, and what is around it.
const MAX_ACT_BYTES: usize = 64 << 10;

/// Reads an act.
///
/// # Errors
/// When the message is poison.
pub fn read_act(payload: &[u8]) -> Result<AuditEntry, Poison> {
    if payload.len() > MAX_ACT_BYTES {
        return Err(Poison::TooLong(payload.len()));
    }
    let act: AuditEntry = serde_json::from_slice(payload).map_err(|error| Poison::NotAnAct(error.to_string()))?;
    act.check().map_err(|text| Poison::NotAnAct(text.into()))?;
    Ok(act)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nostr::testing::signed;

    #[test]
    fn an_event_comes_back_as_it_was_written() {
        let mut parser = Parser::default();
        for (kind, is_ephemeral) in [(1, false), (30_023, false), (20_001, true)] {
            let event = signed(1, kind, 5, &[&["d", "x"], &["-"]], "line\nline \u{1f980} \u{1}");
            let subject = format!("weir.main.ev.{kind}");
            let read = read(&mut parser, &subject, &write(event.view()), 1 << 16, is_ephemeral);
            assert_eq!(read, Ok(event));
        }
    }

    #[test]
    fn a_message_has_an_event_on_each_line_and_what_is_too_much_is_no_event() {
        let shown = |payload: &str| -> Vec<String> {
            lines(payload.as_bytes()).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
        };
        assert_eq!(["", "a", "a\nb", "\na\n"].map(shown), [vec![""], vec!["a"], vec!["a", "b"], vec!["", "a", ""]]);
        let many = "x\n".repeat(MAX_LINES + 1);
        let read = shown(&many);
        assert_eq!((read.len(), read[MAX_LINES - 1].as_str()), (MAX_LINES, "x\nx\n"));
        // No text in JSON has a line feed of its own.
        let json = write(signed(1, 1, 5, &[&["t", "a\nb"]], "\n\r\n").view());
        assert_eq!(lines(&json).collect::<Vec<_>>(), [&json[..]]);
    }

    #[test]
    fn what_is_no_event_of_ours_is_poison_and_says_why() {
        let mut parser = Parser::default();
        let event = signed(1, 1, 5, &[], "x");
        let text = write(event.view());
        let mut forged = text.clone();
        let at = text.windows(4).position(|window| window == b"\"x\"}" || window == b"\"x\",").expect("the content");
        forged[at + 1] = b'y';
        let cases: [(&str, &[u8], bool, &str); 7] = [
            ("a.1", b"", false, "it holds no event: not valid JSON"),
            ("a.1", b"[]", false, "it holds no event: the event is not a JSON object"),
            ("a.1", &forged, false, "it holds no event: id is not the SHA-256 of the event"),
            ("a.2", &text, false, "an event of kind 1 has the subject a.2"),
            ("", &text, false, "an event of kind 1 has the subject "),
            ("a.1", &text, true, "events of kind 1 do not come this way"),
            ("a.1", &[b' '; 5000], false, "it has 5000 bytes, and no event has so many"),
        ];
        for (subject, payload, is_ephemeral, why) in cases {
            let read = read(&mut parser, subject, payload, 4096, is_ephemeral);
            assert_eq!(read.map_err(|poison| poison.to_string()), Err(why.to_owned()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_and_any_change_of_an_event_are_read_without_a_panic_and_never_as_another_event(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..400,
            byte: u8,
            cut in 0_usize..400,
        ) {
            let mut parser = Parser::default();
            let event = signed(1, 1, 5, &[&["t", "x"]], "some content");
            let text = write(event.view());
            let mut changed = text.clone();
            let at = at % text.len();
            changed[at] = byte;
            for payload in [&bytes[..], &changed, &text[..cut.min(text.len() - 1)]] {
                let read = read(&mut parser, "weir.main.ev.1", payload, 1 << 16, false);
                // Only spaces and what stands for the same may differ, or the signature, which is checked later.
                prop_assert!(read.is_err() || read.is_ok_and(|other| other.view().id() == event.view().id()));
                prop_assert!(read_act(payload).is_err());
            }
        }

        #[test]
        fn any_change_of_an_act_is_refused_or_stays_within_the_bounds_of_acts(at in 0_usize..1000, byte: u8) {
            let mut text = ACT.as_bytes().to_vec();
            prop_assert!(read_act(&text).is_ok());
            let at = at % text.len();
            text[at] = byte;
            if let Ok(act) = read_act(&text) {
                prop_assert!(act.check().is_ok() && act.method.len() <= 128);
            }
        }
    }

    /// A ban of another node.
    const ACT: &str = concat!(
        r#"{"number":7,"at":1700000000,"by":"uid:0","method":"banpubkey","subject":"#,
        r#""key:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","reason":"spam","#,
        r#""change":{"after":{"verdict":"ban","text":"spam","number":7,"at":1700000000,"by":"uid:0"}},"#,
        r#""origin":{"node":"b","number":7}}"#
    );

    #[test]
    fn acts_out_of_bounds_are_refused() {
        let long = |length: usize| ACT.replace("\"spam\",\"change", &format!("\"{}\",\"change", "x".repeat(length)));
        let said = |text: &str| read_act(text.as_bytes()).map(|_| ()).map_err(|poison| poison.to_string());
        assert_eq!(said(&long(512)), Ok(()));
        assert_eq!(said(&long(513)), Err("it holds no act: a text is too long".into()));
        let plain = ACT.replace("\"change\"", "\"undoes\":3,\"events\"");
        assert!(said(&plain).is_err(), "{plain}");
        assert_eq!(said(&long(70_000)), Err(format!("it has {} bytes, and no event has so many", long(70_000).len())));
    }
}
