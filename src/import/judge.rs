//! Has the operator's program judge events of an import, if `plugin.sources` says so.
//!
//! The threads that check pieces wait for its verdicts; at most one piece for each of them waits here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};

use super::origin::Origin;
use crate::metrics::Metrics;
use crate::nostr::{EventView, Kind, VerifiedEvent};
use crate::pipeline::channel::{Sender, channel};
use crate::pipeline::{StartError, now};
use crate::plugin::{self, Candidate, Queue, Verdict, Worker, WorkerSignal, pass_on_panic};
use crate::policy::{OnFailure, PluginOptions, Source};

/// A running plugin. Dropping it ends its processes.
pub struct Judge {
    waiting: SharedQueue,
    signals: Vec<Arc<WorkerSignal>>,
    on_failure: OnFailure,
    thread: Option<JoinHandle<()>>,
}

/// An event that waits for its verdict.
struct PendingEvent {
    event: VerifiedEvent,
    place: usize,
    origin: Arc<Origin>,
    answer: Sender<Judged>,
}

/// An event by its place in a piece, and its verdict; `None` if the program failed.
type Judged = (usize, VerifiedEvent, Option<Verdict>);

impl Candidate for PendingEvent {
    fn event(&self) -> EventView<'_> {
        self.event.view()
    }

    fn origin(&self) -> plugin::Origin<'_> {
        self.origin.for_plugin()
    }
}

/// The events that no worker has taken; `None` once there are no workers.
#[derive(Clone)]
struct SharedQueue(Arc<Mutex<Option<VecDeque<PendingEvent>>>>);

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<PendingEvent>>> {
        self.0.lock().expect("nothing panics while it holds the queue")
    }
}

/// Closes the queue when the workers end, however they end: then nobody waits for a verdict.
struct CloseOnDrop(SharedQueue);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Queue for SharedQueue {
    type Candidate = PendingEvent;

    fn next(&self) -> Option<PendingEvent> {
        self.lock().as_mut()?.pop_front()
    }

    fn judged(&self, held: PendingEvent, verdict: Option<Verdict>) {
        // The receiver is gone only if the import has ended early.
        let _ = held.answer.send((held.place, held.event, verdict));
    }

    fn spent(&self, _: &PendingEvent, _: Duration) {}

    fn flush(&self) {}
}

impl Judge {
    /// Starts the program, if it is to judge events of this source. A dry run has nowhere to show its counts.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: &PluginOptions, source: Source) -> Result<Option<Self>, StartError> {
        if !options.judges(source) || options.dry_run {
            return Ok(None);
        }
        let (waiting, metrics) = (SharedQueue(Arc::new(Mutex::new(Some(VecDeque::new())))), Arc::new(Metrics::new()));
        let signals: Vec<Arc<WorkerSignal>> = (0..options.workers).map(|_| Arc::default()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = |signal: &Arc<WorkerSignal>| {
            Worker::new(waiting.clone(), Arc::clone(signal), options.clone(), Arc::clone(&metrics), now)
        };
        let workers: Vec<_> = signals.iter().map(worker).collect();
        let closing = CloseOnDrop(waiting.clone());
        let thread = std::thread::Builder::new().name("plugin".into()).spawn(move || {
            let _closing = closing;
            LocalSet::new().block_on(&runtime, run_all(workers));
        })?;
        Ok(Some(Self { waiting, signals, on_failure: options.on_failure, thread: Some(thread) }))
    }

    /// Judges events of one origin. Returns each with the reason why it is not to be stored, if it is not. Requests to
    /// vanish are obeyed, whatever the program thinks of them (NIP-62).
    ///
    /// # Panics
    /// When a worker has panicked.
    #[must_use]
    pub fn judge(&self, events: Vec<VerifiedEvent>, origin: &Origin) -> Vec<(VerifiedEvent, Option<String>)> {
        if events.is_empty() {
            return Vec::new();
        }
        // Room for every verdict, so that no worker waits.
        let (count, (answer, answers)) = (events.len(), channel(events.len()));
        let origin = Arc::new(origin.clone());
        let held = events.into_iter().enumerate();
        let held = held.map(|(place, event)| PendingEvent {
            event,
            place,
            origin: Arc::clone(&origin),
            answer: answer.clone(),
        });
        let (obeyed, held): (Vec<PendingEvent>, Vec<PendingEvent>) =
            held.partition(|held| held.event().kind() == Kind::VANISH);
        obeyed.into_iter().for_each(|held| self.waiting.judged(held, Some(Verdict::Accept)));
        self.waiting.lock().as_mut().expect("the workers end with this").extend(held);
        drop(answer);
        self.signals.iter().for_each(|signal| signal.wake());
        let mut judged: Vec<Judged> = std::iter::from_fn(|| answers.recv()).collect();
        assert_eq!(judged.len(), count, "a worker of the plugin panicked");
        judged.sort_unstable_by_key(|(place, ..)| *place);
        judged.into_iter().map(|(_, event, verdict)| (event, self.refusal(verdict))).collect()
    }

    fn refusal(&self, verdict: Option<Verdict>) -> Option<String> {
        match verdict {
            Some(Verdict::Accept) => None,
            Some(Verdict::Reject(reason)) => Some(format!("the plugin refused it: {reason}")),
            Some(Verdict::ShadowReject) => Some("the plugin dropped it".into()),
            None if self.on_failure == OnFailure::Accept => None,
            None => Some("the plugin failed and did not judge it".into()),
        }
    }
}

/// Runs workers until all have ended. The panic of one ends them all.
async fn run_all(workers: Vec<Worker<SharedQueue>>) {
    let mut tasks = JoinSet::new();
    workers.into_iter().for_each(|worker| drop(tasks.spawn_local(worker.run())));
    while let Some(ended) = tasks.join_next().await {
        pass_on_panic(ended);
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.signals.iter().for_each(|signal| signal.retire());
        // A panic was reported when it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
