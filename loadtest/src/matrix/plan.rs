//! The file of a matrix: the relays, and the work they do.
//!
//! It must never fill in a key that the file misspells: an unknown key is an error that names it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::scenario::overrides::Overrides;
use crate::scenario::{CorpusSpec, Scenario};

/// A matrix file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Title of the page.
    #[serde(default = "title")]
    pub title: String,
    /// Names of scenarios, query shapes, or files; each is run by every relay on an empty store.
    #[serde(default = "scenarios")]
    pub scenarios: Vec<String>,
    /// How often each relay runs each scenario.
    #[serde(default = "repeats")]
    pub repeats: usize,
    /// A corpus file; without it one is generated.
    #[serde(default)]
    pub corpus: Option<PathBuf>,
    /// Events of the generated corpus.
    #[serde(default = "events")]
    pub events: u64,
    /// Seed of the corpus and of everything random, so that every relay does the same.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Replaces `duration_s` of every phase.
    #[serde(default)]
    pub duration_s: Option<f64>,
    /// Replaces `count` of every phase.
    #[serde(default)]
    pub count: Option<usize>,
    /// Most unanswered events of a connection, in every scenario.
    #[serde(default)]
    pub max_in_flight: Option<usize>,
    /// Kill each relay once while it takes events, start it again and look for everything that got an OK.
    #[serde(default = "kill")]
    pub kill: bool,
    /// Rates to find the knee of.
    #[serde(default, rename = "sweep")]
    pub sweeps: Vec<Sweep>,
    /// The relays; ratios are relative to the first.
    #[serde(rename = "relay")]
    pub relays: Vec<Relay>,
}

/// A scenario at rising rates, until the relay does not keep up.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// A scenario with one reported phase.
    pub scenario: String,
    /// First rate, per second.
    #[serde(default = "from")]
    pub from: f64,
    /// Last rate.
    #[serde(default = "to")]
    pub to: f64,
    /// Each rate is the one before times this.
    #[serde(default = "factor")]
    pub factor: f64,
    /// Seconds at each rate.
    #[serde(default = "duration_s")]
    pub duration_s: f64,
    /// The knee is the last rate with a 99th percentile below this.
    #[serde(default = "p99_ms")]
    pub p99_ms: f64,
}

/// One relay.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Its name on the page.
    pub name: String,
    /// A command of sh that runs it in the foreground; `{port}` is where it must listen, `{dir}` an empty directory.
    pub command: String,
    /// A command that is run first, with the same two; it may write a configuration file into `{dir}`.
    #[serde(default)]
    pub prepare: Option<String>,
    /// A command whose first line of output is the relay's version.
    #[serde(default)]
    pub version: Option<String>,
    /// Its address.
    #[serde(default = "url")]
    pub url: String,
    /// What differs from its defaults, in words.
    #[serde(default)]
    pub settings: String,
    /// What it promises before its OK, in words.
    #[serde(default)]
    pub durability: String,
    /// How many seconds it may take to listen.
    #[serde(default = "start_s")]
    pub start_s: f64,
}

fn title() -> String {
    "Relays side by side".into()
}
fn scenarios() -> Vec<String> {
    ["publish-new", "publish-duplicate", "queries", "fanout-burst", "mixed"].map(String::from).to_vec()
}
fn repeats() -> usize {
    3
}
fn events() -> u64 {
    50_000
}
fn seed() -> u64 {
    1
}
fn kill() -> bool {
    true
}
fn from() -> f64 {
    500.0
}
fn to() -> f64 {
    100_000.0
}
fn factor() -> f64 {
    1.5
}
fn duration_s() -> f64 {
    3.0
}
fn p99_ms() -> f64 {
    100.0
}
fn url() -> String {
    "ws://127.0.0.1:{port}".into()
}
fn start_s() -> f64 {
    30.0
}

