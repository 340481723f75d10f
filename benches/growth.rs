//! How does the cost of a stored query grow with the store?
//!
//! Each shape of query is asked of stores of 10 thousand, 100 thousand and a million events by 2 thousand and 100
//! thousand authors. For each shape there are 64 queries, over other authors or ids. Each is a REQ: the filter is
//! parsed, planned and scanned in a new snapshot, and its rows are rendered. Printed, for one query: the rows, the
//! ranges that were opened, and the microseconds of this thread's CPU time, as the median of the rounds.
//!
//! The stores stay under `WEIR_BENCH_DIR` and are built where they are absent. `WEIR_BENCH_EVENTS` and
//! `WEIR_BENCH_AUTHORS` choose one store, `WEIR_BENCH_ROUNDS` the rounds, `WEIR_BENCH_SHAPE` the shapes whose names
//! contain it, and `WEIR_BENCH_NEWEST_BYTES` the memory for the times of authors' newest events.

#[path = "../tests/support/corpus.rs"]
mod corpus;
#[path = "support/social.rs"]
mod social;
mod support;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use corpus::Random;
use serde_json::{Value, json};
use social::{active, social_event};
use support::{number, thread_us};
use weir::nostr::json::Parser;
use weir::nostr::{EventView, Filter, ParseOptions, Timestamp};
use weir::store::{Budget, Durability, Flow, Options, Query, QueryLimits, Scan, Seq, Step, Store};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_700_000_000;
const LIMITS: QueryLimits = QueryLimits { default_limit: 500, max_limit: 500, hints: false, tie_extension: 0 };

/// Queries of each shape.
const QUERIES: usize = 64;

/// Seconds between two events.
const PACE_S: u64 = 10;

struct Corpus {
    store: Store,
    events: u64,
    authors: Vec<String>,
    /// Ids of events from all over the store.
    ids: Vec<String>,
}

impl Corpus {
    /// Opens the store of so many events by so many authors; builds it if it is absent.
    fn open(events: u64, authors: u64) -> Self {
        let home = std::env::var_os("WEIR_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = home.join(format!("growth-{events}-{authors}"));
        let mut random = Random(42);
        let authors: Vec<String> = (0..authors).map(|_| random.hex32()).collect();
        if !path.exists() {
            let partial = path.with_extension("partial");
            build(&partial, events, &authors, random);
            std::fs::rename(partial, &path).expect("another name");
        }
        let newest_times_bytes = number("WEIR_BENCH_NEWEST_BYTES", 16 << 20) as usize;
        let options = Options { durability: Durability::None, newest_times_bytes, ..Options::default() };
        let store = Store::open(&path, options).expect("a store");
        let mut ids = Vec::new();
        let snapshot = store.read().expect("a snapshot");
        let stride = (events / 10_000).max(1);
        for seq in (1..=events).step_by(stride as usize) {
            let event = snapshot.get(Seq(seq)).expect("a record");
            ids.extend(event.map(|event| hex(event.id_bytes())));
        }
        drop(snapshot);
        Self { store, events, authors, ids }
    }

    /// A page from deep in the store begins at this time.
    fn deep(&self) -> u64 {
        NOW - self.events * PACE_S / 2
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(path: &std::path::Path, events: u64, authors: &[String], mut random: Random) {
    eprintln!("building {}", path.display());
    let options = Options { durability: Durability::None, ..Options::default() };
    let store = Store::open(path, options).expect("a store");
    let (mut parser, mut writer) = (Parser::default(), store.writer());
    let mut recent: Vec<String> = Vec::new();
    let mut batch = Vec::new();
    for number in 0..events {
        let parent = |random: &mut Random| (!recent.is_empty()).then(|| random.pick(&recent));
        let event = social_event(&mut random, authors, NOW - (events - number) * PACE_S, parent);
        let id = event["id"].as_str().expect("an id").to_string();
        if recent.len() < 1_000 {
            recent.push(id);
        } else {
            recent[number as usize % 1_000] = id;
        }
        batch.push(corpus::trusted(&mut parser, &event));
        if batch.len() == 2_000 || number + 1 == events {
            writer.commit(&batch, Timestamp(NOW)).expect("a commit");
            batch.clear();
        }
    }
    store.force_sync().expect("a sync");
}

/// So many different authors, all equally likely.
fn follows(random: &mut Random, corpus: &Corpus, count: usize) -> Vec<String> {
    let mut chosen = HashSet::new();
    while chosen.len() < count {
        chosen.insert(random.below(corpus.authors.len() as u64) as usize);
    }
    chosen.into_iter().map(|author| corpus.authors[author].clone()).collect()
}

/// Makes a filter of one shape.
type Shape = fn(&mut Random, &Corpus) -> Value;

/// Each shape of query, by name.
const SHAPES: [(&str, Shape); 14] = [
    ("by id", |random, corpus| json!({"ids": [random.pick(&corpus.ids)]})),
    ("profile", |random, corpus| json!({"authors": [active(random, &corpus.authors)], "kinds": [0]})),
    (
        "author's newest 50",
        |random, corpus| json!({"authors": [active(random, &corpus.authors)], "kinds": [1], "limit": 50}),
    ),
    ("thread", |random, corpus| json!({"#e": [random.pick(&corpus.ids)], "kinds": [1]})),
    (
        "notifications",
        |random, corpus| json!({"#p": [active(random, &corpus.authors)], "kinds": [1, 6, 7, 9735], "limit": 50}),
    ),
    ("conversation", |random, corpus| {
        let authors = follows(random, corpus, 2);
        json!({"kinds": [4], "authors": authors, "#p": authors})
    }),
    ("what two wrote to each other", |random, corpus| {
        let authors = [0, 1].map(|_| active(random, &corpus.authors).clone());
        json!({"kinds": [1], "authors": authors, "#p": authors})
    }),
    ("newest 100", |_, _| json!({"kinds": [1], "limit": 100})),
    ("topic", |random, _| json!({"#t": [format!("topic{}", random.below(50))], "kinds": [1], "limit": 50})),
    (
        "author and rare topic",
        |random, corpus| json!({"authors": [active(random, &corpus.authors)], "#t": ["rare"], "kinds": [1]}),
    ),
    ("100 ids", |random, corpus| {
        let ids: Vec<&String> = (0..100).map(|_| random.pick(&corpus.ids)).collect();
        json!({"ids": ids})
    }),
    ("300 profiles", |random, corpus| json!({"authors": follows(random, corpus, 300), "kinds": [0]})),
    ("feed of 300", |random, corpus| json!({"authors": follows(random, corpus, 300), "kinds": [1, 6], "limit": 100})),
    ("deep page of a feed of 300", |random, corpus| {
        let until = corpus.deep();
        json!({"authors": follows(random, corpus, 300), "kinds": [1, 6], "limit": 100, "until": until})
    }),
];

/// What one query, or the mean of many, took.
#[derive(Clone, Copy, Default)]
struct Cost {
    rows: u64,
    opened: u64,
}

/// A REQ, from the text of its filter to the last rendered row.
fn request(corpus: &Corpus, parser: &mut Parser, text: &str, out: &mut Vec<u8>) -> Cost {
    let snapshot = corpus.store.read().expect("a snapshot");
    let filter = Filter::parse(parser, text.as_bytes(), ParseOptions::default()).expect("a filter");
    let filters: Arc<[Filter]> = Arc::new([filter]);
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: Some(LIMITS) });
    let mut rows = 0;
    out.clear();
    let mut take = |_: Seq, event: EventView<'_>| {
        rows += 1;
        event.write_json(out);
        Flow::Continue
    };
    let step = scan.run(&snapshot, Budget::UNLIMITED, &mut take).expect("a scan");
    assert!(matches!(step, Step::Done { .. }));
    Cost { rows, opened: scan.opened() }
}

