//! BIP-340 signatures of Nostr events: a batch goes in, a verdict for each signature comes out.
//!
//! It must never accept what BIP-340 rejects, nor reject what BIP-340 accepts. It must never start a thread, read a
//! clock or a configuration, or let the verdict on one item depend on another item. Verifying does not run in constant
//! time, since everything there is public; the only secrets are those of [`SigningKey`].
//!
//! Two engines give the verdicts:
//! - `libsecp256k1`, on every machine and for single items: the reference;
//! - `avx512ifma`, on CPUs with AVX-512 IFMA: eight signatures in the lanes of one register, each verified on its own
//!   (see `ifma`).
//!
//! The fast engine is our own, so it is watched. libsecp256k1 decides what it cannot decide, and checks a sample of its
//! verdicts. A single difference ends its use for the life of the [`Verifier`].

mod challenge;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod item;
mod libsecp;
#[cfg(test)]
pub(crate) mod reference;
mod scalar;
mod signing;
mod watch;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

pub use item::Item;
use libsecp::Libsecp;
use serde::{Deserialize, Serialize};
pub use signing::SigningKey;
use watch::{FastEngine, Watched};

/// Which engine the operator chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The fastest that this CPU supports.
    #[default]
    Auto,
    /// libsecp256k1, whatever the CPU.
    Libsecp256k1,
}

/// The engine in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Eight signatures at a time in AVX-512 IFMA registers.
    Avx512Ifma,
    /// libsecp256k1, one at a time.
    Libsecp256k1,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512Ifma => "avx512ifma",
            Self::Libsecp256k1 => "libsecp256k1",
        })
    }
}

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which engine to use.
    pub engine: EngineChoice,
    /// libsecp256k1 checks one in this many signatures that the fast engine accepted; 0 for none. Of rejected ones it
    /// checks eight times as many: they are rarer, and a wrong rejection loses an event.
    pub recheck_one_in: u32,
    /// For how many authors to cache the decoded key for libsecp256k1, about 160 bytes each; 0 for none. The fast
    /// engine does not use the cache, because a square root costs it only 0.2 µs a key.
    pub key_cache: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { engine: EngineChoice::Auto, recheck_one_in: 512, key_cache: 16_384 }
    }
}

/// Verifies signatures. The relay makes one at start, and all threads share it.
pub struct Verifier {
    libsecp: Libsecp,
    fast: Option<Watched>,
}

impl Verifier {
    /// Chooses the engine and builds its table, which takes 256 KiB and 1.5 ms once per process.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let fast = match options.engine {
            EngineChoice::Auto => fastest(),
            EngineChoice::Libsecp256k1 => None,
        };
        Self::with_engine(options, fast)
    }

    fn with_engine(options: Options, fast: Option<FastEngine>) -> Self {
        Self {
            libsecp: Libsecp::new(options.key_cache),
            fast: fast.map(|engine| Watched::new(engine, options.recheck_one_in)),
        }
    }

    /// Verifies one signature with libsecp256k1: eight lanes for a single item would cost more.
    #[must_use]
    pub fn verify_one(&self, item: Item<'_>) -> bool {
        self.libsecp.verify(&item)
    }

    /// Writes a verdict for each item: true if the signature is good.
    ///
    /// The fast engine works in groups of eight, and two groups cost less than twice one group. So pass everything that
    /// waits, ideally in multiples of 128, which share an inversion.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn verify(&self, items: &[Item<'_>], verdicts: &mut [bool]) {
        assert_eq!(items.len(), verdicts.len(), "one verdict for each item");
        let done = match &self.fast {
            Some(fast) if items.len() > 1 => fast.verify(items, verdicts),
            _ => false,
        };
        if !done {
            for (item, verdict) in items.iter().zip(verdicts) {
                *verdict = self.libsecp.verify(item);
            }
        }
    }

    /// The engine that [`Self::verify`] uses now: libsecp256k1 after a mismatch.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match &self.fast {
            Some(fast) if fast.is_trusted() => Engine::Avx512Ifma,
            _ => Engine::Libsecp256k1,
        }
    }

    /// How many verdicts of the fast engine libsecp256k1 contradicted. Anything but 0 is a bug; please report it.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.mismatches.load(Relaxed))
    }

    /// How many verdicts of the fast engine libsecp256k1 has checked.
    #[must_use]
    pub fn rechecked(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.rechecked.load(Relaxed))
    }

    /// How many signatures the fast engine left undecided. Only crafted signatures do that.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.undecided.load(Relaxed))
    }
}

#[cfg(target_arch = "x86_64")]
fn fastest() -> Option<FastEngine> {
    ifma::available().then(|| {
        ifma::prepare();
        ifma::verify as FastEngine
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn fastest() -> Option<FastEngine> {
    None
}
