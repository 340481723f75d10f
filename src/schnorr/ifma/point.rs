//! Points of secp256k1, y² = x³ + 7, in Jacobian coordinates: (X, Y, Z) stands for the affine point (X/Z², Y/Z³).
//!
//! It must never decide what an exceptional addition means. The formulas are incomplete: adding a point to itself or to
//! its negative yields Z = 0, and from then on every doubling (Z' = 2YZ) and every addition (Z' = Z·H) keeps Z = 0.
//! Nothing else makes Z zero, because the curve has no point of even order. So Z = 0 at the end means that the lane had
//! an exceptional case or that its sum is the point at infinity; the caller must decide it in another way.
//!
//! The formulas are the usual ones for a = 0 (Hankerson, Menezes, Vanstone, "Guide to Elliptic Curve Cryptography",
//! 3.2.2; Cohen, Miyaji, Ono 1998; co-Z: Meloni 2007, Longa and Miri 2008), arranged so that
//! - a subtraction shares the carry of a product: `Loose` terms are summed first and carried once;
//! - Y', a sum of two products, is reduced once ([`Wide::plus_product`]);
//! - each step is computed for all groups before the next step (see `groups`).
//!
//! [`Wide::plus_product`]: super::field::Wide::plus_product

use super::field::Fe;
use super::groups::{Fes, Mask, blank, each, select};
use super::lanes::align_frame;

/// 8·N points. Z = 0 marks a lane without a usable point.
#[derive(Clone, Copy)]
pub(super) struct Jacobian<const N: usize> {
    pub(super) x: Fes<N>,
    pub(super) y: Fes<N>,
    pub(super) z: Fes<N>,
}

/// 8·N affine points. They may lie on an isomorphic curve y² = x³ + 7·c⁶ (see `table::Multiples`): no formula here uses
/// the constant 7.
#[derive(Clone, Copy)]
pub(super) struct Affine<const N: usize> {
    pub(super) x: Fes<N>,
    pub(super) y: Fes<N>,
}

/// What each lane's digit means for the row that it selects.
#[derive(Clone, Copy)]
pub(super) struct Signs<const N: usize> {
    /// Lanes that subtract the row.
    pub(super) negative: Mask<N>,
    /// Lanes that add or subtract anything.
    pub(super) nonzero: Mask<N>,
}

impl<const N: usize> Jacobian<N> {
    /// Z = 0 in every lane.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn none() -> Self {
        Self { x: [Fe::one(); N], y: [Fe::one(); N], z: [Fe::zero(); N] }
    }

    /// Replaces the points by their doubles: 3 multiplications, 4 squarings.
    ///
    /// With M = 3X² and S = -2Y²: X' = M² + 4XS, Y' = -(M(X' + 2XS) + 2S²), Z' = 2YZ.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline(never)] // With one copy of each formula, all of them fit in the first-level instruction cache.
    pub(super) fn double(&mut self) {
        align_frame();
        let [mut m, mut s, mut u] = [blank::<N>(); 3];
        each!(N, m, |g| {
            let xx = self.x[g].squared().reduce();
            xx.doubled().plus(xx).carry()
        });
        each!(N, s, |g| self.y[g].squared().reduce().doubled().negated::<9>().carry());
        each!(N, self.z, |g| self.y[g].product(&self.z[g]).reduce().doubled().carry());
        each!(N, (self.x, u), |g| {
            let xs2 = self.x[g].product(&s[g]).reduce().doubled();
            let x = m[g].squared().reduce().plus(xs2.doubled());
            (x.carry(), x.plus(xs2).carry())
        });
        each!(N, self.y, |g| s[g].squared().doubled().plus_product(&m[g], &u[g]).reduce().negated::<9>().carry());
    }

    /// Adds `other`, or its negative, in some lanes: 8 multiplications, 3 squarings, and one more if scaled.
    ///
    /// If `scale` is c, `self` is on the curve of (x·c², y·c³) for the points (x, y) of the curve of `other`, so that
    /// `other` sees `self` with Zc = Z·c. Otherwise Zc = Z. Then H = x₂·Zc² - X, R = ±y₂·Zc³ - Y, V = X·H², X' = R² -
    /// H³ - 2V, Y' = -(R(X' - V) + Y·H³), Z' = Z·H.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline(never)] // As for `double`.
    pub(super) fn add(&mut self, other: &Affine<N>, signs: &Signs<N>, scale: Option<&Fes<N>>) {
        align_frame();
        let [mut scaled, mut zz, mut h, mut zzz, mut r] = [blank::<N>(); 5];
        let [mut hh, mut hhh, mut u] = [blank::<N>(); 3];
        let zc = match scale {
            Some(c) => {
                each!(N, scaled, |g| self.z[g].mul(&c[g]));
                &scaled
            }
            None => &self.z,
        };
        each!(N, zz, |g| zc[g].square());
        each!(N, h, |g| other.x[g].product(&zz[g]).reduce().plus(self.x[g].negated()).carry());
        each!(N, zzz, |g| zz[g].mul(&zc[g]));
        each!(N, hh, |g| h[g].square());
        each!(N, r, |g| {
            let s = other.y[g].product(&zzz[g]).reduce().negated_where::<8>(signs.negative.0[g]);
            s.plus(self.y[g].negated()).carry()
        });
        each!(N, hhh, |g| hh[g].mul(&h[g]));
        let nonzero = signs.nonzero.0;
        each!(N, self.z, |g| self.z[g].select(&self.z[g].mul(&h[g]), nonzero[g]));
        each!(N, (self.x, u), |g| {
            let minus_v = self.x[g].product(&hh[g]).reduce().negated::<8>();
            let x = r[g].squared().reduce().plus(hhh[g].negated()).plus(minus_v.doubled());
            (self.x[g].select(&x.carry(), nonzero[g]), x.plus(minus_v).carry())
        });
        each!(N, self.y, |g| {
            let minus_y = self.y[g].product(&hhh[g]).plus_product(&r[g], &u[g]).reduce();
            self.y[g].select(&minus_y.negated::<9>().carry(), nonzero[g])
        });
    }

    /// `self` in the lanes where `mask` is clear, `other` where it is set.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn select(&self, other: &Self, mask: Mask<N>) -> Self {
        Self {
            x: select(&self.x, &other.x, mask),
            y: select(&self.y, &other.y, mask),
            z: select(&self.z, &other.z, mask),
        }
    }
}

