//! The field of secp256k1, integers modulo p = 2^256 - 2^32 - 977, eight at a time in the 64-bit lanes of AVX-512
//! registers.
//!
//! It must never branch on a value, since lanes are independent of each other. It does not run in constant time:
//! verification handles public data only.
//!
//! **Representation.** An element is five limbs of 52 bits, x = Σ xᵢ·2^(52·i), because `vpmadd52luq` and `vpmadd52huq`
//! multiply the low 52 bits of two 64-bit lanes and add the low or the high 52 bits of the product to a third. Limb i
//! of eight elements lies in one register.
//!
//! **Magnitudes.** There are three types, so that the compiler keeps them apart:
//!
//! | type | limbs 0..=3 | limb 4 | made by | may be |
//! |---|---|---|---|---|
//! | [`Fe`], tight | low 52 bits | ≤ 2^48 + 2^12 | [`Loose::carry`], constants | multiplied, compared, loosened |
//! | [`Loose`] | ≤ [`Bound`]'s `low` | ≤ its `top` | reductions, sums, differences | added, subtracted, carried |
//! | [`Wide`] | ten columns | | products, sums of products | added to, doubled, reduced |
//!
//! Above bit 52 of limbs 0..=3, a tight element keeps what it has already carried to the next limb. Multiplication does
//! not read those bits, so clearing them for each product would be wasted work; everything else clears them first. A
//! tight value is below 2^256 + 2^221, not necessarily below p. Debug builds track the bounds of loose values (see
//! `bound`); every function states what it does to them.
//!
//! **Reduction** uses 2^260 ≡ 2^4·(2^32 + 977) = [`FOLD_260`] and 2^256 ≡ 2^32 + 977 = [`FOLD_256`] modulo p.

use super::bound::{Bound, Terms};
use super::lanes::{
    LaneMask, Lanes, add, and, equal, greater, intersects, mul_high, mul_low, or, select, shift_left, shift_right,
    splat, subtract_from_where,
};
use super::limbs::{LIMBS, LOW_48, LOW_52, P};

/// Columns of a product.
const COLUMNS: usize = 2 * LIMBS;

/// 2^256 mod p.
const FOLD_256: u64 = (1 << 32) + 977;
/// 2^260 mod p.
const FOLD_260: u64 = FOLD_256 << 4;
/// The largest limb 4 of a tight element.
const TIGHT_TOP: u64 = (1 << 48) + (1 << 12);

/// Eight field elements, tight.
#[derive(Clone, Copy)]
pub(super) struct Fe([Lanes; LIMBS]);

/// Eight field elements whose limbs may exceed 52 bits.
#[derive(Clone, Copy)]
pub(super) struct Loose {
    limbs: [Lanes; LIMBS],
    bound: Bound,
}

/// Eight unreduced products, or small sums of products: column k has weight 2^(52·k).
#[derive(Clone, Copy)]
pub(super) struct Wide {
    columns: [Lanes; COLUMNS],
    /// How many products were added up.
    terms: Terms,
}

/// The same integer in every lane.
#[inline(always)]
fn constant(x: u64) -> Lanes {
    // SAFETY: the callers hold field elements, or need the features themselves; see `lanes`.
    unsafe { splat(x) }
}

/// Adds everything above 52 bits of limb `from` to limb `from + 1`, and leaves it where it was.
#[inline(always)]
fn ripple<const L: usize>(limbs: &mut [Lanes; L], from: usize) {
    limbs[from + 1] = add(limbs[from + 1], shift_right::<52>(limbs[from]));
}

/// Clears what [`ripple`] left above 52 bits of limbs 0..=3.
#[inline(always)]
fn masked(mut limbs: [Lanes; LIMBS]) -> [Lanes; LIMBS] {
    for limb in &mut limbs[..LIMBS - 1] {
        *limb = and(*limb, constant(LOW_52));
    }
    limbs
}

/// Limbs below 2^64 - 2^50 in, tight limbs out: limb 4 gives its bits from 48 up to limb 0, then each limb its bits
/// from 52 up to the next. Limb 3 can give at most 2^12 - 1 to limb 4.
#[inline(always)]
fn carry_limbs(mut r: [Lanes; LIMBS]) -> [Lanes; LIMBS] {
    let over = shift_right::<48>(r[4]);
    r[4] = and(r[4], constant(LOW_48));
    r[0] = mul_low(r[0], over, constant(FOLD_256));
    for k in 0..LIMBS - 1 {
        ripple(&mut r, k);
    }
    r
}

