//! What processes did to a directory, call by call: the records that `recorder.c` writes, read back.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::preload::compiled;

/// A file or a directory. The time of its birth tells it from a later one with the same inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id {
    pub inode: u64,
    pub birth: u64,
}

/// One call, with the times at which it began and ended: nanoseconds of the monotonic clock.
pub struct Op {
    pub begin: u64,
    pub end: u64,
    pub thread: u32,
    pub what: What,
}

/// What it did.
pub enum What {
    /// `is_through`: it returned when the disk had these bytes (O_DSYNC).
    Write {
        file: Id,
        at: usize,
        bytes: Vec<u8>,
        is_through: bool,
    },
    Truncate {
        file: Id,
        length: usize,
    },
    /// A sync of a file or a directory.
    Sync {
        of: Id,
        path: PathBuf,
    },
    /// A name for what was created or opened.
    Link {
        path: PathBuf,
        id: Id,
        is_directory: bool,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// A sync that was not done.
    Lie,
}

/// The length of a record before its paths and bytes: `struct record` in `recorder.c`.
const HEAD: usize = 64;

/// Records what processes do below one directory.
pub struct Recorder {
    root: PathBuf,
    traces: tempfile::TempDir,
    lies: String,
}

impl Recorder {
    /// `lies` names the syncs that are not done; see `recorder.c`.
    pub fn of(root: &Path, lies: &str) -> Self {
        let traces = tempfile::tempdir().expect("a temporary directory");
        Self { root: root.canonicalize().expect("the root exists"), traces, lies: lies.into() }
    }

    /// The directory, without symbolic links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn trace(&self) -> PathBuf {
        self.traces.path().join("trace")
    }

    /// A command that is recorded.
    pub fn over(&self, program: impl AsRef<OsStr>) -> Command {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| compiled("tests/power/recorder.c", "recorder"));
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library).env("WEIR_POWER_ROOT", &self.root).env("WEIR_POWER_TRACE", self.trace());
        command.env("WEIR_POWER_LIES", &self.lies);
        command
    }

    /// Everything recorded, in the order in which the calls began. Every recorded process must have ended.
    pub fn ops(&self) -> Vec<Op> {
        let trace = std::fs::read(self.trace()).expect("a trace");
        let mut rest = &trace[..];
        let mut ops = Vec::new();
        while !rest.is_empty() {
            let (op, more) = read(rest);
            ops.push(op);
            rest = more;
        }
        ops.sort_by_key(|op| op.begin);
        ops
    }
}

/// The first record, and what follows it.
fn read(trace: &[u8]) -> (Op, &[u8]) {
    let (head, rest) = trace.split_at(HEAD);
    let short = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("in the head"));
    let long = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("in the head"));
    let (path, rest) = rest.split_at(short(52) as usize);
    let (other, rest) = rest.split_at(short(56) as usize);
    let (bytes, rest) = rest.split_at(short(60) as usize);
    let text = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).expect("a path is UTF-8"));
    let (id, at, path) = (Id { inode: long(24), birth: long(32) }, long(40) as usize, text(path));
    let what = match short(0) {
        kind @ (1 | 2) => What::Write { file: id, at, bytes: bytes.to_vec(), is_through: kind == 2 },
        3 => What::Truncate { file: id, length: at },
        4 => What::Sync { of: id, path },
        5 => What::Link { path, id, is_directory: short(48) == 1 },
        6 => What::Unlink { path },
        7 => What::Rename { from: path, to: text(other) },
        8 => What::Lie,
        _ => panic!("{} was called for {}, which this harness does not model", text(other).display(), path.display()),
    };
    (Op { begin: long(8), end: long(16), thread: short(4), what }, rest)
}

/// The time, as in the records.
pub fn clock() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
