//! Chooses the index that answers a filter, by a bounded count of rows in each candidate.
//!
//! All candidates are counted to the same depth, shallow first, until one is counted to its end. So finding the rarest
//! one costs a small multiple of its size, and never the size of the others. If no count reaches the end, the candidate
//! whose newest rows lie furthest apart in time wins. If a second candidate is not much denser and both have few
//! ranges, the two indexes are intersected, so that only records in both are read.

use smallvec::SmallVec;

use crate::nostr::{Filter, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::scan::plan::{Kinds, Ranges, Source, sources};
use crate::store::scan::rows::{Rows, Window};

/// Index rows that each round may step over per candidate, at about 30 ns each: 2 µs, then 15 µs.
const ROUNDS: [u32; 2] = [64, 512];

/// The cost of opening a range, in row steps.
const SEEK: u32 = 8;

/// The most pairs of ranges in an intersection, one pair for each range of the first index and each item of the second.
const MAX_PAIRS: u32 = 16;

/// The number of kinds assumed for a source when the filter names none.
const USUAL_KINDS: u32 = 4;

/// How much denser the second index may be: stepping over this many keys takes as long as reading one record.
const MAX_RATIO: f64 = 16.0;

/// The choice for one filter.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Chosen {
    /// The index whose ranges are merged.
    pub source: Source,
    /// A second index that must have a row too before its record is read.
    pub intersected: Option<Source>,
    /// The weight of the first index.
    pub weight: Weight,
}

/// The result of counting a source's rows.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Weight {
    /// The number of rows and ranges, if the count reached the end.
    pub exact: Option<u32>,
    /// Otherwise the rows per second of the time counted.
    density: f64,
}

/// Weighing that can pause after each candidate of each round.
pub(in crate::store) struct Choice {
    sources: SmallVec<[Source; 2]>,
    weights: SmallVec<[Weight; 2]>,
    round: usize,
}

impl Choice {
    /// Weighs all sources of a filter.
    pub fn new(filter: &Filter) -> Self {
        Self { sources: sources(filter), weights: SmallVec::new(), round: 0 }
    }

    /// Has one source and nothing to weigh.
    pub fn of(source: Source) -> Self {
        Self { sources: SmallVec::from_slice(&[source]), weights: SmallVec::new(), round: 0 }
    }

    /// The only source, if there is just one.
    pub fn only(&self) -> Option<Source> {
        match *self.sources {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Weighs one more candidate; returns the choice when it is certain.
    pub fn step(&mut self, filter: &Filter, rows: &Rows<'_>, window: Window) -> Result<Option<Chosen>, StoreError> {
        let ranges = Ranges { filter, source: self.sources[self.weights.len()] };
        let weight = weigh(ranges, rows, window, ROUNDS[self.round])?;
        self.weights.push(weight);
        let unseen = &self.sources[self.weights.len()..];
        let beats_unseen = |cost| unseen.iter().all(|&source| Ranges { filter, source }.len() >= cost);
        if weight.exact.is_some_and(beats_unseen) {
            return Ok(Some(self.best(None)));
        }
        if !unseen.is_empty() {
            return Ok(None);
        }
        if self.weights.iter().any(|weight| weight.exact.is_some()) {
            return Ok(Some(self.best(None)));
        }
        let both = self.best(Some(filter));
        if both.intersected.is_some() || self.round + 1 == ROUNDS.len() {
            return Ok(Some(both));
        }
        self.weights.clear();
        self.round += 1;
        Ok(None)
    }

    /// The rarest source; with a filter, also the index to intersect it with, if that pays.
    fn best(&self, filter: Option<&Filter>) -> Chosen {
        let weighed = || self.sources.iter().copied().zip(self.weights.iter().copied());
        let rank = |weight: Weight| (weight.exact.unwrap_or(u32::MAX), weight.density);
        let rarest =
            |best: (Source, Weight), next: (Source, Weight)| if rank(next.1) < rank(best.1) { next } else { best };
        let (source, weight) = weighed().reduce(rarest).expect("a filter has at least one source");
        let intersected = filter.and_then(|filter| {
            let first = Ranges { filter, source };
            let kinds = if matches!(first.kinds(), Kinds::All) { USUAL_KINDS } else { 1 };
            let pairs = |source| (kinds * first.len()).saturating_mul(Ranges { filter, source }.items());
            let pays = |&(other, of): &(Source, Weight)| {
                other != source && of.density <= MAX_RATIO * weight.density && pairs(other) <= MAX_PAIRS
            };
            weighed().filter(pays).reduce(rarest).map(|(other, _)| other)
        });
        Chosen { source, intersected, weight }
    }
}

/// Counts the ranges' rows until `units` are spent.
fn weigh(ranges: Ranges<'_>, rows: &Rows<'_>, window: Window, units: u32) -> Result<Weight, StoreError> {
    let (index, all) = (ranges.index(), ranges.len());
    let (mut left, mut seen, mut counted_rows) = (units, 0, 0);
    let (mut newest, mut oldest) = (Timestamp(0), Timestamp::MAX);
    for item in 0..ranges.items() {
        let start = ranges.start(item, rows.secret());
        let kinds = match ranges.kinds() {
            Kinds::Listed(kinds) => kinds,
            Kinds::None | Kinds::All => &[],
        };
        let of_kind = kinds.iter().filter(|kind| !kind.is_ephemeral()).map(|kind| Some(kind.0));
        for kind in of_kind.chain(kinds.is_empty().then_some(None)) {
            let Some(rest) = left.checked_sub(SEEK) else {
                return Ok(Weight { exact: None, density: density(counted_rows, newest, oldest, seen, all) });
            };
            let prefix = kind.map_or(start, |kind| start.and_kind(kind));
            // Rows are in time order only within one kind; there, the window is one contiguous run.
            let counted = match kind {
                Some(_) => rows.count(index, prefix, prefix.key(window.from).as_bytes(), window.since, rest)?,
                None => rows.count(index, prefix, prefix.as_bytes(), Timestamp(0), rest)?,
            };
            (newest, oldest) = (newest.max(counted.newest), oldest.min(counted.oldest));
            counted_rows += counted.rows;
            left = rest - counted.rows;
            seen += 1;
            if !counted.is_all {
                return Ok(Weight { exact: None, density: density(counted_rows, newest, oldest, seen, all) });
            }
        }
    }
    Ok(Weight { exact: Some(counted_rows + seen), density: 0.0 })
}

/// Rows per second over all ranges, estimated from the ranges counted.
fn density(rows: u32, newest: Timestamp, oldest: Timestamp, seen: u32, all: u32) -> f64 {
    let span = newest.0.saturating_sub(oldest.0) + 1;
    f64::from(rows) / span as f64 * f64::from(all) / f64::from(seen.max(1))
}
