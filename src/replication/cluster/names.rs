//! The names that nodes agree on: streams, subjects and headers.
//!
//! | subject | what |
//! |---|---|
//! | `weir.<name>.ev.<kind>` | stored events of a kind, in the stream `weir-<name>` |
//! | `weir.<name>.eph.<kind>` | ephemeral events, in no stream |
//! | `weir.<name>.ask.<node>` | what nodes ask this one |
//! | `weir.<name>.act.<subject>` | the latest act of admins about a subject, in the stream `weir-<name>-acts` |

use sha2::{Digest as _, Sha256};

use crate::management::Subject;
use crate::nostr::{Kind, hex};

/// The header that names the node which published a message.
pub const NODE: &str = "Weir-Node";

/// The names of one cluster.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    /// The stream of events.
    pub events: String,
    /// The stream of acts.
    pub acts: String,
}

impl Names {
    /// Of the cluster `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { prefix: format!("weir.{name}"), events: format!("weir-{name}"), acts: format!("weir-{name}-acts") }
    }

    /// Where a stored event of this kind goes.
    #[must_use]
    pub fn event(&self, kind: Kind) -> String {
        format!("{}.ev.{}", self.prefix, kind.0)
    }

    /// Every stored event.
    #[must_use]
    pub fn all_events(&self) -> String {
        format!("{}.ev.*", self.prefix)
    }

    /// Where an ephemeral event of this kind goes.
    #[must_use]
    pub fn ephemeral(&self, kind: Kind) -> String {
        format!("{}.eph.{}", self.prefix, kind.0)
    }

    /// Every ephemeral event.
    #[must_use]
    pub fn all_ephemeral(&self) -> String {
        format!("{}.eph.*", self.prefix)
    }

    /// Where a node is asked.
    #[must_use]
    pub fn ask(&self, node: &str) -> String {
        format!("{}.ask.{node}", self.prefix)
    }

    /// Where acts about this subject go: a subject of NATS may not hold what one of ours may.
    #[must_use]
    pub fn act(&self, subject: &Subject) -> String {
        format!("{}.act.{}", self.prefix, hex::encode(&Sha256::digest(subject.to_string())[..16]))
    }

    /// Every act.
    #[must_use]
    pub fn all_acts(&self) -> String {
        format!("{}.act.*", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_an_event_ends_with_its_kind_and_that_of_an_act_is_one_token() {
        let names = Names::new("eu");
        assert_eq!(names.event(Kind(30_023)), "weir.eu.ev.30023");
        assert_eq!(names.ephemeral(Kind(20_001)), "weir.eu.eph.20001");
        let act = names.act(&Subject::Name);
        let token = act.strip_prefix("weir.eu.act.").expect("the prefix");
        assert!(token.len() == 32 && token.chars().all(|c| c.is_ascii_hexdigit()), "{token}");
        assert_ne!(act, names.act(&Subject::Icon));
    }
}
