//! Relays that are silent, slow, full of words, or lie. None of them keeps another stream waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::scene::{Router, fresh, stream, stream_to, until, until_holds};
use crate::replication::peer::{Honest, Line, Peer};
use crate::replication::scene::{Home, texts};
use crate::support::wire::{Key, Signed, now};

/// The name of a live subscription, if this asks for one.
fn live(message: &Value) -> Option<&str> {
    let is_live = Honest::verb(message) == "REQ" && message[2]["limit"] == json!(0);
    is_live.then(|| message[1].as_str().expect("a name"))
}

/// Answers a live subscription with these frames, and everything else as it should.
fn with_frames(frames: impl Fn(&str) -> Vec<String> + Send + 'static) -> Peer {
    let mut honest = Honest::with(&[]);
    Peer::of_many(move |message, line| match live(message) {
        Some(name) => {
            line.send(json!(["EOSE", name]).to_string());
            frames(name).into_iter().all(|frame| line.send(frame));
        }
        None => honest.answer(message, line),
    })
}

#[test]
fn only_good_events_that_match_are_stored() {
    let key = Key::named("k");
    let good = key.note("good");
    let unsigned = {
        let note = key.note("unsigned");
        let sig = note.text.rsplit("\"sig\":\"").next().expect("a signature")[..128].to_owned();
        note.with(&sig, &"0".repeat(128))
    };
    let changed = key.note("changed").with("changed", "replaced");
    let other_kind = key.event(7, now(), json!([]), "+");
    let protected = key.event(1, now(), json!([["-"]]), "protected");
    let events = [unsigned, changed, other_kind, protected, good.clone()];
    let peer = with_frames(move |name| {
        let rubbish = ["[\"EVENT\"", "null", "[\"EVENT\",\"live\",5]", "[\"EVENT\",\"other\",{}]"].map(String::from);
        rubbish.into_iter().chain(events.iter().map(|event| event.frame(name))).collect()
    });
    let here = Home::with(&[]);
    let url = &peer.url;
    let router =
        Router::start(&here, &format!("down {{ dir = \"down\" urls = [\"{url}\"] filter = {{ \"kinds\": [1] }} }}"));
    until_holds(&here, [&good], &router);
    router.stop();
    assert_eq!(here.export(), texts([&good]));
    here.assert_clean();
}

#[test]
fn a_bad_relay_is_given_up_and_a_good_one_beside_it_goes_on() {
    let flood = with_frames(|_| (0..20_000).map(|n| json!(["NOTICE", format!("number {n}")]).to_string()).collect());
    let wrong = {
        let key = Key::named("wrong");
        let events: Vec<Signed> = (0..1_200).map(|n| key.event(7, now(), json!([]), &n.to_string())).collect();
        with_frames(move |name| events.iter().map(|event| event.frame(name)).collect())
    };
    let silent = Peer::of_many(|_, _| {});
    let refusing = Peer::of_many(|message, line| {
        if let Some(name) = live(message) {
            line.send(json!(["CLOSED", name, "blocked: not for you"]).to_string());
        }
    });
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let good = there.serve("");
    let only_notes =
        |name: &str, url: &str| format!("{name} {{ dir = \"down\" urls = [\"{url}\"] filter = {{ \"kinds\": [1] }} }}");
    let streams = [
        only_notes("flood", &flood.url),
        only_notes("wrong", &wrong.url),
        only_notes("silent", &silent.url),
        only_notes("refusing", &refusing.url),
        only_notes("nobody", "ws://127.0.0.1:1"),
        stream("good", "both", &good),
    ];
    let router = Router::start(&here, &streams.join("\n"));
    router.until_said(&["level", "\"good\""]);
    let notes = fresh("good", 0..100);
    for part in notes.chunks(10) {
        good.connect().publish_all(part);
    }
    until_holds(&here, &notes, &router);
    for (name, why) in [
        ("flood", "the relay misbehaves: it sends many more events than it was asked for"),
        ("wrong", "the relay misbehaves: it sends many more events than it was asked for"),
        ("silent", "the relay did not answer for 5 s"),
        ("refusing", "the relay refuses: blocked: not for you"),
        ("nobody", "cannot connect: "),
    ] {
        router.until_said(&["not connected: ", name, why]);
    }
    router.stop();
    assert_eq!(here.export(), texts(&notes));
}

