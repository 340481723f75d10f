//! Compaction keeps the rows of the store, whatever happens during the copy and wherever it is interrupted.

use super::*;
use crate::nostr::EventId;
use crate::require::{self, Need};

/// Every row of every table, except the rows that belong to one file.
pub(super) fn dump(store: &Store) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let inner = store.inner();
    let txn = inner.env.read_txn().expect("a transaction");
    let mut rows = Vec::new();
    for (name, table) in inner.tables.all() {
        for row in table.iter(&txn).expect("a walk") {
            let (key, value) = row.expect("a row");
            rows.push((name, key.to_vec(), value.to_vec()));
        }
    }
    rows.retain(|(name, key, _)| *name != "weir" || !(key == b"state" || key.starts_with(b"log")));
    rows
}

/// Events of every sort: notes, versions, deletions of events held and not held, a vanish request.
fn churn(n: u64) -> Vec<VerifiedEvent> {
    let by = author(n % 11);
    let gone = note(by, n, "gone");
    let address = format!("30000:{by}:b");
    let mut batch = vec![
        note(by, n, "held"),
        gone.clone(),
        trusted(by, 0, n, &[], "profile"),
        trusted(by, 30_000, n, &[&["d", if n.is_multiple_of(3) { "a" } else { "b" }]], ""),
        trusted(author(99), 1059, n, &[&["p", &by.to_string()]], &n.to_string()),
        trusted(by, 1, n, &[&["expiration", &(NOW.0 + 1 + n).to_string()]], "later"),
        trusted(by, 5, n, &[&["e", &id(&gone)], &["a", &address], &["e", &"ab".repeat(32)]], ""),
    ];
    if n % 17 == 5 {
        batch.push(trusted(by, 62, n, &[&["relay", "ALL_RELAYS"]], ""));
    }
    batch
}

pub(super) fn filled() -> Home {
    let home = home();
    for n in 0..200 {
        home.commit(&churn(n));
    }
    home
}

fn run(compaction: &mut Compaction, mut meanwhile: impl FnMut()) {
    while compaction.step().expect("a step") != Stage::Ready {
        meanwhile();
    }
}

fn generations(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.dir.path()).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with("gen-") || name.ends_with(".mdb")).collect();
    names.sort();
    names
}

#[test]
fn a_compacted_store_has_the_same_rows_in_fewer_pages() {
    let home = filled();
    let (before, txn) = (dump(&home.store), home.store.txn_id().expect("a number"));
    for generation in 1..=2 {
        let mut compaction = Compaction::begin(&home.store).expect("a copy");
        run(&mut compaction, || {});
        assert_eq!(compaction.check(|| {}).expect("a check").problems, []);
        let Compacted { before_bytes, after_bytes, .. } = compaction.finish().expect("the move");
        assert!(generation == 2 || after_bytes < before_bytes, "{before_bytes} -> {after_bytes}");
        assert_eq!(dump(&home.store), before);
        assert_eq!(generations(&home), [format!("gen-{generation}")]);
        assert_ne!(home.store.txn_id().expect("a number"), txn, "readers notice the move");
    }
    home.assert_clean();
    let Home { store, dir } = home;
    drop(store);
    assert_eq!(dump(&Store::open(dir.path(), options()).expect("the store")), before);
}

#[test]
fn a_copy_contains_the_changes_made_during_it() {
    let (home, twin) = (filled(), filled());
    let mut n = 200;
    let mut writer = home.store.writer();
    let mut twins = twin.store.writer();
    let mut compaction = Compaction::begin(&home.store).expect("a copy");
    let mut change = |home: &mut Writer, twin: &mut Writer| {
        for writer in [home, twin] {
            writer.commit(&churn(n), NOW).expect("a commit");
            writer.purge_vanished(20).expect("a commit");
            writer.reap_expired(Timestamp(NOW.0 + n / 2), 3).expect("a commit");
            writer.remove(&[Seq(n), Seq(3 * n)], Return::Refused).expect("a commit");
        }
        n += 1;
    };
    run(&mut compaction, || change(&mut writer, &mut twins));
    for _ in 0..50 {
        change(&mut writer, &mut twins);
    }
    compaction.finish().expect("the move");
    // The writer was made before the move.
    change(&mut writer, &mut twins);
    let rows = |home: &Home| {
        let secret = home.store.secret().0;
        (secret, home.store.usage().expect("a usage").tables.iter().map(|table| table.entries).collect::<Vec<_>>())
    };
    assert_eq!(rows(&home).1, rows(&twin).1);
    let ids = |home: &Home| {
        let snapshot = home.store.read().expect("a snapshot");
        let events = snapshot.after(Seq(0)).expect("a walk");
        events.map(|row| row.map(|(seq, event)| (seq, event.id())).expect("a row")).collect::<Vec<(Seq, EventId)>>()
    };
    assert_eq!(ids(&home), ids(&twin), "INV-4: the same events under the same numbers");
    assert_eq!(home.assert_clean(), twin.assert_clean());
}

