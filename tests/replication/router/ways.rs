//! Down, up and both ways, between two relays of weir's.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::scene::{Router, fresh, stream, stream_to, until, until_holds, write};
use crate::replication::scene::{Home, key_file, texts};
use crate::support::wire::{Key, now};

#[test]
fn what_is_published_there_arrives_here_and_what_passed_while_it_was_away_too() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (before, live, away) = (fresh("before", 0..50), fresh("live", 0..50), fresh("away", 0..50));
    let relay = there.serve("");
    relay.connect().publish_all(&before);
    let router = Router::start(&here, &stream("mirror", "down", &relay));
    until_holds(&here, &before, &router);
    relay.connect().publish_all(&live);
    until_holds(&here, before.iter().chain(&live), &router);
    router.stop();
    relay.connect().publish_all(&away);
    let router = Router::start(&here, &stream("mirror", "down", &relay));
    until_holds(&here, before.iter().chain(&live).chain(&away), &router);
    router.stop();
    here.assert_clean();
}

#[test]
fn what_is_published_here_arrives_there_and_what_passed_while_it_was_away_too() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (before, live, away) = (fresh("before", 0..50), fresh("live", 0..50), fresh("away", 0..50));
    let (ours, theirs) = (here.serve(""), there.serve(""));
    ours.connect().publish_all(&before);
    let router = Router::start(&here, &stream("push", "up", &theirs));
    until_holds(&there, &before, &router);
    ours.connect().publish_all(&live);
    until_holds(&there, before.iter().chain(&live), &router);
    router.stop();
    ours.connect().publish_all(&away);
    let router = Router::start(&here, &stream("push", "up", &theirs));
    until_holds(&there, before.iter().chain(&live).chain(&away), &router);
    router.stop();
    there.assert_clean();
}

#[test]
fn what_passed_while_away_is_sent_whatever_its_date_and_what_is_older_than_the_stream_is_not() {
    let (old, late) = (crate::replication::scene::notes("old", 0..20), crate::replication::scene::notes("late", 0..20));
    let (here, there) = (Home::with(&old), Home::with(&[]));
    let theirs = there.serve("");
    let router = Router::start(&here, &stream("push", "up", &theirs));
    router.until_said(&["level", "push"]);
    router.stop();
    // Made in 2023, stored now.
    here.hold(&late);
    let router = Router::start(&here, &stream("push", "up", &theirs));
    until_holds(&there, &late, &router);
    router.stop();
    let router = Router::start_with(&here, &stream("all", "up", &theirs), &["--catch-up", "20000d"]);
    until_holds(&there, old.iter().chain(&late), &router);
}

#[test]
fn a_stream_that_becomes_one_of_both_ways_compares_from_its_mark() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let relay = there.serve("");
    let arguments = ["--catch-up", "0s"];
    let router = Router::start_with(&here, &stream("peer", "down", &relay), &arguments);
    router.until_said(&["level", "peer"]);
    router.stop();
    // As if it had been away for a quarter of an hour.
    let file = std::fs::read_dir(here.path("data").join("streams")).expect("a directory").next();
    let file = file.expect("a file").expect("an entry").path();
    let mut bytes = std::fs::read(&file).expect("a file");
    assert!(bytes[16..24] != [0; 8], "there is a mark");
    bytes[16..24].copy_from_slice(&(now() - 1_000).to_le_bytes());
    let sum = Sha256::digest(&bytes[..32]);
    bytes[32..].copy_from_slice(&sum);
    std::fs::write(&file, bytes).expect("the disk is good");
    let key = Key::named("k");
    let [before, meanwhile] = [2_000, 500].map(|ago| key.event(1, now() - ago, json!([]), "x"));
    relay.connect().publish_all([&before, &meanwhile]);
    let router = Router::start_with(&here, &stream("peer", "both", &relay), &arguments);
    router.until_said(&["level", "peer"]);
    until_holds(&here, [&meanwhile], &router);
    router.stop();
}

