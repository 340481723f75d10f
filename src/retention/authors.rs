//! Finds the events that single authors have too many of: per rule and kind, and in all.
//!
//! Walks the author index, one author after the other. Removes nothing. Its memory is bounded, however much an author
//! has and however high the limits are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cause::Cause;
use super::slice::{Progress, SEEK_ROWS, Slice};
use crate::nostr::{Kind, Pubkey, Timestamp};
use crate::policy::{Retention, Rule, RuleOfAll};
use crate::store::keys::footprint;
use crate::store::{Entry, Seq, Snapshot, StoreError, WalkPosition};

/// Events beyond the limits over all kinds that one walk remembers, at 56 bytes each. An author with more of them is
/// walked again once these are removed. Tests use few, so that this happens.
const SELECTED: usize = if cfg!(test) { 5 } else { 65_536 };

/// Bytes in the data file of the largest event that clients may send by default.
const LARGE_EVENT: u64 = 1 << 20;

/// An event in the order in which the events of its author are removed: the greatest goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    rule: usize,
    created_at: Reverse<Timestamp>,
    id: [u8; 3],
    seq: Seq,
    kind: Kind,
    /// 0 if bytes are not limited.
    footprint: u64,
}

/// The last event of an author that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floor {
    /// Its rule.
    pub rule: usize,
    /// Its `created_at`.
    pub created_at: Timestamp,
    /// Bytes in the data file that are left for events that come after it in the order of value.
    pub spare_bytes: u64,
}

/// The last events that are kept of an author who has reached limits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Floors {
    /// The rules and kinds whose limit is reached, with the `created_at` of the last event that is kept.
    pub kinds: Vec<(usize, Kind, Timestamp)>,
    /// The last event over all kinds, if that limit is reached or nearly so.
    pub total: Option<Floor>,
}

/// How much an author may add before a limit can be exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Margin {
    /// Events.
    pub events: u64,
    /// Bytes in the data file.
    pub bytes: u64,
}

impl Margin {
    const MAX: Self = Self { events: u64::MAX, bytes: u64::MAX };

    /// The minimum of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { events: self.events.min(other.events), bytes: self.bytes.min(other.bytes) }
    }
}

/// The limits that a walk checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthorLimit {
    /// `max_per_author_and_kind` of the rules.
    Kinds,
    /// `max_events_per_author` and `max_bytes_per_author`.
    Total,
    /// Both. Events beyond the first do not count towards the second.
    Both,
}

/// The limits of an author over all kinds; `u64::MAX` means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limits {
    events: u64,
    bytes: u64,
}

impl Limits {
    fn new(limit: AuthorLimit, rules: &Retention) -> Self {
        let limits = rules.limits();
        let set = |number: u64| if number == 0 || limit == AuthorLimit::Kinds { u64::MAX } else { number };
        Self { events: set(limits.max_events_per_author), bytes: set(limits.max_bytes_per_author) }
    }

    const fn are_bytes_set(self) -> bool {
        self.bytes < u64::MAX
    }

    /// How much exceeds the limits.
    const fn excess(self, held: Margin) -> Margin {
        Margin { events: held.events.saturating_sub(self.events), bytes: held.bytes.saturating_sub(self.bytes) }
    }
}

/// The passes of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Counts index rows. Authors whose keys share a prefix are adjacent in the index, so this may count too many.
    Rows,
    /// Reads each record, so that events of others do not count, and selects what to remove.
    Records,
    /// Reports the events selected for the limits over all kinds.
    Selected,
}

/// Finds the events that one author has too many of.
pub struct AuthorWalk {
    /// The author.
    pub author: Pubkey,
    /// The limits to check.
    pub limit: AuthorLimit,
    pass: Pass,
    place: WalkPosition,
    kind: Option<Kind>,
    rule: RuleOfAll,
    /// Events of the current kind so far, per rule.
    in_kind: Vec<u64>,
    /// Whether the limit of a rule and kind is exceeded.
    is_kind_over: bool,
    /// What counts towards the limits over all kinds.
    held: Margin,
    /// The excess that the first pass found.
    excess: Margin,
    selection: Selection,
    /// The selected events, the first to remove last.
    lost: Vec<(Rank, Cause)>,
    /// Whether more must be removed than was selected: the author has to be walked again.
    is_partial: bool,
    /// Complete when the walk is.
    pub floors: Floors,
    /// Index rows read.
    pub rows: u64,
    /// Complete when the walk is.
    pub margin: Margin,
}

/// The least valuable events of an author, as few as make up an excess.
#[derive(Default)]
struct Selection {
    /// The most valuable of them on top.
    worst: BinaryHeap<Reverse<Rank>>,
    bytes: u64,
    /// The least valuable event that is kept.
    floor: Option<Rank>,
    /// Whether the excess exceeds the events that are remembered.
    is_partial: bool,
}

