//! A directory with a store, and the binary to run on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use weir::nostr::Event;

/// A temporary data directory.
pub struct Home {
    pub dir: tempfile::TempDir,
}

/// The result of a run of the binary.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The output of a run that must have succeeded.
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The number of lines with this outcome, from the summary of an import.
    pub fn count(&self, outcome: &str) -> u64 {
        let line = self.out.lines().find_map(|line| line.trim().strip_prefix(outcome)?.strip_prefix(": "));
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no count of {outcome:?} in {self:?}"))
    }
}

impl Home {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that runs the binary with `--data` set.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("--data").arg(self.path("data")).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(&self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs on another data directory next to the usual one.
    pub fn run_elsewhere(&self, name: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("--data").arg(self.path(name)).args(arguments).stdin(Stdio::null());
        Ran::new(&command.output().expect("the binary runs"))
    }

    /// Runs with this standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            // The child may end before it has read everything.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().expect("the binary ends")
        });
        Ran::new(&output)
    }

    /// Imports these events, all of which must be stored.
    pub fn hold(&self, events: &[Event]) {
        let ran = self.run_with(&["import", "--no-verify"], lines(events).as_bytes());
        assert_eq!((ran.code, ran.count("stored")), (Some(0), events.len() as u64), "{ran:?}");
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the directory is writable");
        path_str(&path)
    }

    pub fn export(&self) -> Vec<String> {
        self.run(&["export"]).good().lines().map(str::to_owned).collect()
    }

    /// `weir check` with every signature.
    pub fn assert_clean(&self) {
        let ran = self.run(&["check", "--signatures", "all"]);
        assert!(ran.code == Some(0) && ran.out.ends_with("no problems found\n"), "{ran:?}");
    }
}

pub fn path_str(path: &Path) -> String {
    path.to_str().expect("temporary directories have plain names").to_owned()
}

/// The events as lines of JSON.
pub fn lines(events: &[Event]) -> String {
    events.iter().map(|event| event.view().to_json() + "\n").collect()
}
