//! Carries out purges that nobody waits for, one after the other.

use std::rc::Rc;

use serde_json::{Value, json};

use super::purge::Purge;
use super::purges::{Order, Progress};
use super::service::Service;
use crate::management::{Actor, CallError, Request, Subject};

impl Service {
    /// Begins a purge.
    pub(super) fn start_purge(&self, request: &Request, by: &Actor) -> Result<Value, String> {
        let text = request.param(0).and_then(Value::as_str).ok_or("params[0]: is missing")?;
        let subject: Subject = text.parse().map_err(|error| format!("params[0]: {error}"))?;
        if subject.filter().is_none() {
            return Err("only events of a key, an event or a kind can be purged".into());
        }
        let said = |error: CallError| error.to_string();
        let events = request.number(1).map_err(said)?.unwrap_or_default();
        let reason = request.reason(2).map_err(said)?.to_owned();
        let number = self.purges.begin(Order { subject, events, reason, by: by.clone() })?;
        Ok(json!({ "purge": number }))
    }

    /// Carries purges out until the thread ends.
    pub(super) async fn run_purges(self: Rc<Self>) {
        loop {
            let Order { subject, events, reason, by } = self.purges.next().await;
            match Purge::begin(&self, subject, Some(events), &reason, &by).await {
                Ok(purge) => self.run_purge(purge).await,
                Err(error) => drop(self.purges.note(0, Progress::Failed(error))),
            }
        }
    }

    async fn run_purge(&self, mut purge: Purge) {
        loop {
            let progress = match purge.step(self).await {
                Ok(true) => Progress::Running,
                Ok(false) => Progress::Done,
                Err(error) => Progress::Failed(error),
            };
            if !self.purges.note(purge.removed(), progress) {
                return;
            }
        }
    }
}
