//! What the rules remove, and in which order: one plan, which the dry run counts and which `--run` and the relay
//! execute.
//!
//! First ages, then limits per author and kind, limits per rule, limits per author, and only then room. Events that a
//! step finds do not exist for the next step: they are removed before it or, in a dry run, remembered in a
//! [`DryRun`](super::parts::DryRun). The plan decides; it removes nothing.

use super::age_scan::{AgeScan, ArrivalScan};
use super::authors::{AuthorLimit, AuthorScan, AuthorWalk, Authors};
use super::cause::Cause;
use super::oldest::{OldestFirst, held_by_rule};
use super::slice::{Progress, Removable, Slice};
use crate::policy::Rule;
use crate::store::{Amount, Seq, StoreError};

/// A limit on all events of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RuleLimit {
    /// `max_events`.
    Events,
    /// `max_bytes`.
    Bytes,
}

impl RuleLimit {
    const fn of(self, rule: &Rule) -> u64 {
        match self {
            Self::Events => rule.bounds.max_events,
            Self::Bytes => rule.bounds.max_bytes,
        }
    }

    const fn count(self, amount: Amount) -> u64 {
        match self {
            Self::Events => amount.events,
            Self::Bytes => amount.bytes,
        }
    }

    const fn weigh(self, removable: &Removable) -> u64 {
        self.count(Amount { events: 1, bytes: removable.bytes, footprint: removable.footprint })
    }

    const fn cause(self, rule: usize) -> Cause {
        match self {
            Self::Events => Cause::RuleEvents(rule),
            Self::Bytes => Cause::RuleBytes(rule),
        }
    }
}

/// The phases of a plan.
enum Phase {
    Ages(AgeScan),
    Arrivals(ArrivalScan),
    Numbers(AuthorScan),
    /// The rules that exceed the limit, and by how much; `None` until that is known.
    Rules(RuleLimit, Option<Vec<(OldestFirst, u64)>>),
    Totals(AuthorScan),
    /// The rule whose oldest events are removed, and the bytes still to remove; `None` until that is known.
    Room(Option<(OldestFirst, u64)>),
    Done,
}

/// What a plan checks. It always ends by making room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Whether it checks ages.
    pub ages: bool,
    /// Where to start with ages by arrival: see `ArrivalScan::new`.
    pub arrived: Vec<Seq>,
    /// For which authors it checks limits per author.
    pub authors: Authors,
    /// Whether it checks the limits on all events of a rule.
    pub totals: bool,
}

impl Scope {
    /// Everything.
    pub const ALL: Self = Self { ages: true, arrived: Vec::new(), authors: Authors::All, totals: true };
}

/// An execution of the rules, under way.
pub struct Plan {
    phase: Phase,
    scope: Scope,
    /// Bytes that are missing for room after the rules have removed all they can.
    missing: u64,
    /// Rules of which nothing is left, because room was needed.
    emptied: Vec<usize>,
    walked: Vec<AuthorWalk>,
}

