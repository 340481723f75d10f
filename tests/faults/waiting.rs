//! Queries while commits fail: those that would miss an acknowledged event wait until a commit succeeds, whoever makes
//! it, and the others go on.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::shim::{Faults, eventually};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// A disk that refuses every commit from now on, below a relay that has acknowledged events.
struct Failing {
    relay: Relay,
    faults: Faults,
    dir: tempfile::TempDir,
    /// Acknowledged before, and committed.
    before: Signed,
}

const BROKEN: &str = "pages sync EIO 0 all";
const NO_ROOM: &str = "pages write ENOSPC 0 all";

impl Failing {
    /// With `kept` in the log. Returns once their commit has failed.
    fn after<'a>(fault: &str, kept: impl IntoIterator<Item = &'a Signed>) -> Self {
        let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
        let relay = Relay::start_by(faults.beneath_relay(), dir.path(), "metrics.listen = \"127.0.0.1:0\"\n");
        let before = Key::named("bob").note("before");
        let mut client = relay.connect();
        client.publish(&before);
        client.finds(json!({ "kinds": [1] }), &[&before]);
        faults.set("fail", fault);
        client.publish_all(kept);
        drop(client);
        eventually("the failure is told", || relay.watch("/readyz").0 == 503);
        Self { relay, faults, dir, before }
    }

    /// The answer to a query that misses nothing.
    #[track_caller]
    fn goes_on(&self, client: &mut Client<'_>) {
        client.finds(json!({ "authors": [Key::named("bob").hex] }), &[&self.before]);
    }

    fn commits_succeed(&self) {
        self.faults.switch_off("fail");
    }
}

fn request(sub: &str, filter: &Value) -> String {
    json!(["REQ", sub, filter]).to_string()
}

/// By the relay's own next try, by the next batch, or by another process.
#[test]
fn a_query_that_would_miss_an_acknowledged_event_gets_it_once_a_commit_succeeds_and_others_go_on() {
    let alice = Key::named("alice");
    let recoveries: [fn(&Failing); 3] = [
        Failing::commits_succeed,
        |failing| {
            failing.commits_succeed();
            failing.relay.connect().publish(&Key::named("carol").note("the next batch"));
        },
        // The relay's own commits fail on.
        |failing| imports(&failing.dir.path().join("data"), &Key::named("carol").note("imported")),
    ];
    for fault in [BROKEN, NO_ROOM] {
        for recover in recoveries {
            let kept = alice.note("kept");
            let failing = Failing::after(fault, [&kept]);
            let mut client = failing.relay.connect();
            client.send(request("author", &json!({ "authors": [alice.hex] })));
            client.send(request("id", &json!({ "ids": [kept.id] })));
            client.send(json!(["COUNT", "count", { "authors": [alice.hex] }]).to_string());
            failing.goes_on(&mut client);
            let mut publisher = failing.relay.connect();
            failing.goes_on(&mut publisher);
            publisher.ask(kept.message(), &kept.duplicate());
            recover(&failing);
            let eose = |sub: &str| format!("[\"EOSE\",\"{sub}\"]");
            let count = "[\"COUNT\",\"count\",{\"count\":1}]".to_owned();
            client.expect_all([kept.frame("author"), eose("author"), kept.frame("id"), eose("id"), count]);
        }
    }
}

/// Stores an event as a process of its own, whose disk works.
fn imports(data: &Path, event: &Signed) {
    let file = data.with_file_name("events.jsonl");
    std::fs::write(&file, &event.text).expect("a file");
    let mut import = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = import.arg("--data").arg(data).arg("import").arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_subscription_opened_while_commits_fail_gets_what_was_acknowledged_before_once() {
    let alice = Key::named("alice");
    let [kept, after] = ["kept", "after"].map(|text| alice.note(text));
    let failing = Failing::after(BROKEN, [&kept]);
    let mut subscriber = failing.relay.connect();
    subscriber.send(request("live", &json!({ "authors": [alice.hex] })));
    failing.goes_on(&mut subscriber);
    failing.commits_succeed();
    assert_eq!(subscriber.rest("live").0, [kept.text.as_str()]);
    failing.relay.connect().publish(&after);
    subscriber.expect(&after.frame("live"));
    subscriber.is_silent();
}

/// A connection has four places for queries that run or wait.
#[test]
fn a_query_that_waits_and_is_closed_makes_room_for_another_while_commits_still_fail() {
    let alice = Key::named("alice");
    let failing = Failing::after(BROKEN, [&alice.note("kept")]);
    let mut client = failing.relay.connect();
    let subs = ["a", "b", "c", "d"];
    subs.iter().for_each(|sub| client.send(request(sub, &json!({ "authors": [alice.hex] }))));
    subs.iter().for_each(|sub| client.send(json!(["CLOSE", sub]).to_string()));
    failing.goes_on(&mut client);
}

#[test]
fn queries_that_wait_beyond_their_bound_are_refused_while_commits_fail() {
    let alice = Key::named("alice");
    let kept = alice.note("kept");
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let config = "metrics.listen = \"127.0.0.1:0\"\nqueues.scans = 2\n";
    let relay = Relay::start_by(faults.beneath_relay(), dir.path(), config);
    faults.set("fail", BROKEN);
    let mut client = relay.connect();
    client.publish(&kept);
    eventually("the failure is told", || relay.watch("/readyz").0 == 503);
    let filter = json!({ "authors": [alice.hex] });
    ["a", "b"].iter().for_each(|sub| client.send(request(sub, &filter)));
    let refused = "[\"CLOSED\",\"c\",\"rate-limited: too many queries are waiting; try again later\"]";
    client.ask(request("c", &filter), refused);
    faults.switch_off("fail");
    let eose = |sub: &str| format!("[\"EOSE\",\"{sub}\"]");
    client.expect_all([kept.frame("a"), eose("a"), kept.frame("b"), eose("b")]);
}

/// A query that waits holds up neither the end of the relay nor the next one, which takes over what the log holds.
#[test]
fn a_relay_that_is_stopped_while_queries_wait_for_a_commit_ends_in_order() {
    let alice = Key::named("alice");
    let kept = alice.note("kept");
    let Failing { relay, faults, dir, before } = Failing::after(BROKEN, [&kept]);
    let mut client = relay.connect();
    client.send(request("a", &json!({ "authors": [alice.hex] })));
    client.finds(json!({ "ids": [before.id] }), &[&before]);
    relay.signal("TERM");
    assert_eq!(client.closing_code(), 1012);
    drop(client);
    assert_eq!(relay.wait_for_status(), Some(0));
    drop(faults);
    let relay = Relay::start_in(dir.path(), "");
    relay.connect().finds(json!({ "authors": [alice.hex] }), &[&kept]);
}
