//! The largest limbs that a field value can have. Debug builds track them; release builds do not have them.
//!
//! It must never depend on the value itself: a bound is the worst case of a formula, so one run of the tests proves it
//! for every input.

#[cfg(debug_assertions)]
use super::limbs::P;

/// Inclusive maxima of the limbs of a `Loose`; empty in release builds.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// Of limbs 0 to 3.
    #[cfg(debug_assertions)]
    low: u64,
    /// Of limb 4.
    #[cfg(debug_assertions)]
    top: u64,
}

/// Number of products in a `Wide`; empty in release builds.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    #[cfg(debug_assertions)]
    count: u64,
}

#[cfg(debug_assertions)]
impl Bound {
    pub(super) fn new(low: u64, top: u64) -> Self {
        Self { low, top }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let add = |a: u64, b: u64| a.checked_add(b).expect("a limb bound exceeds 64 bits");
        Self { low: add(self.low, other.low), top: add(self.top, other.top) }
    }

    /// The bound of `2^shift * p - x` for this x. It is the multiple itself, if no limb of x exceeds the same limb of
    /// it.
    pub(super) fn subtracted_from_multiple(self, shift: u32) -> Self {
        assert!(
            self.low <= P[0] << shift && self.top <= P[4] << shift,
            "the multiple of p is too small to subtract from"
        );
        Self { low: P[1] << shift, top: P[4] << shift }
    }

    /// Asserts that there is room for what `carry` adds: 2^16 * FOLD_256 < 2^49 to limb 0, at most 2^12 to the others.
    pub(super) fn assert_can_carry(self) {
        assert!(self.low <= u64::MAX - (1 << 50) && self.top <= u64::MAX - (1 << 50), "a limb is too large to carry");
    }
}

#[cfg(not(debug_assertions))]
impl Bound {
    pub(super) fn new(_low: u64, _top: u64) -> Self {
        Self {}
    }

    pub(super) fn plus(self, _other: Self) -> Self {
        self
    }

    pub(super) fn subtracted_from_multiple(self, _shift: u32) -> Self {
        self
    }

    pub(super) fn assert_can_carry(self) {}
}

impl Terms {
    pub(super) fn new(_count: u64) -> Self {
        Self {
            #[cfg(debug_assertions)]
            count: _count,
        }
    }

    pub(super) fn plus(self, _other: Self) -> Self {
        Self {
            #[cfg(debug_assertions)]
            count: self.count + _other.count,
        }
    }

    /// The bound after reduction: a column holds at most 7 (columns 0..=3) or 9 (column 4) halves below 2^52 of each
    /// product, and the fold adds at most three more.
    pub(super) fn reduced(self) -> Bound {
        #[cfg(debug_assertions)]
        {
            // Four terms keep column 9 below 2^52, see `reduce`.
            assert!(self.count <= 4, "too many products in one reduction");
            Bound::new((7 * self.count + 3) << 52, (9 * self.count + 2) << 52)
        }
        #[cfg(not(debug_assertions))]
        Bound::new(0, 0)
    }
}