impl Plan {
    /// A plan at its beginning.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { phase: Phase::Ages(AgeScan::default()), scope, missing: 0, emptied: Vec::new(), walked: Vec::new() }
    }

    /// What it checks.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How far ages by arrival were executed.
    pub fn take_arrived(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.scope.arrived)
    }

    /// The authors whose walks the last step completed.
    pub fn take_walked(&mut self) -> Vec<AuthorWalk> {
        std::mem::take(&mut self.walked)
    }

    /// Bytes that it could not free, although they are needed.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Rules of which nothing is left since the last call, because room was needed.
    pub fn take_emptied(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.emptied)
    }

    /// Continues for a slice. `excess` is the number of bytes to free for room; it is used once, after all other
    /// limits.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn step(&mut self, slice: &mut Slice<'_>, excess: u64) -> Result<Progress, StoreError> {
        let rules = slice.rules;
        self.walked.clear();
        let progress = match &mut self.phase {
            Phase::Ages(scan) => Progress::done(!self.scope.ages || !rules.has_ages() || scan.step(slice)?),
            Phase::Arrivals(scan) => {
                Progress::done(!self.scope.ages || !rules.has_ages_by_arrival() || scan.step(slice)?)
            }
            Phase::Numbers(_) if !rules.counts_kinds() => Progress::Done,
            Phase::Rules(limit, over) => Progress::done(!self.scope.totals || step_rules(*limit, over, slice)?),
            Phase::Totals(_) if !rules.counts_totals() => Progress::Done,
            Phase::Numbers(scan) | Phase::Totals(scan) => {
                let progress = scan.step(slice)?;
                self.walked = scan.take_walked();
                progress
            }
            Phase::Room(under_way) => {
                let last = rules.rules().len().checked_sub(1);
                let Some((oldest, left)) = under_way.take().or_else(|| Some((OldestFirst::new(last?), excess))) else {
                    self.phase = Phase::Done;
                    return Ok(Progress::Done);
                };
                Progress::done(self.make_room(oldest, left, slice)?)
            }
            Phase::Done => return Ok(Progress::Done),
        };
        if progress != Progress::Done {
            return Ok(progress);
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Ages(_) => Phase::Arrivals(ArrivalScan::new(std::mem::take(&mut self.scope.arrived))),
            Phase::Arrivals(scan) => {
                self.scope.arrived = scan.into_seen();
                Phase::Numbers(AuthorScan::new(self.scope.authors.clone(), AuthorLimit::Kinds))
            }
            Phase::Numbers(_) => Phase::Rules(RuleLimit::Events, None),
            Phase::Rules(RuleLimit::Events, _) => Phase::Rules(RuleLimit::Bytes, None),
            Phase::Rules(RuleLimit::Bytes, _) => {
                Phase::Totals(AuthorScan::new(self.scope.authors.clone(), AuthorLimit::Total))
            }
            Phase::Totals(_) => Phase::Room(None),
            Phase::Room(_) | Phase::Done => Phase::Done,
        };
        Ok(if matches!(self.phase, Phase::Done) { Progress::Done } else { Progress::AwaitRemoval })
    }

    /// Removes the oldest events of the last rule, then of the rule before it. True when there is room or nothing is
    /// left.
    fn make_room(&mut self, mut oldest: OldestFirst, mut left: u64, slice: &mut Slice<'_>) -> Result<bool, StoreError> {
        if left == 0 {
            return Ok(true);
        }
        let rule = oldest.rule();
        let is_empty = slice.rules.rules()[rule].is_forever() || {
            oldest.step(slice, Cause::Total(rule), &mut left, |removable| removable.footprint)?
        };
        if left == 0 {
            return Ok(true);
        }
        self.phase = match (is_empty, rule.checked_sub(1)) {
            (false, _) => Phase::Room(Some((oldest, left))),
            (true, before) => {
                self.emptied.push(rule);
                let Some(before) = before else {
                    self.missing = left;
                    return Ok(true);
                };
                Phase::Room(Some((OldestFirst::new(before), left)))
            }
        };
        Ok(false)
    }
}

/// Finds the oldest events of each rule that exceeds the limit; true when none does any more.
fn step_rules(
    limit: RuleLimit,
    over: &mut Option<Vec<(OldestFirst, u64)>>,
    slice: &mut Slice<'_>,
) -> Result<bool, StoreError> {
    let over = match over {
        Some(over) => over,
        None => over.insert(rules_over(limit, slice)?),
    };
    let Some((oldest, excess)) = over.last_mut() else { return Ok(true) };
    let cause = limit.cause(oldest.rule());
    if oldest.step(slice, cause, excess, |removable| limit.weigh(removable))? || *excess == 0 {
        over.pop();
    }
    Ok(over.is_empty())
}

/// The rules that exceed the limit, and by how much.
fn rules_over(limit: RuleLimit, slice: &Slice<'_>) -> Result<Vec<(OldestFirst, u64)>, StoreError> {
    let most = slice.rules.rules().iter().map(|rule| limit.of(rule));
    if most.clone().all(|most| most == 0) {
        return Ok(Vec::new());
    }
    let held = held_by_rule(slice.rules, slice.snapshot)?;
    let over = most.zip(held).enumerate().filter_map(|(place, (most, held))| {
        let counted = slice.dry_run.map_or(0, |dry_run| limit.count(dry_run.of(place)));
        let excess = limit.count(held).saturating_sub(counted).saturating_sub(most);
        (most > 0 && excess > 0).then(|| (OldestFirst::new(place), excess))
    });
    Ok(over.collect())
}
