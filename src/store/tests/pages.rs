//! Records found by pages are those that LMDB finds, in trees of every depth and for records of every size.

use super::*;
use crate::store::read::pages::BATCH;

/// An event whose content has so many bytes.
fn note(number: u64, bytes: usize) -> VerifiedEvent {
    trusted(author(number % 3), 1, number, &[&["n", &number.to_string()]], &"x".repeat(bytes))
}

/// Every number up to some that were never given, alone and side by side.
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
    // An empty table has no page.
    assert!(home.store.read().expect("a snapshot").pages().is_none());
    for (depth, events) in [(1, 3), (2, 60), (3, 6_000)] {
        let from = depth * 10_000;
        // Of pages of their own some, of one byte more or less than a page others.
        let size = |n: u64| if n.is_multiple_of(97) { 3_700 + 40 * n as usize } else { (n * 13 % 300) as usize };
        let batch: Vec<_> = (from..from + events).map(|n| note(n, size(n % 500))).collect();
        home.commit(&batch);
        assert_found_alike(&home);
    }
    let some: Vec<_> = (1..6_000).filter(|n| n % 3 != 0).map(Seq).collect();
    home.store.writer().remove(&some, Return::Allowed).expect("a commit");
    assert_found_alike(&home);
}

#[test]
fn a_snapshot_finds_what_was_there_while_others_write() {
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
