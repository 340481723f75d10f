//! The command line: `corpus`, `run`, `compare`, `scenarios`.
//!
//! It must never hold logic of its own: it turns arguments into options and results into files and an exit code.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::corpus;
use crate::process::Watched;
use crate::report::{Report, compare, html, table};
use crate::run;
use crate::scenario::overrides::Overrides;
use crate::scenario::{BUILTIN, Scenario};

/// The run could not be made.
const EXIT_ERROR: u8 = 1;
/// The relay lost, repeated or falsified something.
const EXIT_FAULTS: u8 = 3;

/// Measure and compare Nostr relays (NIP-01) over ws://.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  loadtest corpus --seed 1 --events 50000 --out corpus.jsonl
  loadtest run --url ws://127.0.0.1:7777 --scenario publish-new --corpus corpus.jsonl --pid $(pidof relay)
  loadtest run --url ws://127.0.0.1:7777 --scenario queries --corpus corpus.jsonl --no-load --json a.json
  loadtest run --url ws://127.0.0.1:7777 --scenario by-id --duration 10
  loadtest compare a.json b.json --html ab.html
  loadtest scenarios

Exit code: 0 all right, 1 the run failed, 2 wrong arguments, 3 the relay lost, repeated or falsified something.";

#[derive(Subcommand)]
enum Command {
    /// Write a corpus: seeded, really signed events in the kinds, sizes and tags of public relays
    Corpus(CorpusArgs),
    /// Run a scenario against a relay and check every answer
    Run(Box<RunArgs>),
    /// Compare two JSON reports: ratios per figure, curves in HTML
    Compare(CompareArgs),
    /// List the built-in scenarios, or print one as a starting point for your own
    Scenarios(ScenarioArgs),
}

/// Arguments of `corpus`.
#[derive(Args)]
struct CorpusArgs {
    /// The same seed and sizes give the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of events
    #[arg(long, default_value_t = 50_000)]
    events: u64,
    /// Number of authors [default: a tenth of the events]
    #[arg(long)]
    authors: Option<usize>,
    /// created_at of the newest event, unix seconds
    #[arg(long, default_value_t = 1_767_225_600)]
    until: u64,
    /// Days between the oldest and the newest event
    #[arg(long, default_value_t = 90)]
    days: u64,
    /// JSONL file to write; - for standard output
    #[arg(long)]
    out: PathBuf,
}

/// Arguments of `run`.
#[derive(Args)]
struct RunArgs {
    /// The relay, ws://host[:port][/path]
    #[arg(long)]
    url: String,
    /// Built-in scenario, query shape, or TOML file (see `loadtest scenarios`)
    #[arg(long)]
    scenario: String,
    /// Corpus file; without it one is generated as the scenario says
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// The relay holds the corpus already: do not send it before query and duplicate phases
    #[arg(long)]
    no_load: bool,
    /// Process of the relay on this machine, for CPU and memory (Linux); repeat it for several
    #[arg(long)]
    pid: Vec<u32>,
    /// Data directory of the relay, for disk growth; needs --pid
    #[arg(long, requires = "pid")]
    data: Option<PathBuf>,
    /// Name of the relay in reports [default: the URL]
    #[arg(long)]
    label: Option<String>,
    /// Replace `duration_s` of every phase
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Replace `count` of every phase
    #[arg(long)]
    count: Option<usize>,
    /// Replace `rate` of every phase: per second, open loop
    #[arg(long)]
    rate: Option<f64>,
    /// Replace the number of connections (fan-out: subscribers) of every phase
    #[arg(long)]
    connections: Option<usize>,
    /// Replace `in_flight` of every phase
    #[arg(long)]
    in_flight: Option<usize>,
    /// Spread connections over this many loopback source addresses
    #[arg(long, default_value_t = 1)]
    sources: usize,
    /// Seed of the run [default: from the clock, printed in the report]
    #[arg(long)]
    seed: Option<u64>,
    /// Give a phase up when nothing has come for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    stall: f64,
    /// Write the report as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as one HTML page
    #[arg(long)]
    html: Option<PathBuf>,
    /// Only the result, no progress on stderr
    #[arg(long, short)]
    quiet: bool,
}

