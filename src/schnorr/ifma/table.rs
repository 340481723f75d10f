//! Tables of multiples, and the digits that select from them.
//!
//! It must never branch on the digit of a lane: a digit of zero selects some row, and the caller discards the sum.
//!
//! A row is one affine point in one cache line. The eight lanes of a group select different rows, so eight rows are
//! loaded and transposed. That takes 8 loads and 24 shuffles; ten gathers, one per limb, would take several times as
//! long.

use std::arch::x86_64::{
    _mm_cvtsi64_si128, _mm512_add_epi64, _mm512_and_si512, _mm512_mask_sub_epi64, _mm512_max_epu64, _mm512_or_si512,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_sll_epi64, _mm512_srl_epi64,
    _mm512_srli_epi64, _mm512_sub_epi64, _mm512_test_epi64_mask, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::field::Fe;
use super::groups::{Fes, Mask, mul, square};
use super::lanes::{Eight, Lanes};
use super::point::{Affine, Signs};

/// An affine point: x, then y, each four little-endian words of a number below 2^256.
pub(super) type Row = Eight;

/// Digits of a multiplier of P are between -16 and 16.
pub(super) const WIDTH: usize = 5;
/// Multiples 1·P to 16·P.
const MULTIPLES: usize = 1 << (WIDTH - 1);

/// Transposes eight vectors of eight: element j of vector i becomes element i of vector j.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn transposed(r: [Lanes; 8]) -> [Lanes; 8] {
    // Elements 0, 2, 4, 6 and 1, 3, 5, 7 of two neighbours, as 128-bit pairs; then the pairs, as a 4 by 4 transposition
    // of each half.
    let even = |i: usize| _mm512_unpacklo_epi64(r[i], r[i + 1]);
    let odd = |i: usize| _mm512_unpackhi_epi64(r[i], r[i + 1]);
    let [e0, e4, e2, e6] = transposed_pairs([even(0), even(2), even(4), even(6)]);
    let [e1, e5, e3, e7] = transposed_pairs([odd(0), odd(2), odd(4), odd(6)]);
    [e0, e1, e2, e3, e4, e5, e6, e7]
}

/// The 128-bit elements 0, 2, 1, 3 (in this order) of four vectors.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn transposed_pairs(t: [Lanes; 4]) -> [Lanes; 4] {
    // 0x88 takes elements 0 and 2 of each argument, 0xdd elements 1 and 3.
    let (a, b) = (_mm512_shuffle_i64x2::<0x88>(t[0], t[1]), _mm512_shuffle_i64x2::<0x88>(t[2], t[3]));
    let (c, d) = (_mm512_shuffle_i64x2::<0xdd>(t[0], t[1]), _mm512_shuffle_i64x2::<0xdd>(t[2], t[3]));
    [
        _mm512_shuffle_i64x2::<0x88>(a, b),
        _mm512_shuffle_i64x2::<0xdd>(a, b),
        _mm512_shuffle_i64x2::<0x88>(c, d),
        _mm512_shuffle_i64x2::<0xdd>(c, d),
    ]
}

impl<const N: usize> Affine<N> {
    /// One row for each lane.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn from_rows(rows: &[[&Row; 8]; N]) -> Self {
        let mut out = Self { x: [Fe::zero(); N], y: [Fe::zero(); N] };
        for (g, rows) in rows.iter().enumerate() {
            let mut lanes = [_mm512_setzero_si512(); 8];
            for (lane, row) in lanes.iter_mut().zip(rows) {
                *lane = row.load();
            }
            let [x0, x1, x2, x3, y0, y1, y2, y3] = transposed(lanes);
            out.x[g] = Fe::from_words([x0, x1, x2, x3]);
            out.y[g] = Fe::from_words([y0, y1, y2, y3]);
        }
        out
    }

    /// The row of each lane.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn to_rows(self) -> [[Row; 8]; N] {
        let mut rows = [[Row::ZERO; 8]; N];
        for (g, rows) in rows.iter_mut().enumerate() {
            let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = (self.x[g].to_words(), self.y[g].to_words());
            for (row, lane) in rows.iter_mut().zip(transposed([x0, x1, x2, x3, y0, y1, y2, y3])) {
                *row = Row::store(lane);
            }
        }
        rows
    }
}

/// 1·P to 16·P in every lane, on the isomorphic curve where all of them are affine: row (x, y) stands for (x/z², y/z³).
///
/// This saves an inversion (libsecp256k1 calls it an effective-affine table): the multiples are computed with a common
/// Z, which grows by a known factor at each step, and then all are scaled to the last Z.
pub(super) struct Multiples<const N: usize> {
    rows: [[[Row; MULTIPLES]; 8]; N],
    pub(super) z: Fes<N>,
}

