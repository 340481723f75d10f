//! Everything a run needs before its first clock starts: corpus, events signed for the run, queries with their answers.
//!
//! It must never talk to the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::querier::{MIXED_IN_FLIGHT, Prepared as PreparedQuery};
use crate::corpus::library::{Library, Skipped, Terms};
use crate::corpus::{self, plan::Mix};
use crate::limits::Limits;
use crate::query::filter::{Filter, Oracle};
use crate::query::shape::{Chooser, Shape};
use crate::scenario::Scenario;
use crate::scenario::phase::{Fanout, Mixed, Phase, Source};
use crate::wire::codec::Codec;

/// Events signed for one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Number of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The material of one phase.
#[derive(Default)]
pub struct Material {
    /// Its own events.
    pub fresh: Fresh,
    /// Its queries.
    pub queries: Rc<Vec<PreparedQuery>>,
    /// How the relay's limits changed it.
    pub fitted: BTreeSet<String>,
}

/// The input of the preparation.
#[derive(Clone, Copy)]
pub struct PrepareInput<'a> {
    /// The phases.
    pub scenario: &'a Scenario,
    /// A corpus file; generated if absent.
    pub corpus: Option<&'a Path>,
    /// Seed of the run.
    pub seed: u64,
    /// The relay's limits.
    pub limits: &'a Limits,
    /// Unix seconds.
    pub now: u64,
    /// The form of messages.
    pub codec: Codec,
}

/// The material of a run.
pub struct Prepared {
    /// Corpus first, then the fresh events.
    pub library: Library,
    /// Events of the corpus.
    pub corpus_len: u32,
    /// The lines left out of it.
    pub skipped: Skipped,
    /// By phase.
    pub phases: Vec<Material>,
}

/// The corpus in figures.
pub struct Size {
    /// Events.
    pub events: u64,
    /// Mean length of their JSON.
    pub mean_bytes: f64,
    /// SHA-256 of their ids in order, in hex.
    pub fingerprint: String,
}

impl Size {
    /// Of the first `corpus_len` events.
    pub fn of(library: &Library, corpus_len: u32) -> Self {
        let bytes: usize = (0..corpus_len).map(|number| library.json(number).len()).sum();
        let mut hasher = Sha256::new();
        (0..corpus_len).for_each(|number| hasher.update(library.id(number)));
        Self {
            events: u64::from(corpus_len),
            mean_bytes: bytes as f64 / f64::from(corpus_len.max(1)),
            fingerprint: faster_hex::hex_string(&hasher.finalize()),
        }
    }
}

/// Reads or generates the corpus, then prepares every phase.
///
/// # Errors
/// If the corpus cannot be read, or nothing of it is left within the relay's limits.
pub fn prepare(input: PrepareInput<'_>) -> Result<Prepared> {
    let scenario = input.scenario;
    let (mut library, mut skipped) = (Library::default(), Skipped::default());
    if scenario.phases.iter().any(|phase| phase.needs_corpus().0) {
        match input.corpus {
            Some(path) => (library, skipped) = Library::load(path, input.terms())?,
            None => {
                let seed = scenario.corpus.seed.unwrap_or(input.seed);
                add_generated(
                    &corpus::Options::social(seed, scenario.corpus.events),
                    input,
                    &mut library,
                    &mut skipped,
                )?;
            }
        }
        let example = skipped.examples.first().map_or("the file is empty", String::as_str);
        ensure!(!library.is_empty(), "no event of the corpus can be used; {example}");
    }
    let corpus_len = library.len() as u32;
    let mut phases = prepare_queries(input, &library);
    for (number, (phase, material)) in scenario.phases.iter().zip(&mut phases).enumerate() {
        let seed = input.seed.wrapping_mul(1009).wrapping_add(number as u64 + 1);
        material.fresh = sign_fresh(phase, seed, input, &mut library, &mut material.fitted)?;
        fit_subscriptions(phase, input.limits, &mut material.fitted);
        if phase.needs_corpus().0 {
            let beyond = skipped.reasons.iter().filter(|(reason, _)| reason.starts_with("beyond"));
            material.fitted.extend(beyond.map(|(reason, count)| format!("{count} events of the corpus are {reason}")));
        }
    }
    Ok(Prepared { library, corpus_len, skipped, phases })
}

