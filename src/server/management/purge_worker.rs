//! Carries out purges that nobody waits for, one after the other.

use std::rc::Rc;

use serde_json::{Value, json};

use super::purge::Purge;
use super::purge_queue::{Progress, PurgeRequest};
use super::service::Service;
use crate::management::{Actor, Request};

impl Service {
    /// Begins a purge.
    pub(super) fn start_purge(&self, request: &Request, by: &Actor) -> Result<Value, String> {
        let order = PurgeRequest::read(request, by).map_err(|error| error.to_string())?;
        Ok(json!({ "purge": self.purges.begin(order)? }))
    }

    /// Carries purges out until the thread ends.
    pub(super) async fn run_purges(self: Rc<Self>) {
        loop {
            let order = self.purges.next().await;
            match Purge::begin(&self, &order).await {
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
