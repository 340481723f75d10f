//! Fuzz targets of what comes from disk: records, LMDB's pages and the write-ahead log.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::file::map::{Map, PAGE};
use super::file::wal::{FRAME, LENGTH, LOG_BYTES, LOG_FILE, Wal};
use super::format::keys::{self, Index, Secret, Seq};
use super::read::pages::{BATCH, Pages};
use super::{Durability, Options, Store};
use crate::fuzz::{Choices, scratch};
use crate::nostr::json::Parser;
use crate::nostr::record::{put_varint, take_varint};
use crate::nostr::testing::{author, trusted};
use crate::nostr::{Event, EventError, EventView, Timestamp};

/// The most bytes of JSON for a byte of a record: a code of one byte for a word, in quotes and brackets.
const MAX_GROWTH: usize = 40;

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    crate::nostr::fuzz::EVENTS.iter().map(|event| event.view().record().to_vec()).collect()
}

/// Any record can be read, rendered and indexed, within its own bytes. With the right id it is an event, and what is
/// rendered parses back to it unless it is not UTF-8 or has an expiration that no event may have.
pub(crate) fn record(bytes: &[u8]) {
    let mut varint = bytes;
    if let Some(number) = take_varint(&mut varint) {
        let mut written = Vec::new();
        put_varint(number, &mut written);
        assert_eq!(take_varint(&mut &written[..]), Some(number));
    }
    let Some(view) = EventView::from_record(bytes) else { return };
    let tags = view.tags().map(|tag| 1 + tag.rest().count()).sum::<usize>();
    assert!(tags <= bytes.len());
    let mut keys = 0;
    keys::index_entries(view, Seq::MAX, &Secret([7; 16]), |index, key| {
        assert_eq!(key.len(), index.key_len());
        keys += 1;
    });
    let entries = view.tags().indexed().count() + Index::ALL.len();
    assert!((4..=entries).contains(&keys), "{keys} keys");
    assert!(keys::footprint(view) > bytes.len() as u64);
    assert_eq!(view.is_expired(Timestamp(u64::MAX)), view.expiration().is_some());
    let mut json = Vec::new();
    view.write_json(&mut json);
    assert!(json.len() <= MAX_GROWTH * bytes.len(), "{} bytes of JSON", json.len());

    let mut whole = bytes.to_vec();
    whole[..32].copy_from_slice(&view.hash().0);
    let view = EventView::from_record(&whole).expect("as long as before");
    assert!(view.to_event().expect("the id is right").view() == view);
    json.clear();
    view.write_json(&mut json);
    match Event::parse(&mut Parser::default(), &json) {
        Ok(event) => assert_eq!((event.view().id(), event.view().signature()), (view.id(), view.signature())),
        Err(EventError::Malformed("expiration is not a number of Unix seconds")) => {}
        Err(error) => assert!(std::str::from_utf8(&json).is_err(), "{error}"),
    }
}

/// A copy of a data file in memory that no byte may be read around, and what a look-up in it needs.
struct Guarded {
    pages: &'static mut [[u8; PAGE]],
    row: Vec<u8>,
    records: BTreeMap<u64, Vec<u8>>,
}

/// A copy of `file` between two pages that must not be touched. It stays mapped.
fn guarded(file: &[u8]) -> &'static mut [[u8; PAGE]] {
    let count = file.len() / PAGE;
    // SAFETY: it maps new memory. The slice is all of it but the first and the last page, which stay out of reach, and
    // nothing else refers to it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let all = libc::mmap(std::ptr::null_mut(), (count + 2) * PAGE, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(all, libc::MAP_FAILED);
        let start = all.cast::<[u8; PAGE]>().add(1);
        assert_eq!(libc::mprotect(start.cast(), count * PAGE, libc::PROT_READ | libc::PROT_WRITE), 0);
        let pages = std::slice::from_raw_parts_mut(start, count);
        pages.as_flattened_mut().copy_from_slice(&file[..count * PAGE]);
        pages
    }
}

impl Guarded {
    /// A store of 900 events, 9 of them large, as LMDB has written it.
    fn new() -> Self {
        let dir = scratch();
        let options = Options { map_bytes: 1 << 28, durability: Durability::None, ..Options::default() };
        let store = Store::open(dir.path(), options).expect("a new store");
        let large = |number: u64| if number.is_multiple_of(100) { 3_000 + 700 * number as usize } else { 0 };
        let note = |number| trusted(author(number % 3), 1, number, &[], &"x".repeat(large(number)));
        let batch: Vec<_> = (0..900).map(note).collect();
        store.writer().commit(&batch, Timestamp(1_000)).expect("a commit");
        let snapshot = store.read().expect("a snapshot");
        let row = snapshot.store.inner.tables.event_row(&snapshot.txn).expect("a look-up").expect("a row").to_vec();
        let by_seq = (1..).zip(&batch).map(|(seq, event)| (seq, event.view().record().to_vec()));
        let file = std::fs::read(dir.path().join("data.mdb")).expect("the data file");
        Self { pages: guarded(&file), row, records: by_seq.collect() }
    }

