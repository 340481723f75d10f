//! Nodes of one cluster, and what their stores hold.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::nats::Nats;
use crate::support::relay::Relay;
use crate::support::wait::until;

/// The configuration of a node. `more` may name sections.
pub fn config(servers: &[String], node: &str, more: &str) -> String {
    // Test machines have small disks.
    let small = "max_bytes = \"16 MiB\"";
    format!("[cluster]\nservers = {servers:?}\nnode = {node:?}\n{small}\n{more}\n[metrics]\nlisten = \"127.0.0.1:0\"\n")
}

/// A node that has joined.
pub fn node(nats: &Nats, name: &str) -> Relay {
    node_with(nats, name, "")
}

/// A node that has joined, with more keys of its section, and then other sections.
pub fn node_with(nats: &Nats, name: &str, more: &str) -> Relay {
    let relay = Relay::start(&config(&[nats.url()], name, more));
    joined(&relay);
    relay
}

/// Waits until a node is connected.
pub fn joined(relay: &Relay) {
    relay.until(|| relay.metric("weir_cluster_connected") == 1);
}

/// What a store holds: ids.
pub fn holds(relay: &Relay) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.arg("export").arg("--data").arg(relay.data()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let id = |line: &[u8]| -> String {
        let event: Value = serde_json::from_slice(line).expect("an event");
        event["id"].as_str().expect("an id").into()
    };
    output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(id).collect()
}

/// Waits until every store holds the same, and these events among it. Returns what they hold.
#[track_caller]
pub fn settle(nodes: &[&Relay], expected: &BTreeSet<String>) -> BTreeSet<String> {
    let look = || nodes.iter().map(|node| holds(node)).collect::<Vec<_>>();
    let is_settled = |held: &Vec<BTreeSet<String>>| held.iter().all(|one| one == &held[0] && one.is_superset(expected));
    let told = || {
        let held = look();
        let lacks: Vec<usize> = held.iter().map(|one| expected.difference(one).count()).collect();
        let sizes: Vec<usize> = held.iter().map(BTreeSet::len).collect();
        format!("{} expected, they hold {sizes:?} and lack {lacks:?}", expected.len())
    };
    until(|| is_settled(&look()), told);
    holds(nodes[0])
}