#[test]
fn events_go_both_ways_without_an_echo() {
    let config = "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (ours, theirs) = (here.serve(config), there.serve(config));
    let router = Router::start(&here, &stream("peer", "both", &theirs));
    router.until_said(&["level", "peer"]);
    let (mine, yours) = (fresh("mine", 0..80), fresh("yours", 0..80));
    for (one, two) in mine.chunks(8).zip(yours.chunks(8)) {
        ours.connect().publish_all(one);
        theirs.connect().publish_all(two);
    }
    until_holds(&here, mine.iter().chain(&yours), &router);
    until_holds(&there, mine.iter().chain(&yours), &router);
    // A marker, which would come after any echo.
    let marker = fresh("marker", 0..1);
    ours.connect().publish_all(&marker);
    until_holds(&there, mine.iter().chain(&yours).chain(&marker), &router);
    router.stop();
    assert_eq!(theirs.metric("weir_messages_total{verb=\"event\"}"), 161, "each event came there once");
    assert_eq!(ours.metric("weir_messages_total{verb=\"event\"}"), 81, "the router stores by itself");
}

#[test]
fn protected_events_neither_leave_nor_enter() {
    let key = Key::named("k");
    let protected = |text: &str| key.event(1, now(), json!([["-"]]), text);
    let (ours, theirs) = (protected("ours"), protected("theirs"));
    let (here, there) = (Home::with(std::slice::from_ref(&ours)), Home::with(std::slice::from_ref(&theirs)));
    let relay = there.serve("");
    let router = Router::start(&here, &stream("peer", "both", &relay));
    router.until_said(&["level", "peer"]);
    let (later, marker) = (protected("later"), key.note("marker"));
    here.hold(&[later.clone(), marker.clone()]);
    until_holds(&there, [&theirs, &marker], &router);
    router.stop();
    assert_eq!(here.export(), texts([&ours, &later, &marker]));
}

#[test]
fn deletions_and_vanish_requests_travel() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (ours, theirs) = (here.serve(""), there.serve(""));
    let router = Router::start(&here, &stream("peer", "both", &theirs));
    let (author, gone) = (Key::named("author"), Key::named("gone"));
    let (note, kept, other) = (author.note("deleted"), author.note("kept"), gone.note("vanished"));
    ours.connect().publish_all([&note, &kept, &other]);
    until_holds(&there, [&note, &kept, &other], &router);
    let deletion = author.delete(now(), json!([["e", note.id]]));
    ours.connect().publish(&deletion);
    until_holds(&there, [&kept, &other, &deletion], &router);
    // The other way, too.
    let vanish = gone.event(62, now(), json!([["relay", "ALL_RELAYS"]]), "");
    theirs.connect().publish(&vanish);
    until_holds(&here, [&kept, &deletion, &vanish], &router);
    router.stop();
}

#[test]
fn what_the_other_relay_refuses_is_passed_over() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (ours, theirs) = (here.serve(""), there.serve("[access]\ndeny_kinds = [7]\n"));
    let router = Router::start(&here, &stream("push", "up", &theirs));
    router.until_said(&["level", "push"]);
    let key = Key::named("k");
    let all: Vec<_> =
        (0..40).map(|n| key.event(if n % 2 == 0 { 1 } else { 7 }, now(), json!([]), &n.to_string())).collect();
    ours.connect().publish_all(&all);
    until_holds(&there, all.iter().step_by(2), &router);
}

#[test]
fn only_what_matches_the_filter_travels() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let (ours, theirs) = (here.serve(""), there.serve(""));
    let url = theirs.url();
    let router = Router::start(
        &here,
        &format!("peer {{ dir = \"both\" urls = [\"{url}\"] filter = {{ \"kinds\": [1], \"#t\": [\"x\"] }} }}"),
    );
    router.until_said(&["level", "peer"]);
    let tagged = |name: &str, tag: &str| Key::named(name).event(1, now(), json!([["t", tag]]), name);
    let (mine, not_mine, yours, not_yours) = (tagged("a", "x"), tagged("b", "y"), tagged("c", "x"), tagged("d", "y"));
    ours.connect().publish_all([&not_mine, &mine]);
    theirs.connect().publish_all([&not_yours, &yours]);
    until_holds(&there, [&mine, &not_yours, &yours], &router);
    until_holds(&here, [&mine, &not_mine, &yours], &router);
}

