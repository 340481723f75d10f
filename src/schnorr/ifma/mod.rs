//! Eight BIP-340 verifications at a time, each in its own lanes of AVX-512 IFMA registers.
//!
//! It must never let the verdict on one signature depend on another. There are no random coefficients and no sums over
//! signatures: each lane computes and compares its own R = s·G - e·P. And it must never guess: a lane that the formulas
//! do not cover is `Undecided`. It does not run in constant time, since a verifier has no secrets.
//!
//! For one group of signatures (BIP-340, "Verification"):
//! 1. parse: reject unless r < p and s < n; e by `challenge`; -e = k1 + k2·λ by `scalar::split`;
//! 2. lift: y = √(x³ + 7), made even; reject if there is no root;
//! 3. multiples of P (`table`), 1·P to 16·P;
//! 4. one pass from bit 125 down to 0: double; at every fifth bit add a digit's multiple of P and one of λP = (β·x, y);
//!    at every twelfth, add multiples of G and of 2^132·G (`generator`). That is Strauss' (Shamir's) trick with fixed
//!    signed windows;
//! 5. `finish`: one inversion for up to 128 signatures; accept if x(R) = r and y(R) is even.
//!
//! The multiples of P are on an isomorphic curve (see [`table::Multiples`]), and so is the running sum. A row of G is
//! on the curve itself, so `Jacobian::add` uses the sum's true Z = Z·z for that addition.
//!
//! Sources: BIP-340; SEC 2 for the constants; for the layout of the multiplication "Guide to Elliptic Curve
//! Cryptography" (Hankerson, Menezes, Vanstone) 3.3 and 3.5 and the comments of libsecp256k1; Gueron and Krasnov,
//! "Accelerating Big Integer Arithmetic Using Intel IFMA Extensions" (ARITH 2016), for the idea of the field.

mod bound;
mod field;
#[cfg(test)]
mod field_tests;
mod finish;
mod generator;
mod groups;
mod lanes;
mod lift;
mod limbs;
mod point;
mod power;
mod table;
#[cfg(test)]
mod tests;

use field::Fe;
use finish::{Sums, finish};
use groups::{Fes, Mask, mul, square};
use lanes::Eight;
use lift::{Lifted, lift_all};
use point::{Affine, Jacobian, Signs};
use table::{Multiples, Multiplier};

use super::challenge::challenge;
use super::item::{Item, Verdict};
use super::scalar::{self, Words};

/// Signatures in one group: the 64-bit lanes of a register.
const LANES: usize = 8;
/// Groups that are computed side by side, so that the arithmetic of one hides the latency of the other.
const PAIR: usize = 2;
/// Signatures that share one inversion.
const CHUNK: usize = 128;
/// The first bit of the topmost digit of k1 and k2: |k| < 2^128, and 26 digits of 5 bits hold 130 bits with sign.
const TOP_BIT: usize = 125;
/// β, the cube root of unity modulo p for which λ·(x, y) = (β·x, y).
const BETA: Words = [0xc139_6c28_7195_01ee, 0x9cf0_4975_12f5_8995, 0x6e64_479e_ac34_34e9, 0x7ae9_6a2b_657c_0710];

const _: () = assert!(TOP_BIT + table::WIDTH >= 130 && TOP_BIT.is_multiple_of(table::WIDTH));
const _: () = assert!(generator::HIGH_BIT - generator::WIDTH <= TOP_BIT);

/// Whether the CPU and the operating system support this engine: Intel Ice Lake, AMD Zen 4 and their successors.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512ifma")
}

/// Builds the table for G, which the first verification would do otherwise.
pub(super) fn prepare() {
    assert!(available(), "the AVX-512 IFMA engine needs a CPU that has it");
    // SAFETY: the features were just detected.
    unsafe { generator::table() };
}

