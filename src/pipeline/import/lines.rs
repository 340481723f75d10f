//! JSONL in, a piece at a time: whole lines, numbered, in bounded memory.
//!
//! It never looks inside a line and never fails for one: a line that is too long is passed over.

use std::io::{ErrorKind, Read};

/// Bytes read at a time: some thousand events, a millisecond of work for a core.
const PIECE_BYTES: usize = 256 << 10;

/// A part of the input.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece {
    /// Whole lines; only the last of the input may lack its newline.
    Lines {
        /// The number of the first, from 1.
        first: u64,
        /// The lines.
        text: Vec<u8>,
    },
    /// A line that is longer than the bound.
    TooLong {
        /// Its number.
        line: u64,
        /// Its bytes, with the newline.
        bytes: u64,
    },
}

impl Piece {
    /// How many bytes of the input it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Lines { text, .. } => text.len() as u64,
            Self::TooLong { bytes, .. } => *bytes,
        }
    }
}

/// See the module.
pub struct Lines<R> {
    input: R,
    max_line_bytes: usize,
    /// The number of the next line.
    next: u64,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads lines of up to `max_line_bytes` (a little longer ones may come through).
    pub fn new(input: R, max_line_bytes: usize) -> Self {
        Self { input, max_line_bytes, next: 1, rest: Vec::new() }
    }

    /// The next piece: what one read brought, so that a slow input is handed on line by line. `None` at the end.
    pub fn next_piece(&mut self) -> std::io::Result<Option<Piece>> {
        loop {
            let mut text = std::mem::take(&mut self.rest);
            let from = text.len();
            if self.read(&mut text)? == 0 {
                return Ok((!text.is_empty()).then(|| self.lines(text)));
            }
            match text[from..].iter().rposition(|&byte| byte == b'\n') {
                Some(at) => {
                    self.rest = text.split_off(from + at + 1);
                    return Ok(Some(self.lines(text)));
                }
                None if text.len() > self.max_line_bytes => return self.pass_over(text).map(Some),
                None => self.rest = text,
            }
        }
    }

    fn lines(&mut self, text: Vec<u8>) -> Piece {
        let newlines = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let first = self.next;
        self.next += newlines + u64::from(text.last() != Some(&b'\n'));
        Piece::Lines { first, text }
    }

    /// Reads to the end of a line without keeping it.
    fn pass_over(&mut self, mut text: Vec<u8>) -> std::io::Result<Piece> {
        let mut bytes = text.len() as u64;
        loop {
            text.clear();
            let read = self.read(&mut text)?;
            let end = text.iter().position(|&byte| byte == b'\n');
            bytes += end.map_or(read, |at| at + 1) as u64;
            if end.is_some() || read == 0 {
                self.rest = end.map_or(Vec::new(), |at| text[at + 1..].to_vec());
                let line = self.next;
                self.next += 1;
                return Ok(Piece::TooLong { line, bytes });
            }
        }
    }

    /// Appends what one read brings; 0 at the end of the input.
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
    use super::*;

    /// Hands out so many bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Every line with its number; `None` for one that was passed over.
    fn lines(input: &str, step: usize, max: usize) -> (Vec<(u64, Option<String>)>, u64) {
        let mut lines = Lines::new(Dribble(input.as_bytes(), step), max);
        let (mut all, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = lines.next_piece().expect("a slice can be read") {
            bytes += piece.bytes();
            match piece {
                Piece::TooLong { line, .. } => all.push((line, None)),
                Piece::Lines { first, text } => {
                    let text = String::from_utf8(text).expect("whole lines are UTF-8");
                    all.extend((first..).zip(text.lines().map(|line| Some(line.to_owned()))));
                }
            }
        }
        (all, bytes)
    }

    #[test]
    fn lines_keep_their_numbers_however_they_arrive() {
        let text = "one\n\nthree é\nfour";
        let expected: Vec<_> = (1..).zip(["one", "", "three é", "four"].map(|line| Some(line.to_owned()))).collect();
        for step in [1, 2, 5, 100] {
            assert_eq!(lines(text, step, 100), (expected.clone(), text.len() as u64), "{step} bytes at a time");
            assert_eq!(lines(&format!("{text}\n"), step, 100).0, expected, "{step} bytes at a time");
        }
        assert_eq!(lines("", 1, 100), (Vec::new(), 0));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_counted() {
        let text = format!("a\n{}\nb\n{}", "x".repeat(50), "y".repeat(50));
        let expected = vec![(1, Some("a".to_owned())), (2, None), (3, Some("b".to_owned())), (4, None)];
        for step in [1, 3] {
            assert_eq!(lines(&text, step, 10), (expected.clone(), text.len() as u64), "{step} bytes at a time");
        }
    }
}
