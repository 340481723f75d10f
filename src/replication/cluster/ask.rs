//! What nodes ask each other directly, through NATS: to compare what they hold, for events by id, and how they are.
//!
//! Pure. What arrives may be anything, and is bounded by what NATS takes for a message.

use serde::{Deserialize, Serialize};

use super::options::MAX_AUTHORS;
use crate::negentropy::MIN_FRAME_BYTES;
use crate::nostr::{EventId, hex};

/// Bytes of the longest message of negentropy. In hex it is twice as long.
pub const FRAME_BYTES: usize = 60_000;
const _: () = assert!(FRAME_BYTES >= MIN_FRAME_BYTES);

/// What is around a message of negentropy in a question or an answer: the names of the fields, and kinds.
const AROUND_BYTES: usize = 4096;

/// Ids that are asked for at a time.
pub const MAX_IDS: usize = 128;

/// Bytes of events in one answer, unless the first one is longer.
const ANSWER_BYTES: usize = 256 << 10;

/// The longest question: a frame in hex, and as many authors as a node may take events of.
pub const MAX_QUESTION_BYTES: usize = 2 * FRAME_BYTES + MAX_AUTHORS * 70 + AROUND_BYTES;

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

/// Bytes of one message of negentropy, if NATS takes `max_payload` bytes.
#[must_use]
pub fn frame_bytes(max_payload: usize) -> usize {
    FRAME_BYTES.min(max_payload.saturating_sub(AROUND_BYTES) / 2).max(MIN_FRAME_BYTES)
}

/// Adds an event to an answer that NATS takes, one on each line. Whether it has room for more.
#[must_use]
pub fn add_line(lines: &mut Vec<u8>, json: &[u8], max_payload: usize) -> bool {
    let bytes = json.len() + 1;
    if bytes > max_payload {
        // It fits into none: it stays where it is.
        return true;
    }
    if !lines.is_empty() && lines.len() + bytes > ANSWER_BYTES.min(max_payload) {
        return false;
    }
    lines.extend_from_slice(json);
    lines.push(b'\n');
    true
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
    use crate::replication::cluster::options::MAX_KINDS;

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
    fn the_longest_question_is_one_that_nats_takes_and_a_node_reads() {
        let open = Question::Open {
            since: u64::MAX,
            until: u64::MAX,
            kinds: vec![u16::MAX; MAX_KINDS],
            authors: vec!["ab".repeat(32); MAX_AUTHORS],
            message: "ab".repeat(FRAME_BYTES),
        };
        let bytes = serde_json::to_vec(&open).expect("JSON").len();
        assert!(bytes <= MAX_QUESTION_BYTES, "{bytes}");
        // What NATS takes unless its operator says otherwise.
        const { assert!(MAX_QUESTION_BYTES <= 1 << 20) }
    }

    #[test]
    fn an_answer_has_as_many_events_as_nats_takes_and_none_that_fits_nowhere() {
        let answer = |lengths: &[usize], max_payload| {
            let (mut lines, json) = (Vec::new(), vec![b'x'; 1 << 20]);
            let added =
                lengths.iter().take_while(|length| add_line(&mut lines, &json[..**length], max_payload)).count();
            (added, lines.len())
        };
        assert_eq!(answer(&[100, 100, 100], 1 << 20), (3, 303));
        assert_eq!(answer(&[100, 100, 100], 250), (2, 202));
        assert_eq!(answer(&[300, 100, 100], 250), (3, 202));
        assert_eq!(answer(&[300_000, 100], 1 << 20), (1, 300_001));
        assert_eq!(answer(&[100_000, 200_000], 1 << 20), (1, 100_001));
        assert_eq!([1 << 20, 64 << 10, 10].map(frame_bytes), [FRAME_BYTES, 30 << 10, MIN_FRAME_BYTES]);
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
