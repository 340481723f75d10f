//! What became of events that a session handed to the writer, told by threads of the pipeline.
//!
//! It holds one answer for each event that was handed over, and never waits without an end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::intake;
use crate::metrics::NodeReceived;
use crate::nostr::EventId;
use crate::pipeline::client::OnAnswer;

/// See the module.
#[derive(Debug, Default)]
pub struct Answers {
    told: Mutex<Vec<(EventId, NodeReceived)>>,
    news: Notify,
}

impl Answers {
    /// What was told since the last time; nothing if nothing was.
    pub fn take(&self) -> Vec<(EventId, NodeReceived)> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when something was told. Nothing is lost when this is not awaited to the end.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is told next; nothing if that takes longer than `within`.
    pub async fn next(&self, within: Duration) -> Vec<(EventId, NodeReceived)> {
        let end = Instant::now() + within;
        loop {
            let told = self.take();
            if !told.is_empty() || timeout_at(end, self.news()).await.is_err() {
                return told;
            }
        }
    }

    /// What a client of the pipeline calls with each answer.
    #[must_use]
    pub fn on_answer(self: &Arc<Self>) -> OnAnswer {
        let answers = Arc::clone(self);
        Arc::new(move |id, accepted, reason| {
            let mut told = answers.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((id, intake::outcome(accepted, reason)));
            drop(told);
            answers.news.notify_one();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_awaited_for_a_time_and_not_for_ever() {
        let answers = Arc::<Answers>::default();
        let within = Duration::ZERO;
        assert_eq!(answers.next(within).await, []);
        let (id, tell) = (EventId([7; 32]), answers.on_answer());
        tell(id, true, None);
        assert_eq!(answers.next(within).await, [(id, NodeReceived::Stored)]);
        // What woke it was taken already.
        assert_eq!(answers.next(within).await, []);
    }
}
