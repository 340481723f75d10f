//! A queue that serves the address that used least lately, and is bounded in jobs.
//!
//! A pure data structure: it reads no clock, starts no thread and runs no job. What an address used is one number of
//! microseconds that halves every [`HALF_LIFE_US`], so nobody saves up credit and no debt lasts. An address below
//! [`LIGHT_US`] counts as one that used just that: light users are served in the order in which they came, and an
//! address that was never seen has no advantage over them. Every operation takes O(log n).
//!
//! Halving keeps the order of two numbers. So use is kept as a `Rank`, its logarithm on an axis that falls with
//! time: the rank of whoever waits stays as it is, while that of a light newcomer rises by one each half-life. An
//! address that used `u` is therefore overtaken for no longer than `log2(u / LIGHT_US)` half-lives: 20 s for 40 ms.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use hashbrown::HashMap;

/// Microseconds in which what an address used counts half.
pub const HALF_LIFE_US: u64 = 10_000_000;

/// Use up to this counts alike: two slices of a scan, or three hundred queries by id.
pub const LIGHT_US: u64 = 10_000;

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
}

/// The jobs of one address.
struct Line<T> {
    used: Rank,
    /// What it counts as at the least: a light user of the time when it began to wait, or was served.
    least: Rank,
    /// Its turn among those of the same rank.
    turn: u64,
    /// Jobs that nobody has worked for, by turn.
    fresh: VecDeque<(u64, T)>,
    /// Jobs that came back for more, by turn.
    begun: VecDeque<(u64, T)>,
}

impl<T> Line<T> {
    fn new() -> Self {
        let (fresh, begun) = (VecDeque::new(), VecDeque::new());
        Self { used: Rank::UNUSED, least: Rank::UNUSED, turn: 0, fresh, begun }
    }

    fn rank(&self) -> Rank {
        self.used.max(self.least)
    }

    fn len(&self) -> usize {
        self.fresh.len() + self.begun.len()
    }

    /// The job whose turn it is: those of one address are served a slice each.
    fn take(&mut self) -> Option<T> {
        let turn = |jobs: &VecDeque<(u64, T)>| jobs.front().map_or(u64::MAX, |job| job.0);
        let jobs = if turn(&self.begun) < turn(&self.fresh) { &mut self.begun } else { &mut self.fresh };
        jobs.pop_front().map(|(_, job)| job)
    }

    /// The job that came last, of those that nobody has worked for if there are any.
    fn take_newest(&mut self) -> Option<T> {
        self.fresh.pop_back().or_else(|| self.begun.pop_back()).map(|(_, job)| job)
    }
}

/// Where a job comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nobody has worked for it.
    Fresh,
    /// It comes back for more.
    Begun,
}

/// See the module.
pub struct FairQueue<T> {
    max_jobs: usize,
    lines: HashMap<IpAddr, Line<T>>,
    /// Addresses with jobs, in the order in which they are served.
    waiting: BTreeSet<(Rank, u64, IpAddr)>,
    /// The same, the greediest last: most jobs, then most used.
    greedy: BTreeSet<(usize, Rank, IpAddr)>,
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
        Self { max_jobs, lines: HashMap::new(), waiting, greedy, idle, jobs: 0, turns: 0 }
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

    /// Puts a job in line. If that is one too many, a job is given back, to be refused: the newest of the address
    /// that has most jobs in line, of several the one that used most. That may be the one that was put in.
    #[must_use]
    pub fn push(&mut self, address: IpAddr, job: T, progress: Progress, now_us: u64) -> Option<T> {
        self.forget(now_us);
        self.turns += 1;
        let turn = self.turns;
        self.change(address, |line| {
            if line.len() == 0 {
                line.least = Rank::light(now_us);
                line.turn = turn;
            }
            let jobs = if progress == Progress::Fresh { &mut line.fresh } else { &mut line.begun };
            jobs.push_back((turn, job));
        });
        self.jobs += 1;
        if self.jobs <= self.max_jobs {
            return None;
        }
        let &(.., greediest) = self.greedy.last()?;
        self.jobs -= 1;
        self.change(greediest, Line::take_newest)
    }

