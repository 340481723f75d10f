//! Seeded randomness and the skewed distributions of the corpus.
//!
//! It must never depend on the platform's `libm` or on a generator whose stream may change: the same seed gives the
//! same bytes on every machine and in every later version. That makes two runs comparable.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A seeded generator: xoshiro256++, whose stream is fixed by its reference implementation.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// A generator whose whole output is a function of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// The next 64 uniformly distributed bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound` (0 if `bound` is 0), by multiplication: the bias is below 2⁻³² for the bounds used here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in `low..=high`; `low` must not exceed `high`.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: usize) -> bool {
        self.below(1000) < permille
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.bits().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// An empirical distribution: `(permille, value)` points, ascending, joined by straight lines.
#[derive(Clone, Copy, Debug)]
pub struct Quantiles(pub &'static [(u32, u32)]);

impl Quantiles {
    /// One value, by inverse transform in integers.
    pub fn sample(&self, random: &mut Random) -> usize {
        let at = random.below(1_000_000) as u64;
        let mut previous = self.0[0];
        for &point in self.0 {
            let (low, high) = (u64::from(previous.0) * 1000, u64::from(point.0) * 1000);
            if at < high {
                let (from, to) = (u64::from(previous.1), u64::from(point.1));
                return (from + (to - from) * (at - low) / (high - low)) as usize;
            }
            previous = point;
        }
        previous.1 as usize
    }
}

/// Zipf's law with exponent 1 and an offset: rank `r` has the weight `1 / (r + 1 + offset)`.
#[derive(Clone, Debug)]
pub struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    /// A distribution over `ranks` (at least 1) ranks; a larger `offset` flattens the head.
    pub fn new(ranks: usize, offset: usize) -> Self {
        let mut sum = 0u64;
        let weight = |rank: usize| (1u64 << 40) / (rank + 1 + offset) as u64;
        let cumulative = (0..ranks.max(1)).map(|rank| {
            sum += weight(rank);
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    /// One rank, 0 being the most frequent.
    pub fn sample(&self, random: &mut Random) -> usize {
        let total = *self.cumulative.last().expect("at least one rank");
        let at = random.below(total as usize) as u64;
        self.cumulative.partition_point(|&sum| sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_of_a_seed_never_change() {
        let mut random = Random::new(1);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [14971601782005023387, 13781649495232077965, 1847458086238483744]);
    }

    #[test]
    fn quantiles_are_hit_at_their_points() {
        let table = Quantiles(&[(0, 0), (500, 100), (1000, 300)]);
        let mut random = Random::new(7);
        let mut values: Vec<usize> = (0..20_000).map(|_| table.sample(&mut random)).collect();
        values.sort_unstable();
        assert!((95..=105).contains(&values[10_000]), "median {}", values[10_000]);
        assert!((195..=205).contains(&values[15_000]), "p75 {}", values[15_000]);
    }

    #[test]
    fn zipf_gives_the_first_rank_twice_the_second() {
        let zipf = Zipf::new(1000, 0);
        let mut random = Random::new(3);
        let mut counts = [0usize; 1000];
        for _ in 0..200_000 {
            counts[zipf.sample(&mut random)] += 1;
        }
        let ratio = counts[0] as f64 / counts[1] as f64;
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
    }
}
