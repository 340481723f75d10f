//! Measures the cost of a relay (Linux): CPU of all its threads and child processes, including those that have ended,
//! anonymous memory, and disk.
//!
//! It must never be read inside a measured loop: a snapshot is taken before and after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// The processes of a relay and where it keeps its data.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Process ids; several if the relay forks.
    pub pids: Vec<u32>,
    /// Data directory.
    pub data: Option<PathBuf>,
}

/// Counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// CPU of the processes and their children, including threads and children that ended.
    cpu: Duration,
    /// Every process gave its CPU clock, so `cpu` is exact to the scheduler; else it counts in ticks of 10 ms.
    exact: bool,
    /// Anonymous resident memory in KiB.
    pub anon_kib: u64,
    /// Allocated bytes below the data directory.
    pub disk_bytes: Option<u64>,
}

/// Whether a process runs: it exists and has not ended without being waited for.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// The difference of two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time of all threads and child processes, including those that ended, in seconds.
    pub cpu_s: f64,
    /// Source of `cpu_s`: "process clock", or "ticks" of 10 ms where the system offers no clock.
    #[serde(default)]
    pub cpu_source: String,
    /// Anonymous memory before, in KiB.
    pub anon_before_kib: u64,
    /// Anonymous memory after, in KiB.
    pub anon_after_kib: u64,
    /// Growth of the data directory in bytes, if it is known.
    pub disk_growth_bytes: Option<i64>,
    /// Size of the data directory afterwards in bytes, if it is known.
    pub disk_bytes: Option<u64>,
}

impl Watched {
    /// Reads the counters now; `None` if no process is watched.
    ///
    /// # Errors
    /// If a process is gone or may not be read.
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        if self.pids.is_empty() {
            return Ok(None);
        }
        let mut snapshot = Snapshot { exact: true, ..Snapshot::default() };
        for pid in tree(&self.pids) {
            match read_process(pid, &mut snapshot) {
                // A child may end between listing and reading; its parent counts it then.
                Err(_) if !self.pids.contains(&pid) => {}
                outcome => outcome.with_context(|| format!("read /proc/{pid} (is the relay alive?)"))?,
            }
        }
        snapshot.disk_bytes = self.data.as_deref().map(allocated_bytes);
        Ok(Some(snapshot))
    }
}

impl Snapshot {
    /// The cost since `before`.
    pub fn since(&self, before: &Self) -> Cost {
        let growth = |now: u64| before.disk_bytes.map(|then| now as i64 - then as i64);
        let source = if self.exact && before.exact { "process clock" } else { "ticks" };
        Cost {
            cpu_s: self.cpu.saturating_sub(before.cpu).as_secs_f64(),
            cpu_source: source.to_string(),
            anon_before_kib: before.anon_kib,
            anon_after_kib: self.anon_kib,
            disk_growth_bytes: self.disk_bytes.and_then(growth),
            disk_bytes: self.disk_bytes,
        }
    }
}

/// These processes and all that descend from them.
pub fn tree(roots: &[u32]) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat_field(&stat, PARENT)? as u32))
        })
        .collect();
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = found.len();
        let children = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
        let children: Vec<u32> = children.collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

fn read_process(pid: u32, snapshot: &mut Snapshot) -> Result<()> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = |fields: [usize; 2]| {
        let ticks: Option<u64> = fields.into_iter().map(|field| stat_field(&stat, field)).sum();
        ticks.map(|ticks| Duration::from_secs_f64(ticks as f64 / ticks_per_second())).context("stat")
    };
    let own = match cpu_clock(pid) {
        Some(own) => own,
        None => {
            snapshot.exact = false;
            ticks(OWN_TICKS)?
        }
    };
    snapshot.cpu += own + ticks(ENDED_CHILDREN_TICKS)?;
    snapshot.anon_kib += status_kib(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, "RssAnon:").unwrap_or(0);
    Ok(())
}

