//! Opening: weir's store, another program's, another format, twice, and full.

use super::*;
use heed::types::Bytes;

fn data(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("data.mdb")).expect("the data file")
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // SAFETY: nobody else knows the directory.
    let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 20).max_dbs(4).open(dir.path()) }.expect("a database");
    let txn = env.write_txn().expect("a transaction");
    env.create_databases_and_commit(txn, |creator, txn| {
        let table: heed::Database<Bytes, Bytes> = creator.create_database(txn, Some("theirs"))?;
        table.put(txn, b"key", b"value")?;
        Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(()))
    })
    .expect("a commit");
    env.prepare_for_closing().wait();
    let before = data(dir.path());
    assert!(matches!(Store::open(dir.path(), options()), Err(StoreError::Foreign(path)) if path == dir.path()));
    assert_eq!(data(dir.path()), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let before = vec![b'x'; 100_000];
    std::fs::write(dir.path().join("data.mdb"), &before).expect("a file");
    assert!(matches!(Store::open(dir.path(), options()), Err(StoreError::Foreign(_))));
    assert_eq!(data(dir.path()), before);
}

#[test]
fn another_format_is_refused_and_unchanged() {
    for format in [FORMAT + 1, 0] {
        let home = home();
        let inner = home.store.inner();
        let mut txn = inner.env.write_txn().expect("a transaction");
        let header = schema::header(format, &inner.secret.0);
        inner.tables.meta.put(&mut txn, b"header", &header).expect("a put");
        txn.commit().expect("a commit");
        drop(inner);
        let Home { store, dir } = home;
        drop(store);
        let before = data(dir.path());
        let Err(error) = Store::open(dir.path(), options()) else { panic!("format {format} was opened") };
        assert!(matches!(&error, StoreError::Format { found, .. } if *found == format));
        assert!(error.to_string().contains(&format!("has store format {format}")), "{error}");
        assert_eq!(data(dir.path()), before);
    }
}

#[test]
fn a_directory_opens_once_per_process_and_again_when_it_is_closed() {
    let home = home();
    home.commit_one(&note(author(1), 1, ""));
    assert!(matches!(Store::open(home.dir.path(), options()), Err(StoreError::AlreadyOpen(_))));
    let secret = home.store.secret().0;
    let Home { store, dir } = home;
    drop(store);
    let home = Home { store: Store::open(dir.path(), options()).expect("the same store"), dir };
    assert_eq!(home.store.secret().0, secret);
    assert!(home.holds(&note(author(1), 1, "")));
    home.assert_clean();
}

#[test]
fn a_full_store_takes_deletions_only_loses_nothing_and_takes_more_when_there_is_room() {
    let home = home_with(Options { map_bytes: 16 << 20, ..options() });
    let big = |n: u64| trusted(author(n % 7), 1, n, &[&["t", "full"]], &"x".repeat(60_000));
    let mut held = Vec::new();
    let refused = loop {
        let event = big(held.len() as u64);
        match home.commit_one(&event) {
            Outcome::Stored(_) => held.push(event),
            Outcome::Full => break event,
            other => panic!("{other:?}"),
        }
        assert!(held.len() < 1000, "the store becomes full");
    };
    assert!(held.len() > 100, "at least half of the map is used: {}", held.len());
    assert!(held.iter().all(|event| home.holds(event)));
    assert_eq!(home.commit_one(&held[0]), Outcome::Duplicate);
    for target in &held[..20] {
        let request = trusted(target.view().pubkey(), 5, 9, &[&["e", &id(target)]], "");
        assert_eq!(home.commit(&[request, refused.clone()]).len(), 2);
        assert!(!home.holds(target));
    }
    assert!(matches!(home.commit_one(&refused), Outcome::Stored(_) | Outcome::Duplicate));
    assert!(held[20..].iter().all(|event| home.holds(event)));
    home.assert_clean();
}

#[test]
fn a_batch_that_overflows_the_map_stores_its_deletions_and_nothing_else() {
    let home = home_with(Options { map_bytes: 8 << 20, ..options() });
    let target = note(author(1), 1, "");
    home.commit_one(&target);
    let request = trusted(author(1), 5, 2, &[&["e", &id(&target)]], "");
    let mut batch: Vec<_> = (0..200).map(|n| trusted(author(n), 1, n, &[], &"x".repeat(60_000))).collect();
    batch.push(request.clone());
    let outcomes = home.commit(&batch);
    assert_eq!(outcomes[..200], [Outcome::Full; 200]);
    assert_eq!(outcomes[200], Outcome::Stored(Seq(2)));
    assert_eq!(home.assert_clean().events, 1);
    assert!(home.holds(&request) && !home.holds(&target));
    assert!(matches!(home.commit_one(&note(author(1), 3, "")), Outcome::Stored(_)), "the store still works");
}

#[test]
fn the_store_is_full_at_the_configured_limit() {
    let home = home_with(Options { full_bytes: Some(1 << 20), ..options() });
    let batch =
        |round: u64| (0..100).map(|n| trusted(author(n), 1, round, &[], &"x".repeat(3_000))).collect::<Vec<_>>();
    (0..20).for_each(|round| drop(home.commit(&batch(round))));
    assert_eq!(home.commit(&batch(20)), [Outcome::Full; 100]);
    let used = home.store.usage().expect("usage").used_bytes;
    assert!((1 << 20..3 << 20).contains(&used), "{used}");
    home.store.set_full(Full { used_bytes: 8 << 20, ..Full::NEVER });
    assert!(matches!(home.commit(&batch(20))[0], Outcome::Stored(_)));
}

#[test]
fn events_evicted_with_a_batch_make_room_for_it() {
    let home = home_with(Options { full_bytes: Some(1 << 20), ..options() });
    let batch = |round: u64| (0..100).map(|n| note(author(n), round, &"x".repeat(3_000))).collect::<Vec<_>>();
    (0..20).for_each(|round| drop(home.commit(&batch(round))));
    let oldest: Vec<Seq> = (1..=200).map(Seq).collect();
    let evicted = Evicted { seqs: &oldest, horizons: Some(b"up to here") };
    let mut writer = home.store.writer();
    let full = writer.commit_evicting(&batch(20), NOW, Evicted::default()).expect("a commit");
    assert_eq!(full, (vec![Outcome::Full; 100], Some(Removed::default())));
    let (outcomes, removed) = writer.commit_evicting(&batch(20), NOW, evicted).expect("a commit");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))), "{outcomes:?}");
    assert_eq!(removed.map(|removed| removed.events), Some(200));
    assert!(!home.holds(&batch(0)[0]) && home.holds(&batch(20)[99]));
    home.commit_one(&note(author(1), 21, ""));
    assert_eq!(home.store.read().expect("a snapshot").note(Note::Horizons).expect("a row"), Some(&b"up to here"[..]));
    home.assert_clean();
}
