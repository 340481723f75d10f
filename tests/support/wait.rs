//! Waiting for what others do in their own time.

use std::time::{Duration, Instant};

/// How long a test waits for what must come. Long, so that a busy machine fails nothing.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks again and again until `wanted` says yes. If it never does, fails with what `told` says.
#[track_caller]
pub fn until(mut wanted: impl FnMut() -> bool, told: impl Fn() -> String) {
    let end = Instant::now() + 3 * TIMEOUT;
    while !wanted() {
        assert!(Instant::now() < end, "never: {}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same with a name for what is waited for.
#[track_caller]
pub fn eventually(what: &str, wanted: impl FnMut() -> bool) {
    until(wanted, || what.into());
}
