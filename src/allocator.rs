//! Returns unused memory to the system.
//!
//! mimalloc keeps freed memory until it is told to return it (`mi_collect`), and each thread can return only pages that
//! it allocated itself. Memory that a query thread allocated for rows, and that an io thread freed after sending them,
//! stays with the query thread while that sleeps. So every thread that works for clients collects every few seconds,
//! asleep or not. Memory in use is never touched.

use std::cell::Cell;
use std::ffi::c_long;
use std::time::{Duration, Instant};

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// How often a thread collects. Busy memory is freed and allocated far more often than this, so collecting costs next
/// to nothing: at most one page fault per page.
const EVERY: Duration = Duration::from_secs(2);

/// How long freed pages wait for reuse before mimalloc returns them. Its default is a second, in which a relay that
/// renders 200 MB/s of large events frees as much as all its bounds on memory add up to. With 10 ms, queries for a page
/// of notes cost up to a fifth more CPU; with 25 ms no more than the noise (`docs/reliability.md`).
const PURGE_DELAY_MS: c_long = 25;

/// The option's number, which the crate does not name (`mi_option_purge_delay` in mimalloc.h).
const PURGE_DELAY: mi_option_t = 15;

thread_local! {
    /// When this thread collects next.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has freed pages returned soon. For the start of the process.
pub fn purge_soon() {
    // SAFETY: it sets a number in a table of the allocator, atomically.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Returns unused memory of this thread to the system if it is due; returns when it is due next.
pub fn collect_if_due() -> Instant {
    let now = Instant::now();
    let next = NEXT.get().unwrap_or(now + EVERY);
    if now < next {
        NEXT.set(Some(next));
        return next;
    }
    // SAFETY: it only visits pages that the calling thread owns and unused memory, and may be called at any time from
    // any thread.
    unsafe { mi_collect(false) }
    NEXT.set(Some(now + EVERY));
    now + EVERY
}

/// Like [`Condvar::wait`], but collects meanwhile. It may return just because of that.
///
/// # Panics
/// When a thread panicked while holding the lock.
pub fn wait<'a, T>(wake: &Condvar, lock: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let poisoned = "nothing panics while holding the lock";
    let due = NEXT.get().unwrap_or_else(|| Instant::now() + EVERY);
    let (guard, waited) = wake.wait_timeout(guard, due.saturating_duration_since(Instant::now())).expect(poisoned);
    if !waited.timed_out() {
        return guard;
    }
    // The thread that this one waits for must not wait for the collection.
    drop(guard);
    collect_if_due();
    lock.lock().expect(poisoned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delay is the only option that is a second by default.
    #[test]
    fn the_number_is_that_of_the_delay() {
        // SAFETY: it reads a number from a table of the allocator, atomically.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!([1_000, PURGE_DELAY_MS].contains(&delay()), "{}", delay());
        purge_soon();
        assert_eq!(delay(), PURGE_DELAY_MS);
    }

    #[test]
    fn collecting_leaves_memory_in_use_alone() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![0_u8; 8 << 20]);
        NEXT.set(Some(Instant::now()));
        assert!(collect_if_due() > Instant::now());
        assert!(kept.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_waiting_thread_collects_when_it_is_due_and_is_woken_as_usual() {
        let (lock, wake) = (Mutex::new(0), Condvar::new());
        NEXT.set(Some(Instant::now()));
        let guard = wait(&wake, &lock, lock.lock().expect("no panic"));
        assert_eq!((*guard, NEXT.get() > Some(Instant::now())), (0, true), "it may return just because of that");
        drop(guard);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *lock.lock().expect("no panic") = 1;
                wake.notify_one();
            });
            let mut guard = lock.lock().expect("no panic");
            while *guard == 0 {
                guard = wait(&wake, &lock, guard);
            }
        });
    }
}
