//! A relay made of a script: what it answers is up to the test. Negentropy is that of the `negentropy` crate.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept};

use super::scene::field;
use crate::support::relay::TIMEOUT;
use crate::support::wire::{Signed, hex};

/// The relay's end of the connection.
pub struct Line(pub WebSocket<TcpStream>);

impl Line {
    /// The next message of the other side; `None` once it has gone.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("we send JSON")),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends a message. Returns false once the other side has gone.
    pub fn send(&mut self, text: impl Into<String>) -> bool {
        self.0.send(Message::text(text.into())).is_ok()
    }
}

/// A relay that runs a script for one connection.
pub struct Peer {
    pub url: String,
    thread: Option<JoinHandle<()>>,
}

/// What a relay does with one connection.
pub type Script = Box<dyn FnOnce(&mut Line) + Send>;

impl Peer {
    pub fn run(script: impl FnOnce(&mut Line) + Send + 'static) -> Self {
        Self::run_in_turn(vec![Box::new(script)])
    }

    /// Runs a script for each of several connections, one after the other.
    pub fn run_in_turn(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
                script(&mut Line(accept(stream).expect("a WebSocket")));
            }
        });
        Self { url, thread: Some(thread) }
    }

    /// Answers every message by `answer` until the other side goes.
    pub fn answering(mut answer: impl FnMut(&Value, &mut Line) + Send + 'static) -> Self {
        Self::run(move |line| {
            while let Some(message) = line.next() {
                answer(&message, line);
            }
        })
    }

    /// Answers every message of any number of connections by `answer`, for as long as the test runs.
    pub fn of_many(answer: impl FnMut(&Value, &mut Line) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        let answer = Arc::new(Mutex::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let Ok(socket) = accept(stream) else { return };
                    let mut line = Line(socket);
                    while let Some(message) = line.next() {
                        // One that panics has failed its test, which waits for what it would have done.
                        (answer.lock().unwrap_or_else(PoisonError::into_inner))(&message, &mut line);
                    }
                });
            }
        });
        Self { url, thread: None }
    }

    /// Waits for the script's end; it must not have panicked.
    pub fn end(mut self) {
        let thread = self.thread.take().expect("it ends once");
        assert!(thread.join().is_ok(), "the script panicked");
    }
}

/// A relay that does what it should with these events.
pub struct Honest {
    pub events: Vec<Signed>,
    session: Option<Negentropy<'static, NegentropyStorageVector>>,
}

impl Honest {
    pub fn with(events: &[Signed]) -> Self {
        Self { events: events.to_vec(), session: None }
    }

    /// The verb of a message.
    pub fn verb(message: &Value) -> &str {
        message[0].as_str().expect("a verb")
    }

    /// Answers any message.
    pub fn answer(&mut self, message: &Value, line: &mut Line) {
        match Self::verb(message) {
            "NEG-OPEN" => {
                let mut storage = NegentropyStorageVector::new();
                for event in &self.events {
                    let id = Id::from_slice(&bytes(&event.id)).expect("32 bytes");
                    let at = field(&event.text, "created_at").as_u64().expect("a date");
                    storage.insert(at, id).expect("not sealed");
                }
                storage.seal().expect("not sealed");
                self.session = Some(Negentropy::owned(storage, 60_000).expect("a frame of this size"));
                self.reconcile(&message[1], &message[3], line);
            }
            "NEG-MSG" => self.reconcile(&message[1], &message[2], line),
            "REQ" => self.query(message, line),
            "EVENT" => drop(line.send(json!(["OK", message[1]["id"], true, ""]).to_string())),
            _ => {}
        }
    }

    fn reconcile(&mut self, name: &Value, message: &Value, line: &mut Line) {
        let session = self.session.as_mut().expect("it was opened");
        let answer = session.reconcile(&bytes(message.as_str().expect("text"))).expect("a good message");
        line.send(json!(["NEG-MSG", name, hex(&answer)]).to_string());
    }

    fn query(&self, message: &Value, line: &mut Line) {
        let name = message[1].as_str().expect("a name");
        for id in message[2]["ids"].as_array().into_iter().flatten() {
            if let Some(event) = self.events.iter().find(|event| *id == json!(event.id)) {
                line.send(event.frame(name));
            }
        }
        line.send(json!(["EOSE", name]).to_string());
    }
}

/// Decodes hexadecimal digits.
pub fn bytes(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}
