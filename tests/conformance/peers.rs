//! Defects that were found in other relays, each as a regression test of this one. `docs/protocol.md` lists those that
//! a test of a NIP covers.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

/// Elsewhere the prefix comes after `ERROR: `, so no client that looks for it authenticates.
#[test]
fn a_refusal_begins_with_its_prefix_and_nothing_else() {
    let relay = Relay::start("[auth]\nread = \"authenticated\"");
    let mut client = relay.connect();
    client.send(r#"["REQ","s",{}]"#);
    assert!(client.next().starts_with(r#"["CLOSED","s","auth-required: "#));
}

/// Elsewhere an odd id breaks the reply, or loses its quotes.
#[test]
fn a_refused_subscription_is_named_with_its_id_escaped() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    for id in ["\"", "\\", "a\",\"b", "\n", "\u{0}"] {
        let closed = json!(["CLOSED", id, "unsupported: filter key \"search\" is unknown"]).to_string();
        client.ask(json!(["REQ", id, {"search": "x"}]).to_string(), &closed);
    }
}

/// Elsewhere every short frame makes the handler panic, and the address loses one of its connections.
#[test]
fn short_frames_cost_no_connection() {
    let relay = Relay::start("[server]\nmax_connections_per_address = 3\n[rates]\nexempt_addresses = []");
    for _ in 0..5 {
        let mut client = relay.connect_until_there_is_room();
        for short in ["", "[", "[]", "[\"\"]", "[\"X\"]", "[\"REQ\"]", "\"", "{", "x"] {
            client.send(short);
            assert!(client.next().starts_with("[\"NOTICE\",\""), "{short}");
        }
        client.is_silent();
    }
    relay.connect_until_there_is_room().is_silent();
}

/// Elsewhere live events arrive before the stored ones are complete, or come twice, or are lost in between.
#[test]
fn a_subscriber_in_a_storm_gets_every_event_once_and_stored_ones_before_eose() {
    // The subscriber reads only when the storm is over: 7,200 frames wait for it, in the kernel and in its outbox.
    let relay = Relay::start("[server]\noutbox_frames = 16384");
    let key = Key::named("storm");
    let at = now();
    let events: Vec<Signed> = (0..600).map(|n| key.event(1, at - n % 50, json!([]), &n.to_string())).collect();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut client = relay.connect();
            events.chunks(20).for_each(|chunk| client.publish_all(chunk));
        });
        let mut subscriber = relay.connect();
        for round in 0..12 {
            let sub = format!("round {round}");
            let (stored, _) = subscriber.open_beside(&sub, &[json!({"authors": [key.hex], "limit": 1000})]);
            let times: Vec<u64> = stored.iter().map(|event| created_at(event)).collect();
            assert!(times.is_sorted_by(|a, b| a >= b), "stored events are in order, so none of them is a live one");
        }
        publisher.join().expect("every event was accepted");
        let last = key.note("last");
        relay.connect().publish(&last);
        for round in 0..12 {
            let sub = format!("round {round}");
            let mut wanted: Vec<String> = events.iter().chain([&last]).map(|event| event.text.clone()).collect();
            let mut got = subscriber.first_of(&sub, wanted.len());
            got.sort();
            wanted.sort();
            assert!(got == wanted, "{sub}: an event did not come, or came twice");
        }
        assert_eq!(subscriber.kept.len(), 12 * 601, "no event comes twice");
        subscriber.is_silent();
    });
}

fn created_at(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["created_at"].as_u64().expect("a time")
}

/// Elsewhere a client that does not read holds up the one that publishes.
#[test]
fn a_subscriber_that_does_not_read_is_closed_and_holds_up_nobody() {
    let relay = Relay::start("[server]\noutbox_bytes = 1048576\noutbox_high_water_bytes = 262144");
    let key = Key::named("slow reader");
    let mut slow = relay.connect();
    slow.open("s", &[json!({"authors": [key.hex]})]);
    let mut good = relay.connect();
    good.open("s", &[json!({"authors": [key.hex]})]);
    let mut publisher = relay.connect();
    let content = "x".repeat(100_000);
    for n in 0..200 {
        let event = key.event(1, now(), json!([["n", n.to_string()]]), &content);
        publisher.publish(&event);
        good.expect(&event.frame("s"));
    }
    assert!(slow.is_cut_off(200), "what waits for one client is bounded");
    publisher.is_silent();
}

/// Elsewhere a full queue drops events without an answer.
#[test]
fn a_client_that_sends_before_it_reads_gets_an_answer_to_everything() {
    let relay = Relay::shared();
    let key = Key::named("sends before it reads");
    let events: Vec<Signed> = (0..1500).map(|n| key.note(&n.to_string())).collect();
    let mut client = relay.connect();
    client.publish_all(&events);
    client.counts(json!({"authors": [key.hex]}), 1500);
}

