//! Integers modulo n, the order of secp256k1's group: parsing, negation, and the split of a multiplier by the curve's
//! endomorphism.
//!
//! It must never be used on secrets: nothing here runs in constant time.
//!
//! **The split** (Gallant, Lambert, Vanstone, CRYPTO 2001; "Guide to Elliptic Curve Cryptography", algorithm 3.74). On
//! this curve λ·(x, y) = (β·x, y) for a cube root of unity λ modulo n and β modulo p. The pairs (a, b) with a + b·λ ≡ 0
//! modulo n form a lattice with the short basis (A1, -B1), (A2, A1) below. Subtracting from (k, 0) the lattice point
//! nearest to it leaves (k1, k2) with k ≡ k1 + k2·λ and both below 2^128 in absolute value, so that k·P costs half the
//! doublings:
//!
//! ```text
//! c1 = round(k·A1 / n)   c2 = round(k·B1 / n)
//! k1 = k - c1·A1 - c2·A2          k2 = c1·B1 - c2·A1
//! ```
//!
//! The residue of rounding is at most half of each basis vector; |k1| ≤ (A1 + A2)/2 < 2^127.4 and |k2| ≤ (A1 + B1)/2 <
//! 2^127.2. Rounding uses k·round(2^384·A1/n)/2^384 instead of a division; with that the quotient is off by less than
//! 2^-127 before rounding, so it can exceed a half by no more than that, and the bounds above hold with one unit in the
//! last place of each basis vector to spare.

/// A 256-bit integer, little-endian words.
pub(super) type Words = [u64; 4];

/// n, the group order (SEC 2, 2.4.1).
pub(super) const N: Words =
    [0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, 0xffff_ffff_ffff_ffff];
/// p, the field prime.
pub(super) const P: Words = [0xffff_fffe_ffff_fc2f, u64::MAX, u64::MAX, u64::MAX];

const A1: [u64; 2] = [0xe86c_90e4_9284_eb15, 0x3086_d221_a7d4_6bcd];
const B1: [u64; 2] = [0x6f54_7fa9_0abf_e4c3, 0xe443_7ed6_010e_8828];
/// A1 + B1, 129 bits.
const A2: [u64; 3] = [0x57c1_108d_9d44_cfd8, 0x14ca_50f7_a8e2_f3f6, 1];
/// round(2^384·A1/n).
const A1_OVER_N: Words = [0xe893_209a_45db_b031, 0x3daa_8a14_71e8_ca7f, 0xe86c_90e4_9284_eb15, 0x3086_d221_a7d4_6bcd];
/// round(2^384·B1/n).
const B1_OVER_N: Words = [0x1571_b4ae_8ac4_7f71, 0x2212_08ac_9df5_06c6, 0x6f54_7fa9_0abf_e4c4, 0xe443_7ed6_010e_8828];

/// An integer between -2^191 and 2^191 in two's complement, little-endian words.
pub(super) type Signed = [u64; 3];

/// k ≡ `plain` + `lambda`·λ modulo n, both below 2^128 in absolute value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) plain: Signed,
    pub(super) lambda: Signed,
}

/// Reads a big-endian integer, as BIP-340 writes them.
pub(super) fn words(bytes: &[u8; 32]) -> Words {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_be_bytes(chunks[3 - i]))
}

/// Whether a < b.
pub(super) fn less(a: &Words, b: &Words) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

/// a - b modulo 2^(64·N).
fn minus<const N: usize>(a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    let mut out = [0; N];
    let mut borrow = false;
    for i in 0..N {
        (out[i], borrow) = a[i].borrowing_sub(b[i], borrow);
    }
    out
}

/// a·b modulo 2^192.
fn times(a: &[u64; 2], b: &[u64; 3]) -> Signed {
    let mut out = [0; 3];
    for i in 0..2 {
        let mut carry = 0;
        for j in 0..3 - i {
            (out[i + j], carry) = a[i].carrying_mul_add(b[j], out[i + j], carry);
        }
    }
    out
}

/// round(a·b / 2^384). The callers' b is below 2^256·A2/n, so the result is below 2^128.
fn times_shifted(a: &Words, b: &Words) -> [u64; 2] {
    let mut wide = [0; 8];
    for i in 0..4 {
        let mut carry = 0;
        for j in 0..4 {
            (wide[i + j], carry) = a[i].carrying_mul_add(b[j], wide[i + j], carry);
        }
        wide[i + 4] = carry;
    }
    let (low, carry) = wide[6].overflowing_add(wide[5] >> 63);
    let (high, overflow) = wide[7].overflowing_add(u64::from(carry));
    debug_assert!(!overflow, "a quotient exceeds 128 bits");
    [low, high]
}

/// a modulo n. One subtraction is enough, since 2^256 < 2·n.
pub(super) fn reduced(a: &Words) -> Words {
    if less(a, &N) { *a } else { minus(a, &N) }
}

/// -a modulo n, for a < n.
pub(super) fn negated(a: &Words) -> Words {
    debug_assert!(less(a, &N), "`negated` needs a reduced number");
    if *a == [0; 4] { *a } else { minus(&N, a) }
}

