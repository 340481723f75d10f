//! The set of arrival numbers that a state holds: lengths of runs, in memory as on disk.
//!
//! Starting from number 1, lengths of runs of absent and of held numbers alternate, each as LEB128. If little was
//! removed, the set takes a few bytes; in the worst case it takes a few bytes per event. What it costs to read is
//! decided by its bytes, never by the numbers that they claim.

use std::ops::Range;

use crate::nostr::record::put_varint;
use crate::store::Seq;

/// The most bytes of a length.
const LENGTH_BYTES: u32 = 7;

const MALFORMED: &str = "it is not a list of arrival numbers";
const OTHER_LEN: &str = "it holds a different number of events";

/// The most bytes of a set of this many numbers: each is its own run, behind one of absent numbers.
pub const fn most_bytes(numbers: u64) -> u64 {
    numbers.saturating_mul(2 * LENGTH_BYTES as u64)
}

/// A set of arrival numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeqSet {
    bytes: Vec<u8>,
    len: u64,
}

impl SeqSet {
    /// The number of elements.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The set for the disk, which [`SeqDecoder`] reads.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn runs(&self) -> Runs<'_> {
        Runs { bytes: &self.bytes, next: 1 }
    }

    /// Looks numbers up in ascending order.
    pub fn ascending(&self) -> Ascending<'_> {
        Ascending { runs: self.runs(), run: 0..0 }
    }

    /// The numbers of either set.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let (mut one, mut two) = (self.runs().peekable(), other.runs().peekable());
        let mut all = Growing::default();
        loop {
            let is_first = match (one.peek(), two.peek()) {
                (Some(one), Some(two)) => one.start <= two.start,
                (one, _) => one.is_some(),
            };
            match if is_first { one.next() } else { two.next() } {
                Some(run) => all.push(run),
                None => return all.finish(),
            }
        }
    }

    /// Whether `other` contains every number of this set.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut other = other.ascending();
        self.runs().all(|run| other.count(run.clone()) == run.end - run.start)
    }
}

/// The runs of a set, in ascending order.
struct Runs<'a> {
    bytes: &'a [u8],
    next: u64,
}

impl Runs<'_> {
    fn length(&mut self) -> Option<u64> {
        let mut decoder = Decoder::default();
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            if let Some(length) = decoder.take(byte).expect("the set was put together here") {
                return Some(length);
            }
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.next + self.length()?;
        self.next = start + self.length()?;
        Some(start..self.next)
    }
}

/// Looks numbers up in ascending order: all of them together look at each run once.
pub struct Ascending<'a> {
    runs: Runs<'a>,
    /// The run that was looked at last.
    run: Range<u64>,
}

impl Ascending<'_> {
    /// Whether the set contains the number, which is no lower than the one before.
    pub fn contains(&mut self, seq: Seq) -> bool {
        self.count(seq.0..seq.0 + 1) == 1
    }

    /// How many of these numbers the set contains. They begin no lower than the ones before.
    pub fn count(&mut self, numbers: Range<u64>) -> u64 {
        let mut count = 0;
        loop {
            count += self.run.end.min(numbers.end).saturating_sub(self.run.start.max(numbers.start));
            if self.run.end >= numbers.end {
                return count;
            }
            match self.runs.next() {
                Some(run) => self.run = run,
                None => return count,
            }
        }
    }
}

/// Puts a set together from runs that begin in ascending order.
pub struct Growing {
    held: SeqSet,
    /// The number after the last one in `held`.
    next: u64,
    /// The last run, which may grow.
    run: Range<u64>,
}

impl Default for Growing {
    fn default() -> Self {
        Self { held: SeqSet::default(), next: 1, run: 1..1 }
    }
}

impl Growing {
    /// Adds the numbers of a run. The lowest number is 1.
    pub fn push(&mut self, run: Range<u64>) {
        if run.start <= self.run.end {
            self.run.end = self.run.end.max(run.end);
        } else if run.end > run.start {
            self.put_run();
            self.run = run;
        }
    }

    fn put_run(&mut self) {
        let len = self.run.end - self.run.start;
        if len > 0 {
            put_varint(self.run.start - self.next, &mut self.held.bytes);
            put_varint(len, &mut self.held.bytes);
            self.held.len += len;
            self.next = self.run.end;
        }
    }

    /// The set.
    pub fn finish(mut self) -> SeqSet {
        self.put_run();
        self.held
    }
}

/// Puts a set together from numbers in any order. It takes a bit for each number up to the largest, so the numbers must
/// be those of a store.
#[derive(Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds a number.
    pub fn insert(&mut self, seq: Seq) {
        let word = (seq.0 / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (seq.0 % 64);
    }

    /// The set.
    pub fn finish(&self) -> SeqSet {
        let mut held = Growing::default();
        let contains = |seq: &u64| self.words[(seq / 64) as usize] >> (seq % 64) & 1 == 1;
        (1..self.words.len() as u64 * 64).filter(contains).for_each(|seq| held.push(seq..seq + 1));
        held.finish()
    }
}

