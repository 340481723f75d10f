//! How far back events are kept where that depends on what is held: what was evicted does not come back to be
//! evicted again.
//!
//! The evictor writes it, the connections read it. It is a memory, not a record: what it forgets may come back once.

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;

use super::sweep::Floors;
use crate::nostr::{EventView, Kind, Pubkey, Reason, Timestamp};
use crate::policy::Retention;
use crate::policy::retention::{blocked, is_request};

/// Authors and kinds that are remembered to have reached a limit, at about 50 bytes each.
const AUTHORS: usize = 65_536;

/// No event is young enough.
pub const NEVER: Timestamp = Timestamp(u64::MAX);

/// From where on events of a rule are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Horizon {
    /// For its own `max_bytes`.
    pub own: Timestamp,
    /// For the total, or the disk.
    pub total: Timestamp,
}

/// A limit that an author has reached: of one kind, or of all.
type Reached = (Pubkey, Option<Kind>);

/// See the module.
pub struct Horizons {
    rules: ArcSwap<Vec<Horizon>>,
    /// The rule and time of the last event that stays; the rule is of no meaning for a kind.
    authors: Cache<Reached, (usize, Timestamp)>,
}

impl Default for Horizons {
    fn default() -> Self {
        Self { rules: ArcSwap::default(), authors: Cache::new(AUTHORS) }
    }
}

impl Horizons {
    /// Forgets everything: there are other rules now.
    pub fn reset(&self, rules: usize) {
        self.rules.store(vec![Horizon::default(); rules].into());
        self.authors.clear();
    }

    /// Changes the horizon of one rule.
    pub fn set(&self, rule: usize, change: impl FnOnce(&mut Horizon)) {
        let mut rules = Vec::clone(&self.rules.load());
        if let Some(horizon) = rules.get_mut(rule) {
            let before = *horizon;
            change(horizon);
            if *horizon != before {
                self.rules.store(rules.into());
            }
        }
    }

    /// Forgets the horizons for the total.
    pub fn relax_total(&self) {
        for rule in 0..self.rules.load().len() {
            self.set(rule, |horizon| horizon.total = Timestamp(0));
        }
    }

    /// Remembers from where on an author's events are kept.
    pub fn note(&self, author: Pubkey, floors: &Floors) {
        for (kind, at) in &floors.kinds {
            self.authors.insert((author, Some(*kind)), (0, *at));
        }
        match floors.total {
            Some(worst) => self.authors.insert((author, None), worst),
            None => drop(self.authors.remove(&(author, None))),
        }
    }

    /// Whether `event` would be kept beside what is held.
    ///
    /// # Errors
    /// `blocked:` with the limit that would remove it at once.
    pub fn check(&self, rules: &Retention, event: EventView<'_>) -> Result<(), Reason> {
        let (kind, author, at) = (event.kind(), event.pubkey(), event.created_at());
        if rules.is_empty() || kind.is_ephemeral() || is_request(kind) {
            return Ok(());
        }
        let Some(rule) = rules.rule_of(&author, kind) else { return Ok(()) };
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
        let of_kind = rules.rules()[rule].max_per_author_and_kind;
        if of_kind > 0 && self.authors.get(&(author, Some(kind))).is_some_and(|(_, last)| at < last) {
            let text = format!("the newest {of_kind} events of kind {kind} of one author are kept (rule {})", rule + 1);
            return Err(blocked(text));
        }
        let is_worse = |(of_rule, oldest): (usize, Timestamp)| rule > of_rule || (rule == of_rule && at < oldest);
        if self.authors.get(&(author, None)).is_some_and(is_worse) {
            let most = rules.limits().max_events_per_author;
            return Err(blocked(format!("the newest {most} events of one author are kept here")));
        }
        Ok(())
    }
}
