//! What the two processes of a hand-over say to each other. The table in `mod.rs` has the order.

/// The variable that tells a process that it is to replace the one at its standard input.
pub const TAKE_OVER: &str = "WEIR_TAKE_OVER";

/// How the line with the sockets begins. A version that speaks otherwise has another number.
pub const GREETING: &str = "weir hand-over 1";

/// Bytes of the longest line.
pub const MAX_LINE: usize = 256;

/// From the new process: it can take over.
pub const READY: &str = "ready";
/// From the old one: the store is yours.
pub const TAKE: &str = "take";
/// From the new one: it accepts clients.
pub const SERVING: &str = "serving";
/// From the old one: it sends its clients on.
pub const BYE: &str = "bye";
