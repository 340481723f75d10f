//! New rules that are not in force yet. What they would remove is counted first, and if that is a large part of the
//! store, they wait until the operator accepts it: see [`brake`](crate::retention::brake). Removes nothing.

use std::time::Instant;

use super::error::EvictError;
use super::evicting::Evicting;
use crate::pipeline::channel::Sender;
use crate::pipeline::queues::WriteCommand;
use crate::policy::Retention;
use crate::retention::brake::{Removal, held_events};
use crate::retention::parts::{Part, Parts};
use crate::retention::pass::Trial;
use crate::retention::slice::SLICE_ROWS;
use crate::retention::{intervals, word};
use crate::store::Note;

/// New rules between a reload and their coming into force: being counted, or waiting for the operator.
pub struct PendingRules {
    /// The rules, with their follow lists.
    pub rules: Retention,
    stage: Stage,
    /// Whether other rules are in force meanwhile.
    has_former: bool,
    /// Whether it has been logged that they wait.
    is_told: bool,
}

enum Stage {
    /// What they would remove is being counted.
    Counting(Box<Trial>),
    /// They wait for the operator, and are counted again at this time.
    Waiting(Removal, Instant),
}

impl PendingRules {
    /// New rules, not counted yet.
    #[must_use]
    pub fn new(rules: Retention, has_former: bool) -> Self {
        Self { rules, stage: Stage::Counting(Box::default()), has_former, is_told: false }
    }

    /// Whether counting is under way.
    #[must_use]
    pub const fn is_counting(&self) -> bool {
        matches!(self.stage, Stage::Counting(_))
    }

    /// Continues until `until`; true when the rules may come into force.
    ///
    /// # Errors
    /// When the store cannot be read, or the writer has ended.
    pub fn step(
        &mut self,
        evicting: &Evicting,
        write: &Sender<WriteCommand>,
        until: Instant,
    ) -> Result<bool, EvictError> {
        match &mut self.stage {
            Stage::Counting(trial) => {
                while Instant::now() < until {
                    if trial.slice(&evicting.store, &self.rules, evicting.clock.now(), SLICE_ROWS)? {
                        let parts = std::mem::take(&mut trial.found.parts);
                        return self.decide(&parts, evicting, write);
                    }
                }
            }
            Stage::Waiting(removal, again) => {
                let held_events = held_events(&evicting.store)?;
                if removal.is_accepted(Removal::accepted(&evicting.store)?, &self.rules, held_events) {
                    tracing::info!(events = removal.events, "the operator accepted what the retention rules remove");
                    return Ok(true);
                }
                if Instant::now() >= *again {
                    self.stage = Stage::Counting(Box::default());
                }
            }
        }
        Ok(false)
    }

    /// Whether the rules may come into force, given what they would remove.
    fn decide(&mut self, parts: &Parts, evicting: &Evicting, write: &Sender<WriteCommand>) -> Result<bool, EvictError> {
        let (held_events, used_bytes) = (held_events(&evicting.store)?, evicting.store.room()?.used_bytes);
        let removal = Removal::new(&self.rules, parts, evicting.clock.now());
        let is_much = removal.is_much(&self.rules, held_events, used_bytes);
        if !is_much || removal.is_accepted(Removal::accepted(&evicting.store)?, &self.rules, held_events) {
            return Ok(true);
        }
        evicting.metrics.retention_waiting.set(removal.events as i64);
        if !std::mem::replace(&mut self.is_told, true) {
            self.tell(parts, removal, held_events, used_bytes);
        }
        write.send(WriteCommand::Note(Note::Waiting, removal.to_bytes())).map_err(|_| EvictError::Closed)?;
        self.stage = Stage::Waiting(removal, Instant::now() + intervals::COUNT_AGAIN);
        Ok(false)
    }

    fn tell(&self, parts: &Parts, removal: Removal, held_events: u64, used_bytes: u64) {
        let percent = self.rules.limits().confirm_removal_percent;
        let until_then = if self.has_former {
            "the former rules stay in force"
        } else {
            "no rules are in force, so nothing is removed"
        };
        tracing::warn!(
            events = removal.events,
            of_events = held_events,
            used_bytes = removal.bytes,
            of_used_bytes = used_bytes,
            "the retention rules would remove more than {percent} % of the store, so they wait, and until then \
             {until_then}: run 'weir retention --dry-run', then change the rules or run 'weir retention --accept'"
        );
        for (cause, part) in &parts.by_cause {
            let (rule, cause) = (cause.rule() + 1, word(*cause).as_str());
            let Part { events, footprint: used_bytes, oldest, newest, .. } = *part;
            tracing::warn!(rule, cause, events, used_bytes, %oldest, %newest, "would be removed");
        }
    }
}

/// Notes that no rules wait for the operator.
///
/// # Errors
/// When the store cannot be read, or the writer has ended.
pub fn nothing_waits(evicting: &Evicting, write: &Sender<WriteCommand>) -> Result<(), EvictError> {
    evicting.metrics.retention_waiting.set(0);
    if Removal::waiting(&evicting.store)?.is_some() {
        write.send(WriteCommand::Note(Note::Waiting, Vec::new())).map_err(|_| EvictError::Closed)?;
    }
    Ok(())
}
