//! No room: `max_bytes`, the map, the disk and the watermark, each while events rush in.

use std::net::SocketAddr;

use serde_json::json;

use super::scene::{Answers, SmallDisk, assert_clean, eventually, free_address, get, held, metric, notes, storm};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const FULL: &str = "error: storage full";

/// What a full relay still does, and that it takes events again once `make_room` made some.
fn is_full_and_recovers(
    relay: &Relay,
    monitor: SocketAddr,
    answers: &Answers,
    make_room: impl FnOnce(&mut Client<'_>),
) {
    let author = Key::named("storm");
    let mut client = relay.connect();
    assert_eq!(answers.reasons(), [FULL]);
    assert!(answers.stored.len() > 20, "{} were stored", answers.stored.len());
    eventually("readyz says that storage is full", || get(monitor, "/readyz").0 == "503");
    assert_eq!(metric(monitor, "weir_storage_writable"), 0);
    assert!(metric(monitor, "weir_events_total{outcome=\"full\"}") > 0);
    assert_eq!(metric(monitor, "weir_events_total{outcome=\"failed\"}"), 0, "no commit failed");

    // Reads go on: everything that was acknowledged is there.
    assert!(held(&mut client, &answers.stored) == answers.stored, "an acknowledged event is missing");
    // Live delivery goes on.
    let ephemeral = author.event(20_001, now(), json!([]), "live");
    assert_eq!(client.open("live", &[json!({ "kinds": [20_001] })]).0, Vec::<String>::new());
    client.send(ephemeral.message());
    client.expect_all([ephemeral.frame("live"), ephemeral.ok()]);
    // Deletions are heard.
    let deleted: Vec<Signed> = answers.stored[..10].to_vec();
    for event in &deleted {
        client.publish(&author.delete(now(), json!([["e", event.id]])));
    }
    assert_eq!(held(&mut client, &deleted), []);

    make_room(&mut client);
    eventually("readyz says that there is room again", || get(monitor, "/readyz").0 == "200");
    let mut number = 0;
    eventually("events are taken again", || {
        number += 1;
        let event = author.event(1, now(), json!([]), &format!("after {number}"));
        storm(&mut client, [event]).stored.len() == 1
    });
    eventually("the gauge says so", || metric(monitor, "weir_storage_writable") == 1);
    assert!(held(&mut client, &answers.stored).len() >= answers.stored.len() / 3);
    assert_clean(relay);
}

/// Deletes two thirds of what was stored.
fn delete_most(client: &mut Client<'_>, stored: &[Signed]) {
    let author = Key::named("storm");
    for some in stored[10..stored.len() * 2 / 3].chunks(50) {
        let tags: Vec<_> = some.iter().map(|event| json!(["e", event.id])).collect();
        client.publish(&author.delete(now(), json!(tags)));
    }
}

#[test]
fn at_max_bytes_without_rules_only_deletions_are_stored() {
    let monitor = free_address();
    let config = format!("metrics.listen = \"{monitor}\"\n[storage]\nmax_bytes = 4194304\n");
    let relay = Relay::start(&config);
    let answers = storm(&mut relay.connect(), notes(&Key::named("storm"), 1500, 4000));
    assert!(metric(monitor, "weir_store_used_bytes") < (4 << 20) + (1 << 20));
    is_full_and_recovers(&relay, monitor, &answers, |client| delete_most(client, &answers.stored));
}

#[test]
fn a_full_map_refuses_events_and_takes_deletions() {
    let monitor = free_address();
    let config = format!("metrics.listen = \"{monitor}\"\n[storage]\nmap_bytes = 16777216\n");
    let relay = Relay::start(&config);
    let answers = storm(&mut relay.connect(), notes(&Key::named("storm"), 3500, 5000));
    is_full_and_recovers(&relay, monitor, &answers, |client| delete_most(client, &answers.stored));
}

fn fills_a_disk(disk: &SmallDisk) {
    let filler = disk.fill(16);
    let monitor = free_address();
    let config = format!("metrics.listen = \"{monitor}\"\n[storage]\nmin_free_disk_bytes = 0\n");
    let relay = Relay::start_in(disk.path(), &config);
    let answers = storm(&mut relay.connect(), notes(&Key::named("storm"), 4000, 6000));
    is_full_and_recovers(&relay, monitor, &answers, |_| std::fs::remove_file(filler).expect("the filler goes"));
}

#[test]
fn a_full_disk_refuses_events_until_there_is_room_and_loses_nothing() {
    let Some(disk) = SmallDisk::tmpfs(40) else { return };
    fills_a_disk(&disk);
}

#[test]
fn a_full_disk_of_a_server_does_the_same() {
    let Some(disk) = SmallDisk::ext4(48) else { return };
    fills_a_disk(&disk);
}

#[test]
fn below_the_watermark_events_are_refused_although_the_disk_has_room() {
    let Some(disk) = SmallDisk::tmpfs(48) else { return };
    let monitor = free_address();
    let config = format!("metrics.listen = \"{monitor}\"\n[storage]\nmin_free_disk_bytes = 16777216\n");
    let relay = Relay::start_in(disk.path(), &config);
    let author = Key::named("storm");
    let before: Vec<Signed> = notes(&author, 100, 2000).collect();
    assert_eq!(storm(&mut relay.connect(), before.clone()).reasons(), Vec::<&str>::new());
    let filler = disk.fill(34);
    eventually("the watermark is noticed", || get(monitor, "/readyz").0 == "503");
    let mut answers = storm(&mut relay.connect(), [author.note("too much")]);
    assert_eq!(answers.stored, []);
    answers.stored = before;
    is_full_and_recovers(&relay, monitor, &answers, |_| std::fs::remove_file(filler).expect("the filler goes"));
}

#[test]
fn below_the_watermark_rules_make_room_in_the_file() {
    let Some(disk) = SmallDisk::tmpfs(64) else { return };
    let config = "[storage]\nmin_free_disk_bytes = 16777216\n[[storage.retention]]\nkinds = [1]\n";
    let relay = Relay::start_in(disk.path(), config);
    let (author, mut client) = (Key::named("storm"), relay.connect());
    let old = |n| author.event(1, now() - 10_000 + n, json!([]), &"x".repeat(4000));
    let first = storm(&mut client, (0..1500).map(old)).stored;
    disk.fill(40);
    // Three times what the file holds: for each of them older ones must go.
    let answers = storm(&mut client, notes(&author, 4500, 4000));
    assert!(answers.stored.len() > 3500, "{} were stored, {:?}", answers.stored.len(), answers.reasons());
    let left = held(&mut client, &answers.stored);
    assert!(left.len() > 300 && left == answers.stored[answers.stored.len() - left.len()..], "{} are left", left.len());
    assert_eq!(held(&mut client, &first), []);
    assert_eq!(storm(&mut client, [author.note("new")]).reasons(), Vec::<&str>::new());
    assert_clean(&relay);
}

#[test]
fn a_relay_that_was_killed_on_a_full_disk_starts_again_with_everything() {
    let Some(disk) = SmallDisk::tmpfs(24) else { return };
    let config = "[storage]\nmin_free_disk_bytes = 0\n";
    let relay = Relay::start_in(disk.path(), config);
    let answers = storm(&mut relay.connect(), notes(&Key::named("storm"), 4000, 6000));
    assert_eq!(answers.reasons(), [FULL]);
    drop(relay);
    let relay = Relay::start_in(disk.path(), config);
    let mut client = relay.connect();
    assert!(held(&mut client, &answers.stored) == answers.stored, "an acknowledged event is missing");
    let target = &answers.stored[0];
    client.publish(&Key::named("storm").delete(now(), json!([["e", target.id]])));
    assert_clean(&relay);
}
