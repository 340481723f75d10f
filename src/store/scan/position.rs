//! Where a row stands in newest-first order, and the head of a range waiting to be merged.
//!
//! Every index that is walked by time ends its keys with the same 14 bytes, so one comparison orders rows of
//! all of them. Nothing here reads the database.

use crate::nostr::Timestamp;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{ROW, Row, SEQ, TIE};

/// The last 14 bytes of a time-ordered index key, as one big-endian number:
/// inverted `created_at` (6 bytes), id prefix (3), seq (5).
///
/// Ascending order is (created_at descending, id ascending), NIP-01's order, but for two events of the same
/// second whose ids begin alike: they [tie](Position::ties), and stand in the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::store) struct Position(u128);

const _: () = assert!(Position::LEN == 14);

impl Position {
    /// How many bytes of a key it takes.
    pub const LEN: usize = ROW;
    /// Before every row.
    pub const FIRST: Self = Self(0);
    /// Bits of the seq.
    const SEQ_BITS: usize = 8 * SEQ;
    /// Bits behind the time.
    const TIME_SHIFT: usize = 8 * (TIE + SEQ);

    /// Reads the end of an index key; `None` if the key is too short.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        key.last_chunk::<{ Self::LEN }>().map(Self::of_bytes)
    }

    fn of_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut padded = [0; 16];
        padded[16 - Self::LEN..].copy_from_slice(bytes);
        Self(u128::from_be_bytes(padded))
    }

    /// The position of a record.
    pub fn of_event(created_at: Timestamp, id: &[u8; 32], seq: Seq) -> Self {
        Self::of_bytes(&Row::of(created_at, id, seq).to_bytes())
    }

    /// Before every row created at `until` or earlier, after every later one.
    pub fn first_at(until: Timestamp) -> Self {
        Self::of_event(until, &[0; 32], Seq(0))
    }

    /// As it stands in a key.
    pub fn bytes(self) -> [u8; Self::LEN] {
        *self.0.to_be_bytes().last_chunk().expect("16 bytes are more than 14")
    }

    /// The position right after this one. There is always one: seq 2^40 - 1 is never reached.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// `created_at` of the row.
    pub fn created_at(self) -> Timestamp {
        Timestamp(Timestamp::MAX.0 - (self.0 >> Self::TIME_SHIFT) as u64)
    }

    /// The row's arrival number.
    pub fn seq(self) -> Seq {
        Seq(self.0 as u64 & Seq::MAX.0)
    }

    /// Whether nothing but the records tells which of the two events comes first, if they are two.
    pub fn ties(self, other: Self) -> bool {
        self.0 >> Self::SEQ_BITS == other.0 >> Self::SEQ_BITS
    }
}

/// The most rows that are sorted by their ids together, where the keys do not tell their order (INV-17). Rows behind
/// them follow, sorted in the same way.
///
/// Two ids of one second begin alike by chance once in 2^24 pairs, or because somebody made them so.
pub(in crate::store) const MAX_TIED: usize = 64;

/// The next row of one range.
///
/// It names its range by numbers, not by keys, so a parked scan of 300 authors and two kinds is 600 of these:
/// 19 KB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::store) struct Head {
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
        let position = Position::of_event(Timestamp(1_700_000_000), &[7; 32], Seq(0x12_3456_789a));
        assert_eq!(position.created_at(), Timestamp(1_700_000_000));
        assert_eq!(position.seq(), Seq(0x12_3456_789a));
        assert_eq!(Position::of_key(&position.bytes()), Some(position));
        assert_eq!(Position::of_key(&[0; 13]), None);
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
        assert_eq!([sorted[2].ties(sorted[3]), sorted[1].ties(sorted[2])], [true, false]);
        assert!(
            Position::first_at(Timestamp(70_000)) <= sorted[1] && Position::first_at(Timestamp(70_000)) > sorted[0]
        );
    }
}
