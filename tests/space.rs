//! Backup and compaction of a relay that is being published to, by the built binary.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use serde_json::{Value, json};
use support::relay::{Relay, TIMEOUT};
use support::wire::{Key, Signed, now};

/// Events that a publisher sends before it reads the answers.
const WINDOW: usize = 20;

/// What was acknowledged so far.
#[derive(Clone, Default)]
struct Acknowledged {
    notes: BTreeMap<String, Signed>,
    /// Notes that a deletion names that was sent; and those of which it was acknowledged.
    doomed: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

#[derive(Default)]
struct Storm {
    acknowledged: Mutex<Acknowledged>,
    more: Condvar,
    is_over: AtomicBool,
}

impl Storm {
    fn publish(&self, relay: &Relay, name: &str, with_deletions: bool) {
        let (mut client, key) = (relay.connect(), Key::named(name));
        let (mut number, mut old) = (0, Vec::<Signed>::new());
        while !self.is_over.load(Ordering::Relaxed) {
            let notes: Vec<Signed> = (0..WINDOW)
                .map(|n| key.event(1, now(), json!([["t", "storm"]]), &format!("{number} {n} {}", "text ".repeat(n))))
                .collect();
            client.publish_all(&notes);
            let deletion = (with_deletions && number % 3 == 2).then(|| old.swap_remove(number % old.len()));
            {
                let mut acknowledged = self.acknowledged.lock().expect("nobody panicked");
                acknowledged.notes.extend(notes.iter().map(|note| (note.id.clone(), note.clone())));
                acknowledged.doomed.extend(deletion.iter().map(|note| note.id.clone()));
            }
            if let Some(note) = deletion {
                client.publish(&key.delete(now(), json!([["e", note.id]])));
                self.acknowledged.lock().expect("nobody panicked").deleted.insert(note.id);
            }
            self.more.notify_all();
            old.extend(notes);
            number += 1;
        }
    }

