//! What the operator wrote: a file read into the options of the modules it configures.
//!
//! The only user of toml. Every key has a default, so no file at all is a valid configuration. Nothing below
//! `cli` sees this module: each module gets its own options by value.

mod error;
mod key_file;
mod log;
mod memory;
mod metrics;
mod nearest;
mod parse;
mod reload;
mod storage;
#[cfg(test)]
mod tests;
mod units;
mod validate;
mod warn;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ledger;
use crate::pipeline;
use crate::policy::{Access, Auth, Info, Limits, RateOptions, Settings, Tiers};
use crate::schnorr;
use crate::server;

pub use error::{ConfigError, Problem};
pub use log::{Log, LogFormat};
pub use memory::memory_ceiling;
pub use metrics::Metrics;
pub use reload::Changes;
pub use storage::{DefaultKeep, Durability, Storage, rule_text};

/// A whole configuration: one field for each section of the file.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sockets and connections.
    pub server: server::Options,
    /// Where events are kept.
    pub storage: Storage,
    /// Limits for everybody.
    pub limits: Limits,
    /// Limits by who asks.
    pub tiers: Tiers,
    /// Limits by network address.
    pub rates: RateOptions,
    /// What needs a proven key (NIP-42).
    pub auth: Auth,
    /// Who and what is let in.
    pub access: Access,
    /// What NIP-11 says about the relay.
    pub info: Info,
    /// Threads, and how long a query may run at a time.
    pub pipeline: pipeline::Options,
    /// How signatures are checked.
    pub verify: schnorr::Options,
    /// Negentropy sync (NIP-77).
    pub negentropy: pipeline::query::reconcile::Options,
    /// What clients may make the relay hold.
    pub memory: ledger::Options,
    /// Bounds of the queues between the threads.
    pub queues: pipeline::Bounds,
    /// Where operators watch.
    pub metrics: Metrics,
    /// What is logged.
    pub log: Log,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, and with everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(ConfigError::Unreadable { file: name, error }),
        }
    }

    /// Reads a text; `file` is its name in errors, and the files of keys that it names are beside it. Keys that it does not
    /// have keep their defaults.
    ///
    /// # Errors
    /// With everything that is wrong in it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let problems = match parse::read(text) {
            Ok(mut read) => {
                let directory = Path::new(file).parent().unwrap_or(Path::new(""));
                let mut faults = key_file::read_all(&mut read.config.storage.retention, directory);
                if faults.is_empty() {
                    faults = validate::check(&read.config);
                }
                if faults.is_empty() {
                    return Ok(read.config);
                }
                faults.into_iter().map(|fault| read.problem(text, fault)).collect()
            }
            Err(problems) => problems,
        };
        Err(ConfigError::Wrong { file: file.into(), problems })
    }

    /// Checks a configuration that was put together from a file and the command line.
    ///
    /// # Errors
    /// With every value that is out of range or at odds with another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems: Vec<_> = validate::check(self).into_iter().map(Problem::from).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Wrong { file: "configuration".into(), problems })
    }

    /// What is allowed and yet seldom meant, each a sentence that begins with the key.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        warn::warnings(self)
    }

    /// The same configuration as the text of a file, every key included.
    ///
    /// # Panics
    /// Never: every section is made of numbers, texts, lists and tables.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every section is made of what TOML has")
    }

    /// What policy decides by: the part that is reloaded.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            limits: self.limits.clone(),
            tiers: self.tiers.clone(),
            rates: self.rates.clone(),
            auth: self.auth.clone(),
            access: self.access.clone(),
            info: self.info.clone(),
            retention: self.storage.retention(),
        }
    }

    /// Takes over from `new` what holds without a restart, so that this stays what is in force.
    pub fn take_live(&mut self, new: Self) {
        let Self { limits, tiers, rates, auth, access, info, storage, .. } = new;
        self.storage.take_live(storage);
        *self = Self { limits, tiers, rates, auth, access, info, ..std::mem::take(self) };
    }

    /// This configuration with what `new` has for the keys that hold without a restart.
    #[must_use]
    pub fn with_live_sections_of(&self, new: Self) -> Self {
        let mut taken = self.clone();
        taken.take_live(new);
        taken
    }

    /// What differs in `new`, and whether it holds without a restart.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        reload::compare(self, new)
    }
}
