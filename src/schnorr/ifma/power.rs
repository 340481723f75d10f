//! Inverse and square root in the field, by fixed powers.
//!
//! Both exponents of p = 2^256 - 2^32 - 977 begin with 223 one bits: p - 2 (Fermat: a^(p-2) = 1/a) and (p + 1)/4 (p ≡ 3
//! modulo 4, so a^((p+1)/4) is a root of a if a has one). Powers a^(2^k - 1), k = 2, 3, 6, 9, 11, 22, 44, 88, 176, 220,
//! 223, give that run of ones in 13 multiplications; the low bits of the two exponents follow by hand:
//!
//! ```text
//! (p + 1)/4 = [223 ones] 0 [22 ones] 0000 11 00
//!  p - 2    = [223 ones] 0 [22 ones] 0000 1 0 11 01
//! ```

use super::groups::{Fes, each, square};
use super::lanes::align_frame;

/// a^(2^k - 1) for k = 2, 22 and 223.
struct Ones<const N: usize> {
    two: Fes<N>,
    twenty_two: Fes<N>,
    all: Fes<N>,
}

/// `a^(2^times)·b`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn shift_and_mul<const N: usize>(a: &Fes<N>, times: usize, b: &Fes<N>) -> Fes<N> {
    align_frame();
    let mut r = *a;
    for _ in 0..times {
        for fe in &mut r {
            *fe = fe.square();
        }
    }
    each!(N, r, |g| r[g].mul(&b[g]));
    r
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn ones<const N: usize>(a: &Fes<N>) -> Ones<N> {
    let two = shift_and_mul(a, 1, a);
    let three = shift_and_mul(&two, 1, a);
    let six = shift_and_mul(&three, 3, &three);
    let nine = shift_and_mul(&six, 3, &three);
    let eleven = shift_and_mul(&nine, 2, &two);
    let twenty_two = shift_and_mul(&eleven, 11, &eleven);
    let forty_four = shift_and_mul(&twenty_two, 22, &twenty_two);
    let eighty_eight = shift_and_mul(&forty_four, 44, &forty_four);
    let hundred_76 = shift_and_mul(&eighty_eight, 88, &eighty_eight);
    let two_hundred_20 = shift_and_mul(&hundred_76, 44, &forty_four);
    let all = shift_and_mul(&two_hundred_20, 3, &three);
    Ones { two, twenty_two, all }
}

/// `1/a`; zero in the lanes where `a` is zero.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn inverse<const N: usize>(a: &Fes<N>) -> Fes<N> {
    let ones = ones(a);
    let r = shift_and_mul(&ones.all, 23, &ones.twenty_two);
    let r = shift_and_mul(&r, 5, a);
    let r = shift_and_mul(&r, 3, &ones.two);
    shift_and_mul(&r, 2, a)
}

/// A number whose square is `a`, in lanes where one exists. In other lanes it is arbitrary, so the caller must square
/// it to find out.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn square_root_candidate<const N: usize>(a: &Fes<N>) -> Fes<N> {
    let ones = ones(a);
    let r = shift_and_mul(&ones.all, 23, &ones.twenty_two);
    let r = shift_and_mul(&r, 6, &ones.two);
    square(&square(&r))
}
