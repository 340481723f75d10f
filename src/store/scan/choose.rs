//! Weighs the ways of answering a filter against the data, by a bounded look at each.
//!
//! All candidates are counted to the same depth, shallow first, until one is seen to its end: finding the
//! rarest one costs a small multiple of the rarest one's size, never the size of the others. If none ends, the
//! one whose newest rows lie furthest apart in time is taken; and if another one is not much denser and both have few
//! ranges, the two are walked together, so that only records are looked at that are in both.

use smallvec::SmallVec;

use crate::nostr::{Filter, Timestamp};
use crate::store::format::error::StoreError;
use crate::store::scan::plan::{Kinds, Ranges, Source, sources};
use crate::store::scan::rows::{Rows, Window};

/// How many index rows each round may step over for each candidate, at about 30 ns: 2 µs, then 15.
const ROUNDS: [u32; 2] = [64, 512];

/// What opening a range costs, in row steps.
const SEEK: u32 = 8;

/// The most ranges beside each other, one pair for each range of the first index and each item of the second.
const MAX_PAIRS: u32 = 16;

/// How many kinds a source is taken to have when the filter names none.
const USUAL_KINDS: u32 = 4;

/// How much denser the second index may be: so many keys are stepped over in the time of one look at a record.
const MAX_RATIO: f64 = 16.0;

/// What was chosen.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Chosen {
    /// The index whose ranges are merged.
    pub source: Source,
    /// The index that their rows must be in too before a record is looked at.
    pub beside: Option<Source>,
    /// What is known about the first.
    pub weight: Weight,
}

/// What is known about a source after a look at it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Weight {
    /// How many rows and ranges it has, if it was seen to its end.
    pub exact: Option<u32>,
    /// Otherwise the rows for each second of the time that was seen.
    density: f64,
}

/// Weighing that can be put down after each candidate and each round.
pub(in crate::store) struct Choice {
    sources: SmallVec<[Source; 2]>,
    weights: SmallVec<[Weight; 2]>,
    round: usize,
}

impl Choice {
    /// The ways there are for a filter.
    pub fn new(filter: &Filter) -> Self {
        Self { sources: sources(filter), weights: SmallVec::new(), round: 0 }
    }

    /// Nothing to choose.
    pub fn of(source: Source) -> Self {
        Self { sources: SmallVec::from_slice(&[source]), weights: SmallVec::new(), round: 0 }
    }

    /// The only way, if there is only one.
    pub fn only(&self) -> Option<Source> {
        match *self.sources {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Looks at one more candidate; returns the best one when that is known.
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
        if both.beside.is_some() || self.round + 1 == ROUNDS.len() {
            return Ok(Some(both));
        }
        self.weights.clear();
        self.round += 1;
        Ok(None)
    }

    /// The rarest source; with a filter, also the one to walk beside it, if that pays.
    fn best(&self, filter: Option<&Filter>) -> Chosen {
        let weighed = || self.sources.iter().copied().zip(self.weights.iter().copied());
        let rank = |weight: Weight| (weight.exact.unwrap_or(u32::MAX), weight.density);
        let rarest =
            |best: (Source, Weight), next: (Source, Weight)| if rank(next.1) < rank(best.1) { next } else { best };
        let (source, weight) = weighed().reduce(rarest).expect("a filter has at least one source");
        let beside = filter.and_then(|filter| {
            let first = Ranges { filter, source };
            let kinds = if matches!(first.kinds(), Kinds::All) { USUAL_KINDS } else { 1 };
            let pairs = |source| (kinds * first.len()).saturating_mul(Ranges { filter, source }.items());
            let pays = |&(other, of): &(Source, Weight)| {
                other != source && of.density <= MAX_RATIO * weight.density && pairs(other) <= MAX_PAIRS
            };
            weighed().filter(pays).reduce(rarest).map(|(other, _)| other)
        });
        Chosen { source, beside, weight }
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
            // Only within one kind are rows in the order of time, so that the window is one run of them.
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

/// Rows a second over all ranges, from those seen.
fn density(rows: u32, newest: Timestamp, oldest: Timestamp, seen: u32, all: u32) -> f64 {
    let span = newest.0.saturating_sub(oldest.0) + 1;
    f64::from(rows) / span as f64 * f64::from(all) / f64::from(seen.max(1))
}
