//! One whole pass of the rules, for the command line: counts what they would remove, or removes it.
//!
//! The relay need not run; if it does, the two writers take turns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashSet;

use super::horizons::Horizons;
use super::oldest::{OldestFirst, bytes_by_rule};
use super::sweep::{AgeSweep, AuthorSweep, Candidate, Cause, Slice};
use super::thin::{BUSY, Thin};
use super::{Marks, SLICE_ROWS, limit};
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::{Evicted, Removed, Room, Seq, Store, StoreError, Writer};

/// What a pass does with what it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Counts it.
    Count,
    /// Removes it.
    Remove,
}

/// What a pass found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Events and bytes of their records, by cause.
    pub by_cause: BTreeMap<Cause, Removed>,
    /// Whether it was interrupted.
    pub is_partial: bool,
}

impl Found {
    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Removed {
        let mut sum = Removed::default();
        self.by_cause.values().for_each(|found| sum += *found);
        sum
    }

    /// Bytes of the records of a rule.
    fn bytes_of(&self, rule: usize) -> u64 {
        self.by_cause.iter().filter(|(cause, _)| cause.rule() == rule).map(|(_, found)| found.bytes).sum()
    }
}

/// A pass under way.
struct Pass<'a, P> {
    store: &'a Store,
    rules: &'a Retention,
    now: Timestamp,
    /// Of one slice.
    rows: u32,
    /// Absent when events are only counted.
    writer: Option<Writer>,
    /// What would be removed, when events are only counted.
    gone: HashSet<Seq>,
    thin: Thin,
    horizons: Horizons,
    found: Found,
    stop: &'a AtomicBool,
    progress: P,
}

/// Applies the rules to the whole store once: age first, then numbers, then bytes. Tells `progress` how much was
/// found after each slice, and ends early once `stop` is set.
///
/// # Errors
/// When the store is damaged or a commit fails; what was removed before stays removed.
pub fn pass(
    store: &Store,
    rules: &Retention,
    now: Timestamp,
    mode: Mode,
    stop: &AtomicBool,
    progress: impl FnMut(Removed),
) -> Result<Found, StoreError> {
    pass_in_slices(store, rules, now, mode, SLICE_ROWS, stop, progress)
}

pub(super) fn pass_in_slices(
    store: &Store,
    rules: &Retention,
    now: Timestamp,
    mode: Mode,
    rows: u32,
    stop: &AtomicBool,
    progress: impl FnMut(Removed),
) -> Result<Found, StoreError> {
    let writer = (mode == Mode::Remove).then(|| store.writer());
    let (gone, thin, found) = (HashSet::new(), Thin::default(), Found::default());
    let horizons = Horizons::load(rules, store)?;
    let mut pass = Pass { store, rules, now, rows, writer, gone, thin, horizons, found, stop, progress };
    if !rules.is_empty() {
        pass.run()?;
    }
    Ok(pass.found)
}

