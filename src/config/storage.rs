//! The `[storage]` section: where events are kept and how much room they may take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::{Retention, RetentionLimits, Rule};
use crate::store;

/// Where events are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The directory of the data file; made if it is absent.
    pub data: PathBuf,
    /// Bytes of address space for the data file: the most it can ever have. Nothing is allocated ahead.
    pub map_bytes: u64,
    /// Once events take this many bytes, only deletions and requests to vanish are stored; 0 is no limit but `map_bytes`.
    /// A little below, events of the last rules begin to go.
    pub max_bytes: u64,
    /// Bytes that must be free on the file system for the data file to grow.
    pub min_free_disk_bytes: u64,
    /// The most per cent of the store that a start or a reload may have removed without the operator's word.
    pub confirm_removal_percent: u8,
    /// Events of one author that stay; 0 is no limit.
    pub max_events_per_author: u64,
    /// Read transactions at a time, over all processes that have the store open.
    pub max_readers: u32,
    /// What a commit promises.
    pub durability: Durability,
    /// What is kept, most valuable first.
    pub retention: Vec<Rule>,
    /// How long what no rule selects is kept.
    pub default_keep: DefaultKeep,
}

/// How long what no rule selects is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultKeep {
    /// It is never removed.
    Forever,
    /// As long as there is room: it goes before what rules select.
    Room,
}

/// What an `OK true` promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event survives a power cut.
    Full,
    /// A power cut undoes what came since the last background sync began, which is once a second; it never damages the
    /// store.
    Relaxed,
}

impl Default for Storage {
    fn default() -> Self {
        let options = store::Options::default();
        Self {
            data: "weir-data".into(),
            map_bytes: options.map_bytes as u64,
            max_bytes: 0,
            min_free_disk_bytes: 256 << 20,
            confirm_removal_percent: 10,
            max_events_per_author: 0,
            max_readers: options.max_readers,
            durability: Durability::Full,
            retention: Vec::new(),
            default_keep: DefaultKeep::Forever,
        }
    }
}

impl Storage {
    /// What is kept and how much of it. What no rule selects has a last rule, if it is not kept for ever.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let limits = RetentionLimits {
            max_bytes: self.max_bytes,
            max_events_per_author: self.max_events_per_author,
            min_free_disk_bytes: self.min_free_disk_bytes,
            confirm_removal_percent: self.confirm_removal_percent,
        };
        let mut rules = self.retention.clone();
        let last = Rule::default();
        let is_covered = || last.selector.covered_by(rules.iter().map(|rule| &rule.selector)).is_some();
        if self.default_keep == DefaultKeep::Room && !is_covered() {
            rules.push(last);
        }
        Retention::new(rules, limits)
    }

    /// Takes over from `new` what holds without a restart.
    pub(super) fn take_live(&mut self, new: Self) {
        let Self { max_bytes, min_free_disk_bytes, confirm_removal_percent, default_keep, .. } = new;
        self.default_keep = default_keep;
        let (max_events_per_author, retention) = (new.max_events_per_author, new.retention);
        (self.max_bytes, self.min_free_disk_bytes) = (max_bytes, min_free_disk_bytes);
        self.confirm_removal_percent = confirm_removal_percent;
        (self.max_events_per_author, self.retention) = (max_events_per_author, retention);
    }

    /// How the store is opened.
    #[must_use]
    pub fn options(&self) -> store::Options {
        store::Options {
            map_bytes: usize::try_from(self.map_bytes).unwrap_or(usize::MAX),
            full_bytes: (self.max_bytes > 0).then_some(self.max_bytes),
            max_readers: self.max_readers,
            durability: match self.durability {
                Durability::Full => store::Durability::Full,
                Durability::Relaxed => store::Durability::NoMetaSync,
            },
        }
    }
}

/// A retention rule on one line, as the file has it.
#[must_use]
pub fn rule_text(rule: &Rule) -> String {
    // A rule that was read can be written.
    let text = toml::to_string(rule).unwrap_or_default();
    let text = text.lines().collect::<Vec<_>>().join(", ");
    if text.is_empty() { "everything else, as long as there is room".into() } else { text }
}
