//! `weir strfry`, and `weir` under the name strfry: strfry's command line, for scripts and sidecars that drive it.
//!
//! It becomes weir's own command line, so each command does what it does there; nothing is decided here. What has no
//! counterpart says so and exits with 1.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Parser as _;

use super::config::{read_strfry, strfry_file};
use super::global::Global;
use crate::config::strfry::Value;
use crate::store::Store;

/// Arguments of `weir strfry`: all of them are strfry's.
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  weir strfry scan --count '{\"kinds\":[1]}'
  ln -s /usr/bin/weir /usr/local/bin/strfry     then strfry's own command line runs weir"
)]
pub struct Arguments {
    /// A command line of strfry's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    line: Vec<OsString>,
}

/// strfry's commands, run by weir on its own store.
///
/// The store is the db of the configuration, if weir keeps one there; or name weir's configuration (a .toml file) with
/// --config or the environment variable WEIR_CONFIG.
#[derive(clap::Parser)]
#[command(name = "strfry", bin_name = "strfry", version, max_term_width = 110)]
struct Line {
    /// strfry's configuration (only db is used), or weir's (a .toml file)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a key of strfry's configuration: only db matters
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Accepted and ignored
    #[arg(long, global = true, value_name = "LEVEL")]
    verbosity: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run the relay, with weir's configuration
    Relay,
    /// Print the events that a filter finds
    Scan {
        /// A filter or an array of filters
        filter: OsString,
        /// Print their number
        #[arg(long)]
        count: bool,
        /// Accepted and ignored
        #[arg(long, value_name = "MICROSECONDS")]
        pause: Option<u64>,
        /// Print how the query is answered instead
        #[arg(long)]
        metrics: bool,
    },
    /// Print all events, the oldest first
    Export {
        /// Only those created at this unix time or later
        #[arg(long)]
        since: Option<u64>,
        /// Only those created at this unix time or earlier
        #[arg(long)]
        until: Option<u64>,
        /// The newest first
        #[arg(long)]
        reverse: bool,
        /// Has no counterpart
        #[arg(long)]
        fried: bool,
    },
    /// Add events from standard input
    Import {
        /// Report what is not stored
        #[arg(long)]
        show_rejected: bool,
        /// Do not verify signatures
        #[arg(long)]
        no_verify: bool,
        /// Accepted and ignored
        #[arg(long, value_name = "N")]
        debounce_millis: Option<u64>,
        /// Events per commit
        #[arg(long, value_name = "N")]
        write_batch: Option<u64>,
        /// Has no counterpart
        #[arg(long)]
        fried: bool,
    },
    /// Remove events
    Delete {
        /// Only those older than this many seconds
        #[arg(long, value_name = "SECONDS")]
        age: Option<u64>,
        /// Only those that match
        #[arg(long, value_name = "FILTER")]
        filter: Option<OsString>,
        /// Only count them
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring this relay and another one to the same events
    Sync {
        /// The other relay
        url: OsString,
        /// down, up, both, or none to print what differs
        #[arg(long, default_value = "both")]
        dir: String,
        /// Only events that match
        #[arg(long, value_name = "FILTER")]
        filter: Option<OsString>,
        /// Accepted and ignored
        #[arg(long, value_name = "N")]
        frame_size_limit: Option<u64>,
    },
    /// Run the streams of a file
    Router {
        /// The file of strfry's router
        file: OsString,
    },
    /// Show what the store holds
    Info,
    /// Has no counterpart of its own: see weir compact and weir backup
    Compact {
        /// The file to write
        file: OsString,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Whether the program was called by strfry's name.
pub fn is_name(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name().is_some_and(|name| name == "strfry"))
}

impl Arguments {
    /// The same as a command line of weir's; `global` overrides what strfry's configuration says.
    ///
    /// # Errors
    /// When the command has no counterpart, or the configuration names no store of weir's.
    pub fn to_weir(&self, global: &Global) -> anyhow::Result<Vec<OsString>> {
        to_weir(&self.line, global.to_arguments())
    }
}

/// A command line of strfry's, without the program's name, as one of weir's. `store` names the store, unless it is
/// empty: then strfry's configuration does.
///
/// # Errors
/// When the command has no counterpart, or the configuration names no store of weir's.
pub fn to_weir(line: &[OsString], store: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let line = Line::parse_from([OsString::from("strfry")].iter().chain(line));
    let mut to: Vec<OsString> = vec!["weir".into()];
    let mut add = |words: &[&str]| to.extend(words.iter().map(OsString::from));
    match &line.command {
        Command::Relay => add(&["serve"]),
        Command::Info => add(&["info"]),
        Command::Scan { filter, count, metrics, pause: _ } => {
            add(&["scan"]);
            add(if *metrics {
                &["--explain"]
            } else if *count {
                &["--count"]
            } else {
                &[]
            });
            to.push(filter.clone());
        }
        Command::Export { fried: true, .. } | Command::Import { fried: true, .. } => {
            bail!("weir does not support --fried: it imports JSON, which strfry export writes without that option");
        }
        Command::Export { since, until, reverse, .. } => {
            add(&["export"]);
            since.iter().for_each(|at| add(&["--since", &at.to_string()]));
            until.iter().for_each(|at| add(&["--until", &at.to_string()]));
            add(if *reverse { &["--reverse"] } else { &[] });
        }
        Command::Import { show_rejected, no_verify, write_batch, .. } => {
            add(&["import"]);
            add(if *show_rejected { &["--show-refused"] } else { &[] });
            add(if *no_verify { &["--no-verify"] } else { &[] });
            write_batch.iter().for_each(|n| add(&["--batch", &n.clamp(&1, &1_000_000).to_string()]));
        }
        Command::Delete { age: None, filter: None, .. } => bail!("delete needs --age or --filter"),
        Command::Delete { age, filter, dry_run } => {
            add(&["delete"]);
            age.iter().for_each(|age| add(&["--older-than", &format!("{age}s")]));
            add(if *dry_run { &["--dry-run"] } else { &[] });
            filter.iter().for_each(|filter| to.extend(["--filter".into(), filter.clone()]));
        }
        Command::Sync { url, dir, filter, frame_size_limit: _ } => {
            add(&["sync"]);
            if dir == "none" {
                add(&["--dir", "both", "--print-missing"]);
            } else {
                add(&["--dir", dir]);
            }
            filter.iter().for_each(|filter| to.extend(["--filter".into(), filter.clone()]));
            to.push(url.clone());
        }
        Command::Router { file } => {
            add(&["router"]);
            to.push(file.clone());
        }
        Command::Compact { .. } => {
            bail!(
                "a copy of weir's file is not a backup of a running relay: use weir backup, or weir compact to free space"
            );
        }
        Command::Other(words) => {
            if words.first().is_some_and(|name| name == "negentropy") {
                bail!("weir keeps no negentropy trees: it answers NEG-OPEN with any filter from its indexes");
            }
            let name = words.first().map(|name| name.to_string_lossy()).unwrap_or_default();
            bail!("strfry {name} has no counterpart in weir");
        }
    }
    to.extend(if store.is_empty() { configured_store(&line)? } else { store });
    Ok(to)
}

/// The arguments that name the store of the configuration.
fn configured_store(line: &Line) -> anyhow::Result<Vec<OsString>> {
    let of_weir = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let named = std::env::var_os("WEIR_CONFIG").map(PathBuf::from);
    if let Some(config) = line.config.clone().filter(|path| of_weir(path)).or(named) {
        return Ok(vec!["--config".into(), config.into()]);
    }
    let Some(file) = line.config.clone().or_else(strfry_file) else { return Ok(Vec::new()) };
    let (name, root) = (file.display(), read_strfry(&file)?);
    let mut values = line.set.iter().filter_map(|set| set.split_once('=')).filter(|(key, _)| *key == "db");
    let db = match (values.next_back(), root.get("db")) {
        (Some((_, value)), _) => value,
        (None, Some(Value::Text(path))) => path,
        (None, _) => "./strfry-db/",
    };
    if !Store::exists(Path::new(db)) {
        bail!(
            "{name} has db = {db:?}, and weir keeps no store there: name weir's directory there, or weir's configuration \
             in the environment variable WEIR_CONFIG"
        );
    }
    Ok(vec!["--data".into(), db.into()])
}
