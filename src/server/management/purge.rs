//! Removing the stored events of a subject, a step at a time, through the writer.
//!
//! It holds no transaction between steps (INV-9), and keeps nothing but its place: whoever stops it can begin again.

use std::time::Duration;

use super::purge_queue::PurgeRequest;
use super::service::Service;
use crate::nostr::EventView;
use crate::store::{Budget, Flow, Query, Scan, Seq, Step};

/// Events of one step. The writer removes them with a commit or two.
const STEP_EVENTS: usize = 512;

/// How long finding them may take at a time.
const SLICE: Budget = Budget { rows: 1 << 16, time: Duration::from_millis(20) };

/// A purge in progress: removes the stored events of one subject, at most 512 a step. Dropping it stops it between
/// steps.
pub struct Purge {
    scan: Scan,
    removed: u64,
}

impl Purge {
    /// Records the purge in the audit and begins it.
    ///
    /// # Errors
    /// When the subject has no stored events by its nature, or the purge cannot be recorded.
    pub async fn begin(service: &Service, order: &PurgeRequest) -> Result<Self, String> {
        let filter = order.subject.filter().ok_or("the subject has no stored events by its nature")?;
        service.note_purge(order).await?;
        let limits = Some(crate::store::QueryLimits {
            default_limit: u32::MAX,
            max_limit: u32::MAX,
            hints: false,
            tie_extension: 0,
        });
        let scan = Scan::new(Query { filters: [filter].into(), until_seq: Seq::MAX, limits });
        Ok(Self { scan, removed: 0 })
    }

    /// How many events were removed so far.
    #[must_use]
    pub const fn removed(&self) -> u64 {
        self.removed
    }

    /// Removes some events; false at the end.
    ///
    /// # Errors
    /// When the store cannot be read, or the writer cannot remove.
    pub async fn step(&mut self, service: &Service) -> Result<bool, String> {
        let mut seqs = Vec::new();
        let step = {
            let mut visitor = |seq: Seq, _: EventView<'_>| {
                seqs.push(seq);
                if seqs.len() < STEP_EVENTS { Flow::Continue } else { Flow::Pause }
            };
            let snapshot = service.store().read().map_err(|error| error.to_string())?;
            self.scan.run(&snapshot, SLICE, &mut visitor).map_err(|error| error.to_string())?
        };
        if !seqs.is_empty() {
            self.removed += service.remove_all(seqs).await?;
        }
        // Others may have their turn.
        tokio::task::yield_now().await;
        Ok(step == Step::Paused)
    }
}
