//! What does a signature cost on one core, by engine and batch size?
//!
//! Expected on an AMD EPYC with AVX-512 IFMA (Zen 5, 4.4 GHz), CPU time for each signature:
//!
//! | engine | batch | µs | times libsecp256k1 |
//! |---|---|---|---|
//! | libsecp256k1 | any | 24.6; 22.0 if the key's point is cached | 1 |
//! | avx512ifma | 2 | 15, because eight lanes cost 30 whatever is in them | 1.6 |
//! | avx512ifma | 8 | 3.8, one group, bound by the latency of its multiplications | 6.5 |
//! | avx512ifma | 16 | 3.2, two groups side by side | 7.7 |
//! | avx512ifma | ≥ 64 | 2.7, since groups also share roots and the inversion | 9.1 |
//!
//! Why: for each signature there are 125 doublings (3 multiplications, 4 squarings) and 74 additions (8 and 3) of about
//! 1.4 ns a multiplication, an eighth of a vector multiplication; these are two thirds of the time. If batch 8 is less
//! than 4.5 times as fast as libsecp256k1, something is broken.
//!
//! Time is the CPU time of the thread, so that other load on the machine does not count.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secp256k1::{Keypair, schnorr};
use support::thread_time;
use weir::schnorr::{EngineChoice, Item, Options, Verifier};

mod support;

/// What a batch needs of one signed event.
struct Signed {
    id: [u8; 32],
    pubkey: [u8; 32],
    signature: [u8; 64],
}

impl Signed {
    /// The `number`th event of a fixed sequence, each by a different author.
    fn new(number: u32) -> Self {
        let mut secret = [0x11; 32];
        secret[28..].copy_from_slice(&number.to_be_bytes());
        let keypair = Keypair::from_secret_bytes(secret).expect("a small number is a valid key");
        let mut id = [0xa5; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        Self {
            id,
            pubkey: keypair.x_only_public_key().0.to_byte_array(),
            signature: schnorr::sign_no_aux_rand(&id, &keypair).to_byte_array(),
        }
    }

    fn item(&self) -> Item<'_> {
        Item { id: &self.id, pubkey: &self.pubkey, signature: &self.signature }
    }
}

fn verify(c: &mut Criterion) {
    let signed: Vec<Signed> = (1..=1024).map(Signed::new).collect();
    let items: Vec<Item<'_>> = signed.iter().map(Signed::item).collect();
    let uncached = Options { key_cache: 0, recheck_one_in: 0, ..Options::default() };
    let start = thread_time();
    drop(Verifier::new(Options::default()));
    println!("tables built in {:?}", thread_time() - start);
    let cases = [
        ("libsecp256k1", Options { engine: EngineChoice::Libsecp256k1, ..uncached }, &[1][..]),
        ("libsecp256k1, key cached", Options { engine: EngineChoice::Libsecp256k1, ..Options::default() }, &[1]),
        ("fastest", uncached, &[2, 4, 8, 16, 24, 64, 256, 1024]),
        ("fastest, sampled", Options::default(), &[64]),
    ];
    for (name, options, batches) in cases {
        let verifier = Verifier::new(options);
        let mut group = c.benchmark_group(format!("{name} ({})", verifier.engine()));
        for &batch in batches {
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::from_parameter(batch), |b| {
                let mut at = 0;
                let mut verdicts = vec![false; batch];
                b.iter_custom(|iterations| {
                    let start = thread_time();
                    for _ in 0..iterations {
                        at = if at + batch > items.len() { 0 } else { at };
                        verifier.verify(black_box(&items[at..at + batch]), &mut verdicts);
                        assert!(verdicts.iter().all(|good| *good), "a good signature was rejected");
                        at += batch;
                    }
                    thread_time() - start
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = verify
}
criterion_main!(benches);
