//! Several groups of eight lanes side by side.
//!
//! It must never mix lanes of different groups.
//!
//! A single chain of multiplications is bound by the latency of its instructions. So formulas are written for N groups,
//! and each step is computed for all of them: with N = 2 the CPU works on one group while the other waits.

use super::field::Fe;
use super::lanes::LaneMask;

/// 8·N field elements.
pub(super) type Fes<const N: usize> = [Fe; N];

/// One bit for each lane of each group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mask<const N: usize>(pub(super) [LaneMask; N]);

/// One step of a formula, for each group: `each!(N, place, |g| value)` stores to `place[g]`. Another form takes two
/// places.
///
/// The step is unrolled over the groups, and its results are forced to memory before the next step. Otherwise the
/// compiler schedules the whole formula for one group and then the whole formula for the next, because that needs the
/// fewest registers, and nothing overlaps. N is one to four.
macro_rules! each {
    ($n:ident, ($first:expr, $second:expr), |$g:ident| $step:expr) => {{
        const { assert!($n >= 1 && $n <= 4, "up to four groups") };
        each!(@once $n, 0, $g, { ($first[$g], $second[$g]) = $step });
        each!(@once $n, 1, $g, { ($first[$g], $second[$g]) = $step });
        each!(@once $n, 2, $g, { ($first[$g], $second[$g]) = $step });
        each!(@once $n, 3, $g, { ($first[$g], $second[$g]) = $step });
        std::hint::black_box(&mut $first);
        std::hint::black_box(&mut $second);
    }};
    ($n:ident, $place:expr, |$g:ident| $step:expr) => {{
        const { assert!($n >= 1 && $n <= 4, "up to four groups") };
        each!(@once $n, 0, $g, { $place[$g] = $step });
        each!(@once $n, 1, $g, { $place[$g] = $step });
        each!(@once $n, 2, $g, { $place[$g] = $step });
        each!(@once $n, 3, $g, { $place[$g] = $step });
        std::hint::black_box(&mut $place);
    }};
    (@once $n:ident, $index:literal, $g:ident, $step:block) => {
        if $index < $n {
            let $g = $index % $n;
            $step
        }
    };
}
pub(super) use each;

/// A place for `each!`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn blank<const N: usize>() -> Fes<N> {
    [Fe::zero(); N]
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn mul<const N: usize>(a: &Fes<N>, b: &Fes<N>) -> Fes<N> {
    let mut out = blank();
    each!(N, out, |g| a[g].mul(&b[g]));
    out
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn square<const N: usize>(a: &Fes<N>) -> Fes<N> {
    let mut out = blank();
    each!(N, out, |g| a[g].square());
    out
}

/// `a` in the lanes where `mask` is clear, `b` where it is set.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn select<const N: usize>(a: &Fes<N>, b: &Fes<N>, mask: Mask<N>) -> Fes<N> {
    std::array::from_fn(|g| a[g].select(&b[g], mask.0[g]))
}

impl<const N: usize> Mask<N> {
    pub(super) const ALL: Self = Self([LaneMask::MAX; N]);
    pub(super) const NONE: Self = Self([0; N]);

    pub(super) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|g| self.0[g] & other.0[g]))
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|g| self.0[g] | other.0[g]))
    }

    pub(super) fn not(self) -> Self {
        Self(std::array::from_fn(|g| !self.0[g]))
    }
}
