//! How threads are started: named, pinned or of lower priority, and ending the process in order when one panics.
//!
//! It knows nothing of what they do.

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::health::OnFailure;
use crate::store::StoreError;
use crate::sync::thread::{self, JoinHandle};

/// How much nicer query threads are than the rest. On busy cores a long scan then gets a third of what the threads
/// get that answer events, and these run as soon as they have work.
const READ_NICE: i32 = 5;

/// Why threads could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The signature pool could not be started.
    #[error("could not start the signature pool: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
}

/// Starts a thread. If it panics, `on_failure` is told.
///
/// # Errors
/// When the system starts no more threads.
pub fn spawn(
    name: &'static str,
    on_failure: &OnFailure,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, std::io::Error> {
    let on_failure = OnFailure::clone(on_failure);
    thread::Builder::new().name(name.into()).spawn(move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            on_failure(&format!("the thread {name} panicked"));
        }
    })
}

/// The signature pool of `threads` threads; for 0, one per core but one. There is none when that leaves a single
/// thread, which would only add a hand-over to the `verify` thread's own work.
///
/// # Errors
/// When a thread cannot be started.
pub fn signature_pool(threads: usize, cores: usize) -> Result<Option<ThreadPool>, rayon::ThreadPoolBuildError> {
    let threads = if threads == 0 { cores.saturating_sub(1) } else { threads };
    if threads < 2 {
        return Ok(None);
    }
    pinned_pool(threads, cores).map(Some)
}

/// A signature pool of `threads` threads, each pinned to one of the `cores`.
///
/// # Errors
/// When a thread cannot be started.
pub fn pinned_pool(threads: usize, cores: usize) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("verify-{index}"))
        .start_handler(move |index| pin(index % cores))
        .build()
}

/// Keeps this thread on one core: the kernel otherwise wakes two workers on the same one.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    // The kernel refuses the empty set, so a core past the largest set is logged as well.
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        // Cores may be withheld from this process; unpinned is slower, not wrong.
        tracing::debug!(core, %error, "could not pin a signature thread");
    }
}

/// Lets the other threads of this process run before this one.
pub fn yield_to_others() {
    lower_priority(READ_NICE);
}

/// Raises this thread's nice value (setpriority(2); on Linux it is a thread's own).
fn lower_priority(nice: i32) {
    // `None` is the calling thread.
    let lowered = getpriority_process(None).and_then(|own| setpriority_process(None, own + nice));
    if let Err(error) = lowered {
        // Less even, not wrong.
        tracing::debug!(%error, "could not lower the priority of a query thread");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_lower_priority_leaves_the_others_as_they_are() {
        let nice = || rustix::process::getpriority_process(None).expect("a number");
        let before = nice();
        let lowered = std::thread::spawn(move || {
            lower_priority(3);
            nice()
        });
        assert_eq!(lowered.join().expect("no panic"), (before + 3).min(19));
        assert_eq!(nice(), before);
    }
}
