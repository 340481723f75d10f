//! RFC 6455 and connections: the frames that clients may send, refusals, reconnects and the end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio_tungstenite::tungstenite::Message;

use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, now};

const NOTHING: &str = r#"["COUNT","s",{"ids":[]}]"#;
const ZERO: &[u8] = br#"["COUNT","s",{"count":0}]"#;

/// A hand-made WebSocket client, for frames that no library sends.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    fn connect(relay: &Relay, extensions: &str) -> (Self, String) {
        let mut stream = TcpStream::connect(relay.address).expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a byte of the head");
            head.extend(byte);
        }
        (Self { stream }, String::from_utf8(head).expect("text").to_ascii_lowercase())
    }

    /// Connects.
    fn open(relay: &Relay) -> Self {
        let (raw, head) = Self::connect(relay, "");
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        raw
    }

    /// Sends a frame with this first byte, masked with zeros.
    fn send(&mut self, first: u8, payload: &[u8]) {
        self.send_as(first, payload, 0x80);
    }

    fn send_as(&mut self, first: u8, payload: &[u8], mask_bit: u8) {
        self.stream.write_all(&encoded(first, payload, mask_bit)).expect("the frame is sent");
    }

    /// The first byte and the payload of the next frame, which is never masked.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame");
        assert!(head[1] < 0x80, "a server does not mask");
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).expect("a length");
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("a payload");
        (head[0], payload)
    }

    /// The code of the next frame, a close frame, after which the connection ends.
    fn closing_code(mut self) -> u16 {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "a close frame, not {payload:?}");
        self.send(0x88, &payload[..2]);
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the end");
        assert_eq!(rest, b"", "nothing follows a close frame");
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

