//! The operator's choices about management.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::KeySet;

/// The `[management]` section.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The keys that may manage the relay over HTTP (NIP-86); empty for nobody.
    pub admins: KeySet,
    /// The directory of the decisions and their audit; empty for `management` in the directory of the store.
    pub state: PathBuf,
}

impl Options {
    /// The directory of the decisions, given that of the store.
    #[must_use]
    pub fn directory(&self, data: &Path) -> PathBuf {
        if self.state.as_os_str().is_empty() { data.join("management") } else { self.state.clone() }
    }
}
