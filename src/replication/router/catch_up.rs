//! Catches up: compares a window by its own connection, as `weir sync` does, while the live one goes on.
//!
//! It runs on a thread that may wait for the disk. What it brings is on disk when it returns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::account::{Account, FetchedEvents, WINDOW};
use super::link::Link;
use crate::import::Origin;
use crate::nostr::EventId;
use crate::peer::{Connection, Options};
use crate::pipeline::now;
use crate::replication::download::RequestedEvents;
use crate::replication::error::SyncError;
use crate::replication::file;
use crate::replication::report::{Direction, Progress, Report, Side, Watch};
use crate::replication::run::{MAX_MESSAGE_BYTES, load};
use crate::replication::scope::Scope;
use crate::replication::session::{Session, Task};

/// How often it is looked whether a comparison that still connects is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What is compared.
pub struct Gap {
    /// The filter and the window.
    pub scope: Scope,
    /// Which way events go.
    pub direction: Direction,
}

/// Compares and transfers until the gap is closed, or `stop` is set.
///
/// # Errors
/// When the gap is not closed; what came until then stays.
pub async fn catch_up(link: &Link, gap: Gap, stop: &AtomicBool) -> Result<Report, SyncError> {
    let mut failures = link.shared.intake.failures();
    tokio::select! {
        report = run(link, gap, stop) => report,
        _ = failures.changed() => Err(SyncError::ImportOver),
    }
}

async fn run(link: &Link, gap: Gap, stop: &AtomicBool) -> Result<Report, SyncError> {
    let (shared, stream, url) = (&link.shared, &link.options.stream, &link.options.url);
    let options = Options { timeout: stream.timeout, max_message_bytes: MAX_MESSAGE_BYTES };
    let connection = tokio::select! {
        connection = Connection::open(url, stream.tls.clone(), &options) => connection?,
        () = stopped(stop) => return Err(SyncError::Interrupted),
    };
    // Of the whole filter, as `weir sync` remembers it: the window moves.
    let memory = file::path(&shared.memory, url.as_str(), &gap.scope.name());
    let remembered = Arc::new(Mutex::new(load(&memory, |text| tracing::warn!("{text}"))));
    let asked = Arc::new(RequestedEvents::new(gap.scope.whole()));
    let account = Arc::new(Account::new(Arc::clone(&link.recent), Arc::clone(&link.status)));
    let task = Task {
        url,
        tls: stream.tls.clone(),
        options,
        scope: &gap.scope,
        direction: gap.direction,
        only_tells: false,
        key: stream.key.as_deref(),
        settings: shared.rules.settings.load_full(),
        store: &shared.store,
        max_records: shared.max_records,
        max_event_bytes: shared.max_event_bytes(),
        remembered: &remembered,
        stop,
        watch: link,
    };
    let fetched =
        FetchedEvents { asked: Arc::clone(&asked), remembered: Arc::clone(&remembered), account: Arc::clone(&account) };
    let origin = Origin::Relay(url.as_str().into(), Arc::new(fetched));
    let feed = shared.intake.feed(origin, account.window()).ok_or(SyncError::ImportOver)?;
    let mut session = Session::new(task, connection, Arc::clone(&asked));
    let passed = session.pass(feed).await;
    let mut report = session.close().await;
    // Every permit is back when every piece is committed.
    drop(account.window().acquire_many(WINDOW as u32).await);
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if passed.is_ok() {
        let missing = asked.take_missing();
        report.undelivered = missing.len() as u64;
        remembered.refuse_undelivered(missing, now());
    }
    remembered.was_equal = passed.is_ok() && report.leaves_nothing(gap.direction);
    if let Err(error) = file::save(&memory, &remembered) {
        tracing::warn!("{} cannot be written, so more is compared next time: {error}", memory.display());
    }
    if stop.load(Ordering::Relaxed) {
        return Err(SyncError::Interrupted);
    }
    passed.map(|()| report)
}

/// Waits until it is to stop.
async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

impl Watch for Link {
    fn progress(&self, _: &Progress) {}

    fn missing(&self, _: Side, _: &EventId) {}

    fn warn(&self, text: &str) {
        tracing::debug!(stream = self.options.stream.name, url = %self.options.url, "{text}");
    }
}
