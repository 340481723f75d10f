//! Runs a scenario against a relay.
//!
//! It must never measure preparation: events, frames, queries and expected answers exist before a phase's clock starts.

mod asker;
mod connect;
mod fanout;
mod feeds;
mod meter;
mod mixed;
mod prepare;
mod progress;
mod publish;
mod publisher;
mod querier;
mod query;
mod subscriber;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::account::{Account, Violation};
use crate::corpus::library::Library;
use crate::process::Watched;
use crate::report::{PhaseReport, Report};
use crate::scenario::{Phase, Scenario};
use crate::wire::connect::{Target, connect};
use crate::wire::link::{Handler, Link, Traffic};
use prepare::Fresh;
use progress::Progress;

/// What to run.
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
    /// Source addresses on loopback.
    pub sources: usize,
    /// Give up waiting this long after the last answer.
    pub stall: Duration,
    /// Say on stderr what is being done.
    pub progress: bool,
}

/// What every phase works with.
struct Context {
    target: Target,
    library: Rc<Library>,
    /// Events of the corpus; what follows was signed for this run.
    corpus_len: u32,
    watched: Watched,
    traffic: Rc<Traffic>,
    seed: u64,
    stall: Duration,
    progress: bool,
    /// Number of the next connection, which chooses its source address.
    connection: Cell<usize>,
}

impl Context {
    fn say(&self, text: &str) {
        if self.progress {
            eprintln!("{text}");
        }
    }

    /// Opens a connection and gives it a reader task.
    async fn open<H: Handler + 'static>(
        &self,
        handler: Rc<RefCell<H>>,
        receive_buffer: Option<u32>,
    ) -> Result<Rc<Link>> {
        let number = self.connection.get();
        self.connection.set(number + 1);
        let upgraded = connect(&self.target, number, receive_buffer).await?;
        let (link, reader) = Link::new(upgraded, self.traffic.clone());
        tokio::task::spawn_local(reader.run(handler));
        Ok(link)
    }

    /// Opens one connection per state; one that fails is a fault, and nobody waits for it.
    async fn open_all<H: Handler + 'static>(
        &self,
        states: impl Iterator<Item = H>,
        account: &Account,
        progress: &Progress,
    ) -> Vec<Actor<H>> {
        let mut actors = Vec::new();
        for state in states {
            let state = Rc::new(RefCell::new(state));
            match self.open_or_note(&state, account).await {
                Some(link) => actors.push(Actor { link, state }),
                None => progress.finish(),
            }
        }
        actors
    }

    /// The same, with a failure counted as a fault.
    async fn open_or_note<H: Handler + 'static>(
        &self,
        handler: &Rc<RefCell<H>>,
        account: &Account,
    ) -> Option<Rc<Link>> {
        match self.open(handler.clone(), None).await {
            Ok(link) => Some(link),
            Err(error) => {
                account.note(Violation::FailedConnection, || format!("{error:#}"));
                None
            }
        }
    }
}

/// A connection and its state.
struct Actor<H> {
    link: Rc<Link>,
    state: Rc<RefCell<H>>,
}

/// Runs every phase in order, on one thread.
///
/// # Errors
/// If the corpus cannot be read, the relay cannot be reached at all, or `--pid` cannot be read. Faults of the relay are
/// no errors: they are in the report.
pub fn run(options: &Options) -> Result<Report> {
    crate::process::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run_phases(options))
}

async fn run_phases(options: &Options) -> Result<Report> {
    let mut target = Target::resolve(&options.url).await?;
    target.sources = options.sources.max(1);
    drop(connect(&target, 0, None).await.with_context(|| format!("reach {}", options.url))?);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let prepared = prepare::prepare(options, started)?;
    let corpus_len = prepared.corpus_len;
    let context = Context {
        target,
        library: Rc::new(prepared.library),
        corpus_len,
        watched: options.watched.clone(),
        traffic: Rc::new(Traffic::default()),
        seed: options.seed,
        stall: options.stall,
        progress: options.progress,
        connection: Cell::new(0),
    };
    let mut phases = Vec::new();
    let mut loaded = !options.load;
    for (phase, material) in options.scenario.phases.iter().zip(prepared.phases) {
        let (_, must_be_loaded) = phase.needs_corpus();
        if must_be_loaded && !loaded {
            context.say("loading the corpus (not measured; --no-load if the relay has it)");
            let load = publish::load(&context).await?;
            phases.extend(Some(load).filter(|load| !load.violations.is_empty()));
        }
        loaded |= must_be_loaded || matches!(phase, Phase::Publish(publish) if publish.sends_whole_corpus());
        context.say(&format!("phase: {}", phase.name()));
        let report = run_phase(&context, phase, material).await?;
        let silent = matches!(phase, Phase::Publish(publish) if !publish.report);
        if !silent || !report.violations.is_empty() {
            phases.push(report);
        }
    }
    let corpus = prepare::Size::of(&context.library, corpus_len);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_string(),
        scenario: options.scenario.name.clone(),
        about: options.scenario.about.clone(),
        url: options.url.clone(),
        label: options.label.clone().unwrap_or_else(|| options.url.clone()),
        started,
        seed: options.seed,
        machine: machine(),
        corpus_events: corpus.events,
        corpus_mean_bytes: corpus.mean_bytes,
        phases,
    })
}

async fn run_phase(context: &Context, phase: &Phase, material: prepare::Material) -> Result<PhaseReport> {
    let Fresh { first, count } = material.fresh;
    match phase {
        Phase::Publish(settings) => publish::run(context, settings, material.fresh).await,
        Phase::Query(settings) => query::run(context, settings, material.queries).await,
        Phase::Fanout(settings) => fanout::run(context, settings, first, count as usize).await,
        Phase::Connect(settings) => connect::run(context, settings).await,
        Phase::Mixed(settings) => mixed::run(context, settings, material).await,
    }
}

/// Processor model and number of cores.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{cores} x {model}")
}
