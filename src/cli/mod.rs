//! The command line: one file per subcommand, each its arguments and a `run` that calls what is below.
//!
//! The only place that sees the configuration, and the only one that prints. No logic of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

mod serve;
mod signals;

/// A Nostr relay for operators of large public relays.
#[derive(Parser)]
#[command(name = "weir", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Examples:
  weir serve                             a relay on 127.0.0.1:7777, events in ./weir-data
  weir serve --listen 0.0.0.0:7777       the same for everybody
  weir import events.jsonl               add events from a file, also while the relay runs
  weir scan '{\"kinds\":[1],\"limit\":10}'   the newest ten notes")]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args)]
struct Common {
    /// The configuration file; every key has a default, so none is needed
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory that holds the events [default: ./weir-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Common {
    /// The configuration: defaults, then the file, then the command line.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
        if let Some(data) = &self.data {
            config.storage.data.clone_from(data);
        }
        Ok(config)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay
    Serve(serve::Arguments),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { common, command } = Arguments::parse();
    let result = match command {
        Command::Serve(arguments) => serve::run(&common, &arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
