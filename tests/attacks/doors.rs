//! Sockets that are held open: one address keeps no other out.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::relay::Relay;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A socket that says half of a request and no more.
fn half_open(relay: &Relay, last: u8) -> TcpStream {
    let mut stream = relay.stream_from([127, 0, 0, last]);
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("half a request is sent");
    stream
}

/// The first line of the answer to an upgrade.
fn status(relay: &Relay, last: u8) -> String {
    let mut stream = relay.stream_from([127, 0, 0, last]);
    stream.write_all(UPGRADE.as_bytes()).expect("the request is sent");
    let mut line = vec![0; 12];
    stream.read_exact(&mut line).expect("an answer");
    String::from_utf8(line).expect("text")
}

fn is_hung_up(mut stream: TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 64]), Ok(1..))
}

fn turned_away(relay: &Relay, reason: &str) -> u64 {
    relay.metric(&format!("weir_connections_turned_away_total{{reason=\"{reason}\"}}"))
}

#[test]
fn half_open_sockets_of_a_few_addresses_turn_no_stranger_away() {
    let relay = Relay::start(
        "[server]\nmax_half_open = 16\nheader_timeout_s = 3600\n[rates]\nexempt_addresses = []\n\
         [metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let first = half_open(&relay, 2);
    let _greedy: Vec<TcpStream> = (0..60).map(|n| half_open(&relay, 2 + n % 2)).collect();
    for _ in 0..20 {
        assert_eq!(status(&relay, 4), "HTTP/1.1 101");
        let _another = half_open(&relay, 2);
        assert_eq!(relay.watch("/healthz").0, 200);
    }
    assert!(is_hung_up(first), "the oldest goes first");
    assert!(turned_away(&relay, "half-open") >= 45, "61 sockets do not fit into 16 places");
    assert!(relay.wait_for_log("turned away").contains("half-open"), "the log tells the reason");
}

#[test]
fn an_address_at_its_share_loses_its_own_half_open_sockets_and_is_still_told() {
    let relay = Relay::start(
        "[server]\nmax_connections_per_address = 10\nheader_timeout_s = 3600\n[rates]\nexempt_addresses = []\n\
         [metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let first = half_open(&relay, 2);
    let _rest: Vec<TcpStream> = (0..30).map(|_| half_open(&relay, 2)).collect();
    assert!(is_hung_up(first));
    assert!(turned_away(&relay, "address") >= 21);
    assert_eq!(status(&relay, 3), "HTTP/1.1 101", "others are not concerned");
    let held: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = relay.stream_from([127, 0, 0, 4]);
            stream.write_all(UPGRADE.as_bytes()).expect("the request is sent");
            stream.read_exact(&mut [0; 12]).expect("an answer");
            stream
        })
        .collect();
    assert_eq!(status(&relay, 4), "HTTP/1.1 429");
    drop(held);
}

/// A client that asks for the document over one socket, as often as it likes.
#[test]
fn a_socket_is_closed_after_64_answers_and_others_are_served_meanwhile() {
    let relay = Relay::start("[rates]\nexempt_addresses = []\n[metrics]\nlisten = \"127.0.0.1:0\"");
    let mut stream = relay.stream_from([127, 0, 0, 2]);
    let request = "GET / HTTP/1.1\r\nHost: relay\r\nAccept: application/nostr+json\r\n\r\n";
    stream.write_all(request.repeat(64).as_bytes()).expect("the requests are sent");
    assert_eq!(status(&relay, 3), "HTTP/1.1 101");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("the relay closes the socket after the last answer");
    let answers = String::from_utf8(answers).expect("text").to_ascii_lowercase();
    assert_eq!((answers.matches("http/1.1 200").count(), answers.matches("connection: close").count()), (64, 1));
}
