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
    /// By rule: events with lower numbers have been here for too long. Empty when no rule goes by that.
    arrived: Vec<Seq>,
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
        let (found, walked) = (Vec::new(), Vec::new());
        Ok(Self { rules, snapshot, now, rows, ledger: None, found, walked, arrived, footprint: 0 })
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

    /// Events of this rule with lower numbers have been here for too long.
    fn arrived(&self, rule: usize) -> Seq {
        self.arrived.get(rule).copied().unwrap_or(Seq(0))
    }

    /// Whether an event of this rule is older than the rule keeps it.
    pub fn is_too_old(&self, rule: usize, created_at: Timestamp, seq: Seq) -> bool {
        created_at < self.rules.rules()[rule].oldest(self.now) || seq < self.arrived(rule)
    }

    /// Rule and size of an event that the rules may remove.
    pub fn judge(&self, entry: Entry) -> Result<Option<Judged>, StoreError> {
        let Some(event) = self.snapshot.get(entry.seq)?.filter(|_| !self.is_gone(entry.seq)) else { return Ok(None) };
        let rule = self.rules.rule_of(event);
        let (bytes, footprint) = (event.record().len() as u64, footprint(event));
        Ok(rule.map(|rule| Judged { rule, bytes, footprint }))
    }

    pub fn find(&mut self, entry: Entry, judged: &Judged, cause: Cause) {
        self.find_at(entry.seq, entry.created_at, judged, cause);
    }

    fn find_at(&mut self, seq: Seq, created_at: Timestamp, judged: &Judged, cause: Cause) {
        self.footprint += judged.footprint;
        self.found.push(Candidate { seq, created_at, bytes: judged.bytes, footprint: judged.footprint, cause });
    }
}

/// What costs as much as looking at a few rows: finding the next kind or author.
pub(super) const SEEK_ROWS: u32 = 8;

/// Finds what is too old by `created_at`, kind by kind from the oldest end: young events are not looked at.
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
                    && slice.is_too_old(judged.rule, entry.created_at, entry.seq)
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

/// Finds what has been here for too long, in the order of arrival: later arrivals are not looked at, and no event twice
/// for one rule.
pub struct ArrivalSweep {
    /// By rule: lower numbers were looked at, by this sweep or those before.
    seen: Vec<Seq>,
    rule: usize,
}

impl ArrivalSweep {
    /// A sweep that begins, for each rule, where others ended; without a number for a rule, at the first event.
    #[must_use]
    pub const fn new(seen: Vec<Seq>) -> Self {
        Self { seen, rule: 0 }
    }

    /// How far it has come: see [`Self::new`].
    #[must_use]
    pub fn into_seen(self) -> Vec<Seq> {
        self.seen
    }

    /// Goes on; true when everything was looked at.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        self.seen.resize(slice.rules.rules().len(), Seq(1));
        while let Some(seen) = self.seen.get_mut(self.rule) {
            let (rule, until, snapshot) = (self.rule, slice.arrived(self.rule), slice.snapshot);
            for row in snapshot.after(Seq(seen.0 - 1))? {
                if slice.is_over() {
                    return Ok(false);
                }
                let (seq, event) = row?;
                if seq >= until {
                    break;
                }
                slice.spend(1);
                *seen = Seq(seq.0 + 1);
                if slice.rules.rule_of(event) == Some(rule) && !slice.is_gone(seq) {
                    let judged = Judged { rule, bytes: event.record().len() as u64, footprint: footprint(event) };
                    slice.find_at(seq, event.created_at(), &judged, Cause::Age(rule));
                }
            }
            *seen = (*seen).max(until);
            self.rule += 1;
        }
        Ok(true)
    }
}