/// Writes a verdict for each item.
pub(super) fn verify(items: &[Item<'_>], verdicts: &mut [Verdict]) {
    assert_eq!(items.len(), verdicts.len(), "one verdict for each item");
    assert!(available(), "the AVX-512 IFMA engine needs a CPU that has it");
    // SAFETY: the features were just detected (the standard library caches the answer).
    unsafe { verify_all(items, verdicts) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn verify_all(items: &[Item<'_>], verdicts: &mut [Verdict]) {
    // If the last pair would have an empty group, the other one runs alone.
    let rest = items.len() % (PAIR * LANES);
    let paired = if rest > LANES { items.len() } else { items.len() - rest };
    let (pairs, single) = items.split_at(paired);
    let (pair_verdicts, single_verdicts) = verdicts.split_at_mut(paired);
    for (items, verdicts) in pairs.chunks(CHUNK).zip(pair_verdicts.chunks_mut(CHUNK)) {
        verify_chunk::<PAIR>(items, verdicts);
    }
    verify_chunk::<1>(single, single_verdicts);
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn verify_chunk<const N: usize>(items: &[Item<'_>], verdicts: &mut [Verdict]) {
    let signatures: Vec<Signatures<N>> = items.chunks(LANES * N).map(Signatures::parse).collect();
    let x: Vec<Fe> = signatures.iter().flat_map(|group| load(&group.x)).collect();
    let lifted = lift_all(&x);
    let (keys, _) = lifted.as_chunks::<N>();
    let sums: Vec<Sums<N>> = signatures.iter().zip(keys).map(|(group, keys)| group.sum(keys)).collect();
    finish(&sums, verdicts);
}

/// The parts of 8·N signatures, ready to be loaded into lanes.
struct Signatures<const N: usize> {
    /// The key, an x coordinate.
    x: [[Eight; 4]; N],
    r: [[Eight; 4]; N],
    s: Multiplier<N, 4>,
    /// -e = plain + lambda·λ.
    plain: Multiplier<N, 3>,
    lambda: Multiplier<N, 3>,
    rejected: Mask<N>,
    undecided: Mask<N>,
}

impl<const N: usize> Signatures<N> {
    /// Lanes without an item are zero.
    fn parse(items: &[Item<'_>]) -> Self {
        let zero = [[Eight::ZERO; 4]; N];
        let mut out = Self {
            x: zero,
            r: zero,
            s: Multiplier::ZERO,
            plain: Multiplier::ZERO,
            lambda: Multiplier::ZERO,
            rejected: Mask::NONE,
            undecided: Mask::NONE,
        };
        for (at, item) in items.iter().enumerate() {
            out.parse_lane(at / LANES, at % LANES, item);
        }
        out
    }

    fn parse_lane(&mut self, g: usize, lane: usize, item: &Item<'_>) {
        let (r, s) = item.signature.split_at(32);
        let half = |bytes: &[u8]| scalar::words(bytes.try_into().expect("half of 64 bytes"));
        let (x, r, s) = (scalar::words(item.pubkey), half(r), half(s));
        let e = challenge(item);
        let split = scalar::split(&scalar::negated(&e));
        put(&mut self.x[g], lane, &x);
        put(&mut self.r[g], lane, &r);
        put(&mut self.s.0[g], lane, &s);
        put::<3>(&mut self.plain.0[g], lane, &split.plain);
        put::<3>(&mut self.lambda.0[g], lane, &split.lambda);
        let valid = scalar::less(&x, &scalar::P) && scalar::less(&r, &scalar::P) && scalar::less(&s, &scalar::N);
        self.rejected.0[g] |= u8::from(!valid) << lane;
        // These do not occur by chance. The formulas handle either, but not both, and libsecp256k1 decides both just as
        // well.
        self.undecided.0[g] |= u8::from(e == [0; 4] || s == [0; 4]) << lane;
    }

    /// s·G - e·P, given the y of each key.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn sum(&self, keys: &[Lifted; N]) -> Sums<N> {
        let multiples = Multiples::new(&Affine { x: load(&self.x), y: keys.map(|key| key.y) });
        let mut sum = Sum { point: Jacobian::none(), empty: Mask::ALL, z: multiples.z };
        let table = generator::table();
        let beta = [Fe::from_words(BETA.map(|word| Eight([word; 8]).load())); N];
        for bit in (0..=TOP_BIT).rev() {
            if bit != TOP_BIT {
                sum.point.double();
            }
            // Load all rows of a step before adding the first: the loads need not wait for the sum.
            if bit.is_multiple_of(table::WIDTH) {
                let plain = self.plain.digit(bit, table::WIDTH);
                let lambda = self.lambda.digit(bit, table::WIDTH);
                let plain_row = Affine::from_rows(&multiples.select(&plain));
                let mut lambda_row = Affine::from_rows(&multiples.select(&lambda));
                lambda_row.x = mul(&lambda_row.x, &beta);
                sum.add_multiple(&plain_row, &plain.signs);
                sum.add_multiple(&lambda_row, &lambda.signs);
            }
            if bit.is_multiple_of(generator::WIDTH) && bit < generator::HIGH_BIT {
                let low = self.s.digit(bit, generator::WIDTH);
                let high = self.s.digit(generator::HIGH_BIT + bit, generator::WIDTH);
                let low_row = Affine::from_rows(&table.select_low(&low));
                let high_row = Affine::from_rows(&table.select_high(&high));
                sum.add_generator(&low_row, &low.signs);
                sum.add_generator(&high_row, &high.signs);
            }
        }
        let Jacobian { x, y, z } = sum.point;
        Sums {
            point: Jacobian { x, y, z: mul(&z, &sum.z) },
            r: load(&self.r),
            rejected: self.rejected.or(Mask(keys.map(|key| !key.exists))),
            undecided: self.undecided.or(sum.empty),
        }
    }
}

/// A running sum on the isomorphic curve.
struct Sum<const N: usize> {
    point: Jacobian<N>,
    /// Lanes that nothing has been added to.
    empty: Mask<N>,
    /// (X, Y, Z) here is (X, Y, Z·z) on the curve itself.
    z: Fes<N>,
}

impl<const N: usize> Sum<N> {
    /// Adds an affine point of the isomorphic curve.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn add_multiple(&mut self, row: &Affine<N>, signs: &Signs<N>) {
        self.point.add(row, signs, None);
        if self.begins_with(signs) {
            self.begin(row, signs);
        }
    }

    /// Adds an affine point of the curve itself.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn add_generator(&mut self, row: &Affine<N>, signs: &Signs<N>) {
        self.point.add(row, signs, Some(&self.z));
        if self.begins_with(signs) {
            let squared = square(&self.z);
            let cubed = mul(&squared, &self.z);
            self.begin(&Affine { x: mul(&row.x, &squared), y: mul(&row.y, &cubed) }, signs);
        }
    }

    /// Whether this is the first nonzero digit of some lane. The addition gave it Z = 0.
    #[inline]
    fn begins_with(&self, signs: &Signs<N>) -> bool {
        self.empty.and(signs.nonzero) != Mask::NONE
    }

    /// Puts the row, or its negative, into those lanes.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn begin(&mut self, row: &Affine<N>, signs: &Signs<N>) {
        let first = self.empty.and(signs.nonzero);
        let negative = signs.negative.0;
        let y = std::array::from_fn(|g| row.y[g].select(&row.y[g].negated().carry(), negative[g]));
        self.point = self.point.select(&Jacobian { x: row.x, y, z: [Fe::one(); N] }, first);
        self.empty = self.empty.and(first.not());
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn load<const N: usize>(words: &[[Eight; 4]; N]) -> Fes<N> {
    words.map(|words| Fe::from_words(words.map(|word| word.load())))
}

/// Writes the words of one lane.
fn put<const WORDS: usize>(to: &mut [Eight; WORDS], lane: usize, words: &[u64; WORDS]) {
    for (eight, word) in to.iter_mut().zip(words) {
        eight.0[lane] = *word;
    }
}
