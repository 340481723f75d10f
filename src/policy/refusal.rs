//! Why policy refuses an event: the rule, which the relay counts, and the reason, which the client is told.
//!
//! What several places refuse alike is worded here, once. Nothing here decides.

use std::borrow::Cow;

use crate::metrics::PolicyRule;
use crate::nostr::{Kind, Prefix, Reason};

/// Why an event is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The rule that it breaks.
    pub rule: PolicyRule,
    /// What its client is told.
    pub reason: Reason,
}

impl Refusal {
    /// A refusal by `rule` with this prefix and text.
    pub fn new(rule: PolicyRule, prefix: Prefix, text: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, reason: Reason::new(prefix, text) }
    }

    /// An author whom the operator does not want.
    #[must_use]
    pub fn author() -> Self {
        Self::new(PolicyRule::Author, Prefix::Blocked, "the author is not welcome here")
    }

    /// An author who is not among those that the operator wants.
    #[must_use]
    pub fn stranger() -> Self {
        Self::new(PolicyRule::Member, Prefix::Blocked, "the author is not on this relay's list")
    }

    /// An author who is no member (NIP-43).
    #[must_use]
    pub fn not_a_member() -> Self {
        Self::new(PolicyRule::Member, Prefix::Restricted, "only members may publish here; join with an invite")
    }

    /// An event that an admin banned.
    #[must_use]
    pub fn event() -> Self {
        Self::new(PolicyRule::Event, Prefix::Blocked, "this event is not welcome here")
    }

    /// An author who is not in the web of trust.
    #[must_use]
    pub fn untrusted() -> Self {
        Self::new(PolicyRule::Trust, Prefix::Blocked, "the author is not in this relay's web of trust")
    }

    /// A kind that the operator does not want.
    #[must_use]
    pub fn kind(kind: Kind) -> Self {
        Self::new(PolicyRule::Kind, Prefix::Blocked, format!("kind {kind} is not accepted here"))
    }

    /// Content that the operator does not want. It is not told what was found: that would teach how to write it.
    #[must_use]
    pub fn content() -> Self {
        Self::new(PolicyRule::Content, Prefix::Blocked, "the content is not welcome here")
    }

    /// A kind that is not meant for the public.
    #[must_use]
    pub fn private_kind(kind: Kind) -> Self {
        let text = match kind {
            Kind::SEAL => "kind 13 is a seal, which is sent inside a gift wrap and never published".into(),
            _ => format!("kind {kind} is for authentication and must not be published"),
        };
        Self::new(PolicyRule::PrivateKind, Prefix::Invalid, text)
    }
}