#[test]
fn a_relay_that_wants_a_key_gets_it() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let secret = crate::support::wire::hex(&[7; 32]);
    let key = key_file(&here, &secret);
    for challenge in ["connect", "demand"] {
        let auth =
            format!("[auth]\nread = \"authenticated\"\nwrite = \"authenticated\"\nchallenge = \"{challenge}\"\n");
        let (ours, theirs) = (here.serve(""), there.serve(&auth));
        let router = Router::start(&here, &stream(challenge, "both", &theirs));
        router.until_said(&["not connected: the relay requires authentication"]);
        router.stop();
        let router = Router::start_with(&here, &stream(challenge, "both", &theirs), &["--key", &key]);
        let note = Key::named("a").note(challenge);
        ours.connect().publish(&note);
        until(|| there.export().contains(&note.text), || format!("{:#?}", router.said()));
        let note = Key::named("b").note(challenge);
        there.hold(std::slice::from_ref(&note));
        until(|| here.export().contains(&note.text), || format!("{:#?}", router.said()));
    }
}

#[test]
fn a_file_that_changes_stops_and_starts_only_the_streams_that_differ() {
    let (here, one, two) = (Home::with(&[]), Home::with(&[]), Home::with(&[]));
    let (first, second) = (one.serve(""), two.serve(""));
    let [a, b, c] = [("a", &first), ("b", &second), ("c", &second)].map(|(name, relay)| stream(name, "down", relay));
    let router = Router::start(&here, &format!("{a}\n{b}"));
    router.until_said(&["level", "\"a\""]);
    router.until_said(&["level", "\"b\""]);
    write(&here, &format!("{c}\n{a}"));
    router.until_said(&["stopped", "\"b\""]);
    router.until_said(&["level", "\"c\""]);
    // A mistake changes nothing.
    write(&here, "a { dir = \"sideways\" }");
    router.until_said(&["the former streams go on"]);
    router.until_said(&["streams.a.dir: \"sideways\" is not down, up or both"]);
    // Nor does a file that is about to be written.
    std::fs::write(here.path("router.conf"), "").expect("the disk is good");
    router.until_said(&["the former streams go on: ", "is empty"]);
    let events = fresh("x", 0..2);
    first.connect().publish(&events[0]);
    second.connect().publish(&events[1]);
    until_holds(&here, &events, &router);
    let started = ["a", "b", "c"].map(|name| router.count(&["started", &format!("\"{name}\"")]));
    assert_eq!((started, router.count(&["stopped"])), ([1, 1, 1], 1), "{:#?}", router.said());
    router.stop();
}

#[test]
fn another_store_in_the_directory_makes_new_streams() {
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let theirs = there.serve("");
    let router = Router::start(&here, &stream("push", "up", &theirs));
    router.until_said(&["level", "push"]);
    let first = fresh("first", 0..5);
    here.hold(&first);
    until_holds(&there, &first, &router);
    router.stop();
    let kept = here.path("kept");
    std::fs::rename(here.path("data").join("streams"), &kept).expect("the disk is good");
    std::fs::remove_dir_all(here.path("data")).expect("nobody has it open");
    // More than the cursor of the former store.
    let second = fresh("second", 0..20);
    here.hold(&second);
    std::fs::rename(&kept, here.path("data").join("streams")).expect("the disk is good");
    let router = Router::start(&here, &stream("push", "up", &theirs));
    until_holds(&there, first.iter().chain(&second), &router);
    router.stop();
}

#[test]
fn a_new_stream_begins_at_its_first_start_even_if_the_relay_is_away_then() {
    let here = Home::with(&fresh("old", 0..5));
    let began = now();
    let router = Router::start(&here, &stream_to("push", "up", "ws://127.0.0.1:1"));
    router.until_said(&["not connected", "push"]);
    router.stop();
    let file = std::fs::read_dir(here.path("data").join("streams")).expect("a directory").next();
    let bytes = std::fs::read(file.expect("a file").expect("an entry").path()).expect("a file");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert!((began..=now()).contains(&number(16)), "the mark: {}", number(16));
    assert_eq!(number(24), 5, "the cursor");
}
