//! A queue that serves the address that used least lately, and is bounded in jobs.
//!
//! Light users get at most three quarters of the time while others wait. So an address that used more than they, but
//! less than the rest, waits only a few slices, however many newcomers there are.
//!
//! A pure data structure: it reads no clock, starts no thread and runs no job. What an address used is one number of
//! microseconds that halves every [`HALF_LIFE_US`], so nobody saves up credit and no debt lasts. An address below
//! [`LIGHT_US`] counts as one that used just that: light users are served in the order in which they came, and an
//! address that was never seen has no advantage over them. Every operation takes O(log n).
//!
//! Jobs of light users are served by what each has cost so far, the least first, in steps that double. Most queries are
//! short. However many newcomers ask at once, a short query waits for what theirs take to get as far as it gets, and
//! not until they are done.
//!
//! Halving keeps the order of two numbers. So use is kept as a `Rank`, its logarithm on an axis that falls with time:
//! the rank of whoever waits stays as it is, while that of a light newcomer rises by one each half-life. An address
//! that used `u` is therefore overtaken for no longer than `log2(u / LIGHT_US)` half-lives, and half a one for each
//! step: 45 s for 40 ms.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use hashbrown::HashMap;

/// Microseconds in which what an address used counts half.
pub const HALF_LIFE_US: u64 = 10_000_000;

/// Use up to this counts alike: some forty short queries, or a thousand by id.
pub const LIGHT_US: u64 = 10_000;

/// Microseconds that a job has cost that is no longer new. The steps behind it are twice as long each.
pub const SHORT_US: u64 = 250;

/// The step of jobs that have cost 4 ms or more.
const LAST_STEP: u8 = 5;

/// Light users take so many times the time that others may take meanwhile.
const LIGHT_SHARE: i64 = 3;

/// Microseconds that are reserved for the others before the first of them is served, whatever its job has cost.
const MOST_RESERVED_US: u64 = 4_000;

/// The step of a job that has cost this much.
fn step(cost_us: u64) -> u8 {
    let doublings = (cost_us / SHORT_US).checked_ilog2().map_or(0, |doublings| doublings + 1);
    doublings.min(LAST_STEP.into()) as u8
}

/// Addresses without a job whose use is remembered, about 100 bytes each. Beyond, the least use is forgotten.
pub const MAX_REMEMBERED: usize = 16_384;

/// The logarithm to base 2 of use in microseconds, plus the half-lives that had passed when it was taken.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Rank(f64);

impl Eq for Rank {}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Rank {
    const UNUSED: Self = Self(f64::NEG_INFINITY);

    fn new(used_us: f64, now_us: u64) -> Self {
        if used_us <= 0.0 { Self::UNUSED } else { Self(used_us.log2() + now_us as f64 / HALF_LIFE_US as f64) }
    }

    /// What is left of the use by now.
    fn used_us(self, now_us: u64) -> f64 {
        (self.0 - now_us as f64 / HALF_LIFE_US as f64).exp2()
    }

    /// After more use, or less.
    fn plus(self, us: f64, now_us: u64) -> Self {
        Self::new(self.used_us(now_us) + us, now_us)
    }

    /// The rank of a light user that comes now.
    fn light(now_us: u64) -> Self {
        Self::new(LIGHT_US as f64, now_us)
    }

    /// The rank of a light user's job that has come to `step`: half a half-life lower for each step that is left.
    fn at(self, step: u8) -> Self {
        Self(self.0 - f64::from(LAST_STEP - step) / 2.0)
    }
}

/// The two sorts of addresses that share the time while both wait.
enum Sort {
    Light,
    Other,
}

/// The jobs of one address.
struct Line<T> {
    used: Rank,
    /// What it counts as at the least: a light user of the time when it began to wait, or was served.
    least: Rank,
    /// Its turn among those of the same rank.
    turn: u64,
    /// Jobs by step and turn, or by turn alone where they keep their order; and what each has cost.
    jobs: BTreeMap<(u8, u64), (u64, T)>,
}

impl<T> Line<T> {
    const fn new() -> Self {
        Self { used: Rank::UNUSED, least: Rank::UNUSED, turn: 0, jobs: BTreeMap::new() }
    }

    /// The step of the job that a light user is served next.
    fn first_step(&self) -> Option<u8> {
        self.jobs.first_key_value().map(|(_, (cost_us, _))| step(*cost_us))
    }

    fn is_light(&self) -> bool {
        self.used <= self.least
    }