/// A point P and a multiple of it, both with the same Z, which is not stored.
pub(super) struct SameZ<const N: usize> {
    pub(super) base: Affine<N>,
    pub(super) multiple: Affine<N>,
}

impl<const N: usize> Affine<N> {
    /// (P, 2P) and the common Z, which is 2y: 1 multiplication, 4 squarings. The formulas of [`Jacobian::double`] for Z
    /// = 1; with S = 2y², P becomes (2xS, 2S²).
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn double_same_z(&self) -> (SameZ<N>, Fes<N>) {
        align_frame();
        let [mut m, mut s, mut u, mut z] = [blank::<N>(); 4];
        let mut base = Self { x: blank(), y: blank() };
        let mut multiple = Self { x: blank(), y: blank() };
        each!(N, m, |g| {
            let xx = self.x[g].squared().reduce();
            xx.doubled().plus(xx).carry()
        });
        each!(N, s, |g| self.y[g].squared().reduce().doubled().carry());
        each!(N, base.x, |g| self.x[g].product(&s[g]).reduce().doubled().carry());
        each!(N, base.y, |g| s[g].squared().doubled().reduce().carry());
        each!(N, multiple.x, |g| m[g].squared().reduce().plus(base.x[g].negated().doubled()).carry());
        each!(N, u, |g| base.x[g].loose().plus(multiple.x[g].negated()).carry());
        each!(N, multiple.y, |g| m[g].product(&u[g]).reduce().plus(base.y[g].negated()).carry());
        each!(N, z, |g| self.y[g].loose().doubled().carry());
        (SameZ { base, multiple }, z)
    }
}

impl<const N: usize> SameZ<N> {
    /// (P, jP) to (P, (j+1)P), and the factor by which the common Z grew: 4 multiplications, 2 squarings.
    ///
    /// With H = X_P - X_jP, D = Y_P - Y_jP, W = X_P·H², V = X_jP·H², A = Y_P·(W - V): P becomes (W, A) and the sum is
    /// (D² - W - V, D(W - X') - A), both with Z·H.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline(never)] // As for `double`.
    pub(super) fn step(&mut self, h: &mut Fes<N>) {
        align_frame();
        let [mut d, mut hh, mut v, mut u] = [blank::<N>(); 4];
        let (base, multiple) = (&mut self.base, &mut self.multiple);
        each!(N, (*h, d), |g| {
            (
                base.x[g].loose().plus(multiple.x[g].negated()).carry(),
                base.y[g].loose().plus(multiple.y[g].negated()).carry(),
            )
        });
        each!(N, hh, |g| h[g].square());
        each!(N, base.x, |g| base.x[g].mul(&hh[g]));
        each!(N, v, |g| multiple.x[g].mul(&hh[g]));
        each!(N, (multiple.x, u), |g| {
            let x = d[g].squared().reduce().plus(v[g].negated());
            (x.plus(base.x[g].negated()).carry(), x.negated::<8>().plus(base.x[g].loose().doubled()).carry())
        });
        each!(N, base.y, |g| {
            let w_less_v = base.x[g].loose().plus(v[g].negated()).carry();
            base.y[g].mul(&w_less_v)
        });
        each!(N, multiple.y, |g| d[g].product(&u[g]).reduce().plus(base.y[g].negated()).carry());
    }
}
