//! The web of trust, as follow lists arrive and change, and `weir trust`.

use std::process::Command;

use serde_json::{Value, json};

use crate::scene::{config, refused_by};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const UNTRUSTED: &str = "blocked: the author is not in this relay's web of trust";

fn trusting(root: &Key, more: &str) -> String {
    config(&format!("[policy.trust]\nroots = [\"{}\"]\n{more}\n", root.hex))
}

/// The follow list of a key, newer with each `version`.
fn list(of: &Key, version: u64, follows: &[&Key]) -> Signed {
    let tags: Vec<Value> = follows.iter().map(|key| json!(["p", key.hex])).collect();
    of.event(3, now() - 100 + version, Value::Array(tags), "")
}

fn trusted(relay: &Relay) -> u64 {
    relay.metric("weir_trusted_keys")
}

/// What `weir trust` prints about a key, and whether it succeeds.
fn trust(relay: &Relay, configuration: &str, key: Option<&Key>) -> (String, bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("weir.toml");
    std::fs::write(&file, configuration).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("trust").arg("--config").arg(&file).arg("--data").arg(relay.data());
    let run = command.args(key.map(|key| &key.hex)).output().expect("the binary runs");
    (String::from_utf8_lossy(&run.stdout).into_owned(), run.status.success())
}

#[test]
fn a_web_grows_and_shrinks_as_lists_arrive_and_shows_its_paths() {
    let [root, near, far, stranger] = ["root", "near", "far", "stranger"].map(Key::named);
    let configuration = trusting(&root, "");
    let relay = Relay::start(&configuration);
    let mut client = relay.connect();
    assert_eq!(trusted(&relay), 1);
    client.refused(&near.note("too early"), UNTRUSTED);
    client.publish(&list(&root, 1, &[&near]));
    relay.until(|| trusted(&relay) == 2);
    client.publish(&near.note("followed"));
    client.refused(&far.note("not yet"), UNTRUSTED);
    client.publish(&list(&near, 1, &[&far, &root]));
    relay.until(|| trusted(&relay) == 3);
    client.publish(&far.note("two hops"));
    client.publish(&list(&far, 1, &[&stranger]));
    client.refused(&stranger.note("three hops"), UNTRUSTED);
    client.publish(&stranger.event(1059, now(), json!([["p", far.hex]]), "for somebody in the web"));
    client.publish(&stranger.event(62, now() - 50, json!([["relay", "ALL_RELAYS"]]), ""));
    assert_eq!(refused_by(&relay, "trust"), 3);
    let (said, found) = trust(&relay, &configuration, Some(&far));
    assert_eq!((said.lines().count(), found), (3, true), "{said}");
    assert!(said.lines().zip(0..).all(|(line, hop)| line.starts_with(&format!("{hop} npub1"))), "{said}");
    let outside = trust(&relay, &configuration, Some(&stranger));
    assert_eq!(outside, ("not within 2 hops\n".into(), false));
    assert_eq!(trust(&relay, &configuration, None).0, "hop 0: 1\nhop 1: 1\nhop 2: 1\n");
    client.publish(&list(&root, 2, &[&stranger]));
    relay.until(|| trusted(&relay) == 2);
    client.refused(&near.note("no longer followed"), UNTRUSTED);
    client.publish(&stranger.note("followed now"));
}

#[test]
fn a_list_that_a_command_removes_no_longer_makes_the_web() {
    let [root, near, far] = ["a root", "a near one", "a far one"].map(Key::named);
    let relay = Relay::start(&trusting(&root, ""));
    let mut client = relay.connect();
    client.publish(&list(&root, 1, &[&near]));
    relay.until(|| trusted(&relay) == 2);
    client.publish(&list(&near, 1, &[&far]));
    relay.until(|| trusted(&relay) == 3);
    client.publish(&far.note("two hops"));
    let filter = json!({"kinds": [3], "authors": [near.hex]}).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let run = command.args(["delete", "--filter", &filter, "--data"]).arg(relay.data()).output().expect("it runs");
    assert!(String::from_utf8_lossy(&run.stdout).starts_with("1 events removed"), "{run:?}");
    relay.until(|| trusted(&relay) == 2);
    client.refused(&far.note("nobody follows"), UNTRUSTED);
    client.publish(&near.note("one hop"));
}

#[test]
fn a_web_is_known_at_the_start_and_a_reload_changes_its_reach_or_turns_it_off() {
    let [root, near, far] = ["first", "second", "third"].map(Key::named);
    let relay = Relay::start(&config(""));
    relay.connect().publish_all(&[list(&root, 1, &[&near]), list(&near, 1, &[&far])]);
    let relay = relay.restart_killed(&trusting(&root, "within = 1"));
    let mut client = relay.connect();
    client.publish(&near.note("one hop"));
    client.refused(&far.note("two hops"), UNTRUSTED);
    relay.reload(&trusting(&root, "within = 2"));
    relay.until(|| trusted(&relay) == 3);
    client.publish(&far.note("in reach"));
    relay.reload(&trusting(&root, "within = 5"));
    relay.wait_for_log("policy.trust.within: 5 is not between 0 and 4");
    client.publish(&far.note("still in reach"));
    relay.reload(&config(""));
    relay.until(|| trusted(&relay) == 0);
    client.publish(&Key::named("anybody").note("welcome"));
}
