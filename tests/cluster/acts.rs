//! What admins decide at one node holds at all.

use std::process::Command;

use super::nats::Nats;
use super::scene::{holds, node, settle};
use crate::support::relay::Relay;
use crate::support::wire::Key;

/// Runs a command on the store of a running node.
fn run(relay: &Relay, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.args(arguments).arg("--data").arg(relay.data()).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_ban_at_one_node_removes_the_event_and_refuses_the_author_at_all() {
    let Some(nats) = Nats::start() else { return };
    let [a, b] = ["a", "b"].map(|name| node(&nats, name));
    let (mut at_a, mut at_b) = (a.connect(), b.connect());
    let (author, other) = (Key::named("author"), Key::named("other"));
    let [bad, good] = ["bad", "good"].map(|text| other.note(text));
    for note in [&bad, &good] {
        at_a.ask(note.message(), &note.ok());
    }
    settle(&[&a, &b], &[bad.id.clone(), good.id.clone()].into_iter().collect());
    run(&a, &["ban", &author.hex, "--reason", "spam"]);
    run(&b, &["ban", &format!("event:{}", bad.id)]);
    let note = author.note("refused");
    b.until(|| run(&b, &["ban"]).contains(&author.hex) && !holds(&b).contains(&bad.id));
    b.until(|| at_b.try_ask(note.message()).is_some_and(|answer| answer.contains("blocked:")));
    a.until(|| holds(&a).len() == 1);
    at_a.ask(bad.message(), &bad.refused("blocked: this event is not welcome here"));
    // And back.
    run(&b, &["unban", &author.hex]);
    a.until(|| !run(&a, &["ban"]).contains(&author.hex));
    assert!(run(&a, &["audit"]).contains("unban"), "{}", run(&a, &["audit"]));
}

#[test]
fn a_node_that_comes_later_learns_every_decision_and_the_latest_one_holds() {
    let Some(mut nats) = Nats::start() else { return };
    let a = node(&nats, "a");
    let keys = ["one", "two", "three"].map(|name| Key::named(name).hex);
    keys.iter().for_each(|key| drop(run(&a, &["ban", key])));
    run(&a, &["unban", &keys[1]]);
    let b = node(&nats, "b");
    let bans = |relay: &Relay| {
        let listed = run(relay, &["ban"]);
        keys.each_ref().map(|key| listed.contains(key))
    };
    b.until(|| bans(&b) == [true, false, true]);
    // NATS forgets them, and the nodes do not.
    nats.wipe();
    run(&b, &["unban", &keys[0]]);
    nats.run();
    let c = node(&nats, "c");
    c.until(|| bans(&c) == [false, false, true]);
    a.until(|| bans(&a) == [false, false, true]);
}
