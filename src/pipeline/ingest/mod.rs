//! From a socket to the writer: the gate that bounds what waits, which event goes next, and signatures.

pub mod backlog;
pub mod gate;
pub mod signatures;
pub mod verify;
