//! Runs a matrix: every repeat lets each relay do each scenario in turn, every other repeat in reverse order.
//!
//! It must never let two relays run at the same time, and never let one work on the store of an earlier run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::plan::{self, Plan, slug};
use super::relay::RelayProcess;
use super::results::{Relay, Results, Run};
use super::{chart, page, sweep};
use crate::machine;
use crate::pace::duration;
use crate::report::Report;
use crate::run;
use crate::run::kill::Revival;
use crate::scenario::Scenario;

/// The options of a matrix.
#[derive(Clone, Debug)]
pub struct Options {
    /// The relays and their work.
    pub plan: Plan,
    /// Directory of the page, its charts and the reports of all runs.
    pub out: PathBuf,
    /// Directory of the relays' data, on the disk that is to be measured.
    pub work: PathBuf,
    /// Give up waiting this long after the last answer.
    pub stall: Duration,
    /// Print the progress on stderr.
    pub progress: bool,
}

/// A flag that Ctrl-C sets, also between two runs, when no run listens.
fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    std::thread::spawn(move || {
        // Without a runtime or a handler the system ends the process, and there is nothing to wait for.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    flag
}

/// The state of a running matrix.
struct Matrix<'a> {
    options: &'a Options,
    plan: &'a Plan,
    results: Results,
    interrupted: Arc<AtomicBool>,
    began: Instant,
    /// Relays that were started so far.
    started: usize,
    /// Runs that were made, and all of those whose number is known.
    runs: (usize, usize),
}

