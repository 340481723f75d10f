//! Runs a scenario against a relay.
//!
//! It must never measure preparation: events, frames, queries and expected answers exist before a phase's clock starts.

mod asker;
mod bodies;
mod connect;
#[cfg(test)]
mod connection_tests;
mod context;
mod fanout;
mod feeds;
mod holdings;
mod interrupt;
pub mod kill;
mod meter;
mod mixed;
mod prepare;
mod progress;
mod publish;
mod publisher;
mod querier;
mod query;
mod read_back;
#[cfg(test)]
mod second_tests;
mod subscriber;
#[cfg(test)]
mod tests;
mod ticker;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::limits::Limits;
use crate::machine;
use crate::pace::duration;
use crate::process::Watched;
use crate::report::{PhaseReport, Report};
use crate::scenario::Scenario;
use crate::scenario::phase::Phase;
use crate::wire::codec::Codec;
use crate::wire::connect::{self as wire, Deflate, Target, connect};
use crate::wire::information;
use crate::wire::link::Traffic;
use bodies::Bodies;
use context::Context;
use holdings::Holdings;
use kill::Revival;
use prepare::{Material, Prepared};

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ws://…`
    pub url: String,
    /// Name for reports.
    pub label: Option<String>,
    /// With overrides applied.
    pub scenario: Scenario,
    /// A corpus file; generated if absent.
    pub corpus: Option<PathBuf>,
    /// Send the corpus first when a phase needs it in the relay.
    pub load: bool,
    /// The relay's processes and data.
    pub watched: Watched,
    /// Seed of the run.
    pub seed: u64,
    /// How connections are made.
    pub connect: wire::Options,
    /// Give up waiting this long after the last answer.
    pub stall: Duration,
    /// The relay holds only events of this run: any other event is a fault.
    pub exclusive: bool,
    /// Read everything back after it was published, and compare it.
    pub read_back: bool,
    /// For a phase that kills the relay.
    pub revival: Option<Revival>,
    /// Print the progress on stderr.
    pub progress: bool,
}

/// Runs every phase in order, on one thread.
///
/// # Errors
/// If the corpus cannot be read, the relay cannot be reached at the start, or `--pid` cannot be read. Faults of the
/// relay are no errors, and neither is a relay that dies: they are in the report, with every phase that was finished.
pub fn run(options: &Options) -> Result<Report> {
    crate::process::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run_phases(options))
}

async fn run_phases(options: &Options) -> Result<Report> {
    ensure!(
        options.scenario.kills() == options.revival.is_some(),
        "--kill and --restart are for a scenario that kills the relay, and it needs both"
    );
    if let Some(revival) = &options.revival {
        revival.check()?;
    }
    let mut target = Target::resolve(&options.url, &options.connect).await?;
    let codec = connect(&target, 0, None).await.with_context(|| format!("reach {}", options.url))?.codec;
    if codec.deflate {
        target.deflate = Deflate::Agreed;
    }
    let manner = target.manner(codec);
    options.watched.snapshot()?;
    let document = information::read(&target).await;
    let limits = Limits::of(&document.unwrap_or_default());
    let started = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let input = prepare::PrepareInput {
        scenario: &options.scenario,
        corpus: options.corpus.as_deref(),
        seed: options.seed,
        limits: &limits,
        now: started,
        codec,
    };
    let Prepared { library, corpus_len, skipped, phases: materials } = prepare::prepare(input)?;
    let context = context(options, (target, codec), limits.clone(), library, corpus_len);
    skipped.examples.iter().for_each(|example| context.say(&format!("skipped: {example}")));
    let mut phases = Vec::new();
    let incomplete = run_all(&context, options, materials, &mut phases).await;
    let corpus = prepare::Size::of(&context.library, corpus_len);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_string(),
        scenario: options.scenario.name.clone(),
        about: options.scenario.about.clone(),
        url: options.url.clone(),
        label: options.label.clone().unwrap_or_else(|| options.url.clone()),
        started,
        seed: options.seed,
        machine: machine::processor(),
        connection: manner,
        limits,
        corpus_events: corpus.events,
        corpus_mean_bytes: corpus.mean_bytes,
        corpus_fingerprint: corpus.fingerprint,
        corpus_skipped: skipped.reasons,
        incomplete,
        phases,
    })
}

