//! The built relay as a process on its own port. It ends when its handle is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::{Domain, Socket, Type};

pub use super::wait::TIMEOUT;

/// The built binary. If `WEIR_RUNNER` names a program, such as an emulator of another CPU, that runs it.
fn binary() -> Command {
    let runner = std::env::var("WEIR_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().chain([env!("CARGO_BIN_EXE_weir")]);
    let mut command = Command::new(words.next().expect("the binary is one"));
    command.args(words);
    command
}

/// A configuration with the keys that `WEIR_CONFIG` holds and it does not set itself: how a run of the tests chooses an
/// engine, for example. A text that is not TOML stays as it is.
fn with_common_keys(config: &str) -> String {
    let (Ok(common), Ok(mut table)) = (std::env::var("WEIR_CONFIG"), config.parse::<toml::Table>()) else {
        return config.into();
    };
    let common: toml::Table = common.parse().expect("WEIR_CONFIG is TOML");
    for (section, keys) in common {
        let own = table.entry(section).or_insert_with(|| toml::Table::new().into());
        let (own, keys) = (own.as_table_mut().expect("a section"), keys.as_table().expect("a section"));
        for (key, value) in keys {
            own.entry(key).or_insert_with(|| value.clone());
        }
    }
    table.to_string()
}

/// A running relay.
pub struct Relay {
    child: Child,
    pub address: SocketAddr,
    /// The address of its metrics, if it serves them.
    pub monitor: Option<SocketAddr>,
    log: Mutex<Receiver<String>>,
    /// What it logged before it listened, and no test has waited for yet.
    early: Mutex<Vec<String>>,
    config: PathBuf,
    dir: Option<tempfile::TempDir>,
}

impl Relay {
    /// Starts a relay with a new store and this configuration, TOML text that may be empty.
    pub fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut relay = Self::start_in(dir.path(), config);
        relay.dir = Some(dir);
        relay
    }

    /// Starts a relay on the store in `dir`.
    pub fn start_in(dir: &Path, config: &str) -> Self {
        Self::start_by(binary(), dir, config)
    }

    /// Starts a relay on the store in `dir` with a command that takes the relay's arguments.
    pub fn start_by(mut command: Command, dir: &Path, config: &str) -> Self {
        let file = dir.join("weir.toml");
        std::fs::write(&file, with_common_keys(config)).expect("the configuration is written");
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut said = Vec::new();
        let mut monitor = None;
        let address = loop {
            let line = log.recv_timeout(TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("the relay does not say where it listens, but {said:#?}"));
            said.push(line.clone());
            if let Some((_, url)) = line.split_once("metrics on http://") {
                monitor = Some(address(url));
            }
            if let Some((_, told)) = line.split_once("listening on ") {
                break address(told);
            }
        };
        Self { child, address, monitor, log: Mutex::new(log), early: Mutex::new(said), config: file, dir: None }
    }

    /// A relay with the default configuration, for tests that use their own keys to share.
    ///
    /// It runs for as long as a test holds it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Relay>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let relay = Arc::new(Self::start(""));
            *shared = Arc::downgrade(&relay);
            relay
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory of the store, for other processes.
    pub fn data(&self) -> PathBuf {
        self.config.with_file_name("data")
    }

    /// The relay's URL.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// A socket from another address of this machine, `127.0.0.0/8`.
    pub fn stream_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((address, 0)).into()).expect("an address of this machine");
        socket.connect(&self.address.into()).expect("a connection");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream
    }

    /// Waits until a condition is true.
    #[track_caller]
    pub fn until(&self, mut is_true: impl FnMut() -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !is_true() {
            assert!(Instant::now() < end, "not true within {TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The value of a counter or gauge in the metrics. `name` includes its labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = self.watch("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
    }

    /// Waits for a line of the log that holds `text`, and returns it. A thread may have said it before the relay
    /// listened.
    pub fn wait_for_log(&self, text: &str) -> String {
        let mut early = self.early.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(at) = early.iter().position(|line| line.contains(text)) {
            return early.remove(at);
        }
        drop(early);
        self.log_until(text).pop().expect("at least the line that was waited for")
    }

    /// The lines of the log up to one that holds `text`.
    pub fn log_until(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut said = Vec::new();
        // Other lines may keep coming.
        let end = Instant::now() + 3 * TIMEOUT;
        loop {
            let timeout = TIMEOUT.min(end.saturating_duration_since(Instant::now()));
            let line = log.recv_timeout(timeout).unwrap_or_else(|_| panic!("no {text:?} in the log, but {said:#?}"));
            said.push(line);
            if said.last().is_some_and(|line| line.contains(text)) {
                return said;
            }
        }
    }

    /// Writes another configuration and makes the relay read it.
    pub fn reload(&self, config: &str) {
        std::fs::write(&self.config, with_common_keys(config)).expect("the configuration is written");
        self.signal("HUP");
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "the signal was sent");
    }

    /// Waits until the process has ended by itself, which it must do successfully.
    pub fn wait_for_exit(mut self) -> Self {
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                assert!(status.success(), "the relay ended with {status}");
                return self;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the relay did not end within {TIMEOUT:?}");
    }

    /// Waits until the process has ended by itself. Returns its exit code, or `None` when a signal ended it.
    pub fn wait_for_status(mut self) -> Option<i32> {
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the relay did not end within {TIMEOUT:?}");
    }

    /// Keeps the process from opening descriptors from this number on. Open ones stay open.
    pub fn limit_descriptors(&self, first: u64) {
        let limit = Rlimit { current: Some(first), maximum: Some(first) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("the limit is set");
    }

    /// Kills the relay without warning and starts it again on the same store.
    pub fn restart_killed(mut self, config: &str) -> Self {
        self.end();
        self.restart(config)
    }

    /// Starts a relay that has ended, again on the same store.
    pub fn restart(mut self, config: &str) -> Self {
        let dir = self.dir.take().expect("only a relay with a directory of its own is restarted");
        let mut relay = Self::start_in(dir.path(), config);
        relay.dir = Some(dir);
        relay
    }

    /// Sends the bytes of an HTTP request. Returns the head and the body of the answer.
    pub fn http(&self, request: &str) -> (String, String) {
        Self::http_at(self.address, request)
    }

    /// One of the pages for operators: its status and body.
    pub fn watch(&self, path: &str) -> (u16, String) {
        let (head, body) = self.watch_by("GET", path);
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body)
    }

    /// The head and the body that a request with another method gets there.
    pub fn watch_by(&self, method: &str, path: &str) -> (String, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        Self::http_at(self.monitor.expect("[metrics] listen is set"), &request)
    }

    fn http_at(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, then the end");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_ascii_lowercase(), body.into())
    }

    /// Sends a request over new connections until one is answered with a head that begins like this. Returns that
    /// connection.
    pub fn http_until(&self, request: &str, head: &str) -> TcpStream {
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            let mut stream = TcpStream::connect(self.address).expect("a connection");
            stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
            stream.write_all(request.as_bytes()).expect("the request is sent");
            let mut answer = vec![0; head.len()];
            stream.read_exact(&mut answer).expect("an answer");
            if answer.eq_ignore_ascii_case(head.as_bytes()) {
                return stream;
            }
        }
        panic!("no answer begins with {head:?}");
    }

    /// The information document (NIP-11).
    pub fn information(&self) -> serde_json::Value {
        let (_, body) =
            self.http("GET / HTTP/1.1\r\nHost: relay\r\nAccept: application/nostr+json\r\nConnection: close\r\n\r\n");
        serde_json::from_str(&body).expect("the document is JSON")
    }

    fn end(&mut self) {
        // It may have ended by itself. Either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

/// The address at the beginning of a text: more of a URL follows, or of a line in JSON.
fn address(text: &str) -> SocketAddr {
    let end = text.find(['/', '"']).unwrap_or(text.len());
    text[..end].trim().parse().expect("an address and a port")
}
