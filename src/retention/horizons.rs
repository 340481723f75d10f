//! From which `created_at` on events are accepted, as far as that depends on what is held: an evicted event is not
//! accepted only to be evicted again.
//!
//! The evictor writes the horizons, connections read them. Those for bytes and room are saved in the store by the
//! commit that evicts, so that a restart or an import knows them. Those of authors are derived again from the events
//! they have; until that is done, or when too many authors are at a limit, an event may be accepted once more.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use siphasher::sip::SipHasher24;

use super::authors::{AuthorLimit, AuthorWalk, Floor};
use super::cause::{Candidate, Cause};
use super::slice::Slice;
use crate::nostr::{EventView, Kind, Pubkey, Reason, Timestamp};
use crate::policy::Retention;
use crate::policy::retention::{blocked, is_request};
use crate::store::keys::footprint;
use crate::store::{Note, Snapshot, Store, StoreError};

/// Authors and kinds at a limit that are remembered, at about 70 bytes each.
const AUTHORS: usize = 65_536;

/// Index rows that a connection reads to learn what an author has: a millisecond or two, once per author.
const LOOK_ROWS: u32 = 16_384;

/// The same when each record has to be read.
const LOOK_RECORDS: u32 = 2048;

/// Later than any event: nothing is accepted.
pub const NEVER: Timestamp = Timestamp(u64::MAX);

/// From which `created_at` on events of a rule are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Horizon {
    /// Because of the rule's `max_events` and `max_bytes`.
    pub own: Timestamp,
    /// Because of `storage.max_bytes`, the map or the disk.
    pub total: Timestamp,
}

/// A limit that an author has reached: of a rule and kind, or of all kinds together.
type ReachedLimit = (Pubkey, Option<(usize, Kind)>);

/// The horizons in force: one for each rule, and one for each author at a limit, at most 65,536. Shared by the evictor,
/// which moves them, and the threads that read them.
pub struct Horizons {
    /// Identifies the rules.
    fingerprint: AtomicU64,
    rules: ArcSwap<Vec<Horizon>>,
    /// The last event that is kept.
    authors: Cache<ReachedLimit, Floor>,
    /// Whether every author has been looked at under these rules.
    knows_authors: AtomicBool,
    /// The authors that have been looked at, until then.
    looked: Cache<Pubkey, ()>,
}

impl Default for Horizons {
    fn default() -> Self {
        Self {
            fingerprint: AtomicU64::new(fingerprint(&Retention::default())),
            rules: ArcSwap::default(),
            authors: Cache::new(AUTHORS),
            knows_authors: AtomicBool::new(false),
            looked: Cache::new(AUTHORS),
        }
    }
}

/// Identifies rules, without the limits over all of them: the same in every build. A horizon for room is dropped when
/// there is room.
fn fingerprint(rules: &Retention) -> u64 {
    let mut hasher = SipHasher24::new();
    rules.hash_rules(&mut hasher);
    hasher.finish()
}

/// The horizon of each rule that an evictor with the same rules saved in the store; `None` if none did.
///
/// # Errors
/// When the store cannot be read.
pub fn saved(rules: &Retention, store: &Store) -> Result<Option<Vec<Horizon>>, StoreError> {
    Ok(store.read()?.note(Note::Horizons)?.and_then(|row| read(rules, row)))
}

/// Reads a row that [`Horizons::to_bytes`] wrote; `None` if it was saved under other rules.
fn read(rules: &Retention, row: &[u8]) -> Option<Vec<Horizon>> {
    let (numbers, rest) = row.as_chunks::<8>();
    let (first, times) = numbers.split_first()?;
    let (pairs, odd) = times.as_chunks::<2>();
    let time = |bytes: [u8; 8]| Timestamp(u64::from_be_bytes(bytes));
    let saved: Vec<_> = pairs.iter().map(|[own, total]| Horizon { own: time(*own), total: time(*total) }).collect();
    let is_ours = u64::from_be_bytes(*first) == fingerprint(rules);
    (is_ours && rest.is_empty() && odd.is_empty() && saved.len() == rules.rules().len()).then_some(saved)
}

