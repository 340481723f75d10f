//! The way for others than the retention rules to have events removed: by the writer, a few with each commit.
//!
//! It never waits. A removed event may be published again, unless it is banned.

use crate::pipeline::channel::{Receiver, WeakSender, channel};
use crate::pipeline::queues::{Eviction, EvictionResult, WriteCommand};
use crate::store::Seq;
use crate::sync::Arc;

/// Sends removals of others than the retention rules to the writer. It does not keep the writer running.
#[derive(Clone)]
pub struct Removals {
    write: Arc<WeakSender<WriteCommand>>,
}

impl Removals {
    pub(in crate::pipeline) fn new(write: WeakSender<WriteCommand>) -> Self {
        Self { write: Arc::new(write) }
    }

    /// Asks the writer to remove these events, and returns where it reports how many it removed. `None` when Q2 is full
    /// or the writer has ended: try again later.
    #[must_use]
    pub fn ask(&self, seqs: Vec<Seq>) -> Option<Receiver<EvictionResult>> {
        let (done, removed) = channel(1);
        self.write.try_send(WriteCommand::Evict(Eviction { seqs, done })).ok().map(|()| removed)
    }

    /// Asks the writer to commit what it has acknowledged. A full Q2 is left as it is: a commit follows anyway.
    pub fn commit(&self) {
        // See above.
        let _ = self.write.try_send(WriteCommand::Commit);
    }
}
