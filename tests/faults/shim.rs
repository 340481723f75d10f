//! Faults of the disk for one process: a library in front of the system's calls, and the switches that it looks at.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::relay::TIMEOUT;

/// The library, compiled once for each run of the tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let (library, partial) = ("faults.so", format!("faults-{}.so", std::process::id()));
        let [library, partial] = [library, &partial].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
        let status = Command::new("cc").args(flags).arg(&partial).arg(source).arg("-ldl").status();
        assert!(status.expect("cc runs: weir is built with a C compiler").success(), "shim.c is compiled");
        // Another run may have the old one loaded.
        std::fs::rename(partial, &library).expect("the library takes its place");
        library
    })
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
        std::fs::write(self.switches.path().join(name), "").expect("a switch");
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

/// Asks again and again until `wanted` says yes.
#[track_caller]
pub fn eventually(what: &str, mut wanted: impl FnMut() -> bool) {
    let end = Instant::now() + 3 * TIMEOUT;
    while !wanted() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
