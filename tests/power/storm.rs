//! A storm: publishers that send everything a store has rules for, and commands that work beside the relay.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::{Author, Entry, Ledger, Removal, Role};
use super::recorder::{Recorder, clock};
use crate::corpus::Random;
use crate::support::relay::{Relay, TIMEOUT};
use crate::support::wire::{Key, Signed, now};

/// Authors that publish, each over its own connection.
const PUBLISHERS: usize = 3;

/// Events back from the newest that a deletion or a removal may name.
const BACK: u64 = 60;

/// Events in one import.
const IMPORTED: usize = 120;

/// Publishers' dates begin this long ago, in seconds, and ascend by one for each event.
const AGO: u64 = 50_000;

/// When a backup that ended well began, and when it had ended: it must hold what was held when it began.
pub struct Backup {
    pub begun: u64,
    pub done: u64,
}

impl Author {
    fn new(name: &str) -> Self {
        Self { key: Key::named(name), name: name.into(), entries: Vec::new() }
    }

    /// The next event, not sent yet. `is_import`: a file holds no events that the relay alone decides about.
    fn make(&mut self, random: &mut Random, started: u64, is_import: bool) -> Signed {
        let place = self.entries.len();
        let created_at = started + place as u64;
        let event = |kind: u64, tags: Value, content: &str| self.key.event(kind, created_at, tags, content);
        let passing =
            |random: &mut Random| if random.once_in(2) { now() + 1 + random.below(3) } else { now() + 36_000 };
        let (role, event) = match random.below(if is_import { 40 } else { 60 }) {
            0..=5 => {
                let address = random.below(3);
                let content = format!("version {place}");
                let tags = json!([["d", address.to_string()]]);
                let event = if address == 0 { event(0, json!([]), &content) } else { event(30_000, tags, &content) };
                (Role::Version(address), event)
            }
            6..=8 if let Some(target) = self.deletable(random) => {
                (Role::Deletes(target), event(5, json!([["e", self.entries[target].event.id]]), ""))
            }
            9 => {
                let address = 1 + random.below(2);
                let coordinate = format!("30000:{}:{address}", self.key.hex);
                (Role::DeletesAddress(address), event(5, json!([["a", coordinate]]), ""))
            }
            10 => (Role::Note, event(1, json!([]), &"a long text ".repeat(200 + random.below(3000) as usize))),
            40..=51 => (Role::Reaction, event(7, json!([["e", random.hex32()], ["p", self.key.hex]]), "+")),
            52..=54 => {
                let until = passing(random);
                (Role::Passing(until), event(1, json!([["expiration", until.to_string()]]), "soon gone"))
            }
            55 if random.once_in(4) => (Role::Vanish, event(62, json!([["relay", "ALL_RELAYS"]]), "")),
            _ => (Role::Note, event(1, json!([["t", "storm"]]), &"text ".repeat(random.below(120) as usize))),
        };
        self.entries.push(Entry {
            event: event.clone(),
            role,
            created_at,
            sent: u64::MAX,
            answer: None,
            is_gone: false,
        });
        event
    }

    /// A note that may still be there, or be under way.
    fn deletable(&self, random: &mut Random) -> Option<usize> {
        let target = self.entries.len().checked_sub(1 + random.below(BACK) as usize)?;
        let entry = &self.entries[target];
        (entry.role == Role::Note && !entry.is_gone).then_some(target)
    }

    /// Sends bursts and reads their answers until `stop`; tells `heard` of each.
    fn publish(&mut self, relay: &Relay, random: &mut Random, started: u64, stop: &AtomicBool, heard: &Sender<()>) {
        let mut client = relay.connect();
        while !stop.load(Ordering::Relaxed) {
            let first = self.entries.len();
            for _ in 0..=random.below(24) {
                let message = self.make(random, started, false).message();
                self.entries.last_mut().expect("just made").sent = clock();
                client.send(message);
            }
            for _ in first..self.entries.len() {
                let answer: Value = serde_json::from_str(&client.next()).expect("JSON");
                let at = clock();
                let id = answer[1].as_str().expect("an id");
                let entry =
                    self.entries[first..].iter_mut().find(|entry| entry.event.id == id).expect("one of the burst");
                let reason = answer[3].as_str().expect("a reason").to_owned();
                let answer = (at, answer[2].as_bool().expect("true or false"), reason);
                assert_eq!(entry.answer.replace(answer), None, "INV-14: one OK for one EVENT");
                // The storm may have heard enough.
                let _ = heard.send(());
            }
            // Not a wait for anything: commits end at different places of the bursts, and commands come between.
            std::thread::sleep(Duration::from_micros(random.below(12_000)));
        }
    }
}

/// One storm over the store in a directory. What was sent is added to the ledger.
pub struct Storm<'a> {
    pub recorder: &'a Recorder,
    pub ledger: &'a mut Ledger,
    pub config: &'a str,
    pub random: &'a mut Random,
    /// Commands that run one after the other.
    pub commands: usize,
}

