//! A slice of work: which events it may read, and which it finds that the rules no longer keep.
//!
//! It removes nothing. Between slices a scan keeps its place, never a transaction (INV-9), and the event at that place
//! may be gone by then.

use super::cause::{Candidate, Cause};
use super::parts::DryRun;
use crate::nostr::Timestamp;
use crate::policy::Retention;
use crate::store::keys::footprint;
use crate::store::{Entry, Flow, Seq, Snapshot, StoreError};

/// Index rows per slice: about 2 ms when each of them needs a look at its record.
pub const SLICE_ROWS: u32 = 2048;

/// The most events found per slice.
const BATCH_EVENTS: usize = 256;

/// The most bytes found per slice, in the data file. A single event may exceed it.
const BATCH_BYTES: u64 = 512 << 10;

/// One slice: what it may read, and what it finds.
pub struct Slice<'a> {
    /// The rules.
    pub rules: &'a Retention,
    /// The store.
    pub snapshot: &'a Snapshot<'a>,
    /// The time.
    pub now: Timestamp,
    /// Index rows that it may still read.
    pub rows: u32,
    /// In a dry run, what earlier slices found: it is still in the store.
    pub dry_run: Option<&'a DryRun>,
    /// What it found.
    pub found: Vec<Candidate>,
    /// Per rule, the number below which events are older than `max_age` by arrival. Empty when no rule uses that.
    arrived: Vec<Seq>,
    footprint: u64,
}

/// An event that the rules may remove.
pub struct Removable {
    /// The index of its rule.
    pub rule: usize,
    pub bytes: u64,
    pub footprint: u64,
}

impl<'a> Slice<'a> {
    /// A slice of at most `rows` rows.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn new(
        rules: &'a Retention,
        snapshot: &'a Snapshot<'a>,
        now: Timestamp,
        rows: u32,
    ) -> Result<Self, StoreError> {
        let arrived = if rules.has_ages_by_arrival() {
            let before = |time: Timestamp| snapshot.arrived_before(time);
            let all = rules.rules().iter().map(|rule| rule.oldest_arrival(now).map_or(Ok(Seq(0)), before));
            all.collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        Ok(Self { rules, snapshot, now, rows, dry_run: None, found: Vec::new(), arrived, footprint: 0 })
    }

    /// The same for a dry run.
    #[must_use]
    pub fn counting(self, dry_run: &'a DryRun) -> Self {
        Self { dry_run: Some(dry_run), ..self }
    }

    /// Whether the slice is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.rows == 0 || self.found.len() >= BATCH_EVENTS || self.footprint >= BATCH_BYTES
    }

    pub const fn spend(&mut self, rows: u32) {
        self.rows = self.rows.saturating_sub(rows);
    }

    pub(super) fn flow(&self) -> Flow {
        if self.is_over() { Flow::Pause } else { Flow::Continue }
    }

    pub(super) fn is_gone(&self, seq: Seq) -> bool {
        self.dry_run.is_some_and(|dry_run| dry_run.is_gone(seq))
    }

    /// Events of this rule with lower numbers are older than `max_age` by arrival.
    pub(super) fn arrived(&self, rule: usize) -> Seq {
        self.arrived.get(rule).copied().unwrap_or(Seq(0))
    }

    /// Whether an event of this rule is older than `max_age`.
    pub fn is_too_old(&self, rule: usize, created_at: Timestamp, seq: Seq) -> bool {
        created_at < self.rules.rules()[rule].oldest(self.now) || seq < self.arrived(rule)
    }

    /// The rule and size of an event; `None` if it is kept forever or gone.
    pub fn removable(&self, entry: Entry) -> Result<Option<Removable>, StoreError> {
        let Some(event) = self.snapshot.get(entry.seq)?.filter(|_| !self.is_gone(entry.seq)) else { return Ok(None) };
        let rule = self.rules.rule_of(event);
        let (bytes, footprint) = (event.record().len() as u64, footprint(event));
        Ok(rule.map(|rule| Removable { rule, bytes, footprint }))
    }

    pub fn find(&mut self, entry: Entry, removable: &Removable, cause: Cause) {
        self.find_at(entry.seq, entry.created_at, removable, cause);
    }

    pub(super) fn find_at(&mut self, seq: Seq, created_at: Timestamp, removable: &Removable, cause: Cause) {
        self.footprint += removable.footprint;
        self.found.push(Candidate { seq, created_at, bytes: removable.bytes, footprint: removable.footprint, cause });
    }
}

/// Looking up the next kind or author costs about as much as this many rows.
pub(super) const SEEK_ROWS: u32 = 8;

/// What comes after a step of a plan or scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Another step.
    More,
    /// Another step, once everything that was found has been removed.
    AwaitRemoval,
    /// Nothing: it is complete.
    Done,
}

impl Progress {
    /// Done, or more to do.
    #[must_use]
    pub const fn done(is_done: bool) -> Self {
        if is_done { Self::Done } else { Self::More }
    }
}
