//! Keeps a link connected, again and again, until it is told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, GOOD, chance};
use super::conversation::Conversation;
use super::link::{Link, MEASURE};
use super::progress::Progress;
use super::state;
use crate::peer::{Connection, Options};
use crate::pipeline::now;
use crate::replication::error::SyncError;
use crate::replication::run::MAX_MESSAGE_BYTES;

/// How often operators are reminded of a relay that stays away for the same reason.
const REMIND: Duration = Duration::from_secs(3600);

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
    let (mut backoff, mut stop, mut said) = (Backoff::default(), link.stop.clone(), Said::default());
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
            said = Said::default();
        }
        let pause = backoff.next(chance());
        tell(&link, &ended, pause, &mut said);
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
    let options = Options { timeout: link.options.stream.patience, max_message_bytes: MAX_MESSAGE_BYTES };
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

/// Why the last connection ended, and since when that is so.
#[derive(Default)]
struct Said {
    why: String,
    at: Option<Instant>,
}

impl Said {
    /// Whether operators are to be told: it is another reason, or the same for an hour.
    fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let is_news = self.why != why || self.at.is_none_or(|at| now.duration_since(at) >= REMIND);
        if is_news {
            (self.why, self.at) = (why.to_owned(), Some(now));
        }
        is_news
    }
}

/// Logs why a connection ended; again and again the same only for those who want details.
fn tell(link: &Link, ended: &Result<(), SyncError>, pause: Duration, said: &mut Said) {
    let why = ended.as_ref().map_or_else(ToString::to_string, |()| "it ended".to_owned());
    let (stream, url, next_s) = (&link.options.stream.name, &link.options.url, pause.as_secs_f32());
    if said.is_news(&why, Instant::now()) {
        tracing::warn!(stream, %url, next_s, "not connected: {why}");
    } else {
        tracing::debug!(stream, %url, next_s, "not connected: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_told_once_an_hour_and_another_at_once() {
        let (mut said, now) = (Said::default(), Instant::now());
        let mut told = |why: &str, seconds| said.is_news(why, now + Duration::from_secs(seconds));
        assert_eq!([told("a", 0), told("a", 5), told("b", 6), told("a", 7)], [true, false, true, true]);
        assert_eq!([told("a", 3_606), told("a", 3_607), told("a", 3_608)], [false, true, false]);
    }
}
