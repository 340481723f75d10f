//! A server of NATS as a process, and a client of it that shares no code with the relay.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::relay::TIMEOUT;
use crate::support::require::{Need, has};

/// The binary: `WEIR_NATS_SERVER`, or what `.ci/dependencies` installs, or the one that is found.
fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("WEIR_NATS_SERVER").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    named.into_iter().chain([installed]).chain(found).find(|file| file.is_file())
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A server, which ends when this is dropped.
pub struct Nats {
    child: Option<Child>,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Nats {
    /// Starts a server by itself; `None` where there is none to test with and `WEIR_REQUIRE` does not demand it.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(free_port(), "")
    }

    /// Starts a server on a port, with more of a configuration.
    #[track_caller]
    pub fn start_with(port: u16, config: &str) -> Option<Self> {
        let mut server = Self::prepare(port, config)?;
        server.run();
        Some(server)
    }

    /// A server that does not run yet.
    #[track_caller]
    pub fn prepare(port: u16, config: &str) -> Option<Self> {
        let text = |store: &str| format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?} }}\n{config}");
        Self::prepare_by(port, text)
    }

    /// The same with a whole configuration, given the directory of its store.
    #[track_caller]
    pub fn prepare_by(port: u16, text: impl FnOnce(&str) -> String) -> Option<Self> {
        has(Need::Nats, binary().is_some()).then_some(())?;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("nats.conf");
        let store = dir.path().join("data").display().to_string();
        std::fs::write(&file, text(&store)).expect("the configuration is written");
        let arguments = vec!["-c".into(), file.display().to_string()];
        Some(Self { child: None, address: SocketAddr::from(([127, 0, 0, 1], port)), dir, arguments })
    }

    /// Runs it, if it does not.
    pub fn run(&mut self) {
        if self.child.is_some() {
            return;
        }
        let mut command = Command::new(binary().expect("a server"));
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a file");
        let child = command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("the server starts"));
        let end = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < end, "the server does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it, and takes everything that it has stored.
    pub fn wipe(&mut self) {
        self.kill();
        // There is nothing before the first stream.
        let _ = std::fs::remove_dir_all(self.dir.path().join("data"));
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// A client.
    pub fn client(&self) -> NatsClient {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let mut client = NatsClient { reader: BufReader::new(stream), inboxes: 0 };
        assert!(client.line().starts_with("INFO "), "the server greets");
        client.write(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n");
        client
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection to a server.
pub struct NatsClient {
    reader: BufReader<TcpStream>,
    inboxes: u64,
}

impl NatsClient {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        line.trim_end().into()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("it is sent");
    }

    /// Publishes a message that says it comes from `node`, and waits until the stream has it, unless `reply` is false.
    pub fn publish(&mut self, subject: &str, node: &str, payload: &[u8], is_stored: bool) {
        self.inboxes += 1;
        let inbox = format!("_INBOX.test.{}", self.inboxes);
        let headers = format!("NATS/1.0\r\nWeir-Node: {node}\r\n\r\n");
        let reply = if is_stored { format!("{inbox} ") } else { String::new() };
        let mut message = format!("SUB {inbox} {n}\r\nUNSUB {n} 1\r\n", n = self.inboxes).into_bytes();
        let total = headers.len() + payload.len();
        message.extend(format!("HPUB {subject} {reply}{} {total}\r\n{headers}", headers.len()).as_bytes());
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\nPING\r\n");
        self.write(&message);
        let answer = self.answer(is_stored);
        assert!(!is_stored || answer.get("error").is_none_or(Value::is_null), "the stream takes it: {answer}");
    }

    /// Calls a function of JetStream.
    pub fn call(&mut self, what: &str, body: &Value) -> Value {
        self.ask(&format!("$JS.API.{what}"), body)
    }

    /// Asks, and returns the answer; null if it is no JSON.
    pub fn ask(&mut self, subject: &str, body: &Value) -> Value {
        self.inboxes += 1;
        let (inbox, body) = (format!("_INBOX.test.{}", self.inboxes), body.to_string());
        let subscribe = format!("SUB {inbox} {n}\r\nUNSUB {n} 1\r\n", n = self.inboxes);
        self.write(format!("{subscribe}PUB {subject} {inbox} {}\r\n{body}\r\nPING\r\n", body.len()).as_bytes());
        self.answer(true)
    }

    /// Answers so many questions at a subject: `answer` gets each one, and says nothing with `None`.
    pub fn serve(&mut self, subject: &str, count: usize, mut answer: impl FnMut(&Value) -> Option<Vec<u8>>) {
        self.inboxes += 1;
        self.write(format!("SUB {subject} {}\r\n", self.inboxes).as_bytes());
        let mut served = 0;
        while served < count {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            let (reply, headers, total) = match words[..] {
                ["MSG", _, _, reply, total] => (reply, "0", total),
                ["HMSG", _, _, reply, headers, total] => (reply, headers, total),
                ["PING"] => {
                    self.write(b"PONG\r\n");
                    continue;
                }
                _ => continue,
            };
            let [headers, total] = [headers, total].map(|size| size.parse::<usize>().expect("a size"));
            let mut payload = vec![0; total];
            self.reader.read_exact(&mut payload).expect("the payload");
            assert_eq!(self.line(), "");
            served += 1;
            let question = serde_json::from_slice(&payload[headers..]).expect("a question");
            if let Some(said) = answer(&question) {
                self.write(&[format!("PUB {reply} {}\r\n", said.len()).as_bytes(), &said, b"\r\n"].concat());
            }
        }
        self.write(format!("UNSUB {}\r\nPING\r\n", self.inboxes).as_bytes());
        while self.line() != "PONG" {}
    }

    /// Reads up to the answer, if there is to be one, and the PONG.
    fn answer(&mut self, is_due: bool) -> Value {
        let (mut answer, mut has_pong) = (None, false);
        while !has_pong || (is_due && answer.is_none()) {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "PONG" => has_pong = true,
                "PING" => self.write(b"PONG\r\n"),
                "MSG" | "HMSG" => {
                    let size = words.last().and_then(|word| word.parse().ok()).expect("a size");
                    let mut payload = vec![0; size];
                    self.reader.read_exact(&mut payload).expect("the payload");
                    assert_eq!(self.line(), "");
                    answer = Some(serde_json::from_slice(&payload).unwrap_or(Value::Null));
                }
                "INFO" => {}
                other => panic!("{other:?} in {line:?}"),
            }
        }
        answer.unwrap_or(json!({}))
    }
}
