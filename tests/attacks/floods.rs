//! Clients that send more than their share: they are read no further, and others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// An upgraded connection from 127.0.0.`last`.
fn connect_from(relay: &Relay, last: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0).into()).expect("a loopback address");
    socket.connect(&relay.address.into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    let upgrade = "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).expect("the request is sent");
    stream
}

/// One text frame of 126 bytes or more, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) => {
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xff);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

fn metric(relay: &Relay, name: &str) -> u64 {
    let (_, metrics) = relay.watch("/metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
}

#[test]
fn an_address_that_floods_bytes_is_held_and_refused_nothing_and_others_are_served() {
    const MIB: u64 = 1 << 20;
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\nbytes = { per_second = 1000000, burst = 1048576 }\n\
         [metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let message = frame(&format!(r#"["REQ","a",{{"limit":0{}}}]"#, " ".repeat(100_000)));
    let mut flood = [(); 4].map(|()| (connect_from(&relay, 2), 0));
    flood.iter().for_each(|(stream, _)| stream.set_nonblocking(true).expect("a socket"));
    let (key, mut client) = (Key::named("served beside a flood"), relay.connect());
    let mut written = 0;
    for n in 0..50 {
        for (stream, sent) in &mut flood {
            // As much of the message as the socket takes, and the rest of it in the next round.
            match stream.write(&message[*sent..]) {
                Ok(bytes) => (written, *sent) = (written + bytes as u64, (*sent + bytes) % message.len()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "nobody is closed"),
            }
        }
        let note = key.note(&n.to_string());
        client.publish(&note);
        client.finds(json!({"ids": [note.id]}), &[&note]);
    }
    // A burst, and what a turn of each connection read beyond it.
    let read = metric(&relay, "weir_received_bytes_total");
    assert!(written > 6 * MIB && read < 5 * MIB, "{read} of {written} bytes were read");
    assert!(metric(&relay, "weir_connections_held") > 0);
    assert_eq!(metric(&relay, "weir_connections_closed_total{reason=\"debt\"}"), 0);
}

/// One leaves in order, and one with an answer unread, which resets the connection.
#[test]
fn clients_that_leave_in_debt_are_gone_long_before_their_debt_is_paid() {
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\nbytes = { per_second = 100, burst = 1000 }\n\
         refuse_after_s = 3600\nclose_after_s = 3600\n[metrics]\nlisten = \"127.0.0.1:0\"",
    );
    // Ten minutes of debt each.
    let message = frame(&format!(r#"["REQ","a",{{"limit":0{}}}]"#, " ".repeat(60_000)));
    let [mut in_order, mut reset, mut stuck] = [2, 3, 4].map(|last| {
        let mut stream = connect_from(&relay, last);
        stream.write_all(&message).expect("the relay reads it");
        stream
    });
    relay.until(|| relay.metric("weir_connections_held") == 3);
    let read = relay.metric("weir_received_bytes_total");
    for stream in [&mut in_order, &mut reset] {
        stream.write_all(b"never read").expect("the kernel takes it");
    }
    in_order.shutdown(Shutdown::Write).expect("a socket");
    drop(reset);
    // Its close waits behind what the relay's kernel has no room for. With answers unread it would be a reset.
    let mut answers = Vec::new();
    while !answers.windows(4).any(|part| part == b"EOSE") {
        let mut part = [0; 1 << 10];
        let count = stuck.read(&mut part).expect("an answer");
        answers.extend_from_slice(&part[..count]);
    }
    stuck.set_nonblocking(true).expect("a socket");
    while stuck.write(&[b' '; 1 << 16]).is_ok() {}
    drop(stuck);
    relay.until(|| relay.metric("weir_connections") == 0);
    assert_eq!((relay.metric("weir_connections_held"), relay.metric("weir_received_bytes_total")), (0, read));
    assert_eq!(relay.metric("weir_connections_closed_total{reason=\"lost\"}"), 3);
}

/// One of its messages is refused in each second.
#[test]
fn a_client_whose_messages_are_refused_is_gone_when_it_leaves_however_many_it_sent() {
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\nbytes = { per_second = 100, burst = 1000 }\n\
         queries = { per_second = 1, burst = 1 }\nrefuse_after_s = 1\nclose_after_s = 3600\n[metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let mut stream = connect_from(&relay, 2);
    let message = frame(&format!(r#"["COUNT","a",{{"limit":0{}}}]"#, " ".repeat(200)));
    // What comes along with the request is not charged by its bytes.
    stream.read_exact(&mut [0; 12]).expect("an answer");
    stream.write_all(&message.repeat(300)).expect("the relay reads it");
    let name = "weir_refusals_total{prefix=\"rate-limited\"} ";
    let is_refused = |line: &str| line.strip_prefix(name).is_some_and(|count| count != "0");
    relay.until(|| relay.watch("/metrics").1.lines().any(is_refused));
    drop(stream);
    relay.until(|| relay.metric("weir_connections") == 0);
}

/// Its address pays for one of its messages in half a second, so it never owes more than that.
#[test]
fn a_client_that_is_read_slowly_is_gone_soon_after_it_leaves_however_many_messages_it_sent() {
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\nqueries = { per_second = 2, burst = 1 }\nrefuse_after_s = 3600\n\
         close_after_s = 3600\n[metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let message = frame(&format!(r#"["COUNT","a",{{"limit":0{}}}]"#, " ".repeat(200)));
    let [in_order, reset] = [2, 3].map(|last| {
        let mut stream = connect_from(&relay, last);
        stream.read_exact(&mut [0; 12]).expect("an answer");
        stream.write_all(&message.repeat(1_000)).expect("the kernel takes it");
        stream
    });
    relay.until(|| relay.metric("weir_connections_held") == 2);
    in_order.shutdown(Shutdown::Write).expect("a socket");
    drop(reset);
    relay.until(|| relay.metric("weir_connections") == 0);
    let read = relay.metric("weir_messages_total{verb=\"count\"}");
    assert!(read < 100, "{read} of 2,000 messages were read");
}

/// Each AUTH costs the check of a signature, on whatever connection it comes.
#[test]
fn an_address_that_sends_wrong_auths_over_many_connections_is_turned_away_and_others_prove_their_keys() {
    // A wrong AUTH is 385 us: some 50 of them at once, and one in four seconds.
    let relay = Relay::start(
        "[auth]\nchallenge = \"connect\"\n[rates]\nexempt_addresses = []\ncpu_us = { per_second = 100, burst = 20000 }\n\
         refuse_after_s = 5\nclose_after_s = 60\n[metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let key = Key::named("proves what it says");
    let mut looked_at = 0;
    let told = loop {
        let mut stream = connect_from(&relay, 2);
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        if head != *b"HTTP/1.1 101" {
            break String::from_utf8_lossy(&head).into_owned();
        }
        let wrong = key.answer("not the challenge", &relay.url());
        let message = frame(&format!(r#"["AUTH",{}]"#, wrong.text));
        // The connection may be closed for what the address owes by now.
        let _ = stream.write_all(&message.repeat(20));
        looked_at += 20;
        assert!(looked_at < 2_000, "nobody has turned the address away");
        let read = format!("weir_messages_total{{verb=\"auth\"}} {looked_at}\n");
        relay.until(|| {
            let is_over = relay.metric("weir_connections") == 0 || relay.metric("weir_connections_held") > 0;
            is_over || relay.watch("/metrics").1.contains(&read)
        });
    };
    assert_eq!(told, "HTTP/1.1 429");
    let mut stranger = Client::connect_from(&relay, [127, 0, 0, 3]);
    let proof = key.answer(&stranger.challenge(), &relay.url());
    stranger.ask(format!(r#"["AUTH",{}]"#, proof.text), &proof.ok());
}

/// Each forged event costs the check of its signature and a surcharge, on whatever connection it comes.
#[test]
fn an_address_that_forges_events_over_many_connections_is_turned_away_and_honest_events_cost_far_less() {
    // A forged event is about 375 us, an honest one 25 us and a connection 70 us; nothing is paid back meanwhile.
    let relay = Relay::start(
        "[rates]\nexempt_addresses = []\ncpu_us = { per_second = 1, burst = 20000 }\n\
         refuse_after_s = 5\nclose_after_s = 60\n[metrics]\nlisten = \"127.0.0.1:0\"",
    );
    let (key, sign) = (Key::named("forged"), |event: &Signed| event.text.rsplit('"').nth(1).map(String::from));
    let (note, other) = (key.note("one"), key.note("another"));
    let [right, wrong] = [&note, &other].map(|event| sign(event).expect("a signature"));
    let forged = note.with(&right, &wrong);
    let (mut connections, mut answered) = (0, 0);
    let told = loop {
        let mut head = [0; 12];
        connect_from(&relay, 2).read_exact(&mut head).expect("an answer");
        if head != *b"HTTP/1.1 101" {
            break String::from_utf8_lossy(&head).into_owned();
        }
        connections += 1;
        let mut client = Client::connect_from(&relay, [127, 0, 0, 2]);
        for answer in (0..20).map_while(|_| client.try_ask(forged.message())) {
            if answer == forged.refused("invalid: the signature is wrong") {
                answered += 1;
            } else {
                assert!(answer.contains("false,\"rate-limited: "), "{answer}");
            }
        }
        assert!(answered < 200, "nobody has turned the address away");
    };
    assert_eq!((told.as_str(), connections), ("HTTP/1.1 429", 3));
    assert!((45..58).contains(&answered), "{answered}");
    // As many events of an honest client cost less than a tenth of its burst.
    let mut honest = Client::connect_from(&relay, [127, 0, 0, 3]);
    for number in 0..answered {
        honest.publish(&key.note(&number.to_string()));
    }
    honest.publish(&note);
}
