//! What takes up space and what comes in: per rule, per author, and per recipient of gift wraps.
//!
//! Reads every event, or a sample of them. Only counts: it neither decides nor removes anything.

use std::collections::BTreeMap;

use super::heavy_hitters::{HeavyHitters, Hitter};
use super::horizons;
use crate::nostr::{EventView, Kind, Pubkey, Timestamp};
use crate::policy::{AgeBy, Retention, Rule};
use crate::store::{Amount, ArrivalTime, KindUsage, Seq, Store, StoreError};

/// The longest period over which incoming events are measured, in seconds. A week contains each day of the week once.
const WINDOW: u64 = 7 * 86_400;

const DAY: u64 = 86_400;

/// With fewer recent events than this among those that were read, growth cannot be estimated.
const FEW: u64 = 30;

/// How far ahead the forecast looks, in days.
pub const MANY_DAYS: u64 = 3650;

/// The events of one rule: what they take, and what comes and goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleUsage {
    /// Events held.
    pub held: Amount,
    /// The part of `held` that was created within the window.
    pub recent: Amount,
    /// The window, in seconds back from now: the rules removed nothing newer than that. A week at most.
    pub window_s: u64,
    /// The rule's `max_age` in seconds, if it has one.
    pub max_age_s: Option<u64>,
    /// The rule's `max_bytes`; 0 means no limit.
    pub max_bytes: u64,
    /// The rule's `max_events`; 0 means no limit.
    pub max_events: u64,
    /// Whether a lack of room never removes its events.
    pub is_kept: bool,
    /// The part of `held` that reaches `max_age` within each day from now; day 0 has reached it already.
    pub leaving: BTreeMap<u64, Amount>,
}

/// The result of reading the store.
pub struct Survey {
    now: Timestamp,
    /// All events that were read.
    pub seen: Amount,
    /// One entry per rule, in order, and a last one for events that no rule selects.
    pub rules: Vec<RuleUsage>,
    arrivals: Vec<ArrivalTime>,
    authors: HeavyHitters,
    recipients: HeavyHitters,
    /// The number of events, and of bytes, that each event read stands for.
    scale: [f64; 2],
    is_estimate: bool,
}

/// Reads every event, or about `sample` of them. Calls `progress` with the arrival number reached.
///
/// # Errors
/// When the store is damaged.
pub fn survey(
    store: &Store,
    rules: &Retention,
    now: Timestamp,
    sample: Option<u64>,
    progress: impl FnMut(Seq),
) -> Result<Survey, StoreError> {
    let mut survey = Survey::begin(store, rules, now)?;
    if !store.survey(sample, |seq, event| survey.add(rules, seq, event), progress)? {
        survey.is_estimate = true;
        survey.scale = share(&survey.seen, store)?;
        survey.rules = survey.rules.iter().map(|usage| usage.scaled(survey.scale)).collect();
    }
    Ok(survey)
}

impl RuleUsage {
    /// What it stands for, when each event and each byte of it stands for so many.
    fn scaled(&self, scale: [f64; 2]) -> Self {
        let mut usage = self.clone();
        let amounts = usage.leaving.values_mut().chain([&mut usage.held, &mut usage.recent]);
        amounts.for_each(|amount| *amount = scaled(*amount, scale));
        usage
    }
}

impl Survey {
    /// A survey that has read nothing yet.
    pub(super) fn begin(store: &Store, rules: &Retention, now: Timestamp) -> Result<Self, StoreError> {
        let horizons = horizons::saved(rules, store)?.unwrap_or_default();
        let usage = |(place, rule): (usize, &Rule)| {
            let max_age_s = rule.bounds.max_age.map(|age| age.seconds);
            let since = horizons.get(place).copied().unwrap_or_default().oldest();
            let window_s = WINDOW.min(max_age_s.unwrap_or(WINDOW)).min(now.0.saturating_sub(since.0));
            let (max_bytes, max_events) = (rule.bounds.max_bytes, rule.bounds.max_events);
            let is_kept = rule.is_forever() || rule.selector.is_unknown();
            RuleUsage { window_s, max_age_s, max_bytes, max_events, is_kept, ..RuleUsage::default() }
        };
        let mut usages: Vec<RuleUsage> = rules.rules().iter().enumerate().map(usage).collect();
        usages.push(RuleUsage { window_s: WINDOW, is_kept: true, ..RuleUsage::default() });
        let (authors, recipients) = (HeavyHitters::default(), HeavyHitters::default());
        let (seen, arrivals) = (Amount::default(), store.read()?.arrival_times()?);
        Ok(Self { now, seen, rules: usages, arrivals, authors, recipients, scale: [1.0; 2], is_estimate: false })
    }

