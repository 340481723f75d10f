//! The command line: `corpus`, `run`, `compare`, `matrix`, `scenarios`.
//!
//! It must never hold any logic: it turns arguments into options, and results into files and an exit code.

mod arguments;
#[cfg(test)]
mod tests;

use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::corpus;
use crate::matrix::plan::Plan;
use crate::matrix::{self, results::Results};
use crate::pace::duration;
use crate::process::Watched;
use crate::report::threshold::Threshold;
use crate::report::{Report, compare, html, table};
use crate::run::{self, kill::Revival};
use crate::scenario::overrides::Overrides;
use crate::scenario::phase::Phase;
use crate::scenario::{BUILTIN, Scenario};
use crate::wire::connect;
use arguments::{Cli, Command, CompareArgs, CorpusArgs, MatrixArgs, RunArgs, ScenarioArgs};

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
        Command::Matrix(args) => run_matrix(&args),
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
    let revival = args.kill.clone().zip(args.restart.clone()).map(|(pids, command)| Revival { pids, command });
    if revival.is_some() {
        scenario.end_with_kill()?;
    }
    scenario.max_in_flight = args.max_in_flight.map(NonZeroUsize::get).or(scenario.max_in_flight);
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
        connect: connect::Options {
            sources: args.sources,
            deflate: args.deflate,
            auth: args.auth.clone(),
            authorities: args.ca.clone(),
        },
        stall: Duration::from_secs_f64(args.stall.max(0.1)),
        exclusive: args.exclusive,
        read_back: !args.no_read_back,
        revival,
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

fn run_matrix(args: &MatrixArgs) -> Result<u8> {
    let options = matrix::run::Options {
        plan: Plan::read(&args.plan)?,
        out: args.out.clone(),
        work: args.work.clone().unwrap_or_else(|| args.out.join("work")),
        stall: Duration::from_secs_f64(args.stall.max(0.1)),
        progress: !args.quiet,
    };
    let results = matrix::run::run(&options)?;
    results.troubles.iter().for_each(|trouble| eprintln!("not measured: {trouble}"));
    println!("{}", args.out.join("README.md").display());
    Ok(matrix_exit_code(&results))
}

/// The exit code of a matrix, as that of a run.
fn matrix_exit_code(results: &Results) -> u8 {
    match results {
        results if results.faults() > 0 => EXIT_FAULTS,
        Results { interrupted: true, .. } => EXIT_INTERRUPTED,
        results if !results.troubles.is_empty() => EXIT_ERROR,
        _ => EXIT_RIGHT,
    }
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
        let length = if known > 0.0 { duration(known) } else { String::new() };
        println!("{name:<20} {length:>7}  {}", scenario.about);
    }
    println!("\nThe time is that of the phases with a set length, without loading the corpus.");
    let shapes: Vec<&str> = crate::query::shape::ALL.iter().map(|shape| shape.name()).collect();
    println!("Each query shape is a scenario too: {}", shapes.join(", "));
    Ok(EXIT_RIGHT)
}
