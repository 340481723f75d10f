//! Nodes and servers are killed in a storm of events.
//!
//! `WEIR_CLUSTER_KILLS` sets how many kills there are, `WEIR_CLUSTER_EVENTS` how many events.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client};

use super::nats::{Nats, is_there};
use super::scene::{config, settle};
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed};

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Publishes notes over one connection, as long as the relay answers; the ids of those that it acknowledged.
fn publish(address: SocketAddr, notes: &[Signed]) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let Ok(stream) = TcpStream::connect(address) else { return acknowledged };
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let Ok((mut socket, _)) = client(format!("ws://{address}"), stream) else { return acknowledged };
    for note in notes {
        if socket.write(Message::text(note.message())).is_err() {
            return acknowledged;
        }
    }
    // What is not sent is not answered.
    let _ = socket.flush();
    while acknowledged.len() < notes.len() {
        let Ok(Message::Text(frame)) = socket.read() else { break };
        let answer: Value = serde_json::from_str(&frame).expect("JSON");
        assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &json!(true)), "{answer}");
        acknowledged.push(answer[1].as_str().expect("an id").into());
    }
    acknowledged
}

/// Publishes until so many notes are acknowledged, at whatever node runs; their ids.
fn storm(nodes: &[RwLock<Option<Relay>>; 3], writer: usize, count: usize) -> BTreeSet<String> {
    let key = Key::named(&format!("writer {writer}"));
    let (mut acknowledged, mut n) = (BTreeSet::new(), writer);
    while acknowledged.len() < count {
        let notes: Vec<Signed> = (0..50).map(|of| key.note(&format!("{n} {of}"))).collect();
        n += 1;
        let held = nodes[n % 3].read().expect("nobody panicked");
        if let Some(relay) = held.as_ref() {
            acknowledged.extend(publish(relay.address, &notes));
        }
    }
    acknowledged
}

/// Kills a node at whatever it does, and starts it again.
fn kill(node: &RwLock<Option<Relay>>, config: &str) {
    node.read().expect("nobody panicked").as_ref().expect("it runs").signal("KILL");
    let mut held = node.write().expect("nobody panicked");
    let killed = held.take().expect("it was there");
    *held = Some(killed.restart_killed(config));
}

#[test]
fn nothing_acknowledged_is_missing_anywhere_after_nodes_and_servers_were_killed() {
    if !is_there() {
        return;
    }
    let (kills, events) = (number("WEIR_CLUSTER_KILLS", 6), number("WEIR_CLUSTER_EVENTS", 1_500));
    let nats = Mutex::new(Nats::start());
    let servers = [nats.lock().expect("nobody panicked").url()];
    let configs = ["a", "b", "c"].map(|name| config(&servers, name, ""));
    let nodes = configs.each_ref().map(|config| RwLock::new(Some(Relay::start(config))));
    let is_over = AtomicBool::new(false);
    let expected = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut done = 0;
            while done < kills && !is_over.load(Ordering::Relaxed) {
                if done % 4 == 3 {
                    let mut nats = nats.lock().expect("nobody panicked");
                    if done % 8 == 7 {
                        nats.wipe()
                    } else {
                        nats.kill()
                    }
                    nats.run();
                } else {
                    kill(&nodes[done % 3], &configs[done % 3]);
                }
                done += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            done
        });
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                scope.spawn({
                    let nodes = &nodes;
                    move || storm(nodes, writer, events / 3)
                })
            })
            .collect();
        let acknowledged: BTreeSet<String> =
            writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect();
        is_over.store(true, Ordering::Relaxed);
        let done = killer.join().expect("the killer");
        eprintln!("{done} kills, {} events acknowledged", acknowledged.len());
        acknowledged
    });
    let nodes = nodes.map(|node| node.into_inner().expect("nobody panicked").expect("it runs"));
    settle(&nodes.each_ref(), &expected);
}
