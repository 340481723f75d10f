//! The operator's rules about what events hold: sizes by kind, and words and patterns in their content.
//!
//! Patterns are compiled once, when the configuration is read, by an engine that takes linear time. Their compiled size
//! is bounded, so no content makes one of them slow beyond that.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::sets::KindSet;
use crate::metrics::PolicyRule;
use crate::nostr::{EventView, Kind, Prefix};

/// Bytes of one compiled pattern. A search takes at most this, times the length of the content.
const PATTERN_BYTES: usize = 256 << 10;

/// Bytes of the compiled words of one rule. Words only branch, so this does not multiply what a search takes.
const WORDS_BYTES: usize = 4 << 20;

/// Limits for some kinds, besides those for all events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindLimits {
    /// Which kinds.
    pub kinds: KindSet,
    /// Bytes of an event as it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_event_bytes: Option<usize>,
    /// Tags of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_event_tags: Option<usize>,
    /// Unicode characters of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_content_length: Option<usize>,
}

impl KindLimits {
    /// Whether the event keeps these limits.
    ///
    /// # Errors
    /// With the limit that it exceeds.
    pub fn check(&self, event: EventView<'_>) -> Result<(), Refusal> {
        let kind = event.kind();
        if !self.kinds.contains(kind) {
            return Ok(());
        }
        if let Some(limit) = self.max_event_bytes.filter(|limit| event.record().len() > *limit) {
            return Err(too_large(event.record().len(), limit, Some(kind)));
        }
        if let Some(limit) = self.max_event_tags {
            check_tags(event, limit, Some(kind))?;
        }
        self.max_content_length.map_or(Ok(()), |limit| check_content_length(event, limit, Some(kind)))
    }
}

/// The end of a refusal: the limit, and the kind that it is for if it is not for all.
fn limit_is(limit: usize, kind: Option<Kind>) -> String {
    kind.map_or_else(|| format!("the limit is {limit}"), |kind| format!("the limit for kind {kind} is {limit}"))
}

/// The refusal of an event of this many bytes.
pub(super) fn too_large(bytes: usize, limit: usize, kind: Option<Kind>) -> Refusal {
    let text = format!("the event is too large: {bytes} bytes, {}", limit_is(limit, kind));
    Refusal::new(PolicyRule::Size, Prefix::Invalid, text)
}

/// Refuses an event of more bytes.
pub(super) fn check_size(event: EventView<'_>, limit: usize) -> Result<(), Refusal> {
    let bytes = event.record().len();
    if bytes > limit { Err(too_large(bytes, limit, None)) } else { Ok(()) }
}

/// Refuses an event with more tags.
pub(super) fn check_tags(event: EventView<'_>, limit: usize, kind: Option<Kind>) -> Result<(), Refusal> {
    // A tag takes at least two bytes, so small records need no counting.
    if (event.record().len() - event.content().len()) / 2 <= limit {
        return Ok(());
    }
    let tags = event.tags().count();
    if tags <= limit {
        return Ok(());
    }
    let text = format!("too many tags: {tags}, {}", limit_is(limit, kind));
    Err(Refusal::new(PolicyRule::Tags, Prefix::Invalid, text))
}

/// Refuses an event with more characters of content.
pub(super) fn check_content_length(event: EventView<'_>, limit: usize, kind: Option<Kind>) -> Result<(), Refusal> {
    let content = event.content();
    if content.len() <= limit {
        return Ok(());
    }
    // Every character has one byte that is not a continuation (RFC 3629).
    let characters = content.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    if characters <= limit {
        return Ok(());
    }
    let text = format!("content is too long: {characters} characters, {}", limit_is(limit, kind));
    Err(Refusal::new(PolicyRule::Size, Prefix::Invalid, text))
}

/// Words and patterns that are not accepted in the content of some kinds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentRule {
    /// Which kinds; `None` for every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<KindSet>,
    /// Words, in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Regular expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// What becomes of an event with one of them.
    #[serde(default)]
    pub action: Action,
    /// One for all words, and one for each pattern.
    #[serde(skip)]
    compiled: Vec<Regex>,
}

/// What becomes of an event with such content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is refused.
    #[default]
    Refuse,
    /// It is dropped, and its client told that it was accepted.
    Mute,
}

impl ContentRule {
    /// What becomes of the event, if its content is not accepted.
    #[must_use]
    pub fn judge(&self, event: EventView<'_>) -> Option<Action> {
        let is_meant = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(event.kind()));
        let content = event.content();
        (is_meant && self.compiled.iter().any(|regex| regex.is_match(content))).then_some(self.action)
    }

    /// How often it goes through the content.
    #[must_use]
    pub const fn searches(&self) -> usize {
        self.compiled.len()
    }
}

impl ContentRule {
    /// Compiles the words and patterns; without that it finds nothing. Returns its mistakes: the key, and how to fix
    /// it.
    #[must_use]
    pub fn compile(&mut self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        self.compiled.clear();
        if self.words.is_empty() && self.patterns.is_empty() {
            faults.push(("", "the rule has neither words nor patterns, so it matches nothing".into()));
        }
        match compile_words(&self.words) {
            Ok(words) => self.compiled.extend(words),
            Err(fault) => faults.push(("words", fault)),
        }
        for pattern in &self.patterns {
            match compile_pattern(pattern) {
                Ok(regex) => self.compiled.push(regex),
                Err(fault) => faults.push(("patterns", fault)),
            }
        }
        faults
    }

    fn written(&self) -> (&Option<KindSet>, &[String], &[String], Action) {
        (&self.kinds, &self.words, &self.patterns, self.action)
    }
}

impl PartialEq for ContentRule {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for ContentRule {}

impl fmt::Debug for ContentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written().fmt(f)
    }
}

