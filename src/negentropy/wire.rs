//! The bytes of a message: numbers, bounds and ranges.
//!
//! | part | bytes |
//! |---|---|
//! | number | base 128, most significant digit first, the high bit set on all but the last byte; 1 to 10 |
//! | bound | number: 0 for infinity, else 1 + seconds after the last bound; id prefix |
//! | id prefix | number: its length, 0 to 32; the first bytes of an id |
//! | range | upper bound (exclusive); number: mode; payload |
//! | payload | mode 0, skip: none; 1: fingerprint, 16 bytes; 2: number of ids, the ids |
//!
//! The lower bound of a range is the upper bound of the one before. Memory is never allocated for what a message claims
//! to have, only for what it has.

use super::error::NegError;

/// Bytes of a fingerprint.
pub(super) const FINGERPRINT_BYTES: usize = 16;

/// The longest number: 64 bits in groups of 7.
pub(super) const MAX_NUMBER_BYTES: usize = 10;

/// The longest bound: a number, a length below 128 and a whole id.
pub(super) const MAX_BOUND_BYTES: usize = MAX_NUMBER_BYTES + 1 + 32;

/// A point between records. A record is below it if its (timestamp, id) is less, with the prefix padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bound {
    pub(super) timestamp: u64,
    pub(super) id: [u8; 32],
    /// How many bytes of `id` are written, 0 to 32.
    pub(super) id_len: u8,
}

impl Bound {
    pub(super) const ZERO: Self = Self::at(0);
    pub(super) const INFINITY: Self = Self::at(u64::MAX);

    pub(super) const fn at(timestamp: u64) -> Self {
        Self { timestamp, id: [0; 32], id_len: 0 }
    }

    pub(super) fn with_id(timestamp: u64, prefix: &[u8]) -> Self {
        let mut id = [0; 32];
        id[..prefix.len()].copy_from_slice(prefix);
        Self { timestamp, id, id_len: prefix.len() as u8 }
    }
}

/// What a message says of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode<'a> {
    Skip,
    Fingerprint(&'a [u8; FINGERPRINT_BYTES]),
    Ids(&'a [[u8; 32]]),
}

impl Mode<'_> {
    pub(super) const SKIP: u64 = 0;
    pub(super) const FINGERPRINT: u64 = 1;
    pub(super) const IDS: u64 = 2;
}

