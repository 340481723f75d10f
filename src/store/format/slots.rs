//! Where LMDB keeps the slot of a read transaction: with its thread, so that a thread reads one snapshot at a time.
//!
//! The threads of `server::interleavings` are one thread to the system, and there each transaction keeps its own.

use heed::EnvOpenOptions;

#[cfg(all(test, feature = "interleavings"))]
pub(in crate::store) type Slots = heed::WithoutTls;
#[cfg(not(all(test, feature = "interleavings")))]
pub(in crate::store) type Slots = heed::WithTls;

/// The options of an environment with such slots.
pub(in crate::store) fn environment() -> EnvOpenOptions<Slots> {
    let options = EnvOpenOptions::new();
    #[cfg(all(test, feature = "interleavings"))]
    let options = options.read_txn_without_tls();
    options
}
