//! What does policy add to an event, a row and a message?
//!
//! Expected on a CPU of about 3 GHz: a note takes about forty compares, 20 ns, and its tags are not read. A row of an
//! open kind takes four range checks, 5 ns. A charge takes four divisions and two atomic exchanges on cache lines that
//! this core has, 40 ns. A look-up in a list of a million keys that finds nothing mostly ends at the bits, with one
//! miss of the caches: 60 ns. One that finds the key misses them in the index and in the keys, too: 160 ns (two crowded
//! cores of an EPYC, keys that differ each time, the least of 35 runs; before there were bits, 130 ns each). So three
//! such lists, of which one allows the author, add 280 ns to an event.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use weir::nostr::json::Parser;
use weir::nostr::{Event, Filter, ParseOptions, Pubkey, Timestamp};
use weir::policy::{Peer, Quantity, RateLimiter, ReadGuard, Settings, Tier, check_event, check_filters};

/// A note of 2021 with two tags.
const NOTE: &str = r#"{"id":"HASH","pubkey":"PUBKEY","created_at":1630000000,"kind":1,"tags":[["e","TARGET","","reply"],["p","PUBKEY"]],"content":"Running weir.","sig":"SIG"}"#;

/// The SHA-256 of the note's serialization (NIP-01).
const ID: &str = "81b88714bbbb573c888cf5d1f75a08afeaa69cf5dc9ccfb71b46e8bf8c59eac6";

/// The note with the right id.
fn note() -> Event {
    let mut parser = Parser::default();
    let text = NOTE
        .replace("PUBKEY", &"ab".repeat(32))
        .replace("TARGET", &"cd".repeat(32))
        .replace("SIG", &"00".repeat(64))
        .replace("HASH", ID);
    Event::parse(&mut parser, text.as_bytes()).expect("the note is well formed")
}

/// Keys that are spread as real ones are.
fn random_keys(count: u64, seed: u64) -> impl Iterator<Item = Pubkey> {
    (0..count).map(move |number| {
        let mut key = [0; 32];
        for (word, out) in (0..4_u64).zip(key.chunks_exact_mut(8)) {
            // SplitMix64.
            let mut x = ((seed << 56) | (number << 2) | word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.copy_from_slice(&(x ^ (x >> 31)).to_be_bytes());
        }
        Pubkey(key)
    })
}

fn policy(criterion: &mut Criterion) {
    let settings = Settings::default();
    let mut peer = Peer::new([192, 0, 2, 7].into());
    let event = note();
    let now = Timestamp(1_630_000_010);
    let mut group = criterion.benchmark_group("policy");
    group.bench_function("check_event/note/anonymous", |b| {
        b.iter(|| check_event(black_box(&settings), &peer, black_box(event.view()), now));
    });
    peer.authenticate(Pubkey([7; 32])).expect("room for a key");
    group.bench_function("check_event/note/authenticated", |b| {
        b.iter(|| check_event(black_box(&settings), &peer, black_box(event.view()), now));
    });
    for million in [false, true] {
        let mut listed = settings.clone();
        if million {
            // Beside the note's author: each look-up goes through the whole of a list and finds nothing.
            listed.access.deny_pubkeys = random_keys(1_000_000, 1).collect();
            listed.access.mute_pubkeys = random_keys(1_000_000, 2).collect();
            listed.access.allow_pubkeys = random_keys(1_000_000, 3).chain([event.view().pubkey()]).collect();
        }
        let name = if million { "three lists of a million keys" } else { "no lists" };
        group.bench_function(format!("check_event/note/{name}"), |b| {
            b.iter(|| check_event(black_box(&listed), &peer, black_box(event.view()), now));
        });
        // Keys that differ every time: what is looked at is not in the cache.
        let authors: Vec<Pubkey> = random_keys(100_000, 4).collect();
        let mut authors = authors.iter().cycle();
        group.bench_function(format!("lists/other authors/{name}"), |b| {
            b.iter(|| {
                let author = authors.next().expect("an endless list");
                let access = black_box(&listed.access);
                (access.denies(author), access.mutes(author), access.allows(author))
            });
        });
    }
    let guard = ReadGuard::new(&settings, peer.keys());
    group.bench_function("read_guard/note", |b| b.iter(|| black_box(guard).allows(black_box(event.view()))));
    let text = r##"{"kinds":[1,6,7],"#t":["nostr"],"limit":100}"##;
    let filter = Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default()).expect("a filter");
    group.bench_function("check_filters/one", |b| {
        b.iter(|| check_filters(black_box(&settings), &peer, black_box(std::slice::from_ref(&filter))));
    });
    let limiter = RateLimiter::new(&settings, peer.address, Arc::default());
    let mut now_us = 0;
    group.bench_function("rate/event", |b| {
        b.iter(|| {
            now_us += 100_000;
            limiter.charge(black_box(&settings), Tier::Anonymous, Quantity::Events, 1, now_us)
        });
    });
    group.bench_function("rate/standing", |b| {
        b.iter(|| limiter.standing(black_box(&settings), Tier::Anonymous, now_us));
    });
    group.finish();
}

criterion_group!(benches, policy);
criterion_main!(benches);
