//! Relays that are silent, slow, full of words, or lie. Each ends the sync soon, with a reason, and leaves here only
//! events that are good and were asked for.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_tungstenite::tungstenite::Message;

use super::peer::{Honest, Line, Peer};
use super::scene::{Home, Ran, notes, texts};
use crate::support::wire::{Key, hex};

/// A sync with a relay that answers by `answer`, from an empty store and with a short time-out unless
/// `arguments` have more.
fn sync(answer: impl FnMut(&Value, &mut Line) + Send + 'static, arguments: &[&str]) -> (Home, Ran) {
    let (here, peer) = (Home::with(&[]), Peer::answering(answer));
    let timeout: &[&str] = if arguments.contains(&"--timeout") { &[] } else { &["--timeout", "1"] };
    let ran = here.sync(&peer.url, &[timeout, arguments].concat());
    peer.end();
    (here, ran)
}

/// As [`sync`], with a relay that has these events and is honest unless `other` has answered.
fn sync_unless(
    count: u64,
    mut other: impl FnMut(&Value, &mut Line) -> bool + Send + 'static,
    arguments: &[&str],
) -> (Home, Ran) {
    let mut honest = Honest::with(&notes("t", 0..count));
    let answer = move |message: &Value, line: &mut Line| {
        if !other(message, line) {
            honest.answer(message, line);
        }
    };
    sync(answer, arguments)
}

/// An id of no event.
fn invented(n: u64) -> [u8; 32] {
    Sha256::digest(n.to_le_bytes()).into()
}

/// A negentropy message that names these ids as all that there is.
fn naming(ids: impl Iterator<Item = u64>) -> String {
    let ids: Vec<[u8; 32]> = ids.map(invented).collect();
    let mut message = vec![0x61, 0, 0, 2];
    let count = ids.len() as u32;
    message.extend([(count >> 14) as u8 | 0x80, (count >> 7) as u8 | 0x80, count as u8 & 0x7f]);
    message.extend(ids.as_flattened());
    hex(&message)
}

#[test]
fn an_honest_relay_of_another_make_is_synced() {
    let (here, ran) = sync_unless(1_000, |_, _| false, &[]);
    assert_eq!(ran.good().counts(["missing here", "stored"]), [1_000; 2]);
    assert_eq!(here.export(), texts(&notes("t", 0..1_000)));
}

#[test]
fn a_relay_that_returns_few_events_at_a_time_is_asked_more_often() {
    let events = notes("t", 0..300);
    let few = move |message: &Value, line: &mut Line| {
        if Honest::verb(message) != "REQ" {
            return false;
        }
        let name = message[1].as_str().expect("a name");
        let ids = message[2]["ids"].as_array().expect("ids");
        for event in events.iter().filter(|event| ids.contains(&json!(event.id))).take(30) {
            line.send(event.frame(name));
        }
        line.send(json!(["EOSE", name]).to_string())
    };
    let (here, ran) = sync_unless(300, few, &[]);
    assert_eq!(ran.good().counts(["missing here", "stored", "not delivered"]), [300, 300, 0]);
    assert_eq!(here.export(), texts(&notes("t", 0..300)));
}

#[test]
fn a_silent_relay_is_not_waited_for() {
    let (_, ran) = sync(|_, _| {}, &[]);
    ran.failed("the relay did not answer for 1 s");
    // It says nothing to queries alone.
    let (_, ran) = sync_unless(10, |message, _| Honest::verb(message) == "REQ", &[]);
    ran.failed("the relay did not answer for 1 s");
    // It says nothing to events.
    let here = Home::with(&notes("h", 0..10));
    let mut honest = Honest::with(&[]);
    let peer = Peer::answering(move |message, line| {
        if Honest::verb(message) != "EVENT" {
            honest.answer(message, line);
        }
    });
    here.sync(&peer.url, &["--dir", "up", "--timeout", "1"]).failed("the relay did not answer for 1 s");
    peer.end();
}

#[test]
fn a_relay_that_does_not_even_greet_is_not_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let here = Home::with(&[]);
    here.sync(&url, &["--timeout", "1"]).failed("no connection within 1 s");
    drop(listener);
    here.sync(&url, &["--timeout", "1"]).failed("cannot connect: ");
}

#[test]
fn a_relay_that_drips_bytes_is_not_waited_for() {
    let here = Home::with(&[]);
    let peer = Peer::run(|line| {
        line.next().expect("it opens a session");
        let stream = line.0.get_mut();
        // The head of a text of 60,000 bytes, then a byte at a time.
        let mut is_there = stream.write_all(&[0x81, 126, 0xea, 0x60]).is_ok();
        while is_there {
            std::thread::sleep(Duration::from_millis(50));
            is_there = stream.write_all(b"x").is_ok();
        }
    });
    here.sync(&peer.url, &["--timeout", "1"]).failed("the relay did not answer for 1 s");
    peer.end();
}

