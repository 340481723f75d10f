//! Replacing a running relay with a new process that takes its listening sockets, so that no connection is refused.
//!
//! On SIGUSR2 the relay runs its own command again. The child finds one end of a pair of sockets as its standard input.
//! The two processes exchange lines:
//!
//! | from | line                               | meaning                                                            |
//! |------|------------------------------------|--------------------------------------------------------------------|
//! | old  | `weir hand-over 1 clients metrics` | the listening sockets, which are attached in this order            |
//! | new  | `ready`                            | its configuration is good and the store is open; it writes nothing |
//! | old  | `take`                             | all it read is answered, and it reads no more: the store is yours, |
//! |      |                                    | and so is the node of the cluster, which it has left              |
//! | new  | `serving`                          | it accepts clients and stores events                               |
//! | old  | `bye`                              | systemd knows the new process; clients are being sent there        |
//!
//! Until the old process hears `serving`, its connections stay open, and it serves on when the new one ends or takes
//! too long. When the old process dies before it says `take`, the new one takes over as after a crash: the listening
//! sockets are open in both, and the log of the store holds what was acknowledged.

mod predecessor;
mod sockets;
mod successor;
mod words;

pub use predecessor::Predecessor;
pub use sockets::Sockets;
pub use successor::{Handover, Successors};
