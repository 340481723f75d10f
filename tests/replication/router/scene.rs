//! A running `weir router`, and what the tests wait for.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::replication::scene::{Home, texts};
use crate::support::relay::Relay;
pub use crate::support::wait::until;
use crate::support::wire::{Key, Signed};

/// A running `weir router`. It is killed when it is dropped.
pub struct Router {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Router {
    /// Runs these streams on the store of `home`.
    pub fn start(home: &Home, streams: &str) -> Self {
        Self::start_with(home, streams, &[])
    }

    /// The same with arguments.
    pub fn start_with(home: &Home, streams: &str, arguments: &[&str]) -> Self {
        write(home, streams);
        Self::run(home, arguments)
    }

    /// Runs the file that is there.
    pub fn run(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&["router"]);
        let command = command.arg(home.path("router.conf")).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, log }
    }

    /// What it logged so far.
    pub fn said(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines of the log hold all of these.
    pub fn count(&self, texts: &[&str]) -> usize {
        self.said().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits until a line of the log holds all of these.
    #[track_caller]
    pub fn until_said(&self, texts: &[&str]) {
        until(|| self.count(texts) > 0, || format!("{texts:?} in {:#?}", self.said()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Asks it to end, which it must do well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{status}: {:#?}", self.said());
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the router's file.
pub fn write(home: &Home, streams: &str) {
    let text = format!("connectionTimeout = 5\nstreams {{\n{streams}\n}}\n");
    std::fs::write(home.path("router.conf"), text).expect("the disk is good");
}

/// Waits until the store holds exactly these events.
#[track_caller]
pub fn until_holds<'a>(home: &Home, events: impl IntoIterator<Item = &'a Signed>, router: &Router) {
    let expected = texts(events);
    let told = || format!("{} events, not {}; {:#?}", home.try_export().len(), expected.len(), router.said());
    until(|| home.try_export() == expected, told);
}

/// A stream of the router's file, to one relay.
pub fn stream(name: &str, dir: &str, relay: &Relay) -> String {
    stream_to(name, dir, &relay.url())
}

/// The same to any URL.
pub fn stream_to(name: &str, dir: &str, url: &str) -> String {
    format!("{name} {{ dir = \"{dir}\" urls = [\"{url}\"] }}")
}

/// Notes made now, each different.
pub fn fresh(author: &str, numbers: std::ops::Range<u64>) -> Vec<Signed> {
    let key = Key::named(author);
    numbers.map(|n| key.note(&format!("{author} {n}"))).collect()
}
