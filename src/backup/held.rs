//! The set of arrival numbers that a state holds: a bit set in memory, run lengths on disk.
//!
//! On disk, starting from number 1, lengths of runs of absent and of held numbers alternate, each as LEB128. If little
//! was removed, the set takes a few bytes; in the worst case it takes a few bytes per event.

use crate::nostr::record::{put_varint, take_varint_of};
use crate::store::Seq;

/// A set of arrival numbers, one bit for each number up to the largest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    words: Vec<u64>,
}

impl Held {
    /// Adds a number.
    pub fn insert(&mut self, seq: Seq) {
        let word = (seq.0 / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (seq.0 % 64);
    }

    /// Whether it contains the number.
    pub fn contains(&self, seq: Seq) -> bool {
        self.words.get((seq.0 / 64) as usize).is_some_and(|word| word >> (seq.0 % 64) & 1 == 1)
    }

    /// Adds all numbers of another set.
    pub fn join(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own |= other);
    }

    /// Whether `other` contains every number of this set.
    pub fn is_within(&self, other: &Self) -> bool {
        let others = other.words.iter().chain(std::iter::repeat(&0));
        self.words.iter().zip(others).all(|(own, other)| own & !other == 0)
    }

    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Encodes the set for the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (mut is_held, mut run) = (false, 0_u64);
        for seq in 1..self.words.len() as u64 * 64 {
            if self.contains(Seq(seq)) != is_held {
                put_varint(run, &mut bytes);
                (is_held, run) = (!is_held, 0);
            }
            run += 1;
        }
        if is_held {
            put_varint(run, &mut bytes);
        }
        bytes
    }

    /// Decodes the output of [`Held::to_bytes`]; `None` if it is malformed or holds a number past `last`.
    pub fn read(mut bytes: &[u8], last: Seq) -> Option<Self> {
        let mut held = Self::default();
        let (mut next, mut is_held) = (1_u64, false);
        while !bytes.is_empty() {
            let run = take_varint_of::<7>(&mut bytes)?;
            let end = next.checked_add(run).filter(|end| *end <= last.0 + 1)?;
            if is_held {
                (next..end).for_each(|seq| held.insert(Seq(seq)));
            }
            (next, is_held) = (end, !is_held);
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_encoding_and_decoding() {
        for seqs in [vec![], vec![1], vec![64], vec![1, 2, 3, 63, 64, 65, 127, 128, 1000], (1..=500).collect()] {
            let mut held = Held::default();
            seqs.iter().for_each(|seq| held.insert(Seq(*seq)));
            let last = Seq(seqs.last().copied().unwrap_or(0));
            let read = Held::read(&held.to_bytes(), last).expect("it is well formed");
            assert_eq!((1..1100).filter(|seq| read.contains(Seq(*seq))).collect::<Vec<_>>(), seqs);
            assert_eq!((read.len(), read), (seqs.len() as u64, held));
        }
    }

    fn set(seqs: &[u64]) -> Held {
        let mut held = Held::default();
        seqs.iter().for_each(|seq| held.insert(Seq(*seq)));
        held
    }

    #[test]
    fn sets_of_different_lengths_are_joined_and_compared() {
        let (short, long) = (set(&[3]), set(&[5, 700]));
        let mut both = short.clone();
        both.join(&long);
        assert_eq!(both, set(&[3, 5, 700]));
        let mut same = long.clone();
        same.join(&short);
        assert_eq!(same, both);
        let within = [short.is_within(&both), long.is_within(&both), both.is_within(&long), long.is_within(&short)];
        assert_eq!(within, [true, true, false, false]);
    }

    #[test]
    fn numbers_past_the_last_are_refused() {
        let mut held = Held::default();
        held.insert(Seq(10));
        assert_eq!(Held::read(&held.to_bytes(), Seq(9)), None);
        assert_eq!(Held::read(&[0xff; 9], Seq::MAX), None);
        assert_eq!(Held::read(&[0x80], Seq::MAX), None);
    }
}
