//! The `[policy]` section: rules about events beyond the lists of `[access]`.
//!
//! Holds what the operator chose; `write` decides by it.

use serde::{Deserialize, Serialize};

use super::key_set::KeySet;
use super::newcomers::NewcomerOptions;
use super::offenders::OffenderOptions;
use super::plugin::Source;
use super::rules::{ContentRule, KindLimits};
use super::sets::KindSet;

/// Rules about events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyOptions {
    /// Which events the lists of `[access]` and the rules of this section are about. Imports are the operator's own
    /// files.
    pub sources: Vec<Source>,
    /// Kinds that are not meant for the public and are refused from anyone, in imports too: seals (NIP-59), AUTH
    /// (NIP-42), and the tokens of Blossom and NIP-98. Kind 22242 is refused even if it is not listed.
    pub private_kinds: KindSet,
    /// Sizes of events of some kinds; each that is about an event's kind holds.
    pub kind_limits: Vec<KindLimits>,
    /// Content that is not accepted; the first rule that finds something decides.
    pub content: Vec<ContentRule>,
    /// Whose events are accepted because the operator's keys follow them, or those who do.
    pub trust: TrustOptions,
    /// Stricter rates for new keys.
    pub newcomers: NewcomerOptions,
    /// Who is refused over and over.
    pub offenders: OffenderOptions,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            sources: vec![Source::Ws, Source::Sync],
            private_kinds: KindSet::of(&[13, 22242, 24242, 27235]),
            kind_limits: Vec::new(),
            content: Vec::new(),
            trust: TrustOptions::default(),
            newcomers: NewcomerOptions::default(),
            offenders: OffenderOptions::default(),
        }
    }
}

/// The web of trust.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustOptions {
    /// The keys that it begins with; empty for no web.
    pub roots: KeySet,
    /// How many hops away from them a key may be, by follow lists (kind 3).
    pub within: u8,
    /// The most keys that are held; the farthest are left out.
    pub max_keys: usize,
}

impl TrustOptions {
    /// The most hops. Four reach nearly everybody.
    pub const MAX_WITHIN: u8 = 4;

    /// The most keys that can be held, about 130 bytes each while the web is made.
    pub const MAX_KEYS: usize = 10_000_000;
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self { roots: KeySet::default(), within: 2, max_keys: 1_000_000 }
    }
}
