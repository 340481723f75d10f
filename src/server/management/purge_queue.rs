//! Purges that go on while nobody waits for them, as the dashboard begins them: one at a time, with their progress.
//!
//! It only notes what is to be done and what was; `purging` does it.

use std::cell::RefCell;
use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::management::{Actor, CallError, Request, Subject};

/// Purges that are told.
const MAX_TOLD: usize = 16;

/// How far a purge is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It removes events.
    Running,
    /// It has removed them all.
    Done,
    /// Somebody stopped it. It can be begun again; what it removed is gone.
    Stopped,
    /// It could not go on.
    Failed(String),
}

/// What is to be removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurgeRequest {
    /// Whose events.
    pub subject: Subject,
    /// How many there were when who asked was shown the number.
    pub events: u64,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub by: Actor,
}

impl PurgeRequest {
    /// What a request asks for: a subject, how many events it was shown to have, and a reason.
    ///
    /// # Errors
    /// When a parameter is wrong.
    pub fn read(request: &Request, by: &Actor) -> Result<Self, CallError> {
        let subject = request.subject()?;
        if subject.filter().is_none() {
            return Err(CallError::Param(0, "only events of a key, an event or a kind can be purged"));
        }
        let events = request.number(1)?.unwrap_or_default();
        Ok(Self { subject, events, reason: request.reason(2)?.into(), by: by.clone() })
    }
}

struct Entry {
    number: u64,
    order: PurgeRequest,
    removed: u64,
    progress: Progress,
}

/// See the module.
#[derive(Default)]
pub struct Purges {
    /// The newest first.
    entries: RefCell<VecDeque<Entry>>,
    begun: Notify,
}

impl Purges {
    /// Notes a purge, which is begun next; returns its number.
    ///
    /// # Errors
    /// While another one runs.
    pub fn begin(&self, order: PurgeRequest) -> Result<u64, &'static str> {
        let mut entries = self.entries.borrow_mut();
        if entries.front().is_some_and(|entry| entry.progress == Progress::Running) {
            return Err("another purge is under way; stop it first, or wait for its end");
        }
        let number = entries.front().map_or(1, |last| last.number + 1);
        entries.push_front(Entry { number, order, removed: 0, progress: Progress::Running });
        entries.truncate(MAX_TOLD);
        self.begun.notify_one();
        Ok(number)
    }

    /// Waits for the next purge.
    pub async fn next(&self) -> PurgeRequest {
        loop {
            self.begun.notified().await;
            let entries = self.entries.borrow();
            if let Some(entry) = entries.front().filter(|entry| entry.progress == Progress::Running) {
                return entry.order.clone();
            }
        }
    }

    /// Notes how far the one in front is; returns whether it is to go on.
    pub fn note(&self, removed: u64, progress: Progress) -> bool {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.front_mut() else { return false };
        entry.removed = removed;
        if entry.progress == Progress::Running {
            entry.progress = progress;
        }
        entry.progress == Progress::Running
    }

    /// Stops the one that runs; false if none does.
    pub fn stop(&self) -> bool {
        let mut entries = self.entries.borrow_mut();
        let running = entries.front_mut().filter(|entry| entry.progress == Progress::Running);
        running.map(|entry| entry.progress = Progress::Stopped).is_some()
    }

    /// The last purges, the newest first.
    pub fn told(&self) -> Value {
        let told = |Entry { number, order, removed, progress }: &Entry| {
            let (state, error) = match progress {
                Progress::Running => ("running", None),
                Progress::Done => ("done", None),
                Progress::Stopped => ("stopped", None),
                Progress::Failed(error) => ("failed", Some(error)),
            };
            json!({ "purge": number, "subject": order.subject, "by": order.by.by, "events": order.events,
                "removed": removed, "state": state, "error": error })
        };
        self.entries.borrow().iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::Kind;

    #[test]
    fn one_purge_runs_at_a_time_until_it_is_done_stopped_or_failed_and_the_last_are_told() {
        let purges = Purges::default();
        let order = || PurgeRequest {
            subject: Subject::Kind(Kind(7)),
            events: 9,
            reason: "spam".into(),
            by: Actor { by: "uid:0".into(), auth: None },
        };
        assert!(!purges.stop() && purges.told() == json!([]));
        assert_eq!(purges.begin(order()), Ok(1));
        assert!(purges.begin(order()).is_err());
        assert!(purges.note(4, Progress::Running));
        assert!(purges.stop() && !purges.stop());
        assert!(!purges.note(5, Progress::Running), "it is told to end");
        assert_eq!(purges.begin(order()), Ok(2));
        assert!(!purges.note(9, Progress::Done));
        let entry = |purge, removed, state| {
            json!({ "purge": purge, "subject": "kind:7", "by": "uid:0", "events": 9, "removed": removed,
                "state": state, "error": null })
        };
        assert_eq!(purges.told(), json!([entry(2, 9, "done"), entry(1, 5, "stopped")]));
        for number in 3..40 {
            assert_eq!(purges.begin(order()), Ok(number));
            assert!(!purges.note(0, Progress::Failed("no disk".into())));
        }
        let told = purges.told();
        assert_eq!((told.as_array().map(Vec::len), &told[0]["error"]), (Some(16), &json!("no disk")));
    }
}
