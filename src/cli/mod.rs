//! The command line: one file per subcommand, with its arguments and a `run` that calls the modules below.
//!
//! Only this module sees the configuration and prints. It contains no logic itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use global::Global;
use manage::Verb;

mod admin;
mod arguments;
mod backup;
mod check;
mod cluster;
mod compact;
mod completions;
mod config;
mod dashboard;
mod delete;
mod descriptors;
mod export;
mod global;
mod handover;
mod import;
mod info;
mod interrupt;
mod invite;
mod log;
mod manage;
mod output;
mod purge;
mod restore;
mod retention;
mod room;
mod router;
mod scan;
mod serve;
mod signals;
mod stream;
mod streams;
mod strfry;
mod sync;
mod systemd;
mod time;
mod top;
mod trust;
mod upgrade;

/// A Nostr relay for operators of large public relays.
#[derive(Parser)]
#[command(name = "weir", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Examples:
  weir serve                             run a relay on 127.0.0.1:7777, with events in ./weir-data
  weir serve --listen 0.0.0.0:7777       the same, reachable from outside
  weir import events.jsonl               add events from a file
  weir scan '{\"kinds\":[1],\"limit\":10}'   print the newest ten notes
  weir export > events.jsonl             write all events as lines of JSON
  weir sync wss://relay.example.com      fetch the events that another relay has and this one lacks
  weir backup /backups/relay             create a backup, or add new events to it

import, export, scan, delete, sync, router, info, trust, retention, check, backup and compact also work while the relay
runs.

Exit codes: 0 success, 1 failure or problems found, 2 wrong arguments, 130 interrupted.")]
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
    /// Bring this relay and another one to the same events
    Sync(sync::Arguments),
    /// Run live streams of events between this relay and others
    Router(router::Arguments),
    /// Show the nodes of this relay's cluster
    Cluster(cluster::Arguments),
    /// Refuse a key, an event, a kind or an address from now on, or list what is refused
    Ban(manage::Decide),
    /// Lift bans
    Unban(manage::TakeBack),
    /// Accept a key, an event or a kind that the lists do not name, or list what is accepted
    Allow(manage::Decide),
    /// Withdraw what was allowed
    Unallow(manage::TakeBack),
    /// Make a code with which keys become members (NIP-43)
    Invite(invite::Arguments),
    /// Count what is stored of a key, an event or a kind, or remove it
    Purge(purge::Arguments),
    /// Show who decided what, when and why, or undo an act
    Audit(manage::Audit),
    /// Call a method of the management API (NIP-86)
    Manage(manage::Manage),
    /// Show what the store holds and how much space it takes
    Info(info::Arguments),
    /// Show what the retention rules would remove, or remove it
    Retention(retention::Arguments),
    /// Check the store for damage, and repair its indexes
    Check(check::Arguments),
    /// Create a backup in a directory, or add new events to it
    Backup(backup::Arguments),
    /// Create a store from a backup
    Restore(restore::Arguments),
    /// Return the space of removed events to the file system
    Compact(compact::Arguments),
    /// Show the web of trust, or the path to a key in it
    Trust(trust::Arguments),
    /// Upgrade a store that an earlier version wrote
    Upgrade(upgrade::Arguments),
    /// Show or check the configuration
    Config(config::Arguments),
    /// Watch the running relay
    Top(top::Arguments),
    /// Print a link that opens the dashboard of the running relay once
    Dashboard(dashboard::Arguments),
    /// Take strfry's command line
    Strfry(strfry::Arguments),
    /// Print a script that completes commands and options in a shell
    Completions(completions::Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Man(completions::Man),
}

/// Runs the command given on the command line.
#[must_use]
pub fn main() -> ExitCode {
    crate::allocator::purge_soon();
    let mut line: Vec<_> = std::env::args_os().collect();
    let result = if strfry::is_name(line.first()) {
        strfry::to_weir(&line.split_off(1), Vec::new()).and_then(|line| run(Arguments::parse_from(line)))
    } else {
        run(Arguments::parse_from(line))
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

fn run(Arguments { global, command }: Arguments) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => serve::run(&global, &arguments),
        Command::Import(arguments) => import::run(&global, &arguments),
        Command::Export(arguments) => export::run(&global, &arguments),
        Command::Scan(arguments) => scan::run(&global, &arguments),
        Command::Delete(arguments) => delete::run(&global, &arguments),
        Command::Ban(arguments) => manage::decide(&global, Verb::Ban, &arguments),
        Command::Unban(arguments) => manage::take_back(&global, Verb::Unban, &arguments),
        Command::Allow(arguments) => manage::decide(&global, Verb::Allow, &arguments),
        Command::Unallow(arguments) => manage::take_back(&global, Verb::Unallow, &arguments),
        Command::Invite(arguments) => invite::run(&global, &arguments),
        Command::Purge(arguments) => purge::run(&global, &arguments),
        Command::Audit(arguments) => manage::audit(&global, &arguments),
        Command::Manage(arguments) => manage::manage(&global, &arguments),
        Command::Info(arguments) => info::run(&global, &arguments),
        Command::Retention(arguments) => retention::run(&global, &arguments),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Backup(arguments) => backup::run(&global, &arguments),
        Command::Restore(arguments) => restore::run(&global, &arguments),
        Command::Compact(arguments) => compact::run(&global, &arguments),
        Command::Cluster(arguments) => cluster::run(&global, &arguments),
        Command::Trust(arguments) => trust::run(&global, &arguments),
        Command::Upgrade(arguments) => upgrade::run(&global, &arguments),
        Command::Config(arguments) => config::run(&global, &arguments),
        Command::Sync(arguments) => sync::run(&global, &arguments),
        Command::Router(arguments) => router::run(&global, &arguments),
        Command::Top(arguments) => top::run(&global, &arguments),
        Command::Dashboard(arguments) => dashboard::run(&global, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => completions::write_pages(&arguments),
        Command::Strfry(arguments) => run(Arguments::parse_from(arguments.to_weir(&global)?)),
    }
}
