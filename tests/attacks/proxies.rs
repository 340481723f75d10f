//! The PROXY protocol: who the client is behind a trusted proxy, and who claims to be one.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::relay::Relay;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";

/// The last number of the address of the trusted proxy.
const PROXY: u8 = 2;

/// A relay behind a proxy at 127.0.0.2. Clients at 198.51.100.7, 2001:db8::7 and 203.0.113.9 may not connect.
fn relay(more: &str) -> Relay {
    Relay::start(&format!(
        "[server]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\"]\n{more}\n[rates]\nexempt_addresses = []\n\
         [access]\ndeny_addresses = [\"198.51.100.7\", \"2001:db8::7\", \"203.0.113.9\"]\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n"
    ))
}

/// A header of version 2.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

fn four(source: [u8; 4]) -> Vec<u8> {
    [source.as_slice(), &[127, 0, 0, 2], &[0xd4, 0x31, 0x1e, 0x61]].concat()
}

/// The first line of the answer to an upgrade that follows `header` from 127.0.0.`last`; empty if the socket is closed.
fn status(relay: &Relay, last: u8, header: &[u8]) -> String {
    let mut stream = relay.stream_from([127, 0, 0, last]);
    // The relay may close the socket first.
    let _ = stream.write_all(&[header, UPGRADE.as_bytes()].concat());
    first_line(&mut stream)
}

fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let _ = stream.take(12).read_to_end(&mut line);
    String::from_utf8(line).expect("text")
}

fn turned_away(relay: &Relay, reason: &str) -> u64 {
    relay.metric(&format!("weir_connections_turned_away_total{{reason=\"{reason}\"}}"))
}

const SERVED: &str = "HTTP/1.1 101";
const DENIED: &str = "HTTP/1.1 403";

#[test]
fn a_trusted_proxy_names_its_client_in_either_version_and_the_clients_own_headers_change_nothing() {
    let relay = relay("");
    let six = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[7], &[0; 20]].concat();
    let tlvs = [four([198, 51, 100, 7]), vec![0xea, 0, 4, 1, 2, 3, 4], vec![4; 500]].concat();
    for (header, answer) in [
        (b"PROXY TCP4 198.51.100.7 127.0.0.2 54321 7777\r\n".to_vec(), DENIED),
        (b"PROXY TCP4 198.51.100.8 127.0.0.2 54321 7777\r\n".to_vec(), SERVED),
        (b"PROXY TCP6 2001:db8::7 ::1 54321 7777\r\n".to_vec(), DENIED),
        (b"PROXY UNKNOWN\r\n".to_vec(), SERVED),
        (version_2(0x21, 0x11, &four([198, 51, 100, 7])), DENIED),
        (version_2(0x21, 0x11, &four([198, 51, 100, 8])), SERVED),
        (version_2(0x21, 0x11, &tlvs), DENIED),
        (version_2(0x21, 0x21, &six), DENIED),
        (version_2(0x20, 0x11, &four([198, 51, 100, 7])), SERVED),
        (version_2(0x21, 0x00, &[]), SERVED),
        (version_2(0x21, 0x31, &[b'/'; 216]), SERVED),
    ] {
        // X-Forwarded-For names a denied address, and is written by the client.
        assert_eq!(status(&relay, PROXY, &header), answer, "{}", String::from_utf8_lossy(&header));
    }
    assert_eq!(["direct", "proxy-header", "forwarded"].map(|reason| turned_away(&relay, reason)), [0; 3]);
}

#[test]
fn a_header_may_arrive_byte_by_byte_and_two_proxies_in_a_row_are_read_past() {
    let relay = relay("");
    for header in [
        b"PROXY TCP4 198.51.100.7 127.0.0.2 54321 7777\r\n".to_vec(),
        version_2(0x21, 0x11, &[four([198, 51, 100, 7]), vec![4; 600]].concat()),
    ] {
        let mut stream = relay.stream_from([127, 0, 0, PROXY]);
        stream.set_nodelay(true).expect("an option");
        for byte in header.iter().chain(&UPGRADE.as_bytes()[..20]) {
            stream.write_all(&[*byte]).expect("a byte is sent");
        }
        stream.write_all(&UPGRADE.as_bytes()[20..]).expect("the rest is sent");
        assert_eq!(first_line(&mut stream), DENIED);
    }
    // The client of the first proxy is the second, which names the client by X-Forwarded-For.
    assert_eq!(status(&relay, PROXY, b"PROXY TCP4 127.0.0.2 127.0.0.2 54321 7777\r\n"), DENIED);
}