fn measure(corpus: &Corpus, rounds: u64) {
    let mut parser = Parser::default();
    let only = std::env::var("WEIR_BENCH_SHAPE").unwrap_or_default();
    let mut out = Vec::new();
    for (name, shape) in SHAPES.into_iter().filter(|(name, _)| name.contains(&only)) {
        let mut random = Random(7);
        let texts: Vec<String> = (0..QUERIES).map(|_| shape(&mut random, corpus).to_string()).collect();
        let mut all = Cost::default();
        let mut times = Vec::new();
        for round in 0..=rounds {
            let began = thread_us();
            all = Cost::default();
            for text in &texts {
                let cost = request(corpus, &mut parser, text, &mut out);
                (all.rows, all.opened) = (all.rows + cost.rows, all.opened + cost.opened);
            }
            // The first round finds the pages in the kernel's cache.
            if round > 0 {
                times.push((thread_us() - began) / QUERIES as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        let [rows, opened] = [all.rows, all.opened].map(|count| count as f64 / QUERIES as f64);
        let (events, authors, us) = (corpus.events, corpus.authors.len(), times[times.len() / 2]);
        println!("{events:>8}\t{authors:>6}\t{name:<28}\t{rows:>6.1}\t{opened:>6.1}\t{us:>8.2}");
    }
}

fn main() {
    println!("{:>8}\t{:>6}\t{:<28}\t{:>6}\t{:>6}\t{:>8}", "events", "authors", "query", "rows", "opened", "us");
    let (events, authors) = (number("WEIR_BENCH_EVENTS", 0), number("WEIR_BENCH_AUTHORS", 0));
    let rounds = number("WEIR_BENCH_ROUNDS", 21);
    for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| [0, *size].contains(&events)) {
        for count in [2_000, 100_000].into_iter().filter(|count| [0, *count].contains(&authors)) {
            measure(&Corpus::open(size, count), rounds);
        }
    }
}
