//! What is wrong with a configuration, told so that an operator finds the place.

use std::borrow::Cow;
use std::fmt;

/// Why a configuration is not taken.
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
    /// The text is not a configuration.
    #[error("{}", Listed(file, problems))]
    Wrong {
        /// Which file.
        file: String,
        /// Everything that is wrong, in the order of the text; never empty.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Everything that is wrong; empty when the file could not be read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Wrong { problems, .. } => problems,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line and column, both from 1; the column counts characters. `None` when a default is at odds.
    pub place: Option<(usize, usize)>,
    /// The key with its section, such as `limits.max_filters`; empty when the text is not TOML.
    pub key: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl Problem {
    /// A problem at byte `at` of `source`.
    pub(super) fn at(source: &str, at: usize, key: String, text: String) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { place: Some((line, column)), key, text }
    }
}

/// A value that cannot be.
pub struct Fault {
    /// The key it is about, with its section.
    pub key: Cow<'static, str>,
    /// What is wrong and what to do.
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

/// One line for each problem, the way compilers write them: `file:line:column: key: text`.
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