fn compile_words(words: &[String]) -> Result<Option<Regex>, String> {
    if words.iter().any(|word| word.trim().is_empty()) {
        return Err("an empty word matches every content".into());
    }
    if words.is_empty() {
        return Ok(None);
    }
    let words: Vec<String> = words.iter().map(|word| whole_word(word.trim())).collect();
    let compiled = RegexBuilder::new(&words.join("|")).case_insensitive(true).size_limit(WORDS_BYTES).build();
    compiled.map(Some).map_err(|_| format!("compiled, they take more than {WORDS_BYTES} bytes; split this rule in two"))
}

fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build();
    let regex = compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("compiled, `{pattern}` takes more than {PATTERN_BYTES} bytes"),
        other => {
            // The last line says what is wrong; those before draw the place.
            let told = other.to_string();
            format!("`{pattern}` is not a valid pattern: {}", told.lines().next_back().unwrap_or_default())
        }
    })?;
    if regex.is_match(b"") {
        return Err(format!("`{pattern}` matches every content"));
    }
    Ok(regex)
}

/// A word that is no part of a longer one. At an end without a letter or digit, anything may follow.
fn whole_word(word: &str) -> String {
    let edge = |c: Option<char>| if c.is_some_and(char::is_alphanumeric) { r"\b" } else { "" };
    format!("{}{}{}", edge(word.chars().next()), regex::escape(word), edge(word.chars().next_back()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;

    fn rule(json: &serde_json::Value) -> Result<ContentRule, String> {
        let mut rule: ContentRule = serde_json::from_value(json.clone()).map_err(|error| error.to_string())?;
        let faults = rule.compile();
        if faults.is_empty() { Ok(rule) } else { Err(format!("{faults:?}")) }
    }

    fn judged(json: serde_json::Value, kind: u16, content: &str) -> Option<Action> {
        let content = serde_json::to_string(content).expect("JSON");
        rule(&json).expect("a rule").judge(event(kind, "[]", &content).view())
    }

    #[test]
    fn words_are_found_in_any_case_and_not_within_longer_ones() {
        let words = || serde_json::json!({"words": ["spam", "Größe", "https://bad.example"]});
        for found in ["SPAM", "more spam!", "GRÖSSE größe", "see https://bad.example/x", "(HTTPS://BAD.example)"] {
            assert_eq!(judged(words(), 1, found), Some(Action::Refuse), "{found}");
        }
        for fine in ["spammer", "antispam", "", "https://bad example", "xhttps://bad.example"] {
            assert_eq!(judged(words(), 1, fine), None, "{fine}");
        }
    }

    #[test]
    fn a_rule_is_about_its_kinds_and_says_what_becomes_of_the_event() {
        let rule = || serde_json::json!({"kinds": [1], "patterns": ["free\\s+sats", "^x"], "action": "mute"});
        assert_eq!(judged(rule(), 1, "get free \n sats"), Some(Action::Mute));
        assert_eq!([judged(rule(), 7, "xx"), judged(rule(), 1, "ax")], [None, None]);
    }

    #[test]
    fn patterns_that_are_wrong_too_large_or_in_every_content_are_refused() {
        for (json, told) in [
            (serde_json::json!({"patterns": ["a("]}), "`a(` is not a valid pattern: error: unclosed group"),
            (serde_json::json!({"patterns": ["(a{1,1000}){1,1000}"]}), "takes more than 262144 bytes"),
            (serde_json::json!({"patterns": ["\\w{10000}"]}), "takes more than 262144 bytes"),
            (serde_json::json!({"patterns": ["a*"]}), "`a*` matches every content"),
            (serde_json::json!({"words": [" "]}), "an empty word"),
            (serde_json::json!({"kinds": [1]}), "neither words nor patterns"),
            (serde_json::json!({"pattern": ["x"]}), "unknown field `pattern`"),
        ] {
            let said = rule(&json).expect_err("a fault");
            assert!(said.contains(told), "{said}");
        }
    }

    /// The classic that makes backtracking engines hang, and many words that begin alike.
    #[test]
    fn hostile_content_is_searched_to_its_end() {
        let nested = serde_json::json!({"patterns": ["(a+)+$b", "(x|xx|xxx)+y"]});
        assert_eq!(judged(nested, 1, &"a".repeat(200_000)), None);
        let words: Vec<String> = (0..2_000).map(|number| format!("aaaaaaaa{number}")).collect();
        assert_eq!(judged(serde_json::json!({"words": words}), 1, &"aaaaaaaa ".repeat(20_000)), None);
    }

    #[test]
    fn limits_by_kind_say_which_kind_they_are_for() {
        let limits: KindLimits =
            serde_json::from_str(r#"{"kinds":[0],"max_event_bytes":400,"max_event_tags":2,"max_content_length":3}"#)
                .expect("limits");
        let said = |kind, tags: &str, content: &str| {
            let content = serde_json::to_string(content).expect("JSON");
            limits.check(event(kind, tags, &content).view()).map_err(|refusal| refusal.reason.to_string())
        };
        assert_eq!([said(0, "[]", "ééé"), said(1, "[]", "éééé")], [Ok(()), Ok(())]);
        let told = |text: &str| Err(text.to_owned());
        assert_eq!(
            said(0, "[]", "éééé"),
            told("invalid: content is too long: 4 characters, the limit for kind 0 is 3")
        );
        let three = r#"[["t","a"],["t","b"],["t","c"]]"#;
        assert_eq!(said(0, three, ""), told("invalid: too many tags: 3, the limit for kind 0 is 2"));
        assert!(said(0, "[]", &"x".repeat(500)).is_err_and(|text| text.ends_with("the limit for kind 0 is 400")));
    }
}