impl Storm<'_> {
    /// Starts a relay, lets everybody work, and stops it in order. The backups that were made.
    pub fn run(self) -> Vec<Backup> {
        let Self { recorder, ledger, config, random, commands } = self;
        let started = now() - AGO;
        while ledger.authors.len() < PUBLISHERS {
            ledger.authors.push(Author::new(&format!("{} publishes", random.hex32())));
        }
        let publishers: Vec<Author> = ledger.authors.drain(..PUBLISHERS).collect();
        let relay = Relay::start_by(recorder.over(env!("CARGO_BIN_EXE_weir")), recorder.root(), config);
        let (stop, (sender, heard)) = (AtomicBool::new(false), channel());
        let backups = std::thread::scope(|scope| {
            let (relay, stop, mut threads) = (&relay, &stop, Vec::new());
            for mut author in publishers {
                let (mut random, sender) = (Random(random.next()), sender.clone());
                threads.push(scope.spawn(move || {
                    author.publish(relay, &mut random, started, stop, &sender);
                    author
                }));
            }
            drop(sender);
            // Whatever ends this thread, the publishers must stop.
            let stopping = Stopping(stop);
            let mut beside = Beside { recorder, ledger, heard: &heard, random, started };
            let backups = beside.run(commands);
            drop(stopping);
            let published = threads.into_iter().map(|thread| thread.join().expect("the publisher ends"));
            let published: Vec<Author> = published.collect();
            ledger.authors.splice(0..0, published);
            backups
        });
        relay.signal("TERM");
        drop(relay.wait_for_exit());
        backups
    }
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Commands beside the relay.
struct Beside<'a> {
    recorder: &'a Recorder,
    ledger: &'a mut Ledger,
    heard: &'a Receiver<()>,
    random: &'a mut Random,
    started: u64,
}

impl Beside<'_> {
    fn run(&mut self, commands: usize) -> Vec<Backup> {
        let mut backups = Vec::new();
        self.wait(60);
        let first = self.random.below(5) as usize;
        for command in 0..commands {
            match (first + command) % 5 {
                0 => self.import(),
                1 => drop(self.weir(&["compact"])),
                2 => self.remove(),
                3 => backups.extend(self.backup()),
                _ => self.import(),
            }
            let some = 20 + self.random.below(80) as usize;
            self.wait(some);
        }
        backups
    }

    /// Waits until this many more answers came.
    fn wait(&self, answers: usize) {
        for _ in 0..answers {
            self.heard.recv_timeout(TIMEOUT).expect("events are answered");
        }
        while self.heard.try_recv().is_ok() {}
    }

    /// Runs a command on the store; the times at which it began and had ended, if it ended well.
    fn weir(&self, arguments: &[&str]) -> Option<(u64, u64)> {
        let mut command = self.recorder.over(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).arg("--data").arg(self.data());
        let begun = clock();
        let output = command.stdin(Stdio::null()).output().expect("weir runs");
        let done = clock();
        if !output.status.success() {
            println!("weir {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success().then_some((begun, done))
    }

    fn data(&self) -> PathBuf {
        self.recorder.root().join("data")
    }

    fn import(&mut self) {
        let mut author = Author::new(&format!("{} is imported", self.random.hex32()));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        for _ in 0..IMPORTED {
            writeln!(file, "{}", author.make(self.random, self.started, true).text).expect("a line");
        }
        let path: &Path = file.path();
        let batch = (1 + self.random.below(40)).to_string();
        let begun = clock();
        author.entries.iter_mut().for_each(|entry| entry.sent = begun);
        if let Some((_, done)) = self.weir(&["import", "--batch", &batch, path.to_str().expect("UTF-8")]) {
            author.entries.iter_mut().for_each(|entry| entry.answer = Some((done, true, String::new())));
        }
        self.ledger.authors.push(author);
    }

    /// The operator removes some imported notes for good.
    fn remove(&mut self) {
        let entries = self.ledger.authors.iter().flat_map(|author| &author.entries);
        let notes = entries.filter(|entry| entry.role == Role::Note && !entry.is_gone);
        let ids: Vec<String> = notes.filter(|_| self.random.once_in(12)).map(|entry| entry.event.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let filter = json!({ "ids": ids }).to_string();
        let begun = clock();
        let done = self.weir(&["delete", "--refuse", "--filter", &filter]).map(|(_, done)| done);
        // What was not stored then is not refused later; what is stored is gone.
        self.ledger.removals.push(Removal { ids, begun, done });
    }

    fn backup(&self) -> Option<Backup> {
        let to = self.recorder.root().join("backup");
        let (begun, done) = self.weir(&["backup", to.to_str().expect("UTF-8")])?;
        Some(Backup { begun, done })
    }
}
