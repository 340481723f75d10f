//! Detects the format of an input by its first bytes: text, compressed text, or something that holds no events.
//!
//! No more than one window of decompressed data is held in memory.

use std::io::{Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

/// Enough to recognise an LMDB file, whose magic number is at offset 16. Every event is longer.
const HEAD_BYTES: usize = 20;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A skippable frame of zstd; its first byte, not included here, is 0x50 to 0x5f.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// An input that is not text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the input looks like {what}: {advice}")]
pub struct Unsupported {
    /// What it looks like.
    pub what: &'static str,
    /// How to import it.
    pub advice: &'static str,
}

impl Unsupported {
    const fn new(what: &'static str, advice: &'static str) -> Self {
        Self { what, advice }
    }
}

/// The text of an input, decompressed if necessary.
///
/// # Errors
/// When the input cannot be read; the inner one when it is not text.
pub fn text(input: impl Read + Send + 'static) -> std::io::Result<Result<Box<dyn Read + Send>, Unsupported>> {
    let (head, input) = peek(input)?;
    let input: Box<dyn Read + Send> = if head.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(input))
    } else if head.starts_with(ZSTD) || (head.get(1..4) == Some(ZSTD_SKIPPABLE) && head[0] & 0xf0 == 0x50) {
        // Windows may have up to 128 MiB; larger ones are an error.
        Box::new(zstd::Decoder::new(input)?)
    } else {
        return Ok(unsupported(&head).map_or_else(|| Ok(Box::new(input) as _), Err));
    };
    let (head, input) = peek(input)?;
    if head.starts_with(GZIP) || head.starts_with(ZSTD) {
        return Ok(Err(Unsupported::new("a file that was compressed twice", "decompress it first")));
    }
    Ok(unsupported(&head).map_or_else(|| Ok(Box::new(input) as _), Err))
}

