//! How long to wait before something is tried again: half a second at first, and twice as long each time.
//!
//! Pure.

use std::time::Duration;

/// The first pause.
pub const FIRST: Duration = Duration::from_millis(500);

/// The pause after this many earlier ones, `longest` at most.
#[must_use]
pub fn doubled(earlier: u32, longest: Duration) -> Duration {
    FIRST.saturating_mul(1 << earlier.min(16)).min(longest)
}
