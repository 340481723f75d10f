//! Many careless clients: all come back at once after a restart, or come and go all day. Everybody is served, and
//! nothing stays.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed, now};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// Loopback addresses are limited here like others.
const NOBODY_EXEMPT: &str = "[rates]\nexempt_addresses = []\n";

/// How many, or how often, unless the variable says otherwise.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A text message with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).expect("a short message").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// An upgrade and a first message in one write, so that many clients can be under way at once.
fn come(relay: &Relay, number: usize, message: &str) -> TcpStream {
    // 50 clients at an address.
    let mut stream = relay.stream_from([127, 0, 1, (number / 50 % 250) as u8 + 1]);
    let mut bytes = b"GET / HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(frame(message));
    stream.write_all(&bytes).expect("the relay takes it");
    stream
}

/// Reads until `end` has come; everything up to there.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let got = stream.read(&mut buffer).expect("the relay answers");
        read.extend_from_slice(&buffer[..got]);
        let text = String::from_utf8_lossy(&read);
        if text.contains(end) {
            return text.into_owned();
        }
        assert!(got > 0, "the connection ended before {end:?}, after {text:?}");
    }
}

/// `WEIR_STORM_CLIENTS` sets how many come back.
#[test]
fn everybody_who_comes_back_at_once_after_a_restart_is_answered_and_nobody_refused() {
    let clients = number("WEIR_STORM_CLIENTS", 400);
    let config = format!("{METRICS}{NOBODY_EXEMPT}[limits]\ndefault_limit = 10\n");
    let mut relay = Relay::start(&config);
    let key = Key::named("before the restart");
    let notes: Vec<Signed> = (0..20).map(|n| key.event(1, now() - n, json!([]), "a note")).collect();
    relay.connect().publish_all(&notes);
    let request = json!(["REQ", "s", {"kinds": [1]}]).to_string();
    let mut streams: Vec<TcpStream> = (0..clients).map(|n| come(&relay, n, &request)).collect();
    for round in 0..2 {
        for stream in &mut streams {
            let read = read_until(stream, "[\"EOSE\",\"s\"");
            let rows = read.matches("[\"EVENT\",\"s\",").count();
            assert!(read.starts_with("HTTP/1.1 101 ") && rows == 10, "round {round}: {read}");
        }
        assert_eq!(relay.metric("weir_connections"), clients as u64);
        let note = key.event(1, now() + 1 + round, json!([]), "for all of them");
        relay.connect().publish(&note);
        streams.iter_mut().for_each(|stream| drop(read_until(stream, &note.id)));
        if round == 0 {
            relay.signal("TERM");
            relay = relay.wait_for_exit().restart(&config);
            // The old sockets are read to their end only now: nobody waits for anybody.
            let back: Vec<TcpStream> = (0..clients).map(|n| come(&relay, n, &request)).collect();
            streams.iter_mut().for_each(|stream| drop(stream.read_to_end(&mut Vec::new())));
            streams = back;
        }
    }
}

/// What one client does before it goes; each in another way.
fn visit(relay: &Relay, number: usize, event: &Signed) {
    let subscribe = json!(["REQ", "s", {"kinds": [1], "limit": 3}, {"#t": ["x".repeat(200)]}]).to_string();
    let mut stream = come(relay, number, &subscribe);
    match number % 8 {
        // Leaves before the answer, or before it has asked.
        0 => return,
        1 => return drop(relay.stream_from([127, 0, 1, 1])),
        _ => {}
    }
    read_until(&mut stream, "[\"EOSE\",\"s\"");
    let mut say = |text: String, until: &str| {
        stream.write_all(&frame(&text)).expect("the relay takes it");
        read_until(&mut stream, until);
    };
    match number % 8 {
        2 => say(event.message(), "[\"OK\","),
        3 => say(json!(["COUNT", "c", {"kinds": [1]}]).to_string(), "[\"COUNT\",\"c\","),
        4 => say(json!(["NEG-OPEN", "n", {"kinds": [1]}, "6100000200"]).to_string(), "[\"NEG-MSG\",\"n\","),
        5 => {
            say(json!(["REQ", "s", {"kinds": [7]}]).to_string(), "[\"EOSE\",\"s\"");
            stream.write_all(&frame("[\"CLOSE\",\"s\"]")).expect("the relay takes it");
        }
        // Half of a message, too long to be forgotten.
        6 => {
            let mut half = vec![0x81, 0xff];
            half.extend(20_000_u64.to_be_bytes());
            half.resize(14_000, 0);
            stream.write_all(&half).expect("the relay takes it");
        }
        // A close frame, and its answer.
        _ => {
            stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).expect("the relay takes it");
            drop(stream.read_to_end(&mut Vec::new()));
        }
    }
}

/// What the process holds when nobody is connected.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    private_kib: usize,
}

impl Held {
    /// Waits until the gauges say that nothing is left of any client, and looks.
    fn by(relay: &Relay) -> Self {
        let gauges = [
            "weir_connections",
            "weir_half_open",
            "weir_connections_held",
            "weir_subscriptions",
            "weir_filter_items",
            "weir_filter_bytes",
            "weir_partial_message_bytes",
            "weir_negentropy_sessions",
            "weir_negentropy_records",
            "weir_outbox_bytes",
            "weir_ingest_bytes",
        ];
        relay.until(|| gauges.iter().all(|gauge| relay.metric(gauge) == 0));
        let queues = ["ingest", "verify", "write", "live", "scans"];
        relay.until(|| {
            queues.iter().all(|queue| relay.metric(&format!("weir_queue_entries{{queue=\"{queue}\"}}")) == 0)
        });
        let of = |what: &str| format!("/proc/{}/{what}", relay.pid());
        let count = |what: &str| std::fs::read_dir(of(what)).expect("the process is alive").count();
        let status = std::fs::read_to_string(of("status")).expect("the process is alive");
        let private = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let digits = private.expect("Linux tells it").trim().trim_end_matches(" kB");
        let (descriptors, threads) = (count("fd"), count("task"));
        Self { descriptors, threads, private_kib: digits.parse().expect("a number") }
    }
}

/// A day's worth of clients that come and go, in fast motion. `WEIR_CHURN_CLIENTS` sets how many.
#[test]
fn of_thousands_of_clients_that_came_and_went_nothing_is_left() {
    const AT_ONCE: usize = 8;
    let clients = number("WEIR_CHURN_CLIENTS", 3_000);
    let relay = Relay::start(METRICS);
    let key = Key::named("comes and goes");
    let events: Vec<Signed> = (0..100).map(|n| key.event(1, now() - n, json!([]), &n.to_string())).collect();
    let churn = |clients: usize| {
        std::thread::scope(|scope| {
            for first in 0..AT_ONCE {
                let (relay, events) = (&relay, &events);
                let own = (first..clients).step_by(AT_ONCE);
                scope.spawn(move || own.for_each(|n| visit(relay, n / AT_ONCE, &events[n % events.len()])));
            }
        });
        Held::by(&relay)
    };
    // The first of them fill caches, tables and pools.
    let before = churn(clients.div_ceil(4).max(800));
    let after = churn(clients);
    println!("{before:?}, and after {clients} more clients {after:?}");
    assert_eq!(after.threads, before.threads);
    // The last sockets may be closed a moment after they are counted out.
    relay.until(|| Held::by(&relay).descriptors <= before.descriptors);
    assert!(after.private_kib < before.private_kib + (4 << 10), "{before:?}, then {after:?}");
    assert_eq!(Client::connect(&relay).query(&[json!({"kinds": [1], "limit": 1})]).len(), 1);
}
