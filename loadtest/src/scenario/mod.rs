//! Scenarios: TOML files that name the phases of a run. The built-in ones are files of the same form.
//!
//! It must never fill in a key that the file misspells: an unknown key is an error that names it.

mod check;
pub mod overrides;
pub mod phase;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::query::shape::Shape;
use check::check;
use overrides::Overrides;
use phase::{Phase, Query};

/// A scenario file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, used in reports.
    pub name: String,
    /// One or two sentences: what it models and what its figures mean.
    pub about: String,
    /// Most unanswered events of a connection, in every phase and while the corpus is loaded.
    #[serde(default)]
    pub max_in_flight: Option<usize>,
    /// The events to generate when no `--corpus` is given.
    #[serde(default)]
    pub corpus: CorpusSpec,
    /// The phases, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// What to generate when no corpus file is given.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusSpec {
    /// How many events.
    pub events: u64,
    /// Seed; the run's own seed if absent.
    pub seed: Option<u64>,
}

impl Default for CorpusSpec {
    fn default() -> Self {
        Self { events: 20_000, seed: None }
    }
}

macro_rules! builtin {
    ($($name:literal),* $(,)?) => {
        /// The built-in scenarios: name and file.
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

builtin!(
    "publish-new",
    "publish-duplicate",
    "publish-one",
    "queries",
    "query-mix",
    "fanout-few-to-many",
    "fanout-burst",
    "follow-feeds",
    "connect-idle",
    "slow-readers",
    "mixed",
    "soak",
    "smoke",
    "kill",
);

impl Scenario {
    /// A built-in name, a query shape, or a path.
    ///
    /// # Errors
    /// If there is no such scenario or the file is not valid.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) {
            return Self::parse(text).with_context(|| format!("built-in scenario {name}"));
        }
        if let Some(&shape) = crate::query::shape::ALL.iter().find(|shape| shape.name() == name) {
            return Ok(Self::of_shape(shape));
        }
        if !Path::new(name).exists() {
            let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
            bail!("no scenario named {name}, and no such file; built in: {}, or a query shape", names.join(", "));
        }
        let text = std::fs::read_to_string(name).with_context(|| format!("read {name}"))?;
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    /// The file of a built-in scenario, or of a query shape as one; `None` if there is neither of this name.
    pub fn text(name: &str) -> Option<String> {
        if let Some((_, text)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) {
            return Some(text.to_string());
        }
        let &shape = crate::query::shape::ALL.iter().find(|shape| shape.name() == name)?;
        Some(toml::to_string(&Self::of_shape(shape)).expect("strings, numbers and tables can be written as TOML"))
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// With line and column for a syntax error, an unknown key or a value out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        ensure!(!scenario.phases.is_empty(), "a scenario needs at least one [[phase]]");
        for phase in &scenario.phases {
            check(phase).with_context(|| format!("phase {}", phase.name()))?;
        }
        let before_last = &scenario.phases[..scenario.phases.len() - 1];
        ensure!(!before_last.iter().any(Phase::kills), "only the last phase can have `kill`");
        ensure!(scenario.max_in_flight != Some(0), "`max_in_flight` must be at least 1");
        Ok(scenario)
    }

    /// Replaces values by those of the command line.
    ///
    /// # Errors
    /// If a value is out of range for a phase.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<()> {
        self.phases.iter_mut().try_for_each(|phase| overrides.apply(phase))
    }

    /// Whether its last phase kills the relay.
    pub fn kills(&self) -> bool {
        self.phases.iter().any(Phase::kills)
    }

    /// Ends with a phase that kills the relay, if no phase does so yet.
    ///
    /// # Errors
    /// Never, as long as the built-in scenario `kill` is valid.
    pub fn end_with_kill(&mut self) -> Result<()> {
        if !self.kills() {
            self.phases.extend(Self::find("kill")?.phases);
        }
        Ok(())
    }

    fn of_shape(shape: Shape) -> Self {
        let query = Query { name: shape.name().into(), shapes: BTreeMap::from([(shape, 1)]), ..Query::default() };
        Self {
            name: shape.name().into(),
            about: "One query shape, one REQ at a time on each of eight connections.".into(),
            max_in_flight: None,
            corpus: CorpusSpec::default(),
            phases: vec![Phase::Query(query)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::phase::Publish;
    use super::*;

    const MINIMAL: &str = "name = \"x\"\nabout = \"y\"\n[[phase]]\nwork = \"publish\"\n";

    #[test]
    fn every_built_in_scenario_is_valid_and_named_as_its_file() {
        for (name, text) in BUILTIN {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(scenario.name, *name);
        }
    }

    #[test]
    fn every_name_that_can_be_run_can_be_printed_and_means_the_same() {
        let names = BUILTIN.iter().map(|(name, _)| *name);
        for name in names.chain(crate::query::shape::ALL.iter().map(|shape| shape.name())) {
            let text = Scenario::text(name).unwrap_or_else(|| panic!("{name} cannot be printed"));
            assert_eq!(Scenario::parse(&text).expect("its own form"), Scenario::find(name).expect("it can be run"));
        }
        assert_eq!(Scenario::text("by-ID"), None);
    }

    #[test]
    fn the_length_of_a_phase_is_known_where_the_scenario_sets_it() {
        let lengths =
            |name| Scenario::find(name).expect("built in").phases.iter().map(Phase::seconds).collect::<Vec<_>>();
        assert_eq!(lengths("by-id"), [Some(10.0)]);
        assert_eq!(lengths("soak"), [Some(1800.0)]);
        assert_eq!(lengths("publish-new"), [None]);
        assert_eq!(lengths("slow-readers"), [Some(10.0)]);
    }

    #[test]
    fn keys_that_are_left_out_take_their_defaults() {
        let scenario = Scenario::parse(MINIMAL).expect("valid");
        assert_eq!(scenario.phases, [Phase::Publish(Publish::default())]);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for text in [
            format!("{MINIMAL}inflight = 3\n"),
            format!("colour = 1\n{MINIMAL}"),
            MINIMAL.replace("publish", "publisch"),
        ] {
            let error = Scenario::parse(&text).expect_err("must not be accepted").to_string();
            let named = ["inflight", "colour", "publisch"].iter().any(|key| error.contains(key));
            assert!(named, "{error}");
        }
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let error = Scenario::parse(&format!("{MINIMAL}connections = 0\n")).expect_err("must not be accepted");
        assert_eq!(format!("{error:#}"), "phase publish: `connections` must be at least 1");
        let error = Scenario::parse(&format!("max_in_flight = 0\n{MINIMAL}")).expect_err("must not be accepted");
        assert_eq!(format!("{error:#}"), "`max_in_flight` must be at least 1");
    }
}