impl<'a> PrepareInput<'a> {
    fn terms(&self) -> Terms<'a> {
        Terms { limits: self.limits, now: self.now }
    }
}

/// Adds generated events; those that the relay's limits forbid are skipped and counted.
fn add_generated(
    options: &corpus::Options,
    input: PrepareInput<'_>,
    library: &mut Library,
    skipped: &mut Skipped,
) -> Result<()> {
    let mut number = 0u64;
    corpus::generate(options, |line| {
        number += 1;
        if let Err(reason) = library.add_within(line, input.terms()) {
            skipped.add(&reason.to_string(), || format!("generated event {number}"));
        }
        Ok(())
    })
}

/// Notes a phase that needs more subscriptions than the relay allows.
fn fit_subscriptions(phase: &Phase, limits: &Limits, fitted: &mut BTreeSet<String>) {
    let wanted = match phase {
        Phase::Query(query) => query.in_flight,
        Phase::Mixed(_) => MIXED_IN_FLIGHT,
        Phase::Fanout(fanout) => fanout.subscriptions,
        Phase::Connect(connect) => connect.subscriptions,
        Phase::Publish(_) => 0,
    };
    if let Some(most) = limits.max_subscriptions.filter(|&most| wanted > most) {
        fitted.insert(format!("{wanted} subscriptions per connection, and the relay's max_subscriptions is {most}"));
    }
}

fn prepare_queries(input: PrepareInput<'_>, library: &Library) -> Vec<Material> {
    let phases = &input.scenario.phases;
    let wanted = phases.iter().any(|phase| matches!(phase, Phase::Query(_) | Phase::Mixed(_)));
    if !wanted {
        return phases.iter().map(|_| Material::default()).collect();
    }
    let oracle = Oracle::new(library);
    let mut chooser = Chooser::new(library, &oracle, input.seed);
    let mut prepare = |shapes: &BTreeMap<Shape, u32>, distinct: usize| {
        let mut fitted = BTreeSet::new();
        let prepared = weighted(shapes, distinct).into_iter().enumerate().map(|(number, shape)| {
            let mut filter = chooser.choose(shape);
            let mut expected = oracle.answer(&filter, library);
            if let Some(change) = fit(&mut filter, expected.len(), input.limits) {
                fitted.insert(format!("{}: {change}", shape.name()));
                expected = oracle.answer(&filter, library);
            }
            PreparedQuery::new(number, shape.name(), filter, expected, input.codec)
        });
        let queries = Rc::new(prepared.collect());
        Material { queries, fitted, ..Material::default() }
    };
    let materials = phases.iter().map(|phase| match phase {
        Phase::Query(query) => prepare(&query.shapes, query.distinct.max(query.in_flight)),
        Phase::Mixed(mixed) => prepare(&mixed.shapes, mixed.distinct.max(MIXED_IN_FLIGHT)),
        _ => Material::default(),
    });
    materials.collect()
}

/// Fits a filter to the relay's limits and returns a description of the change. `rows` is the length of the answer
/// without them.
fn fit(filter: &mut Filter, rows: usize, limits: &Limits) -> Option<String> {
    let mut change = None;
    let message = |filter: &Filter| filter.json().len() + r#"["REQ","q00000",]"#.len();
    if let Some(most) = limits.max_message_length {
        while message(filter) > most && filter.authors.len().max(filter.ids.len()) > 1 {
            filter.authors.truncate(filter.authors.len().div_ceil(2));
            filter.ids.truncate(filter.ids.len().div_ceil(2));
            change = Some(format!("shortened to the relay's max_message_length of {most}"));
        }
    }
    if let Some(most) = limits.rows(filter.limit).filter(|&most| rows > most || filter.limit.is_some_and(|l| l > most))
    {
        let most = limits.max_limit.unwrap_or(most).min(filter.limit.unwrap_or(rows));
        if filter.limit != Some(most) {
            filter.limit = Some(most);
            change = Some(format!("limit {most}, as the relay gives no more rows"));
        }
    }
    change
}

