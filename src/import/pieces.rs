//! Reads the input in pieces of whole values, each with the line that it begins on, in bounded memory.
//!
//! It never fails because of the text: a value that is too long is skipped.

use std::io::{ErrorKind, Read};

use super::split::{FoundValue, Splitter};

/// Bytes per read: several hundred events, about a millisecond of work for a core. In tests few, so that values lie in
/// several pieces.
const PIECE_BYTES: usize = if cfg!(any(test, fuzzing)) { 1 << 10 } else { 256 << 10 };

/// A part of the input.
#[derive(PartialEq, Eq, Debug)]
pub struct Piece {
    /// The values, in their order.
    pub values: Vec<FoundValue>,
    /// The text that holds them.
    pub text: Vec<u8>,
    /// Its size in bytes of input.
    pub bytes: u64,
    /// The line on which the next piece begins.
    pub next_line: u64,
}

impl Piece {
    /// A piece without values, for texts that arrive one by one. The next value is number `line`.
    #[must_use]
    pub const fn empty(line: u64) -> Self {
        Self { values: Vec::new(), text: Vec::new(), bytes: 0, next_line: line }
    }

    /// Adds a value.
    pub fn push(&mut self, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.values.push(FoundValue { line: self.next_line, text: Some(start..self.text.len()) });
        self.bytes += text.len() as u64;
        self.next_line += 1;
    }
}

/// Splits an input into pieces.
pub struct Pieces<R> {
    input: R,
    splitter: Splitter,
    /// The beginning of a value whose end has not been read.
    rest: Vec<u8>,
    /// Bytes not yet counted in a piece: those of skipped values, and between values.
    passed: u64,
    /// Whether the last byte was not a newline.
    ends_in_line: bool,
}

impl<R: Read> Pieces<R> {
    /// Reads values of up to `max_bytes`; slightly longer ones may get through.
    pub fn new(input: R, max_bytes: usize) -> Self {
        Self { input, splitter: Splitter::new(1, true, max_bytes), rest: Vec::new(), passed: 0, ends_in_line: false }
    }

    /// The next piece, with the data of one read, so that values of a slow input are passed on as they arrive. `None`
    /// at the end.
    pub fn next_piece(&mut self) -> std::io::Result<Option<Piece>> {
        loop {
            let mut text = std::mem::take(&mut self.rest);
            let is_end = self.read(&mut text)? == 0;
            let mut values = Vec::new();
            while let Some(found) = self.splitter.next(&text, is_end) {
                values.push(found);
            }
            let done = if is_end { text.len() } else { self.splitter.take() };
            self.rest = text.split_off(done);
            self.passed += done as u64;
            self.ends_in_line = text.last().map_or(self.ends_in_line, |&byte| byte != b'\n');
            if !values.is_empty() || (is_end && (self.passed > 0 || self.ends_in_line)) {
                let bytes = std::mem::take(&mut self.passed);
                // The end of the input also ends a line.
                let next_line = self.splitter.line() + u64::from(is_end && std::mem::take(&mut self.ends_in_line));
                return Ok(Some(Piece { values, text, bytes, next_line }));
            }
            if is_end {
                return Ok(None);
            }
        }
    }

    /// Appends the data of one read; returns 0 at the end of the input.
    fn read(&mut self, text: &mut Vec<u8>) -> std::io::Result<usize> {
        let from = text.len();
        text.resize(from + PIECE_BYTES, 0);
        let result = loop {
            match self.input.read(&mut text[from..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        text.truncate(from + *result.as_ref().unwrap_or(&0));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Returns at most this many bytes per read.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Every value with its line, the number of bytes, and the line after them.
    fn values(input: &str, step: usize, max: usize) -> (Vec<(u64, Option<String>)>, u64, u64) {
        let mut pieces = Pieces::new(Dribble(input.as_bytes(), step), max);
        let (mut all, mut bytes, mut next_line) = (Vec::new(), 0, 1);
        while let Some(piece) = pieces.next_piece().expect("a slice can be read") {
            bytes += piece.bytes;
            next_line = piece.next_line;
            let text =
                |range: Range<usize>| String::from_utf8(piece.text[range].to_vec()).expect("whole values are UTF-8");
            all.extend(piece.values.iter().map(|found| (found.line, found.text.clone().map(text))));
        }
        (all, bytes, next_line)
    }

    #[test]
    fn values_keep_their_lines_however_they_arrive() {
        let text = "{\"n\":1}\n\nthree é\n{\"n\":\n5}";
        let expected = [(1, "{\"n\":1}"), (3, "three é"), (4, "{\"n\":\n5}")];
        let expected: Vec<_> = expected.into_iter().map(|(line, text)| (line, Some(text.to_owned()))).collect();
        for step in [1, 2, 5, 100] {
            let bytes = text.len() as u64;
            assert_eq!(values(text, step, 100), (expected.clone(), bytes, 6), "{step} bytes at a time");
            let more = values(&format!("{text}\n \n"), step, 100);
            assert_eq!(more, (expected.clone(), bytes + 3, 7), "{step} bytes at a time");
        }
        assert_eq!(values("", 1, 100), (Vec::new(), 0, 1));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_counted() {
        let text = format!("a\n{}\nb\n{}", "x".repeat(50), "y".repeat(50));
        let expected = vec![(1, Some("a".to_owned())), (2, None), (3, Some("b".to_owned())), (4, None)];
        for step in [1, 3] {
            let bytes = text.len() as u64;
            assert_eq!(values(&text, step, 10), (expected.clone(), bytes, 5), "{step} bytes at a time");
        }
    }
}
