//! The arguments of every command, with their help.
//!
//! It must never decide anything: a value is checked for its form alone.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::threshold::Threshold;

/// Measure and compare Nostr relays (NIP-01) over ws:// and wss://.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  loadtest corpus --seed 1 --events 50000 --out corpus.jsonl
  loadtest run --url ws://127.0.0.1:7777 --scenario publish-new --corpus corpus.jsonl --pid $(pidof relay)
  loadtest run --url ws://127.0.0.1:7777 --scenario queries --corpus corpus.jsonl --no-load --json a.json
  loadtest run --url ws://127.0.0.1:7777 --scenario by-id --duration 10
  loadtest run --url ws://127.0.0.1:7777 --scenario kill --kill $(pidof relay) --restart 'relay serve'
  loadtest compare a.json b.json --html ab.html
  loadtest matrix relays.toml --out page
  loadtest scenarios

Exit codes, the first that applies:
  3    the relay lost, repeated or falsified something
  130  Ctrl-C ended the run; the report has the phases that were run
  1    the run could not be started, or the relay died during it
  2    wrong arguments
  4    a figure is beyond a --fail-if threshold
  0    none of these; deviations from a NIP's \"should\" and refusals that the relay announces do not count";

/// What the tool can do.
#[derive(Subcommand)]
pub enum Command {
    /// Write a corpus: seeded, really signed events in the kinds, sizes and tags of public relays
    Corpus(CorpusArgs),
    /// Run a scenario against a relay and check every answer
    Run(Box<RunArgs>),
    /// Compare two JSON reports: ratios per figure, curves in HTML
    Compare(CompareArgs),
    /// Start several relays by their commands, let them do the same work in turn, and write one page about them
    Matrix(MatrixArgs),
    /// List the built-in scenarios, or print one as a starting point for your own
    Scenarios(ScenarioArgs),
}

/// Arguments of `corpus`.
#[derive(Args)]
pub struct CorpusArgs {
    /// The same seed and sizes give the same bytes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Number of events
    #[arg(long, default_value_t = 50_000)]
    pub events: u64,
    /// Number of authors [default: a tenth of the events]
    #[arg(long)]
    pub authors: Option<usize>,
    /// created_at of the newest event, unix seconds
    #[arg(long, default_value_t = 1_767_225_600)]
    pub until: u64,
    /// Days between the oldest and the newest event
    #[arg(long, default_value_t = 90)]
    pub days: u64,
    /// JSONL file to write; - for standard output
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// The relay, ws://host[:port][/path] or wss://…
    #[arg(long)]
    pub url: String,
    /// Built-in scenario, query shape, or TOML file (see `loadtest scenarios`)
    #[arg(long)]
    pub scenario: String,
    /// Corpus file; without it one is generated as the scenario says
    #[arg(long)]
    pub corpus: Option<PathBuf>,
    /// Do not load the corpus before query and duplicate phases, because the relay already holds it
    #[arg(long)]
    pub no_load: bool,
    /// Processes of the relay on this machine, to measure CPU and memory (Linux); includes their children
    #[arg(long, value_name = "PID[ PID...]", value_parser = pids)]
    pub pid: Vec<Pids>,
    /// Data directory of the relay, to measure disk growth; requires --pid
    #[arg(long, requires = "pid")]
    pub data: Option<PathBuf>,
    /// Name of the relay in reports [default: the URL]
    #[arg(long)]
    pub label: Option<String>,
    /// Replace `duration_s` of every phase
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Replace `count` of every phase
    #[arg(long)]
    pub count: Option<usize>,
    /// Replace `rate` of every phase: per second, open loop
    #[arg(long)]
    pub rate: Option<f64>,
    /// Replace the number of connections (fan-out: subscribers) of every phase
    #[arg(long)]
    pub connections: Option<usize>,
    /// Replace `in_flight` of every phase
    #[arg(long)]
    pub in_flight: Option<usize>,
    /// Keep at most this many events of a connection unanswered, also in a burst and while the corpus is loaded
    #[arg(long, value_name = "EVENTS")]
    pub max_in_flight: Option<NonZeroUsize>,
    /// Spread connections over this many loopback source addresses
    #[arg(long, default_value_t = 1)]
    pub sources: usize,
    /// Offer permessage-deflate (RFC 7692), as browsers do
    #[arg(long)]
    pub deflate: bool,
    /// Authenticate each connection (NIP-42) with the secret key in this file, 64 hex digits
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// Trust the certificates in this file (PEM) with wss://, in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Seed of the run [default: from the clock, printed in the report]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Treat every event that is not of this run as a fault
    #[arg(long)]
    pub exclusive: bool,
    /// Do not read published events back
    #[arg(long)]
    pub no_read_back: bool,
    /// End with the phase `kill`: kill these processes of the relay (SIGKILL) in the middle of publishing, start it
    /// again and read back everything that got an OK
    #[arg(long, value_name = "PID[ PID...]", value_parser = pids, requires = "restart", conflicts_with = "no_read_back")]
    pub kill: Option<Pids>,
    /// Starts the relay again after --kill, at the same address and with the same data; a command of sh
    #[arg(long, value_name = "COMMAND", requires = "kill")]
    pub restart: Option<String>,
    /// Exit with 4 if a figure is beyond this, e.g. "p99>5ms" or "by-id: relay_us>12"; repeat it for several
    #[arg(long, value_name = "[PHASE:]FIGURE>NUMBER")]
    pub fail_if: Vec<Threshold>,
    /// Give up on a phase after this long without an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub stall: f64,
    /// Write the report as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write a JSON file for each of the first faults: the frames to send, the smallest filter, missing and extra ids
    #[arg(long, value_name = "DIR")]
    pub replays: Option<PathBuf>,
    /// Print only the result, no progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// JSON report of the first side
    pub a: PathBuf,
    /// JSON report of the second side; ratios are B over A
    pub b: PathBuf,
    /// Write the comparison as one HTML page
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// Arguments of `matrix`.
#[derive(Args)]
pub struct MatrixArgs {
    /// TOML file: the relays with their commands, and the scenarios
    pub plan: PathBuf,
    /// Directory of the page (README.md), its charts and the reports of all runs
    #[arg(long, value_name = "DIR", default_value = "matrix")]
    pub out: PathBuf,
    /// Directory of the relays' data, on the disk that is to be measured [default: work in --out]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Give up on a phase after this long without an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub stall: f64,
    /// No progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `scenarios`.
#[derive(Args)]
pub struct ScenarioArgs {
    /// Print this built-in scenario or query shape as a file
    pub name: Option<String>,
}

/// The process ids of one `--pid`, as `pidof` prints them.
pub type Pids = Vec<u32>;

/// Takes process ids apart.
///
/// # Errors
/// If there is none, or something else.
pub fn pids(text: &str) -> Result<Pids, String> {
    let pids: Result<Pids, String> = text
        .split([' ', ',', '\n'])
        .filter(|pid| !pid.is_empty())
        .map(|pid| pid.parse().map_err(|_| format!("{pid:?} is not a process id")))
        .collect();
    pids.and_then(|pids| if pids.is_empty() { Err("no process id; does the relay run?".into()) } else { Ok(pids) })
}
