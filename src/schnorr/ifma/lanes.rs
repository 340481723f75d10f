//! The AVX-512 instructions that the field arithmetic uses, as plain functions on eight 64-bit lanes.
//!
//! It must never run on a CPU without AVX-512F and IFMA. A function with `#[target_feature]` cannot have
//! `#[inline(always)]`, and without it the compiler turns multiplications into calls, which costs a third of the speed.
//! So these functions, and those of `field`, are always inlined and do not name the features. The formulas in `point`,
//! `power` and above do name them, and the machine code ends up in those functions.
//!
//! Every SAFETY comment here rests on this: a [`Lanes`] value comes from [`splat`] or [`Eight::load`], which are
//! `unsafe` or need the features. So code that has one runs on a CPU with the features.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_cmpgt_epu64_mask, _mm512_load_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mask_sub_epi64, _mm512_or_si512,
    _mm512_set1_epi64, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_store_si512, _mm512_test_epi64_mask,
};

/// Eight 64-bit lanes in a register.
pub(super) type Lanes = __m512i;
/// One bit per lane, lane 0 lowest.
pub(super) type LaneMask = u8;

/// Eight 64-bit integers in memory, one per lane.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Eight(pub(super) [u64; 8]);

impl Eight {
    pub(super) const ZERO: Self = Self([0; 8]);

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn load(&self) -> Lanes {
        // SAFETY: `self` is 64 readable bytes aligned to 64.
        unsafe { _mm512_load_si512(self.0.as_ptr().cast::<__m512i>()) }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn store(lanes: Lanes) -> Self {
        let mut out = Self::ZERO;
        // SAFETY: `out` is 64 writable bytes aligned to 64.
        unsafe { _mm512_store_si512(out.0.as_mut_ptr().cast::<__m512i>(), lanes) };
        out
    }
}

/// Aligns the caller's stack frame to 64 bytes.
///
/// The compiler aligns a frame for its variables but not for the registers that it spills, and a spilled register that
/// crosses a cache line costs several times as much. So every function with a long formula has one variable that needs
/// the alignment.
#[inline(always)]
pub(super) fn align_frame() {
    let anchor = Eight::ZERO;
    std::hint::black_box(&anchor);
}

/// The same integer in every lane.
///
/// # Safety
///
/// The CPU has AVX-512F.
#[inline(always)]
pub(super) unsafe fn splat(x: u64) -> Lanes {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi64(x.cast_signed()) }
}

/// a + b modulo 2^64.
#[inline(always)]
pub(super) fn add(a: Lanes, b: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_add_epi64(a, b) }
}

#[inline(always)]
pub(super) fn and(a: Lanes, b: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_and_si512(a, b) }
}

#[inline(always)]
pub(super) fn or(a: Lanes, b: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_or_si512(a, b) }
}

#[inline(always)]
pub(super) fn shift_left<const BITS: u32>(a: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_slli_epi64::<BITS>(a) }
}

#[inline(always)]
pub(super) fn shift_right<const BITS: u32>(a: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_srli_epi64::<BITS>(a) }
}

/// c plus the low 52 bits of the product of the low 52 bits of a and b.
#[inline(always)]
pub(super) fn mul_low(c: Lanes, a: Lanes, b: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_madd52lo_epu64(c, a, b) }
}

/// c plus bits 52..104 of the product of the low 52 bits of a and b.
#[inline(always)]
pub(super) fn mul_high(c: Lanes, a: Lanes, b: Lanes) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_madd52hi_epu64(c, a, b) }
}

/// b - a modulo 2^64 in the lanes of `mask`, a elsewhere.
#[inline(always)]
pub(super) fn subtract_from_where(a: Lanes, b: Lanes, mask: LaneMask) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_mask_sub_epi64(a, mask, b, a) }
}

/// a in the lanes where `mask` is clear, b where it is set.
#[inline(always)]
pub(super) fn select(a: Lanes, b: Lanes, mask: LaneMask) -> Lanes {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_mask_blend_epi64(mask, a, b) }
}

/// Lanes in which a and b have a common bit.
#[inline(always)]
pub(super) fn intersects(a: Lanes, b: Lanes) -> LaneMask {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_test_epi64_mask(a, b) }
}

/// Lanes in which a = b.
#[inline(always)]
pub(super) fn equal(a: Lanes, b: Lanes) -> LaneMask {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_cmpeq_epi64_mask(a, b) }
}

/// Lanes in which a > b, as unsigned integers.
#[inline(always)]
pub(super) fn greater(a: Lanes, b: Lanes) -> LaneMask {
    // SAFETY: see the module's documentation.
    unsafe { _mm512_cmpgt_epu64_mask(a, b) }
}
