//! A running pipeline for tests. Compiled into tests only.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::run::{Parts, Pipeline};
use crate::metrics::Metrics;
use crate::pipeline::query::sessions;
use crate::pipeline::{Bounds, OnFailure, Options};
use crate::policy::Settings;
use crate::schnorr::{self, Verifier};
use crate::store::Store;

/// How long anything may take before a test gives up.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A pipeline on `store`, and where it says why the process must end.
pub fn start(store: Store, settings: Settings) -> (Pipeline, Receiver<String>) {
    start_with(store, settings, Bounds::default())
}

/// The same, with queues of this length.
pub fn start_with(store: Store, settings: Settings, bounds: Bounds) -> (Pipeline, Receiver<String>) {
    let (failed, failures) = channel();
    let on_failure: OnFailure = Arc::new(move |why: &str| {
        // The test may have ended.
        let _ = failed.send(why.to_owned());
    });
    let parts = Parts {
        store,
        settings,
        verifier: Verifier::new(schnorr::Options::default()),
        metrics: Metrics::new(),
        bounds,
        memory: crate::ledger::Options::default(),
        options: Options::default(),
        negentropy: sessions::Options::default(),
    };
    (Pipeline::start(parts, &on_failure).expect("the threads start"), failures)
}

/// Whether `work` ends in time; it runs on its own thread, which is left behind if it hangs.
pub fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = channel();
    std::thread::spawn(move || {
        work();
        // The test may have given up.
        let _ = done.send(());
    });
    ended.recv_timeout(TIMEOUT).is_ok()
}
