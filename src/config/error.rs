//! Errors in a configuration, each with the place where an operator finds it.

use std::borrow::Cow;
use std::fmt;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds mistakes.
    #[error("{}", Listed(file, problems))]
    Wrong {
        /// Which file.
        file: String,
        /// All mistakes, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

/// One mistake and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line and column, both counted from 1, the column in characters. `None` for a key that the file does not set.
    pub place: Option<(usize, usize)>,
    /// The key with its section, such as `limits.max_filters`; empty when the text is not TOML.
    pub key: String,
    /// What is wrong and how to fix it.
    pub text: String,
}

impl Problem {
    /// A problem at byte `at` of `source`.
    pub(super) fn at(source: &str, at: usize, key: String, text: String) -> Self {
        Self { place: Some(place(source, at)), key, text }
    }
}

/// Line and column of byte `at`, both from 1; the column counts characters.
pub(super) fn place(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

/// One mistake, not yet located in the file.
pub struct Fault {
    /// The key with its section.
    pub key: Cow<'static, str>,
    /// What is wrong and how to fix it.
    pub text: String,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self { place: None, key: fault.key.into_owned(), text: fault.text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// One line per problem, in the form that compilers use: `file:line:column: key: text`.
struct Listed<'a>(&'a str, &'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.1.iter().enumerate() {
            let mark = if problem.place.is_some() { "" } else { " " };
            write!(f, "{}{}:{mark}{problem}", if index > 0 { "\n" } else { "" }, self.0)?;
        }
        Ok(())
    }
}