#[test]
fn an_interrupted_copy_leaves_the_store_and_the_next_one_succeeds() {
    let home = filled();
    let mut steps = 0;
    loop {
        let mut compaction = Compaction::begin(&home.store).expect("a copy");
        let stage = (0..steps).map(|_| compaction.step().expect("a step")).last();
        home.commit(&churn(300 + steps));
        drop(compaction);
        let before = dump(&home.store);
        let home_again = Store::open(home.dir.path(), options());
        assert!(matches!(home_again, Err(StoreError::AlreadyOpen(_))), "the store has not moved");
        home.store.forget_dead_copy().expect("a commit");
        assert_eq!(generations(&home), ["data.mdb", "lock.mdb"]);
        assert_eq!(home.store.inner().state().expect("a state"), journal::State::Here);
        assert_eq!(dump(&home.store), before);
        if stage == Some(Stage::Ready) {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "every table was interrupted: {steps}");
    home.assert_clean();
}

#[test]
fn a_moved_store_is_found_without_the_file_that_names_it() {
    let home = filled();
    let before = dump(&home.store);
    let old = std::fs::read(home.dir.path().join("data.mdb")).expect("the old file");
    let mut compaction = Compaction::begin(&home.store).expect("a copy");
    run(&mut compaction, || {});
    compaction.finish().expect("the move");
    // The process was killed right after the commit that moves the store.
    let Home { store, dir } = home;
    drop(store);
    std::fs::remove_file(dir.path().join("CURRENT")).expect("the file");
    std::fs::write(dir.path().join("data.mdb"), old).expect("the old file");
    let moved = Store::open(dir.path(), options()).expect("the store");
    let inner = moved.inner();
    let mut txn = inner.env.write_txn().expect("a transaction");
    journal::set_state(&inner.tables, &mut txn, journal::State::Moved(1)).expect("a put");
    txn.commit().expect("a commit");
    drop((inner, moved));
    let store = Store::open(dir.path(), options()).expect("the store");
    assert_eq!((store.inner().number, dump(&store)), (1, before));
    assert_eq!(std::fs::read_to_string(dir.path().join("CURRENT")).expect("the file"), "gen-1\n");
}

#[test]
fn only_one_copy_is_made_at_a_time_and_aborting_removes_it() {
    let home = filled();
    let compaction = Compaction::begin(&home.store).expect("a copy");
    assert!(matches!(Compaction::begin(&home.store), Err(StoreError::Busy)));
    home.store.forget_dead_copy().expect("nothing to do");
    assert_eq!(generations(&home), ["data.mdb", "gen-1", "lock.mdb"], "the copy is still in progress");
    compaction.abort().expect("a commit");
    assert_eq!(generations(&home), ["data.mdb", "lock.mdb"]);
    home.assert_clean();
}

#[test]
fn files_that_root_creates_belong_to_the_owner_of_the_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    // Only root can give files to another user.
    if !require::has(Need::Root, rustix::process::geteuid().is_root()) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    chown(dir.path(), Some(12345), Some(54321)).expect("root may");
    let store = Store::open(dir.path(), Options { map_bytes: 1 << 28, ..Options::default() }).expect("opens");
    store.writer().commit(&[note(author(1), 1, "kept")], NOW).expect("a commit");
    let mut compaction = Compaction::begin(&store).expect("begins");
    run(&mut compaction, || ());
    compaction.finish().expect("moves");
    let mut others: Vec<PathBuf> = Vec::new();
    let mut left = vec![dir.path().to_path_buf()];
    while let Some(path) = left.pop() {
        let about = path.metadata().expect("it is there");
        if (about.uid(), about.gid()) != (12345, 54321) {
            others.push(path.clone());
        }
        if about.is_dir() {
            left.extend(std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
        }
    }
    assert_eq!(others, Vec::<PathBuf>::new());
}
