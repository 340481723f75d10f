//! Up to which arrival number every other node has taken what this one published: from there it goes on when a stream
//! is lost.
//!
//! Pure, and bounded: a few of the pairs of numbers are kept, and what lies between them counts as not taken.

use std::collections::VecDeque;

use crate::store::Seq;

/// Pairs that are kept.
const MAX_PAIRS: usize = 1024;

/// A node that stays away must not make the others publish everything again: no more than this many.
pub const MOST_AGAIN: u64 = 1_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Watermark {
    /// Numbers of the stream, and the arrival numbers up to which everything was published by then; both ascending.
    pairs: VecDeque<(u64, Seq)>,
    /// How far apart the arrival numbers are at least.
    step: u64,
}

impl Watermark {
    /// Everything up to `published` is in the stream up to `number`.
    pub fn note(&mut self, number: u64, published: Seq) {
        match self.pairs.back() {
            None => self.step = 1,
            Some((last, seq)) if *last >= number || published.0 < seq.0 + self.step => return,
            Some(_) => {}
        }
        if self.pairs.len() >= MAX_PAIRS {
            self.step *= 2;
            let mut keep = true;
            self.pairs.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.pairs.push_back((number, published));
    }

    /// Every node has taken the stream up to `floor`: up to which arrival number that is, if it is known.
    pub fn up_to(&mut self, floor: u64) -> Option<Seq> {
        let taken = self.pairs.partition_point(|(number, _)| *number <= floor);
        self.pairs.drain(..taken).next_back().map(|(_, seq)| seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_node_has_taken_is_settled_and_a_bounded_number_of_pairs_is_kept() {
        let mut settled = Watermark::default();
        settled.note(10, Seq(1));
        settled.note(12, Seq(3));
        settled.note(11, Seq(4));
        assert_eq!(
            [9, 10, 11, 12, 13].map(|floor| settled.up_to(floor)),
            [None, Some(Seq(1)), None, Some(Seq(3)), None]
        );
        for n in 0..10_000 {
            settled.note(100 + n, Seq(n));
            assert!(settled.pairs.len() <= MAX_PAIRS);
        }
        let half = settled.up_to(100 + 5_000).expect("some pair");
        assert!(half <= Seq(5_000) && half > Seq(4_900), "{half:?}");
        let last = settled.up_to(100 + 9_999).expect("some pair");
        assert!(last > Seq(9_900), "{last:?}");
        settled.note(20_000, Seq(10_001));
        assert_eq!(settled.up_to(20_000), Some(Seq(10_001)), "each one again once nothing waits");
    }
}