/// A frame whose mask, if it has one, is zeros.
fn encoded(first: u8, payload: &[u8], mask_bit: u8) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(mask_bit | length as u8),
        length => {
            frame.push(mask_bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    if mask_bit != 0 {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

#[test]
fn a_ping_is_answered_with_its_payload_also_between_fragments() {
    let relay = Relay::shared();
    let mut raw = Raw::open(&relay);
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        raw.send(0x89, payload);
        assert_eq!(raw.frame(), (0x8a, payload.to_vec()));
    }
    let (one, two) = NOTHING.split_at(10);
    raw.send(0x01, one.as_bytes());
    raw.send(0x89, b"between");
    assert_eq!(raw.frame(), (0x8a, b"between".to_vec()));
    raw.send(0x8a, b"a pong that nobody asked for");
    raw.send(0x00, b"");
    raw.send(0x80, two.as_bytes());
    assert_eq!(raw.frame(), (0x81, ZERO.to_vec()));
}

#[test]
fn fragments_may_cut_a_character() {
    let (relay, key) = (Relay::shared(), Key::named("fragments"));
    let event = key.note("é😀");
    let message = event.message().into_bytes();
    let mut raw = Raw::open(&relay);
    let (last, rest) = message.split_last().expect("a message");
    raw.send(0x01, &[]);
    rest.iter().for_each(|byte| raw.send(0x00, &[*byte]));
    raw.send(0x80, &[*last]);
    assert_eq!(raw.frame(), (0x81, event.ok().into_bytes()));
}

#[test]
fn a_violation_of_rfc_6455_closes_with_its_code() {
    let relay = Relay::shared();
    let closed = |first: u8, payload: &[u8]| {
        let mut raw = Raw::open(&relay);
        raw.send(first, payload);
        raw.closing_code()
    };
    assert_eq!(closed(0xc1, b"[]"), 1002, "a reserved bit");
    assert_eq!(closed(0x83, b""), 1002, "a reserved kind of frame");
    assert_eq!(closed(0x80, b""), 1002, "a continuation of nothing");
    assert_eq!(closed(0x09, b""), 1002, "a fragmented ping");
    assert_eq!(closed(0x89, &[0; 126]), 1002, "a long ping");
    assert_eq!(closed(0x81, b"[\"\xff\"]"), 1007, "no UTF-8");
    assert_eq!(closed(0x81, b"[\"\xed\xa0\x80\"]"), 1007, "a surrogate in UTF-8");
    assert_eq!(closed(0x88, b"x"), 1002, "half a close code");
    assert_eq!(closed(0x88, &999_u16.to_be_bytes()), 1002, "a close code that is none");
    let mut unmasked = Raw::open(&relay);
    unmasked.send_as(0x81, NOTHING.as_bytes(), 0);
    assert_eq!(unmasked.closing_code(), 1002, "no mask");
    let mut mixed = Raw::open(&relay);
    mixed.send(0x01, b"[");
    mixed.send(0x81, b"]");
    assert_eq!(mixed.closing_code(), 1002, "a message inside another");
}

#[test]
fn a_close_is_answered_with_the_same_code() {
    let relay = Relay::shared();
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut raw = Raw::open(&relay);
        raw.send(0x88, &code.to_be_bytes());
        assert_eq!(raw.closing_code(), code);
    }
}

#[test]
fn what_was_said_before_a_violation_is_answered_first() {
    let relay = Relay::shared();
    let mut raw = Raw::open(&relay);
    raw.send(0x81, NOTHING.as_bytes());
    raw.send(0x83, b"");
    assert_eq!(raw.frame(), (0x81, ZERO.to_vec()));
    assert_eq!(raw.closing_code(), 1002);
}

#[test]
fn the_limit_of_a_message_holds_over_its_fragments() {
    let relay = Relay::start("[limits]\nmax_message_length = 2000");
    let mut raw = Raw::open(&relay);
    raw.send(0x01, &[b' '; 1200]);
    raw.send(0x00, &[b' '; 800 - NOTHING.len()]);
    raw.send(0x80, NOTHING.as_bytes());
    assert_eq!(raw.frame(), (0x81, ZERO.to_vec()));
    raw.send(0x01, &[b' '; 1200]);
    raw.send(0x80, &[b' '; 801]);
    assert_eq!(raw.closing_code(), 1009);
}

#[test]
fn compression_is_agreed_on_where_it_is_offered_and_allowed() {
    let relay = Relay::shared();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut raw, head) = Raw::connect(&relay, offer);
    assert!(head.contains("sec-websocket-extensions: permessage-deflate"), "{head}");
    // An uncompressed message is fine as well.
    raw.send(0x81, NOTHING.as_bytes());
    assert_eq!(raw.frame(), (0x81, ZERO.to_vec()));
    let (_, head) = Raw::connect(&relay, "");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    let plain = Relay::start("[server]\ncompression = false");
    let (_, head) = Raw::connect(&plain, offer);
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[test]
fn frames_sent_right_behind_the_request_are_heard() {
    let relay = Relay::shared();
    let mut stream = TcpStream::connect(relay.address).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let mut bytes = b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend([0x81, 0x80 | NOTHING.len() as u8, 0, 0, 0, 0]);
    bytes.extend(NOTHING.as_bytes());
    stream.write_all(&bytes).expect("request and frame are sent");
    let mut got = Vec::new();
    while !got.ends_with(ZERO) {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("more");
        assert!(read > 0, "the relay hung up");
        got.extend(&buffer[..read]);
    }
}

#[test]
fn a_hundred_reconnects_in_a_row_are_all_served() {
    let relay = Relay::shared();
    for n in 0..100 {
        let mut client = relay.connect();
        if n % 3 == 0 {
            client.open("s", &[json!({"ids": []})]);
        } else if n % 3 == 1 {
            client.send_message(Message::Close(None));
        }
    }
    relay.connect().is_silent();
}

#[test]
fn connections_beyond_the_limits_are_told_before_the_upgrade() {
    let upgrade = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let full = Relay::start("[server]\nmax_connections = 2");
    let held = [full.connect(), full.connect()];
    let (head, _) = full.http(upgrade);
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after:"), "{head}");
    drop(held);
    let mut again = full.http_until(upgrade, "http/1.1 101");
    again.write_all(&[0x88, 0x80, 0, 0, 0, 0]).expect("a close frame is sent");

    let crowded = Relay::start("[server]\nmax_connections_per_address = 2\n[rates]\nexempt_addresses = []");
    let _held = [crowded.connect(), crowded.connect()];
    let (head, _) = crowded.http(upgrade);
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after:"), "{head}");
    // The document is for everyone.
    assert!(crowded.information()["limitation"].is_object());

    let denying = Relay::start("[access]\ndeny_addresses = [\"127.0.0.0/8\"]");
    assert!(denying.http(upgrade).0.starts_with("http/1.1 403"));
}

#[test]
fn what_a_proxy_gets_wrong_is_told_to_the_operator_once_with_a_count() {
    let relay = Relay::start("[server]\ntrusted_proxies = [\"127.0.0.1\"]");
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade, close\r\n";
    // A health check does not count as a client.
    relay.http("GET / HTTP/1.0\r\nHost: relay\r\n\r\n");
    relay.http("GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    relay.signal("HUP");
    assert_eq!(relay.log_until("the configuration was reloaded").len(), 1);
    for _ in 0..3 {
        relay.http(&format!("GET / HTTP/1.0\r\nHost: relay\r\nConnection: close\r\n{key}"));
        relay.http(&format!("GET / HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{key}"));
        relay.http(&format!("GET / HTTP/1.1\r\nHost: relay\r\nX-Forwarded-For: unknown\r\n{upgrade}{key}"));
    }
    relay.signal("HUP");
    let lines = relay.log_until("the configuration was reloaded");
    let (_, told) = lines.split_last().expect("the last line is that of the reload");
    let faults = [
        "server::proxy: WebSockets were asked for in HTTP/1.0, which has none: a proxy must speak HTTP/1.1 to the relay \
         (nginx: proxy_http_version 1.1) count=1",
        "server::proxy: WebSockets were asked for without Upgrade and Connection: a proxy must pass these headers on \
         (nginx: proxy_set_header Upgrade $http_upgrade) count=1",
        "server::refusals: connections were turned away; the last one's address reason=\"forwarded\" count=1 \
         address=127.0.0.1",
    ];
    // What follows the time.
    let told: Vec<&str> = told.iter().filter_map(|line| Some(line.split_once(" INFO weir::")?.1)).collect();
    assert_eq!(told, faults);
}

#[test]
fn a_request_without_a_host_or_with_two_gets_400() {
    let relay = Relay::start("[metrics]\nlisten = \"127.0.0.1:0\"");
    let status = |head: &str| relay.http(&format!("{head}Connection: close\r\n\r\n")).0[..12].to_string();
    assert_eq!(status("GET / HTTP/1.1\r\n"), "http/1.1 400");
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n"), "http/1.1 400");
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n"), "http/1.0 400");
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n"), "http/1.1 200");
    assert_eq!(status("GET / HTTP/1.0\r\n"), "http/1.0 200");
    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(relay.http(upgrade).0.starts_with("http/1.1 400"));
    let (_, metrics) = relay.watch("/metrics");
    assert!(metrics.contains("weir_connections_turned_away_total{reason=\"host\"} 4\n"), "{metrics}");
}

#[test]
fn a_forwarded_for_that_is_no_address_gets_400() {
    let relay = Relay::start("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[access]\ndeny_addresses = [\"192.0.2.7\"]");
    let status = |forwarded: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n{forwarded}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bad\r\n\r\n"
        );
        let (head, body) = relay.http(&request);
        (head[9..12].to_string(), body)
    };
    // A bad key tells that the address was taken, without an upgrade.
    let taken = ("400".to_string(), "bad Sec-WebSocket-Key\n".to_string());
    let refused = ("400".to_string(), "X-Forwarded-For is not a list of addresses\n".to_string());
    for forwarded in ["", "X-Forwarded-For: 192.0.2.8\r\n", "X-Forwarded-For: unknown, 192.0.2.8\r\n"] {
        assert_eq!(status(forwarded), taken, "{forwarded:?}");
    }
    assert_eq!(status("X-Forwarded-For: 192.0.2.7\r\n").0, "403");
    for value in ["unknown", "", "192.0.2.8,", "192.0.2.8, unknown", "\"192.0.2.8\"", "_hidden"] {
        assert_eq!(status(&format!("X-Forwarded-For: {value}\r\n")), refused, "{value:?}");
    }
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let relay = Relay::start("[server]\nping_after_s = 1\npong_timeout_s = 1");
    let mut raw = Raw::open(&relay);
    assert_eq!(raw.frame(), (0x89, vec![]));
    raw.send(0x8a, b"");
    assert_eq!(raw.frame(), (0x89, vec![]));
    assert_eq!(raw.closing_code(), 1001);
}

