//! Faults of the disk for one process: a library in front of the system's calls, and the switches that it looks at.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::preload::compiled;
pub use crate::support::wait::eventually;

/// The library, compiled once for each run of the tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| compiled("tests/faults/shim.c", "faults"))
}

/// The switches of one process; see `shim.c`.
pub struct Faults {
    switches: tempfile::TempDir,
}

impl Faults {
    /// All switched off.
    pub fn none() -> Self {
        Self { switches: tempfile::tempdir().expect("a temporary directory") }
    }

    /// The command, with its calls looked at.
    pub fn beneath(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library()).env("WEIR_FAULTS", self.switches.path());
        command
    }

    /// A relay, likewise.
    pub fn beneath_relay(&self) -> Command {
        self.beneath(env!("CARGO_BIN_EXE_weir"))
    }

    pub fn switch_on(&self, name: &str) {
        self.set(name, "");
    }

    /// Switches on what needs to be told more. It is never seen half written.
    pub fn set(&self, name: &str, what: &str) {
        let partial = self.switches.path().join("partial");
        std::fs::write(&partial, what).expect("a switch");
        std::fs::rename(partial, self.switches.path().join(name)).expect("a switch");
    }

    pub fn switch_off(&self, name: &str) {
        std::fs::remove_file(self.switches.path().join(name)).expect("the switch is on");
    }

    /// Whether the process has said this.
    pub fn has_said(&self, name: &str) -> bool {
        self.switches.path().join(name).exists()
    }

    /// Waits until the process says this.
    #[track_caller]
    pub fn wait_for(&self, name: &str) {
        eventually(name, || self.has_said(name));
    }
}
