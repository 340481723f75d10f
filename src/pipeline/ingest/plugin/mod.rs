//! The `plugin` thread: takes verified events, has the operator's program judge them, and passes on those that it
//! accepts.
//!
//! It is the only thread that waits for the program. It never waits for a client, and for the writer and live only when
//! their queues are full. Events of one connection leave in the order in which they came (`reorder_buffer`). Without a
//! plugin no event comes here.

mod reorder_buffer;
pub mod sender;
mod undecided;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep_until, timeout_at};

use crate::allocator;
use crate::pipeline::channel::{Receiver, RecvError, Sender};
use crate::pipeline::clock;
use crate::pipeline::queues::{LiveCommand, Verified, WriteCommand};
use crate::plugin::{Worker, WorkerSignal, pass_on_panic};
use crate::policy::{PluginOptions, Source};
use sender::Shared;
pub use undecided::{COPY_BYTES, Judging};
use undecided::{Undecided, WorkerQueue};

/// How long the program may take for what it has not judged when the relay stops. Clients have left by then, so nobody
/// is owed an answer to what is dropped.
const STOP: Duration = Duration::from_secs(3);

/// How long the workers get to end, with the second that a process gets after each signal.
const END: Duration = Duration::from_secs(3);

/// Runs until the queue is closed and every event is judged, or it is time to stop.
pub fn run(
    runtime: &Runtime,
    judging: Judging,
    shared: Arc<Shared>,
    inbox: &Receiver<Vec<Verified>>,
    write: Sender<WriteCommand>,
    live: Sender<LiveCommand>,
) {
    let undecided = Rc::new(Undecided::new(judging.clone(), Arc::clone(&shared), write, live));
    let workers = Workers { judging, undecided, signals: Vec::new(), tasks: JoinSet::new() };
    LocalSet::new().block_on(runtime, workers.serve(&shared, inbox));
}

/// The workers of the plugin in force, and those of former ones that have not ended.
struct Workers {
    judging: Judging,
    undecided: Rc<Undecided>,
    signals: Vec<Arc<WorkerSignal>>,
    tasks: JoinSet<()>,
}

impl Workers {
    async fn serve(mut self, shared: &Shared, inbox: &Receiver<Vec<Verified>>) {
        let mut started = None;
        let mut stop_at: Option<Instant> = None;
        let mut collect_at = allocator::collect_if_due();
        loop {
            let settings = self.judging.settings.load_full();
            if started != Some(settings.reload) {
                self.change(&settings.plugin);
                started = Some(settings.reload);
            }
            if self.take(inbox) && stop_at.is_none() {
                stop_at = Some(Instant::now() + STOP);
                self.undecided.is_stopping.set(true);
            }
            let is_late = stop_at.is_some_and(|at| at <= Instant::now());
            if stop_at.is_some() && (is_late || self.undecided.is_empty()) {
                break;
            }
            tokio::select! {
                () = shared.woken() => {}
                Some(ended) = self.tasks.join_next() => pass_on_panic(ended),
                () = sleep_until(stop_at.unwrap_or(collect_at).into()) => collect_at = allocator::collect_if_due(),
            }
        }
        self.signals.iter().for_each(|signal| signal.retire());
        let end_at = Instant::now() + END;
        let all_end = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(end_at.into(), all_end).await.is_err() {
            tracing::warn!("a process of the plugin does not end");
        }
    }

    /// Takes in what came. Returns whether nothing more can come.
    fn take(&self, inbox: &Receiver<Vec<Verified>>) -> bool {
        let mut has_new = false;
        let is_closed = loop {
            match inbox.recv_timeout(Duration::ZERO) {
                Ok(events) => {
                    has_new = true;
                    events.into_iter().for_each(|verified| self.undecided.enter(verified));
                }
                Err(RecvError::Timeout) => break false,
                Err(RecvError::Closed) => break true,
            }
        };
        if has_new {
            self.undecided.flush();
            self.signals.iter().for_each(|signal| signal.wake());
        }
        is_closed
    }

    /// Starts the workers of a plugin. Those of the former one finish what they have been asked.
    fn change(&mut self, options: &PluginOptions) {
        self.signals.drain(..).for_each(|signal| signal.retire());
        self.undecided.change(options.clone());
        if !options.judges(Source::Ws) {
            return;
        }
        for worker in 0..options.workers {
            let signal = Arc::new(WorkerSignal::default());
            let queue = WorkerQueue { undecided: Rc::clone(&self.undecided), worker };
            let metrics = Arc::clone(&self.judging.metrics);
            let worker = Worker::new(queue, Arc::clone(&signal), options.clone(), metrics, clock::now);
            self.signals.push(signal);
            self.tasks.spawn_local(worker.run());
        }
    }
}
