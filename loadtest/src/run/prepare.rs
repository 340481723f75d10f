//! Everything a run needs before its first clock starts: corpus, events signed for the run, queries with their answers.
//!
//! It must never talk to the relay.

use std::rc::Rc;

use anyhow::Result;

use super::Options;
use super::querier::Prepared as PreparedQuery;
use crate::corpus::library::Library;
use crate::corpus::{self, plan::Mix};
use crate::query::filter::Oracle;
use crate::query::shape::{Chooser, Shape};
use crate::scenario::{Fanout, Mixed, Phase, Source};

/// Events signed for one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Number of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What one phase gets.
#[derive(Default)]
pub struct Material {
    /// Its own events.
    pub fresh: Fresh,
    /// Its queries.
    pub queries: Rc<Vec<PreparedQuery>>,
}

/// What a run gets.
pub struct Prepared {
    /// Corpus first, then the fresh events.
    pub library: Library,
    /// Events of the corpus.
    pub corpus_len: u32,
    /// By phase.
    pub phases: Vec<Material>,
}

/// The corpus in two numbers.
pub struct Size {
    /// Events.
    pub events: u64,
    /// Mean length of their JSON.
    pub mean_bytes: f64,
}

impl Size {
    /// Of the first `corpus_len` events.
    pub fn of(library: &Library, corpus_len: u32) -> Self {
        let bytes: usize = (0..corpus_len).map(|number| library.json(number).len()).sum();
        Self { events: u64::from(corpus_len), mean_bytes: bytes as f64 / f64::from(corpus_len.max(1)) }
    }
}

/// Reads or generates the corpus, then prepares every phase. `now` is unix seconds.
///
/// # Errors
/// If the corpus cannot be read.
pub fn prepare(options: &Options, now: u64) -> Result<Prepared> {
    let scenario = &options.scenario;
    let mut library = Library::default();
    if scenario.phases.iter().any(|phase| phase.needs_corpus().0) {
        library = match &options.corpus {
            Some(path) => Library::load(path)?,
            None => generate_corpus(scenario.corpus.events, scenario.corpus.seed.unwrap_or(options.seed))?,
        };
    }
    let corpus_len = library.len() as u32;
    let queries = prepare_queries(options, &library);
    let mut phases = Vec::new();
    for (number, (phase, queries)) in scenario.phases.iter().zip(queries).enumerate() {
        let seed = options.seed.wrapping_mul(1009).wrapping_add(number as u64 + 1);
        let fresh = sign_fresh(phase, seed, now, &mut library)?;
        phases.push(Material { fresh, queries: Rc::new(queries) });
    }
    Ok(Prepared { library, corpus_len, phases })
}

/// The corpus of a run without a file; the same seed gives the same events.
fn generate_corpus(events: u64, seed: u64) -> Result<Library> {
    let mut library = Library::default();
    corpus::generate(&corpus::Options::social(seed, events), |line| library.add(line).map(|_| ()))?;
    Ok(library)
}

fn prepare_queries(options: &Options, library: &Library) -> Vec<Vec<PreparedQuery>> {
    let phases = &options.scenario.phases;
    let wanted = phases.iter().any(|phase| matches!(phase, Phase::Query(_) | Phase::Mixed(_)));
    if !wanted {
        return phases.iter().map(|_| Vec::new()).collect();
    }
    let oracle = Oracle::new(library);
    let mut chooser = Chooser::new(library, &oracle, options.seed);
    let mut prepare = |shapes: &std::collections::BTreeMap<Shape, u32>, distinct: usize| {
        let order = weighted(shapes, distinct);
        let prepared = order.into_iter().enumerate().map(|(number, shape)| {
            let filter = chooser.choose(shape);
            let expected = oracle.answer(&filter, library);
            PreparedQuery::new(number, shape, filter, expected)
        });
        prepared.collect()
    };
    let queries = phases.iter().map(|phase| match phase {
        Phase::Query(query) => prepare(&query.shapes, query.distinct.max(query.in_flight)),
        Phase::Mixed(mixed) => prepare(&mixed.shapes, mixed.distinct.max(super::mixed::IN_FLIGHT)),
        _ => Vec::new(),
    });
    queries.collect()
}

/// `count` shapes in the proportion of their weights, evenly interleaved.
fn weighted(shapes: &std::collections::BTreeMap<Shape, u32>, count: usize) -> Vec<Shape> {
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
fn sign_fresh(phase: &Phase, seed: u64, now: u64, library: &mut Library) -> Result<Fresh> {
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
    corpus::generate(&options, |line| library.add(line).map(|_| ()))?;
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
    fn shapes_are_interleaved_by_weight() {
        let shapes = [(Shape::ById, 3), (Shape::Thread, 1)].into_iter().collect();
        let order = weighted(&shapes, 8);
        assert_eq!(order.iter().filter(|&&shape| shape == Shape::Thread).count(), 2);
        assert_eq!(order[..4].iter().filter(|&&shape| shape == Shape::Thread).count(), 1);
    }
}
