//! The `[storage]` section: where events are kept and how much room they may take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::store;

/// Where events are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The directory of the data file; made if it is absent.
    pub data: PathBuf,
    /// Bytes of address space for the data file: the most it can ever have. Nothing is allocated ahead.
    pub map_bytes: u64,
    /// Bytes in use from which on only deletions and requests to vanish are stored; 0 is no limit but `map_bytes`.
    pub max_bytes: u64,
    /// Read transactions at a time, over all processes that have the store open.
    pub max_readers: u32,
    /// What a commit promises.
    pub durability: Durability,
}

/// What an `OK true` promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The event survives a power cut.
    Full,
    /// A power cut may undo the last commits, but never damages the store.
    Relaxed,
}

impl Default for Storage {
    fn default() -> Self {
        let options = store::Options::default();
        Self {
            data: "weir-data".into(),
            map_bytes: options.map_bytes as u64,
            max_bytes: 0,
            max_readers: options.max_readers,
            durability: Durability::Full,
        }
    }
}

impl Storage {
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