impl Wide {
    /// `self + a·b`; adds one term. Each column receives at most nine halves below 2^52.
    #[inline(always)]
    pub(super) fn plus_product(mut self, a: &Fe, b: &Fe) -> Self {
        // Low and high halves are summed apart: that halves the longest chain of dependent instructions.
        let mut high = [constant(0); COLUMNS];
        let low = &mut self.columns;
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                low[i + j] = mul_low(low[i + j], a.0[i], b.0[j]);
                high[i + j + 1] = mul_high(high[i + j + 1], a.0[i], b.0[j]);
            }
        }
        for k in 1..COLUMNS {
            low[k] = add(low[k], high[k]);
        }
        self.terms = self.terms.plus(Terms::new(1));
        self
    }

    /// `2·self`; doubles the terms.
    #[inline(always)]
    pub(super) fn doubled(mut self) -> Self {
        for column in &mut self.columns {
            *column = add(*column, *column);
        }
        self.terms = self.terms.plus(self.terms);
        self
    }

    /// At most four terms in; limbs below (7·terms + 3)·2^52, limb 4 below (9·terms + 2)·2^52 out.
    ///
    /// Folds columns 5..=9 onto 0..=4. Columns 5..=8 give what exceeds 52 bits to the next, so that the multiplier sees
    /// all of them. Column 9 needs no such care: a product of two limbs 4 is below (2^48 + 2^12)², so its high half is
    /// below 2^45, and four of them plus a carry stay below 2^52. The high half of column 9 times FOLD_260, below 2^33,
    /// has weight 2^260 again: it is folded twice.
    #[inline(always)]
    pub(super) fn reduce(self) -> Loose {
        let mut t = self.columns;
        let fold = constant(FOLD_260);
        for k in LIMBS..COLUMNS - 1 {
            ripple(&mut t, k);
        }
        let over = mul_high(constant(0), t[9], fold);
        let mut r = [t[0], t[1], t[2], t[3], t[4]];
        for k in 0..LIMBS {
            r[k] = mul_low(r[k], t[k + LIMBS], fold);
        }
        for k in 0..LIMBS - 1 {
            r[k + 1] = mul_high(r[k + 1], t[k + LIMBS], fold);
        }
        r[0] = mul_low(r[0], over, fold);
        r[1] = mul_high(r[1], over, fold);
        Loose { limbs: r, bound: self.terms.reduced() }
    }
}

impl Loose {
    /// `self + other`; the bounds add.
    #[inline(always)]
    pub(super) fn plus(mut self, other: Self) -> Self {
        for k in 0..LIMBS {
            self.limbs[k] = add(self.limbs[k], other.limbs[k]);
        }
        self.bound = self.bound.plus(other.bound);
        self
    }

    /// `2·self`; the bound doubles.
    #[inline(always)]
    pub(super) fn doubled(self) -> Self {
        self.plus(self)
    }

    /// `-self`, computed limb by limb as `2^SHIFT·p - self`; that multiple must be at least the bound, and is the new
    /// bound.
    #[inline(always)]
    pub(super) fn negated<const SHIFT: u32>(self) -> Self {
        self.negated_where::<SHIFT>(LaneMask::MAX)
    }

    /// As [`Self::negated`] in the lanes of `mask`, unchanged elsewhere.
    #[inline(always)]
    pub(super) fn negated_where<const SHIFT: u32>(mut self, mask: LaneMask) -> Self {
        for (limb, p) in self.limbs.iter_mut().zip(P) {
            *limb = subtract_from_where(*limb, constant(p << SHIFT), mask);
        }
        self.bound = self.bound.subtracted_from_multiple(SHIFT);
        self
    }

    /// The same element, tight. The bound must leave room for the carries: at most 2^64 - 2^50.
    #[inline(always)]
    pub(super) fn carry(self) -> Fe {
        self.bound.assert_can_carry();
        let tight = Fe(carry_limbs(self.limbs));
        tight.assert_tight();
        tight
    }
}

