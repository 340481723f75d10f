//! The position of a row in newest-first order, and the head of a range that waits to be merged.
//!
//! Every time-ordered index ends its keys with the same 14 bytes, so one comparison orders the rows of all of them.
//! Nothing here reads the database.

use crate::nostr::Timestamp;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{ROW, Row, SEQ, TIE};

/// The last 14 bytes of a time-ordered index key, as one big-endian number:
/// inverted `created_at` (6 bytes), id prefix (3), seq (5).
///
/// Ascending order is (`created_at` descending, id ascending), NIP-01's order, except for two events of the same second
/// whose ids begin with the same bytes: they [tie](Position::ties) and are in the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::store) struct Position(u128);

const _: () = assert!(Position::LEN == 14);

impl Position {
    /// Bytes of a position in a key.
    pub const LEN: usize = ROW;
    /// Before every row.
    pub const FIRST: Self = Self(0);
    /// Bits of the seq.
    const SEQ_BITS: usize = 8 * SEQ;
    /// Bits after the time.
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

    /// The position before every row created at `until` or earlier, and after every later row.
    pub fn first_at(until: Timestamp) -> Self {
        Self::of_event(until, &[0; 32], Seq(0))
    }

    /// The bytes of the position in a key.
    pub fn bytes(self) -> [u8; Self::LEN] {
        *self.0.to_be_bytes().last_chunk().expect("16 bytes are more than 14")
    }

    /// The next position. It always exists: seq 2^40 - 1 is never reached.
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

    /// Whether only the records tell which of two different events comes first.
    pub fn ties(self, other: Self) -> bool {
        self.0 >> Self::SEQ_BITS == other.0 >> Self::SEQ_BITS
    }
}

/// The most rows that are sorted together by their ids when their keys tie (INV-17). Further rows of the tie follow,
/// sorted in the same way.
///
/// The ids of two events of one second tie by chance once in 2^24 pairs, so more than two only because somebody made
/// them tie. That takes 2^24 hashes for each event: two seconds of a core, two minutes for one event more than are
/// sorted. All an attacker gains is that their own events of one second are out of order. Every event still comes once,
/// and no other event moves unless it ties by chance.
///
/// Without the limit the order would be exact, but every query that comes to that second would read all of their events
/// before it could send the first: with a date some minutes ahead, all that ask for the newest notes. Now it is at most
/// this many records beyond a page, which take about 0.1 ms.
pub(in crate::store) const MAX_TIED: usize = 64;

/// The next row of one range.
///
/// It names its range by numbers, not by keys, so a paused scan of 300 authors and two kinds is 600 heads: 19 KB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::store) struct Head {
    /// The position of the row; compared first.
    pub position: Position,
    /// The number of the filter in the query.
    pub filter: u16,
    /// The kind, for indexes with one range per kind.
    pub kind: u16,
    /// The number of the id, author or tag value in the filter.
    pub item: u32,
    /// The slot in which this slice keeps the range's cursor or record, or [`Head::NO_SLOT`], [`Head::LAST`] or
    /// [`Head::CLOSED`].
    pub slot: u32,
}

impl Head {
    /// The slice keeps nothing for this range.
    pub const NO_SLOT: u32 = u32::MAX;
    /// The range has no further row, in this slice or a later one.
    pub const LAST: u32 = u32::MAX - 1;

    /// The range is not open yet. No row of it comes before the position, which is not a row's: its arrival number is
    /// zero.
    pub const CLOSED: u32 = u32::MAX - 2;

    /// Drops the slot, before the slice's cursors and records are closed.
    pub fn forget_slot(&mut self) {
        if self.slot < Self::CLOSED {
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