#[test]
fn a_relay_that_closes_half_way_leaves_what_it_delivered() {
    let mut queries = 0;
    let (here, ran) = sync_unless(
        1_000,
        move |message, line| {
            queries += u32::from(Honest::verb(message) == "REQ");
            if queries == 3 {
                let _ = line.0.close(None);
            }
            queries >= 3
        },
        &[],
    );
    assert_eq!((ran.count("stored"), here.export().len()), (400, 400), "{ran:?}");
    ran.failed("did not end; run it again: the connection ");
}

#[test]
fn a_flood_of_events_that_were_asked_for_or_not_ends_the_sync() {
    let flood = |name: &str| {
        let events = notes("t", 0..12_000);
        let name = name.to_owned();
        move |message: &Value, line: &mut Line| {
            if Honest::verb(message) != "REQ" {
                return false;
            }
            let name = if name.is_empty() { message[1].as_str().expect("a name") } else { &name };
            events.iter().take_while(|event| line.send(event.frame(name))).for_each(drop);
            true
        }
    };
    let (here, ran) = sync_unless(50, flood(""), &[]);
    assert!(here.export().len() <= 50 && ran.count("not asked for") > 0, "{ran:?}");
    ran.failed("the relay misbehaves: it sends many more events than it was asked for");
    let (here, ran) = sync_unless(50, flood("else"), &["--timeout", "20"]);
    assert_eq!((here.export().len(), ran.count("stored")), (0, 0), "{ran:?}");
    ran.failed("the relay misbehaves: it sends many more events than it was asked for");
}

#[test]
fn a_flood_of_notices_is_no_progress() {
    let (_, ran) = sync(|_, line| while line.send("[\"NOTICE\",\"hello\"]") {}, &[]);
    ran.failed("");
}

#[test]
fn negentropy_without_end_is_given_up() {
    let never_ours = hex(&[&[0x61, 0, 0, 1][..], &[7; 16]].concat());
    let answer = move |message: &Value, line: &mut Line| {
        if Honest::verb(message).starts_with("NEG-") && message.get(2).is_some() {
            line.send(json!(["NEG-MSG", message[1], never_ours]).to_string());
        }
    };
    let (_, ran) = sync(answer, &[]);
    ran.failed("the relay misbehaves: its negentropy messages bring nothing new and do not end");
}

#[test]
fn ids_of_nothing_are_given_up_after_ten_thousand_and_a_few_are_remembered() {
    let inventing = |count| {
        move |message: &Value, line: &mut Line| {
            match Honest::verb(message) {
                "NEG-OPEN" => line.send(json!(["NEG-MSG", message[1], naming(0..count)]).to_string()),
                "REQ" => line.send(json!(["EOSE", message[1]]).to_string()),
                _ => true,
            };
        }
    };
    let (_, ran) = sync(inventing(15_000), &[]);
    ran.failed("the relay misbehaves: it names 10000 events and delivers none of them");
    let here = Home::with(&[]);
    // The second relay has the first one's address, so that it counts as the same.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let serving = std::thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = listener.accept().expect("a connection");
            let mut line = Line(tokio_tungstenite::tungstenite::accept(stream).expect("a WebSocket"));
            let answer = inventing(300);
            while let Some(message) = line.next() {
                answer(&message, &mut line);
            }
        }
    });
    let ran = here.sync(&url, &["--timeout", "1"]).good();
    assert_eq!(ran.counts(["missing here", "not delivered"]), [300, 300], "{ran:?}");
    let ran = here.sync(&url, &["--timeout", "1"]).good();
    assert_eq!(ran.counts(["missing here", "not delivered"]), [0, 0], "{ran:?}");
    serving.join().expect("the relay's script");
}

#[test]
fn a_malformed_negentropy_message_ends_the_sync_or_has_the_relay_read_by_pages() {
    let malformed = |message: &Value, line: &mut Line| match Honest::verb(message) {
        "NEG-OPEN" => line.send(json!(["NEG-MSG", message[1], "61ffff"]).to_string()),
        _ => false,
    };
    let (here, ran) = sync_unless(3, move |message, line| malformed(message, line), &[]);
    assert_eq!(here.export(), [""; 0], "the script knows no pages");
    assert!(ran.good().err.contains("it is read page by page"));
}

#[test]
fn events_that_lie_are_not_stored_and_the_others_are() {
    let good = notes("t", 0..3);
    let key = Key::named("liar");
    let forged = {
        let event = key.event(1, 1_700_000_000, json!([]), "signed by somebody else");
        event.with(&event.text[event.text.len() - 20..event.text.len() - 10], "0123456789")
    };
    let mut honest = Honest::with(&[&good[..], std::slice::from_ref(&forged)].concat());
    let unasked = key.event(1, 1_700_000_000, json!([]), "nobody asked");
    let other_id = good[0].with("note 0", "note 9");
    let answer = move |message: &Value, line: &mut Line| {
        if Honest::verb(message) == "REQ" {
            let name = message[1].as_str().expect("a name");
            line.send(unasked.frame(name));
            line.send(other_id.frame(name));
            line.send(format!("[\"EVENT\",\"{name}\",null]"));
            line.send(format!("[\"EVENT\",\"{name}\",{{\"id\":"));
        }
        honest.answer(message, line);
    };
    let (here, ran) = sync(answer, &[]);
    let ran = ran.good();
    assert_eq!(ran.counts(["stored", "not asked for", "invalid", "missing here"]), [3, 1, 4, 4], "{ran:?}");
    assert!(ran.out.contains(&format!("{} is invalid: the signature is wrong", forged.id)), "{ran:?}");
    assert_eq!(here.export(), texts(&good));
    here.assert_clean();
}

