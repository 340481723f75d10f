//! Does a full store that stays full level off, in file size and in CPU per event?
//!
//! Fills a store up to `max_bytes` and then keeps inserting, while the retention rules make room, for a number of
//! turnovers. A turnover is as many events as the store held when it was first full. Expected: the file grows a little
//! past `max_bytes` at first, by the pages that a commit needs before it frees others, and then stops growing. The CPU
//! per event is that of an insert and a removal, about the same at the end as at the start.
//!
//! Run with `cargo bench --bench churn`. It prints CSV: a row for each tenth of the first turnover, then one for each
//! turnover. `WEIR_CHURN_TURNOVERS` (3), `WEIR_CHURN_MIB` (64), `WEIR_CHURN_BATCH` (512 events) and `WEIR_BENCH_DIR`
//! (.) set how much, how and where. `WEIR_CHURN_RULES` (age) sets what is removed first: `age` the oldest events,
//! `value` the oldest reactions. While room is made, events are stored as in a relay, one for every two that go;
//! with `WEIR_CHURN_ALONE` none are, and commits become larger.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use corpus::Random;
use support::{number, thread_us};
use weir::nostr::{Event, Pubkey, Timestamp, VerifiedEvent, hex, json};
use weir::policy::{Retention, RetentionLimits, Rule};
use weir::retention::{Marks, Mode, pass};
use weir::store::{Durability, Options, Store, Writer};

#[path = "../tests/support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

mod support;

#[path = "../src/nostr/testing.rs"]
#[allow(unused_imports)]
mod testing;

const AUTHORS: u64 = 2_000;
static NEVER_STOP: AtomicBool = AtomicBool::new(false);

/// The next event of a social relay: notes, reactions, reposts, profiles and some follow lists, a second apart.
fn event(random: &mut Random, authors: &[Pubkey], now: u64) -> VerifiedEvent {
    let author = authors[random.below(AUTHORS) as usize];
    let (note, person) = (random.hex32(), authors[random.below(AUTHORS) as usize].to_string());
    let text = |length: u64| "lorem ipsum dolor sit amet ".repeat(length as usize / 27 + 1);
    let about: [&[&str]; 2] = [&["e", &note, "wss://relay.example", "root"], &["p", &person]];
    match random.below(1000) {
        0..550 => testing::trusted(author, 1, now, &about, &text(50 + random.below(800))),
        550..880 => testing::trusted(author, 7, now, &about, "+"),
        880..950 => testing::trusted(author, 6, now, &about, &text(600 + random.below(600))),
        950..998 => testing::trusted(author, 0, now, &[], &text(200 + random.below(600))),
        _ => {
            let keys: Vec<String> = (0..200).map(|_| authors[random.below(AUTHORS) as usize].to_string()).collect();
            let tags: Vec<[&str; 2]> = keys.iter().map(|key| ["p", key.as_str()]).collect();
            let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
            testing::trusted(author, 3, now, &tags, "")
        }
    }
}

