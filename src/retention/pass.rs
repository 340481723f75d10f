//! One complete execution of the plan for the command line: counts what the rules would remove, or removes it.
//!
//! It works with or without a running relay, whose writer takes turns with it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::cause::Candidate;
use super::horizons::{Horizons, NEVER};
use super::marks::RoomMarks;
use super::parts::{DryRun, Parts};
use super::plan::{Plan, Scope};
use super::samples::Samples;
use super::slice::{Progress, SLICE_ROWS, Slice};
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::{Evicted, Removed, Seq, Store, StoreError, Writer};

/// What a pass does with the events that it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Counts them.
    Count,
    /// Removes them.
    Remove,
}

/// What a pass found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PassReport {
    /// The events, by cause.
    pub parts: Parts,
    /// Some of them, by cause.
    pub samples: Samples,
    /// Bytes that are missing for room, because the events that are kept forever take too much.
    pub missing: u64,
    /// Whether the pass was interrupted.
    pub is_partial: bool,
}

impl PassReport {
    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> Removed {
        self.parts.total()
    }
}

/// Executes the rules once on the whole store. Calls `progress` with the sum so far after each slice, and stops early
/// when `stop` is set.
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
) -> Result<PassReport, StoreError> {
    pass_in_slices(store, rules, now, mode, SLICE_ROWS, stop, progress)
}

pub(crate) fn pass_in_slices(
    store: &Store,
    rules: &Retention,
    now: Timestamp,
    mode: Mode,
    rows: u32,
    stop: &AtomicBool,
    mut progress: impl FnMut(Removed),
) -> Result<PassReport, StoreError> {
    let mut found = PassReport::default();
    if rules.is_empty() {
        return Ok(found);
    }
    match mode {
        Mode::Count => {
            let mut trial = Trial::default();
            loop {
                found.is_partial = stop.load(Ordering::Relaxed);
                if found.is_partial || trial.slice(store, rules, now, rows)? {
                    break;
                }
                progress(trial.found.parts.total());
            }
            found.missing = trial.plan.missing();
            (found.parts, found.samples) = (trial.found.parts, trial.found.samples);
        }
        Mode::Remove => {
            let mut removal = Removal::new(store, rules, now)?;
            loop {
                found.is_partial = stop.load(Ordering::Relaxed);
                if found.is_partial || removal.slice(rows)? {
                    break;
                }
                progress(removal.parts.total());
            }
            removal.remove()?;
            found.missing = removal.plan.missing();
            (found.parts, found.samples) = (removal.parts, removal.samples);
        }
    }
    Ok(found)
}

/// Whether the file must not grow, because too little of the file system is free.
fn is_disk_low(store: &Store, rules: &Retention) -> Result<bool, StoreError> {
    Ok(store.disk_space()?.free_bytes < rules.limits().min_free_disk_bytes)
}

/// A dry run under way.
pub struct Trial {
    plan: Plan,
    pub(crate) found: DryRun,
}

impl Default for Trial {
    fn default() -> Self {
        Self { plan: Plan::new(Scope::ALL), found: DryRun::default() }
    }
}

impl Trial {
    /// Continues for one slice; true when it is complete.
    pub fn slice(&mut self, store: &Store, rules: &Retention, now: Timestamp, rows: u32) -> Result<bool, StoreError> {
        let mut room = store.room()?;
        let counted = self.found.parts.footprint();
        room.used_bytes = room.used_bytes.saturating_sub(counted);
        room.page_bytes = room.page_bytes.saturating_sub(counted);
        let excess = RoomMarks::new(rules, room, is_disk_low(store, rules)?).excess(room);
        let snapshot = store.read()?;
        let mut slice = Slice::new(rules, &snapshot, now, rows)?.counting(&self.found);
        let step = self.plan.step(&mut slice, excess)?;
        let found = slice.found;
        drop(snapshot);
        self.found.add(&found);
        Ok(step == Progress::Done)
    }
}

/// Events per commit while somebody else writes, who has to wait for it: a few milliseconds.
const NOT_ALONE: usize = 256;

/// The same while nobody else writes. With more events in a commit, more of them share the pages that they change.
const ALONE: usize = 8192;

/// An execution of the plan, under way.
struct Removal<'a> {
    store: &'a Store,
    rules: &'a Retention,
    now: Timestamp,
    writer: Writer,
    plan: Plan,
    horizons: Horizons,
    parts: Parts,
    samples: Samples,
    /// Events that were found and not removed yet.
    found: Vec<Candidate>,
    /// Events per commit.
    stride: usize,
    /// The number of our last commit.
    last_commit: u64,
}

impl<'a> Removal<'a> {
    fn new(store: &'a Store, rules: &'a Retention, now: Timestamp) -> Result<Self, StoreError> {
        let (room, horizons) = (store.room()?, Horizons::load(rules, store)?);
        if RoomMarks::new(rules, room, is_disk_low(store, rules)?).is_relaxed(room) {
            horizons.relax_total();
        }
        Ok(Self {
            store,
            rules,
            now,
            writer: store.writer(),
            plan: Plan::new(Scope::ALL),
            horizons,
            parts: Parts::default(),
            samples: Samples::default(),
            found: Vec::new(),
            stride: NOT_ALONE,
            last_commit: store.txn_id()?,
        })
    }

    /// Continues for one slice; true when the plan is complete.
    fn slice(&mut self, rows: u32) -> Result<bool, StoreError> {
        let room = self.store.room()?;
        let excess = RoomMarks::new(self.rules, room, is_disk_low(self.store, self.rules)?).excess(room);
        let snapshot = self.store.read()?;
        let mut slice = Slice::new(self.rules, &snapshot, self.now, rows)?;
        let step = self.plan.step(&mut slice, excess)?;
        let found = slice.found;
        drop(snapshot);
        for one in &found {
            self.parts.add(one);
            self.samples.add(one);
        }
        self.horizons.went(&found);
        self.found.extend(found);
        let emptied = self.plan.take_emptied();
        for &rule in &emptied {
            self.horizons.set(rule, |horizon| horizon.total = NEVER);
        }
        if self.found.len() >= self.stride || step != Progress::More || !emptied.is_empty() {
            self.remove()?;
        }
        Ok(step == Progress::Done)
    }

    /// Removes the events that were found, in one commit.
    fn remove(&mut self) -> Result<(), StoreError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let is_alone = self.store.txn_id()? == self.last_commit;
        let seqs: Vec<Seq> = self.found.drain(..).map(|one| one.seq).collect();
        self.writer.evict(Evicted { seqs: &seqs, horizons: Some(&self.horizons.to_bytes()) })?;
        self.last_commit = self.store.txn_id()?;
        // Large commits need more new pages.
        let may_grow = is_alone && !is_disk_low(self.store, self.rules)?;
        self.stride = if may_grow { (2 * self.stride).min(ALONE) } else { NOT_ALONE };
        Ok(())
    }
}
