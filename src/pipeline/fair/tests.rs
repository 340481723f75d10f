//! The queue by examples, and against an oracle that keeps every charge.

use proptest::prelude::*;

use super::*;

fn address(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

/// Puts jobs in, each named by its address and a number.
fn push(queue: &mut FairQueue<(u8, u32)>, from: u8, numbers: std::ops::Range<u32>, now_us: u64) {
    for number in numbers {
        assert_eq!(queue.push(address(from), (from, number), 0, now_us), None);
    }
}

/// Serves `count` jobs that take `cost_us` each and then are over.
fn serve(queue: &mut FairQueue<(u8, u32)>, count: usize, cost_us: u64, now_us: u64) -> Vec<(u8, u32)> {
    (0..count).filter_map(|_| queue.pop(|_| cost_us, now_us)).map(|(_, job)| job).collect()
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
    for from in [1, 2] {
        queue.charge(address(from), 50_000, 0);
        push(&mut queue, from, 1..3, 0);
    }
    assert!(queue.would_be_next(&address(3), 0, 0));
    push(&mut queue, 3, 0..2, 0);
    assert!(!queue.would_be_next(&address(3), 0, 0), "its own jobs are before it");
    assert!(!queue.would_be_next(&address(4), 0, 0), "light users are served as they come");
    assert_eq!(serve(&mut queue, 4, 1_000, 0), [(3, 0), (1, 1), (3, 1), (2, 1)], "at most three quarters of the time");
}

#[test]
fn what_was_spent_elsewhere_counts_and_what_was_expected_and_not_spent_does_not() {
    let mut queue = FairQueue::new(100);
    queue.charge(address(1), 30_000, 0);
    push(&mut queue, 1, 0..1, 0);
    push(&mut queue, 2, 0..2, 0);
    assert_eq!(serve(&mut queue, 1, 1_000_000, 0), [(2, 0)]);
    queue.correct(address(2), 1_000_000, 20_000, 0);
    assert_eq!(serve(&mut queue, 2, 1, 0), [(2, 1), (1, 0)]);
}

#[test]
fn nobody_saves_up_credit_and_no_debt_lasts() {
    let mut queue = FairQueue::new(100);
    queue.charge(address(1), 40_000, 0);
    push(&mut queue, 1, 0..1, 0);
    // A newcomer of each half-life overtakes it, until its 40 ms count as one that waits for two and a half of them.
    push(&mut queue, 2, 0..1, HALF_LIFE_US);
    push(&mut queue, 3, 0..1, 5 * HALF_LIFE_US);
    assert_eq!(serve(&mut queue, 3, 1, 5 * HALF_LIFE_US), [(2, 0), (1, 0), (3, 0)]);
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
    let (_, long) = queue.pop(|_| 5_000, 0).expect("two wait");
    assert_eq!(queue.push(address(1), long, 5_000, 0), None);
    push(&mut queue, 1, 2..3, 0);
    assert_eq!(serve(&mut queue, 3, 6_000, 0), [(1, 1), (1, 0), (1, 2)]);
}

#[test]
fn a_short_query_beside_a_crowd_of_newcomers_waits_until_theirs_came_as_far_and_not_until_they_are_done() {
    const CROWD: u8 = 200;
    let (mut queue, mut spent_us) = (FairQueue::new(1_000), [0; CROWD as usize + 1]);
    (1..=CROWD).for_each(|from| push(&mut queue, from, 0..1, 0));
    // Each comes back for more after as much again.
    let mut serve_round = |queue: &mut FairQueue<(u8, u32)>| {
        let serve_one = |_| {
            let (address, job) = queue.pop(|spent_us| spent_us.max(SHORT_US), 0).expect("they wait");
            let spent_us = &mut spent_us[usize::from(job.0)];
            *spent_us += (*spent_us).max(SHORT_US);
            assert_eq!(queue.push(address, job, *spent_us, 0), None);
            job.0
        };
        (0..CROWD).map(serve_one).collect::<Vec<u8>>()
    };
    let everybody: Vec<u8> = (1..=CROWD).collect();
    assert_eq!([(); 2].map(|()| serve_round(&mut queue)), [(); 2].map(|()| everybody.clone()));
    // 500 us were spent on each by now. A query that comes takes three slices before anybody goes on.
    assert!(queue.would_be_next(&address(250), 0, 0));
    push(&mut queue, 250, 0..1, 0);
    assert!(!queue.would_be_next(&address(251), 0, 0), "light users' new queries are served as they come");
    for spent_us in [60, 310, 700] {
        assert_eq!(queue.pop(|_| SHORT_US, 0).map(|(_, job)| job), Some((250, 0)));
        assert_eq!(queue.push(address(250), (250, 0), spent_us, 0), None);
    }
    assert_eq!(queue.pop(|_| SHORT_US, 0).map(|(_, job)| job), Some((1, 0)), "it has come as far as they");
}

#[test]
fn others_than_light_users_get_a_quarter_of_the_time_and_among_them_whoever_used_least_is_first() {
    let mut queue = FairQueue::new(10_000);
    queue.charge(address(251), 90_000, 0);
    queue.charge(address(252), 30_000, 0);
    (1..=200).for_each(|from| push(&mut queue, from, 0..8, 0));
    push(&mut queue, 251, 0..2, 0);
    push(&mut queue, 252, 0..2, 0);
    let served: Vec<u8> = (0..20).filter_map(|_| queue.pop(|_| 300, 0)).map(|(_, (from, _))| from).collect();
    let others: Vec<(usize, u8)> = (0..).zip(served).filter(|(_, from)| !(1..=200).contains(from)).collect();
    assert_eq!(others, [(1, 252), (5, 252), (9, 251), (13, 251)]);
}

#[test]
fn what_goes_on_waits_for_new_jobs_of_others_for_no_longer_than_half_a_half_life_for_each_step() {
    let mut queue = FairQueue::new(100);
    assert_eq!(queue.push(address(1), (1, 0), SHORT_US, 0), None);
    push(&mut queue, 2, 0..1, HALF_LIFE_US / 2 - 1);
    push(&mut queue, 3, 0..1, HALF_LIFE_US / 2 + 1);
    assert_eq!(serve(&mut queue, 3, 1, HALF_LIFE_US), [(2, 0), (1, 0), (3, 0)]);
}

#[test]
fn steps_double_up_to_four_milliseconds() {
    let spent_us = [0, 249, 250, 499, 500, 999, 1_000, 2_000, 3_999, 4_000, 1 << 40];
    assert_eq!(spent_us.map(step), [0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5]);
}

#[test]
fn a_full_queue_refuses_the_newest_job_of_the_greediest_and_rather_none_that_has_begun() {
    let mut queue = FairQueue::new(4);
    push(&mut queue, 1, 0..3, 0);
    push(&mut queue, 2, 0..1, 0);
    let mut put = |from, number, spent_us| queue.push(address(from), (from, number), spent_us, 0);
    assert_eq!(put(3, 0, 0), Some((1, 2)));
    assert_eq!(put(1, 3, 9_000), Some((1, 1)), "a job that came back is not the newest");
    assert_eq!(put(1, 4, 0), Some((1, 4)), "the newcomer may be the greediest");
    assert_eq!(put(2, 1, 0), Some((2, 1)), "of two with as many jobs, the last in the order");
    assert_eq!(queue.len(), 4);
    let mut one_each = FairQueue::new(2);
    one_each.charge(address(1), 90_000, 0);
    push(&mut one_each, 1, 0..1, 0);
    push(&mut one_each, 2, 0..1, 0);
    assert_eq!(one_each.push(address(3), (3, 0), 0, 0), Some((1, 0)), "it used most");
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
    /// When each address began to wait, or was served.
    since_us: HashMap<u8, u64>,
    /// A third of what light users were served for while others waited, less what those were.
    reserved_us: i64,
}

struct Job {
    from: u8,
    number: u32,
    turn: u64,
    spent_us: u64,
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

    /// What a light user counts as that began to wait with `from`.
    fn light_us(&self, from: u8, now_us: u64) -> f64 {
        LIGHT_US as f64 * 0.5_f64.powf((now_us - self.since_us[&from]) as f64 / HALF_LIFE_US as f64)
    }

    fn is_light(&self, from: u8, now_us: u64) -> bool {
        self.used_us(from, now_us) <= self.light_us(from, now_us)
    }

    /// Whoever has the least of this is served.
    fn counts_us(&self, from: u8, now_us: u64) -> f64 {
        if !self.is_light(from, now_us) {
            return self.used_us(from, now_us);
        }
        let left = self.of(from).map(|job| LAST_STEP - step(job.spent_us)).max().expect("it has a job");
        self.light_us(from, now_us) * 0.5_f64.powf(f64::from(left) / 2.0)
    }

    /// The oldest turn of the address, since its jobs take turns; of a light one's that which has come least far.
    fn next_of(&self, from: u8, now_us: u64) -> u32 {
        let is_light = self.is_light(from, now_us);
        let key = |job: &&Job| (if is_light { step(job.spent_us) } else { 0 }, job.turn);
        self.of(from).min_by_key(key).expect("it has one").number
    }

    /// Whether the first of those that are no light users goes before these.
    fn is_turn_of_others(&self, now_us: u64) -> bool {
        let all = self.jobs.iter().map(|job| (self.counts_us(job.from, now_us), job.from));
        let others = all.filter(|(counts_us, _)| !counts_as_light(counts_us));
        let Some((_, first)) = others.min_by(|one, other| one.0.total_cmp(&other.0)) else { return false };
        let number = self.next_of(first, now_us);
        let next = self.of(first).find(|job| job.number == number).expect("it waits");
        self.reserved_us > next.spent_us.min(MOST_RESERVED_US).cast_signed()
    }

    fn newest_of(&self, from: u8) -> u32 {
        self.of(from).max_by_key(|job| (step(job.spent_us) == 0, job.turn)).expect("it has one").number
    }

    fn remove(&mut self, from: u8, number: u32) {
        let at = self.jobs.iter().position(|job| (job.from, job.number) == (from, number)).expect("it waits");
        self.jobs.remove(at);
    }
}

fn counts_as_light(counts_us: &f64) -> bool {
    *counts_us <= LIGHT_US as f64 * (1.0 + 1e-9)
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
                let spent_us = if what < 2 { us / 8 } else { 0 };
                if oracle.of(from).next().is_none() {
                    oracle.since_us.insert(from, now_us);
                }
                oracle.jobs.push(Job { from, number, turn: u64::from(number), spent_us });
                let refused = queue.push(address(from), (from, number), spent_us, now_us);
                assert_eq!(refused.is_some(), oracle.jobs.len() > MAX);
                if let Some((greedy, number)) = refused {
                    let most = (1..8).map(|from| oracle.of(from).count()).max().expect("not empty");
                    assert_eq!((oracle.of(greedy).count(), number), (most, oracle.newest_of(greedy)));
                    oracle.remove(greedy, number);
                }
            }
            5..9 => {
                let Some((_, (from, number))) = queue.pop(|_| us, now_us) else {
                    assert!(oracle.jobs.is_empty());
                    continue;
                };
                let all = oracle.jobs.iter().map(|job| oracle.counts_us(job.from, now_us));
                let (light, others): (Vec<f64>, Vec<f64>) = all.partition(counts_as_light);
                let goes_first = if light.is_empty() || oracle.is_turn_of_others(now_us) { &others } else { &light };
                let least = goes_first.iter().copied().fold(f64::INFINITY, f64::min);
                let own = oracle.counts_us(from, now_us);
                if !light.is_empty() && !others.is_empty() {
                    let us = us.cast_signed();
                    oracle.reserved_us += if counts_as_light(&own) { us / 3 } else { -us };
                }
                assert!((own / least - 1.0).abs() < 1e-6, "{from} was served before its turn");
                assert_eq!(number, oracle.next_of(from, now_us));
                oracle.since_us.insert(from, now_us);
                oracle.remove(from, number);
                let spent_us = us / 2 + pause_us % 1_000;
                queue.correct(address(from), us, spent_us, now_us);
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
