//! The limits that a relay states in its information document (NIP-11), and their consequences for a run.
//!
//! It must never guess a limit: a limit that the document does not state does not exist.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The stated limits that a run is fitted to; absent ones are `None` or false.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `software` (or `name`) and `version` of the document, for the report.
    pub software: String,
    /// Longest message in bytes.
    pub max_message_length: Option<usize>,
    /// Most open subscriptions of a connection.
    pub max_subscriptions: Option<usize>,
    /// Largest `limit` that is honoured.
    pub max_limit: Option<usize>,
    /// Most rows for a filter without `limit`.
    pub default_limit: Option<usize>,
    /// Most tags of an event.
    pub max_event_tags: Option<usize>,
    /// Longest content of an event in characters.
    pub max_content_length: Option<usize>,
    /// How many seconds an event may be older than now.
    pub created_at_lower_limit: Option<u64>,
    /// How many seconds an event may be ahead of now.
    pub created_at_upper_limit: Option<u64>,
    /// Least proof of work of an event (NIP-13).
    pub min_pow_difficulty: Option<u64>,
    /// Nothing works without AUTH (NIP-42).
    pub auth_required: bool,
    /// Nothing works without payment.
    pub payment_required: bool,
    /// Some events are refused for reasons that the relay does not list.
    pub restricted_writes: bool,
}

/// The properties of an event that limits apply to.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Length of its JSON in bytes.
    pub bytes: usize,
    /// Number of tags.
    pub tags: usize,
    /// Length of the content in characters.
    pub content: usize,
    /// Unix seconds.
    pub created_at: u64,
}

impl Limits {
    /// Takes the limits out of a document.
    pub fn of(document: &Value) -> Self {
        let limits = &document["limitation"];
        // Zero means "no limit" where a relay states it: nothing could be sent otherwise.
        let number = |key: &str| limits[key].as_u64().filter(|&value| value > 0);
        let size = |key: &str| number(key).and_then(|value| usize::try_from(value).ok());
        let flag = |key: &str| limits[key].as_bool().unwrap_or(false);
        let text = |key: &str| document[key].as_str().unwrap_or_default();
        let software = if text("software").is_empty() { text("name") } else { text("software") };
        Self {
            software: format!("{software} {}", text("version")).trim().to_string(),
            max_message_length: size("max_message_length"),
            max_subscriptions: size("max_subscriptions"),
            max_limit: size("max_limit"),
            default_limit: size("default_limit"),
            max_event_tags: size("max_event_tags"),
            max_content_length: size("max_content_length"),
            created_at_lower_limit: number("created_at_lower_limit"),
            created_at_upper_limit: number("created_at_upper_limit"),
            min_pow_difficulty: number("min_pow_difficulty"),
            auth_required: flag("auth_required"),
            payment_required: flag("payment_required"),
            restricted_writes: flag("restricted_writes"),
        }
    }

    /// The stated limits in words.
    pub fn stated(&self) -> Vec<String> {
        let fields = serde_json::to_value(self).unwrap_or_default();
        let fields = fields.as_object().into_iter().flatten().filter(|(key, _)| *key != "software");
        let stated = fields.filter_map(|(key, value)| match value {
            Value::Number(limit) => Some(format!("{key} {limit}")),
            Value::Bool(true) => Some(key.clone()),
            _ => None,
        });
        stated.collect()
    }

    /// The name of a limit that forbids an event at `now` (unix seconds), if one does.
    pub fn forbids(&self, event: Measure, now: u64) -> Option<&'static str> {
        let over = |limit: Option<usize>, value: usize| limit.is_some_and(|limit| value > limit);
        let age = now.saturating_sub(event.created_at);
        let ahead = event.created_at.saturating_sub(now);
        let envelope = r#"["EVENT",]"#.len();
        if over(self.max_message_length, event.bytes + envelope) {
            Some("max_message_length")
        } else if over(self.max_event_tags, event.tags) {
            Some("max_event_tags")
        } else if over(self.max_content_length, event.content) {
            Some("max_content_length")
        } else if self.created_at_lower_limit.is_some_and(|limit| age > limit) {
            Some("created_at_lower_limit")
        } else if self.created_at_upper_limit.is_some_and(|limit| ahead > limit) {
            Some("created_at_upper_limit")
        } else {
            None
        }
    }

    /// Most rows that the relay gives for a filter with this `limit`.
    pub fn rows(&self, limit: Option<usize>) -> Option<usize> {
        let stated = if limit.is_some() { self.max_limit } else { self.default_limit.or(self.max_limit) };
        [limit, stated].into_iter().flatten().min()
    }

    /// Whether a refusal with this text is one that the document announces.
    pub fn announce(&self, refusal: &str) -> bool {
        match refusal.split_once(':').map_or("", |(prefix, _)| prefix) {
            "auth-required" => self.auth_required || self.restricted_writes,
            "restricted" | "blocked" => self.restricted_writes || self.payment_required || self.auth_required,
            "pow" => self.min_pow_difficulty.is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limits() -> Limits {
        Limits::of(&json!({
            "software": "s", "version": "1",
            "limitation": { "max_limit": 100, "default_limit": 20, "max_event_tags": 3, "max_content_length": 0,
                "created_at_lower_limit": 1000, "max_message_length": 500, "auth_required": true },
        }))
    }

    #[test]
    fn a_limit_of_zero_or_of_another_type_is_none() {
        let odd = json!({ "limitation": { "max_limit": 0, "max_event_tags": "many", "payment_required": 1 } });
        assert_eq!(Limits::of(&odd), Limits::default());
        assert_eq!(Limits::of(&json!({})), Limits::default());
    }

    #[test]
    fn only_what_a_document_states_is_listed() {
        let expected =
            ["auth_required", "created_at_lower_limit 1000", "default_limit 20", "max_event_tags 3", "max_limit 100"];
        let mut stated = limits().stated();
        stated.sort_unstable();
        assert_eq!(stated[..5], expected);
        assert_eq!(stated[5..], ["max_message_length 500"]);
        assert_eq!(Limits::default().stated(), [""; 0]);
    }

    #[test]
    fn an_event_beyond_a_stated_limit_is_named_by_the_limit() {
        let fits = Measure { bytes: 490, tags: 3, content: 400, created_at: 9000 };
        let forbids = |event| limits().forbids(event, 10_000);
        assert_eq!(forbids(fits), None);
        assert_eq!(forbids(Measure { bytes: 491, ..fits }), Some("max_message_length"));
        assert_eq!(forbids(Measure { tags: 4, ..fits }), Some("max_event_tags"));
        assert_eq!(forbids(Measure { created_at: 8999, ..fits }), Some("created_at_lower_limit"));
        assert_eq!(Limits::default().forbids(Measure { bytes: usize::MAX >> 1, ..fits }, 0), None);
    }

    #[test]
    fn rows_are_bounded_by_the_filter_and_by_what_the_relay_states() {
        assert_eq!(limits().rows(None), Some(20));
        assert_eq!(limits().rows(Some(50)), Some(50));
        assert_eq!(limits().rows(Some(500)), Some(100));
        assert_eq!(Limits::default().rows(None), None);
    }

    #[test]
    fn only_a_refusal_that_the_document_announces_is_a_stated_limit() {
        assert!(limits().announce("auth-required: who are you"));
        assert!(!limits().announce("rate-limited: slow down"));
        assert!(!Limits::default().announce("auth-required: who are you"));
    }
}
