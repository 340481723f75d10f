//! The fuzz target of backups: parts, lists of arrival numbers, manifests and whole backups, as they are found on disk.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::contents;
use super::file::Listed;
use super::manifest::{FORMAT, Manifest};
use super::part::{MAGIC, PartReader, PartWriter, put_record, put_row};
use super::seq_set::{Bits, SeqDecoder, SeqSet};
use super::state::State;
use super::{prune, verify};
use crate::fuzz::{Choices, scratch};
use crate::nostr::{Timestamp, hex};
use crate::store::{Seq, TombstoneTable, keys};

const NAME: &str = "records-1-1.weir";

thread_local! {
    static DIR: tempfile::TempDir = scratch();
}

/// The entry of a part with these bytes.
fn listed(bytes: &[u8], rows: u64) -> Listed {
    let sha256 = hex::encode(&Sha256::digest(bytes));
    Listed { name: NAME.into(), bytes: bytes.len() as u64, sha256, rows, first_seq: 1, last_seq: Seq::MAX.0 }
}

/// The manifest of a backup of one run.
fn manifest() -> Manifest {
    let entry = Listed { bytes: 100, last_seq: 9, ..listed(b"", 2) };
    let state = State {
        run: 1,
        created_at: 1,
        last_seq: 9,
        events: 2,
        held: entry.clone(),
        tombstones: entry.clone(),
        attached: None,
    };
    let (store, secret, last_id) = ("ab".repeat(8), "cd".repeat(16), "ef".repeat(32));
    Manifest {
        format: FORMAT,
        store,
        secret,
        last_id,
        records: vec![entry],
        arrived: vec![(1, 2)],
        states: vec![state],
    }
}

fn held_of(seqs: &[u64]) -> SeqSet {
    let mut held = Bits::default();
    seqs.iter().for_each(|seq| held.insert(Seq(*seq)));
    held.finish()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (mut records, mut tombstones) = (MAGIC.to_vec(), MAGIC.to_vec());
    for (seq, event) in (1..).zip(crate::nostr::fuzz::EVENTS.iter().take(3)) {
        put_record(Seq(seq), event.view().record(), &mut records);
    }
    for (table, key) in TombstoneTable::ALL.into_iter().zip([&[1; 16][..], &[2; 16], &[3; 32]]) {
        put_row(&[&[table as u8], key].concat(), &keys::six(5), &mut tombstones);
    }
    let held = held_of(&[1, 2, 3, 70, 71]);
    let json = serde_json::to_vec(&manifest()).expect("numbers, strings and lists become JSON");
    let old = r#"{"format":1,"store":"","secret":"","runs":1,"created_at":2,"last_seq":3,"last_id":"","events":1}"#;
    let with = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    vec![
        with(3, &records),
        with(3, &tombstones),
        with(0, &records),
        with(3, &MAGIC),
        with(100, held.to_bytes()),
        with(0, &json),
        with(0, old.as_bytes()),
    ]
}

/// A part, a list and a manifest are read as what was written, or are an error. Nothing is allocated for what a length
/// claims, and a part that differs anywhere from what was written is an error.
pub(crate) fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (rows, rest) = (u64::from(choices.byte()), choices.0);
    DIR.with(|dir| {
        any_part(dir.path(), rest, rows);
        damaged_part(dir.path(), bytes);
        any_list(rest, 64 * rows);
        any_manifest(dir.path(), rest);
        any_backup(dir.path(), bytes);
    });
}

/// A part whose bytes are as listed is read to the end, or is an error.
fn any_part(dir: &Path, bytes: &[u8], rows: u64) {
    std::fs::write(dir.join(NAME), bytes).expect("a file");
    let listed = listed(bytes, rows);
    let Ok(mut part) = PartReader::open(dir, &listed) else { return };
    let (mut again, mut count) = (MAGIC.to_vec(), 0);
    let end = loop {
        match part.row() {
            Ok(Some((head, body))) => {
                put_row(&head, &body, &mut again);
                count += 1;
                // Either is the row, or an error.
                let _ = contents::event(&part, &body);
                let _ = contents::tombstone(&part, (head, body));
            }
            end => break end,
        }
        assert!(again.len() <= bytes.len(), "more rows than bytes");
    };
    match end {
        Ok(_) => assert!(again == bytes && count == rows),
        Err(_) => assert!(again != bytes || count != rows, "{count} rows are whole"),
    }
    let (mut last, mut part) = (Seq(0), PartReader::open(dir, &listed).expect("as before"));
    while let (before, Ok(Some((seq, _)))) = (last, part.record(&mut last)) {
        assert!(seq > before && seq == last);
    }
}

/// A part that was written is read as it was. After a change of any byte it is an error.
fn damaged_part(dir: &Path, choices: &[u8]) {
    let mut choices = Choices(choices);
    let (at, change) = (usize::from(choices.two_bytes()), choices.byte());
    let mut encoded = Vec::new();
    let written: Vec<(Seq, Vec<u8>)> = (1..).map(Seq).zip(choices.0.chunks(5).map(<[u8]>::to_vec)).take(20).collect();
    written.iter().for_each(|(seq, record)| put_record(*seq, record, &mut encoded));
    let mut part = PartWriter::new(dir, NAME.into()).expect("a new part");
    part.records(&encoded, &written.iter().map(|(seq, _)| *seq).collect::<Vec<_>>()).expect("a write");
    let listed = part.finish().expect("a sync");
    let read = || {
        let (mut last, mut rows) = (Seq(0), Vec::new());
        let mut part = PartReader::open(dir, &listed)?;
        while let Some(row) = part.record(&mut last)? {
            rows.push(row);
        }
        Ok::<_, super::BackupError>(rows)
    };
    assert_eq!(read().expect("what was written"), written);
    let mut bytes = std::fs::read(dir.join(NAME)).expect("a file");
    let at = at % bytes.len();
    bytes[at] ^= change.max(1);
    std::fs::write(dir.join(NAME), bytes).expect("a file");
    assert!(read().is_err(), "byte {at} differs");
}