/// Runs everything and writes the page, its charts and the reports.
///
/// # Errors
/// If a relay does not start at all, or a file cannot be written. What happens later is a trouble on the page.
pub fn run(options: &Options) -> Result<Results> {
    for directory in [&options.out.join("runs"), &options.work] {
        std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let plan = &options.plan;
    let results = Results { title: plan.title.clone(), conditions: conditions(options), ..Results::default() };
    let runs = plan.relays.len() * (plan.repeats * plan.scenarios.len() + usize::from(plan.kill));
    let interrupted = interrupt_flag();
    let mut matrix = Matrix { options, plan, results, interrupted, began: Instant::now(), started: 0, runs: (0, runs) };
    for relay in &plan.relays {
        let relay = matrix.introduce(relay)?;
        matrix.results.relays.push(relay);
    }
    matrix.measure()?;
    let results = matrix.results;
    for (name, text) in chart::all(&results) {
        write(&options.out.join(name), &text)?;
    }
    write(&options.out.join("README.md"), &page::render(&results))?;
    Ok(results)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// What everything is measured on.
fn conditions(options: &Options) -> Vec<(String, String)> {
    let plan = &options.plan;
    let corpus = match &plan.corpus {
        Some(path) => path.display().to_string(),
        None => format!("{} generated events, seed {}", plan.events, plan.seed),
    };
    let in_flight = plan.max_in_flight.map_or("as the scenarios say".into(), |most| format!("at most {most}"));
    let all = [
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ("machine", machine::processor()),
        ("memory", machine::memory()),
        ("kernel", machine::kernel()),
        ("disk", machine::disk(&options.work)),
        ("load before", machine::load()),
        ("corpus", corpus),
        ("unanswered events of a connection", in_flight),
        ("repeats", plan.repeats.to_string()),
        ("loadtest", env!("CARGO_PKG_VERSION").to_string()),
    ];
    all.map(|(name, value)| (name.to_string(), value)).to_vec()
}

impl Matrix<'_> {
    fn measure(&mut self) -> Result<()> {
        for repeat in 0..self.plan.repeats {
            for scenario in &self.plan.scenarios {
                for relay in order(self.plan.relays.len(), repeat) {
                    self.repeat(scenario, relay, repeat)?;
                }
            }
        }
        for relay in 0..self.plan.relays.len() {
            if self.plan.kill && !self.is_interrupted() {
                self.results.relays[relay].kill = self.kill(relay)?;
            }
        }
        let plan = self.plan;
        for sweep in &plan.sweeps {
            let swept = sweep::run(sweep, plan.relays.len(), |relay, rate| {
                self.say(&format!("{} at {rate:.0} per second: {}", sweep.scenario, plan.relays[relay].name));
                self.run(relay, plan.scenario(&sweep.scenario, Some((rate, sweep.duration_s)))?, false)
            })?;
            self.results.sweeps.push(swept);
        }
        Ok(())
    }

    /// Starts a relay once, so that a wrong command is found before anything was measured, and asks for its version.
    fn introduce(&mut self, relay: &plan::Relay) -> Result<Relay> {
        self.start(relay)?.stop()?;
        let version = relay.version.as_ref().map(|command| {
            let output = Command::new("sh").args(["-c", command]).output();
            let output = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            output.lines().next().unwrap_or("unknown").to_string()
        });
        Ok(Relay {
            name: relay.name.clone(),
            version: version.unwrap_or_default(),
            settings: relay.settings.clone(),
            durability: relay.durability.clone(),
            kill: String::new(),
        })
    }

    fn start(&mut self, relay: &plan::Relay) -> Result<RelayProcess> {
        self.started += 1;
        RelayProcess::start(relay, &self.options.work, self.started)
    }

    fn repeat(&mut self, scenario: &str, relay: usize, repeat: usize) -> Result<()> {
        self.say(&format!("{scenario}: {}, repeat {}", self.plan.relays[relay].name, repeat + 1));
        let scenario = self.plan.scenario(scenario, None)?;
        let name = scenario.name.clone();
        let Some(report) = self.run(relay, scenario, false)? else { return Ok(()) };
        let file = format!("runs/{}-{}-{}.json", slug(&name), slug(&report.label), repeat + 1);
        write(&self.options.out.join(file), &serde_json::to_string_pretty(&report)?)?;
        let told = &mut self.results.relays[relay];
        if told.version.is_empty() {
            told.version.clone_from(&report.limits.software);
        }
        self.results.runs.push(Run { relay, repeat, report });
        Ok(())
    }

    /// Runs a scenario on a relay with an empty store. Nothing is run any more after the user has stopped the matrix.
    ///
    /// # Errors
    /// If files cannot be written or removed.
    fn run(&mut self, relay: usize, scenario: Scenario, kill: bool) -> Result<Option<Report>> {
        if self.is_interrupted() {
            return Ok(None);
        }
        let relay = &self.plan.relays[relay];
        let running = match self.start(relay) {
            Ok(running) => running,
            Err(error) => {
                self.results.troubles.push(format!("{}: {error:#}", scenario.name));
                return Ok(None);
            }
        };
        if self.is_interrupted() {
            return running.stop().map(|()| None);
        }
        let revival = kill.then(|| running.revival());
        let name = scenario.name.clone();
        let outcome = run::run(&self.run_options(&running, relay, scenario, revival));
        running.stop()?;
        self.runs.0 += 1;
        match outcome {
            Ok(report) => {
                if let Some(reason) = &report.incomplete {
                    self.results.interrupted |= reason.starts_with("interrupted");
                    self.results.troubles.push(format!("{name}, {}: {reason}", relay.name));
                }
                Ok(Some(report))
            }
            Err(error) => {
                self.results.troubles.push(format!("{name}, {}: {error:#}", relay.name));
                Ok(None)
            }
        }
    }

    /// Whether the user has stopped the matrix, during a run or between two.
    fn is_interrupted(&mut self) -> bool {
        self.results.interrupted |= self.interrupted.load(Ordering::Relaxed);
        self.results.interrupted
    }

    fn run_options(
        &self,
        running: &RelayProcess,
        relay: &plan::Relay,
        scenario: Scenario,
        revival: Option<Revival>,
    ) -> run::Options {
        run::Options {
            url: running.url.clone(),
            label: Some(relay.name.clone()),
            scenario,
            corpus: self.plan.corpus.clone(),
            load: true,
            watched: running.watched(),
            seed: self.plan.seed,
            connect: crate::wire::connect::Options::default(),
            stall: self.options.stall,
            exclusive: true,
            read_back: true,
            revival,
            progress: false,
        }
    }

    /// The outcome of the kill test in words.
    fn kill(&mut self, relay: usize) -> Result<String> {
        self.say(&format!("kill: {}", self.plan.relays[relay].name));
        let Some(report) = self.run(relay, self.plan.scenario("kill", None)?, true)? else {
            return Ok("not found out".into());
        };
        let file = format!("runs/kill-{}.json", slug(&report.label));
        write(&self.options.out.join(file), &serde_json::to_string_pretty(&report)?)?;
        let figure = |name: &str| report.phases.iter().filter_map(|phase| phase.figures.get(name)).sum::<f64>();
        let events = figure("read_back_events") + figure("read_back_private_events");
        let lost: u64 = report.phases.iter().filter_map(|phase| phase.violations.get("lost_event")).sum();
        self.results.lost_after_kill += lost;
        Ok(match (&report.incomplete, lost) {
            (Some(reason), _) => format!("not found out: {reason}"),
            (None, 0) => format!("all {events} events with an OK were there"),
            (None, lost) => format!("LOST {lost} of {events} events with an OK"),
        })
    }

    fn say(&self, text: &str) {
        let (done, all) = self.runs;
        if !self.options.progress || self.results.interrupted {
            return;
        }
        // How many rates a sweep takes is up to the relay, so these come last and are not counted.
        if done >= all {
            return eprintln!("[after {}] {text}", duration(self.began.elapsed().as_secs_f64()));
        }
        let left = (all - done) as f64 * self.began.elapsed().as_secs_f64() / done.max(1) as f64;
        let left = if done > 0 { format!(", about {} left", duration(left)) } else { String::new() };
        eprintln!("[{}/{all}{left}] {text}", done + 1);
    }
}

/// The numbers of the relays in the order of a repeat: who came first comes last the next time.
fn order(relays: usize, repeat: usize) -> Vec<usize> {
    if repeat.is_multiple_of(2) { (0..relays).collect() } else { (0..relays).rev().collect() }
}