fn rules(by_value: bool, max_bytes: u64) -> Retention {
    let mut texts = vec![r#"{"kinds":[0,3],"keep":"forever"}"#];
    if by_value {
        texts.push(r#"{"kinds":[1,6]}"#);
    }
    texts.push("{}");
    let rules: Vec<Rule> = texts.iter().map(|text| serde_json::from_str(text).expect("a rule")).collect();
    Retention::new(rules, RetentionLimits { max_bytes, ..RetentionLimits::default() })
}

/// CPU time since the last row.
#[derive(Default)]
struct Spent {
    events: u64,
    evicted: u64,
    insert_us: f64,
    evict_us: f64,
    longest_step_ms: f64,
}

struct Churn {
    store: Store,
    rules: Retention,
    max_bytes: u64,
    /// Events of one commit.
    batch: u64,
    random: Random,
    authors: Vec<Pubkey>,
    now: u64,
    /// Whether nothing is stored while room is made.
    is_alone: bool,
    spent: Spent,
}

impl Churn {
    /// Stores this many events in one commit.
    fn insert(&mut self, events: u64, writer: &mut Writer) {
        let mut batch = Vec::with_capacity(events as usize);
        for _ in 0..events {
            self.now += 1;
            batch.push(event(&mut self.random, &self.authors, self.now));
        }
        let start = thread_us();
        writer.commit(&batch, Timestamp(self.now)).expect("a commit");
        self.spent.insert_us += thread_us() - start;
        self.spent.events += events;
    }

    /// Stores a batch and makes room if necessary, while others go on publishing. Returns whether room has ever been
    /// made.
    fn batch(&mut self, writer: &mut Writer) -> bool {
        self.insert(self.batch, writer);
        if self.store.room().expect("the room").used_bytes <= Marks::new(self.max_bytes).start {
            return false;
        }
        let (store, rules, now) = (self.store.clone(), self.rules.clone(), Timestamp(self.now));
        let inserted_us = self.spent.insert_us;
        let (start, mut step) = (thread_us(), Instant::now());
        let found = pass(&store, &rules, now, Mode::Remove, &NEVER_STOP, |_| {
            self.spent.longest_step_ms = self.spent.longest_step_ms.max(step.elapsed().as_secs_f64() * 1e3);
            if !self.is_alone {
                self.insert(self.batch / 4, writer);
            }
            step = Instant::now();
        });
        self.spent.evict_us += thread_us() - start - (self.spent.insert_us - inserted_us);
        self.spent.evicted += found.expect("a pass").total().events;
        true
    }

    fn row(&mut self, turnover: f64, started: Instant) {
        let usage = self.store.usage().expect("usage");
        let kinds = self.store.read().expect("a snapshot").kinds().expect("the tally");
        let held = |of: fn(u16) -> bool| -> u64 {
            kinds.iter().filter(|(kind, _)| of(kind.0)).map(|(_, usage)| usage.events).sum()
        };
        let Spent { events, evicted, insert_us, evict_us, longest_step_ms } = std::mem::take(&mut self.spent);
        println!(
            "{turnover:.1},{events},{evicted},{},{},{},{},{},{:.2},{:.2},{longest_step_ms:.1},{:.0}",
            held(|_| true),
            held(|kind| kind == 7),
            usage.file_bytes,
            usage.page_bytes,
            usage.used_bytes,
            insert_us / events as f64,
            evict_us / events as f64,
            started.elapsed().as_secs_f64(),
        );
    }
}

fn main() {
    let (turnovers, max_bytes) = (number("WEIR_CHURN_TURNOVERS", 3), number("WEIR_CHURN_MIB", 64) << 20);
    let by_value = std::env::var("WEIR_CHURN_RULES").is_ok_and(|text| text == "value");
    let dir = support::directory();
    let options = Options { durability: Durability::NoMetaSync, full_bytes: Some(max_bytes), ..Options::default() };
    let mut churn = Churn {
        store: Store::open(dir.path(), options).expect("a new store"),
        rules: rules(by_value, max_bytes),
        max_bytes,
        batch: number("WEIR_CHURN_BATCH", 512).max(1),
        random: Random(1),
        authors: (0..AUTHORS).map(testing::author).collect(),
        now: 1_700_000_000,
        is_alone: std::env::var_os("WEIR_CHURN_ALONE").is_some(),
        spent: Spent::default(),
    };
    let mut writer = churn.store.writer();
    let started = Instant::now();
    println!(
        "turnover,inserted,evicted,held,held_reactions,file_bytes,page_bytes,used_bytes,insert_us_per_event,evict_us_per_event,\
         longest_step_ms,wall_s"
    );
    let mut first = 0;
    while !churn.batch(&mut writer) {
        first += churn.batch;
    }
    churn.row(0.0, started);
    let mut inserted = 0;
    for turnover in (1..10).map(|tenth| f64::from(tenth) / 10.0).chain((1..=turnovers).map(|whole| whole as f64)) {
        while (inserted as f64) < turnover * first as f64 {
            let before = churn.spent.events;
            churn.batch(&mut writer);
            inserted += churn.spent.events - before;
        }
        churn.row(turnover, started);
    }
    let report = churn.store.check(|_, _| {}).expect("a check");
    assert_eq!(report.problems, []);
}