impl<const N: usize> Multiples<N> {
    /// `base` must be on the curve; where it is not, the rows are meaningless.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn new(base: &Affine<N>) -> Self {
        let mut out = Self { rows: [[[Row::ZERO; MULTIPLES]; 8]; N], z: [Fe::zero(); N] };
        let (mut pair, first_z) = base.double_same_z();
        let mut points = [pair.multiple; MULTIPLES + 1];
        // growth[j] is what the step from (j-1)·P to j·P multiplied Z by; the Z of 2·P itself for j = 2.
        let mut growth = [first_z; MULTIPLES + 1];
        for j in 3..=MULTIPLES {
            pair.step(&mut growth[j]);
            points[j] = pair.multiple;
        }
        out.put(1, &pair.base);
        out.put(MULTIPLES, &pair.multiple);
        let mut ratio = growth[MULTIPLES];
        for j in (2..MULTIPLES).rev() {
            let ratio_squared = square(&ratio);
            let ratio_cubed = mul(&ratio_squared, &ratio);
            out.put(j, &Affine { x: mul(&points[j].x, &ratio_squared), y: mul(&points[j].y, &ratio_cubed) });
            ratio = mul(&ratio, &growth[j]);
        }
        out.z = ratio;
        out
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn put(&mut self, multiple: usize, point: &Affine<N>) {
        for (group, lanes) in self.rows.iter_mut().zip(point.to_rows()) {
            for (rows, row) in group.iter_mut().zip(lanes) {
                rows[multiple - 1] = row;
            }
        }
    }

    /// The rows that a digit selects.
    #[inline]
    pub(super) fn select(&self, digit: &Digit<N>) -> [[&Row; 8]; N] {
        std::array::from_fn(|g| {
            std::array::from_fn(|lane| &self.rows[g][lane][digit.row[g].0[lane] as usize % MULTIPLES])
        })
    }
}

#[cfg(test)]
impl<const N: usize> Multiples<N> {
    /// multiple·P.
    pub(super) fn row(&self, multiple: usize) -> [[Row; 8]; N] {
        self.rows.map(|group| group.map(|lane| lane[multiple - 1]))
    }
}

/// One signed digit of each lane's multiplier.
pub(super) struct Digit<const N: usize> {
    /// |digit| - 1; 0 for a zero digit.
    pub(super) row: [Eight; N],
    pub(super) signs: Signs<N>,
}

/// Multipliers of 64·WORDS bits, little-endian words; two's complement where the reader reads only digits below the
/// sign's copies.
#[derive(Clone, Copy)]
pub(super) struct Multiplier<const N: usize, const WORDS: usize>(pub(super) [[Eight; WORDS]; N]);

impl<const N: usize, const WORDS: usize> Multiplier<N, WORDS> {
    pub(super) const ZERO: Self = Self([[Eight::ZERO; WORDS]; N]);

    /// Digit `bit / width` of the signed representation k = Σ dᵢ·2^(width·i), |dᵢ| ≤ 2^(width-1).
    ///
    /// Booth: with u the `width + 1` bits from `bit - 1` upward (bit -1 is 0), the digit is (u + 1)/2 rounded down,
    /// less 2^width if the top bit of u is set. Bits beyond the last word count as zero.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn digit(&self, bit: usize, width: usize) -> Digit<N> {
        let mut rows = [Eight::ZERO; N];
        let mut signs = Signs { negative: Mask::NONE, nonzero: Mask::NONE };
        let one = _mm512_set1_epi64(1);
        for (g, row) in rows.iter_mut().enumerate() {
            let u = _mm512_and_si512(self.bits_from(g, bit), _mm512_set1_epi64((2 << width) - 1));
            let half = _mm512_srli_epi64::<1>(_mm512_add_epi64(u, one));
            let full = _mm512_set1_epi64(1 << width);
            let negative = _mm512_test_epi64_mask(u, full);
            let magnitude = _mm512_mask_sub_epi64(half, negative, full, half);
            signs.nonzero.0[g] = _mm512_test_epi64_mask(magnitude, magnitude);
            signs.negative.0[g] = negative;
            *row = Eight::store(_mm512_sub_epi64(_mm512_max_epu64(magnitude, one), one));
        }
        Digit { row: rows, signs }
    }

    /// Each lane's bits from `bit - 1` upward, 64 of them.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn bits_from(&self, g: usize, bit: usize) -> Lanes {
        let count = |n: usize| _mm_cvtsi64_si128(n as i64);
        let word = |i: usize| self.0[g].get(i).map_or(_mm512_setzero_si512(), |w| w.load());
        let Some(start) = bit.checked_sub(1) else {
            return _mm512_sll_epi64(word(0), count(1));
        };
        let (i, shift) = (start / 64, start % 64);
        // A shift count of 64 gives zero.
        _mm512_or_si512(_mm512_srl_epi64(word(i), count(shift)), _mm512_sll_epi64(word(i + 1), count(64 - shift)))
    }
}