    /// Takes the next job, and charges its address `advance_us`: what the job is expected to take, so that addresses
    /// of one rank take turns also while their jobs are worked for. [`FairQueue::settle`] puts that right.
    pub fn pop(&mut self, advance_us: u64, now_us: u64) -> Option<(IpAddr, T)> {
        let &(.., address) = self.waiting.first()?;
        self.turns += 1;
        let turn = self.turns;
        let job = self.change(address, |line| {
            line.used = line.used.plus(advance_us as f64, now_us);
            line.least = Rank::light(now_us);
            line.turn = turn;
            line.take()
        })?;
        self.jobs -= 1;
        Some((address, job))
    }

    /// Charges an address for what was spent on it without the queue.
    pub fn charge(&mut self, address: IpAddr, spent_us: u64, now_us: u64) {
        self.settle(address, 0, spent_us, now_us);
    }

    /// Charges an address for a job that was taken with `advance_us`.
    pub fn settle(&mut self, address: IpAddr, advance_us: u64, spent_us: u64, now_us: u64) {
        self.forget(now_us);
        self.change(address, |line| line.used = line.used.plus(spent_us as f64 - advance_us as f64, now_us));
    }

    /// Whether a job of this address that came now would be the next one.
    #[must_use]
    pub fn would_be_next(&self, address: &IpAddr, now_us: u64) -> bool {
        let Some(&(first, ..)) = self.waiting.first() else { return true };
        let used = match self.lines.get(address) {
            Some(line) if line.len() > 0 => return false,
            Some(line) => line.used,
            None => Rank::UNUSED,
        };
        used.max(Rank::light(now_us)) < first
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    /// Puts jobs in, each named by its address and a number.
    fn push(queue: &mut FairQueue<(u8, u32)>, from: u8, numbers: std::ops::Range<u32>, now_us: u64) {
        for number in numbers {
            assert_eq!(queue.push(address(from), (from, number), Progress::Fresh, now_us), None);
        }
    }

    /// Serves `count` jobs that take `cost_us` each and then are over.
    fn serve(queue: &mut FairQueue<(u8, u32)>, count: usize, cost_us: u64, now_us: u64) -> Vec<(u8, u32)> {
        (0..count).filter_map(|_| queue.pop(cost_us, now_us)).map(|(_, job)| job).collect()
    }

    #[test]
    fn addresses_take_turns_however_many_jobs_each_has_in_line() {
        let mut queue = FairQueue::new(100);
        push(&mut queue, 1, 0..6, 0);
        push(&mut queue, 2, 0..2, 0);
        let served = serve(&mut queue, 8, 20_000, 0);
        assert_eq!(served, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_light_user_overtakes_those_that_used_more() {
        let mut queue = FairQueue::new(100);
        push(&mut queue, 1, 0..3, 0);
        push(&mut queue, 2, 0..3, 0);
        assert_eq!(serve(&mut queue, 2, 50_000, 0), [(1, 0), (2, 0)]);
        assert!(queue.would_be_next(&address(3), 0));
        push(&mut queue, 3, 0..2, 0);
        assert!(!queue.would_be_next(&address(3), 0), "its own jobs are before it");
        assert!(!queue.would_be_next(&address(4), 0), "light users are served as they come");
        assert_eq!(serve(&mut queue, 4, 1_000, 0), [(3, 0), (3, 1), (1, 1), (2, 1)]);
    }

    #[test]
    fn what_was_spent_elsewhere_counts_and_what_was_expected_and_not_spent_does_not() {
        let mut queue = FairQueue::new(100);
        queue.charge(address(1), 30_000, 0);
        push(&mut queue, 1, 0..1, 0);
        push(&mut queue, 2, 0..2, 0);
        assert_eq!(serve(&mut queue, 1, 1_000_000, 0), [(2, 0)]);
        queue.settle(address(2), 1_000_000, 20_000, 0);
        assert_eq!(serve(&mut queue, 2, 1, 0), [(2, 1), (1, 0)]);
    }

    #[test]
    fn nobody_saves_up_credit_and_no_debt_lasts() {
        let mut queue = FairQueue::new(100);
        queue.charge(address(1), 40_000, 0);
        push(&mut queue, 1, 0..1, 0);
        // A newcomer of each half-life overtakes it, until its 40 ms count as 10.
        push(&mut queue, 2, 0..1, HALF_LIFE_US);
        push(&mut queue, 3, 0..1, 2 * HALF_LIFE_US + 1);
        assert_eq!(serve(&mut queue, 3, 1, 2 * HALF_LIFE_US + 1), [(2, 0), (1, 0), (3, 0)]);
        // Whoever was away for long is served as a light user, and no longer.
        let later = 100 * HALF_LIFE_US;
        push(&mut queue, 1, 0..4, later);
        push(&mut queue, 2, 0..4, later);
        assert_eq!(serve(&mut queue, 4, 20_000, later), [(1, 0), (2, 0), (1, 1), (2, 1)]);
    }

    #[test]
    fn jobs_of_one_address_are_served_a_slice_each() {
        let mut queue = FairQueue::new(100);
        push(&mut queue, 1, 0..2, 0);
        let (_, long) = queue.pop(5_000, 0).expect("two wait");
        assert_eq!(queue.push(address(1), long, Progress::Begun, 0), None);
        push(&mut queue, 1, 2..3, 0);
        assert_eq!(serve(&mut queue, 3, 5_000, 0), [(1, 1), (1, 0), (1, 2)]);
    }

    #[test]
    fn a_full_queue_refuses_the_newest_job_of_the_greediest_and_rather_none_that_has_begun() {
        let mut queue = FairQueue::new(4);
        push(&mut queue, 1, 0..3, 0);
        push(&mut queue, 2, 0..1, 0);
        let mut put = |from, number, progress| queue.push(address(from), (from, number), progress, 0);
        assert_eq!(put(3, 0, Progress::Fresh), Some((1, 2)));
        assert_eq!(put(1, 3, Progress::Begun), Some((1, 1)), "a job that came back is not the newest");
        assert_eq!(put(1, 4, Progress::Fresh), Some((1, 4)), "the newcomer may be the greediest");
        assert_eq!(put(2, 1, Progress::Fresh), Some((2, 1)), "of two with as many jobs, the last in the order");
        assert_eq!(queue.len(), 4);
        let mut one_each = FairQueue::new(2);
        one_each.charge(address(1), 90_000, 0);
        push(&mut one_each, 1, 0..1, 0);
        push(&mut one_each, 2, 0..1, 0);
        assert_eq!(one_each.push(address(3), (3, 0), Progress::Fresh, 0), Some((1, 0)), "it used most");
    }

    #[test]
    fn the_least_use_of_too_many_addresses_is_forgotten_and_so_is_what_decayed() {
        let mut queue: FairQueue<()> = FairQueue::new(1);
        for number in 0..MAX_REMEMBERED as u32 + 9 {
            queue.charge(std::net::Ipv4Addr::from(number).into(), 10 + u64::from(number), 0);
        }
        assert!(queue.lines.len() <= MAX_REMEMBERED + 1, "{}", queue.lines.len());
        assert!(!queue.lines.contains_key(&IpAddr::from([0, 0, 0, 0])));
        queue.charge(address(1), 1, 40 * HALF_LIFE_US);
        assert_eq!((queue.lines.len(), queue.idle.len()), (1, 1));
    }

    /// All charges ever, and all jobs in one list: the rule of the module, said in another way.
    #[derive(Default)]
    struct Oracle {
        charges: Vec<(u8, f64, u64)>,
        jobs: Vec<Job>,
    }

    struct Job {
        from: u8,
        number: u32,
        turn: u64,
        progress: Progress,
    }

    impl Oracle {
        /// What an address used, as it counts at `now_us`.
        fn used_us(&self, from: u8, now_us: u64) -> f64 {
            let own = self.charges.iter().filter(|charge| charge.0 == from);
            own.map(|(_, us, at)| us * 0.5_f64.powf((now_us - at) as f64 / HALF_LIFE_US as f64)).sum()
        }

        fn of(&self, from: u8) -> impl Iterator<Item = &Job> {
            self.jobs.iter().filter(move |job| job.from == from)
        }

        /// The oldest turn of the address: its jobs take turns.
        fn next_of(&self, from: u8) -> u32 {
            self.of(from).min_by_key(|job| job.turn).expect("it has one").number
        }

        fn newest_of(&self, from: u8) -> u32 {
            self.of(from).max_by_key(|job| (job.progress == Progress::Fresh, job.turn)).expect("it has one").number
        }

        fn remove(&mut self, from: u8, number: u32) {
            let at = self.jobs.iter().position(|job| (job.from, job.number) == (from, number)).expect("it waits");
            self.jobs.remove(at);
        }
    }

    /// What happens in a case, to whom, how many microseconds it takes, and how long after the one before.
    type Happening = (u8, u8, u64, u64);

    /// The same operations on both.
    fn compare(happenings: &[Happening]) {
        const MAX: usize = 24;
        let (mut queue, mut oracle, mut now_us) = (FairQueue::new(MAX), Oracle::default(), 0);
        for (number, &(what, from, us, pause_us)) in (0..).zip(happenings) {
            now_us += pause_us;
            match what {
                0..5 => {
                    let progress = if what == 0 { Progress::Begun } else { Progress::Fresh };
                    oracle.jobs.push(Job { from, number, turn: u64::from(number), progress });
                    let refused = queue.push(address(from), (from, number), progress, now_us);
                    assert_eq!(refused.is_some(), oracle.jobs.len() > MAX);
                    if let Some((greedy, number)) = refused {
                        let most = (1..8).map(|from| oracle.of(from).count()).max().expect("not empty");
                        assert_eq!((oracle.of(greedy).count(), number), (most, oracle.newest_of(greedy)));
                        oracle.remove(greedy, number);
                    }
                }
                5..9 => {
                    let Some((_, (from, number))) = queue.pop(us, now_us) else {
                        assert!(oracle.jobs.is_empty());
                        continue;
                    };
                    // Nobody who waits used less, but for light users, who are served as they come.
                    let others = oracle.jobs.iter().map(|job| oracle.used_us(job.from, now_us));
                    let least = others.fold(f64::INFINITY, f64::min).max(LIGHT_US as f64);
                    assert!(oracle.used_us(from, now_us) <= least * (1.0 + 1e-6), "{from} was served before its turn");
                    assert_eq!(number, oracle.next_of(from));
                    oracle.remove(from, number);
                    let spent_us = us / 2 + pause_us % 1_000;
                    queue.settle(address(from), us, spent_us, now_us);
                    oracle.charges.push((from, spent_us as f64, now_us));
                }
                _ => {
                    queue.charge(address(from), us, now_us);
                    oracle.charges.push((from, us as f64, now_us));
                }
            }
            assert_eq!(queue.len(), oracle.jobs.len());
            let with_jobs = queue.lines.values().filter(|line| line.len() > 0).count();
            let orders = (queue.waiting.len(), queue.greedy.len(), queue.idle.len());
            assert_eq!(orders, (with_jobs, with_jobs, queue.lines.len() - with_jobs));
        }
    }

    proptest! {
        #[test]
        fn whoever_is_served_used_least_by_an_oracle_that_keeps_every_charge(
            happenings in proptest::collection::vec((0..10_u8, 1..8_u8, 1_000..60_000_u64, 0..200_000_u64), 1..300)
        ) {
            compare(&happenings);
        }
    }
}
