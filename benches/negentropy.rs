//! What does a round of NIP-77 cost a relay that holds a million records in the session?
//!
//! Expected:
//!
//! - `first_round`: the client's first message has 16 fingerprints. With 10 differences about 8 of them differ
//!   and are split in 16: 16 + 128 fingerprints of two totals each, some 16 additions a total and one SHA-256
//!   block: 0.1 µs each, so 15 to 20 µs. The reference adds up all records twice: milliseconds.
//! - `everything_differs`: 20 bytes that make the relay split all records once: 17 fingerprints, 1.5 to 2 µs.
//! - `an_empty_list`: 5 bytes that ask for the ids of all records: a frame of 500 kB is filled, 20 to 50 µs.
//! - `build`: records in the order of a scan, newest first: 40 MB reversed and added up, 5 to 20 ms.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use sha2::{Digest, Sha256};
use weir::negentropy::{Initiator, Records, RecordsBuilder, Session};
use weir::nostr::{EventId, Timestamp};

const COUNT: u64 = 1_000_000;
const FRAME_BYTES: usize = 500_000;

fn key(number: u64) -> (u64, [u8; 32]) {
    (1_700_000_000 + number * 3, Sha256::digest(number.to_le_bytes()).into())
}

/// Newest first, as a scan finds them.
fn builder(keys: impl DoubleEndedIterator<Item = u64>) -> RecordsBuilder {
    let mut builder = RecordsBuilder::new(usize::MAX);
    for (created_at, id) in keys.rev().map(key) {
        builder.push(Timestamp(created_at), EventId(id)).expect("no cap");
    }
    builder
}

fn records(keys: impl DoubleEndedIterator<Item = u64>) -> Arc<Records> {
    Arc::new(builder(keys).finish())
}

fn rounds(c: &mut Criterion) {
    let first = Initiator::new(records((0..COUNT).filter(|n| n % 100_000 != 7)), FRAME_BYTES).open();
    let all = records(0..COUNT);
    println!("a session of {COUNT} records holds {} bytes", all.memory_bytes());
    let session = Session::new(all, FRAME_BYTES);
    let mut fingerprint = vec![0x61, 0, 0, 1];
    fingerprint.extend([0; 16]);
    let messages =
        [("first_round", first), ("everything_differs", fingerprint), ("an_empty_list", vec![0x61, 0, 0, 2, 0])];

    let mut storage = NegentropyStorageVector::with_capacity(COUNT as usize);
    for (created_at, id) in (0..COUNT).map(key) {
        storage.insert(created_at, Id::from_byte_array(id)).expect("not sealed");
    }
    storage.seal().expect("not sealed");
    let mut reference = Negentropy::borrowed(&storage, FRAME_BYTES as u64).expect("not too small");
    for (name, message) in &messages {
        c.bench_function(name, |b| b.iter(|| session.reply(black_box(message)).expect("a good message")));
        c.bench_function(&format!("{name}/reference"), |b| {
            b.iter(|| reference.reconcile(black_box(message)).expect("a good message"));
        });
    }
    c.bench_function("build", |b| {
        b.iter_batched(|| builder(0..COUNT), RecordsBuilder::finish, BatchSize::PerIteration)
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = rounds
}
criterion_main!(benches);
