//! The `[storage]` section: where events are stored and how much space they may take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::{Origin, Retention, RetentionLimits, Rule};
use crate::store;

/// Where events are stored, and how much space they may take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The directory of the data file; created if missing.
    pub data: PathBuf,
    /// Bytes of address space reserved for the data file: its maximum size. Nothing is allocated in advance.
    pub map_bytes: u64,
    /// Once events take this many bytes, only deletions and vanish requests are accepted; 0 means no limit below
    /// `map_bytes`. Shortly before that, retention rules begin to evict events.
    pub max_bytes: u64,
    /// Where the operator set it, for messages.
    #[serde(skip)]
    pub max_bytes_origin: Origin,
    /// Bytes that must be free on the file system before the data file may grow.
    pub min_free_disk_bytes: u64,
    /// The largest share of the store, in per cent, that a start or reload may remove without confirmation.
    pub confirm_removal_percent: u8,
    /// Events kept per author; 0 means no limit.
    pub max_events_per_author: u64,
    /// Bytes kept per author, counted as for `max_bytes`; 0 means no limit.
    pub max_bytes_per_author: u64,
    /// Concurrent read transactions, over all processes that have the store open.
    pub max_readers: u32,
    /// Bytes of memory for the times of authors' newest events, by which the relay answers feeds; 0 turns it off.
    pub newest_times_bytes: u64,
    /// What an OK guarantees.
    pub durability: Durability,
    /// The retention rules, most valuable events first.
    pub retention: Vec<Rule>,
    /// How long events that no rule selects are kept.
    pub default_keep: DefaultKeep,
}

/// How long events that no rule selects are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultKeep {
    /// They are never removed.
    Forever,
    /// As long as there is room: they are evicted before events that a rule selects.
    Room,
}

/// What an `OK true` guarantees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event survives a power failure.
    Full,
    /// A power failure may lose the events since the last background sync began, about one second's worth; it never
    /// damages the store.
    Relaxed,
}

impl Default for Storage {
    fn default() -> Self {
        let options = store::Options::default();
        Self {
            data: "weir-data".into(),
            map_bytes: options.map_bytes as u64,
            max_bytes: 0,
            max_bytes_origin: Origin::default(),
            min_free_disk_bytes: 256 << 20,
            confirm_removal_percent: 10,
            max_events_per_author: 0,
            max_bytes_per_author: 0,
            max_readers: options.max_readers,
            newest_times_bytes: 16 << 20,
            durability: Durability::Full,
            retention: Vec::new(),
            default_keep: DefaultKeep::Forever,
        }
    }
}

impl Storage {
    /// The retention rules and limits. Unless they are kept forever, events that no rule selects get a last rule.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let limits = RetentionLimits {
            max_bytes: self.max_bytes,
            max_events_per_author: self.max_events_per_author,
            max_bytes_per_author: self.max_bytes_per_author,
            min_free_disk_bytes: self.min_free_disk_bytes,
            confirm_removal_percent: self.confirm_removal_percent,
        };
        let mut rules = self.retention.clone();
        let last = Rule::default();
        let is_covered = || last.selector.covered_by(rules.iter().map(|rule| &rule.selector)).is_some();
        if self.default_keep == DefaultKeep::Room && !is_covered() {
            rules.push(last);
        }
        Retention::new(rules, limits).with_max_bytes_origin(self.max_bytes_origin.clone())
    }

    /// Takes the values of `new` that apply without a restart.
    pub(super) fn take_live(&mut self, new: Self) {
        // What the store was opened with stays.
        let Self { data, map_bytes, max_readers, newest_times_bytes, durability, .. } = std::mem::take(self);
        *self = Self { data, map_bytes, max_readers, newest_times_bytes, durability, ..new };
    }

    /// The options for opening the store in a process that answers queries for long.
    #[must_use]
    pub fn serving_options(&self) -> store::Options {
        let newest_times_bytes = usize::try_from(self.newest_times_bytes).unwrap_or(usize::MAX);
        store::Options { newest_times_bytes, ..self.options() }
    }

    /// The options for opening the store in a command.
    #[must_use]
    pub fn options(&self) -> store::Options {
        store::Options {
            map_bytes: usize::try_from(self.map_bytes).unwrap_or(usize::MAX),
            full_bytes: (self.max_bytes > 0).then_some(self.max_bytes),
            min_free_disk_bytes: self.min_free_disk_bytes,
            max_readers: self.max_readers,
            durability: match self.durability {
                Durability::Full => store::Durability::Full,
                Durability::Relaxed => store::Durability::NoMetaSync,
            },
            newest_times_bytes: 0,
        }
    }
}

/// A retention rule on one line, in the notation of the file.
#[must_use]
pub fn rule_text(rule: &Rule) -> String {
    // Every rule that was read can be written.
    let text = toml::to_string(rule).unwrap_or_default();
    let text = text.lines().collect::<Vec<_>>().join(", ");
    if text.is_empty() { "everything else, as long as there is room".into() } else { text }
}
