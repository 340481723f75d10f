//! The one import of all links: a thread that checks and commits what they bring, under rules that may change.
//!
//! Each link has a bounded number of pieces in the queue, so none keeps the others waiting for long. An import that
//! fails, because the store is full for example, takes what was on its way with it: every link is told, and begins
//! again from what is durable.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::account::WINDOW;
use super::stream::MAX_LINKS;
use crate::import::{self, ImportEnd, Observer, Origin, Piece, Rules, Verdict};
use crate::pipeline::{OnFailure, StartError, threads};
use crate::policy::Source;
use crate::replication::feed::{Feed, Window};
use crate::schnorr::{self, Verifier};
use crate::store::Store;
use crate::sync::thread::JoinHandle;

/// Pieces in the queue: it has room for those of every link, live and fetched.
const QUEUE: usize = 2 * MAX_LINKS * WINDOW;

/// How long to wait after an import failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What the import needs.
#[derive(Clone)]
pub struct Parts {
    /// The store. A relay may run on it.
    pub store: Store,
    /// The rules for events from other relays, which may change at any time.
    pub rules: Rules,
    /// Bans that are younger than the rules.
    pub decisions: import::Decisions,
    /// The signature engines.
    pub verify: schnorr::Options,
    /// How events are committed.
    pub import: import::Options,
    /// Is told when a thread or a link has panicked.
    pub on_failure: OnFailure,
}

type Delivery = (Origin, Piece);

/// The way in, for the links.
#[derive(Clone)]
pub struct Intake {
    current: Arc<Mutex<Option<mpsc::Sender<Delivery>>>>,
    /// Counts the imports that failed.
    failures: watch::Receiver<u64>,
}

impl Intake {
    /// A feed for one connection; `None` while there is no import.
    #[must_use]
    pub fn feed(&self, origin: Origin, window: &Window) -> Option<Feed> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Feed::new(current.clone()?, origin, Some(Arc::clone(window))))
    }

    /// Changes when an import fails from now on: what a feed brought since its beginning may be lost.
    #[must_use]
    pub fn failures(&self) -> watch::Receiver<u64> {
        let mut failures = self.failures.clone();
        // A clone knows only what the original has seen.
        failures.mark_unchanged();
        failures
    }
}

/// The running thread. Its import ends when this is dropped and every feed is.
pub struct IntakeThread {
    intake: Intake,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl IntakeThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let (failed, failures) = watch::channel(0);
        let intake = Intake { current: Arc::default(), failures };
        let (stop, stopped) = mpsc::channel::<()>(1);
        let on_failure = Arc::clone(&parts.on_failure);
        let looping = ImportThread { parts, current: Arc::clone(&intake.current), failed, stopped };
        let thread = threads::spawn("replicate", &on_failure, move || looping.run())?;
        Ok(Self { intake, stop, thread })
    }

    /// The way in.
    #[must_use]
    pub const fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Ends the thread, once everything that was passed on is committed. Every feed must have been dropped.
    pub fn finish(self) {
        let Self { intake, stop, thread } = self;
        drop(stop);
        *intake.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A panic was reported when it happened.
        let _ = thread.join();
    }
}

struct ImportThread {
    parts: Parts,
    current: Arc<Mutex<Option<mpsc::Sender<Delivery>>>>,
    failed: watch::Sender<u64>,
    stopped: mpsc::Receiver<()>,
}

impl ImportThread {
    fn run(mut self) {
        // Waits for no message of a link: only for time, or for the end.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime.inspect_err(|error| tracing::error!(%error, "streams bring nothing")) else { return };
        loop {
            let (pieces, mut waiting) = mpsc::channel::<Delivery>(QUEUE);
            *self.current() = Some(pieces);
            if self.stopped.is_closed() {
                *self.current() = None;
            }
            let why = match self.import(move || waiting.blocking_recv()) {
                Ok(report) => match report.end {
                    ImportEnd::Complete if self.stopped.is_closed() => return,
                    ImportEnd::Full(limit) => format!("the store is full: see {}", limit.key()),
                    ImportEnd::Store(error) => error.to_string(),
                    end => format!("the import ended: {end:?}"),
                },
                Err(error) => error.to_string(),
            };
            *self.current() = None;
            self.failed.send_modify(|count| *count += 1);
            tracing::error!("what streams bring cannot be stored, the next try is in {} s: {why}", PAUSE.as_secs());
            let is_stopped = runtime.block_on(async { tokio::time::timeout(PAUSE, self.stopped.recv()).await.is_ok() });
            if is_stopped {
                return;
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<mpsc::Sender<Delivery>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn import(&self, next: impl FnMut() -> Option<Delivery> + Send + 'static) -> Result<import::Report, StartError> {
        // The end of its input ends it.
        static NEVER: AtomicBool = AtomicBool::new(false);
        let parts = import::Parts {
            store: self.parts.store.clone(),
            rules: self.parts.rules.clone(),
            decisions: Arc::clone(&self.parts.decisions),
            source: Source::Sync,
            verifier: Verifier::new(self.parts.verify),
            options: self.parts.import.clone(),
            stop: &NEVER,
        };
        import::receive(parts, next, &mut Silent)
    }
}

/// The links are told by what they give the import.
struct Silent;

impl Observer for Silent {
    fn not_stored(&mut self, _: &Verdict) {}

    fn progress(&mut self, _: &import::Report) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_after_a_failure_is_told_only_of_the_next_one() {
        let (failed, failures) = watch::channel(0);
        let intake = Intake { current: Arc::default(), failures };
        let has_changed = |failures: &watch::Receiver<u64>| failures.has_changed().expect("its sender is there");
        let before = intake.failures();
        failed.send_modify(|count| *count += 1);
        let after = intake.failures();
        assert_eq!((has_changed(&before), has_changed(&after)), (true, false));
        failed.send_modify(|count| *count += 1);
        assert!(has_changed(&after));
    }
}
