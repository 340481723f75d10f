//! A relay in a directory, or on a small file system of its own, and a storm of events.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::require::{self, Need};
pub use crate::support::wait::eventually;
use crate::support::wire::{Key, Signed, now};

/// A file system of a few megabytes, unmounted when it is dropped.
pub struct SmallDisk {
    dir: tempfile::TempDir,
    /// Where it is a file in turn.
    _image: Option<tempfile::NamedTempFile>,
}

impl SmallDisk {
    /// One in memory; `None` where it may not be mounted.
    pub fn tmpfs(megabytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "weir-test"]).arg(dir.path()).output();
        Self::mounted(dir, None, mount)
    }

    /// One of the kind that servers have, in a file.
    pub fn ext4(megabytes: u64) -> Option<Self> {
        let (dir, image) = (tempfile::tempdir().expect("a directory"), tempfile::NamedTempFile::new().expect("a file"));
        image.as_file().set_len(megabytes << 20).expect("the file is made long");
        let options = ["-q", "-F", "-m", "0", "-O", "^has_journal"];
        let made = Command::new("mkfs.ext4").args(options).arg(image.path()).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            return Self::mounted(dir, None, made.and(Err(std::io::ErrorKind::Unsupported.into())));
        }
        let mount = Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(dir.path()).output();
        Self::mounted(dir, Some(image), mount)
    }

    fn mounted(
        dir: tempfile::TempDir,
        image: Option<tempfile::NamedTempFile>,
        mount: std::io::Result<Output>,
    ) -> Option<Self> {
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        require::has(Need::Mount, is_mounted).then(|| Self { dir, _image: image })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file that takes this much of it.
    pub fn fill(&self, megabytes: usize) -> PathBuf {
        let path = self.path().join("filler");
        std::fs::write(&path, vec![1; megabytes << 20]).expect("the filler fits");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A relay that still ends keeps it busy; lazily it goes when that is gone.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// What the relay said to each event of a storm.
#[derive(Default)]
pub struct Answers {
    pub stored: Vec<Signed>,
    /// By reason.
    pub refused: BTreeMap<String, Vec<Signed>>,
}

impl Answers {
    /// The reasons, without numbers of seconds.
    pub fn reasons(&self) -> Vec<&str> {
        self.refused.keys().map(String::as_str).collect()
    }
}

/// Publishes events, in bursts, and sorts them by what the relay says.
pub fn storm(client: &mut Client<'_>, events: impl IntoIterator<Item = Signed>) -> Answers {
    let mut answers = Answers::default();
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let burst: Vec<Signed> = events.by_ref().take(64).collect();
        burst.iter().for_each(|event| client.send(event.message()));
        let mut said: BTreeMap<String, Option<String>> = BTreeMap::new();
        for _ in 0..burst.len() {
            let answer: Value = serde_json::from_str(&client.next()).expect("JSON");
            assert_eq!(answer[0], "OK", "{answer}");
            let reason = (answer[2] != true).then(|| answer[3].as_str().expect("a reason").to_string());
            said.insert(answer[1].as_str().expect("an id").into(), reason);
        }
        for event in burst {
            match said.remove(&event.id).expect("an answer for every event") {
                None => answers.stored.push(event),
                Some(reason) => answers.refused.entry(reason).or_default().push(event),
            }
        }
    }
    answers
}

/// Notes by `key`, a second apart up to now, the oldest first.
pub fn notes(key: &Key, count: u64, bytes: usize) -> impl Iterator<Item = Signed> {
    let begin = now() - count;
    (0..count).map(move |n| key.event(1, begin + n, json!([["t", "storm"]]), &format!("{n} {}", "x".repeat(bytes))))
}

/// Which of `events` the relay holds, by asking for their ids.
pub fn held(client: &mut Client<'_>, events: &[Signed]) -> Vec<Signed> {
    let mut found = Vec::new();
    for some in events.chunks(200) {
        let ids: Vec<&str> = some.iter().map(|event| event.id.as_str()).collect();
        let texts = client.query(&[json!({ "ids": ids, "limit": 500 })]);
        found.extend(some.iter().filter(|event| texts.contains(&event.text)).cloned());
    }
    found
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

/// One GET on the address of the metrics: the status and the body.
pub fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.split(' ').nth(1).expect("a status").into(), body.into())
}

/// The value of a metric, with its labels if it has any.
pub fn metric(address: SocketAddr, name: &str) -> u64 {
    let (_, body) = get(address, "/metrics");
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {body}")).parse().expect("a whole number")
}

/// Runs `weir` on the relay's store.
pub fn weir(data: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).arg("--data").arg(data).output();
    output.expect("weir runs")
}

/// The store holds together.
#[track_caller]
pub fn assert_clean(relay: &Relay) {
    let output = weir(&relay.data(), &["check"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