    /// Looks up records here and there, and beyond the last, one by one and together. All of them must lie in the first
    /// `count` pages.
    fn look_up(&self, row: &[u8], last_page: u64) -> Option<BTreeMap<u64, Vec<u8>>> {
        // SAFETY: the memory stays mapped for good, and nobody writes to it while the result lives.
        let pages = unsafe { Pages::of_table(Map::of_memory(self.pages), row, last_page) }?;
        let count = (self.pages.len() as u64).min(last_page.saturating_add(1)) as usize;
        let allowed = self.pages[..count].as_flattened().as_ptr_range();
        let mut found = BTreeMap::new();
        for start in (0..920).step_by(90) {
            let seqs: Vec<Seq> = (start..start + BATCH as u64).map(Seq).collect();
            let mut records = vec![None; seqs.len()];
            pages.find_all(&seqs, &mut records);
            for (seq, record) in seqs.iter().zip(records) {
                assert_eq!(pages.find(*seq), record, "number {}", seq.0);
                let Some(record) = record else { continue };
                let range = record.as_ptr_range();
                assert!(allowed.start <= range.start && range.end <= allowed.end, "number {}", seq.0);
                found.insert(seq.0, record.to_vec());
            }
        }
        Some(found)
    }
}

thread_local! {
    static GUARDED: std::cell::RefCell<Guarded> = std::cell::RefCell::new(Guarded::new());
}

pub(crate) fn pages_seeds() -> Vec<Vec<u8>> {
    // The row's depth and root and the last page, as they are or not; then changed bytes: a page, an offset, a value.
    let seeds: [&[u8]; 6] = [
        &[0; 5],
        &[3, 0, 0, 0, 0],
        &[0, 9, 0, 0, 0],
        &[0, 0, 0, 7, 0],
        &[0, 0, 0, 0, 0, 0, 16, 0, 255, 0, 18, 0, 1],
        &[0, 0, 0, 0, 0, 9, 12, 0, 0, 40, 14, 0, 8, 41, 20, 0, 1],
    ];
    seeds.map(<[u8]>::to_vec).into()
}

/// Whatever the pages hold, a look-up reads only those of the map; undamaged, it finds exactly the records that LMDB
/// stored.
pub(crate) fn pages(bytes: &[u8]) {
    GUARDED.with_borrow_mut(|guarded| {
        let mut choices = Choices(bytes);
        let mut row = guarded.row.clone();
        let last = guarded.pages.len() as u64 - 1;
        let [depth, root, last_page] = [u16::from(choices.byte()), choices.two_bytes(), choices.two_bytes()];
        let own_root = u64::from_le_bytes(*row[40..].first_chunk().expect("a row of 48 bytes"));
        if depth != 0 {
            row[6..8].copy_from_slice(&(depth - 1).to_le_bytes());
        }
        if root != 0 {
            row[40..].copy_from_slice(&u64::from(root).to_le_bytes());
        }
        let last_page = if last_page == 0 { last } else { u64::from(last_page - 1) };
        let mut changed = Vec::new();
        while !choices.is_empty() {
            // Half of the changes hit the root.
            let page = match choices.byte() {
                page @ 128.. => u64::from(page - 128) * (last + 1) / 128,
                _ => own_root,
            } as usize;
            let (at, value) = (usize::from(choices.two_bytes()) % PAGE, choices.byte());
            changed.push((page, at, std::mem::replace(&mut guarded.pages[page][at], value)));
        }
        let found = guarded.look_up(&row, last_page);
        if changed.is_empty() && row == guarded.row && last_page >= last {
            let expected: BTreeMap<_, _> =
                guarded.records.iter().filter(|(seq, _)| (*seq % 90) < BATCH as u64).collect();
            assert!(found.expect("a table").iter().eq(expected), "an undamaged table");
        }
        for (page, at, before) in changed.into_iter().rev() {
            guarded.pages[page][at] = before;
        }
    });
}

/// A log in a directory, and its file.
struct Log {
    wal: Wal,
    file: File,
    _dir: tempfile::TempDir,
}

