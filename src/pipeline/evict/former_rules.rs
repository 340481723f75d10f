//! The rules that were in force before a restart. While new rules wait for the operator, these go on making room,
//! unless they would remove much themselves. Removes nothing.

use std::time::Instant;

use super::error::EvictError;
use super::evicting::Evicting;
use crate::pipeline::channel::Sender;
use crate::pipeline::queues::WriteCommand;
use crate::policy::Retention;
use crate::retention::brake::{Removal, held_events};
use crate::retention::follows;
use crate::retention::pass::Trial;
use crate::retention::slice::SLICE_ROWS;
use crate::store::{Note, StoreError};

/// The largest row that is saved, in bytes. Rules with longer lists of authors are not remembered.
const ROW_BYTES: usize = 256 << 10;

/// The rules in force before a restart, while a trial counts what they would remove.
pub struct FormerRules {
    rules: Retention,
    trial: Box<Trial>,
}

/// What becomes of the former rules.
pub enum Verdict {
    /// They are still being counted.
    Counting,
    /// They may come into force.
    Holds(Retention),
    /// They would remove much themselves.
    WouldRemoveMuch,
}

/// Has the store remember the rules that are in force; none of them if they are too long, or if there are none.
///
/// # Errors
/// When the store cannot be read, or the writer has ended.
pub fn remember(evicting: &Evicting, write: &Sender<WriteCommand>, rules: &Retention) -> Result<(), EvictError> {
    let mut row = rules.to_bytes();
    if rules.is_empty() || row.len() > ROW_BYTES {
        row.clear();
    }
    if evicting.store.read()?.note(Note::InForce)?.unwrap_or_default() == row {
        return Ok(());
    }
    write.send(WriteCommand::Note(Note::InForce, row)).map_err(|_| EvictError::Closed)
}

/// Has the store forget earlier rules when there are none any more.
///
/// # Errors
/// As [`remember`].
pub fn forget_without(rules: &Retention, evicting: &Evicting, write: &Sender<WriteCommand>) -> Result<(), EvictError> {
    if rules.is_empty() { remember(evicting, write, rules) } else { Ok(()) }
}

impl FormerRules {
    /// The rules that the store remembers, if they are others than `asked`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(evicting: &Evicting, asked: &Retention) -> Result<Option<Self>, StoreError> {
        let former = evicting.store.read()?.note(Note::InForce)?.and_then(Retention::from_bytes);
        let is_other = |former: &Retention| {
            !former.is_empty() && Retention::from_bytes(&asked.to_bytes()).as_ref() != Some(former)
        };
        let Some(former) = former.filter(is_other) else { return Ok(None) };
        let rules = follows::resolve(former, &evicting.store)?;
        Ok(Some(Self { rules, trial: Box::default() }))
    }

    /// Continues to count what they would remove, until `until`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(&mut self, evicting: &Evicting, until: Instant) -> Result<Verdict, StoreError> {
        while Instant::now() < until {
            if self.trial.slice(&evicting.store, &self.rules, evicting.clock.now(), SLICE_ROWS)? {
                let removal = Removal::new(&self.rules, &self.trial.found.parts, evicting.clock.now());
                let (held_events, used_bytes) = (held_events(&evicting.store)?, evicting.store.room()?.used_bytes);
                if removal.is_much(&self.rules, held_events, used_bytes) {
                    tracing::warn!("the rules from before the start would also remove much, so they do not make room");
                    return Ok(Verdict::WouldRemoveMuch);
                }
                return Ok(Verdict::Holds(self.rules.clone()));
            }
        }
        Ok(Verdict::Counting)
    }
}
