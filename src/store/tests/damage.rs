//! The check finds every kind of damage and does not report colliding keys.

use super::keys::{Index, Row, six};
use super::*;

fn problems(home: &Home) -> Vec<String> {
    home.store.check(|_, _| {}).expect("a check").problems.into_iter().map(|problem| problem.what).collect()
}

/// Changes the tables in a way that the store never does.
fn tamper(home: &Home, work: impl FnOnce(&schema::Tables, &mut heed::RwTxn<'_>)) {
    let inner = home.store.inner();
    let mut txn = inner.env.write_txn().expect("a transaction");
    work(&inner.tables, &mut txn);
    txn.commit().expect("a commit");
}

fn tagged() -> VerifiedEvent {
    trusted(author(1), 30_000, 100, &[&["t", "x"], &["d", "y"], &["expiration", "1800000000"]], "")
}

#[test]
fn a_missing_entry_is_found_in_every_index() {
    for index in Index::ALL {
        let home = home();
        home.commit_one(&tagged());
        tamper(&home, |tables, txn| {
            let table = tables.index(index);
            let key = table.first(txn).expect("a walk").expect("an entry").0.to_vec();
            table.delete(txn, &key).expect("a delete");
        });
        assert_eq!(problems(&home), [format!("INV-5: its entry in the {index:?} index is missing")]);
    }
}

#[test]
fn a_stray_entry_is_found_in_every_index() {
    for index in Index::ALL {
        let home = home();
        home.commit_one(&tagged());
        tamper(&home, |tables, txn| {
            let table = tables.index(index);
            let mut key = table.first(txn).expect("a walk").expect("an entry").0.to_vec();
            key[0] ^= 1;
            table.put(txn, &key, &[]).expect("a put");
        });
        assert_eq!(problems(&home), [format!("INV-5: a stray entry in the {index:?} index")]);
    }
}

#[test]
fn a_changed_record_a_lost_holder_and_a_held_tombstone_are_found() {
    let home = home();
    home.commit_one(&tagged());
    let event = tagged();
    tamper(&home, |tables, txn| {
        let mut record = event.view().record().to_vec();
        record[64] ^= 1; // The signature is the caller's to check.
        tables.event.put(txn, &six(1), &record).expect("a put");
    });
    assert_eq!(problems(&home), Vec::<String>::new());
    tamper(&home, |tables, txn| {
        let mut record = event.view().record().to_vec();
        record.push(b'x');
        tables.event.put(txn, &six(1), &record).expect("a put");
        tables.holder.clear(txn).expect("a clear");
        let key = home.store.secret().deletion(&event.view().id(), &author(1));
        tables.deleted.put(txn, &key, &six(1)).expect("a put");
    });
    assert_eq!(
        problems(&home),
        [
            "INV-6: the id is not the hash of the content",
            "INV-10: it is not the version that its coordinate holds",
            "INV-11: it is held although it is Deleted",
            "the tally of events by kind is wrong",
        ]
    );
}

fn repair(home: &Home) -> Repaired {
    let mut steps = 0;
    let done = home.store.writer().repair(1, |_| steps += 1).expect("a repair");
    assert!(steps > 8, "one row at a time");
    home.assert_clean();
    done
}

#[test]
fn a_repair_restores_every_index_and_the_holders_from_the_records() {
    let home = home();
    let notes: Vec<_> = (0..9).map(|n| trusted(author(n), 1, n, &[&["t", "x"]], "")).collect();
    home.commit(&notes);
    home.commit_one(&tagged());
    assert_eq!(repair(&home), Repaired { events: 10, ..Repaired::default() });
    tamper(&home, |tables, txn| {
        for index in Index::ALL {
            let table = tables.index(index);
            let key = table.first(txn).expect("a walk").expect("an entry").0.to_vec();
            table.delete(txn, &key).expect("a delete");
            let stray: Vec<u8> = key.iter().map(|byte| !byte).collect();
            table.put(txn, &stray, &[]).expect("a put");
        }
        tables.holder.clear(txn).expect("a clear");
        tables.holder.put(txn, &[7; 16], &six(3)).expect("a put");
        tables.put_next_seq(txn, 2).expect("a put");
    });
    assert_eq!(repair(&home), Repaired { events: 10, added: 7, removed: 7, dropped: 0 });
    assert!(notes.iter().all(|event| home.holds(event)) && home.holds(&tagged()));
    assert_eq!(home.commit_one(&note(author(1), 7, "")), Outcome::Stored(Seq(11)), "INV-4");
}

#[test]
fn a_repair_drops_what_is_damaged_or_must_not_be_held() {
    let home = home();
    let [deleted, whole, broken] = ["a", "b", "c"].map(|content| note(author(1), 1, content));
    let newer = trusted(author(1), 0, 200, &[], "");
    let older = trusted(author(1), 0, 100, &[], "");
    home.commit(&[deleted.clone(), whole.clone(), broken.clone(), newer.clone()]);
    tamper(&home, |tables, txn| {
        let key = home.store.secret().deletion(&deleted.view().id(), &author(1));
        tables.deleted.put(txn, &key, &six(1)).expect("a put");
        let mut record = broken.view().record().to_vec();
        record.push(b'x');
        tables.event.put(txn, &six(3), &record).expect("a put");
        tables.event.put(txn, &six(5), older.view().record()).expect("a put");
        tables.put_next_seq(txn, 6).expect("a put");
    });
    let done = repair(&home);
    assert_eq!((done.events, done.dropped), (5, 3));
    let events = [&deleted, &whole, &broken, &newer, &older].map(|event| home.holds(event));
    assert_eq!(events, [false, true, false, true, false]);
}

/// A record with a chosen id, which no event can have.
pub(super) fn forged(id: [u8; 32], created_at: u64) -> Vec<u8> {
    let mut record = trusted(author(1), 1, created_at, &[&["t", "x"]], "").view().record().to_vec();
    record[..32].copy_from_slice(&id);
    record
}

#[test]
fn events_whose_ids_begin_alike_do_not_overwrite_each_other() {
    let home = home();
    let ids: Vec<[u8; 32]> = (0..50).map(|n| std::array::from_fn(|at| if at == 31 { n } else { 7 })).collect();
    let records: Vec<_> = ids.iter().map(|id| forged(*id, 100)).collect();
    let views: Vec<_> = records.iter().map(|record| EventView::from_record(record).expect("a record")).collect();
    let generation = home.store.generation();
    let mut txn =
        Transaction::begin(&generation, Default::default()).expect("a transaction").expect("the store is here");
    for view in &views {
        assert!(matches!(txn.admit(*view, NOW).expect("an outcome"), Outcome::Stored(_)));
    }
    assert_eq!(txn.admit(views[3], NOW).expect("an outcome"), Outcome::Duplicate);
    txn.commit().map(drop).expect("a commit");

    let snapshot = home.store.read().expect("a snapshot");
    for (view, seq) in views.iter().zip(1..) {
        assert!(snapshot.by_id(&view.id()).expect("a lookup") == Some((Seq(seq), *view)));
    }
    drop(snapshot);
    let removed: Vec<Seq> = (1..=50).filter(|seq| seq % 2 == 0).map(Seq).collect();
    home.store.writer().remove(&removed, Return::Allowed).expect("a commit");
    let report = home.store.check(|_, _| {}).expect("a check");
    assert_eq!((report.events, report.entries), (25, [25, 25, 25, 25, 25, 0]));
    assert!(report.problems.iter().all(|problem| problem.what.starts_with("INV-6")), "forged ids are no hashes");
}

#[test]
fn rows_sort_newest_first_then_by_id_and_read_back() {
    let row = |at, first, seq| Row { created_at: Timestamp(at), id: [first, 0, 9], seq: Seq(seq) };
    let rows = [row(Timestamp::MAX.0, 9, 1), row(200, 1, 9), row(200, 2, 3), row(200, 2, 4), row(0, 0, 0)];
    let bytes = rows.map(Row::to_bytes);
    assert!(bytes.is_sorted());
    assert_eq!(bytes.map(|bytes| Row::from_key(&bytes)), rows.map(Some));
    assert_eq!(Row::from_key(&[0; 13]), None);
}

#[test]
fn long_and_odd_tag_values_are_indexed_and_unfindable_ones_are_not() {
    let home = home();
    let long = "x".repeat(5_000);
    let event = trusted(
        author(1),
        1,
        1,
        &[&["t", &long], &["e", "not hex"], &["p"], &["tt", "two letters"], &["T", ""], &["r", "a", "b"], &["r", "a"]],
        "",
    );
    home.commit_one(&event);
    let report = home.assert_clean();
    assert_eq!(report.entries[Index::Tag as usize], 3, "t, T and r");
}
