//! Faults of the disk and of the system below a relay: what it says of them, what it keeps, and that it recovers or
//! ends.

mod support;

#[path = "faults/commits.rs"]
mod commits;
#[path = "faults/files.rs"]
mod files;
#[path = "faults/matrix.rs"]
mod matrix;
#[path = "faults/shim.rs"]
mod shim;
#[path = "faults/visibility.rs"]
mod visibility;
#[path = "faults/waiting.rs"]
mod waiting;