    /// Waits until this many more notes are acknowledged, and gives what is.
    fn after(&self, more: usize) -> Acknowledged {
        let acknowledged = self.acknowledged.lock().expect("nobody panicked");
        let target = acknowledged.notes.len() + more;
        let wait = self.more.wait_timeout_while(acknowledged, TIMEOUT, |now| now.notes.len() < target);
        let (acknowledged, wait) = wait.expect("nobody panicked");
        assert!(!wait.timed_out(), "the relay takes events");
        acknowledged.clone()
    }
}

fn weir(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    command
}

/// The output of a run that must go well.
#[track_caller]
fn good(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{out}{err}");
    out
}

fn exported(data: &Path) -> BTreeSet<String> {
    let lines = good(weir(data, &["export", "--filter", r#"{"kinds":[1]}"#]));
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    let ids: Vec<String> = lines.lines().map(id).collect();
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "each event once");
    set
}

#[test]
fn a_backup_in_a_storm_holds_every_event_acknowledged_before_it_began() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (data, new) = (dir.path().join("data"), dir.path().join("new"));
    let backup = dir.path().join("backup");
    let backup = backup.to_str().expect("a plain name");
    let relay = Relay::start_in(dir.path(), "");
    let storm = Storm::default();
    let before = std::thread::scope(|scope| {
        for name in ["alice", "bob"] {
            let (storm, relay) = (&storm, &relay);
            scope.spawn(move || storm.publish(relay, name, true));
        }
        let mut before = Acknowledged::default();
        for _ in 0..3 {
            before = storm.after(300);
            good(weir(&data, &["backup", backup]));
        }
        storm.is_over.store(true, Ordering::Relaxed);
        before
    });
    assert!(good(weir(&data, &["backup", backup, "--verify"])).ends_with("no problems found\n"));
    assert!(good(weir(&new, &["restore", backup])).ends_with("no problems found\n"));
    let held = exported(&new);
    let doomed = storm.acknowledged.lock().expect("nobody panicked").doomed.clone();
    let lost: Vec<_> = before.notes.keys().filter(|id| !held.contains(*id) && !doomed.contains(*id)).collect();
    assert_eq!(lost, Vec::<&String>::new());
    let back: Vec<_> = before.deleted.intersection(&held).collect();
    assert_eq!(back, Vec::<&String>::new());
    assert!(!before.deleted.is_empty(), "something was deleted");
    drop(relay);

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    std::fs::rename(&new, elsewhere.path().join("data")).expect("the same file system");
    let restored = Relay::start_in(elsewhere.path(), "");
    let mut client = restored.connect();
    for id in before.deleted.iter().take(5) {
        client.refused(&before.notes[id], "blocked: the author deleted this event");
    }
    let refused = weir(&elsewhere.path().join("data"), &["restore", backup]).output().expect("the binary runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("holds a store"));
}

/// Starts `weir compact` and kills it once `storm` has gone on for a while.
fn kill_a_compaction(data: &Path, storm: &Storm, after: usize) {
    let mut child: Child = weir(data, &["compact"]).stdout(Stdio::null()).spawn().expect("the binary runs");
    storm.after(after);
    // It may have ended by itself; either is fine.
    let _ = child.kill();
    child.wait().expect("it ends");
}

#[test]
fn compaction_in_a_storm_loses_and_repeats_nothing_for_any_subscriber() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let relay = Relay::start_in(dir.path(), "");
    let storm = Storm::default();
    let end = Key::named("carol").note("the end");
    let mut subscriber = relay.connect();
    let (events, _) = subscriber.open("s", &[json!({"kinds": [1], "limit": 0})]);
    assert_eq!(events, Vec::<String>::new());
    let delivered = std::thread::scope(|scope| {
        let publishers = ["alice", "bob"].map(|name| {
            let (storm, relay) = (&storm, &relay);
            scope.spawn(move || storm.publish(relay, name, false))
        });
        let end = &end;
        let reader = scope.spawn(move || {
            let mut delivered = Vec::new();
            loop {
                let frame: Value = serde_json::from_str(&subscriber.next()).expect("JSON");
                assert_eq!((&frame[0], &frame[1]), (&json!("EVENT"), &json!("s")));
                let id = frame[2]["id"].as_str().expect("an id").to_owned();
                if id == end.id {
                    return delivered;
                }
                delivered.push(id);
            }
        });
        for round in 0..3 {
            storm.after(200);
            kill_a_compaction(&data, &storm, 20 * round);
            storm.after(100);
            let said = good(weir(&data, &["compact"]));
            assert!(said.starts_with("compacted: "), "{said}");
        }
        storm.after(200);
        storm.is_over.store(true, Ordering::Relaxed);
        for publisher in publishers {
            publisher.join().expect("the publisher ends well");
        }
        relay.connect().publish(end);
        reader.join().expect("the subscriber ends well")
    });
    let mut acknowledged: BTreeSet<String> =
        storm.acknowledged.lock().expect("nobody panicked").notes.keys().cloned().collect();
    let once: BTreeSet<String> = delivered.iter().cloned().collect();
    assert_eq!(once.len(), delivered.len(), "INV-3: no event twice");
    assert!(once == acknowledged, "INV-3: {} delivered of {}", once.len(), acknowledged.len());
    acknowledged.insert(end.id.clone());
    assert!(exported(&data) == acknowledged, "INV-1");
    assert!(good(weir(&data, &["check", "--signatures", "all"])).ends_with("no problems found\n"));
    let names = std::fs::read_dir(&data).expect("the directory").map(|entry| entry.expect("an entry").file_name());
    let files: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(files.iter().filter(|name| name.starts_with("gen-")).count(), 1, "{files:?}");
    assert!(!files.iter().any(|name| name == "data.mdb"), "{files:?}");
}

#[test]
fn an_index_that_lost_an_entry_is_found_and_mended() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let key = Key::named("dave");
    let lines: String = (0..50).map(|n| key.note(&n.to_string()).text + "\n").collect();
    std::fs::write(dir.path().join("events.jsonl"), lines).expect("a file");
    good(weir(&data, &["import", dir.path().join("events.jsonl").to_str().expect("a plain name")]));
    {
        // SAFETY: no other process has the store open.
        let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 30).max_dbs(32).open(&data) }.expect("it opens");
        let table = env.open_databases_and_commit(env.read_txn().expect("a transaction"), |opener, txn| {
            let table = opener.open_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some("author"))?;
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit((table.expect("the index"),)))
        });
        let (table,) = table.expect("a commit").unwrap_commit();
        let mut txn = env.write_txn().expect("a transaction");
        let first = table.first(&txn).expect("a walk").expect("an entry").0.to_vec();
        table.delete(&mut txn, &first).expect("a delete");
        txn.commit().expect("a commit");
    }
    let checked = weir(&data, &["check"]).output().expect("the binary runs");
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("its entry in the Author index is missing"));
    let said = good(weir(&data, &["check", "--repair"]));
    assert!(said.starts_with("repaired: 1 entries added, 0 removed, 0 records dropped\n"), "{said}");
    assert!(said.ends_with("no problems found\n"), "{said}");
    assert_eq!(exported(&data).len(), 50);
}
