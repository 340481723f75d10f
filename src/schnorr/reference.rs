//! Slow integers for tests: schoolbook arithmetic on 32-bit digits, and division bit by bit. They share no code with
//! what they check.

use std::cmp::Ordering;

/// A natural number: little-endian 32-bit digits without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Natural(Vec<u32>);

impl Natural {
    fn trimmed(mut digits: Vec<u32>) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Self(digits)
    }

    pub(super) fn from_u64(x: u64) -> Self {
        Self::from_words(&[x])
    }

    /// From little-endian 64-bit words.
    pub(super) fn from_words(words: &[u64]) -> Self {
        Self::trimmed(words.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]).collect())
    }

    pub(super) fn from_hex(hex: &str) -> Self {
        hex.chars().fold(Self(Vec::new()), |sum, digit| {
            let digit = digit.to_digit(16).expect("a hex digit");
            sum.times(&Self::from_u64(16)).plus(&Self::from_u64(u64::from(digit)))
        })
    }

    pub(super) fn power_of_two(exponent: usize) -> Self {
        let mut digits = vec![0; exponent / 32 + 1];
        digits[exponent / 32] = 1 << (exponent % 32);
        Self(digits)
    }

    /// The four little-endian words of a number below 2^256.
    pub(super) fn words(&self) -> [u64; 4] {
        let digit = |i: usize| u64::from(self.0.get(i).copied().unwrap_or(0));
        assert!(self.0.len() <= 8, "the number has more than 256 bits");
        std::array::from_fn(|i| digit(2 * i) | digit(2 * i + 1) << 32)
    }

    pub(super) fn is_odd(&self) -> bool {
        self.0.first().is_some_and(|digit| digit & 1 == 1)
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let digits = (0..=self.0.len().max(other.0.len())).map(|i| {
            let sum = carry + u64::from(*self.0.get(i).unwrap_or(&0)) + u64::from(*other.0.get(i).unwrap_or(&0));
            carry = sum >> 32;
            sum as u32
        });
        Self::trimmed(digits.collect())
    }

    /// self - other, for other <= self.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut borrow = 0;
        let digits = (0..self.0.len()).map(|i| {
            let difference = i64::from(self.0[i]) - i64::from(*other.0.get(i).unwrap_or(&0)) - borrow;
            borrow = i64::from(difference < 0);
            difference as u32
        });
        let digits = Self::trimmed(digits.collect());
        assert_eq!(borrow, 0, "a difference is negative");
        digits
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0u32; self.0.len() + other.0.len()];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (j, b) in other.0.iter().enumerate() {
                let sum = u64::from(digits[i + j]) + u64::from(*a) * u64::from(*b) + carry;
                digits[i + j] = sum as u32;
                carry = sum >> 32;
            }
            digits[i + other.0.len()] = carry as u32;
        }
        Self::trimmed(digits)
    }

    /// The remainder of division by `modulus`, from the top bit down: double the rest, add a bit, subtract if the rest
    /// is too large.
    pub(super) fn modulo(&self, modulus: &Self) -> Self {
        let mut rest = vec![0u32; modulus.0.len() + 1];
        let modulus: Vec<u32> = modulus.0.iter().copied().chain([0]).collect();
        for i in (0..32 * self.0.len()).rev() {
            let mut carry = self.0[i / 32] >> (i % 32) & 1;
            for digit in &mut rest {
                (*digit, carry) = (*digit << 1 | carry, *digit >> 31);
            }
            if rest.iter().rev().ge(modulus.iter().rev()) {
                let mut borrow = false;
                for (digit, other) in rest.iter_mut().zip(&modulus) {
                    let difference = i64::from(*digit) - i64::from(*other) - i64::from(borrow);
                    (*digit, borrow) = (difference as u32, difference < 0);
                }
            }
        }
        Self::trimmed(rest)
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

/// p = 2^256 - 2^32 - 977.
pub(super) fn field_prime() -> Natural {
    Natural::power_of_two(256).minus(&Natural::power_of_two(32)).minus(&Natural::from_u64(977))
}

/// n (SEC 2, 2.4.1).
pub(super) fn group_order() -> Natural {
    Natural::from_hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141")
}

/// 256-bit integers near the limits of carries and reductions.
pub(super) fn edge_words() -> Vec<[u64; 4]> {
    let one = Natural::from_u64(1);
    let mut centres = vec![field_prime(), group_order(), Natural::power_of_two(256).minus(&one)];
    for bit in [31, 32, 33, 51, 52, 63, 64, 103, 104, 127, 128, 129, 155, 156, 191, 192, 207, 208, 254, 255] {
        centres.push(Natural::power_of_two(bit));
        centres.push(field_prime().minus(&Natural::power_of_two(bit)));
    }
    let mut edges = vec![[0; 4], [1, 0, 0, 0], [2, 0, 0, 0], [7, 0, 0, 0], [u64::MAX, 0, u64::MAX, 0]];
    for centre in centres {
        edges.push(centre.minus(&one).words());
        edges.push(centre.words());
        if centre.plus(&one) < Natural::power_of_two(256) {
            edges.push(centre.plus(&one).words());
        }
    }
    edges
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform words, one of the edges, or long runs of equal bits.
    pub(super) fn words(&mut self, edges: &[[u64; 4]]) -> [u64; 4] {
        match self.next() % 8 {
            0 => edges[self.next() as usize % edges.len()],
            1 => std::array::from_fn(|_| if self.next() & 1 == 0 { 0 } else { u64::MAX }),
            _ => std::array::from_fn(|_| self.next()),
        }
    }
}

/// How many random cases a test runs: `WEIR_SCHNORR_CASES`, or else a number that takes about a second in a debug
/// build.
pub(super) fn cases(default: usize) -> usize {
    std::env::var("WEIR_SCHNORR_CASES").map_or(default, |count| count.parse().expect("WEIR_SCHNORR_CASES is a number"))
}
