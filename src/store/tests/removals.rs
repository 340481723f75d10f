//! The store remembers which events it removed, in the commit that removes them.

use super::read::remembered_removals;
use super::*;
use crate::nostr::EventId;

/// The removals after a number, as a reader is told them.
pub(super) fn removals_after(store: &Store, number: u64) -> Option<Vec<Removal>> {
    let snapshot = store.read().expect("a snapshot");
    let rows = snapshot.removals_after(number).expect("no damage")?;
    Some(rows.collect::<Result<_, _>>().expect("no damage"))
}

fn removal(number: u64, seq: u64, event: &VerifiedEvent) -> Removal {
    Removal { number, seq: Seq(seq), id: event.view().id() }
}

#[test]
fn every_way_to_remove_an_event_is_remembered_in_order() {
    let home = home();
    let by = author(1);
    let profile = |at: u64| trusted(by, 0, at, &[], "");
    let notes: Vec<_> = (0..5).map(|n| note(by, 10 + n, "a note")).collect();
    let listed = trusted(by, 30_000, 10, &[&["d", "x"]], "");
    let expiring = trusted(by, 1, 10, &[&["expiration", &(NOW.0 + 1).to_string()]], "");
    let of_another = note(author(2), 10, "another's");
    home.commit(&[profile(1), profile(2)]);
    assert_eq!(removals_after(&home.store, 0), Some(vec![]), "nobody can have seen the first one");
    home.commit(&notes);
    home.commit(&[listed.clone(), expiring.clone(), of_another.clone()]);
    home.commit(&[profile(3)]);
    home.commit(&[trusted(by, 5, 20, &[&["e", &id(&notes[0])], &["a", &format!("30000:{by}:x")]], "")]);
    let mut writer = home.store.writer();
    writer.reap_expired(Timestamp(NOW.0 + 1), 9).expect("a commit");
    writer.evict(Evicted { seqs: &[Seq(4), Seq(999)], horizons: None }).expect("a commit");
    writer.remove(&[Seq(5)], Return::Refused).expect("a commit");
    home.commit(&[trusted(author(2), 62, 30, &[&["relay", "ALL_RELAYS"]], "")]);
    assert_eq!(removals_after(&home.store, 6), Some(vec![]), "it is hidden and not yet removed");
    while writer.purge_vanished(9).expect("a commit") {}
    let expected = [
        removal(1, 2, &profile(2)),
        removal(2, 3, &notes[0]),
        removal(3, 8, &listed),
        removal(4, 9, &expiring),
        removal(5, 4, &notes[1]),
        removal(6, 5, &notes[2]),
        removal(7, 10, &of_another),
    ];
    assert_eq!(removals_after(&home.store, 0), Some(expected.to_vec()));
    assert_eq!(removals_after(&home.store, 5), Some(expected[5..].to_vec()));
    assert_eq!(removals_after(&home.store, 8), None, "a number of the future");
    assert_eq!(home.store.read().expect("a snapshot").last_removal().expect("a number"), 7);
    home.assert_clean();
}

#[test]
fn the_first_removals_are_forgotten_and_a_reader_that_missed_one_learns_it() {
    let home = home();
    let step = |from: u64, count: u64| {
        let notes: Vec<_> = (from..from + count).map(|n| note(author(1), n, "")).collect();
        let stored = home.commit(&notes);
        let seqs = stored.iter().map(|outcome| match outcome {
            Outcome::Stored(seq) => *seq,
            other => panic!("{other:?}"),
        });
        let seqs: Vec<_> = seqs.collect();
        home.store.writer().remove(&seqs, Return::Allowed).expect("a commit");
    };
    step(0, 1024);
    assert_eq!(removals_after(&home.store, 0).map(|all| all.len()), Some(1024));
    step(2000, 1);
    assert_eq!(removals_after(&home.store, 0), None);
    let all = removals_after(&home.store, 1).expect("the others");
    assert!(all.iter().map(|removal| removal.number).eq(2..=1025));
    step(3000, 5000);
    let all = removals_after(&home.store, 5001).expect("the others");
    assert!(all.iter().map(|removal| removal.number).eq(5002..=6025));
    assert_eq!(removals_after(&home.store, 5000), None);
    home.assert_clean();
}

