//! A strict client: every frame is compared whole, nothing is skipped, and everything ends within [`TIMEOUT`].

use std::io::ErrorKind;
use std::marker::PhantomData;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::relay::{Relay, TIMEOUT};
use super::wire::{Key, Signed};

/// One WebSocket connection to a relay, which must outlive it.
pub struct Client<'relay> {
    socket: WebSocket<TcpStream>,
    url: String,
    relay: PhantomData<&'relay Relay>,
    /// Events that came while the test waited for something else, with their subscriptions.
    pub kept: Vec<(String, String)>,
    /// The challenge that AUTH must answer; empty until the relay has sent one.
    challenge: String,
}

impl Relay {
    /// A client that has read the challenge, if the relay sends one at connect.
    pub fn connect(&self) -> Client<'_> {
        Client::connect(self)
    }

    /// A client that has read nothing.
    pub fn connect_unchallenged(&self) -> Client<'_> {
        Client::connect_unchallenged(self)
    }
}

impl<'relay> Client<'relay> {
    /// Connects and reads the challenge, if the relay sends one at connect: it then comes before the answer to a ping.
    pub fn connect(relay: &'relay Relay) -> Self {
        Self::connect_unchallenged(relay).greeted()
    }

    fn greeted(mut self) -> Self {
        self.send_message(Message::Ping(b"challenge?".as_slice().into()));
        loop {
            match self.socket.read().expect("a frame in time") {
                Message::Pong(_) => return self,
                Message::Text(frame) if self.challenge.is_empty() => self.note_challenge(&frame),
                // A client in debt is pinged.
                Message::Ping(_) => {}
                other => panic!("a challenge or a pong, not {other:?}"),
            }
        }
    }

    /// The challenge that AUTH must answer. A relay that has not sent one does so before it refuses what needs a key.
    pub fn challenge(&mut self) -> String {
        if self.challenge.is_empty() {
            self.send(r#"["COUNT","challenge",{"kinds":[1059]}]"#);
            self.take_challenge();
            self.expect(r#"["CLOSED","challenge","auth-required: cannot count other people's direct messages"]"#);
        }
        self.challenge.clone()
    }

    /// Connects and reads nothing.
    pub fn connect_unchallenged(relay: &'relay Relay) -> Self {
        Self::over(relay, TcpStream::connect(relay.address).expect("a connection"))
    }

    /// Connects from another address of this machine, `127.0.0.0/8`, and reads as [`Client::connect`].
    pub fn connect_from(relay: &'relay Relay, address: [u8; 4]) -> Self {
        Self::over(relay, relay.stream_from(address)).greeted()
    }

    fn over(relay: &'relay Relay, stream: TcpStream) -> Self {
        let url = relay.url();
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let request = url.as_str().into_client_request().expect("a URL");
        let mut config = WebSocketConfig::default();
        config.max_message_size = None;
        config.max_frame_size = None;
        let (socket, _) = tokio_tungstenite::tungstenite::client::client_with_config(request, stream, Some(config))
            .expect("the relay takes the connection");
        Self { socket, url, relay: PhantomData, kept: Vec::new(), challenge: String::new() }
    }

    /// Reads a frame that must be a challenge.
    pub fn take_challenge(&mut self) {
        let frame = self.next();
        self.note_challenge(&frame);
    }

    fn note_challenge(&mut self, frame: &str) {
        let message: Value = serde_json::from_str(frame).expect("JSON");
        let challenge = message[1].as_str().unwrap_or_else(|| panic!("a challenge, not {frame}"));
        assert_eq!(frame, format!(r#"["AUTH","{challenge}"]"#));
        assert!(challenge.len() >= 32, "a challenge has 128 bits in hex: {challenge}");
        self.challenge = challenge.into();
    }

    /// Waits for a frame for less than [`TIMEOUT`].
    pub fn wait_at_most(&self, timeout: Duration) {
        self.socket.get_ref().set_read_timeout(Some(timeout)).expect("a timeout");
    }

    /// Sends one text message.
    pub fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).expect("the message is sent");
    }

    /// Sends several text messages in one write.
    pub fn send_all<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) {
        for text in texts {
            self.socket.write(Message::text(text.as_str())).expect("the message is written");
        }
        self.socket.flush().expect("the messages are sent");
    }

    /// Sends bytes that need not be whole frames.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        std::io::Write::write_all(self.socket.get_mut(), bytes).expect("the bytes are sent");
    }

