//! The `cron` thread: requests upkeep at intervals, frees reader slots of processes that died, and with relaxed
//! durability syncs what was acknowledged.
//!
//! It writes no events, and never waits for the writer.

use std::sync::Arc;
use std::time::Duration;

use super::channel::{Receiver, RecvError, SendError, Sender};
use super::health::Health;
use super::queues::WriteCommand;
use crate::metrics::{Metrics, StoreOperation};
use crate::store::{Durability, Store};

/// How often upkeep is requested. Expired events are never served, so removing them is not urgent.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often the store is synced when OKs do not wait for that (`storage.durability = "relaxed"`): a power cut loses
/// only what arrived since the last sync began. It takes the disk's time, not the writer's.
const SYNC: Duration = Duration::from_secs(1);

const _: () = assert!(UPKEEP.as_secs().is_multiple_of(SYNC.as_secs()), "upkeep is due at a multiple of syncs");

/// How many rounds of upkeep pass between two checks for reader slots of processes that died. Such a slot keeps LMDB
/// from reusing pages; a minute of writes is little next to any store, and the check takes a system call per reader.
const STALE_READERS: u32 = 12;

/// What the thread uses.
pub struct Upkeep {
    /// The store.
    pub store: Store,
    /// Where failures are noted.
    pub health: Arc<Health>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Runs until `stop` is closed.
pub fn run(upkeep: &Upkeep, write: &Sender<WriteCommand>, stop: &Receiver<()>) {
    let is_relaxed = upkeep.store.durability() == Durability::NoMetaSync;
    let pause = if is_relaxed { SYNC } else { UPKEEP };
    let mut slept = Duration::ZERO;
    let mut rounds: u32 = 0;
    loop {
        match stop.recv_timeout(pause) {
            Err(RecvError::Timeout) => slept += pause,
            Ok(()) | Err(RecvError::Closed) => return,
        }
        if is_relaxed && let Err(error) = upkeep.store.sync() {
            upkeep.health.failed(StoreOperation::Sync, &error);
        }
        if slept < UPKEEP {
            continue;
        }
        slept = Duration::ZERO;
        match write.try_send(WriteCommand::Upkeep) {
            // The writer is busy; the next round will do.
            Ok(()) | Err(SendError::Full(_)) => {}
            Err(SendError::Closed(_)) => return,
        }
        if rounds.is_multiple_of(STALE_READERS) {
            free_stale_readers(upkeep);
        }
        rounds = rounds.wrapping_add(1);
    }
}

fn free_stale_readers(upkeep: &Upkeep) {
    match upkeep.store.clear_stale_readers() {
        Ok(0) => {}
        Ok(slots) => {
            upkeep.metrics.stale_readers.inc_by(slots as u64);
            tracing::info!(slots, "freed reader slots of processes that had died");
        }
        Err(error) => tracing::warn!(%error, "stale reader slots could not be checked"),
    }
}
