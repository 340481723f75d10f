//! The command line: one file per subcommand, each its arguments and a `run` that calls what is below.
//!
//! The only place that sees the configuration, and the only one that prints. No logic of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use global::Global;

mod arguments;
mod backup;
mod check;
mod compact;
mod config;
mod delete;
mod export;
mod global;
mod import;
mod info;
mod interrupt;
mod log;
mod output;
mod restore;
mod retention;
mod scan;
mod serve;
mod signals;
mod stream;
mod systemd;
mod time;
mod upgrade;

/// A Nostr relay for operators of large public relays.
#[derive(Parser)]
#[command(name = "weir", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Examples:
  weir serve                             a relay on 127.0.0.1:7777, events in ./weir-data
  weir serve --listen 0.0.0.0:7777       the same for everybody
  weir import events.jsonl               add events from a file, also while the relay runs
  weir scan '{\"kinds\":[1],\"limit\":10}'   the newest ten notes
  weir export > events.jsonl             all of them as lines of JSON
  weir backup /backups/relay             a backup, also while the relay runs

Exit codes: 0 good, 1 failed or found problems, 2 wrong arguments, 130 interrupted.")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay
    Serve(serve::Arguments),
    /// Add events from a file
    Import(import::Arguments),
    /// Write stored events to a file
    Export(export::Arguments),
    /// Run a query on the stored events
    Scan(scan::Arguments),
    /// Remove stored events
    Delete(delete::Arguments),
    /// Tell what the store holds and the room it takes
    Info(info::Arguments),
    /// Show what the retention rules would remove, or remove it
    Retention(retention::Arguments),
    /// Look for damage in the store
    Check(check::Arguments),
    /// Copy the events to a directory for keeping, or add what is new to it
    Backup(backup::Arguments),
    /// Make a store from a backup
    Restore(restore::Arguments),
    /// Give the space of removed events back to the file system
    Compact(compact::Arguments),
    /// Make a store of an earlier version one of this version
    Upgrade(upgrade::Arguments),
    /// Show or check the configuration
    Config(config::Arguments),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    let result = match command {
        Command::Serve(arguments) => serve::run(&global, &arguments),
        Command::Import(arguments) => import::run(&global, &arguments),
        Command::Export(arguments) => export::run(&global, &arguments),
        Command::Scan(arguments) => scan::run(&global, &arguments),
        Command::Delete(arguments) => delete::run(&global, &arguments),
        Command::Info(arguments) => info::run(&global, &arguments),
        Command::Retention(arguments) => retention::run(&global, &arguments),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Backup(arguments) => backup::run(&global, &arguments),
        Command::Restore(arguments) => restore::run(&global, &arguments),
        Command::Compact(arguments) => compact::run(&global, &arguments),
        Command::Upgrade(arguments) => upgrade::run(&global, &arguments),
        Command::Config(arguments) => config::run(&global, &arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(format_args!("weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
