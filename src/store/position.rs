//! Where a row stands in newest-first order, and the head of a range waiting to be merged.
//!
//! Every index that is walked by time ends its keys with the same 20 bytes, so one comparison orders rows of
//! all of them. Nothing here reads the database.

use super::Seq;
use crate::nostr::Timestamp;

/// The last 20 bytes of a time-ordered index key, as five big-endian words:
/// inverted `created_at` (6 bytes), id prefix (8), seq (6).
///
/// Ascending order is (created_at descending, id ascending), NIP-01's order; the seq only tells apart two ids
/// that share their first 8 bytes and their second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position([u32; 5]);

impl Position {
    /// How many bytes of a key it takes.
    pub const LEN: usize = 20;
    /// Before every row.
    pub const FIRST: Self = Self([0; 5]);

    /// Reads the end of an index key; `None` if the key is too short.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = key.last_chunk()?;
        let mut words = [0; 5];
        for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*four);
        }
        Some(Self(words))
    }

    /// The position of a record.
    pub fn of_event(created_at: Timestamp, id: &[u8; 32], seq: Seq) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[..6].copy_from_slice(&(!created_at.0).to_be_bytes()[2..]);
        bytes[6..14].copy_from_slice(&id[..8]);
        bytes[14..].copy_from_slice(&seq.0.to_be_bytes()[2..]);
        Self::of_key(&bytes).expect("20 bytes are enough")
    }

    /// Before every row created at `until` or earlier, after every later one.
    pub fn first_at(until: Timestamp) -> Self {
        Self::of_event(until.min(Timestamp::MAX), &[0; 32], Seq(0))
    }

    /// As it stands in a key.
    pub fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (four, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *four = word.to_be_bytes();
        }
        bytes
    }

    /// The position right after this one. There is always one: seq 2^48 - 1 is never reached.
    pub fn next(self) -> Self {
        let mut words = self.0;
        for word in words.iter_mut().rev() {
            let (sum, carried) = word.overflowing_add(1);
            *word = sum;
            if !carried {
                break;
            }
        }
        Self(words)
    }

    /// `created_at` of the row.
    pub fn created_at(self) -> Timestamp {
        let inverted = u64::from(self.0[0]) << 16 | u64::from(self.0[1] >> 16);
        Timestamp(Timestamp::MAX.0 - inverted)
    }

    /// The row's arrival number.
    pub fn seq(self) -> Seq {
        Seq(u64::from(self.0[3] & 0xffff) << 32 | u64::from(self.0[4]))
    }
}

/// The next row of one range.
///
/// It names its range by numbers, not by keys, so a parked scan of 300 authors and two kinds is 600 of these:
/// 19 KB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Head {
    /// Where the row stands; compared first.
    pub position: Position,
    /// Which filter of the query.
    pub filter: u16,
    /// Which kind, for indexes whose ranges have one.
    pub kind: u16,
    /// Which id, author or tag value of the filter.
    pub item: u32,
    /// Where this slice keeps the range's cursor or record, or [`Head::NO_SLOT`], or [`Head::LAST`].
    pub slot: u32,
}

impl Head {
    /// The slice keeps nothing for this range.
    pub const NO_SLOT: u32 = u32::MAX;
    /// The range has no further row, in this slice and later.
    pub const LAST: u32 = u32::MAX - 1;

    /// Before the slice's cursors and records are closed.
    pub fn forget_slot(&mut self) {
        if self.slot != Self::LAST {
            self.slot = Self::NO_SLOT;
        }
    }
}

const _: () = assert!(size_of::<Head>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_its_bytes() {
        let position = Position::of_event(Timestamp(1_700_000_000), &[7; 32], Seq(0x1234_5678_9abc));
        assert_eq!(position.created_at(), Timestamp(1_700_000_000));
        assert_eq!(position.seq(), Seq(0x1234_5678_9abc));
        assert_eq!(Position::of_key(&position.bytes()), Some(position));
        assert_eq!(Position::of_key(&[0; 19]), None);
        assert_eq!(Position::of_event(Timestamp::MAX, &[0; 32], Seq(0)), Position::FIRST);
    }

    #[test]
    fn order_is_newest_first_then_lowest_id_then_seq() {
        let at = |time, id: u8, seq| Position::of_event(Timestamp(time), &[id; 32], Seq(seq));
        let sorted = [at(1 << 40, 9, 9), at(70_000, 1, 5), at(70_000, 2, 3), at(70_000, 2, 4), at(0, 0, 0)];
        assert!(sorted.is_sorted());
        assert!(sorted.iter().all(|position| position.next() > *position));
        assert!(sorted[2].next() <= sorted[3]);
        let carry = at(5, 0xff, 0xffff_ffff);
        assert_eq!(carry.next(), at(5, 0xff, 0x1_0000_0000));
        assert!(
            Position::first_at(Timestamp(70_000)) <= sorted[1] && Position::first_at(Timestamp(70_000)) > sorted[0]
        );
    }
}
