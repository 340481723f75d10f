//! The `[policy]` section: rules about events beyond the lists of `[access]`.
//!
//! Holds what the operator chose; `write` decides by it.

use serde::{Deserialize, Serialize};

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
            newcomers: NewcomerOptions::default(),
            offenders: OffenderOptions::default(),
        }
    }
}
