//! The command line: `corpus`, `run`, `compare`, `scenarios`.
//!
//! It must never hold any logic: it turns arguments into options, and results into files and an exit code.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::corpus;
use crate::process::Watched;
use crate::report::threshold::Threshold;
use crate::report::{Report, compare, html, table};
use crate::run;
use crate::scenario::overrides::Overrides;
use crate::scenario::phase::Phase;
use crate::scenario::{BUILTIN, Scenario};

/// The relay made no mistakes.
const EXIT_RIGHT: u8 = 0;
/// The run could not be started or finished.
const EXIT_ERROR: u8 = 1;
/// The relay lost, repeated or falsified something.
const EXIT_FAULTS: u8 = 3;
/// A figure is beyond a threshold (`--fail-if`).
const EXIT_THRESHOLD: u8 = 4;
/// Ctrl-C ended the run; the code that shells use for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

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

Exit codes, the first that applies:
  3    the relay lost, repeated or falsified something
  130  Ctrl-C ended the run; the report has the phases that were run
  1    the run could not be started, or the relay died during it
  2    wrong arguments
  4    a figure is beyond a --fail-if threshold
  0    none of these; deviations from a NIP's \"should\" and refusals that the relay announces do not count";

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
    /// Do not load the corpus before query and duplicate phases, because the relay already holds it
    #[arg(long)]
    no_load: bool,
    /// Processes of the relay on this machine, to measure CPU and memory (Linux); includes their children
    #[arg(long, value_name = "PID[ PID...]", value_parser = pids)]
    pid: Vec<Pids>,
    /// Data directory of the relay, to measure disk growth; requires --pid
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
    /// Treat every event that is not of this run as a fault
    #[arg(long)]
    exclusive: bool,
    /// Do not read published events back
    #[arg(long)]
    no_read_back: bool,
    /// Exit with 4 if a figure is beyond this, e.g. "p99>5ms" or "by-id: relay_us>12"; repeat it for several
    #[arg(long, value_name = "[PHASE:]FIGURE>NUMBER")]
    fail_if: Vec<Threshold>,
    /// Give up on a phase after this long without an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    stall: f64,
    /// Write the report as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as one HTML page
    #[arg(long)]
    html: Option<PathBuf>,
    /// Write a JSON file for each of the first faults: the frames to send, the smallest filter, missing and extra ids
    #[arg(long, value_name = "DIR")]
    replays: Option<PathBuf>,
    /// Print only the result, no progress on stderr
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
    /// Print this built-in scenario or query shape as a file
    name: Option<String>,
}

/// The process ids of one `--pid`, as `pidof` prints them.
type Pids = Vec<u32>;

fn pids(text: &str) -> Result<Pids, String> {
    let pids: Result<Pids, String> = text
        .split([' ', ',', '\n'])
        .filter(|pid| !pid.is_empty())
        .map(|pid| pid.parse().map_err(|_| format!("{pid:?} is not a process id")))
        .collect();
    pids.and_then(|pids| if pids.is_empty() { Err("no process id; does the relay run?".into()) } else { Ok(pids) })
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    ExitCode::from(execute(Cli::parse().command))
}

/// Runs a command; returns the exit code.
fn execute(command: Command) -> u8 {
    let outcome = match command {
        Command::Corpus(args) => write_corpus(&args),
        Command::Run(args) => run_scenario(&args),
        Command::Compare(args) => compare_reports(&args),
        Command::Scenarios(args) => list_scenarios(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        EXIT_ERROR
    })
}

fn write_corpus(args: &CorpusArgs) -> Result<u8> {
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
    Ok(EXIT_RIGHT)
}

fn run_scenario(args: &RunArgs) -> Result<u8> {
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
        watched: Watched { pids: args.pid.concat(), data: args.data.clone() },
        seed: args.seed.unwrap_or(clock % 1_000_000_007),
        sources: args.sources,
        stall: Duration::from_secs_f64(args.stall.max(0.1)),
        exclusive: args.exclusive,
        read_back: !args.no_read_back,
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
    if let Some(directory) = &args.replays {
        write_replays(&report, directory)?;
    }
    exit_code(&report, &args.fail_if)
}

/// Writes `PHASE-FINDING-N.json` for each replay; phases are numbered from 1.
fn write_replays(report: &Report, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    for (phase, report) in report.phases.iter().enumerate() {
        for (number, replay) in report.replays.iter().enumerate() {
            let name = format!("{}-{}-{number}.json", phase + 1, replay.finding);
            write_text(&serde_json::to_string_pretty(replay)?, &directory.join(name))?;
        }
    }
    Ok(())
}

/// The exit code of a run. Faults take precedence: a run that was cut short may have found one.
fn exit_code(report: &Report, thresholds: &[Threshold]) -> Result<u8> {
    if report.violations() > 0 {
        return Ok(EXIT_FAULTS);
    }
    match &report.incomplete {
        Some(reason) if reason.starts_with("interrupted") => return Ok(EXIT_INTERRUPTED),
        Some(_) => return Ok(EXIT_ERROR),
        None => {}
    }
    let mut exceeded = Vec::new();
    for threshold in thresholds {
        exceeded.extend(threshold.check(report)?);
    }
    exceeded.iter().for_each(|text| eprintln!("beyond the threshold: {text}"));
    Ok(if exceeded.is_empty() { EXIT_RIGHT } else { EXIT_THRESHOLD })
}