fn context(
    options: &Options,
    (target, codec): (Target, Codec),
    limits: Limits,
    library: crate::corpus::library::Library,
    corpus_len: u32,
) -> Context {
    let library = Rc::new(library);
    let held = if options.load { 0 } else { corpus_len as usize };
    Context {
        target,
        codec,
        limits: Rc::new(limits),
        max_in_flight: options.scenario.max_in_flight.unwrap_or(usize::MAX),
        corpus_len,
        holdings: Rc::new(Holdings::new(library.len(), held)),
        bodies: Bodies::new(library.clone()),
        library,
        verifier: Rc::default(),
        watched: options.watched.clone(),
        traffic: Rc::new(Traffic::default()),
        seed: options.seed,
        stall: options.stall,
        exclusive: options.exclusive,
        read_back: options.read_back,
        revival: options.revival.clone(),
        progress: options.progress,
        stop: Rc::default(),
        connection: Cell::new(0),
    }
}

/// Runs the phases in order. Returns why the run ended early: the user stopped it, or the relay is gone.
async fn run_all(
    context: &Context,
    options: &Options,
    materials: Vec<Material>,
    phases: &mut Vec<PhaseReport>,
) -> Option<String> {
    let second = interrupt::watch(&context.stop);
    let mut loaded = !options.load;
    let scenario = &options.scenario;
    let known: f64 = scenario.phases.iter().filter_map(Phase::seconds).sum();
    if known > 0.0 {
        context.say(&format!("{}: at least {} in all", scenario.name, duration(known)));
    }
    for (number, (phase, material)) in scenario.phases.iter().zip(materials).enumerate() {
        let name = phase.name();
        if context.stop.is_set() {
            return Some(format!("interrupted before the phase {name}"));
        }
        if let Err(error) = connect(&context.target, 0, None).await {
            return Some(format!("the relay is gone before the phase {name}: {error:#}"));
        }
        let length = phase.seconds().map_or(String::new(), |seconds| format!(", about {}", duration(seconds)));
        let later: f64 = scenario.phases[number + 1..].iter().filter_map(Phase::seconds).sum();
        let later = if later > 0.0 { format!(", then {} or more", duration(later)) } else { String::new() };
        let place = format!("phase {} of {}: {name}{length}{later}", number + 1, scenario.phases.len());
        let (_, must_be_loaded) = phase.needs_corpus();
        let load = must_be_loaded && !loaded;
        loaded |= must_be_loaded || matches!(phase, Phase::Publish(publish) if publish.sends_whole_corpus());
        tokio::select! {
            outcome = run_one(context, phase, material, load, &place, phases) => if let Err(error) = outcome {
                return Some(format!("phase {name}: {error:#}"));
            },
            () = second.notified() => {
                return Some(format!("interrupted in the phase {name}, which is not reported"));
            }
        }
    }
    context.stop.is_set().then(|| "interrupted: the last phase was cut short".to_string())
}

/// Loads the corpus if the phase needs it, runs the phase and reads its published events back.
async fn run_one(
    context: &Context,
    phase: &Phase,
    material: Material,
    load: bool,
    place: &str,
    phases: &mut Vec<PhaseReport>,
) -> Result<()> {
    if load {
        context.say("loading the corpus (not measured; --no-load if the relay has it)");
        let mut report = publish::load(context).await?;
        read_back::check(context, &mut report).await?;
        if report.has_findings() {
            phases.push(report);
        }
    }
    context.say(place);
    let fitted = material.fitted.iter().cloned().collect();
    let mut report = match phase {
        Phase::Publish(settings) => publish::run(context, settings, material.fresh).await,
        Phase::Query(settings) => query::run(context, settings, material.queries).await,
        Phase::Fanout(settings) => fanout::run(context, settings, material.fresh).await,
        Phase::Connect(settings) => connect::run(context, settings).await,
        Phase::Mixed(settings) => mixed::run(context, settings, material).await,
    }?;
    report.fitted = fitted;
    let outcome = match &context.revival {
        Some(revival) if phase.kills() => revive(context, revival, &mut report).await,
        _ => read_back::check(context, &mut report).await,
    };
    let silent = matches!(phase, Phase::Publish(publish) if !publish.report);
    if !silent || report.has_findings() {
        phases.push(report);
    }
    outcome
}

/// Starts the killed relay again and reads back everything that got an OK in the run.
async fn revive(context: &Context, revival: &Revival, report: &mut PhaseReport) -> Result<()> {
    context.say("the relay is killed; starting it again");
    let took = revival.restart(&context.target).await?;
    report.figures.insert("ok_before_kill_events".into(), report.units as f64);
    report.figures.insert("restart_s".into(), took.as_secs_f64());
    context.holdings.forget_reading();
    read_back::check(context, report).await
}
