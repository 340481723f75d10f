//! Walks over the store that find what the rules no longer keep, a slice at a time.
//!
//! They remove nothing. Between slices they hold places, never a transaction (INV-9), and what a place names
//! may be gone by then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::plan::Ledger;
use crate::nostr::{Kind, Pubkey, Timestamp};
use crate::policy::{Retention, Rule, RuleOfAll};
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
    PerAuthor(usize),
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
            | Self::PerAuthor(rule)
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

    fn flow(&self) -> Flow {
        if self.is_over() { Flow::Pause } else { Flow::Continue }
    }

    fn is_gone(&self, seq: Seq) -> bool {
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
const SEEK_ROWS: u32 = 8;

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

/// An event among those of its author, the first to go being the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Standing {
    rule: usize,
    created_at: Reverse<Timestamp>,
    id: [u8; 3],
    seq: Seq,
    kind: Kind,
}

/// The last events that stay of an author who has as many as may stay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Floors {
    /// Rules and kinds of which the author has as many as stay, with the `created_at` of the last.
    pub kinds: Vec<(usize, Kind, Timestamp)>,
    /// The rule and `created_at` of the last that stays, when the author has as many as stay.
    pub total: Option<(usize, Timestamp)>,
}

/// Which limits of an author are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthorLimit {
    /// `max_per_author_and_kind` of the rules.
    Kinds,
    /// `max_events_per_author`.
    Total,
    /// Both, as if what is beyond the first were gone already.
    Both,
}

/// Finds what one author has too much of.
///
/// Authors whose keys begin alike stand together in the index. Rows are counted without a look at their records until
/// that comes to more than a limit; then all is counted again, by records, so that nobody can fill the place of another.
pub struct AuthorWalk {
    /// Whose events.
    pub author: Pubkey,
    /// Which limits.
    pub limit: AuthorLimit,
    is_careful: bool,
    place: Place,
    kind: Option<Kind>,
    rule: RuleOfAll,
    /// Events of this kind so far, by rule.
    in_kind: Vec<u64>,
    best: BinaryHeap<Standing>,
    /// See [`Floors`]; complete when the walk is.
    pub floors: Floors,
    /// Index rows that were looked at.
    pub rows: u64,
    /// How many more events of this author could reach a limit.
    pub margin: u64,
}

impl AuthorWalk {
    /// A walk over all events of `author`.
    #[must_use]
    pub fn new(author: Pubkey, limit: AuthorLimit) -> Self {
        Self {
            author,
            limit,
            is_careful: false,
            place: Place::of_author(&author, Kind(0)),
            kind: None,
            rule: RuleOfAll::Rule(None),
            in_kind: Vec::new(),
            best: BinaryHeap::new(),
            floors: Floors::default(),
            rows: 0,
            margin: u64::MAX,
        }
    }

