//! How fast the store grows after the rules removed their part, and for how many days there is room.
//!
//! Assumes for each rule that every day brings as much as a day of its window did, that its `max_age`, `max_bytes`
//! and `max_events` apply, and that nothing else removes events. Limits per author, expirations and deletions make
//! the room last longer. Pure.

use super::marks::Marks;
use super::usage::{MANY_DAYS, RuleUsage};
use crate::policy::Retention;
use crate::store::{Amount, Room};

const DAY: f64 = 86_400.0;

/// Growth is the mean over this many days from now.
const AHEAD: u64 = 7;

/// What one day adds and removes, in events and in bytes in the data file.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Daily {
    /// What comes in.
    pub added: [f64; 2],
    /// What the rules remove.
    pub removed: [f64; 2],
}

/// The limit that is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// `storage.max_bytes`.
    MaxBytes,
    /// `storage.map_bytes`, without its reserve for deletions.
    MapBytes,
    /// The file system, without `storage.min_free_disk_bytes`.
    Disk,
}

impl Limit {
    /// The configuration key that sets it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::MaxBytes => "storage.max_bytes",
            Self::MapBytes => "storage.map_bytes",
            Self::Disk => "storage.min_free_disk_bytes",
        }
    }
}

/// The limit that is reached first, and how many bytes events take then.
#[must_use]
pub fn first_limit(rules: &Retention, room: Room, disk_free_bytes: u64) -> (Limit, u64) {
    let limits = rules.limits();
    // Assumes that pages stay as full as they are now.
    let fill = (room.page_bytes as f64 / room.used_bytes.max(1) as f64).max(1.0);
    let with_pages = |pages: u64| room.used_bytes + (pages as f64 / fill) as u64;
    let free_pages = room.file_bytes.saturating_sub(room.page_bytes);
    let disk = with_pages(free_pages + disk_free_bytes.saturating_sub(limits.min_free_disk_bytes));
    let map = with_pages(room.map_bytes.saturating_sub(room.page_bytes));
    let max = if limits.max_bytes == 0 { u64::MAX } else { limits.max_bytes };
    let all = [(Limit::MaxBytes, max), (Limit::MapBytes, map), (Limit::Disk, disk)];
    all.into_iter().min_by_key(|(_, bytes)| *bytes).unwrap_or((Limit::MapBytes, map))
}

/// The forecast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    /// What one day adds and removes.
    pub daily: Daily,
    /// The limit that is reached first.
    pub limit: Limit,
    /// Bytes that events take when it is reached.
    pub limit_bytes: u64,
    /// Days until the rules make room, or without rules until events are refused; `None` if longer than `MANY_DAYS`.
    pub room_days: Option<u64>,
    /// Days until events that a lack of room never removes fill the store; `None` if longer than `MANY_DAYS`.
    pub full_days: Option<u64>,
}

const fn events(amount: &Amount) -> f64 {
    amount.events as f64
}

const fn footprint(amount: &Amount) -> f64 {
    amount.footprint as f64
}

impl RuleUsage {
    fn daily(&self, of: fn(&Amount) -> f64) -> f64 {
        if self.window_s == 0 { 0.0 } else { of(&self.recent) * DAY / self.window_s as f64 }
    }
}

/// The events of a rule in the days to come.
struct Course<'a> {
    usage: &'a RuleUsage,
    /// The days that end with less, and what has left by then.
    left: Vec<(u64, Amount)>,
}

impl<'a> Course<'a> {
    fn new(usage: &'a RuleUsage) -> Self {
        let add = |sum: &mut Amount, (&day, one): (&u64, &Amount)| {
            sum.events += one.events;
            sum.footprint += one.footprint;
            Some((day, *sum))
        };
        Self { usage, left: usage.leaving.iter().scan(Amount::default(), add).collect() }
    }

    /// Its size after this many days.
    fn after(&self, days: u64, of: fn(&Amount) -> f64) -> f64 {
        let Self { usage, left } = self;
        let before = left.partition_point(|(day, _)| *day <= days);
        let left = left[..before].last().map_or(0.0, |(_, amount)| of(amount));
        let fresh_days = usage.max_age_s.map_or(days as f64, |age| (age as f64 / DAY).min(days as f64));
        let all = of(&usage.held) - left + usage.daily(of) * fresh_days;
        // At the limit of a rule, events are as large as those that it holds now.
        let at = |limit: u64, held: u64| match (limit, held) {
            (0, _) | (_, 0) => f64::INFINITY,
            _ => of(&usage.held) * limit as f64 / held as f64,
        };
        all.min(at(usage.max_bytes, usage.held.bytes)).min(at(usage.max_events, usage.held.events))
    }
}

