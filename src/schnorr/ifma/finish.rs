//! From the sum s·G - e·P in Jacobian coordinates to verdicts, with one inversion for many groups.
//!
//! It must never accept or reject a lane whose sum has Z = 0.

use super::super::item::Verdict;
use super::field::Fe;
use super::groups::{Fes, Mask, mul, select, square};
use super::point::Jacobian;
use super::power::inverse;

/// s·G - e·P of 8·N signatures, and what else decides the verdicts.
#[derive(Clone, Copy)]
pub(super) struct Sums<const N: usize> {
    pub(super) point: Jacobian<N>,
    /// The signature's r, which the x coordinate of the sum must equal.
    pub(super) r: Fes<N>,
    /// Lanes that BIP-340 rejects whatever the sum: r ≥ p, s ≥ n, or the key is not the x coordinate of a point.
    pub(super) rejected: Mask<N>,
    /// Lanes that the formulas do not cover.
    pub(super) undecided: Mask<N>,
}

/// Replaces each element by its inverse. No element of any lane may be zero.
///
/// Montgomery's trick: one inversion and three multiplications for each element.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn invert_all<const N: usize>(elements: &mut [Fes<N>]) {
    let mut products = Vec::with_capacity(elements.len());
    let mut product = [Fe::one(); N];
    for element in &*elements {
        products.push(product);
        product = mul(&product, element);
    }
    let mut rest = inverse(&product);
    for (element, before) in elements.iter_mut().zip(&products).rev() {
        let own = mul(&rest, before);
        rest = mul(&rest, element);
        *element = own;
    }
}

/// Writes the verdict of lane l of group g of sum i to `verdicts[(i·N + g)·8 + l]`; lanes beyond the slice are padding.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn finish<const N: usize>(sums: &[Sums<N>], verdicts: &mut [Verdict]) {
    let infinite: Vec<Mask<N>> =
        sums.iter().map(|sum| Mask(std::array::from_fn(|g| sum.point.z[g].is_zero()))).collect();
    let mut inverses: Vec<Fes<N>> =
        sums.iter().zip(&infinite).map(|(sum, mask)| select(&sum.point.z, &[Fe::one(); N], *mask)).collect();
    invert_all(&mut inverses);
    for (i, (sum, inverse)) in sums.iter().zip(&inverses).enumerate() {
        let squared = square(inverse);
        let x = mul(&sum.point.x, &squared);
        let y = mul(&sum.point.y, &mul(&squared, inverse));
        let matches = Mask(std::array::from_fn(|g| x[g].equals(&sum.r[g]) & !y[g].is_odd()));
        let accepted = matches.and(sum.rejected.not());
        let undecided = sum.undecided.or(infinite[i]).and(sum.rejected.not());
        for g in 0..N {
            let from = (8 * (i * N + g)).min(verdicts.len());
            for (lane, verdict) in verdicts[from..].iter_mut().take(8).enumerate() {
                *verdict = match (undecided.0[g] >> lane & 1, accepted.0[g] >> lane & 1) {
                    (1, _) => Verdict::Undecided,
                    (_, 1) => Verdict::Accept,
                    _ => Verdict::Reject,
                };
            }
        }
    }
}
