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
mod sections;
mod storage;
#[cfg(test)]
mod tests;
mod units;
mod validate;
mod warn;

use std::path::Path;

pub use error::{ConfigError, Problem};
pub use log::{Log, LogFormat};
pub use memory::memory_ceiling;
pub use metrics::Metrics;
pub use reload::Changes;
pub use sections::Config;
pub use storage::{DefaultKeep, Durability, Storage, rule_text};

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

    /// What differs in `new`, and whether it holds without a restart.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        reload::compare(self, new)
    }
}