/// The CPU clock of a process (clock_getcpuclockid(3)): nanoseconds of all its threads, including those that ended.
#[cfg(target_os = "linux")]
fn cpu_clock(pid: u32) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write the value they are given, and report an unknown process by their result.
    let read = unsafe {
        libc::clock_getcpuclockid(libc::pid_t::try_from(pid).ok()?, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    read.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(not(target_os = "linux"))]
fn cpu_clock(_pid: u32) -> Option<Duration> {
    None
}

/// Fields of `/proc/PID/stat` by their number in proc(5).
const PARENT: usize = 4;
/// User and system time of the process.
const OWN_TICKS: [usize; 2] = [14, 15];
/// The same of children that ended and were waited for.
const ENDED_CHILDREN_TICKS: [usize; 2] = [16, 17];

/// A field of `/proc/PID/stat`; the second one is the name in parentheses and may hold anything.
fn stat_field(text: &str, number: usize) -> Option<u64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

fn status_kib(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Allocated blocks below a directory; a sparse file counts only its written blocks.
fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// CPU time of this process so far.
pub fn own_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Raises the limit of open files to the hard limit and returns it; `u64::MAX` where there is none.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let in_force = if raised.is_ok() { limit.maximum } else { limit.current };
    in_force.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        Watched { pids: vec![std::process::id()], data: None }
    }

    fn snapshot() -> Snapshot {
        watched().snapshot().expect("our own /proc entry").expect("a process is watched")
    }

    #[test]
    fn a_cost_is_the_difference_of_two_snapshots() {
        let before = Snapshot { cpu: Duration::from_secs(1), exact: true, anon_kib: 5, disk_bytes: Some(100) };
        let after = Snapshot { cpu: Duration::from_millis(1750), anon_kib: 7, disk_bytes: Some(160), ..before.clone() };
        let expected = Cost {
            cpu_s: 0.75,
            cpu_source: "process clock".into(),
            anon_before_kib: 5,
            anon_after_kib: 7,
            disk_growth_bytes: Some(60),
            disk_bytes: Some(160),
        };
        assert_eq!(after.since(&before), expected);
        assert_eq!(Snapshot { exact: false, ..after }.since(&before).cpu_source, "ticks");
    }

    /// CPU time of the calling thread.
    fn thread_cpu() -> Duration {
        duration(clock_gettime(ClockId::ThreadCPUTime))
    }

    #[test]
    fn a_thread_that_begins_and_ends_between_two_snapshots_is_counted() {
        let before = snapshot();
        let burn = || while thread_cpu() < Duration::from_millis(50) {};
        std::thread::spawn(burn).join().expect("the thread does not panic");
        assert!(snapshot().since(&before).cpu_s >= 0.05);
    }

    #[test]
    fn a_child_that_begins_and_ends_between_two_snapshots_is_counted() {
        let children = || {
            let stat = std::fs::read_to_string("/proc/self/stat").expect("our own /proc entry");
            stat_field(&stat, 16).expect("a number") + stat_field(&stat, 17).expect("a number")
        };
        let (before, ticks) = (snapshot(), children());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]).status().expect("a shell");
        let spent = (children() - ticks) as f64 / ticks_per_second();
        assert!(snapshot().since(&before).cpu_s >= spent);
        assert!(spent > 0.0);
    }

    #[test]
    fn a_living_child_is_counted_with_its_parent() {
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("60").spawn().expect("a child");
        let found = tree(&[std::process::id()]).contains(&child.id()) && is_alive(child.id());
        child.kill().and_then(|()| child.wait()).expect("our own child");
        assert!(found && !is_alive(child.id()));
    }

    #[test]
    fn the_name_of_a_process_may_hold_parentheses() {
        let text = "12 (a) b) S 9 1 1 0 -1 0 0 0 0 0 7 5 3 1 20 0 1 0 0";
        assert_eq!([4, 14, 15, 16, 17].map(|field| stat_field(text, field)), [9, 7, 5, 3, 1].map(Some));
    }

    #[test]
    fn this_process_can_be_read() {
        let snapshot = snapshot();
        assert!(snapshot.anon_kib > 0);
        assert!(snapshot.cpu > Duration::ZERO);
    }
}
