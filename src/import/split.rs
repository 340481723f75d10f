//! Finds where JSON values begin and end, in text that arrives piece by piece.
//!
//! A line that is a whole object is one value, found without looking inside. Otherwise values are delimited by their
//! brackets: objects may follow each other without line breaks, span several lines, or be elements of arrays of any
//! size. Brackets and commas between values are skipped. Values are not validated; after a broken one, splitting
//! resumes at the next line.

use std::ops::Range;

use memchr::{memchr, memchr3};

/// Values nested deeper count as broken: no event is, and it bounds how often text is scanned again.
const MAX_DEPTH: u32 = 32;

/// How many bytes after a bracket are searched for the next token, to tell an array of values from a message.
const MAX_INDENT: usize = 64;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A value, or a mark for one that was skipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundValue {
    /// The line that it begins on.
    pub line: u64,
    /// Its place in the text; `None` for a value that was skipped because it is too long.
    pub text: Option<Range<usize>>,
}

/// Splits text into values. It is called with the same text again, extended at the end, until [`Splitter::take`] lets
/// the caller remove the beginning.
pub struct Splitter {
    line: u64,
    /// Where the next value begins, or where the search for it continues.
    at: usize,
    open: Option<OpenValue>,
    /// Whether a line that begins and ends like an object is assumed to be one.
    whole_lines: bool,
    max_bytes: usize,
    /// The newline found last, and how far the text was searched for newlines.
    newline: Option<usize>,
    searched: usize,
}

/// A value whose end has not been found.
struct OpenValue {
    /// How far it was scanned.
    to: usize,
    /// Whether it ends at the end of its line, since it is neither an object nor a message.
    is_line: bool,
    /// Whether it is skipped because it is too long.
    is_dropped: bool,
    depth: u32,
    in_string: bool,
    /// Whether only white space precedes `to` on its line, which is not the first line of the value.
    at_line_start: bool,
    /// The last byte outside strings that is not white space.
    last: u8,
    /// Where its first line ends.
    first_line: Option<usize>,
}

/// The result of scanning an open value.
enum Scanned {
    Ended(usize),
    Broken,
    More,
}

impl Splitter {
    /// Starts at this line. Values longer than `max_bytes` are skipped; slightly longer ones may get through.
    pub const fn new(line: u64, whole_lines: bool, max_bytes: usize) -> Self {
        Self { line, at: 0, open: None, whole_lines, max_bytes, newline: None, searched: 0 }
    }

    /// The line of the next value, as far as it is known.
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// The next value; `None` if more text is needed, or at the end.
    pub fn next(&mut self, text: &[u8], is_end: bool) -> Option<FoundValue> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.begin(text, is_end)?,
            };
            let is_too_long = text.len() - self.at > self.max_bytes;
            let end = match (self.scan(&mut open, text), open.first_line) {
                (Scanned::Ended(end), _) => end,
                // The lines after the first one of a broken value may be valid.
                (Scanned::Broken, Some(end)) => end,
                (Scanned::Broken, None) => {
                    self.open = Some(OpenValue { is_line: true, ..open });
                    continue;
                }
                (Scanned::More, first_line) if is_end => first_line.unwrap_or(text.len()),
                (Scanned::More, Some(end)) if is_too_long => end,
                (Scanned::More, None) if is_too_long && !open.is_dropped => {
                    self.open = Some(OpenValue { is_dropped: true, ..open });
                    return Some(FoundValue { line: self.line, text: None });
                }
                (Scanned::More, _) => {
                    self.open = Some(open);
                    return None;
                }
            };
            let found = FoundValue { line: self.line, text: Some(self.at..end) };
            if open.first_line.is_some() {
                self.line += newlines(&text[self.at..end]);
            }
            self.at = end;
            if !open.is_dropped {
                return Some(found);
            }
        }
    }

    /// The number of bytes that are finished. The caller must remove them from the beginning of the text.
    pub fn take(&mut self) -> usize {
        let done = match &self.open {
            Some(open) if open.is_dropped => open.to,
            _ => std::mem::take(&mut self.at),
        };
        if let Some(open) = &mut self.open {
            open.to -= done;
            open.first_line = open.first_line.map(|end| end - done);
            self.at = 0;
        }
        self.newline = self.newline.and_then(|newline| newline.checked_sub(done));
        self.searched = self.searched.saturating_sub(done);
        done
    }

    /// Skips everything between values and opens the next one.
    fn begin(&mut self, text: &[u8], is_end: bool) -> Option<OpenValue> {
        loop {
            let rest = text.get(self.at..).unwrap_or_default();
            match *rest.first()? {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b',' | b']' => self.at += 1,
                0xef if rest.starts_with(BYTE_ORDER_MARK) => self.at += BYTE_ORDER_MARK.len(),
                0xef if !is_end && BYTE_ORDER_MARK.starts_with(rest) => return None,
                b'{' => return Some(OpenValue::new(self.at, false)),
                b'[' => match rest[1..].iter().take(MAX_INDENT).find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
                    Some(b'"') => return Some(OpenValue::new(self.at, false)),
                    // An array of values.
                    Some(b'{' | b'[' | b'\n') => self.at += 1,
                    None if rest.len() > MAX_INDENT => self.at += 1,
                    None if !is_end => return None,
                    _ => return Some(OpenValue::new(self.at, true)),
                },
                _ => return Some(OpenValue::new(self.at, true)),
            }
        }
    }

    /// Searches for the end of the open value.
    fn scan(&mut self, open: &mut OpenValue, text: &[u8]) -> Scanned {
        if open.is_line {
            return self.newline(text, open.to).map_or_else(
                || {
                    open.to = text.len();
                    Scanned::More
                },
                Scanned::Ended,
            );
        }
        if self.whole_lines
            && open.first_line.is_none()
            && !open.is_dropped
            && let Some(end) = self.newline(text, open.to)
        {
            let line = text[self.at..end].trim_ascii_end();
            let line = line.strip_suffix(b",").unwrap_or(line);
            let closing = if line[0] == b'{' { b'}' } else { b']' };
            if line.last() == Some(&closing) {
                return Scanned::Ended(self.at + line.len());
            }
        }
        open.scan(text)
    }

    /// The first newline from `from` on. No part of the text is searched twice.
    fn newline(&mut self, text: &[u8], from: usize) -> Option<usize> {
        if self.newline.is_none_or(|newline| newline < from) {
            let from = from.max(self.searched);
            self.newline = memchr(b'\n', &text[from..]).map(|length| from + length);
            self.searched = self.newline.map_or(text.len(), |newline| newline + 1);
        }
        self.newline
    }
}

