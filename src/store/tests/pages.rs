//! Page look-ups find the records that LMDB finds, in trees of every depth and for records of every size. In a damaged
//! file they never read outside the file.

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::nostr::EventId;
use crate::store::file::map::{Map, PAGE};
use crate::store::read::pages::BATCH;
use crate::store::read::snapshot::ById;

/// An event with a content of this many bytes.
fn note(number: u64, bytes: usize) -> VerifiedEvent {
    trusted(author(number % 3), 1, number, &[&["n", &number.to_string()]], &"x".repeat(bytes))
}

/// Every number up to a few past the last, one by one and together.
fn assert_found_alike(home: &Home) {
    let snapshot = home.store.read().expect("a snapshot");
    let pages = snapshot.pages().expect("the format is known");
    let last = snapshot.last_seq().expect("a number").0;
    let numbers: Vec<Seq> = (0..last + 5).map(Seq).collect();
    let tables = &snapshot.store.inner.tables;
    let by_lmdb = |seq: &Seq| tables.event.get(&snapshot.txn, &keys::six(seq.0)).expect("a look-up");
    for some in numbers.chunks(BATCH) {
        let expected: Vec<_> = some.iter().map(by_lmdb).collect();
        assert_eq!(some.iter().map(|seq| pages.find(*seq)).collect::<Vec<_>>(), expected);
        let mut found = vec![None; some.len()];
        pages.find_all(some, &mut found);
        assert_eq!(found, expected);
    }
}

#[test]
fn every_record_is_found_and_nothing_else() {
    let home = home();
    // An empty table has no pages.
    assert!(home.store.read().expect("a snapshot").pages().is_none());
    for (depth, events) in [(1, 3), (2, 60), (3, 6_000)] {
        let from = depth * 10_000;
        // Some records fill whole pages; others have one byte more or less than a page.
        let size = |n: u64| if n.is_multiple_of(97) { 3_700 + 40 * n as usize } else { (n * 13 % 300) as usize };
        let batch: Vec<_> = (from..from + events).map(|n| note(n, size(n % 500))).collect();
        home.commit(&batch);
        assert_found_alike(&home);
    }
    let some: Vec<_> = (1..6_000).filter(|n| n % 3 != 0).map(Seq).collect();
    home.store.writer().remove(&some, Return::Allowed).expect("a commit");
    assert_found_alike(&home);
}

/// An id that lies before the first of a leaf, or after its last, may be on another page: LMDB is asked.
#[test]
fn what_the_pages_tell_of_an_id_is_what_lmdb_finds() {
    let home = home();
    let batch: Vec<_> = (0..3_000).map(|n| note(n, 100)).collect();
    home.commit(&batch);
    let snapshot = home.store.read().expect("a snapshot");
    let by_lmdb = |id: &EventId| snapshot.store.lookup(&snapshot.txn).by_id(id).expect("a look-up");
    let held = batch.iter().map(|event| event.view().id());
    // The same first bytes, and others.
    let absent = held.clone().flat_map(|id| [31, 4, 1].map(|at| with_byte(id, at)));
    let ids: Vec<EventId> = held.chain(absent).collect();
    let (mut known, mut unknown) = (0, 0);
    for some in ids.chunks(BATCH) {
        for (id, found) in some.iter().zip(snapshot.by_ids(some)) {
            match found {
                ById::Held(seq, event) => assert!(by_lmdb(id) == Some((seq, event)), "{id}"),
                ById::Nothing => assert!(by_lmdb(id).is_none(), "{id}"),
                ById::Unknown => unknown += 1,
            }
            known += u32::from(matches!(found, ById::Nothing));
            assert!(snapshot.by_id(id).expect("a look-up") == by_lmdb(id), "{id}");
        }
    }
    assert!(known > 5_000 && unknown >= 3_000, "{known}, and {unknown} with the first bytes of another");
}

/// The id with another byte at a place.
fn with_byte(mut id: EventId, at: usize) -> EventId {
    id.0[at] ^= 0x55;
    id
}

#[test]
fn a_snapshot_finds_its_records_while_others_write() {
    let home = home();
    home.commit(&(0..500).map(|n| note(n, 200)).collect::<Vec<_>>());
    let snapshot = home.store.read().expect("a snapshot");
    let before: Vec<_> = (1..=500).map(|n| snapshot.pages().and_then(|pages| pages.find(Seq(n)))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..20 {
                home.commit(&(0..100).map(|n| note(1_000 * round + n, 300)).collect::<Vec<_>>());
                let gone: Vec<_> = (0..20).map(|n| Seq(20 * round + n)).collect();
                home.store.writer().remove(&gone, Return::Allowed).expect("a commit");
            }
        });
    });
    let copies =
        |records: &[Option<&[u8]>]| records.iter().map(|record| record.map(<[u8]>::to_vec)).collect::<Vec<_>>();
    let after: Vec<_> =
        (1..=500).map(|n| snapshot.get(Seq(n)).expect("a look-up").map(|event| event.record())).collect();
    assert_eq!(copies(&before), copies(&after));
    assert!(before.iter().all(Option::is_some));
}

/// Writes to the data file behind LMDB's back.
fn damage(home: &Home, page: u64, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(home.dir.path().join("data.mdb")).expect("the data file");
    file.write_all_at(bytes, page * PAGE as u64 + offset).expect("a write");
}

#[test]
fn a_damaged_page_number_is_an_error_and_not_a_read_outside_the_file() {
    let home = home();
    home.commit(&(0..500).map(|n| note(n, 200)).collect::<Vec<_>>());
    let inner = home.store.inner();
    let root = {
        let snapshot = home.store.read().expect("a snapshot");
        let row = inner.tables.event_row(&snapshot.txn).expect("a look-up").expect("a row");
        u64::from_le_bytes(*row[40..].first_chunk().expect("a root"))
    };
    // The first child of the root. The root's first pointer leads to the node with its number.
    let mut node = [0; 2];
    let file = std::fs::File::open(home.dir.path().join("data.mdb")).expect("the data file");
    file.read_exact_at(&mut node, root * PAGE as u64 + 16).expect("a read");
    for number in [inner.map.expect("a map").pages(), u64::MAX >> 16] {
        damage(&home, root, u16::from_le_bytes(node).into(), &number.to_le_bytes()[..6]);
        let snapshot = home.store.read().expect("a snapshot");
        let pages = snapshot.pages().expect("the row is whole");
        assert_eq!(pages.find(Seq(1)), None);
        let error = snapshot.get(Seq(1)).map(|_| ()).expect_err("a damaged page");
        assert!(error.to_string().contains("MDB_PAGE_NOTFOUND"), "{error}");
        assert!(snapshot.get(Seq(500)).expect("a look-up").is_some(), "the other pages are whole");
    }
}

#[test]
fn a_page_with_a_wrong_number_does_not_move_the_map() {
    let home = home();
    home.commit(&(0..10).map(|n| note(n, 200)).collect::<Vec<_>>());
    let inner = home.store.inner();
    let find = || Map::find(&inner.env, &inner.tables, &home.dir.path().join("data.mdb"));
    let map = inner.map.expect("a map");
    assert_eq!(find(), Some(map));
    let page = {
        let snapshot = home.store.read().expect("a snapshot");
        let row = inner.tables.event_row(&snapshot.txn).expect("a look-up").expect("a row");
        (row.as_ptr().addr() - map.start().addr()) as u64 / PAGE as u64
    };
    damage(&home, page, 0, &(page + 1).to_le_bytes());
    assert_eq!(find(), None);
    damage(&home, page, 0, &page.to_le_bytes());
    assert_eq!(find(), Some(map));
}