impl Forecast {
    /// Computes the forecast from what each rule holds and receives, up to the limit that is reached first.
    #[must_use]
    pub fn new(usages: &[RuleUsage], rules: &Retention, room: Room, disk_free_bytes: u64) -> Self {
        let (limit, limit_bytes) = first_limit(rules, room, disk_free_bytes);
        let courses: Vec<Course<'_>> = usages.iter().map(Course::new).collect();
        let sum = |days: u64, of: fn(&Amount) -> f64| courses.iter().map(|course| course.after(days, of)).sum::<f64>();
        let measures: [fn(&Amount) -> f64; 2] = [events, footprint];
        let added = measures.map(|of| usages.iter().map(|usage| usage.daily(of)).sum::<f64>());
        let net = measures.map(|of| (sum(AHEAD, of) - sum(0, of)) / AHEAD as f64);
        let removed = [added[0] - net[0], added[1] - net[1]];
        let start = if rules.is_empty() { limit_bytes } else { Marks::new(limit_bytes).start };
        let first_day = |used: &dyn Fn(u64) -> f64, bytes: u64| (0..=MANY_DAYS).find(|&day| used(day) >= bytes as f64);
        let kept = |days: u64| {
            let kept = courses.iter().filter(|course| course.usage.is_kept);
            kept.map(|course| course.after(days, footprint)).sum::<f64>()
        };
        let room_days = first_day(&|days| sum(days, footprint), start);
        let full_days = first_day(&kept, limit_bytes);
        Self { daily: Daily { added, removed }, limit, limit_bytes, room_days, full_days }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{RetentionLimits, Rule};
    use crate::store::Full;

    const MIB: u64 = 1 << 20;

    fn amount(events: u64) -> Amount {
        Amount { events, bytes: 600 * events, footprint: 1000 * events }
    }

    fn rules(texts: &[&str], max_bytes: u64, min_free_disk_bytes: u64) -> Retention {
        let all: Vec<Rule> = texts.iter().map(|text| serde_json::from_str(text).expect("a rule")).collect();
        Retention::new(all, RetentionLimits { max_bytes, min_free_disk_bytes, ..RetentionLimits::default() })
    }

    fn room(used_bytes: u64) -> Room {
        let page_bytes = used_bytes * 5 / 4;
        Room { used_bytes, page_bytes, file_bytes: page_bytes + MIB, map_bytes: 1 << 40, full: Full::NEVER }
    }

    /// A rule that keeps `days` days, each of which brought as many events.
    fn steady(days: u64, each: u64) -> RuleUsage {
        RuleUsage {
            held: amount(days * each),
            recent: amount(days.min(7) * each),
            window_s: days.min(7) * 86_400,
            max_age_s: Some(days * 86_400),
            leaving: (1..=days).map(|day| (day, amount(each))).collect(),
            ..RuleUsage::default()
        }
    }

    #[test]
    fn a_rule_that_keeps_a_day_is_measured_over_a_day_and_does_not_grow() {
        let [short, long] = [1, 30].map(|days| {
            let usages = [steady(days, 700), RuleUsage::default()];
            Forecast::new(&usages, &rules(&["{}"], 1 << 30, 0), room(usages[0].held.footprint), 1 << 40)
        });
        assert_eq!(short.daily, Daily { added: [700.0, 700_000.0], removed: [700.0, 700_000.0] });
        assert_eq!(long.daily, short.daily);
        assert_eq!([short.room_days, short.full_days, long.room_days, long.full_days], [None; 4]);
    }

    #[test]
    fn days_left_are_of_what_comes_in_less_what_leaves() {
        // 1 MB a day is kept forever, 2 MB a day for ten days.
        let kept = RuleUsage {
            recent: amount(7000),
            window_s: 7 * 86_400,
            is_kept: true,
            held: amount(10_000),
            ..RuleUsage::default()
        };
        let usages = [kept, steady(10, 2000), RuleUsage::default()];
        let texts = [r#"{"kinds":[0],"keep":"forever"}"#, r#"{"max_age":"10d"}"#];
        let forecast = Forecast::new(&usages, &rules(&texts, 64_000_000, 0), room(30_000_000), 1 << 40);
        assert_eq!(forecast.daily, Daily { added: [3000.0, 3_000_000.0], removed: [2000.0, 2_000_000.0] });
        assert_eq!((forecast.limit, forecast.limit_bytes), (Limit::MaxBytes, 64_000_000));
        // From 30 MB to 62 MB, where eviction begins, and from 10 MB to 64 MB of what nothing removes.
        assert_eq!((forecast.room_days, forecast.full_days), (Some(32), Some(54)));
        let none = Forecast::new(&usages, &rules(&[], 64_000_000, 0), room(30_000_000), 1 << 40);
        assert_eq!(none.room_days, Some(34), "without rules there is room up to the limit");
    }

    #[test]
    fn the_first_of_all_limits_counts_and_pages_are_as_full_as_they_are() {
        let limit = |max, min_free, disk_free| first_limit(&rules(&[], max, min_free), room(40 * MIB), disk_free);
        assert_eq!(limit(100 * MIB, 0, 1 << 40), (Limit::MaxBytes, 100 * MIB));
        assert_eq!(limit(0, 10 * MIB, 59 * MIB), (Limit::Disk, 80 * MIB), "50 MiB of pages hold 40 MiB");
        assert_eq!(limit(0, 60 * MIB, 59 * MIB), (Limit::Disk, 40 * MIB + MIB * 4 / 5), "only what is in the file");
        let map = Room { map_bytes: 100 * MIB, ..room(40 * MIB) };
        assert_eq!(first_limit(&rules(&[], 0, 0), map, 1 << 40), (Limit::MapBytes, 80 * MIB));
    }

    #[test]
    fn what_reaches_the_bytes_or_the_number_of_its_rule_grows_no_more() {
        let usage =
            RuleUsage { held: amount(9000), recent: amount(7000), window_s: 7 * 86_400, ..RuleUsage::default() };
        for usage in [RuleUsage { max_bytes: 6_000_000, ..usage.clone() }, RuleUsage { max_events: 10_000, ..usage }] {
            let forecast = Forecast::new(&[usage], &rules(&["{}"], 1 << 30, 0), room(9_000_000), 1 << 40);
            let rounded = |[a, b]: [f64; 2]| [a.round() as u64, b.round() as u64];
            assert_eq!(
                (rounded(forecast.daily.added), rounded(forecast.daily.removed)),
                ([1000, 1_000_000], [857, 857_143])
            );
            assert_eq!((forecast.room_days, forecast.full_days), (None, None));
        }
    }
}
