//! The configuration: a TOML file, read into the options of the modules that it configures.
//!
//! Every key has a default, so an empty file, or none, is valid. Nothing below `cli` sees this module: each module gets
//! its own options by value. No other module uses toml.

mod cluster;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod list_file;
mod lists;
mod log;
mod memory;
mod metrics;
mod nearest;
mod parse;
mod reload;
mod replication;
mod secret_file;
mod sections;
mod shown;
mod storage;
pub mod strfry;
mod template_file;
#[cfg(test)]
mod tests;
mod token_file;
mod units;
mod validate;
mod warn;

use std::path::Path;

use crate::policy::{ContentRule, Origin};
use error::Fault;

pub use error::{ConfigError, Problem};
pub use lists::RereadLists;
pub use log::{Log, LogFormat};
pub use memory::memory_ceiling;
pub use metrics::Metrics;
pub use reload::Changes;
pub use replication::{Replication, StreamOptions};
pub use sections::Config;
pub use storage::{DefaultKeep, Durability, Storage, rule_text};

/// Compiles the rules about content.
fn compile(rules: &mut [ContentRule]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, rule) in (1..).zip(rules) {
        let path = |key: &str| format!("policy.content[{number}]{}{key}", if key.is_empty() { "" } else { "." });
        faults.extend(rule.compile().into_iter().map(|(key, text)| Fault { key: path(key).into(), text }));
    }
    faults
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read, or with all its mistakes.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(ConfigError::Unreadable { file: name, error }),
        }
    }

    /// Reads `text`; missing keys keep their defaults. `file` is its name in errors, and list files are looked up in
    /// its directory.
    ///
    /// # Errors
    /// With all its mistakes.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let problems = match parse::read(text) {
            Ok(mut read) => {
                let directory = Path::new(file).parent().unwrap_or(Path::new(""));
                let Config { access, storage, .. } = &mut read.config;
                let (list_files, mut faults) = lists::read_all(access, &mut storage.retention, directory);
                read.config.list_files = list_files;
                let key = "membership.key_file";
                faults.extend(secret_file::read(key, &mut read.config.membership.key_file, directory));
                faults.extend(read.config.replication.read_files(directory));
                cluster::resolve(&mut read.config.cluster, directory);
                faults.extend(token_file::read(&mut read.config.changes.token_file, directory));
                faults.extend(template_file::read(&mut read.config.info.template_file, directory));
                faults.extend(compile(&mut read.config.policy.content));
                if faults.is_empty() {
                    faults = validate::check(&read.config);
                }
                if faults.is_empty() {
                    let key = "storage.max_bytes";
                    if let Some(place) = read.place(text, key) {
                        read.config.storage.max_bytes_origin = Origin::new(file, place, key);
                    }
                    let key = "plugin.command";
                    if !read.config.plugin.command.is_empty()
                        && let Some(place) = read.place(text, key)
                    {
                        read.config.plugin.command_origin = Some(Origin::new(file, place, key));
                    }
                    return Ok(read.config);
                }
                faults.into_iter().map(|fault| read.problem(text, fault)).collect()
            }
            Err(problems) => problems,
        };
        Err(ConfigError::Wrong { file: file.into(), problems })
    }

    /// Checks a configuration that was assembled from a file and the command line.
    ///
    /// # Errors
    /// With every value that is out of range or contradicts another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems: Vec<_> = validate::check(self).into_iter().map(Problem::from).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Wrong { file: "configuration".into(), problems })
    }

    /// Settings that are valid but rarely intended, each a sentence that begins with the key.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        warn::warnings(self)
    }

    /// Reads those list files again that have changed. A file with faults leaves its former list in force.
    #[must_use]
    pub fn read_changed_lists(&mut self) -> RereadLists {
        self.list_files.read_changed(&mut self.access)
    }

    /// The keys that differ in `new`, by whether they apply without a restart.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        reload::compare(self, new)
    }
}