/// Reads the ranges of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    last: Bound,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(ranges: &'a [u8]) -> Self {
        Self { rest: ranges, last: Bound::ZERO }
    }

    /// The next range; `None` at the end of the message.
    pub(super) fn range(&mut self) -> Result<Option<(Bound, Mode<'a>)>, NegError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let bound = self.bound()?;
        let mode = match self.number()? {
            Mode::SKIP => Mode::Skip,
            Mode::FINGERPRINT => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(NegError::EndsEarly)?;
                self.rest = rest;
                Mode::Fingerprint(bytes)
            }
            Mode::IDS => Mode::Ids(self.ids()?),
            other => return Err(NegError::UnknownMode(other)),
        };
        Ok(Some((bound, mode)))
    }

    fn ids(&mut self) -> Result<&'a [[u8; 32]], NegError> {
        let count = self.number()?;
        let (ids, _) = self.rest.as_chunks::<32>();
        let count = usize::try_from(count).ok().filter(|count| *count <= ids.len()).ok_or(NegError::EndsEarly)?;
        self.rest = &self.rest[32 * count..];
        Ok(&ids[..count])
    }

    fn number(&mut self) -> Result<u64, NegError> {
        let mut value: u64 = 0;
        loop {
            let (byte, rest) = self.rest.split_first().ok_or(NegError::EndsEarly)?;
            self.rest = rest;
            if value > u64::MAX >> 7 {
                return Err(NegError::TooLarge);
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn bound(&mut self) -> Result<Bound, NegError> {
        let timestamp = match self.number()? {
            0 => u64::MAX,
            more => self.last.timestamp.checked_add(more - 1).ok_or(NegError::TooLarge)?,
        };
        let id_len = self.number()?;
        let prefix = match usize::try_from(id_len) {
            Ok(len @ 0..=32) => self.rest.split_at_checked(len).ok_or(NegError::EndsEarly)?,
            _ => return Err(NegError::LongId(id_len)),
        };
        self.rest = prefix.1;
        let bound = Bound::with_id(timestamp, prefix.0);
        if (bound.timestamp, bound.id) < (self.last.timestamp, self.last.id) {
            return Err(NegError::NotAscending);
        }
        self.last = bound;
        Ok(bound)
    }
}

/// A message under construction.
pub(super) struct Writer {
    out: Vec<u8>,
    last_timestamp: u64,
}

/// A position in a [`Writer`] to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    len: usize,
    last_timestamp: u64,
}

impl Writer {
    pub(super) fn new(version: u8) -> Self {
        Self { out: vec![version], last_timestamp: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark { len: self.out.len(), last_timestamp: self.last_timestamp }
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        self.out.truncate(mark.len);
        self.last_timestamp = mark.last_timestamp;
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Writes a range without its payload.
    pub(super) fn range(&mut self, bound: &Bound, mode: u64) {
        if bound.timestamp == u64::MAX {
            self.number(0);
        } else {
            self.number(bound.timestamp - self.last_timestamp + 1);
        }
        self.last_timestamp = bound.timestamp;
        self.number(u64::from(bound.id_len));
        self.bytes(&bound.id[..usize::from(bound.id_len)]);
        self.number(mode);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, value: u64) {
        number(value, &mut self.out);
    }
}

/// Appends a number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        out.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_have_one_digit_for_seven_bits() {
        for (value, len) in
            [(0, 1), (1, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (1 << 63, 10), (u64::MAX, 10)]
        {
            let mut out = Vec::new();
            number(value, &mut out);
            let mut reader = Reader::new(&out);
            assert_eq!((out.len(), reader.number(), reader.rest.len()), (len, Ok(value), 0));
        }
        assert_eq!(
            Reader::new(&[0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]).number(),
            Err(NegError::TooLarge)
        );
        assert_eq!(Reader::new(&[0x80; 4]).number(), Err(NegError::EndsEarly));
    }

    #[test]
    fn ranges_come_back() {
        let ids = [[7; 32], [9; 32]];
        let bounds = [Bound::at(5), Bound::with_id(5, &[1, 2]), Bound::with_id(5, &[1, 3]), Bound::INFINITY];
        let mut writer = Writer::new(0x61);
        writer.range(&bounds[0], Mode::SKIP);
        writer.range(&bounds[1], Mode::FINGERPRINT);
        writer.bytes(&[3; 16]);
        let mark = writer.mark();
        writer.range(&Bound::INFINITY, Mode::SKIP);
        writer.back_to(mark);
        writer.range(&bounds[2], Mode::IDS);
        writer.number(2);
        writer.bytes(ids.as_flattened());
        writer.range(&bounds[3], Mode::IDS);
        writer.number(0);
        let message = writer.into_bytes();
        let mut reader = Reader::new(&message[1..]);
        let read: Vec<_> = std::iter::from_fn(|| reader.range().transpose()).collect();
        let modes = [Mode::Skip, Mode::Fingerprint(&[3; 16]), Mode::Ids(&ids), Mode::Ids(&[])];
        assert_eq!(read, bounds.into_iter().zip(modes).map(Ok).collect::<Vec<_>>());
        for len in 1..message.len() - 1 {
            // Cut anywhere, it is a shorter message or an error, and never more than was there.
            let mut reader = Reader::new(&message[1..=len]);
            let read = std::iter::from_fn(|| reader.range().transpose()).take_while(Result::is_ok).count();
            assert!(read < 4);
        }
    }

    #[test]
    fn each_malformation_has_its_error() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            std::iter::from_fn(|| reader.range().transpose()).find_map(Result::err)
        };
        assert_eq!(read(&[1, 33, 0]), Some(NegError::LongId(33)));
        assert_eq!(read(&[1, 2, 0]), Some(NegError::EndsEarly));
        assert_eq!(read(&[1, 0, 3]), Some(NegError::UnknownMode(3)));
        assert_eq!(read(&[1, 0, 1, 0]), Some(NegError::EndsEarly));
        assert_eq!(read(&[1, 1, 5, 0, 1, 1, 4, 0]), Some(NegError::NotAscending));
        assert_eq!(read(&[0, 0, 0, 2, 0, 0]), Some(NegError::TooLarge));
        // 2^34 ids claimed and none there.
        assert_eq!(read(&[0, 0, 2, 0xc0, 0x80, 0x80, 0x80, 0]), Some(NegError::EndsEarly));
    }
}