/// The numbers of a list, one by one; `None` if it is malformed.
fn seqs_of(bytes: &[u8], last: u64) -> Option<Vec<u64>> {
    let (mut seqs, mut next, mut is_held) = (Vec::new(), 1, false);
    for run in bytes.split_inclusive(|byte| *byte < 0x80) {
        let run = if run.len() <= 7 && run.last()? < &0x80 { run } else { return None };
        let length = run.iter().rev().fold(0, |length, byte| length << 7 | u64::from(byte & 0x7f));
        let end = Some(next + length).filter(|end| *end <= last + 1)?;
        seqs.extend((next..end).filter(|_| is_held));
        (next, is_held) = (end, !is_held);
    }
    Some(seqs)
}

fn any_list(bytes: &[u8], last: u64) {
    let read = |bytes: &[u8], len| {
        let mut reading = SeqDecoder::new(Seq(last));
        bytes.chunks(3).try_for_each(|piece| reading.take(piece))?;
        reading.finish(len)
    };
    let Some(seqs) = seqs_of(bytes, last) else {
        assert!((0..4).all(|len| read(bytes, len).is_err()));
        return;
    };
    let len = seqs.len() as u64;
    let held = read(bytes, len).expect("it is well formed");
    assert!(read(bytes, len + 1).is_err() && held.to_bytes().len() <= bytes.len() && held == held_of(&seqs));
    let mut ascending = held.ascending();
    assert!((0..=last + 1).filter(|seq| ascending.contains(Seq(*seq))).eq(seqs));
    assert_eq!(read(held.to_bytes(), len), Ok(held));
}

fn any_manifest(dir: &Path, json: &[u8]) {
    let sum = hex::encode(&Sha256::digest(json));
    std::fs::write(dir.join("MANIFEST"), [json, b"\n", sum.as_bytes(), b"\n"].concat()).expect("a file");
    let Ok(manifest) = Manifest::read(dir) else { return };
    let manifest = manifest.expect("there is one");
    let _ = (manifest.newest(), manifest.bytes(), contents::secret(dir, &manifest));
    manifest.write(dir).expect("a write");
    assert_eq!(Manifest::read(dir).expect("what was written"), Some(manifest));
}

/// A backup whose numbers may be any is verified and pruned, or is an error. What verifies is what it says.
fn any_backup(dir: &Path, choices: &[u8]) {
    let mut choices = Choices(choices);
    let (is_true_list, has_earlier) = (choices.byte() < 200, choices.byte() >= 200);
    let any_list = choices.0.get(40..).unwrap_or_default();
    let mut number = |honest: u64| match choices.byte() {
        0..200 => honest,
        200 => u64::MAX,
        201 => u64::MAX - 1,
        202 => Seq::MAX.0,
        203 => Seq::MAX.0 + 1,
        204 => 1 << (u64::BITS - 1),
        other => u64::from(other - 205),
    };
    let seqs = [1, 2, 5].map(|seq| number(seq).clamp(1, Seq::MAX.0));
    let mut records = MAGIC.to_vec();
    for (seq, event) in seqs.iter().zip(crate::nostr::fuzz::EVENTS.iter()) {
        put_record(Seq(*seq), event.view().record(), &mut records);
    }
    let mut file = |name: &str, bytes: &[u8], rows: u64| {
        std::fs::write(dir.join(name), bytes).expect("a file");
        let sha256 = hex::encode(&Sha256::digest(bytes));
        let (bytes, rows) = (number(bytes.len() as u64), number(rows));
        Listed { name: name.into(), bytes, sha256, rows, first_seq: number(1), last_seq: number(5) }
    };
    let records = file("records-1-0.weir", &records, 3);
    let tombstones = file("tombstones-1.weir", &MAGIC, 0);
    let mut row = MAGIC.to_vec();
    put_row(any_list.get(..8).unwrap_or(b"audit"), any_list, &mut row);
    let attached = has_earlier.then(|| file("attached-1.weir", &row, 1));
    let truth = held_of(&[1, 2, 5]);
    let list = if is_true_list { truth.to_bytes() } else { any_list };
    let held = file("held-1.weir", &[&MAGIC, list].concat(), 3);
    let (run, created_at) = (number(1), number(1));
    let state = State { run, created_at, last_seq: number(5), events: number(3), held, tombstones, attached };
    let mut states = vec![state];
    if has_earlier {
        states.insert(0, State { run: number(1), last_seq: number(2), ..states[0].clone() });
    }
    let claimed = Manifest { records: vec![records], states, arrived: vec![(number(1), number(6))], ..manifest() };
    claimed.write(dir).expect("a write");
    let mut events = 0;
    if let Ok(verified) = verify(dir, &mut |_, _| events += 1) {
        assert_eq!((verified.events, events), (claimed.newest().events, claimed.newest().events));
        prune(dir, Timestamp(2), 9).expect("a good backup");
        assert_eq!(verify(dir, &mut |_, _| {}).expect("a good backup").events, events);
    } else {
        // It may be read as far as that, or not.
        let _ = prune(dir, Timestamp(2), 9);
    }
}