    /// The usage of each rule, if what was read so far is a sample of what the store holds.
    pub(super) fn stands_for(&self, store: &Store) -> Result<Vec<RuleUsage>, StoreError> {
        let scale = share(&self.seen, store)?;
        Ok(self.rules.iter().map(|usage| usage.scaled(scale)).collect())
    }

    /// A time by which an event had certainly arrived.
    fn arrived_by(&self, seq: Seq) -> Timestamp {
        let row = self.arrivals.get(self.arrivals.partition_point(|row| row.below <= seq));
        row.map_or(self.now, |row| row.by)
    }

    pub(super) fn add(&mut self, rules: &Retention, seq: Seq, event: EventView<'_>) {
        let (author, kind, created_at) = (event.pubkey(), event.kind(), event.created_at());
        self.seen.add(event);
        self.authors.add(author, event);
        if kind == Kind::GIFT_WRAP {
            let mut keys: Vec<Pubkey> =
                event.tags().values("p").filter_map(|value| Some(Pubkey(*value.as_hex()?))).collect();
            keys.sort_unstable_by_key(|key| key.0);
            keys.dedup();
            keys.into_iter().for_each(|key| self.recipients.add(key, event));
        }
        let none = self.rules.len() - 1;
        let place = rules.selected_by(event).unwrap_or(none);
        let is_by_arrival = rules.rules().get(place).is_some_and(|rule| rule.bounds.age_by == AgeBy::Arrival);
        let since = if is_by_arrival { self.arrived_by(seq) } else { created_at };
        let usage = &mut self.rules[place];
        usage.held.add(event);
        if created_at.0 >= self.now.0.saturating_sub(usage.window_s) {
            usage.recent.add(event);
        }
        if let Some(age) = usage.max_age_s {
            let seconds = (since.0.saturating_add(age)).saturating_sub(self.now.0);
            usage.leaving.entry(seconds.div_ceil(DAY).min(MANY_DAYS + 1)).or_default().add(event);
        }
    }

    /// Whether the numbers are estimates.
    #[must_use]
    pub const fn is_estimate(&self) -> bool {
        self.is_estimate
    }

    /// Whether enough of the events that were read are recent to estimate growth from them.
    #[must_use]
    pub fn shows_growth(&self) -> bool {
        let recent = self.rules.iter().map(|usage| usage.recent.events).sum::<u64>() as f64 / self.scale[0];
        recent.round() as u64 >= FEW
    }

    /// The authors whose events take the most space, largest first.
    #[must_use]
    pub fn largest_authors(&self, count: usize) -> Vec<Hitter> {
        self.scaled(self.authors.largest(count))
    }

    /// The recipients whose gift wraps (NIP-59) take the most space, largest first. A wrap with several counts for
    /// each.
    #[must_use]
    pub fn largest_recipients(&self, count: usize) -> Vec<Hitter> {
        self.scaled(self.recipients.largest(count))
    }

    fn scaled(&self, mut hitters: Vec<Hitter>) -> Vec<Hitter> {
        hitters.iter_mut().for_each(|hitter| hitter.amount = scaled(hitter.amount, self.scale));
        hitters
    }
}

/// How many events, and how many bytes, of the store each of a sample stands for.
fn share(sample: &Amount, store: &Store) -> Result<[f64; 2], StoreError> {
    let kinds = store.read()?.kinds()?;
    let sum = |of: fn(&KindUsage) -> u64| kinds.iter().map(|(_, usage)| of(usage)).sum::<u64>();
    let ratio = |whole: u64, part: u64| if part == 0 { 1.0 } else { whole as f64 / part as f64 };
    Ok([ratio(sum(|usage| usage.events), sample.events), ratio(sum(|usage| usage.footprint), sample.footprint)])
}

fn scaled(Amount { events, bytes, footprint }: Amount, [of_events, of_bytes]: [f64; 2]) -> Amount {
    let times = |number: u64, scale: f64| (number as f64 * scale).round() as u64;
    Amount { events: times(events, of_events), bytes: times(bytes, of_bytes), footprint: times(footprint, of_bytes) }
}
