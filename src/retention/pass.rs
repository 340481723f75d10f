//! One whole plan now, for the command line: counts what the rules would remove, or removes it.
//!
//! The relay need not run; if it does, the two writers take turns.

use std::sync::atomic::{AtomicBool, Ordering};

use super::horizons::{Horizons, NEVER};
use super::marks::RoomMarks;
use super::plan::{Ledger, Pace, Parts, Plan, Scope};
use super::samples::Samples;
use super::sweep::SLICE_ROWS;
use super::sweep::{Candidate, Slice};
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::{Evicted, Removed, Seq, Store, StoreError, Writer};

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
    /// What goes, by cause.
    pub parts: Parts,
    /// Some of them, by cause.
    pub samples: Samples,
    /// Bytes that should go for room and cannot: what is kept for ever takes more than there is.
    pub missing: u64,
    /// Whether it was interrupted.
    pub is_partial: bool,
}

impl Found {
    /// Everything together.
    #[must_use]
    pub fn total(&self) -> Removed {
        self.parts.total()
    }
}

/// Executes the rules on the whole store once. Tells `progress` how much was found after each slice, and ends early once
/// `stop` is set.
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

pub(crate) fn pass_in_slices(
    store: &Store,
    rules: &Retention,
    now: Timestamp,
    mode: Mode,
    rows: u32,
    stop: &AtomicBool,
    mut progress: impl FnMut(Removed),
) -> Result<Found, StoreError> {
    let mut found = Found::default();
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
                progress(trial.ledger.parts.total());
            }
            found.missing = trial.plan.missing();
            (found.parts, found.samples) = (trial.ledger.parts, trial.ledger.samples);
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

/// Whether the file must not grow, since the file system has less room than it is to have.
fn is_disk_low(store: &Store, rules: &Retention) -> Result<bool, StoreError> {
    Ok(store.disk_space()?.free_bytes < rules.limits().min_free_disk_bytes)
}

/// A plan that is only counted, under way.
pub struct Trial {
    plan: Plan,
    pub(crate) ledger: Ledger,
}

impl Default for Trial {
    fn default() -> Self {
        Self { plan: Plan::new(Scope::ALL), ledger: Ledger::default() }
    }
}

impl Trial {
    /// Goes on for one slice; true when it is complete.
    pub fn slice(&mut self, store: &Store, rules: &Retention, now: Timestamp, rows: u32) -> Result<bool, StoreError> {
        let mut room = store.room()?;
        let counted = self.ledger.parts.footprint();
        room.used_bytes = room.used_bytes.saturating_sub(counted);
        room.page_bytes = room.page_bytes.saturating_sub(counted);
        let excess = RoomMarks::new(rules, room, is_disk_low(store, rules)?).excess(room);
        let snapshot = store.read()?;
        let mut slice = Slice::new(rules, &snapshot, now, rows)?.counting(&self.ledger);
        let pace = self.plan.step(&mut slice, excess)?;
        let found = slice.found;
        drop(snapshot);
        self.ledger.add(&found);
        Ok(pace == Pace::Done)
    }
}

/// Events of one commit while somebody else writes: it takes a few milliseconds, in which they wait.
const BESIDE: usize = 256;

/// The same while nobody does: the more, the more of them share the pages that they change.
const ALONE: usize = 8192;

/// A plan that is executed, under way.
struct Removal<'a> {
    store: &'a Store,
    rules: &'a Retention,
    now: Timestamp,
    writer: Writer,
    plan: Plan,
    horizons: Horizons,
    parts: Parts,
    samples: Samples,
    /// Found and not yet removed.
    found: Vec<Candidate>,
    /// Of one commit.
    stride: usize,
    /// The number of the last commit that was ours.
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
            stride: BESIDE,
            last_commit: store.txn_id()?,
        })
    }

    /// Goes on for one slice; true when the plan is complete.
    fn slice(&mut self, rows: u32) -> Result<bool, StoreError> {
        let room = self.store.room()?;
        let excess = RoomMarks::new(self.rules, room, is_disk_low(self.store, self.rules)?).excess(room);
        let snapshot = self.store.read()?;
        let mut slice = Slice::new(self.rules, &snapshot, self.now, rows)?;
        let pace = self.plan.step(&mut slice, excess)?;
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
        if self.found.len() >= self.stride || pace != Pace::More || !emptied.is_empty() {
            self.remove()?;
        }
        Ok(pace == Pace::Done)
    }

    /// Removes what was found, in one commit.
    fn remove(&mut self) -> Result<(), StoreError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let is_alone = self.store.txn_id()? == self.last_commit;
        let seqs: Vec<Seq> = self.found.drain(..).map(|one| one.seq).collect();
        self.writer.evict(Evicted { seqs: &seqs, horizons: Some(&self.horizons.to_bytes()) })?;
        self.last_commit = self.store.txn_id()?;
        self.stride = if is_alone { (2 * self.stride).min(ALONE) } else { BESIDE };
        Ok(())
    }
}