#[test]
fn a_store_that_has_become_small_forgets_in_small_steps() {
    let home = home();
    let notes: Vec<_> = (0..12_000).map(|n| note(author(1), n, "")).collect();
    home.commit(&notes);
    let seqs: Vec<_> = (1..=12_000).map(Seq).collect();
    let mut writer = home.store.writer();
    writer.remove(&seqs[..2000], Return::Allowed).expect("a commit");
    assert_eq!(removals_after(&home.store, 0).map(|all| all.len()), Some(2000));
    // A quarter of the 2,000 that are left is less than the least.
    writer.remove(&seqs[2000..10_000], Return::Allowed).expect("a commit");
    let remembered = || {
        home.store
            .usage()
            .expect("a usage")
            .tables
            .iter()
            .find(|table| table.name == "removed")
            .map(|table| table.entries)
    };
    assert_eq!(remembered(), Some(1024));
    home.assert_clean();
}

#[test]
fn removals_that_a_killed_process_acknowledged_are_remembered_once() {
    let home = home();
    let profile = |at: u64| trusted(author(1), 0, at, &[], "");
    home.commit(&[profile(1)]);
    let killed: Result<(), _> = home.store.writer().group(|group| {
        for at in 2..4 {
            assert!(group.add(&[profile(at)], NOW, Evicted::default())?.is_durable);
        }
        Err(StoreError::Busy)
    });
    assert!(matches!(killed, Err(StoreError::Busy)));
    assert_eq!(removals_after(&home.store, 0), Some(vec![]), "readers see neither the versions nor the removal");
    let Home { store, dir } = home;
    drop(store);
    for _ in 0..2 {
        let store = Store::open(dir.path(), options()).expect("the store");
        assert_eq!(removals_after(&store, 0), Some(vec![removal(1, 1, &profile(1))]));
    }
}

#[test]
fn a_repair_that_drops_what_is_no_event_makes_every_reader_begin_anew() {
    let home = home();
    let notes: Vec<_> = (0..3).map(|n| note(author(1), n, "")).collect();
    home.commit(&notes);
    home.store.writer().remove(&[Seq(1)], Return::Allowed).expect("a commit");
    let inner = home.store.inner();
    let mut txn = inner.env.write_txn().expect("a transaction");
    inner.tables.event.put(&mut txn, &keys::six(2), b"no record").expect("a put");
    txn.commit().expect("a commit");
    home.store.writer().repair(100, |_| {}).expect("a repair");
    for number in 0..=1 {
        assert_eq!(removals_after(&home.store, number), None, "{number}");
    }
    assert_eq!(home.store.read().expect("a snapshot").last_removal().expect("a number"), 3);
    home.store.writer().remove(&[Seq(3)], Return::Allowed).expect("a commit");
    assert_eq!(removals_after(&home.store, 3), Some(vec![removal(4, 3, &notes[2])]));
    home.assert_clean();
}

#[test]
fn damaged_removals_are_found_and_repaired() {
    let home = home();
    let notes: Vec<_> = (0..6).map(|n| note(author(1), n, "")).collect();
    let problems = || {
        let report = home.store.check(|_, _| {}).expect("a check");
        report.problems.into_iter().map(|problem| (problem.seq.0, problem.what)).collect::<Vec<_>>()
    };
    home.commit(&notes);
    let of_held = remembered_removals::value(Seq(6), &EventId([7; 32]));
    let damages: [(u64, &str, u64, Option<&[u8]>); 3] = [
        (0, "a removal is missing between two others", 1, None),
        (0, "a row of the removals is damaged", 0, Some(&[7; 5])),
        (6, "it is held although its removal is recorded", 0, Some(&of_held)),
    ];
    for (seq, what, before_last, row) in damages {
        home.commit(&notes);
        let last = home.store.read().expect("a snapshot").last_seq().expect("a number").0;
        let seqs: Vec<_> = (1..=last).filter(|seq| *seq != 6).map(Seq).collect();
        home.store.writer().remove(&seqs, Return::Allowed).expect("a commit");
        let last = home.store.read().expect("a snapshot").last_removal().expect("a number");
        let inner = home.store.inner();
        let mut txn = inner.env.write_txn().expect("a transaction");
        let key = keys::six(last - before_last);
        match row {
            None => assert!(inner.tables.removed.delete(&mut txn, &key).expect("a delete")),
            Some(row) => inner.tables.removed.put(&mut txn, &key, row).expect("a put"),
        }
        txn.commit().expect("a commit");
        assert_eq!(problems(), [(seq, what.to_owned())]);
        home.store.writer().repair(100, |_| {}).expect("a repair");
        assert_eq!(problems(), []);
        assert_eq!(removals_after(&home.store, last), None);
    }
}

#[test]
fn each_store_has_an_id_of_its_own_from_the_beginning() {
    let id = |home: &Home| home.store.read().expect("a snapshot").store_id().expect("an id");
    let (one, other) = (home(), home());
    assert_ne!(id(&one), id(&other));
    assert_eq!(id(&one), id(&one));
}
