//! The fixed table for the generator G.
//!
//! It must never be built on a machine without AVX-512 IFMA.
//!
//! s·G needs no doublings of its own: it shares the 125 doublings that the author's key needs anyway. For that, the 256
//! bits of s are split into two halves with 2·[`STEPS`] digits in all; the upper half multiplies H = 2^[`HIGH_BIT`]·G.
//!
//! The table is built once per process, at start: 2·2048 rows of 64 bytes, 256 KiB. That takes 1.5 ms, most of it in
//! libsecp256k1, which computes the first rows (`cargo bench --bench verify` prints the time). Built at compile time,
//! it would take the same memory in the binary, and a program to generate it. Wider digits would save additions, 1 % of
//! a verification each, but the table would then fill too much of a second-level cache of 1 MiB.

use std::sync::OnceLock;

use secp256k1::{PublicKey, SecretKey};

use super::field::Fe;
use super::finish::invert_all;
use super::groups::{Fes, Mask, mul, square};
use super::point::{Affine, Jacobian, Signs};
use super::table::{Digit, Row};

/// Digits of s are between -2^(WIDTH - 1) and 2^(WIDTH - 1).
pub(super) const WIDTH: usize = 12;
/// Digits in each half of s.
pub(super) const STEPS: usize = 128_usize.div_ceil(WIDTH);
/// The first bit of the upper half. 2·HIGH_BIT > 256, so the last digit absorbs the last carry.
pub(super) const HIGH_BIT: usize = STEPS * WIDTH;
const ROWS: usize = 1 << (WIDTH - 1);
const RUN: usize = ROWS / 8;

const _: () = assert!(2 * HIGH_BIT > 256);

/// Rows j·G and j·H, j from 1 to 2^(WIDTH - 1).
pub(super) struct Table {
    low: Vec<Row>,
    high: Vec<Row>,
}

impl Table {
    #[inline]
    pub(super) fn select_low<const N: usize>(&self, digit: &Digit<N>) -> [[&Row; 8]; N] {
        select(&self.low, digit)
    }

    #[inline]
    pub(super) fn select_high<const N: usize>(&self, digit: &Digit<N>) -> [[&Row; 8]; N] {
        select(&self.high, digit)
    }
}

#[cfg(test)]
impl Table {
    pub(super) fn rows(&self) -> (&[Row], &[Row]) {
        (&self.low, &self.high)
    }
}

#[inline]
fn select<'a, const N: usize>(rows: &'a [Row], digit: &Digit<N>) -> [[&'a Row; 8]; N] {
    std::array::from_fn(|g| std::array::from_fn(|lane| &rows[digit.row[g].0[lane] as usize]))
}

/// The table of this process; the first call builds it.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table { low: build(0), high: build(HIGH_BIT) })
}

/// Rows of j·B, B = 2^bit·G. Lane l computes j = l·RUN + 1 ..= (l + 1)·RUN. libsecp256k1 gives the first two of each
/// run, because adding B to B itself is the exceptional case; the others follow by adding B.
#[target_feature(enable = "avx512f,avx512ifma")]
fn build(bit: usize) -> Vec<Row> {
    let start = |skip: usize| -> [Row; 8] { std::array::from_fn(|lane| libsecp_row(lane * RUN + 1 + skip, bit)) };
    let load = |rows: &[Row; 8]| Affine::<1>::from_rows(&[rows.each_ref()]);
    let first = start(0);
    let base = load(&[first[0]; 8]);
    let second = load(&start(1));
    let mut points = Vec::with_capacity(RUN - 1);
    let mut point = Jacobian { x: second.x, y: second.y, z: [Fe::one()] };
    points.push(point);
    for _ in 2..RUN {
        point.add(&base, &Signs { negative: Mask::NONE, nonzero: Mask::ALL }, None);
        points.push(point);
    }
    let mut inverses: Vec<Fes<1>> = points.iter().map(|point| point.z).collect();
    invert_all(&mut inverses);
    let mut rows = vec![Row::ZERO; ROWS];
    for lane in 0..8 {
        rows[lane * RUN] = first[lane];
    }
    for (i, (point, inverse)) in points.iter().zip(&inverses).enumerate() {
        let squared = square(inverse);
        let (x, y) = (mul(&point.x, &squared), mul(&point.y, &mul(&squared, inverse)));
        let lanes = Affine { x: [x[0].canonical()], y: [y[0].canonical()] }.to_rows();
        for lane in 0..8 {
            rows[lane * RUN + 1 + i] = lanes[0][lane];
        }
    }
    rows
}

/// Row of multiple·2^bit·G, by libsecp256k1.
fn libsecp_row(multiple: usize, bit: usize) -> Row {
    // The number in big-endian: multiple < 2^16, shifted by whole bytes and then by the remaining bits.
    let mut bytes = [0; 32];
    let shifted = (multiple as u64) << (bit % 8);
    let end = 32 - bit / 8;
    bytes[end - 8..end].copy_from_slice(&shifted.to_be_bytes());
    let secret =
        SecretKey::from_secret_bytes(bytes).expect("a small multiple of a power of two below 2^200 is a valid key");
    let point = PublicKey::from_secret_key(&secret).serialize_uncompressed();
    let half = |at: usize| -> [u8; 32] { point[at..at + 32].try_into().expect("a range of 32 bytes") };
    let (x, y) = (crate::schnorr::scalar::words(&half(1)), crate::schnorr::scalar::words(&half(33)));
    Row { 0: [x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]] }
}