    fn rank(&self) -> Rank {
        match self.first_step() {
            Some(step) if self.is_light() => self.least.at(step),
            _ => self.used.max(self.least),
        }
    }

    fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The key of the job whose turn it is: those of one address are served a slice each, of a light one in the order
    /// of their steps.
    fn next(&self) -> Option<(u8, u64)> {
        if self.is_light() {
            return self.jobs.first_key_value().map(|(key, _)| *key);
        }
        let oldest = |step| self.jobs.range((step, 0)..=(step, u64::MAX)).next().map(|(key, _)| *key);
        (0..=LAST_STEP).filter_map(oldest).min_by_key(|(_, turn)| *turn)
    }

    /// What that job has cost so far.
    fn next_cost_us(&self) -> Option<u64> {
        self.jobs.get(&self.next()?).map(|(cost_us, _)| *cost_us)
    }

    fn take(&mut self) -> Option<(u64, T)> {
        let key = self.next()?;
        self.jobs.remove(&key)
    }

    /// The job that came last, of those that are new if there are any.
    fn take_newest(&mut self) -> Option<T> {
        let newest = |step| self.jobs.range((step, 0)..=(step, u64::MAX)).next_back().map(|(key, _)| *key);
        let key = newest(0).or_else(|| (1..=LAST_STEP).filter_map(newest).max_by_key(|(_, turn)| *turn))?;
        self.jobs.remove(&key).map(|(_, job)| job)
    }
}

/// Jobs that wait, by address, with the recent use of each address in microseconds. Holds at most `max_jobs`.
pub struct FairQueue<T> {
    max_jobs: usize,
    keeps_order: bool,
    lines: HashMap<IpAddr, Line<T>>,
    /// Addresses with jobs, in the order in which they are served.
    waiting: BTreeSet<(Rank, u64, IpAddr)>,
    /// The same, the greediest last: most jobs, then most used.
    greedy: BTreeSet<(usize, Rank, IpAddr)>,
    /// Microseconds that others than light users may take before them.
    reserved_us: i64,
    /// Addresses without a job whose use is remembered, least first.
    idle: BTreeSet<(Rank, IpAddr)>,
    jobs: usize,
    turns: u64,
}

impl<T> FairQueue<T> {
    /// A queue of at most `max_jobs`.
    #[must_use]
    pub fn new(max_jobs: usize) -> Self {
        let (waiting, greedy, idle) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let lines = HashMap::new();
        Self { max_jobs, keeps_order: false, lines, waiting, greedy, reserved_us: 0, idle, jobs: 0, turns: 0 }
    }

    /// A queue without a bound, in which the jobs of one address stay in the order in which they came. What a job cost
    /// already is what it will cost there.
    #[must_use]
    pub fn in_order() -> Self {
        Self { keeps_order: true, ..Self::new(usize::MAX) }
    }