/// Takes LEB128 numbers apart.
#[derive(Default)]
struct Decoder {
    value: u64,
    bytes: u32,
}

impl Decoder {
    /// Takes a byte. Returns the number that it ends, if it ends one.
    fn take(&mut self, byte: u8) -> Result<Option<u64>, &'static str> {
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        match byte {
            0x80.. if self.bytes == LENGTH_BYTES => Err(MALFORMED),
            0x80.. => Ok(None),
            _ => Ok(Some(std::mem::take(self).value)),
        }
    }
}

/// Reads a set piece by piece.
pub struct SeqDecoder {
    decoder: Decoder,
    held: Growing,
    next: u64,
    is_held: bool,
    last: Seq,
}

impl SeqDecoder {
    /// Of a set of numbers up to `last`.
    pub fn new(last: Seq) -> Self {
        Self { decoder: Decoder::default(), held: Growing::default(), next: 1, is_held: false, last }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// What is wrong, if it is malformed or holds a number past the last.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        for &byte in piece {
            let Some(length) = self.decoder.take(byte)? else { continue };
            let end = self.next.checked_add(length).filter(|end| end - 1 <= self.last.0).ok_or(MALFORMED)?;
            if self.is_held {
                self.held.push(self.next..end);
            }
            (self.next, self.is_held) = (end, !self.is_held);
        }
        Ok(())
    }

    /// The set.
    ///
    /// # Errors
    /// What is wrong, if it is cut short or does not have `len` elements.
    pub fn finish(self, len: u64) -> Result<SeqSet, &'static str> {
        if self.decoder.bytes > 0 {
            return Err(MALFORMED);
        }
        let held = self.held.finish();
        if held.len() == len { Ok(held) } else { Err(OTHER_LEN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(seqs: &[u64]) -> SeqSet {
        let mut bits = Bits::default();
        seqs.iter().for_each(|seq| bits.insert(Seq(*seq)));
        bits.finish()
    }

    fn read(bytes: &[u8], last: Seq, len: u64) -> Result<SeqSet, &'static str> {
        let mut reading = SeqDecoder::new(last);
        bytes.chunks(1).try_for_each(|piece| reading.take(piece))?;
        reading.finish(len)
    }

    #[test]
    fn a_set_survives_encoding_and_decoding() {
        for seqs in [vec![], vec![1], vec![64], vec![1, 2, 3, 63, 64, 65, 127, 128, 1000], (1..=500).collect()] {
            let held = set(&seqs);
            let last = Seq(seqs.last().copied().unwrap_or(0));
            let read = read(held.to_bytes(), last, seqs.len() as u64).expect("it is well formed");
            let mut ascending = read.ascending();
            assert_eq!((1..1100).filter(|seq| ascending.contains(Seq(*seq))).collect::<Vec<_>>(), seqs);
            assert_eq!((read.len(), read), (seqs.len() as u64, held));
        }
    }

    #[test]
    fn sets_of_different_lengths_are_joined_compared_and_counted() {
        let (short, long) = (set(&[3]), set(&[5, 6, 700]));
        let both = set(&[3, 5, 6, 700]);
        assert_eq!([short.joined(&long), long.joined(&short), both.joined(&long)], [(); 3].map(|()| both.clone()));
        assert_eq!(
            [set(&[1, 3]).joined(&set(&[2])), set(&[1, 2]).joined(&set(&[2, 3]))],
            [set(&[1, 2, 3]), set(&[1, 2, 3])]
        );
        let within = [short.is_within(&both), long.is_within(&both), both.is_within(&long), long.is_within(&short)];
        assert_eq!(within, [true, true, false, false]);
        let mut ascending = both.ascending();
        assert_eq!([1..4, 4..6, 6..7, 7..700, 700..9000].map(|numbers| ascending.count(numbers)), [1, 1, 1, 0, 1]);
    }

    #[test]
    fn numbers_past_the_last_are_refused() {
        let held = set(&[10]);
        let tries: [(&[u8], Seq, u64); 5] = [
            (held.to_bytes(), Seq(9), 1),
            (held.to_bytes(), Seq(10), 2),
            (&[0xff; 9], Seq(u64::MAX), 0),
            (&[0x80], Seq::MAX, 0),
            (&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Seq::MAX, 1),
        ];
        let refused = tries.map(|(bytes, last, len)| read(bytes, last, len).expect_err("it is not that set"));
        assert_eq!(refused, [MALFORMED, OTHER_LEN, MALFORMED, MALFORMED, MALFORMED]);
    }

    #[test]
    fn a_set_of_all_numbers_takes_a_few_bytes_and_is_read_at_once() {
        let mut all = Growing::default();
        all.push(1..Seq::MAX.0 + 1);
        let all = all.finish();
        let read = read(all.to_bytes(), Seq::MAX, Seq::MAX.0).expect("it is well formed");
        assert_eq!((read.bytes.len(), read.joined(&set(&[7])), set(&[7]).is_within(&read)), (7, all, true));
        assert_eq!(most_bytes(u64::MAX), u64::MAX);
    }
}
