//! A connection that is lost is made again, and the sync goes on where it was. An answer that never comes is not waited
//! for, whatever else comes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::peer::{Honest, Line, Peer, Script, bytes};
use super::scene::{Home, field, notes, texts};
use crate::support::wire::{Signed, hex};

/// What a relay was asked, connection by connection.
type Seen = Arc<Mutex<Vec<Vec<Value>>>>;

/// A script that notes each message and has `answer` answer it, until that returns false: then it hangs up without a
/// word.
fn noting(seen: &Seen, mut answer: impl FnMut(&Value, &mut Line) -> bool + Send + 'static) -> Script {
    let seen = Arc::clone(seen);
    Box::new(move |line| {
        seen.lock().expect("no panic").push(Vec::new());
        while let Some(message) = line.next() {
            seen.lock().expect("no panic").last_mut().expect("this connection").push(message.clone());
            if !answer(&message, line) {
                return;
            }
        }
    })
}

/// An honest relay that hangs up in place of an answer to the message number `last` with this verb.
fn until(events: &[Signed], verb: &'static str, last: usize) -> impl FnMut(&Value, &mut Line) -> bool + Send + use<> {
    let (mut honest, mut count) = (Honest::with(events), 0);
    move |message, line| {
        count += usize::from(Honest::verb(message) == verb);
        if count == last && Honest::verb(message) == verb {
            return false;
        }
        honest.answer(message, line);
        true
    }
}

/// How many messages with this verb came over each connection.
fn counts(seen: &Seen, verb: &str) -> Vec<usize> {
    let seen = seen.lock().expect("no panic");
    seen.iter().map(|messages| messages.iter().filter(|message| Honest::verb(message) == verb).count()).collect()
}

#[test]
fn downloads_go_on_with_what_has_not_come() {
    let (events, seen) = (notes("t", 0..1_000), Seen::default());
    let scripts = [("REQ", 4), ("REQ", 2), ("", 1)].map(|(verb, last)| noting(&seen, until(&events, verb, last)));
    let peer = Peer::run_in_turn(scripts.into());
    let here = Home::with(&[]);
    let ran = here.sync(&peer.url, &[]).good();
    peer.end();
    assert_eq!(ran.counts(["missing here", "stored", "duplicate", "round trips to compare"]), [1_000, 1_000, 0, 1]);
    assert_eq!(here.export(), texts(&events));
    assert_eq!(ran.err.matches("connected again").count(), 2, "{ran:?}");
    // 600 events came over the first connection and 200 over the second; nothing is compared again.
    assert_eq!(counts(&seen, "NEG-OPEN"), [1, 0, 0]);
    let seen = seen.lock().expect("no panic");
    let asked = |messages: &[Value]| -> usize {
        let queries = messages.iter().filter(|message| Honest::verb(message) == "REQ");
        queries.map(|query| query[2]["ids"].as_array().expect("ids").len()).sum()
    };
    // What came last over a connection that breaks may be lost with it.
    let asked = [asked(&seen[1]), asked(&seen[2])];
    assert!((400..1_000).contains(&asked[0]) && (200..asked[0]).contains(&asked[1]), "{asked:?}");
}

#[test]
fn uploads_go_on_with_what_was_not_answered_and_what_had_arrived_counts_as_sent() {
    let (events, seen) = (notes("h", 0..800), Seen::default());
    // The first connection takes 300 events and answers half of them.
    let mut honest = Honest::with(&[]);
    let mut taken = 0;
    let first = noting(&seen, move |message, line| {
        if Honest::verb(message) == "EVENT" {
            taken += 1;
            if taken > 150 {
                return taken < 300;
            }
        }
        honest.answer(message, line);
        true
    });
    let mut honest = Honest::with(&[]);
    let second = noting(&seen, move |message, line| {
        match Honest::verb(message) {
            "EVENT" => {
                line.send(json!(["OK", message[1]["id"], true, "duplicate: have it"]).to_string());
            }
            _ => honest.answer(message, line),
        }
        true
    });
    let here = Home::with(&events);
    let peer = Peer::run_in_turn(vec![first, second]);
    let ran = here.sync(&peer.url, &["--dir", "up"]).good();
    peer.end();
    let [missing, sent, already] = ran.counts(["missing there", "sent", "there already"]);
    assert_eq!((missing, sent + already), (800, 800), "{ran:?}");
    assert_eq!(counts(&seen, "NEG-OPEN"), [1, 0]);
    // The last answers may be lost with the connection.
    let again = counts(&seen, "EVENT")[1];
    assert!((650..800).contains(&again), "what was answered is not sent again, but {again} events were");
    // Of those, what the first connection may have brought is not taken for what the relay hides.
    assert!(sent >= 300, "{ran:?}");
}

