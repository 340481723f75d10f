//! Nodes and servers are killed, wiped and cut off from each other in a storm of events, some of which come twice and
//! late.
//!
//! `WEIR_CLUSTER_KILLS` sets how many faults there are, `WEIR_CLUSTER_EVENTS` how many events, and
//! `WEIR_CLUSTER_SERVERS` how many servers of NATS: 3 are a cluster that keeps each stream three times.

use std::collections::{BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, RwLock};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client};

use super::scene::{config, settle};
use super::servers::{Servers, publish_again};
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// Notes in one message of a writer, and how many of them are remembered to come again.
const BATCH: usize = 48;
const REMEMBERED: usize = 1_000;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How far the storm has come, which paces everything else.
#[derive(Default)]
struct Progress {
    /// How many notes are acknowledged, and whether that was all.
    now: Mutex<(usize, bool)>,
    news: Condvar,
    /// All faults have happened.
    is_harmed: AtomicBool,
    /// The last notes that were acknowledged.
    last: Mutex<VecDeque<Signed>>,
}

/// Says it in case of a panic, too.
struct WhenDropped<'a>(&'a AtomicBool);

impl Drop for WhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Progress {
    fn add(&self, notes: &[Signed], acknowledged: &BTreeSet<String>) {
        let mut last = self.last.lock().expect("nobody panicked");
        last.extend(notes.iter().filter(|note| acknowledged.contains(&note.id)).cloned());
        let excess = last.len().saturating_sub(REMEMBERED);
        last.drain(..excess);
        drop(last);
        self.now.lock().expect("nobody panicked").0 += acknowledged.len();
        self.news.notify_all();
    }

    fn end(&self) {
        self.now.lock().expect("nobody panicked").1 = true;
        self.news.notify_all();
    }

    /// Waits until so many events are acknowledged. Whether the storm goes on.
    fn reaches(&self, count: usize) -> bool {
        let now = self.now.lock().expect("nobody panicked");
        let now = self.news.wait_while(now, |(acknowledged, is_over)| *acknowledged < count && !*is_over);
        !now.expect("nobody panicked").1
    }
}

/// Publishes events over one connection, as long as the relay answers; the ids of those that it acknowledged.
fn publish(address: SocketAddr, events: &[Signed]) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let Ok(stream) = TcpStream::connect(address) else { return acknowledged };
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let Ok((mut socket, _)) = client(format!("ws://{address}"), stream) else { return acknowledged };
    for event in events {
        if socket.write(Message::text(event.message())).is_err() {
            return acknowledged;
        }
    }
    // What is not sent is not answered.
    let _ = socket.flush();
    while acknowledged.len() < events.len() {
        let Ok(Message::Text(frame)) = socket.read() else { break };
        let answer: Value = serde_json::from_str(&frame).expect("JSON");
        let is_replaced = answer[3].as_str().is_some_and(|reason| reason.starts_with("duplicate: a newer version"));
        assert!(answer[0] == json!("OK") && (answer[2] == json!(true) || is_replaced), "{answer}");
        acknowledged.insert(answer[1].as_str().expect("an id").into());
    }
    acknowledged
}

/// Publishes until so many notes are acknowledged and all faults have happened, at whatever node runs, with a profile
/// and a deletion in between; the ids of the notes that nobody deleted.
fn storm(nodes: &[RwLock<Option<Relay>>; 3], writer: usize, count: usize, progress: &Progress) -> BTreeSet<String> {
    let key = Key::named(&format!("writer {writer}"));
    let (mut kept, mut to_delete, mut n, mut sum): (BTreeSet<String>, Option<String>, _, _) =
        (BTreeSet::new(), None, writer, 0);
    while sum < count || !progress.is_harmed.load(Ordering::Acquire) {
        let notes: Vec<Signed> = (0..BATCH).map(|of| key.note(&format!("{n} {of}"))).collect();
        n += 1;
        let mut events = notes.clone();
        events.push(key.event(0, now(), json!([]), &format!("{{\"name\":\"{n}\"}}")));
        if let Some(id) = to_delete.take() {
            kept.remove(&id);
            events.push(key.delete(now(), json!([["e", id]])));
        }
        let held = nodes[n % 3].read().expect("nobody panicked");
        let Some(relay) = held.as_ref() else { continue };
        let mut acknowledged = publish(relay.address, &events);
        drop(held);
        acknowledged.retain(|id| notes.iter().any(|note| note.id == *id));
        sum += acknowledged.len();
        progress.add(&notes, &acknowledged);
        to_delete = acknowledged.first().cloned();
        kept.extend(acknowledged);
    }
    kept
}

