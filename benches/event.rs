//! What does one event cost on its way through memory: parse, id hash, render, filter match?
//!
//! Expected on a CPU of about 3 GHz with SHA-NI and AVX2, for a note of about 700 bytes: the tape 0.25 µs, the record
//! and its hash 0.5 µs more (SHA-256 of 600 B is 0.3 µs), together under 1 µs; rendering is a hex encode of 128 bytes
//! and a copy, 0.12 µs with AVX-512 and 0.15 without; a match that fails at the kind is a few compares, one of 300
//! authors nine steps of a binary search, 20 ns.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir::nostr::json::Parser;
use weir::nostr::{ClientMessage, Event, Filter, ParseOptions};

/// A note of about 700 bytes of JSON with a thread's tags.
fn note() -> Event {
    let hexed = |byte: &str| byte.repeat(32);
    let text =
        "A note of ordinary length, with a line break\\nand \\\"quotes\\\", as people write them every day. ".repeat(2);
    let unsigned = format!(
        r#""pubkey":"{}","created_at":1700000000,"kind":1,"tags":[["e","{}","wss://relay.example.com","root"],["p","{}"],["t","weir"]],"content":"{text}""#,
        hexed("ab"),
        hexed("cd"),
        hexed("ef"),
    );
    let sig = hexed("00").repeat(2);
    // The id is the hash of what a first parse with a wrong one tells.
    let with = |id: &str| format!(r#"{{"id":"{id}",{unsigned},"sig":"{sig}"}}"#);
    let id = weir_id(&with(&hexed("00")));
    Event::parse(&mut Parser::default(), with(&id).as_bytes()).expect("the id fits")
}

/// The id of an event, computed with nothing of weir's.
fn weir_id(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let event: serde_json::Value = serde_json::from_str(text).expect("the note is JSON");
    let list =
        serde_json::json!([0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]);
    let hash = Sha256::digest(list.to_string().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn event(criterion: &mut Criterion) {
    let event = note();
    let json = event.view().to_json();
    let message = format!("[\"EVENT\",{json}]");
    let mut parser = Parser::default();
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("parse_and_check_id", |b| {
        b.iter(|| ClientMessage::parse(&mut parser, black_box(message.as_bytes()), ParseOptions::default()));
    });
    group.bench_function("tape_only", |b| b.iter(|| parser.parse(black_box(message.as_bytes()), |_| ())));
    group.bench_function("hash", |b| b.iter(|| black_box(event.view()).hash()));
    let mut out = Vec::with_capacity(2048);
    group.bench_function("render", |b| {
        b.iter(|| {
            out.clear();
            black_box(event.view()).write_json(&mut out);
            out.len()
        });
    });
    group.finish();
}

fn filter(criterion: &mut Criterion) {
    let event = note();
    let authors: Vec<String> = (0..300_u32).map(|n| format!("\"{n:064x}\"")).collect();
    let own = format!("\"{}\"", "ab".repeat(32));
    let list = format!("{},{own}", authors[1..].join(","));
    let cases = [
        ("other_kind", r#"{"kinds":[7]}"#.to_string()),
        ("one_of_300_authors", format!(r#"{{"authors":[{list}],"kinds":[1,6]}}"#)),
        ("none_of_300_authors", format!(r#"{{"authors":[{}],"kinds":[1,6]}}"#, authors.join(","))),
        ("tag", r##"{"#t":["nostr","weir"],"kinds":[1]}"##.to_string()),
    ];
    let mut group = criterion.benchmark_group("filter");
    for (name, text) in cases {
        let filter = Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default());
        let filter = filter.expect("a filter");
        group.bench_function(format!("match/{name}"), |b| b.iter(|| filter.matches(black_box(event.view()))));
    }
    let text = format!(r#"["REQ","feed",{{"authors":[{list}],"kinds":[1,6],"limit":100}}]"#);
    let mut parser = Parser::default();
    group.bench_function("parse/300_authors", |b| {
        b.iter(|| ClientMessage::parse(&mut parser, black_box(text.as_bytes()), ParseOptions::default()));
    });
    group.finish();
}

criterion_group!(benches, event, filter);
criterion_main!(benches);
