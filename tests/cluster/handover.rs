//! SIGUSR2 at a node: a new process becomes the same node, and the two are never both.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::nats::Nats;
use super::scene::{config, joined, node, settle};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// A node whose program can be replaced, and the process that took its place.
struct Replaced {
    relay: Relay,
    successor: Option<Pid>,
    dir: tempfile::TempDir,
}

impl Replaced {
    fn start(nats: &Nats, name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("weir");
        symlink(env!("CARGO_BIN_EXE_weir"), &program).expect("a link to the program");
        let config = format!("{}\n[server]\ndrain_timeout_s = 1\n", config(&[nats.url()], name, ""));
        let relay = Relay::start_by(Command::new(&program), dir.path(), &config);
        joined(&relay);
        relay.wait_for_log("joined the cluster");
        Self { relay, successor: None, dir }
    }

    /// Puts a script in the place of the program.
    fn replace_program(&self, script: &str) {
        let program: &Path = &self.dir.path().join("weir");
        std::fs::remove_file(program).expect("the program is there");
        std::fs::write(program, format!("#!/bin/sh\n{script}\n")).expect("a script");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    }

    /// Has the process replaced.
    fn replace(&mut self) {
        self.relay.signal("USR2");
        let line = self.relay.wait_for_log("started a new process");
        let number = line.rsplit("pid=").next().and_then(|number| number.trim().parse().ok());
        self.successor = number.and_then(Pid::from_raw);
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some(successor) = self.successor {
            // It may have ended.
            let _ = kill_process(successor, Signal::KILL);
        }
    }
}

#[test]
fn the_old_process_leaves_the_cluster_before_the_new_one_joins_and_nothing_is_lost_in_a_storm() {
    let Some(nats) = Nats::start() else { return };
    let mut a = Replaced::start(&nats, "a");
    let b = node(&nats, "b");
    let is_over = AtomicBool::new(false);
    let expected: BTreeSet<String> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (key, mut client, mut ids) = (Key::named("at b"), b.connect(), Vec::new());
            while !is_over.load(Ordering::Acquire) {
                let notes: Vec<Signed> = (0..20).map(|n| key.note(&format!("{} {n}", ids.len()))).collect();
                client.publish_all(&notes);
                ids.extend(notes.into_iter().map(|note| note.id));
            }
            ids
        });
        let note = Key::named("at a").note("before");
        a.relay.connect().publish(&note);
        a.replace();
        let said = a.relay.log_until("joined the cluster");
        is_over.store(true, Ordering::Release);
        let left = said.iter().position(|line| line.contains("left the cluster")).expect("the old process leaves");
        let serves = said.iter().position(|line| line.contains("the new process serves")).expect("the new one serves");
        assert!(left < serves, "{said:#?}");
        let mut ids = writer.join().expect("the writer");
        let after = Key::named("at a").note("after");
        a.relay.connect().publish(&after);
        ids.extend([note.id, after.id]);
        ids.into_iter().collect()
    });
    assert_eq!(settle(&[&a.relay, &b], &expected), expected);
}

#[test]
fn a_process_that_could_not_be_replaced_joins_the_cluster_again() {
    let Some(nats) = Nats::start() else { return };
    let mut a = Replaced::start(&nats, "a");
    let b = node(&nats, "b");
    a.replace_program("read sockets; echo ready >&0; read take; exit 1");
    a.replace();
    a.relay.wait_for_log("left the cluster");
    a.relay.wait_for_log("joined the cluster");
    let notes = ["a", "b"].map(|name| Key::named(name).note("after"));
    for (relay, note) in [&a.relay, &b].into_iter().zip(&notes) {
        relay.connect().publish(note);
    }
    let expected = notes.map(|note| note.id).into();
    assert_eq!(settle(&[&a.relay, &b], &expected), expected);
}