#[test]
fn whoever_claims_to_be_a_proxy_or_comes_around_it_is_cut_off_and_told_once_in_the_log() {
    let relay = relay("");
    for header in [
        b"PROXY TCP4 192.0.2.1 127.0.0.2 54321 7777\r\n".to_vec(),
        version_2(0x21, 0x11, &four([192, 0, 2, 1])),
        vec![],
    ] {
        assert_eq!(status(&relay, 3, &header), "");
    }
    assert_eq!(turned_away(&relay, "direct"), 3);
    let line = relay.wait_for_log("reason=\"direct\"");
    assert!(line.contains("address=127.0.0.3"), "{line}");
    let rubbish: [&[u8]; 6] = [
        b"",
        b"PROXY TCP4 198.51.100.8 127.0.0.2 54321\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &version_2(0x22, 0x11, &four([198, 51, 100, 8])),
        &version_2(0x21, 0x12, &four([198, 51, 100, 8])),
        &version_2(0x21, 0x11, &[0; 5000]),
    ];
    for header in rubbish {
        assert_eq!(status(&relay, PROXY, header), "");
    }
    relay.until(|| turned_away(&relay, "proxy-header") == 6);
    assert!(relay.wait_for_log("reason=\"proxy-header\"").contains("count=1"));
    // A check of the port says nothing, and half a header is none.
    drop(relay.stream_from([127, 0, 0, PROXY]));
    relay.stream_from([127, 0, 0, PROXY]).write_all(b"PROXY TCP4 198").expect("half a header is sent");
    relay.until(|| turned_away(&relay, "proxy-header") == 7);
    assert_eq!(status(&relay, PROXY, b"PROXY TCP4 198.51.100.8 127.0.0.2 1 2\r\n"), SERVED, "nobody else is hurt");
}

#[test]
fn a_slow_header_is_cut_off_as_a_slow_request_is() {
    let relay = relay("header_timeout_s = 1");
    let mut stream = relay.stream_from([127, 0, 0, PROXY]);
    stream.write_all(b"PROXY TCP4 198.51.100.8").expect("half a header is sent");
    assert_eq!(first_line(&mut stream), "");
    assert_eq!(turned_away(&relay, "slow"), 1);
    let mut stream = relay.stream_from([127, 0, 0, PROXY]);
    stream.write_all(b"PROXY TCP4 198.51.100.8 127.0.0.2 1 2\r\nGET / HT").expect("half a request is sent");
    assert_eq!(first_line(&mut stream), "");
    relay.until(|| turned_away(&relay, "slow") == 2);
}

#[test]
fn a_client_behind_the_proxy_waits_at_the_door_as_itself_and_has_its_own_connections() {
    let relay = relay("max_half_open = 16\nmax_connections_per_address = 2\nheader_timeout_s = 3600");
    let header = |last: u8| format!("PROXY TCP4 192.0.2.{last} 127.0.0.2 54321 7777\r\n");
    // Sixteen requests of one client that never end take half-open places; eight are all that it may have.
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..16 {
        let mut stream = relay.stream_from([127, 0, 0, PROXY]);
        stream.write_all(format!("{}GET / HT", header(1)).as_bytes()).expect("half a request is sent");
        held.push(stream);
    }
    relay.until(|| turned_away(&relay, "address") == 8);
    let mut open: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = relay.stream_from([127, 0, 0, PROXY]);
            stream.write_all(format!("{}{UPGRADE}", header(2)).as_bytes()).expect("a request is sent");
            stream
        })
        .collect();
    // All stay open: one that left would make room for another.
    let mut answers: Vec<String> = open.iter_mut().map(first_line).collect();
    answers.sort();
    assert_eq!(answers, [SERVED, SERVED, "HTTP/1.1 429"]);
    assert_eq!(status(&relay, PROXY, header(3).as_bytes()), SERVED);
}

#[test]
fn a_proxy_that_sends_no_http_is_told_in_the_log_and_a_header_without_the_key_is_no_http() {
    let relay = Relay::start("[server]\ntrusted_proxies = [\"127.0.0.2\"]\n[metrics]\nlisten = \"127.0.0.1:0\"\n");
    for rubbish in
        [b"PROXY TCP4 192.0.2.1 127.0.0.2 1 2\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"]
    {
        assert_ne!(status(&relay, PROXY, rubbish), SERVED);
        assert_ne!(status(&relay, 3, rubbish), SERVED);
    }
    let line = relay.wait_for_log("sent something other than an HTTP request");
    assert!(line.contains("count=1"), "{line}");
}
