//! Watches the fast engine: libsecp256k1 checks a sample of its verdicts, and one difference ends its use.
//!
//! It must never pass on a verdict of a batch in which a difference was found.

use std::fmt::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::item::{Item, Verdict};
use super::libsecp;

/// A fast engine: writes a verdict for each item. Both slices have the same length.
pub(super) type FastEngine = fn(&[Item<'_>], &mut [Verdict]);

/// Items per call of the engine.
const BLOCK: usize = 128;
/// How much more often rejected signatures are checked than accepted ones.
const REJECTED_FACTOR: u32 = 8;

/// A fast engine that is watched.
pub(super) struct Watched {
    engine: FastEngine,
    trusted: AtomicBool,
    accepted: Sample,
    rejected: Sample,
    pub(super) counts: Counts,
}

/// What has happened so far.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) mismatches: AtomicU64,
    pub(super) rechecked: AtomicU64,
    pub(super) undecided: AtomicU64,
}

/// Takes one in every `one_in`.
struct Sample {
    one_in: u64,
    seen: AtomicU64,
}

impl Sample {
    fn new(one_in: u32) -> Self {
        Self { one_in: u64::from(one_in), seen: AtomicU64::new(0) }
    }

    fn takes_next(&self) -> bool {
        self.one_in != 0 && self.seen.fetch_add(1, Relaxed).is_multiple_of(self.one_in)
    }
}

impl Watched {
    pub(super) fn new(engine: FastEngine, recheck_one_in: u32) -> Self {
        let rejected_one_in = if recheck_one_in == 0 { 0 } else { recheck_one_in.div_ceil(REJECTED_FACTOR) };
        Self {
            engine,
            trusted: AtomicBool::new(true),
            accepted: Sample::new(recheck_one_in),
            rejected: Sample::new(rejected_one_in),
            counts: Counts::default(),
        }
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.trusted.load(Acquire)
    }

    /// Writes all verdicts, or returns false: then none of them is valid, and libsecp256k1 must give them all.
    pub(super) fn verify(&self, items: &[Item<'_>], verdicts: &mut [bool]) -> bool {
        if !self.is_trusted() {
            return false;
        }
        for (items, verdicts) in items.chunks(BLOCK).zip(verdicts.chunks_mut(BLOCK)) {
            let mut block = [Verdict::Undecided; BLOCK];
            let block = &mut block[..items.len()];
            (self.engine)(items, block);
            for ((item, verdict), out) in items.iter().zip(&*block).zip(verdicts) {
                let Some(good) = self.decide(item, *verdict) else { return false };
                *out = good;
            }
        }
        // Another thread may have found a difference meanwhile.
        self.is_trusted()
    }

    /// None if libsecp256k1 contradicts the verdict.
    fn decide(&self, item: &Item<'_>, verdict: Verdict) -> Option<bool> {
        let (good, sample) = match verdict {
            Verdict::Accept => (true, &self.accepted),
            Verdict::Reject => (false, &self.rejected),
            Verdict::Undecided => {
                self.counts.undecided.fetch_add(1, Relaxed);
                return Some(libsecp::verify(item));
            }
        };
        if sample.takes_next() {
            self.counts.rechecked.fetch_add(1, Relaxed);
            if libsecp::verify(item) != good {
                self.distrust(item, good);
                return None;
            }
        }
        Some(good)
    }

    fn distrust(&self, item: &Item<'_>, said: bool) {
        self.trusted.store(false, Release);
        self.counts.mismatches.fetch_add(1, Relaxed);
        tracing::error!(
            id = %Hex(item.id),
            pubkey = %Hex(item.pubkey),
            sig = %Hex(item.signature),
            fast = said,
            libsecp256k1 = !said,
            "the engines disagree on a signature; from now on only libsecp256k1 verifies. Please report this line."
        );
    }
}

/// Lower-case hex.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            for digit in [byte >> 4, byte & 15] {
                f.write_char(char::from_digit(u32::from(digit), 16).expect("four bits are a hex digit"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, Options, Verifier};
    use super::*;

    const COUNT: usize = 130;

    /// An engine that accepts everything.
    fn gullible(_: &[Item<'_>], verdicts: &mut [Verdict]) {
        verdicts.fill(Verdict::Accept);
    }

    /// An engine that rejects everything.
    fn grumpy(_: &[Item<'_>], verdicts: &mut [Verdict]) {
        verdicts.fill(Verdict::Reject);
    }

    /// An engine that decides nothing.
    fn helpless(_: &[Item<'_>], verdicts: &mut [Verdict]) {
        verdicts.fill(Verdict::Undecided);
    }

    /// The verdicts of a verifier with this engine on signatures that are good, except the one at `bad`.
    fn verdicts(verifier: &Verifier, bad: Option<usize>) -> Vec<bool> {
        let keypair = secp256k1::Keypair::from_secret_bytes([9; 32]).expect("a valid key");
        let pubkey = keypair.x_only_public_key().0.to_byte_array();
        let (id, wrong) = ([3; 32], [5; 64]);
        let signature = secp256k1::schnorr::sign_no_aux_rand(&id, &keypair).to_byte_array();
        let items: Vec<Item<'_>> = (0..COUNT)
            .map(|i| Item { id: &id, pubkey: &pubkey, signature: if Some(i) == bad { &wrong } else { &signature } })
            .collect();
        let mut verdicts = vec![false; COUNT];
        verifier.verify(&items, &mut verdicts);
        verdicts
    }

    fn verifier(engine: FastEngine, recheck_one_in: u32) -> Verifier {
        Verifier::with_engine(Options { recheck_one_in, ..Options::default() }, Some(engine))
    }

    fn expected(bad: Option<usize>) -> Vec<bool> {
        (0..COUNT).map(|i| Some(i) != bad).collect()
    }

    #[test]
    fn one_wrong_acceptance_in_the_sample_ends_the_engine_and_the_whole_batch_is_verified_again() {
        let verifier = verifier(gullible, 1);
        assert_eq!(verdicts(&verifier, Some(100)), expected(Some(100)));
        assert_eq!((verifier.engine(), verifier.mismatches(), verifier.rechecked()), (Engine::Libsecp256k1, 1, 101));
        // The engine stays off.
        assert_eq!(verdicts(&verifier, Some(7)), expected(Some(7)));
        assert_eq!((verifier.mismatches(), verifier.rechecked()), (1, 101));
    }

    #[test]
    fn one_wrong_rejection_in_the_sample_ends_the_engine_and_the_whole_batch_is_verified_again() {
        let verifier = verifier(grumpy, 512);
        assert_eq!(verdicts(&verifier, None), expected(None));
        assert_eq!((verifier.engine(), verifier.mismatches(), verifier.rechecked()), (Engine::Libsecp256k1, 1, 1));
    }

    #[test]
    fn the_sample_is_one_in_as_many_as_configured() {
        let verifier = verifier(gullible, 50);
        for batch in 1..=5 {
            assert_eq!(verdicts(&verifier, None), expected(None));
            assert_eq!(verifier.rechecked(), (batch * COUNT as u64).div_ceil(50));
        }
        assert_eq!((verifier.engine(), verifier.mismatches()), (Engine::Avx512Ifma, 0));
    }

    #[test]
    fn without_a_sample_nothing_is_checked_again() {
        let verifier = verifier(gullible, 0);
        assert_eq!(verdicts(&verifier, Some(1)), vec![true; COUNT]);
        assert_eq!((verifier.rechecked(), verifier.mismatches()), (0, 0));
    }

    #[test]
    fn libsecp_decides_what_the_engine_leaves_open() {
        let verifier = verifier(helpless, 1);
        assert_eq!(verdicts(&verifier, Some(64)), expected(Some(64)));
        assert_eq!((verifier.undecided(), verifier.rechecked(), verifier.mismatches()), (COUNT as u64, 0, 0));
    }

    #[test]
    fn bytes_are_logged_in_lower_case_hex() {
        assert_eq!(Hex(&[0x00, 0x1f, 0xa0, 0xff]).to_string(), "001fa0ff");
    }
}
