//! Checks the signatures of stored events on every core: part of `weir check`.
//!
//! Changes nothing, and holds only a few batches at a time.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::nostr::EventView;
use crate::pipeline::channel::{Receiver, channel};
use crate::pipeline::threads::{StartError, pinned_pool};
use crate::schnorr::{Item, Verifier};
use crate::store::Seq;

/// Signatures that a thread takes at a time.
const BATCH: usize = 256;

/// The most batches that are being checked at a time: enough to keep many cores busy.
const AHEAD: usize = 64;

/// A signature and what it signs, copied out of the store.
struct Signed {
    seq: Seq,
    id: [u8; 32],
    pubkey: [u8; 32],
    signature: [u8; 64],
}

impl Signed {
    fn item(&self) -> Item<'_> {
        Item { id: &self.id, pubkey: &self.pubkey, signature: &self.signature }
    }
}

/// A check under way.
pub struct Signatures {
    pool: ThreadPool,
    verifier: Arc<Verifier>,
    batch: Vec<Signed>,
    answers: Receiver<Vec<Seq>>,
    unanswered: usize,
    wrong: Vec<Seq>,
}

impl Signatures {
    /// Nothing to check yet.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn new(verifier: Verifier) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            pool: pinned_pool(cores, cores)?,
            verifier: Arc::new(verifier),
            batch: Vec::new(),
            // Room for every batch that is being checked, so that no thread of the pool blocks.
            answers: channel(AHEAD).1,
            unanswered: 0,
            wrong: Vec::new(),
        })
    }

    /// Has the signature of an event checked.
    pub fn add(&mut self, seq: Seq, event: EventView<'_>) {
        let (id, pubkey, signature) = (*event.id_bytes(), *event.pubkey_bytes(), *event.signature_bytes());
        self.batch.push(Signed { seq, id, pubkey, signature });
        if self.batch.len() == BATCH {
            self.submit();
        }
    }

    /// The events whose signatures are wrong, in the order of arrival.
    #[must_use]
    pub fn finish(mut self) -> Vec<Seq> {
        self.submit();
        while self.unanswered > 0 {
            self.take_answer();
        }
        self.wrong.sort_unstable();
        self.wrong
    }

    fn submit(&mut self) {
        while self.unanswered >= AHEAD {
            self.take_answer();
        }
        let batch = std::mem::take(&mut self.batch);
        let (verifier, answer) = (Arc::clone(&self.verifier), self.answers.sender());
        self.unanswered += 1;
        self.pool.spawn(move || {
            // The receiver is gone only when nobody needs the answer.
            let _ = answer.send(wrong(&verifier, &batch));
        });
    }

    fn take_answer(&mut self) {
        let wrong = self.answers.recv().expect("a batch that is out is answered unless its check panics");
        self.wrong.extend(wrong);
        self.unanswered -= 1;
    }
}

fn wrong(verifier: &Verifier, batch: &[Signed]) -> Vec<Seq> {
    let items: Vec<Item<'_>> = batch.iter().map(Signed::item).collect();
    let mut verdicts = vec![false; batch.len()];
    verifier.verify(&items, &mut verdicts);
    batch.iter().zip(verdicts).filter(|(_, good)| !good).map(|(one, _)| one.seq).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::{author, event, signed};

    #[test]
    fn exactly_the_wrong_signatures_are_named() {
        let mut signatures = Signatures::new(Verifier::new(crate::schnorr::Options::default())).expect("threads");
        let good: Vec<_> = (0..4).map(|seed| signed(seed, 1, seed, &[], "x")).collect();
        let bad = event(author(1), 1, 1, &[], "x");
        for seq in 1..=1000 {
            let event = if seq % 300 == 0 { &bad } else { &good[seq as usize % good.len()] };
            signatures.add(Seq(seq), event.view());
        }
        assert_eq!(signatures.finish(), [Seq(300), Seq(600), Seq(900)]);
    }
}