/// The transaction of the log, and one before it.
const TXNS: [u64; 2] = [6, 5];

/// As long as the file is for these tests, which write no more.
const SHORT: u64 = 32 << 10;
const _: () = assert!(SHORT < LOG_BYTES as u64);

impl Log {
    fn new() -> Self {
        let dir = scratch();
        let wal = Wal::new(dir.path(), dir.path(), Secret([7; 16]));
        wal.create().expect("a log");
        let file = File::options().read(true).write(true).open(dir.path().join(LOG_FILE)).expect("the log's file");
        Self { wal, file, _dir: dir }
    }

    /// Writes frames with records of these lengths and returns where each frame ends.
    fn write(&self, txn: u64, frames: &[Vec<u8>]) -> Vec<usize> {
        let mut at = 0;
        let write = |frame: &Vec<u8>| {
            let mut frame = [&[0; FRAME][..], frame].concat();
            self.wal.write(txn, at, &mut frame, false).expect("a write");
            at += frame.len();
            at
        };
        frames.iter().map(write).collect()
    }
}

thread_local! {
    static LOG: Log = Log::new();
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    // Frames of the older transaction and of this one: their number, then of each frame the number and lengths of its
    // records; then damage: its kind, offset and value.
    let seeds: [&[u8]; 5] = [
        &[1, 1, 9, 2, 1, 40, 2, 10, 20],
        &[0, 3, 1, 40, 2, 10, 20, 0, 0, 50, 0, 1],
        &[2, 2, 7, 7, 1, 60, 2, 2, 7, 7, 1, 60, 1, 30, 0, 0],
        &[3, 1, 200, 1, 100, 1, 50, 2, 1, 200, 1, 100, 2, 0, 1, 0],
        &[0, 0, 3, 0, 0, 0],
    ];
    seeds.map(<[u8]>::to_vec).into()
}

/// Recovery from a damaged log returns the records of every whole frame before the first changed byte, and no others.
pub(crate) fn log(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut frames = |salt: u8| -> Vec<Vec<u8>> {
        let count = choices.below(5);
        let record = |len: u8| [&u32::from(len).to_le_bytes()[..], &vec![salt ^ len; len.into()]].concat();
        let mut frame = |_| (0..choices.below(4)).flat_map(|_| record(choices.byte())).collect();
        (0..count).map(&mut frame).collect()
    };
    let (older, ours) = (frames(1), frames(2));
    LOG.with(|log| {
        log.file.set_len(0).and_then(|()| log.file.set_len(SHORT)).expect("a file of zeros");
        log.write(TXNS[1], &older);
        let ends = log.write(TXNS[0], &ours);
        let written = image(&log.file);
        damage(&mut choices, &log.file);
        let found = image(&log.file);
        let differs = |at: &usize| found.get(*at) != written.get(*at);
        let first = (0..*ends.last().unwrap_or(&0)).find(differs).unwrap_or(usize::MAX);
        let whole = ends.iter().take_while(|end| **end <= first).count();
        let left = log.wal.left(TXNS[0]).expect("a read");
        assert_eq!(left, ours[..whole].concat(), "{whole} whole frames of {}", ours.len());
        assert_eq!(log.wal.is_left(TXNS[0]).expect("a read"), !left.is_empty());
        let mut rest = &left[..];
        while let Some((len, more)) = rest.split_first_chunk::<LENGTH>() {
            rest = &more[u32::from_le_bytes(*len) as usize..];
        }
        assert_eq!(rest, b"", "records end where a frame ends");
    });
}

fn image(file: &File) -> Vec<u8> {
    let mut image = vec![0; file.metadata().expect("a file").len() as usize];
    file.read_exact_at(&mut image, 0).expect("a read");
    image
}

/// Changes bytes, zeroes sectors, copies one over another, or cuts the file off.
fn damage(choices: &mut Choices<'_>, file: &File) {
    const SECTOR: u64 = 512;
    while !choices.is_empty() {
        let (kind, at, value) = (choices.below(4), u64::from(choices.two_bytes()) % (4 << 10), choices.byte());
        let sector = at / SECTOR * SECTOR;
        let done = match kind {
            0 => file.write_all_at(&[value], at),
            1 => file.write_all_at(&[0; SECTOR as usize], sector),
            2 => {
                let image = image(file);
                let from = (usize::from(value) % 8) * SECTOR as usize;
                file.write_all_at(image.get(from..from + SECTOR as usize).unwrap_or_default(), sector)
            }
            _ => file.set_len(at),
        };
        done.expect("the file can be damaged");
    }
}