#[test]
fn a_comparison_and_a_page_are_begun_again() {
    for page_by_page in [false, true] {
        let (events, seen) = (notes("t", 0..40), Seen::default());
        let verb = if page_by_page { "REQ" } else { "NEG-OPEN" };
        let all = events.clone();
        let pages = move |message: &Value, line: &mut Line, is_cut: bool| {
            let name = message[1].as_str().expect("a name");
            let until = message[2]["until"].as_u64().unwrap_or(u64::MAX);
            let at = |event: &Signed| field(&event.text, "created_at").as_u64().expect("a date");
            let page = all.iter().rev().filter(|event| at(event) <= until);
            for event in page.take(if is_cut { 5 } else { 20 }) {
                line.send(event.frame(name));
            }
            if !is_cut {
                line.send(json!(["EOSE", name]).to_string());
            }
        };
        let script = |hangs_up: bool| {
            let (mut honest, pages) = (Honest::with(&events), pages.clone());
            noting(&seen, move |message, line| {
                let is_cut = hangs_up && Honest::verb(message) == verb;
                match Honest::verb(message) {
                    "NEG-OPEN" if page_by_page => {
                        line.send(json!(["NEG-ERR", message[1], "unknown message"]).to_string());
                    }
                    "REQ" if page_by_page => pages(message, line, is_cut),
                    _ if is_cut => {}
                    _ => honest.answer(message, line),
                }
                !is_cut
            })
        };
        let peer = Peer::run_in_turn(vec![script(true), script(false)]);
        let here = Home::with(&[]);
        let ran = here.sync(&peer.url, &[]).good();
        peer.end();
        assert_eq!(here.export(), texts(&events), "{ran:?}");
        assert_eq!(ran.count("stored"), 40, "{ran:?}");
    }
}

/// A number as negentropy writes it: seven bits a byte, the highest first.
fn varint(number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8 & 0x7f];
    let mut rest = number >> 7;
    while rest > 0 {
        bytes.insert(0, rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    bytes
}

#[test]
fn a_relay_that_answers_everything_but_one_message_is_given_up_all_the_same() {
    let events = notes("t", 0..200);
    // It names these, and has a fingerprint for what is newer.
    let ids: Vec<u8> = events.iter().flat_map(|event| bytes(&event.id)).collect();
    let bound = varint(1 + field(&events[199].text, "created_at").as_u64().expect("a date") + 1);
    let named = [&[0x61][..], &bound, &[0, 2], &varint(200), &ids, &[0, 0, 1], &[7; 16]].concat();
    let all = events.clone();
    let peer = Peer::answering(move |message, line| match Honest::verb(message) {
        "NEG-OPEN" => drop(line.send(json!(["NEG-MSG", message[1], hex(&named)]).to_string())),
        "REQ" => {
            let name = message[1].as_str().expect("a name");
            let ids = message[2]["ids"].as_array().expect("ids");
            // A few at a time, and each after a while: there is progress all the time.
            for event in all.iter().filter(|event| ids.contains(&json!(event.id))).take(20) {
                std::thread::sleep(Duration::from_millis(90));
                if !line.send(event.frame(name)) {
                    return;
                }
            }
            line.send(json!(["EOSE", name]).to_string());
        }
        _ => {}
    });
    let here = Home::with(&[]);
    let ran = here.sync(&peer.url, &["--timeout", "1"]).failed("the relay did not answer for 1 s");
    let stored = ran.count("stored");
    assert!(stored > 20 && stored < 200, "it was not waited for to the end: {ran:?}");
    peer.end();
}
