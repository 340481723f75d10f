//! What does one new event cost the writer, in CPU and on disk?
//!
//! Expected, for events of about 1,180 bytes of JSON in the mix of a social relay: 4 fixed index entries and
//! 2 to 4 tags, at 0.4 to 0.7 µs for each put in sorted order; two look-ups that find nothing, 0.4 µs each; a
//! record of about 700 bytes appended: 7 to 9 µs in large batches. On disk: the record, and 30 to 60 bytes
//! for each index entry, since inserts in random order leave pages two thirds full: below 1,300 bytes in use.
//!
//! Small durable batches cost more: each event touches five or six index leaves that no other event of its
//! batch shares, and each page written is 1.5 to 2 µs of the system's time. At 256 events a batch that is 10 µs
//! on top, at 4,096 next to nothing.
//!
//! Run with `cargo bench --bench store`. `WEIR_BENCH_CORPUS` names a file with one event in each line to be stored
//! instead, `WEIR_BENCH_EVENTS` says how many events are made up. It prints a table; CPU is that of the writing thread
//! alone, so the waiting for the disk does not count but the system's work for it does.

use corpus::Random;
use sha2::{Digest, Sha256};
use support::thread_us;
use weir::nostr::{Event, Pubkey, Timestamp, VerifiedEvent, hex, json};
use weir::store::{Durability, Options, Seq, Store};

#[path = "../tests/support/corpus.rs"]
#[allow(dead_code)]
mod corpus;

mod support;

#[path = "../src/nostr/testing.rs"]
#[allow(unused_imports)]
mod testing;

const NOW: Timestamp = Timestamp(1_900_000_000);
const AUTHORS: u64 = 20_000;

/// The random choices that events are made of.
trait Draw {
    fn skewed(&mut self, bound: u64) -> u64;
    fn text(&mut self, from: u64, to: u64) -> String;
    fn id(&mut self) -> String;
}

impl Draw for Random {
    /// Small numbers are more likely, as some authors write most.
    fn skewed(&mut self, bound: u64) -> u64 {
        let first = self.below(bound);
        self.below(first + 1)
    }

    fn text(&mut self, from: u64, to: u64) -> String {
        let letters = b"etaoin shrdlu cmfwyp vbgkjq xz ";
        let length = from + self.below(to - from);
        (0..length).map(|_| letters[self.below(letters.len() as u64) as usize] as char).collect()
    }

    fn id(&mut self) -> String {
        hex::encode(&Sha256::digest(self.below(u64::MAX).to_le_bytes()))
    }
}

/// One event of the mix: half notes, a third reactions, reposts, profiles, wraps and some follow lists.
fn event(random: &mut Random, authors: &[Pubkey], number: u64) -> Event {
    let author = authors[random.skewed(AUTHORS) as usize];
    let person = |random: &mut Random| authors[random.skewed(AUTHORS) as usize].to_string();
    let mut tags: Vec<Vec<String>> = Vec::new();
    let tag = |name: &str, value: String, rest: &[&str]| {
        [&[name.to_string(), value][..], &rest.iter().map(|text| (*text).to_string()).collect::<Vec<_>>()].concat()
    };
    let (kind, content) = match random.below(1000) {
        0..500 => {
            if random.below(10) < 7 {
                tags.push(tag("e", random.id(), &["wss://relay.damus.io", "root"]));
                tags.push(tag("e", random.id(), &["", "reply"]));
                for _ in 0..1 + random.below(4) {
                    tags.push(tag("p", person(random), &[]));
                }
            }
            if random.below(5) == 0 {
                tags.push(tag("t", random.text(3, 12), &[]));
            }
            (1, random.text(50, 1000))
        }
        500..830 => {
            tags.push(tag("e", random.id(), &["wss://nos.lol"]));
            tags.push(tag("p", person(random), &[]));
            (7, "+".to_string())
        }
        830..900 => {
            tags.push(tag("e", random.id(), &["wss://nos.lol"]));
            tags.push(tag("p", person(random), &[]));
            (6, random.text(600, 1200))
        }
        900..935 => (0, random.text(200, 900)),
        935..940 => {
            (0..200 + random.below(300)).for_each(|_| tags.push(tag("p", person(random), &[])));
            (3, String::new())
        }
        _ => {
            tags.push(tag("p", person(random), &[]));
            (1059, random.text(1000, 3000))
        }
    };
    let tags: Vec<Vec<&str>> = tags.iter().map(|tag| tag.iter().map(String::as_str).collect()).collect();
    let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
    // Roughly in the order of time, as from live clients: each is some seconds late.
    let created_at = 1_700_000_000 + number / 10 - random.skewed(600);
    testing::event(author, kind, created_at, &tags, &content)
}

