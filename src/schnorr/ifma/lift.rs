//! From an x coordinate to the point: BIP-340's `lift_x`.
//!
//! It must never accept a key that is not the x coordinate of a point.
//!
//! Unlike libsecp256k1, it has no cache of authors. With four groups side by side a root costs 0.2 µs a key, a
//! fourteenth of what it costs there, and a look-up of 32 bytes in a table that all threads share would cost most of
//! that.

use super::field::Fe;
use super::groups::{Fes, blank, each, square};
use super::lanes::LaneMask;
use super::power::square_root_candidate;

/// How many groups take their roots side by side. A root is one long chain of squarings, so two groups do not hide its
/// latency.
const GROUPS: usize = 4;

/// The even y of eight keys.
#[derive(Clone, Copy)]
pub(super) struct Lifted {
    pub(super) y: Fe,
    /// Lanes whose x is that of a point. In the others, y is meaningless.
    pub(super) exists: LaneMask,
}

/// The y for each group of x coordinates below p.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn lift_all(x: &[Fe]) -> Vec<Lifted> {
    let mut out = Vec::with_capacity(x.len());
    for groups in x.chunks(GROUPS) {
        match *groups {
            [a] => out.extend(lift(&[a])),
            [a, b] => out.extend(lift(&[a, b])),
            _ => {
                let padded: [Fe; GROUPS] = std::array::from_fn(|g| groups[g.min(groups.len() - 1)]);
                out.extend(&lift(&padded)[..groups.len()]);
            }
        }
    }
    out
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn lift<const N: usize>(x: &Fes<N>) -> [Lifted; N] {
    let mut cubic = blank::<N>();
    each!(N, cubic, |g| {
        let seven = Fe::splat([7, 0, 0, 0, 0]);
        x[g].square().product(&x[g]).reduce().plus(seven.loose()).carry()
    });
    let root = square_root_candidate(&cubic);
    let squared = square(&root);
    std::array::from_fn(|g| Lifted {
        y: root[g].select(&root[g].negated().carry(), root[g].is_odd()),
        exists: squared[g].equals(&cubic[g]),
    })
}
