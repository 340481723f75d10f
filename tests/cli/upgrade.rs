//! A store of an earlier format: every command refuses it, and `weir upgrade` upgrades it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use heed::types::Bytes;
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions};
use weir::nostr::EventView;
use weir::store::keys::{self, Index, Secret};
use weir::store::{Options, Removal, Seq, Store};

use super::home::{Home, lines};
use super::support::event::{author, event};

/// The index entries of format 0: longer prefixes and numbers.
fn entries(event: EventView<'_>, seq: Seq, secret: &Secret) -> Vec<(Index, Vec<u8>)> {
    let (time, id) = (keys::newest_first(event.created_at()), &event.id_bytes()[..8]);
    let row = [&time[..], id, &keys::six(seq.0)].concat();
    let kind = event.kind().0.to_be_bytes();
    let mut entries = vec![
        (Index::Id, [id, &keys::six(seq.0)].concat()),
        (Index::Time, row.clone()),
        (Index::Kind, [&kind[..], &row].concat()),
        (Index::Author, [&event.pubkey_bytes()[..8], &kind, &row].concat()),
    ];
    for (letter, value) in event.tags().indexed() {
        // The real ones had 8 bytes of the hash; any 8 bytes will do, since they are discarded.
        let hash = [&secret.tag(letter, value)[..], b"xx"].concat();
        entries.push((Index::Tag, [&hash[..], &kind, &row].concat()));
    }
    entries.extend(event.expiration().map(|at| (Index::Expiration, [keys::six(at.0), keys::six(seq.0)].concat())));
    entries
}

const TABLES: [(Index, &str); 6] = [
    (Index::Id, "id"),
    (Index::Time, "time"),
    (Index::Author, "author"),
    (Index::Kind, "kind"),
    (Index::Tag, "tag"),
    (Index::Expiration, "expiration"),
];

/// Turns a store into one that the version with format 0 would have written.
fn downgrade(data: &Path) {
    let store = Store::open(data, Options::default()).expect("the store");
    let secret = *store.secret();
    let snapshot = store.read().expect("a snapshot");
    let rows = snapshot.after(Seq(0)).expect("a walk").map(|row| row.expect("a row"));
    let old: Vec<_> = rows.flat_map(|(seq, event)| entries(event, seq, &secret)).collect();
    drop(snapshot);
    drop(store);
    // SAFETY: nothing else has the file open, and no flag trades safety.
    let env = unsafe { EnvOpenOptions::new().map_size(1 << 30).max_dbs(32).flags(EnvFlags::NO_SYNC).open(data) };
    let env = env.expect("LMDB");
    let opened = env.open_databases_and_commit(env.read_txn().expect("a transaction"), |opener, txn| {
        let open = |name| opener.open_database::<Bytes, Bytes>(txn, Some(name)).map(|table| table.expect("a table"));
        let tables = TABLES.map(|(_, name)| open(name).expect("LMDB"));
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((open("weir")?, tables)))
    });
    let (meta, tables) = opened.expect("LMDB").unwrap_commit();
    let mut txn = env.write_txn().expect("a transaction");
    for ((index, _), table) in TABLES.into_iter().zip(tables) {
        table.clear(&mut txn).expect("a table");
        for (_, key) in old.iter().filter(|(of, _)| *of == index) {
            table.put(&mut txn, key, &[]).expect("a put");
        }
    }
    let counts = meta.prefix_iter(&txn, b"kind").expect("a walk").map(|row| row.expect("a row").0.to_vec());
    for key in counts.collect::<Vec<_>>() {
        meta.delete(&mut txn, &key).expect("a delete");
    }
    let mut header = meta.get(&txn, b"header").expect("LMDB").expect("the header").to_vec();
    header[8..12].copy_from_slice(&0_u32.to_be_bytes());
    meta.put(&mut txn, b"header", &header).expect("a put");
    txn.commit().expect("a commit");
    env.prepare_for_closing().wait();
}

/// The number of the last commit: LMDB notes the last two in the first two pages of its file.
fn last_commit(data: &Path) -> u64 {
    let file = File::open(data.join("data.mdb")).expect("the data file");
    let number = |page: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, page * 4096 + 144).expect("a page of LMDB");
        u64::from_ne_bytes(bytes)
    };
    number(0).max(number(1))
}

/// Starts an upgrade and kills it after two more commits.
fn kill_an_upgrade(home: &Home) {
    let data = home.path("data");
    let (before, started) = (last_commit(&data), Instant::now());
    let mut upgrade = home.command(&["upgrade"]);
    let mut child = upgrade.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    while last_commit(&data) < before + 2 {
        assert!(started.elapsed() < Duration::from_secs(60), "the upgrade writes nothing");
        std::thread::yield_now();
    }
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
}

