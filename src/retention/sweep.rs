//! Walks over the store that find what the rules no longer keep, a slice at a time.
//!
//! They remove nothing. Between slices they hold places, never a transaction (INV-9), and what a place names
//! may be gone by then.

use super::authors::AuthorWalk;
use super::plan::Ledger;
use crate::nostr::{Kind, Timestamp};
use crate::policy::Retention;
use crate::store::keys::footprint;
use crate::store::{Entry, Flow, Place, Seq, Snapshot, StoreError};

/// Index rows of one slice: about 2 ms when every one needs a look at its record.
pub const SLICE_ROWS: u32 = 2048;

/// Why an event goes. Rules are named by their place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// It is older than `max_age`.
    Age(usize),
    /// Its author has newer ones of its kind, as many as `max_per_author_and_kind`.
    PerAuthorAndKind(usize),
    /// The rule has newer ones, as many as its `max_events`.
    RuleEvents(usize),
    /// The rule has newer ones of as many bytes as its `max_bytes`.
    RuleBytes(usize),
    /// Its author has better ones, as many as `max_events_per_author`; of this rule.
    AuthorEvents(usize),
    /// Its author has better ones of as many bytes as `max_bytes_per_author`; of this rule.
    AuthorBytes(usize),
    /// The data file is as large as `max_bytes`, or the disk full; of this rule.
    Total(usize),
}

impl Cause {
    /// The rule of the event.
    #[must_use]
    pub const fn rule(self) -> usize {
        match self {
            Self::Age(rule)
            | Self::PerAuthorAndKind(rule)
            | Self::RuleEvents(rule)
            | Self::RuleBytes(rule)
            | Self::AuthorEvents(rule)
            | Self::AuthorBytes(rule)
            | Self::Total(rule) => rule,
        }
    }
}

/// An event that the rules no longer keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its number.
    pub seq: Seq,
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// Bytes of its record.
    pub bytes: u64,
    /// What it takes in the data file: see [`crate::store::keys::footprint`].
    pub footprint: u64,
    /// Why it goes.
    pub cause: Cause,
}

/// Events of one slice.
const BATCH_EVENTS: usize = 256;

/// What they take in the data file: a huge event is a batch of its own.
const BATCH_BYTES: u64 = 512 << 10;

/// One slice: what it may look at, and what it finds.
pub struct Slice<'a> {
    /// The rules.
    pub rules: &'a Retention,
    /// The store.
    pub snapshot: &'a Snapshot<'a>,
    /// The time.
    pub now: Timestamp,
    /// Index rows that may still be looked at.
    pub rows: u32,
    /// What was found before and is not removed, since it is only counted.
    pub ledger: Option<&'a Ledger>,
    /// What was found.
    pub found: Vec<Candidate>,
    /// Authors that were looked at.
    pub walked: Vec<AuthorWalk>,
    footprint: u64,
}

/// An event that the rules may remove.
pub struct Judged {
    /// The index of its rule.
    pub rule: usize,
    pub bytes: u64,
    pub footprint: u64,
}

impl<'a> Slice<'a> {
    /// A slice of at most `rows` rows and one batch.
    #[must_use]
    pub fn new(rules: &'a Retention, snapshot: &'a Snapshot<'a>, now: Timestamp, rows: u32) -> Self {
        let (found, walked) = (Vec::new(), Vec::new());
        Self { rules, snapshot, now, rows, ledger: None, found, walked, footprint: 0 }
    }

    /// The same, when what was found before is still there.
    #[must_use]
    pub fn counting(self, ledger: &'a Ledger) -> Self {
        Self { ledger: Some(ledger), ..self }
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
        self.ledger.is_some_and(|ledger| ledger.is_gone(seq))
    }

    /// Rule and size of an event that the rules may remove.
    pub fn judge(&self, entry: Entry) -> Result<Option<Judged>, StoreError> {
        let Some(event) = self.snapshot.get(entry.seq)?.filter(|_| !self.is_gone(entry.seq)) else { return Ok(None) };
        let rule = self.rules.rule_of(event);
        let (bytes, footprint) = (event.record().len() as u64, footprint(event));
        Ok(rule.map(|rule| Judged { rule, bytes, footprint }))
    }

    pub fn find(&mut self, entry: Entry, judged: &Judged, cause: Cause) {
        self.footprint += judged.footprint;
        let Entry { created_at, seq, .. } = entry;
        self.found.push(Candidate { seq, created_at, bytes: judged.bytes, footprint: judged.footprint, cause });
    }
}

/// What costs as much as looking at a few rows: finding the next kind or author.
pub(super) const SEEK_ROWS: u32 = 8;

/// Finds what is too old, kind by kind from the oldest end: young events are not looked at.
#[derive(Default)]
pub struct AgeSweep {
    kind: u32,
    place: Option<Place>,
}

impl AgeSweep {
    /// Goes on; true when everything was looked at.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        while !slice.is_over() {
            let from = u16::try_from(self.kind).ok().map(Kind);
            let Some(kind) = from.map(|from| slice.snapshot.next_kind(from)).transpose()?.flatten() else {
                return Ok(true);
            };
            if u32::from(kind.0) != self.kind {
                (self.kind, self.place) = (kind.0.into(), None);
            }
            slice.spend(SEEK_ROWS);
            let until = slice.rules.oldest_of_kind(kind, slice.now);
            let snapshot = slice.snapshot;
            let is_done = snapshot.walk_oldest(kind, until, &mut self.place, |entry| {
                slice.spend(1);
                if let Some(judged) = slice.judge(entry)?
                    && entry.created_at < slice.rules.rules()[judged.rule].oldest(slice.now)
                {
                    slice.find(entry, &judged, Cause::Age(judged.rule));
                }
                Ok(slice.flow())
            })?;
            if is_done {
                (self.kind, self.place) = (u32::from(kind.0) + 1, None);
            }
        }
        Ok(false)
    }
}