/// `count` shapes in the proportion of their weights, evenly interleaved.
fn weighted(shapes: &BTreeMap<Shape, u32>, count: usize) -> Vec<Shape> {
    let total: u32 = shapes.values().sum();
    let mut given = vec![0f64; shapes.len()];
    let turns = (0..count).map(|turn| {
        let behind = shapes.iter().enumerate().map(|(at, (&shape, &weight))| {
            let due = f64::from(weight) / f64::from(total.max(1)) * (turn + 1) as f64;
            (due - given[at], at, shape)
        });
        let (_, at, shape) = behind.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a phase has at least one shape");
        given[at] += 1.0;
        shape
    });
    turns.collect()
}

/// Signs the events a phase publishes itself. They are dated `now`, which every relay accepts.
fn sign_fresh(
    phase: &Phase,
    seed: u64,
    input: PrepareInput<'_>,
    library: &mut Library,
    fitted: &mut BTreeSet<String>,
) -> Result<Fresh> {
    let now = input.now;
    let notes =
        corpus::Options { seed, events: 0, authors: 200, until: now, span_s: 0, mix: Mix::Notes, content_bytes: 0 };
    let options = match phase {
        Phase::Publish(publish) if publish.events == Source::Fresh => {
            let events = if publish.count == 0 { 20_000 } else { publish.count as u64 };
            corpus::Options { events, until: now, span_s: 3600, ..corpus::Options::social(seed, events) }
        }
        Phase::Fanout(fanout) => {
            corpus::Options { events: events_of(fanout) as u64, content_bytes: fanout.content_bytes, ..notes }
        }
        Phase::Mixed(mixed) => corpus::Options { events: fresh_events_of(mixed) as u64, ..notes },
        _ => return Ok(Fresh::default()),
    };
    // About fifty events share a second: a burst with one timestamp would make pages of it grow (NIP-67).
    let span_s = if options.span_s == 0 { (options.events / 50).min(1800) } else { options.span_s };
    let options = corpus::Options { span_s, ..options };
    let first = library.len() as u32;
    let mut skipped = Skipped::default();
    add_generated(&options, input, library, &mut skipped)?;
    fitted.extend(skipped.reasons.iter().map(|(reason, count)| format!("{count} events of the phase are {reason}")));
    Ok(Fresh { first, count: library.len() as u32 - first })
}

/// How many events a fan-out phase publishes.
fn events_of(fanout: &Fanout) -> usize {
    if fanout.count > 0 { fanout.count } else { (fanout.rate * fanout.duration_s) as usize }
}

/// How many new events a mixed phase publishes.
fn fresh_events_of(mixed: &Mixed) -> usize {
    let fresh = mixed.events_per_s * (1000 - mixed.duplicate_permille.min(1000)) as f64 / 1000.0;
    (fresh * mixed.duration_s).ceil() as usize + mixed.publishers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_fitted_to_the_limits_that_the_relay_states() {
        let limits = Limits { max_limit: Some(50), max_message_length: Some(1000), ..Limits::default() };
        let authors: Vec<String> = (0..40).map(|_| "ab".repeat(32)).collect();
        let mut filter = Filter { authors, limit: Some(100), ..Filter::default() };
        let change = fit(&mut filter, 10, &limits);
        assert_eq!((filter.authors.len(), filter.limit), (10, Some(50)));
        assert_eq!(change, Some("limit 50, as the relay gives no more rows".into()));
        let mut endless = Filter { kinds: vec![1], ..Filter::default() };
        assert_eq!(fit(&mut endless, 50, &limits), None);
        assert!(fit(&mut endless, 51, &limits).is_some());
        assert_eq!(endless.limit, Some(50));
        let most = Limits { default_limit: Some(10), max_limit: Some(500), ..Limits::default() };
        let mut endless = Filter { kinds: vec![1], ..Filter::default() };
        assert!(fit(&mut endless, 60, &most).is_some());
        assert_eq!(endless.limit, Some(60));
    }

    #[test]
    fn shapes_are_interleaved_by_weight() {
        let shapes = [(Shape::ById, 3), (Shape::Thread, 1)].into_iter().collect();
        let order = weighted(&shapes, 8);
        assert_eq!(order.iter().filter(|&&shape| shape == Shape::Thread).count(), 2);
        assert_eq!(order[..4].iter().filter(|&&shape| shape == Shape::Thread).count(), 1);
    }
}
