//! Ctrl-C and SIGTERM for commands that have something to finish.
//!
//! The first signal asks them to stop in order, the second ends the process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit code by which a shell knows that Ctrl-C ended a command.
pub const EXIT_CODE: u8 = 130;

/// Set by the first signal. Made, and the signals caught, when somebody first asks for it.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in the order of registration, so the first signal finds the flag unset and sets it. Where a
        // handler cannot be installed, the first signal ends the process, which loses nothing that was committed.
        let _ = flag::register_conditional_default(signal, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)));
    }
    interrupted
});

/// Catches the signals from now on, and returns the flag that the first one sets.
pub fn watch() -> &'static AtomicBool {
    &INTERRUPTED
}