    /// Sends any kind of frame.
    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).expect("the message is sent");
    }

    /// The next frame that is not a ping or pong.
    pub fn next_message(&mut self) -> Message {
        loop {
            match self.socket.read().expect("a frame in time") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The text of the next frame.
    pub fn next(&mut self) -> String {
        match self.next_message() {
            Message::Text(text) => text.as_str().into(),
            other => panic!("a text frame, not {other:?}"),
        }
    }

    /// Whether there is another text frame before the connection ends.
    pub fn reads_one_more(&mut self) -> bool {
        match self.socket.read() {
            Ok(message) => !message.is_close(),
            Err(Error::Io(error)) => {
                let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!waited, "neither a frame nor an end within {TIMEOUT:?}");
                false
            }
            Err(_) => false,
        }
    }

    /// The next pong.
    pub fn next_pong(&mut self) -> Vec<u8> {
        match self.socket.read().expect("a frame in time") {
            Message::Pong(payload) => payload.to_vec(),
            other => panic!("a pong, not {other:?}"),
        }
    }

    /// The code of the next frame, which must be a close frame.
    pub fn closing_code(&mut self) -> u16 {
        match self.next_message() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("a close frame, not {other:?}"),
        }
    }

    /// The next frame must be exactly this.
    #[track_caller]
    pub fn expect(&mut self, frame: &str) {
        let got = self.next();
        assert!(got == frame, "expected {}\n     got {}", shortened(frame), shortened(&got));
    }

    /// The next frames must be exactly these, in any order.
    #[track_caller]
    pub fn expect_all(&mut self, frames: impl IntoIterator<Item = String>) {
        let mut wanted: Vec<String> = frames.into_iter().collect();
        let mut got: Vec<String> = wanted.iter().map(|_| self.next()).collect();
        wanted.sort();
        got.sort();
        assert!(got == wanted, "expected {wanted:#?}\ngot {got:#?}");
    }

    /// Sends `text` and expects exactly one frame, this one.
    #[track_caller]
    pub fn ask(&mut self, text: impl Into<String>, answer: &str) {
        self.send(text);
        self.expect(answer);
    }

    /// Sends `text` and returns the next text frame; `None` if the connection ends before.
    pub fn try_ask(&mut self, text: impl Into<String>) -> Option<String> {
        self.socket.send(Message::text(text.into())).ok()?;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(text.as_str().into()),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::Protocol(_)) => return None,
                Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return None,
                Ok(_) => {}
                Err(error) => panic!("a frame within {TIMEOUT:?}, or the end: {error}"),
            }
        }
    }

    /// Sends a query and returns the frame that ends it, EOSE or CLOSED. Drops the events before it.
    pub fn ask_for_end(&mut self, query: &str) -> String {
        self.send(query);
        loop {
            let frame = self.next();
            if !frame.starts_with("[\"EVENT\"") {
                return frame;
            }
        }
    }

    /// Publishes an event that must be accepted and stored.
    #[track_caller]
    pub fn publish(&mut self, event: &Signed) {
        self.ask(event.message(), &event.ok());
    }

    /// Publishes an event that must be refused for this reason.
    #[track_caller]
    pub fn refused(&mut self, event: &Signed, reason: &str) {
        self.ask(event.message(), &event.refused(reason));
    }

    /// Publishes many events at once; all must be accepted.
    #[track_caller]
    pub fn publish_all<'a>(&mut self, events: impl IntoIterator<Item = &'a Signed>) {
        let events: Vec<&Signed> = events.into_iter().collect();
        for event in &events {
            self.socket.write(Message::text(event.message())).expect("the message is written");
        }
        self.socket.flush().expect("the messages are sent");
        self.expect_all(events.iter().map(|event| event.ok()));
    }

    /// Authenticates as `key`.
    #[track_caller]
    pub fn authenticate(&mut self, key: &Key) {
        let event = key.answer(&self.challenge(), &self.url);
        self.ask(format!(r#"["AUTH",{}]"#, event.text), &event.ok());
    }

    /// Opens `sub`, an id that needs no escapes, and returns the events up to EOSE and the EOSE itself.
    #[track_caller]
    pub fn open(&mut self, sub: &str, filters: &[Value]) -> (Vec<String>, String) {
        let mut message = vec![json!("REQ"), json!(sub)];
        message.extend_from_slice(filters);
        self.send(Value::from(message).to_string());
        self.rest(sub)
    }

    /// The events that come for `sub` until EOSE, and the EOSE itself.
    #[track_caller]
    pub fn rest(&mut self, sub: &str) -> (Vec<String>, String) {
        let head = format!(r#"["EVENT","{sub}","#);
        let mut events = Vec::new();
        loop {
            let frame = self.next();
            match frame.strip_prefix(&head) {
                Some(event) => events.push(event.strip_suffix(']').expect("an array ends").into()),
                None if frame.starts_with(&format!(r#"["EOSE","{sub}""#)) => return (events, frame),
                None => panic!("an event or EOSE of {sub}, not {frame}"),
            }
        }
    }

    /// The stored events that match, in the order in which they come. Closes the subscription again.
    #[track_caller]
    pub fn query(&mut self, filters: &[Value]) -> Vec<String> {
        let (events, _) = self.open("query", filters);
        self.send(r#"["CLOSE","query"]"#);
        events
    }

    /// The stored events that match must be exactly these, in this order.
    #[track_caller]
    pub fn finds(&mut self, filter: Value, events: &[&Signed]) {
        let got = self.query(&[filter]);
        let wanted: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
        assert!(got == wanted, "expected {wanted:#?}\ngot {got:#?}");
    }

    /// The COUNT of these filters must be `count`, without registers.
    #[track_caller]
    pub fn counts(&mut self, filter: Value, count: u64) {
        let answer = self.count(&filter);
        assert_eq!(answer["count"], json!(count), "{filter}");
    }

    /// The answer to a COUNT of one filter.
    #[track_caller]
    pub fn count(&mut self, filter: &Value) -> Value {
        self.send(json!(["COUNT", "count", filter]).to_string());
        let message: Value = serde_json::from_str(&self.next()).expect("JSON");
        assert_eq!((&message[0], &message[1]), (&json!("COUNT"), &json!("count")), "{message}");
        message[2].clone()
    }

    /// Asserts that nothing more comes: the next frame is the answer to a question.
    #[track_caller]
    pub fn is_silent(&mut self) {
        self.ask(r#"["COUNT","silence",{"ids":[]}]"#, r#"["COUNT","silence",{"count":0}]"#);
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.into(),
    }
}