impl<P: FnMut(Removed)> Pass<'_, P> {
    fn run(&mut self) -> Result<(), StoreError> {
        let mut age = AgeSweep::default();
        while !self.slice(|slice| age.step(slice))? {}
        if self.rules.counts_authors() {
            let mut authors = AuthorSweep::default();
            while !self.slice(|slice| authors.step(slice, |_| {}))? {}
        }
        for rule in (0..self.rules.rules().len()).rev() {
            self.shrink_rule(rule)?;
        }
        self.shrink_total()?;
        self.pack(0)
    }

    /// Packs thin pages, but for the latest `busy` regions.
    fn pack(&mut self, busy: usize) -> Result<(), StoreError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        while let Some(run) = self.thin.next(self.store, busy)? {
            writer.pack(run, usize::MAX)?;
        }
        Ok(())
    }

    /// One slice: finds, then removes. True when there is no more, or no more is wanted.
    fn slice(&mut self, step: impl FnOnce(&mut Slice<'_>) -> Result<bool, StoreError>) -> Result<bool, StoreError> {
        if self.stop.load(Ordering::Relaxed) {
            self.found.is_partial = true;
            return Ok(true);
        }
        let snapshot = self.store.read()?;
        let mut slice = Slice::new(self.rules, &snapshot, self.now, self.rows);
        let is_done = step(&mut slice)?;
        let found = slice.found;
        drop(snapshot);
        self.take(&found)?;
        Ok(is_done)
    }

    fn take(&mut self, found: &[Candidate]) -> Result<(), StoreError> {
        for one in found {
            if self.writer.is_none() && !self.gone.insert(one.seq) {
                continue;
            }
            *self.found.by_cause.entry(one.cause).or_default() += Removed { events: 1, bytes: one.bytes };
        }
        if let Some(writer) = &mut self.writer
            && !found.is_empty()
        {
            let seqs: Vec<Seq> = found.iter().map(|one| one.seq).collect();
            self.horizons.went(found);
            writer.evict(Evicted { seqs: &seqs, horizons: Some(&self.horizons.to_bytes()) })?;
            self.thin.note(seqs.into_iter());
            self.pack(BUSY)?;
        }
        (self.progress)(self.found.total());
        Ok(())
    }

    /// Bytes that a rule has now, or would have.
    fn bytes_of(&self, rule: usize) -> Result<u64, StoreError> {
        let bytes = bytes_by_rule(self.rules, &self.store.read()?)?[rule];
        Ok(if self.writer.is_some() { bytes } else { bytes.saturating_sub(self.found.bytes_of(rule)) })
    }

    fn shrink_rule(&mut self, rule: usize) -> Result<(), StoreError> {
        let limit = self.rules.rules()[rule].bounds.max_bytes;
        if limit == 0 {
            return Ok(());
        }
        let excess = self.bytes_of(rule)?.saturating_sub(limit);
        self.shrink(rule, Cause::RuleBytes(rule), excess).map(|_| ())
    }

    /// Removes the oldest of a rule until at least `excess` bytes of records are gone; what could not be.
    fn shrink(&mut self, rule: usize, cause: Cause, mut excess: u64) -> Result<u64, StoreError> {
        let mut oldest = OldestFirst::new(rule);
        let gone = std::mem::take(&mut self.gone);
        while excess > 0 && !self.found.is_partial {
            let mut is_done = false;
            self.slice(|slice| {
                is_done = oldest.step(slice, cause, Some(&gone), |bytes| {
                    excess = excess.saturating_sub(bytes);
                    excess == 0
                })?;
                Ok(is_done)
            })?;
            if is_done {
                break;
            }
        }
        self.gone.extend(gone);
        Ok(excess)
    }

    /// Removes the least valuable until the file is below its mark.
    fn shrink_total(&mut self) -> Result<(), StoreError> {
        let room = self.store.room()?;
        let marks = Marks::new(limit(self.rules, room));
        if room.used_bytes <= marks.start {
            return Ok(());
        }
        if self.writer.is_none() {
            return self.count_total(room, marks);
        }
        for rule in (0..self.rules.rules().len()).rev() {
            if self.rules.rules()[rule].is_forever() {
                continue;
            }
            let mut oldest = OldestFirst::new(rule);
            while self.store.room()?.used_bytes > marks.stop {
                if self.slice(|slice| oldest.step(slice, Cause::Total(rule), None, |_| false))? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The same without removing: what a byte of a record takes in the file, indexes included, is estimated from
    /// what all of them take.
    fn count_total(&mut self, room: Room, marks: Marks) -> Result<(), StoreError> {
        let records: u64 = self.store.read()?.kinds()?.iter().map(|(_, usage)| usage.bytes).sum();
        let per_byte = room.used_bytes as f64 / records.max(1) as f64;
        let to_free = ((room.used_bytes - marks.stop) as f64 / per_byte) as u64;
        let mut excess = to_free.saturating_sub(self.found.total().bytes);
        for rule in (0..self.rules.rules().len()).rev() {
            if excess > 0 && !self.rules.rules()[rule].is_forever() {
                excess = self.shrink(rule, Cause::Total(rule), excess)?;
            }
        }
        Ok(())
    }
}