    /// Jobs that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.jobs
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.jobs == 0
    }

    /// Puts a job in line, which has cost `cost_us` so far. If that is one too many, a job is given back, to be
    /// refused: the newest of the address that has most jobs in line, of several the one that used most. That may be
    /// the one that was put in.
    #[must_use]
    pub fn push(&mut self, address: IpAddr, job: T, cost_us: u64, now_us: u64) -> Option<T> {
        self.forget(now_us);
        self.turns += 1;
        let turn = self.turns;
        let key_step = if self.keeps_order { 0 } else { step(cost_us) };
        self.change(address, |line| {
            if line.len() == 0 {
                line.least = Rank::light(now_us);
                line.turn = turn;
            }
            line.jobs.insert((key_step, turn), (cost_us, job));
        });
        self.jobs += 1;
        if self.jobs <= self.max_jobs {
            return None;
        }
        let &(.., greediest) = self.greedy.last()?;
        self.jobs -= 1;
        self.change(greediest, Line::take_newest)
    }

    /// The job that is to be served next.
    #[must_use]
    pub fn peek(&self, now_us: u64) -> Option<&T> {
        let (address, _) = self.next(now_us)?;
        let line = self.lines.get(&address)?;
        line.jobs.get(&line.next()?).map(|(_, job)| job)
    }

    /// The address that is to be served next, and of which sort it is if both wait.
    fn next(&self, now_us: u64) -> Option<(IpAddr, Option<Sort>)> {
        let &(rank, _, first) = self.waiting.first()?;
        let light = Rank::light(now_us);
        if rank > light {
            return Some((first, None));
        }
        let last_light = (light, u64::MAX, IpAddr::from([u8::MAX; 16]));
        Some(match self.waiting.range((Bound::Excluded(last_light), Bound::Unbounded)).next() {
            None => (first, None),
            Some(&(.., other)) if self.has_reserve(&other) => (other, Some(Sort::Other)),
            Some(_) => (first, Some(Sort::Light)),
        })
    }

    /// Whether the next job of an address may go before those of light users: it is expected to take as long again.
    fn has_reserve(&self, address: &IpAddr) -> bool {
        let cost_us = self.lines.get(address).and_then(Line::next_cost_us).unwrap_or_default();
        self.reserved_us > cost_us.min(MOST_RESERVED_US).cast_signed()
    }

    /// Takes the next job. Its address is charged what `advance_us` says, given what the job has cost so far: as much
    /// as it is expected to take, so that addresses of one rank take turns also while their jobs are worked for.
    /// [`FairQueue::correct`] puts that right.
    pub fn pop(&mut self, advance_us: impl FnOnce(u64) -> u64, now_us: u64) -> Option<(IpAddr, T)> {
        let (address, sort) = self.next(now_us)?;
        let advance_us = advance_us(self.lines.get(&address)?.next_cost_us()?);
        self.reserved_us += match sort {
            None => 0,
            Some(Sort::Light) => advance_us.cast_signed() / LIGHT_SHARE,
            Some(Sort::Other) => -advance_us.cast_signed(),
        };
        self.turns += 1;
        let turn = self.turns;
        let job = self.change(address, |line| {
            let (_, job) = line.take()?;
            line.used = line.used.plus(advance_us as f64, now_us);
            line.least = Rank::light(now_us);
            line.turn = turn;
            Some(job)
        })?;
        self.jobs -= 1;
        Some((address, job))
    }

    /// Charges an address for what was spent on it without the queue.
    pub fn charge(&mut self, address: IpAddr, spent_us: u64, now_us: u64) {
        self.correct(address, 0, spent_us, now_us);
    }

    /// Charges an address for a job that was taken with `advance_us`.
    pub fn correct(&mut self, address: IpAddr, advance_us: u64, spent_us: u64, now_us: u64) {
        self.forget(now_us);
        self.change(address, |line| line.used = line.used.plus(spent_us as f64 - advance_us as f64, now_us));
    }

    /// Whether a job of this address that came now, and has cost `cost_us` so far, would be the next one.
    #[must_use]
    pub fn would_be_next(&self, address: &IpAddr, cost_us: u64, now_us: u64) -> bool {
        let Some(&(first, ..)) = self.waiting.first() else { return true };
        let (line, step) = (self.lines.get(address), step(cost_us));
        let (used, light) = (line.map_or(Rank::UNUSED, |line| line.used), Rank::light(now_us));
        if used <= light {
            let is_behind = |line: &Line<T>| line.first_step().is_some_and(|first| first <= step);
            line.is_none_or(|line| !is_behind(line)) && light.at(step) < first
        } else {
            line.is_none_or(|line| line.len() == 0) && used < first
        }
    }

    /// Changes a line, and its places in the orders with it.
    fn change<R>(&mut self, address: IpAddr, change: impl FnOnce(&mut Line<T>) -> R) -> R {
        let line = self.lines.entry(address).or_insert_with(Line::new);
        let (len, rank, used, turn) = (line.len(), line.rank(), line.used, line.turn);
        let changed = change(line);
        if len == 0 {
            self.idle.remove(&(used, address));
        } else if (rank, turn) != (line.rank(), line.turn) || line.len() == 0 {
            self.waiting.remove(&(rank, turn, address));
        }
        if len > 0 {
            self.greedy.remove(&(len, rank, address));
        }
        if line.len() > 0 {
            self.waiting.insert((line.rank(), line.turn, address));
            self.greedy.insert((line.len(), line.rank(), address));
        } else if line.used == Rank::UNUSED {
            self.lines.remove(&address);
        } else {
            self.idle.insert((line.used, address));
        }
        changed
    }

    /// Forgets use that has decayed below a microsecond, and the least use of too many addresses.
    fn forget(&mut self, now_us: u64) {
        let nothing = Rank::new(1.0, now_us);
        while let Some(&(used, address)) = self.idle.first()
            && (used < nothing || self.idle.len() > MAX_REMEMBERED)
        {
            self.idle.pop_first();
            self.lines.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests;
