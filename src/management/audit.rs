//! One line of the audit: who changed what, when, why, and what was before.
//!
//! Every line holds enough to apply it again and to undo it.

use serde::{Deserialize, Serialize};

use super::subject::Subject;

/// What was decided about a subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Refused from then on.
    Ban,
    /// Accepted, as far as the configuration's lists of what is accepted go; an event: looked at, and to be kept.
    Allow,
    /// A text of the relay's document was replaced.
    Set,
}

/// A decision in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// The reason; of [`Verdict::Set`], the new text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The number of the act that decided it.
    pub number: u64,
    /// When, in Unix seconds.
    pub at: u64,
    /// Who: an admin's key in hex, or `uid:` and the number of a local user.
    pub by: String,
}

/// What an act did to its subject.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The decision before, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Decision>,
    /// The decision after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Decision>,
}

/// One act.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Its number: one more than that of the act before.
    pub number: u64,
    /// When, in Unix seconds.
    pub at: u64,
    /// Who: the key of an admin or of a member in hex, or `uid:` and the number of a local user.
    pub by: String,
    /// The method of NIP-86, or another word such as `undo`, `purge` or `join`.
    pub method: String,
    /// What it is about.
    pub subject: Subject,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it changed; `None` for an act that changes no decision, such as a purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The number of the act that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// How many events are to be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// The id of the event that authorized it (NIP-98), or of the member's request (NIP-43).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
}
