//! Writes and syncs that fail: of LMDB's meta page, of its data, of the write-ahead log, and of both.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::json;

use super::shim::{Faults, eventually};
use crate::support::relay::Relay;
use crate::support::wire::Key;

const UNCONFIRMED: &str = "error: it could not be confirmed that the event is stored; it may still be; send it again";

/// A relay that serves its metrics, with faults.
fn relay(faults: &Faults, dir: &Path) -> Relay {
    let config = "metrics.listen = \"127.0.0.1:0\"\nserver.drain_timeout_s = 60\n";
    Relay::start_by(faults.beneath_relay(), dir, config)
}

fn wait_until_ready_says(relay: &Relay, status: u16, why: &str) {
    eventually(why, || relay.watch("/readyz") == (status, format!("{why}\n")));
}

fn metric(relay: &Relay, name: &str) -> u64 {
    let (_, body) = relay.watch("/metrics");
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {body}")).parse().expect("a whole number")
}

#[test]
fn a_failed_write_of_the_meta_page_ends_the_relay_and_nothing_acknowledged_is_lost() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = relay(&faults, dir.path());
    let [before, during] = ["before", "during"].map(|text| Key::named("alice").note(text));
    let mut client = relay.connect();
    client.publish(&before);
    client.finds(json!({ "kinds": [1] }), &[&before]);
    faults.switch_on("fail-meta-once");
    // The log has it; then its commit fails, and LMDB refuses every transaction of this process.
    client.publish(&during);
    let line = relay.wait_for_log("; the relay stops");
    assert!(line.contains("this process cannot use the store any more (LMDB: MDB_PANIC"), "{line}");
    // The socket stays open: a client that does not leave is not waited for, neither for server.drain_timeout_s nor
    // until its connection is cut.
    std::mem::forget(client);
    relay.wait_for_log("clients did not leave in time clients=1");
    assert_eq!(relay.wait_for_status(), Some(1), "systemd starts it again");

    let relay = Relay::start_in(dir.path(), "");
    for event in [&before, &during] {
        relay.connect().finds(json!({ "ids": [event.id] }), &[event]);
    }
}

#[test]
fn a_disk_that_hangs_is_told_and_the_watchdog_hears_nothing_until_it_answers() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    let mut command = faults.beneath_relay();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000").env_remove("WATCHDOG_PID");
    let relay = Relay::start_by(command, dir.path(), "metrics.listen = \"127.0.0.1:0\"\n");
    let note = Key::named("alice").note("in the log");
    faults.switch_on("hold-meta");
    relay.connect().publish(&note);
    faults.wait_for("held-meta");
    assert_eq!(relay.watch("/readyz"), (200, "ready\n".into()), "a commit may take its time");
    // The system keeps a few datagrams only, and whoever sends one more waits.
    systemd.set_nonblocking(true).expect("it is set");
    let hears = || std::iter::repeat_with(|| systemd.recv(&mut [0; 64])).take_while(Result::is_ok).count() > 0;
    let why = "events cannot be stored: the disk, or a command that holds the store, does not answer\n";
    eventually("it is told", || {
        hears();
        relay.watch("/readyz") == (503, why.into())
    });
    assert_eq!(relay.watch("/healthz"), (200, "ok\n".into()), "it serves readers");
    let silence = "the thread makes no progress; the watchdog is not notified thread=\"writer\"";
    relay.wait_for_log(silence);
    hears();
    relay.wait_for_log(silence);
    assert!(!hears(), "the watchdog hears nothing");

    faults.switch_off("hold-meta");
    wait_until_ready_says(&relay, 200, "ready");
    eventually("the watchdog hears of it", hears);
    relay.connect().finds(json!({ "kinds": [1] }), &[&note]);
}

#[test]
fn commits_that_fail_are_shown_until_one_succeeds_and_nothing_acknowledged_is_lost() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = relay(&faults, dir.path());
    let [first, second] = ["first", "second"].map(|text| Key::named("alice").note(text));
    let mut client = relay.connect();
    faults.switch_on("fail-data-sync");
    client.publish(&first);
    wait_until_ready_says(&relay, 503, "events cannot be stored: LMDB: Input/output error (os error 5)");
    assert_eq!(metric(&relay, "weir_store_committing"), 0);
    assert!(metric(&relay, "weir_store_failures_total{operation=\"commit\"}") > 0);
    // The log keeps what it has until that is committed, so another event needs its own commit.
    client.refused(&second, UNCONFIRMED);
    relay.wait_for_log("a commit failed; events are refused until one succeeds");

    faults.switch_off("fail-data-sync");
    wait_until_ready_says(&relay, 200, "ready");
    assert_eq!(metric(&relay, "weir_store_committing"), 1);
    relay.wait_for_log("commits succeed again");
    client.finds(json!({ "kinds": [1] }), &[&first]);
    client.publish(&second);
}

#[test]
fn a_log_that_fails_alone_refuses_nothing_and_is_counted() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = relay(&faults, dir.path());
    let note = Key::named("alice").note("committed");
    faults.switch_on("fail-log-sync");
    relay.connect().publish(&note);
    relay.connect().finds(json!({ "kinds": [1] }), &[&note]);
    assert_eq!(metric(&relay, "weir_store_failures_total{operation=\"log\"}"), 1);
    assert_eq!(relay.watch("/readyz"), (200, "ready\n".into()));
}

#[test]
fn an_event_whose_log_and_commit_both_fail_is_unconfirmed_and_may_be_stored_and_delivered_later() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = relay(&faults, dir.path());
    let note = Key::named("alice").note("unconfirmed");
    let mut subscriber = relay.connect();
    assert_eq!(subscriber.open("live", &[json!({ "kinds": [1] })]).0, Vec::<String>::new());
    faults.switch_on("fail-log-sync");
    faults.switch_on("fail-data-sync");
    let mut client = relay.connect();
    client.refused(&note, UNCONFIRMED);
    client.finds(json!({ "kinds": [1] }), &[]);
    faults.switch_off("fail-log-sync");
    faults.switch_off("fail-data-sync");
    // Its frame is in the log although the sync failed: the relay itself tries again.
    subscriber.expect(&note.frame("live"));
    client.finds(json!({ "kinds": [1] }), &[&note]);
    client.ask(note.message(), &note.duplicate());
}

#[test]
fn relaxed_durability_syncs_the_log_and_the_data_file_in_the_background() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = Relay::start_by(faults.beneath_relay(), dir.path(), "storage.durability = \"relaxed\"\n");
    let note = Key::named("alice").note("synced");
    let mut client = relay.connect();
    client.publish(&note);
    // What a query finds is committed; nothing writes from here on.
    client.finds(json!({ "kinds": [1] }), &[&note]);
    faults.switch_on("note-syncs");
    faults.wait_for("synced-log");
    faults.wait_for("synced-data");
}
