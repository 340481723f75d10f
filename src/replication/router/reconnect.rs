//! Keeps a link connected, again and again, until it is told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conversation::Conversation;
use super::link::{Link, MEASURE};
use super::logged_reason::LoggedReason;
use super::progress::Progress;
use super::state;
use crate::peer::{Connection, Options};
use crate::pipeline::now;
use crate::replication::backoff::{Backoff, GOOD, chance};
use crate::replication::error::SyncError;
use crate::replication::run::MAX_MESSAGE_BYTES;

/// Runs until it is told to stop.
pub async fn run(link: Arc<Link>) {
    let file = state::path(&link.shared.states, &link.shared.store_id, &link.options);
    let (mut progress, error) = Progress::load(file.clone(), now());
    if let Some(error) = error {
        tracing::warn!("{} is ignored, so the link begins as a new one: {error}", file.display());
    }
    let last = *link.shared.arrivals.borrow();
    progress.begin(link.options.stream.direction.is_up().then_some(last));
    progress.save().await;
    let (mut backoff, mut stop, mut logged) = (Backoff::default(), link.stop.clone(), LoggedReason::default());
    while !*stop.borrow() {
        let mut connected_at = None;
        let ended = connect(&link, &mut progress, &mut connected_at).await;
        link.status.connected.set(0);
        progress.save().await;
        if *stop.borrow() {
            return;
        }
        if connected_at.is_some_and(|at: Instant| at.elapsed() >= GOOD) {
            backoff.reset();
            logged = LoggedReason::default();
        }
        let pause = backoff.next(chance());
        tell(&link, &ended, pause, &mut logged);
        let until = Instant::now() + pause;
        while Instant::now() < until && !*stop.borrow() {
            link.measure(&progress);
            let next = until.min(Instant::now() + MEASURE);
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                // Its sender outlives the link.
                _ = stop.changed() => {}
            }
        }
    }
}

async fn connect(
    link: &Arc<Link>,
    progress: &mut Progress,
    connected_at: &mut Option<Instant>,
) -> Result<(), SyncError> {
    let options = Options { timeout: link.options.stream.timeout, max_message_bytes: MAX_MESSAGE_BYTES };
    let mut stop = link.stop.clone();
    let opening = Connection::open(&link.options.url, link.options.stream.tls.clone(), &options);
    let connection = tokio::select! {
        connection = opening => connection?,
        _ = stop.wait_for(|stop| *stop) => return Err(SyncError::Interrupted),
    };
    link.status.connected.set(1);
    *connected_at = Some(Instant::now());
    Conversation::hold(link, progress, connection).await
}

/// Logs why a connection ended; again and again the same only for those who want details.
fn tell(link: &Link, ended: &Result<(), SyncError>, pause: Duration, logged: &mut LoggedReason) {
    let why = ended.as_ref().map_or_else(ToString::to_string, |()| "it ended".to_owned());
    let (stream, url, next_s) = (&link.options.stream.name, &link.options.url, pause.as_secs_f32());
    if logged.is_news(&why, Instant::now()) {
        tracing::warn!(stream, %url, next_s, "not connected: {why}");
    } else {
        tracing::debug!(stream, %url, next_s, "not connected: {why}");
    }
}
