//! What does a stored query cost, by the shape of its filter?
//!
//! The store has 50,000 generated events by 2,000 authors, some of whom write much more than others. Each bench is a
//! REQ: the filter is parsed, planned and scanned in a new snapshot. Rows are read but not rendered.

#[path = "../tests/support/corpus.rs"]
mod corpus;
#[path = "support/social.rs"]
mod social;

use std::hint::black_box;
use std::sync::Arc;

use corpus::Random;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use social::social_event;
use weir::nostr::json::Parser;
use weir::nostr::{EventView, Filter, ParseOptions, Timestamp};
use weir::store::{Budget, Durability, Flow, Options, Query, QueryLimits, Scan, Seq, Step, Store};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: u64 = 50_000;
const AUTHORS: usize = 2_000;
const NOW: u64 = 1_700_000_000;
const LIMITS: QueryLimits = QueryLimits { default_limit: 500, max_limit: 500, hints: false, tie_extension: 0 };

struct Corpus {
    _dir: tempfile::TempDir,
    store: Store,
    authors: Vec<String>,
    ids: Vec<String>,
}

impl Corpus {
    fn build() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { durability: Durability::None, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a store");
        let mut random = Random(42);
        let authors: Vec<String> = (0..AUTHORS).map(|_| random.hex32()).collect();
        let mut ids: Vec<String> = Vec::new();
        let (mut parser, mut writer) = (Parser::default(), store.writer());
        let mut batch = Vec::new();
        for number in 0..EVENTS {
            let parent = |random: &mut Random| {
                let last = ids.len().checked_sub(1)?;
                Some(&ids[last - random.below(200).min(last as u64) as usize])
            };
            let event = social_event(&mut random, &authors, NOW - (EVENTS - number) * 10, parent);
            ids.push(event["id"].as_str().expect("an id").to_string());
            batch.push(corpus::trusted(&mut parser, &event));
            if batch.len() == 1_000 {
                writer.commit(&batch, Timestamp(NOW)).expect("a commit");
                batch.clear();
            }
        }
        Self { _dir: dir, store, authors, ids }
    }

    /// `count` authors: every `stride`-th, from the most active one.
    fn follow(&self, count: usize, stride: usize) -> Vec<&String> {
        self.authors.iter().step_by(stride).take(count).collect()
    }
}

/// A REQ, from the text of its filters to the last row. Returns the number of rows and of bytes in their records.
fn request(corpus: &Corpus, parser: &mut Parser, texts: &[String]) -> (u32, usize) {
    let snapshot = corpus.store.read().expect("a snapshot");
    let mut parse = |text: &String| Filter::parse(parser, text.as_bytes(), ParseOptions::default()).expect("a filter");
    let filters: Arc<[Filter]> = texts.iter().map(&mut parse).collect();
    let mut scan = Scan::new(Query { filters, until_seq: Seq::MAX, limits: Some(LIMITS) });
    let (mut rows, mut bytes) = (0, 0);
    let mut take = |_: Seq, event: EventView<'_>| {
        rows += 1;
        bytes += event.record().len();
        Flow::Continue
    };
    let step = scan.run(&snapshot, Budget::UNLIMITED, &mut take).expect("a scan");
    assert!(matches!(step, Step::Done { .. }));
    (rows, bytes)
}

/// Each shape by name: a filter or an array of filters.
fn shapes(corpus: &Corpus) -> Vec<(&'static str, Value)> {
    let mut random = Random(7);
    let ids: Vec<&String> = (0..100).map(|_| random.pick(&corpus.ids)).collect();
    let (author, friend) = (&corpus.authors[5], &corpus.authors[1_000]);
    let deep = NOW - EVENTS * 9;
    vec![
        ("by id", json!({"ids": [ids[0]]})),
        ("100 ids", json!({"ids": ids})),
        ("profile", json!({"authors": [author], "kinds": [0]})),
        ("author's newest 50", json!({"authors": [author], "kinds": [1], "limit": 50})),
        ("author of every kind, newest 50", json!({"authors": [author], "limit": 50})),
        ("deep page of an author", json!({"authors": [author], "kinds": [1], "until": deep, "limit": 50})),
        ("thread", json!({"#e": [corpus.ids[30_000]]})),
        ("notifications", json!({"#p": [author], "kinds": [1, 6, 7, 9735], "limit": 50})),
        ("newest 100 of kind 1", json!({"kinds": [1], "limit": 100})),
        ("newest 100", json!({"limit": 100})),
        ("feed of 300 busy authors", json!({"authors": corpus.follow(300, 2), "kinds": [1, 6], "limit": 100})),
        ("feed of 300 quiet authors", json!({"authors": &corpus.authors[1_700..], "kinds": [1, 6], "limit": 100})),
        ("feed since an hour", json!({"authors": corpus.follow(300, 2), "kinds": [1, 6], "since": NOW - 3_600})),
        (
            "deep page of a feed",
            json!({"authors": corpus.follow(300, 2), "kinds": [1, 6], "limit": 100, "until": deep}),
        ),
        ("300 profiles", json!({"authors": corpus.follow(300, 5), "kinds": [0]})),
        ("300 authors of every kind", json!({"authors": corpus.follow(300, 2), "limit": 100})),
        ("topic, newest 50", json!({"#t": ["topic3"], "kinds": [1], "limit": 50})),
        ("window of kind 7", json!({"kinds": [7], "since": NOW - 9_000, "until": NOW - 8_300})),
        ("conversation", json!({"kinds": [1], "authors": [author, friend], "#p": [author, friend]})),
        ("author and rare topic", json!({"authors": [author], "#t": ["rare"], "kinds": [1]})),
        ("friends and rare topic", json!({"authors": [author, friend], "#t": ["rare"]})),
        (
            "four filters at once",
            json!([
                {"authors": [author], "kinds": [0, 3, 10_002]},
                {"#p": [author], "kinds": [1, 6, 7, 9735], "limit": 20},
                {"authors": [author], "kinds": [1], "limit": 20},
                {"kinds": [30_023], "limit": 20},
            ]),
        ),
        ("author and common topic", json!({"authors": [friend], "#t": ["topic3"], "kinds": [1]})),
    ]
}

fn scans(criterion: &mut Criterion) {
    let corpus = Corpus::build();
    let mut parser = Parser::default();
    let mut group = criterion.benchmark_group("scan");
    for (name, filter) in shapes(&corpus) {
        let texts = match &filter {
            Value::Array(filters) => filters.iter().map(Value::to_string).collect(),
            filter => vec![filter.to_string()],
        };
        let (rows, bytes) = request(&corpus, &mut parser, &texts);
        eprintln!("{name}: {rows} rows, {bytes} bytes of records");
        group.bench_function(name, |bencher| bencher.iter(|| request(&corpus, &mut parser, black_box(&texts))));
    }
    let filter = Filter::parse(&mut parser, br#"{"kinds":[7]}"#, ParseOptions::default()).expect("a filter");
    let filters: Arc<[Filter]> = Arc::new([filter]);
    group.bench_function("count kind 7", |bencher| {
        bencher.iter(|| {
            let snapshot = corpus.store.read().expect("a snapshot");
            let mut scan = Scan::new(Query { filters: filters.clone(), until_seq: Seq::MAX, limits: None });
            let mut count = 0_u64;
            let mut take = |_: Seq, _: EventView<'_>| {
                count += 1;
                Flow::Continue
            };
            scan.run(&snapshot, Budget::UNLIMITED, &mut take).expect("a scan");
            count
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(40)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1_500));
    targets = scans
}
criterion_main!(benches);
