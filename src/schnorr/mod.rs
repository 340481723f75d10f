//! BIP-340 signatures of Nostr events: batches in, one verdict each out.
//!
//! It must never accept what BIP-340 rejects, nor reject what it accepts; and it must never start a thread, read a
//! clock or a configuration, or let one item's verdict depend on another item. It makes no attempt at constant time:
//! everything here is public.
//!
//! Two engines give the verdicts:
//! - `libsecp256k1`, on every machine and for single items: the reference;
//! - `avx512ifma`, where the CPU has AVX-512 IFMA: eight signatures in the lanes of one register, each judged on its
//!   own (see `ifma`).
//!
//! A fast engine of our own is watched: what it cannot decide libsecp256k1 decides; a sample of what it decided is
//! checked again by libsecp256k1, and one difference ends its use for the life of the [`Verifier`].

mod challenge;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod item;
mod libsecp;
#[cfg(test)]
mod reference;
mod safety;
mod scalar;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

pub use item::Item;
use libsecp::Libsecp;
use safety::{Fast, Watched};
use serde::{Deserialize, Serialize};

/// Which engine the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The fastest that this CPU runs.
    #[default]
    Auto,
    /// libsecp256k1, whatever the CPU.
    Libsecp256k1,
}

/// The engine at work.
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
    /// One in how many signatures that the fast engine accepted is checked again by libsecp256k1; 0 for none. Of
    /// rejected ones, which are rarer and of which a wrong one loses an event, eight times as many are checked.
    pub recheck_one_in: u32,
    /// For how many authors libsecp256k1 remembers the point of the key, about 160 bytes each; 0 for none. The fast
    /// engine has no use for it, because a square root costs it 0.2 µs a key.
    pub key_cache: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { engine: EngineChoice::Auto, recheck_one_in: 512, key_cache: 16_384 }
    }
}

/// Verifies signatures. One is made at start and shared by all threads.
pub struct Verifier {
    libsecp: Libsecp,
    fast: Option<Watched>,
}

impl Verifier {
    /// Chooses the engine and builds its table: 256 KiB and 1.5 ms, once per process.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let fast = match options.engine {
            EngineChoice::Auto => fastest(),
            EngineChoice::Libsecp256k1 => None,
        };
        Self::with_engine(options, fast)
    }

    fn with_engine(options: Options, fast: Option<Fast>) -> Self {
        Self {
            libsecp: Libsecp::new(options.key_cache),
            fast: fast.map(|engine| Watched::new(engine, options.recheck_one_in)),
        }
    }

    /// The verdict on one signature, by libsecp256k1: eight lanes for one item would cost more.
    #[must_use]
    pub fn verify_one(&self, item: Item<'_>) -> bool {
        self.libsecp.verify(&item)
    }

    /// Writes one verdict for each item: true if the signature is good.
    ///
    /// The fast engine takes groups of eight, and two groups cost less than twice one: give it all that waits, best in
    /// multiples of 128, which share one inversion.
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

    /// The engine that answers [`Self::verify`] now; it changes to libsecp256k1 after a mismatch.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match &self.fast {
            Some(fast) if fast.is_trusted() => Engine::Avx512Ifma,
            _ => Engine::Libsecp256k1,
        }
    }

    /// How many verdicts of the fast engine libsecp256k1 contradicted. Anything but 0 is a bug to be reported.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.mismatches.load(Relaxed))
    }

    /// How many verdicts of the fast engine were checked again.
    #[must_use]
    pub fn rechecked(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.rechecked.load(Relaxed))
    }

    /// How many signatures the fast engine left to libsecp256k1. Only crafted signatures get there.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.fast.as_ref().map_or(0, |fast| fast.counts.undecided.load(Relaxed))
    }
}

#[cfg(target_arch = "x86_64")]
fn fastest() -> Option<Fast> {
    ifma::available().then(|| {
        ifma::prepare();
        ifma::verify as Fast
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn fastest() -> Option<Fast> {
    None
}
