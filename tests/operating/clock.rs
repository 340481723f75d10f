//! A clock that goes back: what depends on the time of day, and that nothing else does.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::preload::compiled;
use crate::support::relay::Relay;
use crate::support::wire::{Key, hex, now};

const HOUR: u64 = 3600;

/// A relay with members whose clock can be moved.
struct Scene {
    relay: Relay,
    clock: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = dir.path().join("clock");
        std::fs::write(&clock, "0").expect("a clock");
        std::fs::write(dir.path().join("relay.key"), hex(&Sha256::digest("the key of relay"))).expect("a key");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.env("LD_PRELOAD", compiled("tests/operating/clock.c", "clock")).env("WEIR_CLOCK", &clock);
        let config = "[membership]\nkey_file = \"relay.key\"\nclaims = [\"open sesame\"]\nrequest_window_s = 60\n";
        let relay = Relay::start_by(command, dir.path(), config);
        Self { relay, clock, _dir: dir }
    }

    /// Moves the clock by this many seconds from the real time.
    fn set(&self, seconds: i64) {
        let new = self.clock.with_extension("new");
        std::fs::write(&new, seconds.to_string()).expect("a clock");
        std::fs::rename(new, &self.clock).expect("a clock");
    }

    /// The list of members that is stored: its date and its keys.
    fn list(&self) -> (u64, Vec<String>) {
        let (events, _) = self.relay.connect().open("l", &[json!({"kinds": [13534]})]);
        let list: Value = events.last().map_or(Value::Null, |event| serde_json::from_str(event).expect("JSON"));
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        let keys = tags.iter().filter_map(|tag| tag[1].as_str()).map(String::from).collect();
        (list["created_at"].as_u64().unwrap_or_default(), keys)
    }
}

#[test]
fn after_the_clock_went_back_only_what_is_then_of_the_future_is_refused_until_it_is_right_again() {
    let (scene, [bob, carol]) = (Scene::start(), ["bob", "carol"].map(Key::named));
    let mut watcher = scene.relay.connect();
    watcher.ask(r#"["REQ","w",{"kinds":[1]}]"#, r#"["EOSE","w"]"#);
    let mut client = scene.relay.connect();
    let join = |key: &Key, at| key.event(28934, at, json!([["claim", "open sesame"]]), "");
    let accepted =
        |request: &crate::support::wire::Signed, remark: &str| format!(r#"["OK","{}",true,"{remark}"]"#, request.id);
    let first = join(&bob, now());
    client.ask(first.message(), &accepted(&first, "info: welcome to weir"));
    let before = bob.note("before");
    client.publish(&before);
    watcher.expect(&before.frame("w"));
    scene.relay.until(|| scene.list().1 == [bob.hex.clone()]);
    let (listed_at, _) = scene.list();

    scene.set(-(HOUR as i64));
    client.refused(&bob.note("of the future"), "invalid: created_at is more than 900 s in the future");
    let then = bob.event(1, now() - HOUR, json!([]), "then");
    client.publish(&then);
    watcher.expect(&then.frame("w"));
    let (stored, _) = scene.relay.connect().open("s", &[json!({"kinds": [1]})]);
    assert_eq!(stored, [before.text.clone(), then.text.clone()], "both are found, the newest first");
    let late = "restricted: created_at of the request is more than 60 s from now";
    client.refused(&join(&carol, now()), late);
    let second = join(&carol, now() - HOUR);
    client.ask(second.message(), &accepted(&second, "info: welcome to weir"));
    let mut members = [bob.hex.clone(), carol.hex.clone()];
    members.sort();
    scene.relay.until(|| scene.list().1 == members);
    assert_eq!(scene.list().0, listed_at + 1, "the list replaces the one that seems to be of the future");

    scene.set(0);
    client.refused(&second, late);
    let leave = bob.event(28936, now(), json!([]), "");
    client.refused(&leave, "invalid: a request to leave must have a \"-\" tag");
    let after = bob.note("after");
    client.publish(&after);
    watcher.expect(&after.frame("w"));
    scene.relay.until(|| scene.list().1 == members);
}
