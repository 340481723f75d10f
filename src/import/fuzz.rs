//! The fuzz target of the files that `weir import` reads.

use std::io::{Cursor, Read, Write as _};
use std::sync::Arc;

use super::checker::Checker;
use super::format;
use super::origin::Origin;
use super::pieces::Pieces;
use super::rules::Rules;
use crate::fuzz::{Choices, scratch};
use crate::nostr::{EventId, Timestamp};
use crate::policy::Settings;
use crate::schnorr::{EngineChoice, Options as VerifierOptions, Verifier};
use crate::store::{Options, Store};

/// Longer values are rejected.
const MAX_LINE_BYTES: usize = 2_000;

/// The most text that is read from a compressed input.
const MAX_TEXT_BYTES: u64 = 1 << 18;

/// The most parts in which an input arrives.
const MAX_PARTS: usize = 8;

const NOW: Timestamp = Timestamp(1_700_000_100);

/// An empty store to import into.
struct Home {
    checker: Checker,
    _dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = scratch();
        let store = Store::open(dir.path(), Options { map_bytes: 1 << 24, ..Options::default() }).expect("a new store");
        let rules = Rules::load(Settings::default(), &store).expect("a good store");
        let options = VerifierOptions { engine: EngineChoice::Libsecp256k1, ..VerifierOptions::default() };
        let verifier = Arc::new(Verifier::new(options));
        let checker = Checker { store, rules, verifier, verify: true, judge: None, max_line_bytes: MAX_LINE_BYTES };
        Self { checker, _dir: dir }
    }
}

thread_local! {
    static HOME: Home = Home::new();
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).expect("memory")
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let events: Vec<String> = crate::nostr::fuzz::EVENTS.iter().map(|event| event.view().to_json()).collect();
    let (one, other) = (&events[0], &events[2]);
    let pretty = one.replace(",\"", ",\n  \"");
    let texts = [
        format!("{one}\n{other}\n"),
        format!("\u{feff}[{one},{other}]"),
        format!("[\n{one},\n{other}\n]\n"),
        format!("{pretty}\r\n{other}{one}"),
        format!("[\"EVENT\",{one}]\n[\"EVENT\",\"sub\",{other}]\n[\"OK\",\"\",true,\"\"]\n"),
        format!("{{\"id\":\n{one}\n[1]\n]{{{other}\n"),
        format!("{}\n{one}", "x".repeat(MAX_LINE_BYTES + 10)),
        format!("{other}\n{}", one.replacen("\"sig\":\"", "\"sig\":\"00", 1)),
    ];
    let mut seeds: Vec<Vec<u8>> = (0..).zip(&texts).map(|(n, text)| [&[n], text.as_bytes()].concat()).collect();
    seeds.push([&[0], &gzip(texts[0].as_bytes())[..]].concat());
    seeds.push([&[0], &zstd(texts[0].as_bytes())[..]].concat());
    seeds.push([&b"\0\xff\xfe{\0"[..]].concat());
    seeds
}

/// Hands out at most this many bytes at a time.
struct Steps(Cursor<Vec<u8>>, usize);

impl Read for Steps {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(self.1);
        self.0.read(&mut out[..most])
    }
}

/// The lines and ids of the events that are found, or what keeps the input from being read.
fn events(input: &[u8], step: usize) -> Result<Vec<(u64, EventId)>, String> {
    let input = Steps(Cursor::new(input.to_vec()), step);
    let text = format::text(input).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut pieces = Pieces::new(text.take(MAX_TEXT_BYTES), MAX_LINE_BYTES);
    let (mut found, mut line) = (Vec::new(), 1);
    while let Some(piece) = pieces.next_piece().map_err(|error| error.to_string())? {
        let _ = format::describe(&piece.text);
        let checked = HOME.with(|home| home.checker.check(Origin::File, &piece, NOW)).expect("the store can be read");
        assert!(checked.lines.len() == checked.events.len() && checked.next_line >= line, "line {line}");
        line = checked.next_line;
        let lines = piece.values.iter().map(|value| value.line);
        assert!(lines.clone().is_sorted() && lines.clone().all(|line| line <= checked.next_line));
        for (line, event) in checked.lines.iter().zip(&checked.events) {
            assert!(*line <= checked.next_line);
            assert_eq!(event.view().hash(), event.view().id());
            found.push((*line, event.view().id()));
        }
        let verdicts = checked.verdicts.iter();
        verdicts.for_each(|verdict| assert!(verdict.line <= checked.next_line && !verdict.reason.is_empty()));
    }
    Ok(found)
}

/// The same events are found on the same lines however the input arrives and is compressed. Every one of them has its
/// id and signature, and every other value has a reason.
pub(crate) fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (parts, input) = (choices.below(MAX_PARTS) + 1, choices.0);
    let step = input.len().div_ceil(parts).max(1);
    let found = events(input, usize::MAX);
    assert_eq!(events(input, step), found, "{step} bytes at a time");
    if let Ok(found) = &found
        && ![&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd]].iter().any(|magic| input.starts_with(magic))
    {
        assert_eq!(events(&gzip(input), step).as_ref(), Ok(found), "compressed with gzip");
        assert_eq!(events(&zstd(input), step).as_ref(), Ok(found), "compressed with zstd");
    }
}
