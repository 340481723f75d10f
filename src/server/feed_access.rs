//! Who may read the feed of changes, and how many answers there are at a time.
//!
//! It neither reads requests nor the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pipeline::query::changes::MOST_ANSWERS;

/// The `[changes]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether the address of the metrics serves the feed, to whoever reaches it.
    pub on_metrics_address: bool,
    /// The file with the token that the clients' address asks for; it serves the feed only with one.
    pub token_file: TokenFile,
}

/// A file with a token, written as its path; an empty path is no file. The token is read separately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TokenFile {
    /// Its path, as written; empty if there is no file.
    pub path: String,
    /// What the token that it held hashes to.
    pub token: Option<TokenHash>,
    /// Whether others than its owner may read it.
    pub is_open_to_others: bool,
}

impl From<String> for TokenFile {
    fn from(path: String) -> Self {
        Self { path, ..Self::default() }
    }
}

impl From<TokenFile> for String {
    fn from(file: TokenFile) -> Self {
        file.path
    }
}

/// The SHA-256 of a token: how long a comparison takes tells nothing about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// The places for answers, which all io threads share.
pub struct Feed {
    options: Options,
    answers: Arc<AtomicUsize>,
}

/// The place of an answer, free again when it is dropped.
pub struct AnswerSlot(Arc<AtomicUsize>);

impl Drop for AnswerSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AnswerSlot {
    /// The bytes of an answer, which keep its place until they have left.
    pub fn body(self, text: Vec<u8>) -> Bytes {
        Bytes::from_owner(Body { text, _place: self })
    }
}

/// See [`AnswerSlot::body`].
struct Body {
    text: Vec<u8>,
    _place: AnswerSlot,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Feed {
    /// No answers yet.
    pub fn new(options: Options) -> Self {
        Self { options, answers: Arc::default() }
    }

    /// Whether the address of the metrics serves it.
    pub const fn is_on_metrics_address(&self) -> bool {
        self.options.on_metrics_address
    }

    /// Whether the clients' address serves it, to whoever knows the token.
    pub const fn is_public(&self) -> bool {
        self.options.token_file.token.is_some()
    }

    /// Whether a request names the token.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")).map(|(_, token)| token.trim());
        token.is_some_and(|token| Some(TokenHash::of(token)) == self.options.token_file.token)
    }

    /// Takes a place, if there is one.
    pub fn enter(&self) -> Option<AnswerSlot> {
        let enter = |answers| (answers < MOST_ANSWERS).then_some(answers + 1);
        let entered = self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        entered.then(|| AnswerSlot(Arc::clone(&self.answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_the_feed() {
        let token_file = TokenFile { token: Some(TokenHash::of("a token of some length")), ..TokenFile::default() };
        let feed = Feed::new(Options { token_file, ..Options::default() });
        let admits = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, hyper::header::HeaderValue::from_static(value));
            }
            feed.admits(&headers)
        };
        assert!(admits(&["Bearer a token of some length"]) && admits(&["bearer  a token of some length "]));
        for values in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["a token of some length"],
            &["Basic a token of some length"],
            &["Bearer a token of some lengt"],
            &["Bearer a token of some length", "Bearer a token of some length"],
        ] {
            assert!(!admits(values), "{values:?}");
        }
        assert!(feed.is_public() && !feed.is_on_metrics_address());
        assert!(!Feed::new(Options::default()).is_public());
    }

    #[test]
    fn there_are_places_for_few_answers_and_each_is_kept_until_its_bytes_have_left() {
        let feed = Feed::new(Options::default());
        let mut places: Vec<_> = (0..MOST_ANSWERS).map(|_| feed.enter().expect("a place")).collect();
        assert!(feed.enter().is_none());
        let body = places.pop().expect("a place").body(b"a line\n".to_vec());
        let part = body.slice(2..);
        drop(body);
        assert!(feed.enter().is_none());
        drop(part);
        assert!(feed.enter().is_some());
    }
}
