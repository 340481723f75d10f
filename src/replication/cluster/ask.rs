//! What nodes ask each other directly, through NATS: to compare what they hold, for events by id, and how they are.
//!
//! Pure. What arrives may be anything, and is bounded by what NATS takes for a message.

use serde::{Deserialize, Serialize};

use crate::negentropy::MIN_FRAME_BYTES;
use crate::nostr::{EventId, hex};

/// Bytes of one message of negentropy. In hex it is twice as long, far below what NATS takes.
pub const FRAME_BYTES: usize = 60_000;
const _: () = assert!(FRAME_BYTES >= MIN_FRAME_BYTES);

/// Ids that are asked for at a time.
pub const MAX_IDS: usize = 128;

/// Bytes of events in one answer, unless the first one is longer.
pub const ANSWER_BYTES: usize = 256 << 10;

/// The longest question: a frame in hex, and what is around it.
pub const MAX_QUESTION_BYTES: usize = 3 * FRAME_BYTES;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// Begins to compare a range of `created_at`.
    Open {
        /// The first second.
        since: u64,
        /// The last second.
        until: u64,
        /// The kinds that are compared; none means all.
        kinds: Vec<u16>,
        /// Their authors in hex; none means all.
        authors: Vec<String>,
        /// The first message of negentropy, in hex.
        message: String,
    },
    /// Goes on comparing.
    Next {
        /// The number that the answer to `Open` had.
        session: u64,
        /// A message of negentropy, in hex.
        message: String,
    },
    /// Wants events; the answer has one on each line.
    Events {
        /// Their ids in hex.
        ids: Vec<String>,
    },
    /// How the node is.
    Status,
}

/// An answer; that to [`Question::Events`] is no JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase", deny_unknown_fields)]
pub enum Answer {
    /// A message of negentropy.
    Compared {
        /// The session.
        session: u64,
        /// The message, in hex.
        message: String,
    },
    /// The range has too many events: ask for less.
    Much,
    /// Another node is being served: ask later.
    Busy,
    /// How the node is.
    Status(Status),
    /// It cannot be answered.
    Failed {
        /// Why.
        why: String,
    },
}

/// How a node is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The version of weir.
    pub version: String,
    /// The number of the last event that arrived.
    pub arrived: u64,
    /// Up to which number it has published.
    pub published: u64,
    /// Up to which number all others have taken what it published.
    pub settled: u64,
    /// When it last compared what it holds with another node, in Unix seconds; 0: not since it started.
    pub compared_at: u64,
}

/// Bytes as they stand in JSON.
#[must_use]
pub fn to_text(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The bytes of a text; `None` if it is not hex or longer than a frame.
#[must_use]
pub fn to_bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * FRAME_BYTES || !text.len().is_multiple_of(2) {
        return None;
    }
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

/// The ids of a question; `None` if one is wrong or there are too many.
#[must_use]
pub fn to_ids(ids: &[String]) -> Option<Vec<EventId>> {
    if ids.len() > MAX_IDS {
        return None;
    }
    ids.iter().map(|id| EventId::from_hex(id.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_come_back_and_anything_else_is_refused() {
        let open = Question::Open { since: 1, until: 9, kinds: vec![1], authors: vec![], message: "6100".into() };
        let next = Question::Next { session: 7, message: "61".into() };
        for question in [open, next, Question::Events { ids: vec!["ab".into()] }, Question::Status] {
            let text = serde_json::to_vec(&question).expect("JSON");
            assert_eq!(serde_json::from_slice::<Question>(&text).expect("a question"), question);
        }
        let status = Status { version: "1".into(), arrived: 3, ..Status::default() };
        for answer in [Answer::Much, Answer::Busy, Answer::Status(status), Answer::Failed { why: "x".into() }] {
            let text = serde_json::to_vec(&answer).expect("JSON");
            assert_eq!(serde_json::from_slice::<Answer>(&text).expect("an answer"), answer);
        }
        for text in ["", "{}", "[]", r#"{"ask":"drop"}"#, r#"{"ask":"next","session":1}"#, "\0"] {
            assert!(serde_json::from_str::<Question>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_bytes_and_too_many_ids_are_refused() {
        assert_eq!(to_bytes(&to_text(&[1, 255])), Some(vec![1, 255]));
        assert_eq!(["0", "zz", &"00".repeat(FRAME_BYTES + 1)].map(to_bytes), [None, None, None]);
        let id = "ab".repeat(32);
        assert_eq!(to_ids(std::slice::from_ref(&id)), Some(vec![EventId([0xab; 32])]));
        assert_eq!((to_ids(&["ab".into()]), to_ids(&vec![id; MAX_IDS + 1])), (None, None));
    }
}