    /// Goes on; true when everything was looked at.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        let mut place = self.place.clone();
        let snapshot = slice.snapshot;
        let author = self.author;
        let was_careful = self.is_careful;
        let is_done = snapshot.walk_author(&author, &mut place, |entry| {
            slice.spend(1);
            self.rows += 1;
            if slice.is_gone(entry.seq) {
                return Ok(slice.flow());
            }
            if !self.is_careful || snapshot.get(entry.seq)?.is_some_and(|event| event.pubkey() == author) {
                self.visit(entry, slice)?;
            }
            Ok(if self.is_careful == was_careful { slice.flow() } else { Flow::Pause })
        })?;
        if self.is_careful != was_careful {
            *self = Self { is_careful: true, ..Self::new(author, self.limit) };
            return Ok(false);
        }
        self.place = place;
        if is_done {
            self.finish(slice.rules);
        }
        Ok(is_done)
    }

    /// The limits that are looked at: of one kind under `rule`, and of all. 0 is none.
    fn limits(&self, rule: &Rule, rules: &Retention) -> (u64, u64) {
        let (of_kind, of_all) = (rule.bounds.max_per_author_and_kind, rules.limits().max_events_per_author);
        match self.limit {
            AuthorLimit::Kinds => (of_kind, 0),
            AuthorLimit::Total => (0, of_all),
            AuthorLimit::Both => (of_kind, of_all),
        }
    }

    fn visit(&mut self, entry: Entry, slice: &mut Slice<'_>) -> Result<(), StoreError> {
        if self.kind != Some(entry.kind) {
            self.rule = slice.rules.rule_of_all(&self.author, entry.kind);
            self.kind = Some(entry.kind);
            self.in_kind.clear();
            self.in_kind.resize(slice.rules.rules().len(), 0);
        }
        let rule = match self.rule {
            RuleOfAll::Rule(rule) => rule,
            RuleOfAll::ByRecipient => slice.snapshot.get(entry.seq)?.and_then(|event| slice.rules.rule_of(event)),
        };
        let Some(place) = rule else { return Ok(()) };
        let rule = &slice.rules.rules()[place];
        if entry.created_at < rule.oldest(slice.now) {
            // It goes for its age, and must not count.
            return Ok(());
        }
        let (of_kind, of_all) = self.limits(rule, slice.rules);
        self.in_kind[place] += 1;
        let in_kind = self.in_kind[place];
        if of_kind > 0 {
            self.margin = self.margin.min(of_kind.saturating_sub(in_kind));
        }
        if in_kind == of_kind {
            self.floors.kinds.push((place, entry.kind, entry.created_at));
        }
        if of_kind > 0 && in_kind > of_kind {
            return self.lose(entry, Cause::PerAuthorAndKind(place), slice);
        }
        if of_all == 0 {
            return Ok(());
        }
        let created_at = Reverse(entry.created_at);
        self.best.push(Standing { rule: place, created_at, id: entry.id, seq: entry.seq, kind: entry.kind });
        if self.best.len() as u64 > of_all
            && let Some(worst) = self.best.pop()
        {
            let Standing { kind, created_at, id, seq, .. } = worst;
            let entry = Entry { kind, created_at: created_at.0, id, seq };
            self.lose(entry, Cause::PerAuthor(worst.rule), slice)?;
        }
        Ok(())
    }

    fn lose(&mut self, entry: Entry, cause: Cause, slice: &mut Slice<'_>) -> Result<(), StoreError> {
        if entry.created_at >= slice.rules.rules()[cause.rule()].grace_end(slice.now) {
            // It counts, and stays.
        } else if !self.is_careful {
            self.is_careful = true;
        } else if let Some(judged) = slice.judge(entry)? {
            slice.find(entry, &judged, cause);
        }
        Ok(())
    }

    fn finish(&mut self, rules: &Retention) {
        let of_all = match self.limit {
            AuthorLimit::Kinds => 0,
            AuthorLimit::Total | AuthorLimit::Both => rules.limits().max_events_per_author,
        };
        if of_all > 0 {
            self.margin = self.margin.min(of_all.saturating_sub(self.best.len() as u64));
        }
        if self.limit != AuthorLimit::Total {
            // A kind that the author has nothing of yet has all its room.
            let of_kinds = rules.rules().iter().map(|rule| rule.bounds.max_per_author_and_kind);
            self.margin = self.margin.min(of_kinds.filter(|&limit| limit > 0).min().unwrap_or(u64::MAX));
        }
        if of_all > 0 && self.best.len() as u64 >= of_all {
            self.floors.total = self.best.peek().map(|worst| (worst.rule, worst.created_at.0));
        }
        self.best = BinaryHeap::new();
    }
}

/// Whose events are looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authors {
    /// Everybody's.
    All,
    /// Only theirs.
    These(Vec<Pubkey>),
}

/// Finds what authors have too much of.
pub struct AuthorSweep {
    limit: AuthorLimit,
    authors: Authors,
    place: Option<Place>,
    walk: Option<AuthorWalk>,
}

impl AuthorSweep {
    /// A sweep over the events of these authors.
    #[must_use]
    pub const fn new(authors: Authors, limit: AuthorLimit) -> Self {
        Self { limit, authors, place: None, walk: None }
    }

    /// Goes on; true when that was all. Authors that are done are in [`Slice::walked`].
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        while !slice.is_over() {
            if self.walk.is_none() {
                let Some(author) = self.next(slice)? else { return Ok(true) };
                self.walk = Some(AuthorWalk::new(author, self.limit));
            }
            let Some(mut walk) = self.walk.take() else { continue };
            if walk.step(slice)? {
                self.place = Some(Snapshot::behind_author(&walk.author));
                slice.walked.push(walk);
            } else {
                self.walk = Some(walk);
            }
        }
        Ok(false)
    }

    fn next(&mut self, slice: &mut Slice<'_>) -> Result<Option<Pubkey>, StoreError> {
        slice.spend(SEEK_ROWS);
        match &mut self.authors {
            Authors::All => Ok(slice.snapshot.next_author(self.place.as_ref())?.map(|(_, author)| author)),
            Authors::These(authors) => Ok(authors.pop()),
        }
    }
}
