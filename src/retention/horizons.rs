//! How far back events are kept where that depends on what is held: what was evicted does not come back to be
//! evicted again.
//!
//! The evictor writes it, the connections read it. How far the rules for bytes have come is a row of the store, put by
//! the commit that evicts, so a restart or an import knows it too. What authors have reached is found again from what
//! they have; only where nobody has looked yet, or too many authors are at a limit, an event may come back once.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use siphasher::sip::SipHasher24;

use super::authors::{AuthorLimit, AuthorWalk, Floor};
use super::sweep::{Candidate, Cause, Slice};
use crate::nostr::{EventView, Kind, Pubkey, Reason, Timestamp};
use crate::policy::Retention;
use crate::policy::retention::{blocked, is_request};
use crate::store::keys::footprint;
use crate::store::{Note, Snapshot, Store, StoreError};

/// Authors and kinds that are remembered to have reached a limit, at about 70 bytes each.
const AUTHORS: usize = 65_536;

/// Index rows that a connection looks at to know what an author has: a millisecond or two, once for each author.
const LOOK_ROWS: u32 = 16_384;

/// The same where the record of each is looked at.
const LOOK_RECORDS: u32 = 2048;

/// No event is young enough.
pub const NEVER: Timestamp = Timestamp(u64::MAX);

/// From where on events of a rule are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Horizon {
    /// For its own `max_events` and `max_bytes`.
    pub own: Timestamp,
    /// For the total, or the disk.
    pub total: Timestamp,
}

/// A limit that an author has reached: of one kind under a rule, or of all.
type Reached = (Pubkey, Option<(usize, Kind)>);

/// See the module.
pub struct Horizons {
    /// What tells these rules from others.
    fingerprint: AtomicU64,
    rules: ArcSwap<Vec<Horizon>>,
    /// The last event that stays.
    authors: Cache<Reached, Floor>,
    /// Every author was looked at since the rules are these.
    knows_authors: AtomicBool,
    /// Authors that were, until then.
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

/// The same for the same rules in every build. The limits over all of them are left out: a horizon is given up when there
/// is room.
fn fingerprint(rules: &Retention) -> u64 {
    let mut hasher = SipHasher24::new();
    rules.hash_rules(&mut hasher);
    hasher.finish()
}

impl Horizons {
    /// What an evictor with the same rules left in the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(rules: &Retention, store: &Store) -> Result<Self, StoreError> {
        let horizons = Self::default();
        horizons.begin(rules);
        if let Some(saved) = store.read()?.note(Note::Horizons)?.and_then(|row| horizons.read(row)) {
            horizons.rules.store(saved.into());
        }
        Ok(horizons)
    }

    /// The row for the store: the fingerprint, and both times of every rule, each in 8 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let rules = self.rules.load();
        let times = rules.iter().flat_map(|horizon| [horizon.own.0, horizon.total.0]);
        let all = std::iter::once(self.fingerprint.load(Ordering::Relaxed)).chain(times);
        all.flat_map(u64::to_be_bytes).collect()
    }

    /// Reads a row, if it is of these rules.
    fn read(&self, row: &[u8]) -> Option<Vec<Horizon>> {
        let (numbers, rest) = row.as_chunks::<8>();
        let (first, times) = numbers.split_first()?;
        let (pairs, odd) = times.as_chunks::<2>();
        let time = |bytes: [u8; 8]| Timestamp(u64::from_be_bytes(bytes));
        let saved: Vec<_> = pairs.iter().map(|[own, total]| Horizon { own: time(*own), total: time(*total) }).collect();
        let is_ours = u64::from_be_bytes(*first) == self.fingerprint.load(Ordering::Relaxed);
        (is_ours && rest.is_empty() && odd.is_empty() && saved.len() == self.rules.load().len()).then_some(saved)
    }

    /// Forgets what is known of authors, and everything if these are other rules than before.
    pub fn begin(&self, rules: &Retention) {
        self.knows_authors.store(false, Ordering::Relaxed);
        self.authors.clear();
        self.looked.clear();
        let fingerprint = fingerprint(rules);
        if self.fingerprint.swap(fingerprint, Ordering::Relaxed) != fingerprint {
            self.rules.store(vec![Horizon::default(); rules.rules().len()].into());
        }
    }

    /// Every author was looked at.
    pub fn know_authors(&self) {
        self.knows_authors.store(true, Ordering::Relaxed);
        self.looked.clear();
    }

    /// Changes the horizon of one rule; whether it is another now.
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

    /// These are to go. For bytes the oldest of a rule go first, so none as old comes in again.
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

    /// Before this `created_at`, events of the rule went for bytes or for room; zero if none did.
    #[must_use]
    pub fn oldest_of(&self, rule: usize) -> Timestamp {
        self.rules.load().get(rule).map_or(Timestamp(0), |horizon| horizon.own.max(horizon.total))
    }

    /// Forgets the horizons for the total; whether there were any.
    pub fn relax_total(&self) -> bool {
        let relax = |rule| self.set(rule, |horizon| horizon.total = Timestamp(0));
        (0..self.rules.load().len()).filter(|rule| relax(*rule)).count() > 0
    }

    /// Remembers from where on an author's events are kept.
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

    /// Looks at what an author has, unless that is known or there are more than `rows` rows of it.
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

    /// Whether `event` would be kept beside what is held, having looked at what its author has. If that cannot be read
    /// the event may come in: the writer will tell.
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

    /// Whether `event` would be kept beside what is held.
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

/// Why an event of an author is not kept who has as much as may stay.
fn kept_of_one_author(rules: &Retention) -> Reason {
    let limits = rules.limits();
    let kept = match (limits.max_events_per_author, limits.max_bytes_per_author) {
        (events, 0) => format!("{events} events"),
        (0, bytes) => format!("{bytes} bytes"),
        (events, bytes) => format!("{events} events and {bytes} bytes"),
    };
    blocked(format!("the newest {kept} of one author are kept here"))
}
