//! What does it cost to find who asked for an event?
//!
//! Expected, for an event of three tags on a CPU of about 3 GHz:
//!
//! - `mixed/N`: up to six keyed hashes of 32 bytes (10 to 20 ns each) and as many table reads (a few ns from
//!   cache, 50 to 100 ns from memory), then 0.1 µs for each candidate whose filter has to be read. So 0.1 to
//!   0.2 µs at 1,000 subscriptions, and then linear in the candidates (printed) and flat in the subscriptions.
//! - `follow_feeds`: 2,000 feeds of 300 authors each out of 240,000: 2.5 candidates an event, half of them of a
//!   kind that was not asked for, which is decided without the filter: 0.2 µs.
//! - `one_kind/10000`: 10,000 subscriptions to `kinds:[1]` and nothing else: all are visited, two cache lines
//!   each, read in order: 1 to 2 ns each.
//! - `insert_and_remove`: 300 hashes and 300 table accesses to insert, and as many to remove: below 40 µs for both.
//! - memory: 32 bytes of key in the filter, 4 to 8 in a list, and 17 for each key at a table load of 7/16 to
//!   7/8, here shared by 2.5 items: 45 to 55 bytes an item.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corpus::Random;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use sha2::{Digest, Sha256};
use weir::live::{Handle, LiveIndex};
use weir::nostr::{Event, Filter, Kind, ParseOptions, Pubkey, hex, json::Parser};

#[path = "../tests/support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

/// Counts the bytes in use, so that the memory figure is the allocator's and not the index's own estimate.
struct Counting;

static USED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to `System` unchanged; a counter is all that is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn author(random: &mut Random) -> Pubkey {
    key(random.below(AUTHORS))
}

const AUTHORS: u64 = 240_000;

/// The key of an author, as random as a real one.
fn key(number: u64) -> Pubkey {
    Pubkey(Sha256::digest(number.to_le_bytes()).into())
}

fn event(random: &mut Random) -> Event {
    let kind = [1, 1, 1, 7, 7, 6, 0, 1059][random.below(8) as usize];
    let tags = json!([
        ["e", author(random).to_string()],
        ["p", author(random).to_string()],
        ["t", format!("topic{}", random.below(200))],
    ]);
    let (pubkey, created_at) = (author(random).to_string(), 1_700_000_000 + random.below(1_000_000));
    let preimage = json!([0, pubkey, created_at, kind, tags, ""]).to_string();
    let event = json!({"id": hex::encode(&Sha256::digest(preimage.as_bytes())), "pubkey": pubkey,
        "created_at": created_at, "kind": kind, "tags": tags, "content": "", "sig": "0".repeat(128)});
    Event::parse(&mut Parser::default(), event.to_string().as_bytes()).expect("an event")
}

fn events() -> Vec<Event> {
    let mut random = Random(7);
    (0..1_000).map(|_| event(&mut random)).collect()
}

fn follow_feed(random: &mut Random, authors: usize) -> Arc<[Filter]> {
    let mut authors: Vec<Pubkey> = (0..authors).map(|_| author(random)).collect();
    authors.sort_unstable();
    authors.dedup();
    let kinds = Some([Kind(1), Kind(6)].into());
    Arc::new([Filter { authors: Some(authors.into()), kinds, ..Filter::default() }])
}

fn parsed(filter: &serde_json::Value) -> Arc<[Filter]> {
    let text = filter.to_string();
    Arc::new([Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default()).expect("a filter")])
}

/// A subscription as clients make them: feeds, notifications, threads, profiles, fetches by id, topics.
fn mixed(random: &mut Random, follows: usize) -> Arc<[Filter]> {
    let hex = author(random).to_string();
    match random.below(100) {
        0..40 => follow_feed(random, follows),
        40..60 => parsed(&json!({"#p": [hex], "kinds": [1, 6, 7, 9735]})),
        60..78 => parsed(&json!({"#e": [hex], "kinds": [1, 7]})),
        78..88 => parsed(&json!({"ids": [hex]})),
        88..95 => parsed(&json!({"authors": [hex], "kinds": [0, 3, 10002]})),
        95..99 => parsed(&json!({"#t": [format!("topic{}", random.below(2_000))], "kinds": [1]})),
        _ => parsed(&json!({"kinds": [30_000 + random.below(100)]})),
    }
}

fn index(count: u64, filters: impl Fn(&mut Random) -> Arc<[Filter]>) -> (LiveIndex<u64>, Vec<Handle>) {
    let mut random = Random(42);
    let mut index = LiveIndex::new([1, 2]);
    let handles = (0..count).map(|name| index.insert(name, filters(&mut random), 0)).collect();
    (index, handles)
}

fn bench_lookup(c: &mut Criterion, name: &str, mut index: LiveIndex<u64>, events: &[Event]) {
    let (mut candidates, mut matches) = (0, 0);
    for event in events {
        let lookup = index.matches(event.view(), Some(1), |_| ());
        candidates += lookup.candidates;
        matches += lookup.matches;
    }
    let each = |count: usize| count as f64 / events.len() as f64;
    println!("{name}: {:.2} candidates and {:.2} matches an event", each(candidates), each(matches));
    let mut next = events.iter().cycle();
    c.bench_function(name, |b| {
        b.iter(|| {
            let event = next.next().expect("the cycle does not end");
            index.matches(event.view(), Some(1), |name| {
                black_box(name);
            })
        });
    });
}

fn lookups(c: &mut Criterion) {
    let events = events();
    for (count, follows) in [(1_000, 300), (10_000, 300), (100_000, 30)] {
        let (index, _) = index(count, |random| mixed(random, follows));
        bench_lookup(c, &format!("mixed/{count}"), index, &events);
    }
    let before = USED_BYTES.load(Ordering::Relaxed);
    let (feeds, handles) = index(2_000, |random| follow_feed(random, 300));
    let bytes = USED_BYTES.load(Ordering::Relaxed) - before - handles.capacity() * size_of::<Handle>();
    let estimate = feeds.memory_bytes();
    println!(
        "follow_feeds: {} items in {bytes} bytes ({estimate} by its own count), {:.1} an item",
        feeds.items(),
        bytes as f64 / feeds.items() as f64,
    );
    bench_lookup(c, "follow_feeds", feeds, &events);
    let notes: Vec<Event> = events.into_iter().filter(|event| event.view().kind() == Kind(1)).collect();
    let (global, _) = index(10_000, |_| parsed(&json!({"kinds": [1]})));
    bench_lookup(c, "one_kind/10000", global, &notes);
}

fn changes(c: &mut Criterion) {
    let (mut index, _) = index(2_000, |random| follow_feed(random, 300));
    let mut random = Random(9);
    let mut group = c.benchmark_group("insert_and_remove");
    group.throughput(Throughput::Elements(300));
    group.bench_function("300 authors", |b| {
        b.iter_batched(
            || follow_feed(&mut random, 300),
            |filters| {
                let handle = index.insert(0, filters, 0);
                index.remove(handle)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2));
    targets = lookups, changes
}
criterion_main!(benches);
