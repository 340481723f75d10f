//! Builds events and filters for the tests of `policy`.

use crate::nostr::json::Parser;
use crate::nostr::{Event, Filter, ParseOptions, Prefix, Pubkey, Reason, testing};

/// The current time in these tests.
pub const NOW: u64 = 1_700_000_000;

/// The author of [`event`].
pub const AUTHOR: [u8; 32] = [0xab; 32];

/// An event of [`AUTHOR`] at [`NOW`]; `tags` and `content` are JSON.
pub fn event(kind: u16, tags: &str, content: &str) -> Event {
    event_at(NOW, kind, tags, content)
}

/// An event of [`AUTHOR`]; `tags` and `content` are JSON.
pub fn event_at(created_at: u64, kind: u16, tags: &str, content: &str) -> Event {
    let tags: Vec<Vec<&str>> = serde_json::from_str(tags).expect("tags in JSON");
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    let content: String = serde_json::from_str(content).expect("content in JSON");
    testing::event(Pubkey(AUTHOR), kind, created_at, &tags, &content)
}

/// A filter from JSON.
pub fn filter(text: &str) -> Filter {
    Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions { and_filters: true }).expect("a filter")
}

/// The text of a decision: empty if it is positive.
pub fn said(decision: Result<(), Reason>) -> String {
    decision.map_or_else(|reason| reason.to_string(), |()| String::new())
}

/// The prefix of a refusal.
pub fn prefix(decision: Result<(), Reason>) -> Option<Prefix> {
    decision.err().map(|reason| reason.prefix)
}
