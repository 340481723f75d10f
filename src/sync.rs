//! What threads share: locks, condition variables, atomic numbers, and the threads themselves.
//!
//! They are std's, and this module adds nothing to them. Only when the tests of `server::interleavings` are compiled
//! are they shuttle's: then the tests decide which thread runs next, at every lock, every wait and every atomic access.
//! Modules whose interleavings are tested take these from here; the others take std's.

#[cfg(all(test, feature = "interleavings"))]
pub use shuttle::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic},
    thread,
};
#[cfg(not(all(test, feature = "interleavings")))]
pub use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic},
    thread,
};
