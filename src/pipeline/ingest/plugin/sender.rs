//! The way of verified events to the `plugin` thread.
//!
//! It never blocks: the gate lets in no more events than the queue holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::pipeline::channel::{SendError, Sender};
use crate::pipeline::queues::Verified;
use crate::policy::{Settings, Source};

/// What the `plugin` thread shares with those who give it events.
#[derive(Default)]
pub struct Shared {
    /// Events that it has not passed on or answered.
    events: AtomicUsize,
    wake: Notify,
}

impl Shared {
    /// Events that it has not passed on or answered.
    pub fn events(&self) -> usize {
        self.events.load(Ordering::Acquire)
    }

    /// Notes that it has passed on or answered events.
    pub(super) fn leave(&self, events: usize) {
        self.events.fetch_sub(events, Ordering::AcqRel);
    }

    /// Makes the thread look for events and for other settings.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// Sends verified events to the `plugin` thread. The thread ends some time after the last clone was dropped.
pub struct PluginSender {
    /// `None` only while it is dropped.
    events: Option<Sender<Vec<Verified>>>,
    shared: Arc<Shared>,
}

impl PluginSender {
    /// A sender to the queue behind `events`.
    pub const fn new(events: Sender<Vec<Verified>>, shared: Arc<Shared>) -> Self {
        Self { events: Some(events), shared }
    }

    /// Whether events go through here: when a plugin judges them, and while others that it judged, before it was turned
    /// off, are not passed on. They overtake nothing.
    pub fn is_open(&self, settings: &Settings) -> bool {
        settings.plugin.judges(Source::Ws) || self.shared.events() > 0
    }

    /// Hands events over.
    pub fn pass(&self, events: Vec<Verified>) {
        if events.is_empty() {
            return;
        }
        let Some(sender) = &self.events else { return };
        self.shared.events.fetch_add(events.len(), Ordering::AcqRel);
        match sender.try_send(events) {
            Ok(()) => self.shared.wake(),
            // Never full: see the module. Closed: the thread has ended and the process is stopping; none of these
            // events was acknowledged.
            Err(SendError::Full(events) | SendError::Closed(events)) => {
                self.shared.leave(events.len());
                tracing::error!(events = events.len(), "the plugin thread takes no events");
            }
        }
    }
}

impl Clone for PluginSender {
    fn clone(&self) -> Self {
        Self { events: self.events.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl Drop for PluginSender {
    fn drop(&mut self) {
        // First, so that the thread finds the queue closed after the last one.
        self.events = None;
        self.shared.wake();
    }
}