fn compare_reports(args: &CompareArgs) -> Result<u8> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str::<Report>(&text).with_context(|| format!("{} is not a report", path.display()))
    };
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    print!("{}", compare::render(&a, &b));
    if let Some(path) = &args.html {
        write_text(&html::render(&[&a, &b]), path)?;
    }
    Ok(EXIT_RIGHT)
}

fn write_text(text: &str, path: &Path) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn list_scenarios(args: &ScenarioArgs) -> Result<u8> {
    if let Some(name) = &args.name {
        print!(
            "{}",
            Scenario::text(name).with_context(|| format!("no built-in scenario or query shape named {name}"))?
        );
        return Ok(EXIT_RIGHT);
    }
    for (name, text) in BUILTIN {
        let scenario = Scenario::parse(text)?;
        let known: f64 = scenario.phases.iter().filter_map(Phase::seconds).sum();
        let length = if known > 0.0 { run::duration(known) } else { String::new() };
        println!("{name:<20} {length:>7}  {}", scenario.about);
    }
    println!("\nThe time is that of the phases with a set length, without loading the corpus.");
    let shapes: Vec<&str> = crate::query::shape::ALL.iter().map(|shape| shape.name()).collect();
    println!("Each query shape is a scenario too: {}", shapes.join(", "));
    Ok(EXIT_RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_relay::{Fault, start};

    /// The exit code of a command line.
    fn code(line: &str, more: &[&str]) -> u8 {
        let arguments = line.split_whitespace().chain(more.iter().copied());
        let cli = Cli::try_parse_from(std::iter::once("loadtest").chain(arguments));
        cli.map_or_else(|error| error.exit_code() as u8, |cli| execute(cli.command))
    }

    fn run(fault: Fault, more: &[&str]) -> u8 {
        let file = std::env::temp_dir().join(format!("loadtest-cli-{}-{fault:?}.toml", std::process::id()));
        let scenario = "name = \"x\"\nabout = \"\"\ncorpus = { events = 50 }\n[[phase]]\nwork = \"publish\"\n\
                        [[phase]]\nwork = \"publish\"\nexpect = \"duplicate\"\n";
        std::fs::write(&file, scenario).expect("a temporary file");
        let line = format!("run -q --stall 0.4 --url {} --scenario {}", start(fault), file.display());
        let code = code(&line, more);
        std::fs::remove_file(&file).expect("the same file");
        code
    }

    #[test]
    fn the_exit_code_tells_faults_thresholds_and_failures_apart() {
        assert_eq!(run(Fault::None, &["--pid", &std::process::id().to_string()]), EXIT_RIGHT);
        assert_eq!(run(Fault::DuplicateAsNew, &[]), EXIT_RIGHT);
        assert_eq!(run(Fault::Refuse(10), &["--fail-if", "p99>0us"]), EXIT_FAULTS);
        assert_eq!(run(Fault::Greet, &["--fail-if", "p99>0us"]), EXIT_THRESHOLD);
        assert_eq!(run(Fault::Loose, &["--fail-if", "deviations>1000", "--fail-if", "p99>100s"]), EXIT_RIGHT);
        assert_eq!(run(Fault::RefuseOlder, &["--fail-if", "p98>1"]), EXIT_ERROR);
        assert_eq!(code("run --url ws://127.0.0.1:1 --scenario smoke", &[]), EXIT_ERROR);
        assert_eq!(code("run --url ws://127.0.0.1:1", &[]), 2);
        assert_eq!(code("run --url x --scenario smoke --fail-if", &["p99"]), 2);
    }

    #[test]
    fn an_incomplete_run_is_told_from_an_interrupted_one_and_a_fault_from_both() {
        let report = |reason: &str| Report { incomplete: Some(reason.into()), ..Report::default() };
        let code = |report: &Report| exit_code(report, &[]).expect("no threshold");
        assert_eq!(code(&report("interrupted before the phase x")), EXIT_INTERRUPTED);
        assert_eq!(code(&report("the relay is gone")), EXIT_ERROR);
        let phase = crate::report::PhaseReport { violations: [("missing_ok".into(), 1)].into(), ..Default::default() };
        assert_eq!(code(&Report { phases: vec![phase], ..report("the relay is gone") }), EXIT_FAULTS);
    }

    #[test]
    fn each_of_the_first_faults_has_a_replay_file() {
        let directory = std::env::temp_dir().join(format!("loadtest-replays-{}", std::process::id()));
        assert_eq!(run(Fault::StoreNothing, &["--replays", &directory.display().to_string()]), EXIT_FAULTS);
        let text = std::fs::read_to_string(directory.join("1-lost_event-0.json")).expect("the first fault's file");
        std::fs::remove_dir_all(&directory).expect("the same directory");
        let replay: crate::account::Replay = serde_json::from_str(&text).expect("its own form");
        assert_eq!((replay.finding.as_str(), replay.frames.len()), ("lost_event", 1));
        assert!(replay.frames[0].contains(&replay.missing[0]), "{replay:?}");
        let filter = format!(r#"{{"ids":["{}"]}}"#, replay.missing[0]);
        assert_eq!(replay.smallest_filter, filter);
    }

    #[test]
    fn process_ids_are_taken_as_pidof_prints_them() {
        assert_eq!(pids("12 345"), Ok(vec![12, 345]));
        assert_eq!(pids("7\n"), Ok(vec![7]));
        assert_eq!(pids(""), Err("no process id; does the relay run?".into()));
        assert_eq!(pids("12 x"), Err("\"x\" is not a process id".into()));
    }
}
