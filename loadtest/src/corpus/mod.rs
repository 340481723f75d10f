//! The corpus: seeded, really signed events in the shapes of public relays, one JSON object per line.
//!
//! It must never hold more than a bounded window of events in memory: a corpus may have millions.

pub mod authors;
pub mod draft;
pub mod event;
pub mod library;
pub mod plan;
pub mod pool;
pub mod shapes;
pub mod words;

use std::sync::mpsc;

use anyhow::Result;

use authors::Authors;
use draft::Draft;
pub use plan::Options;
use plan::Planner;

/// Drafts per batch handed to a signing thread.
const BATCH: usize = 256;
/// Batches waiting at each end of a signing thread: the memory bound, about 1.2 MB a thread.
const WAITING: usize = 2;

/// Generates the corpus and hands each signed event, a JSON object without line break, to `sink` in order.
///
/// # Errors
/// What `sink` returns.
pub fn generate(options: &Options, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let authors = Authors::derive(options.seed, options.authors);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (mut drafts, mut signed) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (drafts_tx, drafts_rx) = mpsc::sync_channel::<Vec<Draft>>(WAITING);
            let (signed_tx, signed_rx) = mpsc::sync_channel::<Vec<Vec<u8>>>(WAITING);
            drafts.push(drafts_tx);
            signed.push(signed_rx);
            let authors = &authors;
            scope.spawn(move || sign(authors, &drafts_rx, &signed_tx));
        }
        let authors = &authors;
        scope.spawn(move || plan(options, authors, &drafts));
        // Batch n went to thread n mod threads, so taking them round robin restores the order.
        for turn in 0.. {
            let Ok(batch) = signed[turn % threads].recv() else {
                break;
            };
            for line in &batch {
                sink(line)?;
            }
        }
        Ok(())
    })
}

fn plan(options: &Options, authors: &Authors, drafts: &[mpsc::SyncSender<Vec<Draft>>]) {
    let mut planner = Planner::new(options, authors);
    let mut left = options.events;
    for turn in 0.. {
        let size = left.min(BATCH as u64);
        let batch: Vec<Draft> = (0..size).map(|_| planner.plan_next()).collect();
        left -= size;
        // A closed channel means that the sink failed and nobody listens any more.
        if size == 0 || drafts[turn % drafts.len()].send(batch).is_err() {
            return;
        }
    }
}

fn sign(authors: &Authors, drafts: &mpsc::Receiver<Vec<Draft>>, signed: &mpsc::SyncSender<Vec<Vec<u8>>>) {
    for batch in drafts {
        let lines = batch.into_iter().map(|draft| {
            let signature = authors.sign(draft.signer, &draft.id);
            let mut line = draft.json;
            line.extend_from_slice(faster_hex::hex_string(&signature).as_bytes());
            line.extend_from_slice(b"\"}");
            line
        });
        if signed.send(lines.collect()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plan::Mix;
    use super::*;
    use sha2::{Digest, Sha256};

    fn options(seed: u64) -> Options {
        Options {
            seed,
            events: 600,
            authors: 60,
            until: 1_760_000_000,
            span_s: 86_400,
            mix: Mix::Social,
            content_bytes: 0,
        }
    }

    fn lines(options: &Options) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        generate(options, |line| {
            lines.push(line.to_vec());
            Ok(())
        })
        .expect("the sink does not fail");
        lines
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
        assert_eq!(lines(&options(1)), lines(&options(1)));
        assert_ne!(lines(&options(1)), lines(&options(2)));
    }

    #[test]
    fn every_event_has_the_id_and_signature_that_nip_01_asks_for() {
        for line in lines(&options(5)) {
            let event: serde_json::Value = serde_json::from_slice(&line).expect("a JSON object");
            let serialization = serde_json::json!([
                0,
                event["pubkey"],
                event["created_at"],
                event["kind"],
                event["tags"],
                event["content"]
            ]);
            let id: [u8; 32] = Sha256::digest(serialization.to_string().as_bytes()).into();
            assert_eq!(event["id"], faster_hex::hex_string(&id));
            let mut pubkey = [0u8; 32];
            let mut signature = [0u8; 64];
            faster_hex::hex_decode(event["pubkey"].as_str().expect("text").as_bytes(), &mut pubkey).expect("hex");
            faster_hex::hex_decode(event["sig"].as_str().expect("text").as_bytes(), &mut signature).expect("hex");
            let key = secp256k1::XOnlyPublicKey::from_byte_array(pubkey).expect("a curve point");
            let signature = secp256k1::schnorr::Signature::from_byte_array(signature);
            secp256k1::schnorr::verify(&signature, &id, &key).expect("the signature holds");
        }
    }

    #[test]
    fn the_bytes_of_a_seed_are_the_same_in_every_version() {
        let mut hasher = Sha256::new();
        for line in lines(&Options { authors: 60, ..Options::social(5, 600) }) {
            hasher.update(&line);
            hasher.update(b"\n");
        }
        let digest: [u8; 32] = hasher.finalize().into();
        assert_eq!(faster_hex::hex_string(&digest), "0dc407b6931d13658250f39cece6d2b4c5f7c1686e14c7a7b16e6849038174cf");
    }

    #[test]
    fn a_failing_sink_ends_the_generation() {
        let mut taken = 0;
        let result = generate(&Options { events: 5000, ..options(1) }, |_| {
            taken += 1;
            anyhow::ensure!(taken < 300, "disk full");
            Ok(())
        });
        assert_eq!(result.expect_err("the sink failed").to_string(), "disk full");
    }
}