/// Arguments of `compare`.
#[derive(Args)]
struct CompareArgs {
    /// JSON report of the first side
    a: PathBuf,
    /// JSON report of the second side; ratios are B over A
    b: PathBuf,
    /// Write the comparison as one HTML page
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Arguments of `scenarios`.
#[derive(Args)]
struct ScenarioArgs {
    /// Print the file of this built-in scenario
    name: Option<String>,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Corpus(args) => write_corpus(&args),
        Command::Run(args) => run_scenario(&args),
        Command::Compare(args) => compare_reports(&args),
        Command::Scenarios(args) => list_scenarios(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_ERROR)
    })
}

fn write_corpus(args: &CorpusArgs) -> Result<ExitCode> {
    let defaults = corpus::Options::social(args.seed, args.events);
    let options = corpus::Options {
        authors: args.authors.unwrap_or(defaults.authors),
        until: args.until,
        span_s: args.days * 86_400,
        ..defaults
    };
    let sink: Box<dyn Write> = if args.out.as_os_str() == "-" {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(std::fs::File::create(&args.out).with_context(|| format!("create {}", args.out.display()))?)
    };
    let mut sink = BufWriter::with_capacity(1 << 20, sink);
    let style = "{bar:40} {human_pos}/{human_len} events  {per_sec}  {eta}";
    let bar = ProgressBar::new(args.events).with_style(ProgressStyle::with_template(style)?);
    let mut bytes = 0u64;
    corpus::generate(&options, |line| {
        sink.write_all(line)?;
        sink.write_all(b"\n")?;
        bytes += line.len() as u64;
        bar.inc(1);
        Ok(())
    })
    .with_context(|| format!("write {}", args.out.display()))?;
    sink.flush().with_context(|| format!("write {}", args.out.display()))?;
    bar.finish();
    eprintln!("{} events, mean {:.0} B", args.events, bytes as f64 / args.events.max(1) as f64);
    Ok(ExitCode::SUCCESS)
}

fn run_scenario(args: &RunArgs) -> Result<ExitCode> {
    let mut scenario = Scenario::find(&args.scenario)?;
    scenario.apply(&Overrides {
        duration_s: args.duration,
        count: args.count,
        rate: args.rate,
        connections: args.connections,
        in_flight: args.in_flight,
    })?;
    let clock =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let options = run::Options {
        url: args.url.clone(),
        label: args.label.clone(),
        scenario,
        corpus: args.corpus.clone(),
        load: !args.no_load,
        watched: Watched { pids: args.pid.clone(), data: args.data.clone() },
        seed: args.seed.unwrap_or(clock % 1_000_000_007),
        sources: args.sources,
        stall: Duration::from_secs_f64(args.stall.max(0.1)),
        progress: !args.quiet,
    };
    let report = run::run(&options)?;
    print!("{}", table::render(&report));
    if let Some(path) = &args.json {
        write_text(&serde_json::to_string_pretty(&report)?, path)?;
    }
    if let Some(path) = &args.html {
        write_text(&html::render(&[&report]), path)?;
    }
    Ok(if report.violations() > 0 { ExitCode::from(EXIT_FAULTS) } else { ExitCode::SUCCESS })
}

fn compare_reports(args: &CompareArgs) -> Result<ExitCode> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str::<Report>(&text).with_context(|| format!("{} is not a report", path.display()))
    };
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    print!("{}", compare::render(&a, &b));
    if let Some(path) = &args.html {
        write_text(&html::render(&[&a, &b]), path)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_text(text: &str, path: &Path) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn list_scenarios(args: &ScenarioArgs) -> Result<ExitCode> {
    if let Some(name) = &args.name {
        let found = BUILTIN.iter().find(|(builtin, _)| builtin == name);
        let (_, text) = found.with_context(|| format!("no built-in scenario named {name}"))?;
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    for (name, text) in BUILTIN {
        println!("{name:<20} {}", Scenario::parse(text)?.about);
    }
    let shapes: Vec<&str> = crate::query::shape::ALL.iter().map(|shape| shape.name()).collect();
    println!("\nEach query shape is a scenario too: {}", shapes.join(", "));
    Ok(ExitCode::SUCCESS)
}
