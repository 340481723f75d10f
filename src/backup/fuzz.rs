//! The fuzz target of backups: parts, lists of arrival numbers and manifests, as they are found on disk.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::contents;
use super::file::Listed;
use super::held::Held;
use super::manifest::{FORMAT, Manifest};
use super::part::{MAGIC, PartReader, PartWriter, put_record, put_row};
use super::state::State;
use crate::fuzz::{Choices, scratch};
use crate::nostr::hex;
use crate::store::{Seq, TombstoneTable, keys};

const NAME: &str = "records-1-1.weir";

thread_local! {
    static DIR: tempfile::TempDir = scratch();
}

/// The entry of a part with these bytes.
fn listed(bytes: &[u8], rows: u64) -> Listed {
    let sha256 = hex::encode(&Sha256::digest(bytes));
    Listed { name: NAME.into(), bytes: bytes.len() as u64, sha256, rows, first_seq: 0, last_seq: 0 }
}

/// The manifest of a backup of one run.
fn manifest() -> Manifest {
    let entry = listed(b"", 0);
    let state = State { run: 1, created_at: 1, last_seq: 9, events: 2, held: entry.clone(), tombstones: entry.clone() };
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

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (mut records, mut tombstones) = (MAGIC.to_vec(), MAGIC.to_vec());
    for (seq, event) in (1..).zip(crate::nostr::fuzz::EVENTS.iter().take(3)) {
        put_record(Seq(seq), event.view().record(), &mut records);
    }
    for (table, key) in TombstoneTable::ALL.into_iter().zip([&[1; 16][..], &[2; 16], &[3; 32]]) {
        put_row(&[&[table as u8], key].concat(), &keys::six(5), &mut tombstones);
    }
    let mut held = Held::default();
    [1, 2, 3, 70, 71].into_iter().for_each(|seq| held.insert(Seq(seq)));
    let json = serde_json::to_vec(&manifest()).expect("numbers, strings and lists become JSON");
    let old = r#"{"format":1,"store":"","secret":"","runs":1,"created_at":2,"last_seq":3,"last_id":"","events":1}"#;
    let with = |choice: u8, bytes: &[u8]| [&[choice], bytes].concat();
    vec![
        with(3, &records),
        with(3, &tombstones),
        with(0, &records),
        with(3, &MAGIC),
        with(100, &held.to_bytes()),
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

fn any_list(bytes: &[u8], last: u64) {
    let Some(held) = Held::read(bytes, Seq(last)) else { return };
    assert!(held.len() <= last && !held.contains(Seq(0)) && !held.contains(Seq(last + 1)));
    assert_eq!(Held::read(&held.to_bytes(), Seq(last)), Some(held));
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