#[test]
fn an_event_is_stored_though_its_client_left_right_after_sending() {
    let (relay, key) = (Relay::shared(), Key::named("left at once"));
    let mut watcher = relay.connect();
    watcher.open("s", &[json!({"authors": [key.hex]})]);
    for n in 0..10 {
        let event = key.note(&n.to_string());
        let mut raw = Raw::open(&relay);
        raw.send(0x81, event.message().as_bytes());
        match n % 3 {
            0 => drop(raw),
            1 => raw.stream.shutdown(Shutdown::Write).expect("half of it is closed"),
            _ => raw.send(0x88, &1000_u16.to_be_bytes()),
        }
        watcher.expect(&event.frame("s"));
    }
    watcher.counts(json!({"authors": [key.hex]}), 10);
}

#[test]
fn events_behind_a_query_are_stored_though_their_client_left() {
    let (relay, key) = (Relay::shared(), Key::named("left behind a query"));
    let mut watcher = relay.connect();
    watcher.open("s", &[json!({"authors": [key.hex]})]);
    for n in 0..10 {
        let [before, behind] = ["before", "behind"].map(|place| key.note(&format!("{place} {n}")));
        let mut raw = Raw::open(&relay);
        // The answer to the ping fails, usually before the first event is stored.
        let texts = [before.message(), NOTHING.into(), behind.message()];
        let texts = texts.map(|text| encoded(0x81, text.as_bytes(), 0x80)).concat();
        raw.stream.write_all(&[encoded(0x89, b"", 0x80), texts].concat()).expect("all of it is sent");
        SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).expect("closing resets the connection");
        drop(raw);
        watcher.expect(&before.frame("s"));
        watcher.expect(&behind.frame("s"));
    }
}

#[test]
fn a_stop_commits_what_was_taken_and_closes_with_1012() {
    let relay = Relay::start("");
    let key = Key::named("stop");
    let mut client = relay.connect();
    let event = key.event(1, now(), json!([]), "before the end");
    client.publish(&event);
    relay.signal("TERM");
    assert_eq!(client.closing_code(), 1012);
    drop(client);
    let relay = relay.wait_for_exit().restart("");
    relay.connect().finds(json!({}), &[&event]);
}