impl Selection {
    fn push(&mut self, one: Rank, excess: Margin) {
        self.bytes += one.footprint;
        self.worst.push(Reverse(one));
        self.shrink(excess);
        if self.worst.len() > SELECTED {
            self.is_partial = true;
            self.pop();
        }
    }

    /// Drops the most valuable events as long as the rest makes up the excess.
    fn shrink(&mut self, excess: Margin) {
        while let Some(Reverse(best)) = self.worst.peek()
            && self.worst.len() as u64 > excess.events
            && self.bytes - best.footprint >= excess.bytes
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(Reverse(best)) = self.worst.pop() {
            self.bytes -= best.footprint;
            self.floor = self.floor.max(Some(best));
        }
    }
}

impl AuthorWalk {
    /// A walk over all events of `author`.
    #[must_use]
    pub fn new(author: Pubkey, limit: AuthorLimit) -> Self {
        Self {
            author,
            limit,
            pass: Pass::Rows,
            place: WalkPosition::of_author(&author, Kind(0)),
            kind: None,
            rule: RuleOfAll::Rule(None),
            in_kind: Vec::new(),
            is_kind_over: false,
            held: Margin::default(),
            excess: Margin::default(),
            selection: Selection::default(),
            lost: Vec::new(),
            is_partial: false,
            floors: Floors::default(),
            rows: 0,
            margin: Margin::MAX,
        }
    }

    /// Continues; true when the walk is complete.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        let limits = Limits::new(self.limit, slice.rules);
        if self.pass != Pass::Selected {
            if !self.walk(limits, slice)? {
                return Ok(false);
            }
            if self.pass == Pass::Rows && self.is_over(limits) {
                let (excess, pass) = (limits.excess(self.held), Pass::Records);
                *self = Self { pass, excess, ..Self::new(self.author, self.limit) };
                return Ok(false);
            }
            self.finish(limits, slice.rules);
        }
        self.report(slice)
    }

    /// Continues along the index; true at the end of the author's events.
    fn walk(&mut self, limits: Limits, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        let (mut place, snapshot, author) = (self.place.clone(), slice.snapshot, self.author);
        let needs_records = self.pass == Pass::Records || limits.are_bytes_set();
        let is_done = snapshot.walk_author(&author, &mut place, |entry| {
            slice.spend(1);
            self.rows += 1;
            if slice.is_gone(entry.seq) {
                return Ok(slice.flow());
            }
            let mut bytes = 0;
            if needs_records {
                let Some(event) = snapshot.get(entry.seq)?.filter(|event| event.pubkey() == author) else {
                    return Ok(slice.flow());
                };
                bytes = if limits.are_bytes_set() { footprint(event) } else { 0 };
            }
            self.visit(entry, bytes, slice)?;
            Ok(slice.flow())
        })?;
        self.place = place;
        Ok(is_done)
    }

    /// Whether the first pass found that a limit is reached.
    const fn is_over(&self, limits: Limits) -> bool {
        self.is_kind_over || self.held.events >= limits.events || self.held.bytes >= limits.bytes
    }

    fn visit(&mut self, entry: Entry, bytes: u64, slice: &mut Slice<'_>) -> Result<(), StoreError> {
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
        if slice.is_too_old(place, entry.created_at, entry.seq) {
            // It is removed for its age, and does not count.
            return Ok(());
        }
        let has_grace = entry.created_at >= rule.grace_end(slice.now);
        if self.is_beyond_kind(entry, place, rule) && !has_grace {
            self.is_kind_over = true;
            if self.pass == Pass::Records
                && let Some(removable) = slice.removable(entry)?
            {
                slice.find(entry, &removable, Cause::PerAuthorAndKind(place));
            }
            return Ok(());
        }
        if self.limit == AuthorLimit::Kinds {
            return Ok(());
        }
        self.held.events += 1;
        self.held.bytes += bytes;
        if has_grace {
            // It counts, but is not removed: others are removed instead.
            return Ok(());
        }
        let Entry { kind, created_at, id, seq } = entry;
        let one = Rank { rule: place, created_at: Reverse(created_at), id, seq, kind, footprint: bytes };
        self.selection.push(one, self.excess);
        Ok(())
    }

    /// Counts an event of a kind and says whether it exceeds the limit.
    fn is_beyond_kind(&mut self, entry: Entry, place: usize, rule: &Rule) -> bool {
        let most = rule.bounds.max_per_author_and_kind;
        self.in_kind[place] += 1;
        if most == 0 || self.limit == AuthorLimit::Total {
            return false;
        }
        let in_kind = self.in_kind[place];
        self.margin.events = self.margin.events.min(most.saturating_sub(in_kind));
        if in_kind == most {
            self.floors.kinds.push((place, entry.kind, entry.created_at));
        }
        in_kind > most
    }

    /// Evaluates the pass at the end of the index.
    fn finish(&mut self, limits: Limits, rules: &Retention) {
        self.pass = Pass::Selected;
        if self.limit != AuthorLimit::Total {
            // For a kind of which the author has no events yet, the whole limit is left.
            let of_kinds = rules.rules().iter().map(|rule| rule.bounds.max_per_author_and_kind);
            let smallest = of_kinds.filter(|&limit| limit > 0).min().unwrap_or(u64::MAX);
            self.margin.events = self.margin.events.min(smallest);
        }
        if self.limit == AuthorLimit::Kinds {
            return;
        }
        // The first pass may have counted events of others, and some may be gone since.
        let excess = limits.excess(self.held);
        self.selection.shrink(excess);
        let Selection { worst, bytes, floor, is_partial } = std::mem::take(&mut self.selection);
        let stays = Margin { events: self.held.events - worst.len() as u64, bytes: self.held.bytes - bytes };
        let spare = |limit: u64, held: u64| if limit == u64::MAX { u64::MAX } else { limit.saturating_sub(held) };
        let left = Margin { events: spare(limits.events, stays.events), bytes: spare(limits.bytes, stays.bytes) };
        self.margin = self.margin.min(left);
        let spare_bytes = if left.events == 0 { 0 } else { left.bytes };
        self.floors.total = floor
            .filter(|_| !is_partial && spare_bytes < LARGE_EVENT)
            .map(|Rank { rule, created_at, .. }| Floor { rule, created_at: created_at.0, spare_bytes });
        let cause = |(place, Reverse(one)): (usize, Reverse<Rank>)| {
            let is_for_number = (place as u64) < excess.events;
            (one, if is_for_number { Cause::AuthorEvents(one.rule) } else { Cause::AuthorBytes(one.rule) })
        };
        // `lost` is taken from its end.
        self.lost = worst.into_sorted_vec().into_iter().enumerate().map(cause).collect();
        self.lost.reverse();
        self.is_partial = is_partial;
    }

    /// Reports the selected events; true when all are reported.
    fn report(&mut self, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        while !slice.is_over() {
            let Some((Rank { kind, created_at, id, seq, .. }, cause)) = self.lost.pop() else { return Ok(true) };
            slice.spend(1);
            let entry = Entry { kind, created_at: created_at.0, id, seq };
            if let Some(removable) = slice.removable(entry)? {
                slice.find(entry, &removable, cause);
            }
        }
        Ok(self.lost.is_empty())
    }
}

