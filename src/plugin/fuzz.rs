//! The fuzz target of what a plugin writes: its answers, and lines for the log.

use super::answer::{Answer, AnsweredEvent, MAX_LINE, Verdict};
use super::complaints::printable;
use crate::nostr::json::Parser;
use crate::nostr::oracle::{self, Json};
use crate::nostr::{EventId, RelayMessage};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = "ab".repeat(32);
    let lines = [
        format!(r#"{{"id":"{id}","action":"accept"}}"#),
        format!(r#"{{"id":"{id}","action":"reject","msg":"blocked: not here"}}"#),
        format!(r#"{{"msg":" rate-limited:\u0000slow \ud83c\udf0a ","action":"reject","id":"{id}"}}"#),
        format!(r#"{{"id":"{id}","action":"shadowReject","more":[{{}},1.5,null]}}"#),
        format!(r#"{{"id":"{id}","id":"{}","action":"accept","action":"reject","msg":5}}"#, "cd".repeat(32)),
        format!(r#"{{"id":"{id}","action":"perhaps"}}"#),
        r#"{"action":"reject","msg":""}"#.into(),
        "starting up\u{1b}[31m at level \u{202e}3".into(),
        format!(r#"{{"msg":"{}","action":"reject"}}"#, "x".repeat(MAX_LINE)),
    ];
    lines.map(String::into_bytes).into()
}

/// The id and the action of a line, as serde_json finds them; `None` when it is no answer.
fn expected(line: &Json) -> Option<(Option<EventId>, Option<&str>)> {
    let entries = line.object()?;
    let last = |name: &str| entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
    let ids = entries.iter().filter(|(key, _)| key == "id");
    let ids: Vec<EventId> = ids.map(|(_, id)| EventId::from_hex(id.text()?.as_bytes())).collect::<Option<_>>()?;
    let action = last("action").and_then(Json::text);
    let action = action.filter(|action| ["accept", "reject", "shadowReject"].contains(action));
    (!ids.is_empty() || action.is_some()).then_some((ids.last().copied(), action))
}

/// A line is the answer that serde_json finds in it, or none. A refusal becomes a message to the client that is no
/// longer than the line allows. What is logged has no control characters.
pub(crate) fn check(line: &[u8]) {
    assert!(!printable(line).chars().any(char::is_control));
    let mut parser = Parser::default();
    let answer = Answer::parse(&mut parser, line);
    assert_eq!(Answer::parse(&mut parser, line), answer, "the second time");
    if line.len() > MAX_LINE || oracle::depth(line) > crate::nostr::json::MAX_DEPTH {
        return assert_eq!(answer, None);
    }
    if let Some(Answer { verdict: Some(Verdict::Reject(reason)), .. }) = &answer {
        let told = RelayMessage::Ok { id: EventId([1; 32]), accepted: false, reason: Some(reason.clone()) }.to_text();
        serde_json::from_str::<Vec<serde_json::Value>>(&told).expect("an answer is a JSON array");
        assert!(told.len() <= 6 * line.len() + 200, "{} bytes", told.len());
    }
    let Some(json) = Json::read(line) else { return };
    let found = answer.map(|Answer { about, verdict }| {
        let id = if let AnsweredEvent::Id(id) = about { Some(id) } else { None };
        let action = verdict.map(|verdict| match verdict {
            Verdict::Accept => "accept",
            Verdict::Reject(_) => "reject",
            Verdict::ShadowReject => "shadowReject",
        });
        (id, action)
    });
    assert_eq!(found, expected(&json));
}