fn measure(events: &[VerifiedEvent], batch: usize, durability: Durability) -> Store {
    let dir = support::directory().keep();
    let store = Store::open(&dir, Options { durability, ..Options::default() }).expect("a new store");
    let mut writer = store.writer();
    let (start_cpu, start) = (thread_us(), std::time::Instant::now());
    for batch in events.chunks(batch) {
        writer.commit(batch, NOW).expect("a commit");
    }
    let (cpu, wall) = (thread_us() - start_cpu, start.elapsed().as_secs_f64());
    let count = events.len() as f64;
    let file = store.usage().expect("usage").file_bytes as f64;
    let held = store.read().expect("a snapshot").after(Seq(0)).expect("a walk").count() as f64;
    println!("{durability:>10?} | {batch:>5} | {:>12.2} | {:>8.0} | {:>13.0}", cpu / count, count / wall, file / held);
    std::fs::remove_dir_all(&dir).expect("the directory goes");
    store
}

/// The events of a file, one per line.
fn read_corpus(path: &std::ffi::OsStr) -> Vec<VerifiedEvent> {
    let text = std::fs::read(path).expect("a file of events");
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut parser = json::Parser::default();
    lines.filter_map(|line| Event::parse(&mut parser, line).ok()).map(VerifiedEvent::trust).collect()
}

/// The cost of the check that precedes signature work.
fn read_costs(store: &Store, held: &[VerifiedEvent], fresh: &[VerifiedEvent]) {
    let per = |name: &str, count: usize, work: &mut dyn FnMut(usize)| {
        let start = thread_us();
        (0..count).for_each(work);
        println!("{name}: {:.0} ns", (thread_us() - start) * 1e3 / count as f64);
    };
    println!();
    per("a snapshot, begun and ended", 1_000_000, &mut |_| drop(store.read().expect("a snapshot")));
    let snapshot = store.read().expect("a snapshot");
    let status = |event: &VerifiedEvent| {
        std::hint::black_box(snapshot.status(event.view(), NOW).expect("a status"));
    };
    per("status of a held event", held.len(), &mut |n| status(&held[n * 7919 % held.len()]));
    per("status of a new event", fresh.len(), &mut |n| status(&fresh[n]));
}

fn main() {
    let count = support::number("WEIR_BENCH_EVENTS", 100_000);
    let mut random = Random(1);
    let authors: Vec<Pubkey> = (0..AUTHORS).map(testing::author).collect();
    let events: Vec<VerifiedEvent> = match std::env::var_os("WEIR_BENCH_CORPUS") {
        Some(path) => read_corpus(&path),
        None => (0..count).map(|number| VerifiedEvent::trust(event(&mut random, &authors, number))).collect(),
    };
    let json: usize = events.iter().map(|event| event.view().to_json().len()).sum();
    let record: usize = events.iter().map(|event| event.view().record().len()).sum();
    println!("{} events, mean JSON {} B, mean record {} B", events.len(), json / events.len(), record / events.len());
    println!("durability | batch | µs CPU/event | events/s | file B per event held");
    let fresh: Vec<VerifiedEvent> =
        (0..10_000).map(|number| VerifiedEvent::trust(event(&mut random, &authors, number))).collect();
    let mut last = None;
    for (batch, durability) in [
        (1, Durability::None),
        (64, Durability::Full),
        (256, Durability::Full),
        (1024, Durability::Full),
        (4096, Durability::None),
    ] {
        let events = if batch == 1 { &events[..events.len().min(20_000)] } else { &events[..] };
        last = Some(measure(events, batch, durability));
    }
    let store = last.expect("there are five runs");
    read_costs(&store, &events, &fresh);
    let usage = store.usage().expect("usage");
    let held = usage.tables.iter().find(|table| table.name == "event").map_or(1, |table| table.entries);
    println!("\ntable | entries | bytes per held event");
    for table in &usage.tables {
        println!("{:>15} | {:>9} | {:>7.1}", table.name, table.entries, table.bytes as f64 / held as f64);
    }
    println!(
        "file {:.0} B, in use {:.0} B per event held",
        usage.file_bytes as f64 / held as f64,
        usage.used_bytes as f64 / held as f64
    );
}
