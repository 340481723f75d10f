//! The `[plugin]` section: which program judges events, and what becomes of an event that it does not judge.
//!
//! Holds what the operator chose; `config` checks it, and [`plugin`](crate::plugin) talks to the program.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::retention::Origin;

/// The program that judges events, and how it is used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginOptions {
    /// The command; empty for none. It is run by `/bin/sh -c`. A path without a space is a program that is started
    /// again when its file changes.
    pub command: String,
    /// Where the operator set it, for messages.
    #[serde(skip)]
    pub command_origin: Option<Origin>,
    /// Processes; each is asked about its own addresses.
    pub workers: usize,
    /// Events that one process is asked about at a time, if it echoes their ids.
    pub in_flight: usize,
    /// Milliseconds in which a process that owes answers must give one.
    pub timeout_ms: u64,
    /// What becomes of an event that the program does not judge.
    pub on_failure: OnFailure,
    /// Whether verdicts are only counted.
    pub dry_run: bool,
    /// Which events it is asked about.
    pub sources: Vec<Source>,
}

/// What becomes of an event that the program does not judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    Reject,
    /// It is accepted.
    Accept,
}

/// Where an event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A client.
    Ws,
    /// `weir import`.
    Import,
    /// Another relay.
    Sync,
}

impl Default for PluginOptions {
    fn default() -> Self {
        Self {
            command: String::new(),
            command_origin: None,
            workers: 1,
            in_flight: 32,
            timeout_ms: 10_000,
            on_failure: OnFailure::Reject,
            dry_run: false,
            sources: vec![Source::Ws, Source::Sync],
        }
    }
}

impl PluginOptions {
    /// The most processes.
    pub const MAX_WORKERS: usize = 64;

    /// The most events that one process is asked about at a time.
    pub const MAX_IN_FLIGHT: usize = 4096;

    /// Whether events of this source are judged.
    #[must_use]
    pub fn judges(&self, source: Source) -> bool {
        !self.command.is_empty() && self.sources.contains(&source)
    }

    /// The file of the program, if the command is a path.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        // The shell looks for a bare name elsewhere.
        (self.command.contains('/') && !self.command.contains(' ')).then(|| Path::new(&self.command))
    }
}
