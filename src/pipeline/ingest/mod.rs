//! From a socket to the writer: the gate that bounds what waits, the choice of what goes next, and signatures.

pub mod backlog;
pub mod gate;
pub mod signatures;
pub mod verify;
