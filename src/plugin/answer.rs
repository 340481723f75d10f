//! What a plugin answers: one line of JSON with the id of the event and what becomes of it.
//!
//! Pure, and made for rubbish: no line makes it panic or hold more than the line is long.

use crate::nostr::json::{Parser, Value};
use crate::nostr::{EventId, Prefix, Reason, hex};

/// The longest line that is an answer, in bytes: strfry's bound.
pub const MAX_LINE: usize = 8192;

/// What the program decides about an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is refused, and the client is told why.
    Reject(Reason),
    /// It is dropped, and the client is told that it was accepted.
    ShadowReject,
}

/// A line that is an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which event it is about.
    pub about: AnsweredEvent,
    /// What becomes of the event; `None` when the action is missing or unknown.
    pub verdict: Option<Verdict>,
}

/// Which event an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnsweredEvent {
    /// The event with this id.
    Id(EventId),
    /// It has no id.
    Nothing,
}

impl Answer {
    /// Reads a line; `None` for one that is no answer.
    #[must_use]
    pub fn parse(parser: &mut Parser, line: &[u8]) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        parser.parse(line, Self::from_value).ok().flatten()
    }

    fn from_value(root: Value<'_, '_>) -> Option<Self> {
        let (mut about, mut action, mut message) = (AnsweredEvent::Nothing, None, "");
        for (key, value) in root.as_object()? {
            match key {
                "id" => about = AnsweredEvent::Id(EventId(hex::decode(value.as_str()?.as_bytes())?)),
                "action" => action = value.as_str(),
                "msg" => message = value.as_str().unwrap_or_default(),
                _ => {}
            }
        }
        let verdict = match action {
            Some("accept") => Some(Verdict::Accept),
            Some("reject") => Some(Verdict::Reject(reason(message))),
            Some("shadowReject") => Some(Verdict::ShadowReject),
            _ => None,
        };
        // An object with neither is something else that the program prints.
        (about != AnsweredEvent::Nothing || verdict.is_some()).then_some(Self { about, verdict })
    }
}

/// The reason that a client is given. A message with a prefix of NIP-01 keeps it.
fn reason(message: &str) -> Reason {
    let message = message.trim();
    let with_prefix = message.split_once(':').and_then(|(word, text)| {
        let prefix = PREFIXES.into_iter().find(|prefix| prefix.as_str() == word)?;
        Some(Reason::new(prefix, text.trim_start().to_owned()))
    });
    with_prefix.unwrap_or_else(|| {
        let text = if message.is_empty() { "the relay's policy does not allow this event" } else { message };
        Reason::new(Prefix::Blocked, text.to_owned())
    })
}

/// The prefixes that a plugin may use.
const PREFIXES: [Prefix; 9] = [
    Prefix::Duplicate,
    Prefix::Pow,
    Prefix::Blocked,
    Prefix::RateLimited,
    Prefix::Invalid,
    Prefix::Restricted,
    Prefix::Mute,
    Prefix::Error,
    Prefix::AuthRequired,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Option<Answer> {
        Answer::parse(&mut Parser::default(), line.as_bytes())
    }

    fn rejected(prefix: Prefix, text: &'static str) -> Option<Verdict> {
        Some(Verdict::Reject(Reason::new(prefix, text)))
    }

    #[test]
    fn answers_are_read_with_their_reason() {
        let id = "ab".repeat(32);
        let about = AnsweredEvent::Id(EventId([0xab; 32]));
        let verdict_of = |rest: &str| {
            let answer = parse(&format!("{{\"id\":\"{id}\",{rest}}}")).expect("an answer");
            assert_eq!(answer.about, about);
            answer.verdict
        };
        assert_eq!(verdict_of(r#""action":"accept""#), Some(Verdict::Accept));
        assert_eq!(verdict_of(r#""action":"accept","msg":"hidden""#), Some(Verdict::Accept));
        assert_eq!(verdict_of(r#""action":"shadowReject","msg":"x""#), Some(Verdict::ShadowReject));
        let policy = "the relay's policy does not allow this event";
        for (message, prefix, text) in [
            (r#""msg":"blocked: not on white-list""#, Prefix::Blocked, "not on white-list"),
            (r#""msg":"rate-limited:slow down""#, Prefix::RateLimited, "slow down"),
            (r#""msg":"auth-required: log in""#, Prefix::AuthRequired, "log in"),
            (r#""msg":"spam: not here""#, Prefix::Blocked, "spam: not here"),
            (r#""msg":"just no""#, Prefix::Blocked, "just no"),
            (r#""msg":"""#, Prefix::Blocked, policy),
            (r#""msg":null"#, Prefix::Blocked, policy),
            (r#""more":[{}]"#, Prefix::Blocked, policy),
        ] {
            assert_eq!(verdict_of(&format!(r#""action":"reject",{message}"#)), rejected(prefix, text), "{message}");
        }
        assert_eq!(verdict_of(r#""action":"Accept""#), None);
        assert_eq!(verdict_of(r#""action":7"#), None);
        assert_eq!(verdict_of(r#""msg":"x""#), None);
        let without_id = Answer { about: AnsweredEvent::Nothing, verdict: Some(Verdict::Accept) };
        assert_eq!(parse(r#" {"action":"accept"} "#), Some(without_id));
    }

    #[test]
    fn anything_else_is_rubbish() {
        let long = format!("{{\"action\":\"accept\",\"msg\":\"{}\"}}", "x".repeat(MAX_LINE));
        for line in ["", "accept", "[]", "{", "{}}", r#"{"id":7,"action":"accept"}"#, r#"{"id":"ab"}"#, &long] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(Answer::parse(&mut Parser::default(), b"{\"action\":\"\xff\"}"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_line_of_any_bytes_panics(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Answer::parse(&mut Parser::default(), &line);
        }

        #[test]
        fn a_damaged_answer_is_rubbish_or_an_answer_and_the_parser_goes_on(
            cuts in proptest::collection::vec((0..130_usize, any::<u8>(), 0..4_u8), 1..6)
        ) {
            let good = format!("{{\"id\":\"{}\",\"action\":\"reject\",\"msg\":\"blocked: \\u00e9\"}}", "0f".repeat(32));
            let mut line = good.clone().into_bytes();
            for (at, byte, how) in cuts {
                let at = at.min(line.len().saturating_sub(1));
                match how {
                    0 => line.truncate(at),
                    1 => line.insert(at, byte),
                    2 => drop((!line.is_empty()).then(|| line.remove(at))),
                    _ => line.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
                }
            }
            let mut parser = Parser::default();
            let _ = Answer::parse(&mut parser, &line);
            let answer = Answer::parse(&mut parser, good.as_bytes()).expect("an answer");
            prop_assert_eq!(answer.verdict, rejected(Prefix::Blocked, "é"));
        }
    }
}
