//! What a process costs, read from `/proc` (Linux; see proc(5)): CPU of all its threads, anonymous memory, disk.
//!
//! It must never be read inside a measured loop: a snapshot is taken before and after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
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
    /// Run time by thread in nanoseconds, from `task/*/schedstat`.
    threads: BTreeMap<(u32, u32), u64>,
    /// utime + stime of all threads, also of those that ended, in clock ticks.
    ticks: u64,
    /// Anonymous resident memory in KiB.
    pub anon_kib: u64,
    /// Allocated bytes below the data directory.
    pub disk_bytes: Option<u64>,
}

/// The difference of two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time of all threads, in seconds.
    pub cpu_s: f64,
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
        let mut snapshot = Snapshot::default();
        for &pid in &self.pids {
            read_process(pid, &mut snapshot).with_context(|| format!("read /proc/{pid} (is the relay alive?)"))?;
        }
        snapshot.disk_bytes = self.data.as_deref().map(allocated_bytes);
        Ok(Some(snapshot))
    }
}

impl Snapshot {
    /// What was spent since `before`. The scheduler's nanoseconds are used unless a thread ended in between: its share is
    /// gone from `task`, so the ticks of the whole process (10 ms each) are the better figure then.
    pub fn since(&self, before: &Self) -> Cost {
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        let sum = |snapshot: &Self| snapshot.threads.values().sum::<u64>();
        let scheduled = sum(self).saturating_sub(sum(before)) as f64 / 1e9;
        let ticked = self.ticks.saturating_sub(before.ticks) as f64 / ticks_per_second();
        let growth = |now: u64| before.disk_bytes.map(|then| now as i64 - then as i64);
        Cost {
            cpu_s: if ended { ticked.max(scheduled) } else { scheduled },
            anon_before_kib: before.anon_kib,
            anon_after_kib: self.anon_kib,
            disk_growth_bytes: self.disk_bytes.and_then(growth),
            disk_bytes: self.disk_bytes,
        }
    }
}

fn read_process(pid: u32, snapshot: &mut Snapshot) -> Result<()> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        // A thread may end between listing and reading.
        let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
            continue;
        };
        let thread = entry.file_name().to_string_lossy().parse().context("a thread id")?;
        let run_ns = text.split_whitespace().next().and_then(|field| field.parse().ok()).context("schedstat")?;
        snapshot.threads.insert((pid, thread), run_ns);
    }
    snapshot.ticks += stat_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?).context("stat")?;
    snapshot.anon_kib += status_kib(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, "RssAnon:").unwrap_or(0);
    Ok(())
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second field is the name in parentheses and may hold anything.
fn stat_ticks(text: &str) -> Option<u64> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn status_kib(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Allocated blocks below a directory; a sparse map counts only what is written.
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
    // SAFETY: `usage` is a plain C struct for which all zeroes are valid, and getrusage fills the one it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Raises the limit of open files to what is allowed; returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(threads: &[(u32, u64)], ticks: u64) -> Snapshot {
        let threads = threads.iter().map(|&(thread, ns)| ((1, thread), ns)).collect();
        Snapshot { threads, ticks, anon_kib: 5, disk_bytes: Some(100) }
    }

    #[test]
    fn scheduler_time_is_used_while_all_threads_live() {
        let before = snapshot(&[(1, 1_000_000_000)], 100);
        let after = Snapshot { disk_bytes: Some(160), ..snapshot(&[(1, 1_500_000_000), (2, 250_000_000)], 999) };
        let expected = Cost {
            cpu_s: 0.75,
            anon_before_kib: 5,
            anon_after_kib: 5,
            disk_growth_bytes: Some(60),
            disk_bytes: Some(160),
        };
        assert_eq!(after.since(&before), expected);
    }

    #[test]
    fn ticks_stand_in_when_a_thread_has_ended() {
        let before = snapshot(&[(1, 0), (2, 900_000_000)], 0);
        let after = snapshot(&[(1, 500_000_000)], (2.0 * ticks_per_second()) as u64);
        assert!((after.since(&before).cpu_s - 2.0).abs() < 0.01);
    }

    #[test]
    fn the_name_of_a_process_may_hold_parentheses() {
        let text = "12 (a) b) S 1 1 1 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 0";
        assert_eq!(stat_ticks(text), Some(12));
    }

    #[test]
    fn this_process_can_be_read() {
        let watched = Watched { pids: vec![std::process::id()], data: None };
        let snapshot = watched.snapshot().expect("our own /proc entry").expect("a process is watched");
        assert!(snapshot.anon_kib > 0);
        assert!(!snapshot.threads.is_empty());
    }
}