#[test]
fn events_that_do_not_match_the_filter_or_are_out_of_range_are_dropped() {
    let (_, ran) = sync_unless(5, |_, _| false, &["--filter", r#"{"kinds":[7]}"#]);
    assert_eq!(ran.good().counts(["stored", "not asked for"]), [0, 5]);
    let (_, ran) = sync_unless(5, |_, _| false, &["--range", "1700000060..1700000120"]);
    assert_eq!(ran.good().counts(["stored", "not asked for"]), [2, 3]);
}

#[test]
fn an_event_of_ten_megabytes_is_passed_over_and_one_of_twenty_ends_the_sync() {
    let with_large = |bytes: usize| {
        move |message: &Value, line: &mut Line| {
            if Honest::verb(message) == "REQ" {
                let name = message[1].as_str().expect("a name");
                line.send(format!("[\"EVENT\",\"{name}\",{{\"content\":\"{}\"}}]", "x".repeat(bytes)));
            }
            false
        }
    };
    let (here, ran) = sync_unless(20, with_large(10 << 20), &["--timeout", "20"]);
    assert_eq!(ran.good().counts(["stored", "not asked for"]), [20, 1]);
    assert_eq!(here.export().len(), 20);
    let (_, ran) = sync_unless(20, with_large(20 << 20), &["--timeout", "20"]);
    ran.failed("the relay sent a message of more than 16777216 bytes");
}

#[test]
fn a_notice_refuses_negentropy_and_a_greeting_does_not() {
    let (_, ran) = sync_unless(
        2,
        |message, line| {
            line.send("[\"NOTICE\",\"welcome!\"]");
            let is_neg = Honest::verb(message).starts_with("NEG-");
            if is_neg {
                line.send("[\"NOTICE\",\"ERROR: bad msg: negentropy disabled\"]");
            }
            is_neg
        },
        // The time-out would end it otherwise.
        &["--timeout", "60"],
    );
    assert!(ran.good().err.contains("negentropy disabled); it is read page by page"));
    let greeting = |_: &Value, line: &mut Line| !line.send("[\"NOTICE\",\"welcome!\"]");
    let (here, ran) = sync_unless(2, greeting, &["--timeout", "60"]);
    assert_eq!((ran.good().count("stored"), here.export().len()), (2, 2));
}

#[test]
fn a_relay_that_asks_for_patience_gets_it() {
    let mut refusals = 0;
    let hasty = move |message: &Value, line: &mut Line| {
        let name = &message[1];
        let refusal = match Honest::verb(message) {
            "NEG-OPEN" => json!(["NEG-ERR", name, "rate-limited: slow down"]),
            "REQ" => json!(["CLOSED", name, "rate-limited: slow down"]),
            _ => return false,
        };
        refusals += 1;
        refusals % 2 == 1 && line.send(refusal.to_string())
    };
    let (_, ran) = sync_unless(600, hasty, &[]);
    assert_eq!(ran.good().count("stored"), 600);
    let never = |message: &Value, line: &mut Line| {
        Honest::verb(message) == "REQ"
            && line.send(json!(["CLOSED", message[1], "blocked: go away\u{1b}[31m"]).to_string())
    };
    let (_, ran) = sync_unless(5, never, &[]);
    ran.failed("the relay refuses: blocked: go away [31m");
}

#[test]
fn a_relay_that_is_too_full_in_any_words_is_compared_in_halves() {
    for words in
        ["blocked: too many query results", "RESULTS_TOO_BIG", "error: this query is too big", "too many records"]
    {
        let mut refused = 0;
        let narrow = move |message: &Value, line: &mut Line| {
            let is_refused = Honest::verb(message) == "NEG-OPEN" && refused < 3;
            refused += i32::from(is_refused);
            is_refused && line.send(json!(["NEG-ERR", message[1], words]).to_string())
        };
        let (here, ran) = sync_unless(50, narrow, &[]);
        assert_eq!(ran.good().count("stored"), 50, "{words}");
        assert_eq!(here.export(), texts(&notes("t", 0..50)));
    }
}

#[test]
fn frames_that_are_no_text_are_ignored() {
    let odd = |_: &Value, line: &mut Line| {
        let _ = line.0.send(Message::binary(vec![0xff; 100]));
        let _ = line.0.send(Message::Ping(vec![1].into()));
        for text in
            ["", "null", "[]", "[1]", "{\"a\":[]}", "[\"EVENT\"]", "[\"NEG-MSG\",\"n1\",\"6\"]", "[\"EOSE\",\"d99\"]"]
        {
            line.send(text);
        }
        false
    };
    let (here, ran) = sync_unless(30, odd, &[]);
    assert_eq!((ran.good().count("stored"), here.export().len()), (30, 30));
}