impl Horizon {
    /// Events of the rule created before this were removed for bytes or for room; zero if none were.
    #[must_use]
    pub fn oldest(self) -> Timestamp {
        self.own.max(self.total)
    }
}

impl Horizons {
    /// The horizons that an evictor with the same rules saved in the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(rules: &Retention, store: &Store) -> Result<Self, StoreError> {
        let horizons = Self::default();
        horizons.resume(rules, store)?;
        Ok(horizons)
    }

    /// Begins with the horizons that an evictor with these rules saved in the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resume(&self, rules: &Retention, store: &Store) -> Result<(), StoreError> {
        self.begin(rules);
        if let Some(saved) = saved(rules, store)? {
            self.rules.store(saved.into());
        }
        Ok(())
    }

    /// The row for the store: the fingerprint, then two times of 8 bytes per rule.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let rules = self.rules.load();
        let times = rules.iter().flat_map(|horizon| [horizon.own.0, horizon.total.0]);
        let all = std::iter::once(self.fingerprint.load(Ordering::Relaxed)).chain(times);
        all.flat_map(u64::to_be_bytes).collect()
    }

    /// Forgets the authors, and the horizons too if the rules differ from before.
    pub fn begin(&self, rules: &Retention) {
        self.knows_authors.store(false, Ordering::Relaxed);
        self.authors.clear();
        self.looked.clear();
        let fingerprint = fingerprint(rules);
        if self.fingerprint.swap(fingerprint, Ordering::Relaxed) != fingerprint {
            self.rules.store(vec![Horizon::default(); rules.rules().len()].into());
        }
    }

    /// Notes that every author has been looked at.
    pub fn know_authors(&self) {
        self.knows_authors.store(true, Ordering::Relaxed);
        self.looked.clear();
    }

    /// Changes the horizon of a rule; returns whether that made a difference.
    pub fn set(&self, rule: usize, change: impl FnOnce(&mut Horizon)) -> bool {
        let mut rules = Vec::clone(&self.rules.load());
        if let Some(horizon) = rules.get_mut(rule) {
            let before = *horizon;
            change(horizon);
            if *horizon != before {
                self.rules.store(rules.into());
                return true;
            }
        }
        false
    }

    /// Moves the horizons past events that are about to be removed to save space: they are the oldest of their rules.
    pub fn went(&self, found: &[Candidate]) {
        let mut rules = Vec::clone(&self.rules.load());
        for one in found {
            let Some(horizon) = rules.get_mut(one.cause.rule()) else { continue };
            let time = match one.cause {
                Cause::RuleEvents(_) | Cause::RuleBytes(_) => &mut horizon.own,
                Cause::Total(_) => &mut horizon.total,
                Cause::Age(_) | Cause::PerAuthorAndKind(_) | Cause::AuthorEvents(_) | Cause::AuthorBytes(_) => continue,
            };
            *time = (*time).max(Timestamp(one.created_at.0 + 1));
        }
        self.rules.store(rules.into());
    }

    /// Drops the horizons for room; returns whether there were any.
    pub fn relax_total(&self) -> bool {
        let relax = |rule| self.set(rule, |horizon| horizon.total = Timestamp(0));
        (0..self.rules.load().len()).filter(|rule| relax(*rule)).count() > 0
    }

    /// Remembers the limits that an author has reached.
    pub fn note(&self, walk: &AuthorWalk) {
        let AuthorWalk { author, limit, floors, .. } = walk;
        for &(rule, kind, at) in &floors.kinds {
            let floor = Floor { rule, created_at: at, spare_bytes: 0 };
            self.authors.insert((*author, Some((rule, kind))), floor);
        }
        match floors.total {
            Some(floor) => self.authors.insert((*author, None), floor),
            None if *limit == AuthorLimit::Kinds => {}
            None => drop(self.authors.remove(&(*author, None))),
        }
    }

    /// Looks at what an author has, unless that is known, or more than `rows` rows.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn look(
        &self,
        rules: &Retention,
        author: Pubkey,
        snapshot: &Snapshot<'_>,
        now: Timestamp,
        rows: u32,
    ) -> Result<(), StoreError> {
        let is_known = || self.knows_authors.load(Ordering::Relaxed) || self.looked.get(&author).is_some();
        if !rules.counts_authors() || is_known() {
            return Ok(());
        }
        let mut left = rows;
        let mut walk = AuthorWalk::new(author, AuthorLimit::Both);
        while left > 0 {
            let mut slice = Slice::new(rules, snapshot, now, left)?;
            if walk.step(&mut slice)? {
                self.note(&walk);
                break;
            }
            left = slice.rows;
        }
        self.looked.insert(author, ());
        Ok(())
    }

    /// Whether `event` would be kept, after a look at what its author has. If that cannot be read, the event is let
    /// through: the writer will report the error.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_held(
        &self,
        store: &Store,
        rules: &Retention,
        event: EventView<'_>,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let rows = if rules.limits().max_bytes_per_author > 0 { LOOK_RECORDS } else { LOOK_ROWS };
        if rules.counts_authors()
            && !self.knows_authors.load(Ordering::Relaxed)
            && let Ok(snapshot) = store.read()
            && let Err(error) = self.look(rules, event.pubkey(), &snapshot, now, rows)
        {
            tracing::error!(%error, "what an author has could not be read");
        }
        self.check(rules, event, now)
    }

    /// Whether `event` would be kept.
    ///
    /// # Errors
    /// `blocked:` with the limit that would remove it at once.
    pub fn check(&self, rules: &Retention, event: EventView<'_>, now: Timestamp) -> Result<(), Reason> {
        let (kind, author, at) = (event.kind(), event.pubkey(), event.created_at());
        if rules.is_empty() || kind.is_ephemeral() || is_request(kind) {
            return Ok(());
        }
        let Some(rule) = rules.rule_of(event) else { return Ok(()) };
        let of_author = rules.limits().max_bytes_per_author;
        if of_author > 0 && footprint(event) > of_author {
            return Err(kept_of_one_author(rules));
        }
        if at >= rules.rules()[rule].grace_end(now) {
            return Ok(());
        }
        if let Some(horizon) = self.rules.load().get(rule) {
            let oldest = horizon.own.max(horizon.total);
            if oldest == NEVER {
                return Err(blocked(format!("there is no room for events of kind {kind} here (rule {})", rule + 1)));
            }
            if at < oldest {
                let text = format!("there is only room for events of kind {kind} since {oldest} (rule {})", rule + 1);
                return Err(blocked(text));
            }
        }
        if self.authors.is_empty() {
            return Ok(());
        }
        let of_kind = rules.rules()[rule].bounds.max_per_author_and_kind;
        if of_kind > 0 && self.authors.get(&(author, Some((rule, kind)))).is_some_and(|floor| at < floor.created_at) {
            let text = format!("the newest {of_kind} events of kind {kind} of one author are kept (rule {})", rule + 1);
            return Err(blocked(text));
        }
        let has_no_room = |floor: Floor| {
            let is_behind = rule > floor.rule || (rule == floor.rule && at < floor.created_at);
            is_behind && footprint(event) > floor.spare_bytes
        };
        if self.authors.get(&(author, None)).is_some_and(has_no_room) {
            return Err(kept_of_one_author(rules));
        }
        Ok(())
    }
}

/// The reason for refusing an event of an author who has reached the limits.
fn kept_of_one_author(rules: &Retention) -> Reason {
    let limits = rules.limits();
    let kept = match (limits.max_events_per_author, limits.max_bytes_per_author) {
        (events, 0) => format!("{events} events"),
        (0, bytes) => format!("{bytes} bytes"),
        (events, bytes) => format!("{events} events and {bytes} bytes"),
    };
    blocked(format!("the newest {kept} of one author are kept here"))
}
