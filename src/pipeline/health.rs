//! Whether the store works: each failure is counted, logged and shown on `/readyz`, and one that this process cannot
//! recover from stops it in order.
//!
//! The only place that decides what follows from a [`StoreError`]. It never refuses events: every batch tries to
//! commit, so the first commit that succeeds clears the failure. A full store is not a failure: see
//! [`writable`](super::writable).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{Metrics, StoreLabel, StoreOperation};
use crate::store::StoreError;

/// Called with the reason when the process must stop as failed.
pub type OnFailure = Arc<dyn Fn(&str) + Send + Sync>;

/// How often the same failure of one operation is logged: a damaged page fails every query that reads it.
const SAME_LINE: Duration = Duration::from_secs(10);

/// The failures of the store so far, and those that last. Shared by all threads that use the store.
pub struct Health {
    failures: Family<StoreLabel, Counter>,
    is_committing: Gauge,
    on_failure: OnFailure,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why the last commit failed.
    commits_fail: Option<String>,
    /// Why the process is stopping.
    fatal: Option<String>,
    /// What was logged last, and when.
    said: Option<(StoreOperation, String, Instant)>,
}

impl Health {
    /// No failures yet. `on_failure` stops the process.
    #[must_use]
    pub fn new(metrics: &Metrics, on_failure: &OnFailure) -> Self {
        metrics.store_committing.set(1);
        Self {
            failures: metrics.store_failures.clone(),
            is_committing: metrics.store_committing.clone(),
            on_failure: on_failure.clone(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state of the store")
    }

    /// Notes a failure.
    pub fn failed(&self, operation: StoreOperation, error: &StoreError) {
        if matches!(error, StoreError::Full) {
            return;
        }
        self.failures.get_or_create(&StoreLabel { operation }).inc();
        let text = error.to_string();
        let mut state = self.state();
        state.say(operation, &text);
        if operation == StoreOperation::Commit {
            self.is_committing.set(0);
            state.commits_fail = Some(text.clone());
        }
        let is_first = state.fatal.is_none();
        if error.is_fatal() && is_first {
            state.fatal = Some(text.clone());
            drop(state);
            (self.on_failure)(&format!(
                "this process cannot use the store any more ({text}); a new one can, and takes over what was acknowledged"
            ));
        }
    }

    /// Notes a successful commit.
    pub fn committed(&self) {
        // The gauge first, without the lock: there is nearly always nothing to do.
        if self.is_committing.get() == 1 {
            return;
        }
        let mut state = self.state();
        if state.commits_fail.take().is_some() {
            state.said = None;
            self.is_committing.set(1);
            tracing::info!("commits succeed again; events are stored");
        }
    }

    /// Whether the last commit failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.is_committing.get() == 0
    }

    /// Whether this process can no longer use the store, and is stopping.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.state().fatal.is_some()
    }

    /// Why the relay is not ready, if that is because of the store.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        let fatal = state.fatal.as_ref().map(|text| format!("the store failed, the relay is ending: {text}"));
        fatal.or_else(|| state.commits_fail.as_ref().map(|text| format!("events cannot be stored: {text}")))
    }
}

impl State {
    fn say(&mut self, operation: StoreOperation, text: &str) {
        let is_same = |(of, said, at): &(StoreOperation, String, Instant)| {
            *of == operation && said == text && at.elapsed() < SAME_LINE
        };
        if self.said.as_ref().is_some_and(is_same) {
            return;
        }
        match operation {
            StoreOperation::Commit => {
                tracing::error!(error = text, "a commit failed; events are refused until one succeeds");
            }
            StoreOperation::Log => {
                tracing::error!(error = text, "the write-ahead log failed; each batch is committed by itself");
            }
            StoreOperation::Read | StoreOperation::Sync | StoreOperation::Retention => {
                tracing::error!(error = text, operation = operation.as_str(), "the store failed; it is tried again");
            }
        }
        self.said = Some((operation, text.into(), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn health() -> (Health, Metrics, Arc<AtomicUsize>) {
        let (metrics, ended) = (Metrics::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&ended);
        let on_failure: OnFailure = Arc::new(move |_: &str| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (Health::new(&metrics, &on_failure), metrics, ended)
    }

    fn io_error() -> StoreError {
        let source = std::io::Error::other("broken disk");
        StoreError::Io { path: "data.mdb".into(), source }
    }

    #[test]
    fn a_failing_commit_is_shown_until_one_succeeds_and_want_of_room_is_none() {
        let (health, metrics, ended) = health();
        health.failed(StoreOperation::Commit, &StoreError::Full);
        assert_eq!((health.trouble(), health.is_failing()), (None, false));
        health.failed(StoreOperation::Commit, &io_error());
        assert_eq!(health.trouble().as_deref(), Some("events cannot be stored: data.mdb: broken disk"));
        assert!(metrics.render().contains("weir_store_failures_total{operation=\"commit\"} 1\n"));
        assert!(metrics.render().contains("weir_store_committing 0\n"));
        health.committed();
        assert_eq!((health.trouble(), health.is_failing()), (None, false));
        assert_eq!(ended.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_failing_read_is_counted_and_refuses_no_events() {
        let (health, metrics, _) = health();
        health.failed(StoreOperation::Read, &StoreError::Damaged("a record"));
        assert_eq!(health.trouble(), None);
        assert!(metrics.render().contains("weir_store_failures_total{operation=\"read\"} 1\n"));
    }

    #[test]
    fn what_this_process_cannot_recover_from_ends_it_once() {
        let (health, _, ended) = health();
        for _ in 0..3 {
            health.failed(StoreOperation::Read, &StoreError::panicked());
        }
        health.committed();
        assert!(health.is_lost());
        let text = health.trouble().expect("it stays");
        assert!(text.starts_with("the store failed, the relay is ending: LMDB: MDB_PANIC"), "{text}");
        assert_eq!(ended.load(Ordering::Relaxed), 1);
    }
}