/// The authors to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authors {
    /// All authors.
    All,
    /// These authors.
    These(Vec<Pubkey>),
}

/// Finds the events that authors have too many of.
pub struct AuthorScan {
    limit: AuthorLimit,
    authors: Authors,
    place: Option<WalkPosition>,
    walk: Option<AuthorWalk>,
    walked: Vec<AuthorWalk>,
}

impl AuthorScan {
    /// A scan of these authors.
    #[must_use]
    pub const fn new(authors: Authors, limit: AuthorLimit) -> Self {
        Self { limit, authors, place: None, walk: None, walked: Vec::new() }
    }

    /// The walks that were completed since the last call.
    pub fn take_walked(&mut self) -> Vec<AuthorWalk> {
        std::mem::take(&mut self.walked)
    }

    /// Continues.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>) -> Result<Progress, StoreError> {
        while !slice.is_over() {
            if self.walk.is_none() {
                let Some(author) = self.next(slice)? else { return Ok(Progress::Done) };
                self.walk = Some(AuthorWalk::new(author, self.limit));
            }
            let Some(mut walk) = self.walk.take() else { continue };
            if !walk.step(slice)? {
                self.walk = Some(walk);
            } else if walk.is_partial {
                self.walk = Some(AuthorWalk::new(walk.author, self.limit));
                return Ok(Progress::AwaitRemoval);
            } else {
                self.place = Some(Snapshot::after_author(&walk.author));
                self.walked.push(walk);
            }
        }
        Ok(Progress::More)
    }

    fn next(&mut self, slice: &mut Slice<'_>) -> Result<Option<Pubkey>, StoreError> {
        slice.spend(SEEK_ROWS);
        match &mut self.authors {
            Authors::All => Ok(slice.snapshot.next_author(self.place.as_ref())?.map(|(_, author)| author)),
            Authors::These(authors) => Ok(authors.pop()),
        }
    }
}
