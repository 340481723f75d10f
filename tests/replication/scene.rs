//! Two stores, the relays on them, and a run of `weir sync` with what it said.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

/// The result of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// A number of the summary.
    #[track_caller]
    pub fn count(&self, what: &str) -> u64 {
        let line = self.out.lines().find_map(|line| line.trim().strip_prefix(what)?.strip_prefix(": "));
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no count of {what:?} in {self:?}"))
    }

    /// Several numbers of the summary.
    #[track_caller]
    pub fn counts<const N: usize>(&self, what: [&str; N]) -> [u64; N] {
        what.map(|what| self.count(what))
    }

    /// The run must have come to its end.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The run must have failed and said this on standard error.
    #[track_caller]
    pub fn failed(self, text: &str) -> Self {
        assert!(self.code == Some(1) && self.err.contains(text), "{text:?} in {self:?}");
        self
    }
}

/// A store in its own directory.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// A store with these events.
    pub fn with(events: &[Signed]) -> Self {
        let home = Self { dir: tempfile::tempdir().expect("a directory") };
        home.hold(events);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds events; whatever they are, as an operator could.
    pub fn hold(&self, events: &[Signed]) {
        let lines: String = events.iter().map(|event| format!("{}\n", event.text)).collect();
        let file = self.path("events.jsonl");
        std::fs::write(&file, lines).expect("the disk is good");
        if !events.is_empty() {
            Ran::from(self.command(&["import"]).arg(&file).output().expect("it runs")).good();
        }
    }

    /// A relay on the store.
    pub fn serve(&self, config: &str) -> Relay {
        Relay::start_in(self.dir.path(), config)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("--data").arg(self.path("data")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a sync to its end.
    pub fn sync(&self, url: &str, arguments: &[&str]) -> Ran {
        self.command(&["sync", url]).args(arguments).output().expect("it runs").into()
    }

    /// Runs a sync under a configuration.
    pub fn sync_under(&self, config: &str, url: &str, arguments: &[&str]) -> Ran {
        let file = self.path("sync.toml");
        std::fs::write(&file, config).expect("the disk is good");
        self.command(&["sync", url]).args(arguments).arg("--config").arg(file).output().expect("it runs").into()
    }

    /// Begins a sync.
    pub fn begin(&self, url: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(&["sync", url]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    }

    /// Every event, sorted.
    pub fn export(&self) -> Vec<String> {
        let ran = Ran::from(self.command(&["export"]).output().expect("it runs")).good();
        Self::sorted(&ran)
    }

    /// The same of a store that a command may not have created yet.
    pub fn try_export(&self) -> Vec<String> {
        Self::sorted(&self.command(&["export"]).output().expect("it runs").into())
    }

    fn sorted(ran: &Ran) -> Vec<String> {
        let mut lines: Vec<String> = ran.out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The store must be whole.
    pub fn assert_clean(&self) {
        let ran = Ran::from(self.command(&["check", "--signatures", "all"]).output().expect("it runs")).good();
        assert!(ran.out.ends_with("no problems found\n"), "{ran:?}");
    }

    /// The files of what is remembered.
    pub fn memories(&self) -> Vec<PathBuf> {
        let read = std::fs::read_dir(self.path("data").join("replication"));
        read.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// The texts of events, sorted as [`Home::export`] has them.
pub fn texts<'a>(events: impl IntoIterator<Item = &'a Signed>) -> Vec<String> {
    let mut texts: Vec<String> = events.into_iter().map(|event| event.text.clone()).collect();
    texts.sort();
    texts
}

/// Notes by one author, a minute apart.
pub fn notes(author: &str, numbers: std::ops::Range<u64>) -> Vec<Signed> {
    let key = Key::named(author);
    numbers.map(|n| key.event(1, 1_700_000_000 + 60 * n, json!([]), &format!("note {n}"))).collect()
}

/// The file of these tests with this name.
pub fn file(name: &str) -> String {
    format!("{}/tests/replication/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The value of a key of an event.
pub fn field(event: &str, key: &str) -> Value {
    serde_json::from_str::<Value>(event).expect("JSON")[key].clone()
}

/// Writes a private key as its owner would keep it.
pub fn key_file(home: &Home, secret: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = home.path("key");
    std::fs::write(&path, format!("{secret}\n")).expect("the disk is good");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    name(&path)
}

/// A path as an argument.
pub fn name(path: &Path) -> String {
    path.to_str().expect("temporary directories have plain names").into()
}
