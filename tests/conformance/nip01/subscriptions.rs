//! NIP-01, subscriptions that end: after the answer to the message that ends one, nothing more of it comes.
//!
//! All messages of a case are sent in one write, so that the others have arrived when the first is answered.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use weir::ws::{Flow, Incoming, OpCode, Reader, ReaderOptions, Role};

use crate::support::frame::masked_frame;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// A client that can receive compressed messages and sends several messages at once.
struct Client {
    socket: TcpStream,
    reader: Reader,
    texts: std::collections::VecDeque<String>,
}

impl Client {
    fn connect(relay: &Relay, deflate: bool) -> Self {
        let mut socket = TcpStream::connect(relay.address).expect("a connection");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let request = format!(
            "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        socket.write_all(request.as_bytes()).expect("the request is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a byte of the head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert_eq!(head.contains("permessage-deflate"), deflate, "{head}");
        let options = ReaderOptions { max_message_bytes: 1 << 20, deflate, role: Role::Client };
        Self { socket, reader: Reader::new(options), texts: std::collections::VecDeque::new() }
    }

    /// Sends messages in one write.
    fn send(&mut self, messages: &[Value]) {
        let mut bytes = Vec::new();
        for message in messages {
            masked_frame(&mut bytes, OpCode::Text as u8, message.to_string().as_bytes(), [1, 2, 3, 4]);
        }
        self.socket.write_all(&bytes).expect("the messages are sent");
    }

    fn next(&mut self) -> String {
        loop {
            if let Some(text) = self.texts.pop_front() {
                return text;
            }
            let mut buffer = vec![0; 64 << 10];
            let read = self.socket.read(&mut buffer).expect("bytes in time");
            assert!(read > 0, "the relay hung up");
            let texts = &mut self.texts;
            let take = |incoming: Incoming<'_>| {
                if let Incoming::Text(text) = incoming {
                    texts.push_back(text.into());
                }
                Flow::Continue
            };
            self.reader.feed(&mut buffer[..read], take).expect("frames as RFC 6455 has them");
        }
    }

    /// The frames up to `answer`, and those after it up to the answer to a question that is asked then.
    fn until(&mut self, answer: &[String]) -> Vec<String> {
        let mut frames = Vec::new();
        while !frames.ends_with(answer) {
            frames.push(self.next());
        }
        self.send(&[json!(["COUNT", "the end", {"ids": []}])]);
        let answer = json!(["COUNT", "the end", {"count": 0}]).to_string();
        loop {
            match self.next() {
                frame if frame == answer => return frames,
                frame => frames.push(frame),
            }
        }
    }
}

/// Events of `key`, newest first.
fn notes(key: &Key, count: u64) -> Vec<Signed> {
    let at = now() - 1000;
    (0..count).rev().map(|n| key.event(1, at + n, json!([]), &"some words to compress; ".repeat(20))).collect()
}

/// A case: what is sent right after `["REQ","s",<all stored events>]`, and the frames that answer it.
type Case = (&'static str, Vec<Value>, Vec<String>);

fn cases(new: &Key, of_new: &Signed) -> Vec<Case> {
    let filter = json!({"authors": [new.hex]});
    let none = json!({"authors": [new.hex], "limit": 0});
    let (req, close) = (json!(["REQ", "s", filter]), json!(["CLOSE", "s"]));
    let answer = |sub: &str| vec![of_new.frame(sub), json!(["EOSE", sub]).to_string()];
    let closed = json!(["CLOSED", "s", "unsupported: filter key \"x\" is unknown"]).to_string();
    vec![
        ("replaced", vec![req.clone()], answer("s")),
        ("closed and opened", vec![close.clone(), req.clone()], answer("s")),
        ("replaced twice", vec![json!(["REQ", "s", none]), req], answer("s")),
        ("replaced with limit 0", vec![json!(["REQ", "s", none])], vec![json!(["EOSE", "s"]).to_string()]),
        ("replaced by a refused one", vec![json!(["REQ", "s", {"x": 1}])], vec![closed]),
        ("closed", vec![close.clone()], vec![]),
        ("closed, and another opened", vec![close, json!(["REQ", "t", filter])], answer("t")),
    ]
}

fn holds(config: &str) {
    let relay = Relay::start(&format!("[auth]\nchallenge = \"demand\"\n[limits]\ndefault_limit = 1000\n{config}"));
    let (old, new) = (Key::named("old"), Key::named("new"));
    let (of_old, of_new) = (notes(&old, 600), new.note("new"));
    let eose = [json!(["EOSE", "s"]).to_string()];
    let mut publisher = relay.connect_unchallenged();
    of_old.chunks(200).for_each(|chunk| publisher.publish_all(chunk));
    publisher.publish(&of_new);
    for deflate in [false, true] {
        let mut client = Client::connect(&relay, deflate);
        for round in 0..10 {
            for (name, behind, answer) in cases(&new, &of_new) {
                let mut messages = vec![json!(["REQ", "s", {"authors": [old.hex]}])];
                messages.extend(behind);
                client.send(&messages);
                let frames = client.until(&answer);
                // Rows that were sent before the message that ended the subscription arrived.
                let sent = of_old.iter().zip(&frames).take_while(|(event, frame)| event.frame("s") == **frame).count();
                let rest = &frames[sent..];
                // A turn may end between two messages. A query without rows is then answered before it is replaced, and
                // on a slow machine all rows of the first one may be.
                let may_have_ended = name == "replaced twice" || sent == of_old.len();
                let behind = rest.strip_prefix(&eose[..]).filter(|behind| may_have_ended && *behind == answer);
                let rest = behind.unwrap_or(rest);
                assert!(rest == answer, "{name}, compression {deflate}, round {round}: {sent} rows, {rest:?}");
                client.send(&[json!(["CLOSE", "s"]), json!(["CLOSE", "t"])]);
                assert_eq!(client.until(&[]), [""; 0]);
            }
        }
    }
}

#[test]
fn nothing_of_a_subscription_follows_the_answer_to_what_ended_it() {
    holds("");
}

#[test]
fn nothing_of_a_subscription_that_readers_work_for_follows_either() {
    holds("[pipeline]\ninline_us = 0\nslice_rows = 7");
}