/// Elsewhere a query ends without any answer if one of its filters has an empty or huge result.
#[test]
fn every_query_is_answered_also_one_for_everything() {
    let relay = Relay::shared();
    let mut client = relay.connect();
    client.publish(&Key::named("everything").note("x"));
    let many: Vec<Value> = (100..200).map(|n| json!({"kinds": [n], "limit": 1})).collect();
    for filters in [vec![json!({})], vec![json!({}), json!({})], many, vec![json!({"until": 0})]] {
        let (_, eose) = client.open("s", &filters);
        assert!(eose.starts_with(r#"["EOSE","s""#), "{eose}");
    }
}

/// Elsewhere the oldest events come first if there is no limit.
#[test]
fn a_query_without_a_limit_gives_the_newest() {
    let relay = Relay::start("[limits]\ndefault_limit = 2");
    let (key, at) = (Key::named("newest"), now() - 10);
    let events: Vec<Signed> = (0..4).map(|n| key.event(1, at - n, json!([]), "")).collect();
    let mut client = relay.connect();
    client.publish_all(&events);
    client.finds(json!({}), &[&events[0], &events[1]]);
}

/// Elsewhere an OK is sent before the event is on disk.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut relay = Relay::start("");
    let key = Key::named("acknowledged");
    for round in 1..=3 {
        let events: Vec<Signed> = (0..40).map(|n| key.note(&format!("{round} {n}"))).collect();
        let mut client = relay.connect();
        client.publish_all(&events);
        drop(client);
        relay = relay.restart_killed("");
        relay.connect().counts(json!({"authors": [key.hex]}), 40 * round);
    }
}

/// Elsewhere malformed kinds, ids and keys are accepted and served as they were sent.
#[test]
fn what_is_out_of_form_is_never_stored() {
    let relay = Relay::shared();
    let key = Key::named("out of form everywhere");
    let event = key.note("x");
    let mut client = relay.connect();
    for (old, new) in [
        (r#""kind":1"#.to_string(), r#""kind":65537"#.to_string()),
        (event.id.clone(), event.id.to_uppercase()),
        (key.hex.clone(), key.hex.to_uppercase()),
        (key.hex.clone(), format!("0x{}", &key.hex[2..])),
    ] {
        client.send(event.with(&old, &new).message());
        let answer = client.next();
        assert!(answer.contains("\"invalid: "), "{answer}");
    }
    client.finds(json!({"authors": [key.hex]}), &[]);
}

/// Elsewhere a connection that sends nothing, or half a request, stays open for ever.
#[test]
fn half_a_request_is_cut_off() {
    let relay = Relay::start("[server]\nheader_timeout_s = 1");
    let mut stream = TcpStream::connect(relay.address).expect("a connection");
    stream.set_read_timeout(Some(crate::support::relay::TIMEOUT)).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: re").expect("half a request is sent");
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).expect("the relay hangs up");
}

impl Relay {
    /// Connects once connections that were just dropped no longer count.
    fn connect_until_there_is_room(&self) -> Client<'_> {
        let upgrade = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // Of three connections, one is this one, which may linger, and one is the next.
        drop(self.http_until(upgrade, "http/1.1 101"));
        self.connect()
    }
}

impl Client<'_> {
    /// Opens `sub` while events of other subscriptions arrive, which are kept for [`Client::first_of`].
    fn open_beside(&mut self, sub: &str, filters: &[Value]) -> (Vec<String>, String) {
        let mut message = vec![json!("REQ"), json!(sub)];
        message.extend_from_slice(filters);
        self.send(Value::from(message).to_string());
        let mut own = Vec::new();
        loop {
            let frame = self.next();
            let (of, event) = self.split(&frame);
            match event {
                None => {
                    assert_eq!(of, sub, "{frame}");
                    let stored = own.iter().map(|event: &String| (of.clone(), event.clone()));
                    self.kept.extend(stored);
                    return (own, frame);
                }
                Some(event) if of == sub => own.push(event),
                Some(event) => self.kept.push((of, event)),
            }
        }
    }

    /// The first `count` events that come for `sub`. An event that is found in the store when a subscription goes live
    /// may come after later ones.
    fn first_of(&mut self, sub: &str, count: usize) -> Vec<String> {
        while self.kept.iter().filter(|(of, _)| of == sub).count() < count {
            let frame = self.next();
            let (of, event) = self.split(&frame);
            self.kept.push((of, event.unwrap_or_else(|| panic!("an event, not {frame}"))));
        }
        self.kept.iter().filter(|(of, _)| of == sub).map(|(_, event)| event.clone()).collect()
    }

    /// The subscription of a frame, and its event, if it is not EOSE.
    fn split(&self, frame: &str) -> (String, Option<String>) {
        let message: Value = serde_json::from_str(frame).expect("JSON");
        let sub = message[1].as_str().expect("a subscription id").to_string();
        match message[0].as_str() {
            Some("EVENT") => {
                let head = format!(r#"["EVENT","{sub}","#);
                let event = frame.strip_prefix(&head).and_then(|rest| rest.strip_suffix(']'));
                (sub, Some(event.expect("an EVENT frame").to_string()))
            }
            Some("EOSE") => (sub, None),
            _ => panic!("an event or EOSE, not {frame}"),
        }
    }

    /// Whether the connection ends before `frames` frames were read.
    fn is_cut_off(&mut self, frames: usize) -> bool {
        (0..frames).any(|_| !self.reads_one_more())
    }
}
