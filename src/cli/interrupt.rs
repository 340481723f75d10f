//! Ctrl-C and SIGTERM for commands that have something to finish.
//!
//! The first asks them to end in order, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What a shell takes for "ended by Ctrl-C".
pub const EXIT_CODE: u8 = 130;

/// From now on a first signal only sets this.
pub fn watch() -> &'static AtomicBool {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero sigaction is valid, and the handler only stores to an atomic, which is allowed at
        // any point of any thread. SA_RESETHAND leaves the second signal its default: to end the process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
            // Without a handler a signal ends the process at once, which loses nothing that was committed.
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    &INTERRUPTED
}

extern "C" fn note(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}
