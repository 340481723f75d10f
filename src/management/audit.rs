//! One line of the audit: who changed what, when, why, and what was before.
//!
//! Every line holds enough to apply it again and to undo it.

use serde::{Deserialize, Serialize};

use super::request::{MAX_REASON, MAX_TEXT};
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
    /// Where it was done, if that was another node of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Where an act was done.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The node.
    pub node: String,
    /// The number of the act there.
    pub number: u64,
}

impl AuditEntry {
    /// Whether it is within the bounds of acts that are done here: one from another node may be anything.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn check(&self) -> Result<(), &'static str> {
        let after = self.change.as_ref().ok_or("it changes no decision")?.after.as_ref();
        let is_short = |text: &str, most: usize| text.len() <= most;
        if !is_short(&self.by, MAX_NAME) || !is_short(&self.method, MAX_NAME) {
            return Err("a name is too long");
        }
        if !self.auth.as_deref().is_none_or(|auth| is_short(auth, MAX_NAME)) {
            return Err("the id of its authorization is too long");
        }
        if !is_short(&self.reason, MAX_REASON) || !after.is_none_or(|after| is_short(&after.text, MAX_TEXT)) {
            return Err("a text is too long");
        }
        Ok(())
    }
}

/// Bytes of the names in an act: of who did it, and of the method.
const MAX_NAME: usize = 128;
