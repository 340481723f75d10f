//! From a socket to the writer: the gate that bounds what waits, which event goes next, signatures, and the plugin that
//! judges events.

pub mod answers;
pub mod backlog;
pub mod gate;
pub mod nodes;
pub mod own_events;
pub mod plugin;
pub mod signatures;
pub mod verify;