/// The first bytes of an input, and the whole input.
fn peek<R: Read>(mut input: R) -> std::io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut read = vec![0; 64 << 10];
    let mut length = 0;
    while length < HEAD_BYTES {
        match input.read(&mut read[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    read.truncate(length);
    Ok((read[..length.min(HEAD_BYTES)].to_vec(), Cursor::new(read).chain(input)))
}

/// Recognises inputs that are not UTF-8 text by their first bytes.
fn unsupported(head: &[u8]) -> Option<Unsupported> {
    const UTF_16: Unsupported = Unsupported::new("text in UTF-16", "convert it with iconv -f UTF-16 -t UTF-8");
    const UTF_16LE: Unsupported = Unsupported::new("text in UTF-16LE", "convert it with iconv -f UTF-16LE -t UTF-8");
    const UTF_16BE: Unsupported = Unsupported::new("text in UTF-16BE", "convert it with iconv -f UTF-16BE -t UTF-8");
    const UTF_32: Unsupported = Unsupported::new("text in UTF-32", "convert it with iconv -f UTF-32 -t UTF-8");
    const DUMP: &str = "export the events as JSON, one per line, with the program that wrote it";
    const MARKS: [(usize, &[u8], Unsupported); 16] = [
        (0, &[0xff, 0xfe, 0, 0], UTF_32),
        (0, &[0, 0, 0xfe, 0xff], UTF_32),
        (0, &[0xff, 0xfe], UTF_16),
        (0, &[0xfe, 0xff], UTF_16),
        (0, b"{\0", UTF_16LE),
        (0, b"[\0", UTF_16LE),
        (0, b"\0{", UTF_16BE),
        (0, b"\0[", UTF_16BE),
        (0, b"BZh", Unsupported::new("a bzip2 file", "use bzcat FILE | weir import")),
        (0, b"\xfd7zXZ\0", Unsupported::new("an xz file", "use xzcat FILE | weir import")),
        (0, &[0x04, 0x22, 0x4d, 0x18], Unsupported::new("an lz4 file", "use lz4cat FILE | weir import")),
        (0, b"PK\x03\x04", Unsupported::new("a zip archive", "use unzip -p FILE | weir import")),
        (0, b"7z\xbc\xaf\x27\x1c", Unsupported::new("a 7z archive", "use 7z x -so FILE | weir import")),
        (0, b"SQLite format 3", Unsupported::new("an SQLite database", DUMP)),
        (0, b"PGDMP", Unsupported::new("a dump of PostgreSQL", DUMP)),
        (16, &[0xde, 0xc0, 0xef, 0xbe], Unsupported::new("an LMDB database", DUMP)),
    ];
    MARKS.into_iter().find(|(at, mark, _)| head.get(*at..).is_some_and(|head| head.starts_with(mark))).map(|it| it.2)
}

/// Describes a text that holds no event, by its beginning.
#[must_use]
pub fn describe(text: &[u8]) -> &'static str {
    let begin = &text.trim_ascii_start()[..text.trim_ascii_start().len().min(512)];
    let begins = |marks: &[&str]| {
        let is_begun = |mark: &&str| begin.get(..mark.len()).is_some_and(|it| it.eq_ignore_ascii_case(mark.as_bytes()));
        marks.iter().any(is_begun)
    };
    if begin.is_empty() {
        "nothing"
    } else if begin.contains(&0) {
        "binary data"
    } else if begins(&["<!doctype", "<html"]) {
        "an HTML page"
    } else if begins(&["<"]) {
        "XML"
    } else if begins(&["--", "pragma ", "create ", "insert ", "begin;", "begin transaction", "/*"]) {
        "a dump of SQL"
    } else if begins(&["{", "["]) {
        "JSON, but not of events"
    } else if std::str::from_utf8(begin).is_err_and(|error| error.error_len().is_some()) {
        "binary data"
    } else {
        "text, but not JSON"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<Vec<u8>, Unsupported> {
        let mut out = Vec::new();
        text(Cursor::new(input.to_vec())).expect("a slice can be read")?.read_to_end(&mut out).expect("good data");
        Ok(out)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).expect("memory")
    }

    #[test]
    fn text_is_read_unchanged_and_compressed_text_in_all_its_parts() {
        for text in [&b""[..], b"{", b"{\"id\":1}\n", &b"x".repeat(100_000)] {
            assert_eq!(read(text), Ok(text.to_vec()));
            assert_eq!(read(&gzip(text)), Ok(text.to_vec()));
            assert_eq!(read(&zstd(text)), Ok(text.to_vec()));
        }
        assert_eq!(read(&[gzip(b"one\n"), gzip(b""), gzip(b"two\n")].concat()), Ok(b"one\ntwo\n".to_vec()));
        let skipped = [0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 1].to_vec();
        assert_eq!(read(&[skipped, zstd(b"one\n"), zstd(b"two\n")].concat()), Ok(b"one\ntwo\n".to_vec()));
    }

    #[test]
    fn inputs_that_are_not_text_are_recognised_by_their_first_bytes() {
        let utf_16: Vec<u8> = "\u{feff}{\"id\":".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let lmdb = [&[0; 16][..], &[0xde, 0xc0, 0xef, 0xbe], &[1, 0, 0, 0]].concat();
        let known: [(&[u8], &str); 8] = [
            (&utf_16, "text in UTF-16"),
            (&utf_16[2..], "text in UTF-16LE"),
            (b"\0{\0\"\0i", "text in UTF-16BE"),
            (b"BZh91AY&SY", "a bzip2 file"),
            (b"\xfd7zXZ\0\0", "an xz file"),
            (b"SQLite format 3\0", "an SQLite database"),
            (&lmdb, "an LMDB database"),
            (&gzip(&gzip(b"text")), "a file that was compressed twice"),
        ];
        for (input, what) in known {
            assert_eq!(read(input).map_err(|unsupported| unsupported.what), Err(what));
            assert!(read(&gzip(input)).is_err() && read(&zstd(input)).is_err(), "{what}, compressed");
        }
    }

    #[test]
    fn text_that_holds_no_event_is_described() {
        let long = "é".repeat(300);
        let known: [(&[u8], &str); 9] = [
            (b" \n", "nothing"),
            (b"abc\0", "binary data"),
            (b"caf\xe9 au lait", "binary data"),
            ("<!DOCTYPE html>".as_bytes(), "an HTML page"),
            (b"<rss/>", "XML"),
            (b"-- MySQL dump 10.13", "a dump of SQL"),
            (b"\n[1,2]", "JSON, but not of events"),
            (b"id,pubkey\n", "text, but not JSON"),
            (long.as_bytes(), "text, but not JSON"),
        ];
        for (text, what) in known {
            assert_eq!(describe(text), what);
        }
    }
}