/// Answers events by `answer`, which gets their contents and how many came.
fn taking(answer: impl Fn(&str, usize) -> (bool, &'static str) + Send + 'static) -> (Peer, Arc<Mutex<Vec<String>>>) {
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let (list, mut honest, mut count) = (Arc::clone(&taken), Honest::with(&[]), 0);
    let peer = Peer::of_many(move |message: &Value, line: &mut Line| {
        if Honest::verb(message) != "EVENT" {
            return honest.answer(message, line);
        }
        count += 1;
        let content = message[1]["content"].as_str().expect("a text");
        if list.lock().expect("no test panicked").iter().any(|taken| taken == content) {
            line.send(json!(["OK", message[1]["id"], true, "duplicate: have it"]).to_string());
            return;
        }
        let (accepted, reason) = answer(content, count);
        if reason == "silent" {
            line.send(json!(["NOTICE", "invalid: event too large"]).to_string());
            return;
        }
        if reason == "cut" {
            let _ = line.0.close(None);
            return;
        }
        if accepted {
            list.lock().expect("no test panicked").push(content.into());
        }
        line.send(json!(["OK", message[1]["id"], accepted, reason]).to_string());
    });
    (peer, taken)
}

/// Waits until the peer took exactly these contents, in any order, each once.
#[track_caller]
fn until_taken(taken: &Mutex<Vec<String>>, events: std::ops::Range<u64>, but: &str, router: &Router) {
    let mut expected: Vec<String> = events.map(|n| format!("up {n}")).filter(|content| content != but).collect();
    expected.sort();
    let now = || {
        let mut taken = taken.lock().expect("no test panicked").clone();
        taken.sort();
        taken
    };
    until(|| now() == expected, || format!("{} of {}: {:#?}", now().len(), expected.len(), router.said()));
}

#[test]
fn what_is_refused_for_the_moment_is_sent_again_later_and_each_event_is_taken_once() {
    let (peer, taken) = taking(|_, count| match count {
        // A burst is refused, then some for other reasons.
        3..=40 if count % 2 == 0 => (false, "rate-limited: slow down"),
        45 => (false, "error: the database is busy"),
        _ => (true, ""),
    });
    let here = Home::with(&[]);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    here.hold(&fresh("up", 0..60));
    until_taken(&taken, 0..60, "", &router);
    router.stop();
    // Nothing is owed any more.
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    here.hold(&fresh("up", 60..61));
    until_taken(&taken, 0..61, "", &router);
}

#[test]
fn an_event_at_which_the_relay_ends_each_connection_is_passed_over() {
    let (peer, taken) = taking(|content, _| if content == "up 10" { (false, "cut") } else { (true, "") });
    let here = Home::with(&[]);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    here.hold(&fresh("up", 0..20));
    router.until_said(&["is passed over: the relay ends the connection whenever it gets this event"]);
    let expected: std::collections::BTreeSet<String> =
        (0..20).map(|n| format!("up {n}")).filter(|content| content != "up 10").collect();
    let now = || taken.lock().expect("no test panicked").iter().cloned().collect();
    until(|| expected == now(), || format!("{:#?}", router.said()));
}

#[test]
fn an_event_that_alone_is_never_answered_is_passed_over_and_keeps_no_other_waiting() {
    let (peer, taken) = taking(|content, _| if content == "up 0" { (false, "silent") } else { (true, "") });
    let here = Home::with(&[]);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    let events = fresh("up", 0..20);
    here.hold(&events[..10]);
    until_taken(&taken, 0..10, "up 0", &router);
    router.until_said(&["is passed over: the relay answers others, but never this event", &events[0].id]);
    here.hold(&events[10..]);
    until_taken(&taken, 0..20, "up 0", &router);
    assert_eq!(router.count(&["is passed over"]), 1, "{:#?}", router.said());
    router.stop();
}

#[test]
fn an_event_that_is_refused_for_the_moment_again_and_again_keeps_no_other_waiting() {
    let takes_all = Arc::new(AtomicBool::new(false));
    let takes = Arc::clone(&takes_all);
    let (peer, taken) = taking(move |content, _| match content {
        "up 0" if !takes.load(Ordering::Relaxed) => (false, "rate-limited: not yet"),
        _ => (true, ""),
    });
    let here = Home::with(&[]);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    for part in fresh("up", 0..30).chunks(10) {
        here.hold(part);
    }
    until_taken(&taken, 0..30, "up 0", &router);
    // It is owed even after a restart.
    router.stop();
    takes_all.store(true, Ordering::Relaxed);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    until_taken(&taken, 0..30, "", &router);
    router.stop();
}

#[test]
fn a_relay_that_ends_each_connection_for_a_while_loses_no_event() {
    let (peer, taken) = taking(|_, count| if count <= 6 { (false, "cut") } else { (true, "") });
    let here = Home::with(&[]);
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    here.hold(&fresh("up", 0..10));
    until_taken(&taken, 0..10, "", &router);
    assert_eq!(router.count(&["is passed over"]), 0, "{:#?}", router.said());
    router.stop();
}

#[test]
fn a_relay_that_never_answers_events_is_given_up_and_none_is_passed_over() {
    let here = Home::with(&[]);
    let mut honest = Honest::with(&[]);
    let peer = Peer::of_many(move |message, line| {
        if Honest::verb(message) != "EVENT" {
            honest.answer(message, line);
        }
    });
    let router = Router::start(&here, &stream_to("push", "up", &peer.url));
    router.until_said(&["level", "push"]);
    here.hold(&fresh("up", 0..5));
    router.until_said(&["not connected: the relay did not answer for 5 s"]);
    router.stop();
    // The same stream, now to a relay that answers, finds that nothing was counted as sent.
    let files: Vec<_> = std::fs::read_dir(here.path("data").join("streams")).expect("a directory").collect();
    assert_eq!(files.len(), 1);
    let bytes = std::fs::read(files[0].as_ref().expect("an entry").path()).expect("a file");
    assert_eq!(bytes[24..32], 0_u64.to_le_bytes(), "the cursor");
}

#[test]
fn a_full_store_stops_nothing_for_good() {
    let key = Key::named("large");
    let text = "x".repeat(2_000);
    let large: Vec<Signed> = (0..3_000).map(|n| key.event(1, now() - n, json!([]), &format!("{n} {text}"))).collect();
    let (here, there) = (Home::with(&[]), Home::with(&large));
    let relay = there.serve("");
    let config = here.path("small.toml");
    std::fs::write(&config, "[storage]\nmap_bytes = 8388608\n").expect("the disk is good");
    let arguments = ["--config", config.to_str().expect("a plain name")];
    let router = Router::start_with(&here, &stream("mirror", "down", &relay), &arguments);
    router.until_said(&["what streams bring cannot be stored", "the store is full"]);
    router.until_said(&["not connected: events cannot be stored"]);
    router.stop();
    let held = here.export().len();
    assert!(held > 100 && held < large.len(), "{held}");
    let router = Router::start(&here, &stream("mirror", "down", &relay));
    until_holds(&here, &large, &router);
    router.stop();
    here.assert_clean();
}

#[test]
fn a_comparison_that_waits_for_a_silent_server_keeps_nobody_waiting_at_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let (says, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // The live connection is a good one; that of the comparison gets no answer to its handshake.
        let (live, _) = listener.accept().expect("a connection");
        std::thread::spawn(move || {
            let mut line = Line(tokio_tungstenite::tungstenite::accept(live).expect("a WebSocket"));
            let mut honest = Honest::with(&[]);
            while let Some(message) = line.next() {
                honest.answer(&message, &mut line);
            }
        });
        let silent = listener.accept().expect("a connection");
        says.send(()).expect("the test waits");
        // Until the test ends.
        std::thread::park();
        drop(silent);
    });
    let here = Home::with(&[]);
    let text = format!("connectionTimeout = 600\nstreams {{\n{}\n}}\n", stream_to("mirror", "down", &url));
    std::fs::write(here.path("router.conf"), text).expect("the disk is good");
    let router = Router::run(&here, &[]);
    waits.recv().expect("it compares");
    let began = std::time::Instant::now();
    router.stop();
    // A link that does not end is left behind after ten seconds.
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}
