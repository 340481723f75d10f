//! Gives memory that nothing uses back to the system.
//!
//! mimalloc keeps what is freed until it is asked (`mi_collect`), and each thread can be asked only for the pages that it
//! took itself: what a query thread took for rows, and an io thread freed when they were sent, stays with the query
//! thread for as long as that sleeps. So every thread that works for clients asks every few seconds, asleep or not. It
//! never touches memory in use.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often a thread gives back. What is in use all the time is freed and taken again far more often, so at this
/// interval it costs next to nothing: at most one page fault for each of its pages.
const EVERY: Duration = Duration::from_secs(2);

thread_local! {
    /// When this thread gives back next.
    static NEXT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Gives back what this thread took and whoever freed, if it is time for that; returns when it is time again.
pub fn give_back_if_due() -> Instant {
    let now = Instant::now();
    let next = NEXT.get().unwrap_or(now + EVERY);
    if now < next {
        NEXT.set(Some(next));
        return next;
    }
    // SAFETY: it only walks the pages that the calling thread owns and memory that nobody uses, and may be called at any
    // time and from any thread.
    unsafe { libmimalloc_sys::mi_collect(false) }
    NEXT.set(Some(now + EVERY));
    now + EVERY
}

/// As [`Condvar::wait`], and gives back meanwhile. It may return for that alone.
///
/// # Panics
/// When a thread panicked while it held the lock.
pub fn wait<'a, T>(wake: &Condvar, lock: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let poisoned = "nothing panics while it holds the lock";
    let due = NEXT.get().unwrap_or_else(|| Instant::now() + EVERY);
    let (guard, waited) = wake.wait_timeout(guard, due.saturating_duration_since(Instant::now())).expect(poisoned);
    if !waited.timed_out() {
        return guard;
    }
    // Whoever fills what is waited for must not wait for this.
    drop(guard);
    give_back_if_due();
    lock.lock().expect(poisoned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_back_leaves_what_is_in_use() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![0_u8; 8 << 20]);
        NEXT.set(Some(Instant::now()));
        assert!(give_back_if_due() > Instant::now());
        assert!(kept.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_thread_that_waits_gives_back_when_it_is_due_and_is_woken_as_ever() {
        let (lock, wake) = (Mutex::new(0), Condvar::new());
        NEXT.set(Some(Instant::now()));
        let guard = wait(&wake, &lock, lock.lock().expect("no panic"));
        assert_eq!((*guard, NEXT.get() > Some(Instant::now())), (0, true), "it returns for that alone");
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