impl OpenValue {
    const fn new(at: usize, is_line: bool) -> Self {
        Self {
            to: at,
            is_line,
            is_dropped: false,
            depth: 0,
            in_string: false,
            at_line_start: false,
            last: 0,
            first_line: None,
        }
    }

    /// Follows brackets and strings.
    fn scan(&mut self, text: &[u8]) -> Scanned {
        while let Some(&byte) = text.get(self.to) {
            if self.in_string {
                let Some(length) = memchr3(b'"', b'\\', b'\n', &text[self.to..]) else {
                    self.to = text.len();
                    return Scanned::More;
                };
                self.to += length;
                match text[self.to] {
                    b'"' => self.in_string = false,
                    b'\\' => match text.get(self.to + 1) {
                        None => return Scanned::More,
                        // A string cannot contain a newline; the next iteration handles it.
                        Some(b'\n') => {}
                        Some(_) => self.to += 1,
                    },
                    _ => {
                        self.first_line.get_or_insert(self.to);
                        return Scanned::Broken;
                    }
                }
                self.to += 1;
                continue;
            }
            match byte {
                b'\n' => {
                    self.first_line.get_or_insert(self.to);
                    if self.is_dropped {
                        return Scanned::Broken;
                    }
                    self.at_line_start = true;
                }
                b' ' | b'\t' | b'\r' => {}
                _ if self.is_broken_by(byte) => return Scanned::Broken,
                _ => {
                    match byte {
                        b'"' => self.in_string = true,
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => self.depth -= 1,
                        _ => {}
                    }
                    (self.last, self.at_line_start) = (byte, false);
                    if self.depth == 0 {
                        return Scanned::Ended(self.to + 1);
                    }
                }
            }
            self.to += 1;
        }
        Scanned::More
    }

    /// Whether this byte is impossible here: an object at the beginning of a line where no value may be, or a bracket
    /// that exceeds the depth.
    const fn is_broken_by(&self, byte: u8) -> bool {
        match byte {
            b'{' if self.at_line_start && !matches!(self.last, b'[' | b',' | b':') => true,
            b'{' | b'[' => self.depth == MAX_DEPTH,
            _ => false,
        }
    }
}

fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value with its line, with the text arriving `step` bytes at a time; `None` for one that is too long.
    fn split(text: &str, step: usize, max_bytes: usize) -> Vec<(u64, Option<String>)> {
        let mut splitter = Splitter::new(1, false, max_bytes);
        let (mut held, mut all) = (Vec::new(), Vec::new());
        let mut steps = text.as_bytes().chunks(step);
        loop {
            let next = steps.next();
            held.extend_from_slice(next.unwrap_or_default());
            while let Some(FoundValue { line, text }) = splitter.next(&held, next.is_none()) {
                let text = text.map(|range| String::from_utf8_lossy(&held[range]).trim().to_owned());
                all.push((line, text));
            }
            held.drain(..splitter.take());
            assert!(held.len() <= max_bytes + step + MAX_INDENT, "{} bytes are held", held.len());
            if next.is_none() {
                return all;
            }
        }
    }

    fn values(text: &str) -> Vec<(u64, String)> {
        let all = split(text, text.len().max(1), 1000);
        for step in 1..20 {
            assert_eq!(split(text, step, 1000), all, "{step} bytes at a time: {text}");
        }
        all.into_iter().map(|(line, text)| (line, text.expect("none is too long"))).collect()
    }

    fn expected(values: &[(u64, &str)]) -> Vec<(u64, String)> {
        values.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn values_are_found_however_they_are_laid_out() {
        let (a, b) = (r#"{"a":"}{\"\\"}"#, r#"{"b":[["x","]"],[]]}"#);
        let pretty = "{\n  \"a\": [\n    [\"x\"]\n  ]\n}";
        let message = format!(r#"["EVENT","s",{b}]"#);
        let layouts = [
            (format!("{a}\n{b}\n"), vec![(1, a), (2, b)]),
            (format!("\u{feff}{a}\r\n\n \u{feff}{b}"), vec![(1, a), (3, b)]),
            (format!("{a}{b} {a}"), vec![(1, a), (1, b), (1, a)]),
            (format!("[{a},{b}]"), vec![(1, a), (1, b)]),
            (format!("[\n{a},\n{b}\n]\n"), vec![(2, a), (3, b)]),
            (format!("[[{a}],[ {b} ]]\n{a}"), vec![(1, a), (1, b), (2, a)]),
            (format!("{pretty}\n{a}\n{pretty}"), vec![(1, pretty), (6, a), (7, pretty)]),
            (format!("[{pretty},{pretty}]"), vec![(1, pretty), (5, pretty)]),
            (format!("{message}\n[{message},{message}]"), vec![(1, &message), (2, &message), (2, &message)]),
            ("[]\n[1]\n7\n".into(), vec![(1, "[]"), (2, "[1]"), (3, "7")]),
            (" \n[ \n , ]".into(), vec![]),
        ];
        for (text, found) in layouts {
            assert_eq!(values(&text), expected(&found), "{text}");
        }
    }

    #[test]
    fn a_broken_value_does_not_hide_valid_ones() {
        let good = r#"{"a":1}"#;
        for broken in [
            r#"{"id":"abc"#,
            r#"{"id":"abc","#,
            r#"{"id":"abc\"#,
            r#"{"tags":[["e""#,
            r#"{"tags":[["e","#,
            r#"["EVENT",{"id":1"#,
            "nonsense {",
            "}",
            "\0",
            &format!("{{\"a\":{}", "[".repeat(50)),
        ] {
            let text = format!("{good}\n{broken}\n{good}\n{good}\n");
            assert_eq!(values(&text), expected(&[(1, good), (2, broken), (3, good), (4, good)]), "{text}");
            let text = format!("{good}{broken}");
            assert_eq!(values(&text), expected(&[(1, good), (1, broken)]), "{text}");
        }
        // Closing brackets alone are ignored.
        assert_eq!(values("]\n]{"), expected(&[(2, "{")]));
    }

    #[test]
    fn values_that_are_too_long_are_skipped_and_the_rest_is_found() {
        let (long, good) = ("x".repeat(500), r#"{"a":1}"#);
        let texts = [
            (format!("{long}\n{good}"), vec![(1, None), (2, Some(good.to_owned()))]),
            (format!("[{{\"b\":\"{long}\"}},{good}]"), vec![(1, None), (1, Some(good.into()))]),
            (format!("{{\"b\":\"{long}\n{good}"), vec![(1, None), (2, Some(good.into()))]),
            (format!("{{\"b\":{}\n{good}", "[".repeat(500)), vec![(1, None), (2, Some(good.into()))]),
            (
                format!("{{\n\"b\":{long}\n}}\n{good}"),
                vec![(1, Some("{".into())), (2, None), (3, Some("}".into())), (4, Some(good.into()))],
            ),
        ];
        for (text, found) in texts {
            for step in [1, 7, 40] {
                assert_eq!(split(&text, step, 100), found, "{step} bytes at a time: {text}");
            }
        }
    }

    #[test]
    fn a_line_that_looks_whole_is_one_value() {
        let mut splitter = Splitter::new(1, true, 1000);
        let text = b" {\"a\":{} } , \n{\"a\"}{\"b\"}\n[\"EVENT\",{}]\n{\"a\":\n1}";
        let mut found = Vec::new();
        while let Some(FoundValue { line, text: Some(range) }) = splitter.next(text, true) {
            found.push((line, std::str::from_utf8(&text[range]).expect("text")));
        }
        let whole = [(1, r#"{"a":{} }"#), (2, r#"{"a"}{"b"}"#), (3, r#"["EVENT",{}]"#), (4, "{\"a\":\n1}")];
        assert_eq!(found, whole);
    }
}
