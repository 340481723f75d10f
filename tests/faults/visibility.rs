//! What one process commits or acknowledges and another finds, while LMDB's meta page is being written: it names the
//! commit already, and no reader sees it yet.
//!
//! The other process is this test binary, started again with a directory to write to, or the relay.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use weir::backup;
use weir::nostr::{Timestamp, VerifiedEvent};
use weir::store::{Evicted, Options, Outcome, Seq, Store};

use super::shim::Faults;
use crate::support::event::{author, trusted};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const NOW: Timestamp = Timestamp(1_700_000_000);
const DIRECTORY: &str = "WEIR_TEST_STORE";
const WORK: &str = "WEIR_TEST_WORK";

/// How long something that must wait is seen to wait. It waits until the test lets it go, so this is never too short
/// for a store that does.
const A_MOMENT: Duration = Duration::from_millis(200);

fn open(path: &Path) -> Store {
    Store::open(path, Options { map_bytes: 1 << 30, ..Options::default() }).expect("the store opens")
}

fn note() -> VerifiedEvent {
    trusted(author(1), 1, NOW.0, &[], "by another process")
}

/// Not a test: the other process.
#[test]
fn other_process() {
    let (Some(path), Ok(work)) = (std::env::var_os(DIRECTORY), std::env::var(WORK)) else { return };
    let store = open(Path::new(&path));
    match work.as_str() {
        "create" => {}
        "commit" => assert_eq!(store.writer().commit(&[note()], NOW).expect("a commit"), [Outcome::Stored(Seq(1))]),
        // What a relay does: the event is durable and acknowledged before its commit begins.
        "log" => store
            .writer()
            .group(|group| group.add(&[note()], NOW, Evicted::default()).map(|added| assert!(added.is_durable)))
            .expect("a commit"),
        other => panic!("{other} is no work"),
    }
}

fn start(faults: &Faults, path: &Path, work: &str) -> Child {
    faults
        .beneath(std::env::current_exe().expect("this program"))
        .args(["--exact", "visibility::other_process", "--nocapture"])
        .env(DIRECTORY, path)
        .env(WORK, work)
        .stdout(Stdio::null())
        .spawn()
        .expect("the process starts")
}

/// What `work` gives, which must wait until `let_go` is done.
#[track_caller]
fn waits<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, let_go: impl FnOnce()) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()).expect("the test waits"));
    let early = result.recv_timeout(A_MOMENT).is_ok();
    let_go();
    assert!(!early, "it did not wait for the commit that was being written");
    let result = result.recv().expect("a result");
    thread.join().expect("no panic");
    result
}

#[test]
fn a_commit_counts_from_the_moment_at_which_readers_see_it() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let store = open(dir.path());
    let before = store.txn_id().expect("a number");
    faults.switch_on("hold-meta");
    let mut child = start(&faults, dir.path(), "commit");
    faults.wait_for("held-meta");
    assert_eq!(store.txn_id().expect("a number"), before);
    assert_eq!(store.read().expect("a snapshot").last_seq().expect("a number"), Seq(0));
    faults.switch_off("hold-meta");
    assert!(child.wait().expect("an end").success());
    assert_eq!(store.txn_id().expect("a number"), before + 1);
    assert_eq!(store.read().expect("a snapshot").last_seq().expect("a number"), Seq(1));
}

#[test]
fn fold_waits_for_the_commit_of_what_another_process_acknowledged() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let store = open(dir.path());
    faults.switch_on("hold-meta");
    let mut child = start(&faults, dir.path(), "log");
    faults.wait_for("held-meta");
    let fold = move || {
        store.checkpoint().expect("nothing is left");
        store.read().expect("a snapshot").by_id(&note().view().id()).expect("a lookup").map(|(seq, _)| seq)
    };
    assert_eq!(waits(fold, || faults.switch_off("hold-meta")), Some(Seq(1)));
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_backup_waits_for_the_commit_of_what_another_process_acknowledged() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let store = open(&data);
    let run = move || {
        let go_on = AtomicBool::new(false);
        let created =
            backup::create(&store, &to, NOW, 0, &mut || Ok(Vec::new()), &mut |_| {}, &go_on).expect("a backup");
        (created.run, created.added, created.events)
    };
    assert_eq!(run(), (1, 0, 0));
    faults.switch_on("hold-meta");
    let mut child = start(&faults, &data, "log");
    faults.wait_for("held-meta");
    assert_eq!(waits(run, || faults.switch_off("hold-meta")), (2, 1, 1));
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_store_that_another_process_is_creating_is_not_taken_for_a_foreign_database() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    faults.switch_on("hold-meta");
    let mut child = start(&faults, dir.path(), "create");
    faults.wait_for("held-meta");
    let path = dir.path().to_owned();
    let opened = waits(
        move || Store::open(&path, Options::default()).map(|store| store.secret().0).map_err(|error| error.to_string()),
        || faults.switch_off("hold-meta"),
    );
    assert!(child.wait().expect("an end").success());
    assert_eq!(opened, Ok(open(dir.path()).secret().0), "both have the one store");
}

#[test]
fn an_event_imported_beside_the_relay_is_delivered_even_if_live_looked_during_its_commit() {
    let (relay, faults) = (Relay::start(""), Faults::none());
    let key = Key::named("alice");
    let [event, nothing] = [key.note("imported"), key.event(20_001, now(), json!([]), "")];
    let mut client = relay.connect();
    assert_eq!(client.open("live", &[json!({ "kinds": [1] })]).0, Vec::<String>::new());

    faults.switch_on("hold-meta");
    let mut import = faults.beneath_relay();
    let import = import.arg("import").arg("--data").arg(relay.data()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut import = import.stderr(Stdio::null()).spawn().expect("the import starts");
    writeln!(import.stdin.take().expect("a pipe"), "{}", event.text).expect("the event is sent");
    faults.wait_for("held-meta");
    // Live looks at the store after each event that passes it: when the second is answered, it has looked.
    for _ in 0..2 {
        client.ask(nothing.message(), &nothing.refused("mute: no one listens for this ephemeral event"));
    }
    faults.switch_off("hold-meta");
    client.expect(&event.frame("live"));
    assert!(import.wait().expect("an end").success());
}
