//! What several benches share: the CPU clock of a thread, and options from the environment.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used so far, in the kernel too. Other load on the machine does not count.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
}

/// The same in microseconds.
#[allow(dead_code, reason = "not every bench needs it")]
pub fn thread_us() -> f64 {
    thread_time().as_secs_f64() * 1e6
}

/// The number in an environment variable.
#[allow(dead_code, reason = "not every bench has options")]
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A directory for a store, in `WEIR_BENCH_DIR` or here; removed when it is dropped.
#[allow(dead_code, reason = "not every bench has a store")]
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var_os("WEIR_BENCH_DIR").unwrap_or_else(|| ".".into())).expect("a directory")
}