/// The split of k < n.
pub(super) fn split(k: &Words) -> Split {
    debug_assert!(less(k, &N), "`split` needs a reduced number");
    let (c1, c2) = (times_shifted(k, &A1_OVER_N), times_shifted(k, &B1_OVER_N));
    let extended = |x: [u64; 2]| [x[0], x[1], 0];
    // The exact results are below 2^128 in absolute value, so arithmetic modulo 2^192 preserves them and their signs.
    let plain = minus(&minus(&[k[0], k[1], k[2]], &times(&c1, &extended(A1))), &times(&c2, &A2));
    let lambda = minus(&times(&c1, &extended(B1)), &times(&c2, &extended(A1)));
    debug_assert!(is_129_bits(&plain) && is_129_bits(&lambda), "half of a split is too long");
    Split { plain, lambda }
}

/// Whether -2^128 <= a < 2^128.
fn is_129_bits(a: &Signed) -> bool {
    a[2] == 0 || a[2] == u64::MAX
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Natural, Random, cases, edge_words, field_prime, group_order};
    use super::*;

    /// λ, for which λ·(x, y) = (β·x, y) (SEC 2; "Guide to Elliptic Curve Cryptography", example 3.73).
    fn lambda() -> Natural {
        Natural::from_hex("5363AD4CC05C30E0A5261C028812645A122E22EA20816678DF02967C1B23BD72")
    }

    /// |a|, and whether a is negative.
    fn magnitude(a: &Signed) -> (Natural, bool) {
        if a[2] == 0 {
            (Natural::from_words(a), false)
        } else {
            (Natural::power_of_two(192).minus(&Natural::from_words(a)), true)
        }
    }

    fn inputs(random: usize) -> impl Iterator<Item = Words> {
        let edges = edge_words();
        let mut generator = Random(5);
        edges.clone().into_iter().chain((0..random).map(move |_| generator.words(&edges)))
    }

    #[test]
    fn constants_equal_their_definitions() {
        assert_eq!((N, P), (group_order().words(), field_prime().words()));
        let (a1, b1, a2) = (Natural::from_words(&A1), Natural::from_words(&B1), Natural::from_words(&A2));
        // (A1, -B1) and (A2, A1) are in the lattice, and their determinant is n.
        let multiple = b1.times(&lambda());
        assert_eq!(a1.modulo(&group_order()), multiple.modulo(&group_order()));
        assert_eq!(a2.plus(&a1.times(&lambda())).modulo(&group_order()), Natural::from_u64(0));
        assert_eq!(a1.times(&a1).plus(&a2.times(&b1)), group_order());
        for (factor, numerator) in [(A1_OVER_N, a1), (B1_OVER_N, b1)] {
            // round(x/n) is the integer f with |f·n - x| <= n/2.
            let (product, exact) =
                (Natural::from_words(&factor).times(&group_order()), numerator.times(&Natural::power_of_two(384)));
            let error = if product > exact { product.minus(&exact) } else { exact.minus(&product) };
            assert!(error.plus(&error) <= group_order(), "a quotient is not rounded");
        }
    }

    #[test]
    fn a_split_adds_up_to_the_number_and_its_halves_are_short() {
        let half_bound = Natural::power_of_two(128);
        for a in inputs(cases(2_000)) {
            let k = reduced(&a);
            assert_eq!(Natural::from_words(&k), Natural::from_words(&a).modulo(&group_order()), "{a:x?} modulo n");
            let split = split(&k);
            let ((plain, minus_plain), (scaled, minus_scaled)) = (magnitude(&split.plain), magnitude(&split.lambda));
            assert!(plain < half_bound && scaled < half_bound, "a half of {k:x?} is too long");
            let signed = |x: Natural, minus: bool| {
                let x = x.modulo(&group_order());
                if minus { group_order().minus(&x) } else { x }
            };
            let sum =
                signed(plain, minus_plain).plus(&signed(scaled.times(&lambda()), minus_scaled)).modulo(&group_order());
            assert_eq!(sum, Natural::from_words(&k), "the split of {k:x?}");
        }
    }

    #[test]
    fn a_number_and_its_negative_add_up_to_zero() {
        for a in inputs(cases(2_000)) {
            let k = reduced(&a);
            let sum = Natural::from_words(&k).plus(&Natural::from_words(&negated(&k)));
            assert_eq!(sum.modulo(&group_order()), Natural::from_u64(0), "{k:x?}");
            assert!(less(&negated(&k), &N), "the negative of {k:x?} is not reduced");
        }
    }

    #[test]
    fn comparison_agrees_with_that_of_naturals() {
        let edges = edge_words();
        for a in &edges {
            for b in &edges {
                assert_eq!(less(a, b), Natural::from_words(a) < Natural::from_words(b), "{a:x?} < {b:x?}");
            }
        }
    }

    #[test]
    fn bytes_are_read_most_significant_first() {
        let bytes = std::array::from_fn(|i| i as u8);
        assert_eq!(
            words(&bytes),
            [0x1819_1a1b_1c1d_1e1f, 0x1011_1213_1415_1617, 0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607]
        );
    }
}
