//! A store of an earlier format is upgraded to the current format, wherever the upgrade is interrupted.

use std::collections::BTreeMap;

use super::compact::{dump, filled};
use super::keys::{Index, six};
use super::*;
use crate::nostr::EventId;

/// The index entries of format 0, which had longer prefixes and numbers.
fn entries_of_format_0(event: EventView<'_>, seq: Seq, secret: &keys::Secret) -> Vec<(Index, Vec<u8>)> {
    let (time, id) = (keys::newest_first(event.created_at()), &event.id_bytes()[..8]);
    let row = [&time[..], id, &six(seq.0)].concat();
    let kind = event.kind().0.to_be_bytes();
    let mut entries = vec![
        (Index::Id, [id, &six(seq.0)].concat()),
        (Index::Time, row.clone()),
        (Index::Kind, [&kind[..], &row].concat()),
        (Index::Author, [&event.pubkey_bytes()[..8], &kind, &row].concat()),
    ];
    for (letter, value) in event.tags().indexed() {
        // Format 0 had 8 bytes of the hash. The upgrade discards these entries, so any 8 bytes will do.
        let hash = [&secret.tag(letter, value)[..], b"xx"].concat();
        entries.push((Index::Tag, [&hash[..], &kind, &row].concat()));
    }
    entries.extend(event.expiration().map(|at| (Index::Expiration, [six(at.0), six(seq.0)].concat())));
    entries
}

/// Turns a store into what the version with format 0 would have written.
fn downgrade(store: &Store) {
    let inner = store.inner();
    let mut txn = inner.env.write_txn().expect("a transaction");
    let mut rows = Vec::new();
    for row in inner.tables.event.iter(&txn).expect("a walk") {
        let (key, record) = row.expect("a row");
        let seq = Seq(keys::read_six(key).expect("a number"));
        rows.extend(entries_of_format_0(lookup::view(record).expect("a record"), seq, &inner.secret));
    }
    for index in Index::ALL {
        inner.tables.index(index).clear(&mut txn).expect("a table");
    }
    for (index, key) in rows {
        inner.tables.index(index).put(&mut txn, &key, &[]).expect("a put");
    }
    tally::replace(inner.tables.meta, &mut txn, &BTreeMap::new()).expect("a put");
    schema::put_header(&inner.tables, &mut txn, 0, &inner.secret).expect("a put");
    txn.commit().expect("a commit");
}

#[test]
fn a_store_of_format_0_is_upgraded_wherever_the_upgrade_is_interrupted() {
    let home = filled();
    let many: Vec<_> = (0..9000).map(|n| note(author(n % 7), n, "many")).collect();
    home.commit(&many);
    home.store.writer().remove(&[Seq(5)], Return::Refused).expect("a commit");
    while home.store.writer().purge_vanished(1000).expect("a commit") {}
    let before = dump(&home.store);
    downgrade(&home.store);
    let Home { store, dir } = home;
    drop(store);
    let mut steps = 0;
    loop {
        let Err(error) = Store::open(dir.path(), options()) else { break };
        assert!(matches!(error, StoreError::Format { .. }) && error.to_string().contains("weir upgrade"), "{error}");
        let mut upgrade = Upgrade::find(dir.path(), &options()).expect("it opens").expect("it is old");
        assert!(upgrade.from() < FORMAT, "{}", upgrade.from());
        // The upgrade is dropped after every step, as if its process had been killed.
        let more = upgrade.step().expect("a step");
        steps += 1;
        drop(upgrade);
        assert_eq!(Store::open(dir.path(), options()).is_ok(), !more);
    }
    assert!(steps > 3, "{steps}");
    let home = Home { store: Store::open(dir.path(), options()).expect("the store"), dir };
    home.assert_clean();
    assert_eq!(dump(&home.store), before);
    assert!(home.holds(&many[8999]));
}

#[test]
fn a_store_of_the_current_or_a_later_format_is_not_upgraded() {
    let Home { store, dir } = filled();
    let rows = dump(&store);
    drop(store);
    assert!(Upgrade::find(dir.path(), &options()).expect("it opens").is_none());
    let store = Store::open(dir.path(), options()).expect("the store");
    assert_eq!(dump(&store), rows);
    let inner = store.inner();
    let mut txn = inner.env.write_txn().expect("a transaction");
    schema::put_header(&inner.tables, &mut txn, FORMAT + 1, &inner.secret).expect("a put");
    txn.commit().expect("a commit");
    drop((inner, store));
    let found = Upgrade::find(dir.path(), &options());
    assert!(matches!(found, Err(StoreError::Format { found, .. }) if found == FORMAT + 1));
}

#[test]
fn an_upgrade_keeps_every_event_that_a_killed_relay_acknowledged_and_left_in_the_log() {
    let home = home();
    let committed = note(author(1), 1, "committed");
    home.commit(std::slice::from_ref(&committed));
    downgrade(&home.store);
    let acknowledged = [note(author(1), 2, "acknowledged"), note(author(2), 2, "and another")];
    let killed: Result<(), _> = home.store.writer().group(|group| {
        for event in &acknowledged {
            assert!(group.add(std::slice::from_ref(event), NOW, Evicted::default())?.is_durable);
        }
        Err(StoreError::Busy)
    });
    assert!(matches!(killed, Err(StoreError::Busy)));
    let Home { store, dir } = home;
    drop(store);
    // The upgrade is dropped after every step, as if its process had been killed.
    while Upgrade::find(dir.path(), &options())
        .expect("it opens")
        .is_some_and(|mut found| found.step().expect("a step"))
    {}
    let home = Home { store: Store::open(dir.path(), options()).expect("the store"), dir };
    home.assert_clean();
    let snapshot = home.store.read().expect("a snapshot");
    let held: Vec<EventId> = snapshot
        .after(Seq(0))
        .expect("a walk")
        .map(|row| row.map(|(_, event)| event.id()))
        .collect::<Result<_, _>>()
        .expect("no damage");
    assert_eq!(held, [&committed, &acknowledged[0], &acknowledged[1]].map(|event| event.view().id()));
}