/// Kills a node at whatever it does, and starts it again.
fn kill(node: &RwLock<Option<Relay>>, config: &str) {
    node.read().expect("nobody panicked").as_ref().expect("it runs").signal("KILL");
    let mut held = node.write().expect("nobody panicked");
    let killed = held.take().expect("it was there");
    *held = Some(killed.restart_killed(config));
}

/// What happens to the servers, one fault after the other; `cut` says that the storm is to go on for a while.
fn harm(servers: &mut Servers, fault: usize, cut: impl Fn() -> bool) {
    let number = fault % servers.count();
    match fault % 4 {
        0 => servers.server(number).kill(),
        1 if servers.count() > 1 => {
            servers.hold_routes(number, true);
            cut();
            servers.hold_routes(number, false);
        }
        1 => servers.wipe_all(),
        2 => {
            servers.hold_clients(number, true);
            cut();
            servers.hold_clients(number, false);
        }
        _ if fault % 8 == 3 => servers.server(number).wipe(),
        _ => servers.wipe_all(),
    }
    servers.server(number).run();
}

#[test]
fn nothing_acknowledged_is_missing_anywhere_after_nodes_and_servers_were_killed() {
    let count = number("WEIR_CLUSTER_SERVERS", 1);
    let Some(mut servers) = Servers::start(count) else { return };
    let (kills, events) = (number("WEIR_CLUSTER_KILLS", 8), number("WEIR_CLUSTER_EVENTS", 3_000));
    let urls = servers.urls();
    let configs = ["a", "b", "c"].map(|name| config(&urls, name, &format!("replicas = {count}")));
    let nodes = configs.each_ref().map(|config| RwLock::new(Some(Relay::start(config))));
    let progress = Progress::default();
    let step = events / (kills + 1);
    let expected = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let _harmed = WhenDropped(&progress.is_harmed);
            for done in 0..kills {
                progress.reaches(done * step);
                if done % 2 == 0 {
                    kill(&nodes[done / 2 % 3], &configs[done / 2 % 3]);
                } else {
                    harm(&mut servers, done / 2, || progress.reaches((done + 2) * step));
                }
            }
        });
        scope.spawn(|| {
            let mut n = 0;
            while progress.reaches(n * step) {
                let mut last: Vec<Signed> = progress.last.lock().expect("nobody panicked").iter().cloned().collect();
                last.truncate(200);
                // A server that is gone gets none.
                let _ = publish_again(&urls[n % urls.len()], &last);
                n += 1;
            }
        });
        let writers = [0, 1, 2].map(|writer| {
            let (nodes, progress) = (&nodes, &progress);
            scope.spawn(move || storm(nodes, writer, events / 3, progress))
        });
        let kept = writers.map(|writer| writer.join());
        progress.end();
        killer.join().expect("the killer");
        let kept: BTreeSet<String> = kept.into_iter().flat_map(|kept| kept.expect("a writer")).collect();
        let acknowledged = progress.now.lock().expect("nobody panicked").0;
        eprintln!("{count} servers, {kills} faults, {acknowledged} notes acknowledged, {} not deleted", kept.len());
        kept
    });
    let nodes = nodes.map(|node| node.into_inner().expect("nobody panicked").expect("it runs"));
    settle(&nodes.each_ref(), &expected);
}