impl Plan {
    /// Reads a matrix file.
    ///
    /// # Errors
    /// If it cannot be read, has an unknown key or a value out of range.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    /// Reads the text of a matrix file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text)?;
        ensure!(!plan.relays.is_empty(), "a matrix needs at least one [[relay]]");
        ensure!(plan.repeats > 0, "`repeats` must be at least 1");
        ensure!(plan.max_in_flight != Some(0), "`max_in_flight` must be at least 1");
        let slugs: BTreeSet<String> = plan.relays.iter().map(|relay| slug(&relay.name)).collect();
        ensure!(!slugs.contains(""), "a relay needs a `name` with a letter or a digit");
        ensure!(slugs.len() == plan.relays.len(), "two relays have the same `name`");
        for relay in &plan.relays {
            ensure!(relay.start_s > 0.0, "{}: `start_s` must be above 0", relay.name);
        }
        for sweep in &plan.sweeps {
            let name = &sweep.scenario;
            ensure!(sweep.factor > 1.0, "sweep {name}: `factor` must be above 1");
            ensure!(sweep.from > 0.0 && sweep.from <= sweep.to, "sweep {name}: `from` must be above 0, and below `to`");
            ensure!(sweep.duration_s > 0.0 && sweep.p99_ms > 0.0, "sweep {name}: its numbers must be above 0");
        }
        for name in plan.scenarios.iter().chain(plan.sweeps.iter().map(|sweep| &sweep.scenario)) {
            ensure!(!plan.scenario(name, None)?.kills(), "{name}: the key `kill` does this for every relay");
        }
        Ok(plan)
    }

    /// A scenario of this plan, at another rate where there is one.
    ///
    /// # Errors
    /// If there is no such scenario, or a value is out of range for it.
    pub fn scenario(&self, name: &str, rate: Option<(f64, f64)>) -> Result<Scenario> {
        let mut scenario = Scenario::find(name)?;
        scenario.corpus = CorpusSpec { events: self.events, seed: Some(self.seed) };
        scenario.max_in_flight = self.max_in_flight.or(scenario.max_in_flight);
        let duration_s = rate.map(|(_, duration_s)| duration_s).or(self.duration_s);
        let count = self.count.filter(|_| rate.is_none());
        let rate = rate.map(|(rate, _)| rate);
        scenario.apply(&Overrides { duration_s, count, rate, ..Overrides::default() })?;
        Ok(scenario)
    }
}

/// A name as a part of file names: its words in lower case.
pub fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[[relay]]\nname = \"a\"\ncommand = \"relay --port {port} --data {dir}\"\n";

    #[test]
    fn a_relay_needs_a_name_and_a_command_and_nothing_else() {
        let plan = Plan::parse(MINIMAL).expect("valid");
        assert_eq!((plan.repeats, plan.kill, plan.relays[0].url.as_str()), (3, true, "ws://127.0.0.1:{port}"));
        assert_eq!(
            plan.scenario("by-id", None).expect("built in").corpus,
            CorpusSpec { events: 50_000, seed: Some(1) }
        );
    }

    #[test]
    fn a_bound_on_unanswered_events_holds_for_every_scenario_of_the_plan() {
        let plan = Plan::parse(&format!("max_in_flight = 5\n{MINIMAL}")).expect("valid");
        let bounds = ["mixed", "by-id", "kill"].map(|name| plan.scenario(name, None).expect("built in").max_in_flight);
        assert_eq!(bounds, [Some(5); 3]);
    }

    #[test]
    fn the_example_is_a_matrix_of_four_relays() {
        let plan = Plan::parse(include_str!("../../relays.example.toml")).expect("valid");
        let names: Vec<&str> = plan.relays.iter().map(|relay| relay.name.as_str()).collect();
        assert_eq!(names, ["weir", "weir, relaxed", "strfry", "rnostr"]);
        let mut texts = plan.relays.iter().map(|relay| format!("{}{:?}", relay.command, relay.prepare));
        assert!(texts.all(|text| text.contains("{port}") && text.contains("{dir}")));
    }

    #[test]
    fn what_a_file_must_not_say_is_an_error_that_names_it() {
        let error = |text: String| format!("{:#}", Plan::parse(&text).expect_err("must not be accepted"));
        assert!(error(format!("repeat = 2\n{MINIMAL}")).contains("repeat"));
        assert_eq!(error(format!("repeats = 0\n{MINIMAL}")), "`repeats` must be at least 1");
        assert_eq!(error(format!("max_in_flight = 0\n{MINIMAL}")), "`max_in_flight` must be at least 1");
        let twice = format!("{MINIMAL}{}", MINIMAL.replace("\"a\"", "\"(A)\""));
        assert_eq!(error(twice), "two relays have the same `name`");
        assert!(error(format!("scenarios = [\"by-ID\"]\n{MINIMAL}")).starts_with("no scenario named by-ID"));
        assert!(error(format!("scenarios = [\"kill\"]\n{MINIMAL}")).starts_with("kill: the key `kill`"));
        let sweep = "[[sweep]]\nscenario = \"query-mix\"\nfactor = 1.0\n";
        assert_eq!(error(format!("{sweep}{MINIMAL}")), "sweep query-mix: `factor` must be above 1");
    }
}
