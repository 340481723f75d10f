//! What a relay means by the words with which it refuses.
//!
//! NIP-77 has no codes, and relays differ in wording and in the message that carries it. Pure.

/// What to do about a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The query matches too many events: ask for a smaller range.
    TooMany,
    /// We ask too fast: wait and ask again.
    TooFast,
    /// A key must be proven (NIP-42).
    AuthRequired,
    /// The session was given up, for example because it was idle: open it again.
    Dropped,
    /// No.
    Other,
}

/// The wordings of a query that is too big, of strfry, weir, other relays and drafts of NIP-77.
const TOO_MANY: [&str; 12] = [
    "too many records",
    "too many query results",
    "too many results",
    "too many events",
    "too many matching",
    "too many elements",
    "too many items",
    "query is too big",
    "query too big",
    "results_too_big",
    "result set too large",
    "too large",
];

impl Refusal {
    /// Reads the reason of a CLOSED, NEG-ERR, OK or NOTICE.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        let text = reason.to_ascii_lowercase();
        // strfry puts a word in front of the prefix.
        let text = text.trim_start_matches("error: ");
        let begins = |prefix: &str| text.starts_with(prefix);
        if begins("auth-required") {
            Self::AuthRequired
        } else if begins("rate-limited") {
            Self::TooFast
        } else if TOO_MANY.iter().any(|words| text.contains(words)) {
            Self::TooMany
        } else if begins("closed") {
            Self::Dropped
        } else if ["too many concurrent", "too many subscriptions", "slow down", "too fast"]
            .iter()
            .any(|words| text.contains(words))
        {
            Self::TooFast
        } else {
            Self::Other
        }
    }
}

/// Whether a NOTICE refuses the message that was sent before it. Others greet, advertise or warn.
#[must_use]
pub fn refuses(notice: &str) -> bool {
    let text = notice.to_ascii_lowercase();
    let words = [
        "neg-",
        "negentropy",
        "error",
        "invalid",
        "unknown",
        "unsupported",
        "not supported",
        "unrecognized",
        "bad msg",
        "bad message",
        "could not parse",
        "malformed",
        "unhandled",
        "blocked",
        "restricted",
        "auth-required",
        "disabled",
    ];
    words.iter().any(|word| text.contains(word)) || Refusal::of(notice) != Refusal::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wordings_in_use_are_understood() {
        let cases = [
            ("blocked: too many query results", Refusal::TooMany),
            ("ERROR: blocked: too many query results", Refusal::TooMany),
            ("blocked: too many records (1000001, at most 1000000)", Refusal::TooMany),
            ("blocked: this query is too big", Refusal::TooMany),
            ("RESULTS_TOO_BIG", Refusal::TooMany),
            ("error: result set too large", Refusal::TooMany),
            ("rate-limited: too many events", Refusal::TooFast),
            ("ERROR: too many concurrent REQs", Refusal::TooFast),
            ("auth-required: prove who you are", Refusal::AuthRequired),
            ("ERROR: auth-required: prove who you are", Refusal::AuthRequired),
            ("closed: you took too long to respond!", Refusal::Dropped),
            ("CLOSED", Refusal::Dropped),
            ("", Refusal::Other),
            ("blocked: not here", Refusal::Other),
        ];
        for (text, meant) in cases {
            assert_eq!(Refusal::of(text), meant, "{text}");
        }
    }

    #[test]
    fn a_notice_that_refuses_is_told_from_a_greeting() {
        for text in ["ERROR: bad msg: negentropy disabled", "unknown message type NEG-OPEN", "Could not parse command"]
        {
            assert!(refuses(text), "{text}");
        }
        for text in ["welcome to this relay", "we are moving house on Sunday"] {
            assert!(!refuses(text), "{text}");
        }
    }
}