impl Fe {
    /// The same element in every lane; `limbs` must be tight.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn splat(limbs: [u64; LIMBS]) -> Self {
        let [a, b, c, d, e] = limbs;
        let tight = Self([constant(a), constant(b), constant(c), constant(d), constant(e)]);
        tight.assert_tight();
        tight
    }

    /// From limbs that are tight, junk included.
    #[cfg(test)]
    pub(super) fn from_limbs(limbs: [Lanes; LIMBS]) -> Self {
        let tight = Self(limbs);
        tight.assert_tight();
        tight
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn one() -> Self {
        Self::splat([1, 0, 0, 0, 0])
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn zero() -> Self {
        Self::splat([0; LIMBS])
    }

    /// From the four little-endian 64-bit words of any 256-bit integers.
    #[inline(always)]
    pub(super) fn from_words(words: [Lanes; 4]) -> Self {
        let [a, b, c, d] = words;
        let low = constant(LOW_52);
        Self([
            and(a, low),
            and(or(shift_right::<52>(a), shift_left::<12>(b)), low),
            and(or(shift_right::<40>(b), shift_left::<24>(c)), low),
            and(or(shift_right::<28>(c), shift_left::<36>(d)), low),
            shift_right::<16>(d),
        ])
    }

    /// The four little-endian 64-bit words of an integer below 2^256 that is congruent to the element, but not always
    /// below p.
    #[inline(always)]
    pub(super) fn to_words(self) -> [Lanes; 4] {
        let [a, b, c, d, e] = self.below_2_256();
        [
            or(a, shift_left::<52>(b)),
            or(shift_right::<12>(b), shift_left::<40>(c)),
            or(shift_right::<24>(c), shift_left::<28>(d)),
            or(shift_right::<36>(d), shift_left::<16>(e)),
        ]
    }

    /// Limbs 0..=3 below 2^52, limb 4 below 2^48. A tight value exceeds 2^256 by less than 2^221, so one fold takes it
    /// below, and the carries of that fold end before limb 4 overflows again.
    #[inline(always)]
    fn below_2_256(&self) -> [Lanes; LIMBS] {
        masked(carry_limbs(masked(self.0)))
    }

    /// The same value; the bound is that of a tight one.
    #[inline(always)]
    pub(super) fn loose(&self) -> Loose {
        Loose { limbs: masked(self.0), bound: Bound::new(LOW_52, TIGHT_TOP) }
    }

    /// `-self`; the bound is 2·p.
    #[inline(always)]
    pub(super) fn negated(&self) -> Loose {
        self.loose().negated::<1>()
    }

    /// `self·other`, one term.
    #[inline(always)]
    pub(super) fn product(&self, other: &Self) -> Wide {
        Wide { columns: [constant(0); COLUMNS], terms: Terms::new(0) }.plus_product(self, other)
    }

    /// `self²`, one term: the ten cross products are computed once and doubled.
    #[inline(always)]
    pub(super) fn squared(&self) -> Wide {
        let a = &self.0;
        let mut t = [constant(0); COLUMNS];
        for i in 0..LIMBS {
            for j in i + 1..LIMBS {
                t[i + j] = mul_low(t[i + j], a[i], a[j]);
                t[i + j + 1] = mul_high(t[i + j + 1], a[i], a[j]);
            }
        }
        for column in &mut t[1..=8] {
            *column = add(*column, *column);
        }
        for i in 0..LIMBS {
            t[2 * i] = mul_low(t[2 * i], a[i], a[i]);
            t[2 * i + 1] = mul_high(t[2 * i + 1], a[i], a[i]);
        }
        Wide { columns: t, terms: Terms::new(1) }
    }

    /// `self·other`, tight.
    #[inline(always)]
    pub(super) fn mul(&self, other: &Self) -> Self {
        self.product(other).reduce().carry()
    }

    /// `self²`, tight.
    #[inline(always)]
    pub(super) fn square(&self) -> Self {
        self.squared().reduce().carry()
    }

    /// `self` in the lanes where `mask` is clear, `other` where it is set.
    #[inline(always)]
    pub(super) fn select(&self, other: &Self, mask: LaneMask) -> Self {
        let mut out = self.0;
        for (limb, other) in out.iter_mut().zip(other.0) {
            *limb = select(*limb, other, mask);
        }
        Self(out)
    }

    /// The representative in 0..p.
    #[inline(always)]
    pub(super) fn canonical(&self) -> Self {
        // x < 2^256, so x >= p exactly if x + FOLD_256 reaches 2^256, and then x - p is what is left of that below
        // 2^256.
        let x = self.below_2_256();
        let mut y = x;
        y[0] = add(y[0], constant(FOLD_256));
        for k in 0..LIMBS - 1 {
            ripple(&mut y, k);
        }
        let reached = intersects(y[4], constant(1 << 48));
        y[4] = and(y[4], constant(LOW_48));
        Self(x).select(&Self(masked(y)), reached)
    }

    /// Lanes whose element equals that of `other`.
    #[inline(always)]
    pub(super) fn equals(&self, other: &Self) -> LaneMask {
        let (a, b) = (self.canonical(), other.canonical());
        let mut mask = LaneMask::MAX;
        for (a, b) in a.0.into_iter().zip(b.0) {
            mask &= equal(a, b);
        }
        mask
    }

    /// Lanes whose element is zero.
    #[inline(always)]
    pub(super) fn is_zero(&self) -> LaneMask {
        self.equals(&Self([constant(0); LIMBS]))
    }

    /// Lanes whose representative in 0..p is odd.
    #[inline(always)]
    pub(super) fn is_odd(&self) -> LaneMask {
        intersects(self.canonical().0[0], constant(1))
    }

    #[inline(always)]
    fn assert_tight(&self) {
        if cfg!(debug_assertions) {
            assert_eq!(greater(self.0[4], constant(TIGHT_TOP)), 0, "limb 4 of a tight element is too large");
        }
    }
}