#[test]
fn a_store_of_format_0_is_refused_until_an_upgrade_is_complete_however_often_it_is_killed() {
    let home = Home::new();
    let of = |n: u64| {
        let tag = (n % 9).to_string();
        event(author(n % 50), 1 + (n % 3) as u16, 1000 + n, &[&["t", &tag], &["expiration", "9999999999"]], "old")
    };
    home.hold(&(0..30_000).map(of).collect::<Vec<_>>());
    home.run(&["delete", "--refuse", "--filter", r#"{"until":1099}"#]).good();
    let before = home.export();
    let kinds = || {
        let store = Store::open(&home.path("data"), Options::default()).expect("the store");
        store.read().expect("a snapshot").kinds().expect("the tally")
    };
    let held = kinds();
    downgrade(&home.path("data"));

    let data = home.path("data").display().to_string();
    let refuses = |what: &str| {
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["export"], &["info"], &["check"]] {
            let ran = home.run(command);
            assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
            assert!(ran.err.ends_with(&format!("{data} {what}\n")), "{ran:?}");
        }
    };
    refuses("has store format 0, this version of weir reads 2; weir upgrade converts it; nothing was changed");
    for _ in 0..2 {
        kill_an_upgrade(&home);
        refuses("has store format 0, and an upgrade of it has begun: weir upgrade continues it");
    }
    assert_eq!(home.run(&["upgrade"]).good(), "upgraded from format 0 to 2\n");
    assert_eq!(home.run(&["upgrade"]).good(), "the store already has format 2\n");
    assert_eq!(home.export(), before);
    assert_eq!(kinds(), held);
    let ran = home.run(&["check", "--signatures", "none"]);
    assert!(ran.code == Some(0) && ran.out.ends_with("no problems found\n"), "{ran:?}");
    // Deleted events stay out, and new events are accepted.
    let ran = home.run_with(&["import", "--no-verify"], lines(&[of(6), of(30_000)]).as_bytes());
    assert_eq!((ran.count("deleted"), ran.count("stored")), (1, 1), "{ran:?}");
}

/// The tables of format 1.
const TABLES_OF_1: [&str; 13] = [
    "weir",
    "event",
    "id",
    "time",
    "author",
    "kind",
    "tag",
    "expiration",
    "holder",
    "deleted",
    "deleted_address",
    "vanished",
    "purge",
];

/// Replaces a store by one that the version with format 1 would have written.
fn rewrite_as_format_1(data: &Path) {
    let open = |path: &Path| {
        // SAFETY: nothing else has the file open, and no flag trades safety.
        unsafe { EnvOpenOptions::new().map_size(1 << 30).max_dbs(32).flags(EnvFlags::NO_SYNC).open(path) }
            .expect("LMDB")
    };
    let old = open(data);
    let txn = old.read_txn().expect("a transaction");
    let opened = old.open_databases_and_commit(txn, |opener, txn| {
        let open = |name| opener.open_database::<Bytes, Bytes>(txn, Some(name)).expect("LMDB").expect("a table");
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(TABLES_OF_1.map(open)))
    });
    let (tables, txn) = (opened.expect("LMDB").unwrap_commit(), old.read_txn().expect("a transaction"));
    let rows = tables.map(|table| {
        let rows = table.iter(&txn).expect("a walk").map(|row| row.expect("a row"));
        rows.map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Vec<_>>()
    });
    drop(txn);
    old.prepare_for_closing().wait();
    for entry in std::fs::read_dir(data).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::remove_file(path).expect("it is ours");
        }
    }
    let new = open(data);
    let created = new.create_databases_and_commit(new.write_txn().expect("a transaction"), |creator, txn| {
        for (name, rows) in TABLES_OF_1.into_iter().zip(&rows) {
            let table = creator.create_database::<Bytes, Bytes>(txn, Some(name))?;
            for (key, value) in rows.iter().filter(|(key, _)| name != "weir" || key != b"id") {
                let mut value = value.clone();
                if name == "weir" && key == b"header" {
                    value[8..12].copy_from_slice(&1_u32.to_be_bytes());
                }
                table.put(txn, key, &value)?;
            }
        }
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(()))
    });
    created.expect("LMDB").unwrap_commit();
    new.prepare_for_closing().wait();
}

#[test]
fn a_store_of_format_1_is_upgraded_at_once_and_then_remembers_removals() {
    let home = Home::new();
    let of = |n: u64| event(author(1), 1, 1000 + n, &[], "old");
    home.hold(&(0..100).map(of).collect::<Vec<_>>());
    home.run(&["delete", "--filter", r#"{"until":1009}"#]).good();
    let (before, data) = (home.export(), home.path("data"));
    rewrite_as_format_1(&data);
    let ran = home.run(&["export"]);
    assert!(ran.code == Some(1) && ran.err.contains("has store format 1, this version of weir reads 2"), "{ran:?}");
    assert_eq!(home.run(&["upgrade"]).good(), "upgraded from format 1 to 2\n");
    assert_eq!(home.run(&["upgrade"]).good(), "the store already has format 2\n");
    assert_eq!(home.export(), before);
    home.run(&["delete", "--filter", r#"{"until":1010}"#]).good();
    let store = Store::open(&data, Options::default()).expect("the store");
    let snapshot = store.read().expect("a snapshot");
    let removals = snapshot.removals_after(0).expect("no damage").expect("all of them");
    let removals: Vec<_> = removals.map(|row| row.expect("a row")).collect();
    assert_eq!(removals, [Removal { number: 1, seq: Seq(11), id: of(10).view().id() }]);
    assert_ne!(snapshot.store_id().expect("an id"), [0; 16]);
    drop(snapshot);
    drop(store);
    home.run(&["check", "--signatures", "none"]).good();
}
