//! What comes down: a live subscription first, then a comparison that closes the gap since the mark.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Conversation;
use crate::nostr::Timestamp;
use crate::pipeline::now as now_s;
use crate::replication::backoff::chance;
use crate::replication::error::SyncError;
use crate::replication::refusal::Refusal;
use crate::replication::report::{Direction, Report};
use crate::replication::router::catch_up::{Gap, catch_up};
use crate::replication::router::down::{LIVE, Pending, Subscribed};
use crate::replication::router::logged_reason::LoggedReason;
use crate::replication::window::Window;

/// The seconds before the mark that are always compared: a relay may take as long to show an event, and the clocks of
/// authors differ.
const OVERLAP_S: u64 = 60;

/// How often everything in reach of `catch_up` is compared again while the connection stands: relays may drop live
/// events of slow readers.
const COMPARE: Duration = Duration::from_secs(3600);

/// How often the relay may end the subscription in a row.
const MAX_TRIES: u32 = 8;

impl Conversation<'_> {
    /// Begins: subscribes, or compares at once where only events of ours are to be compared.
    pub(super) fn subscribe(&mut self) -> Result<(), SyncError> {
        let stream = &self.link.options.stream;
        if stream.direction.is_down() {
            self.connection.send(stream.scope.live(LIVE))?;
            self.down.subscribed = Subscribed::Requested(Instant::now());
        } else if !self.progress.state.has_compared {
            self.down.compares_at = Some(Instant::now());
        }
        Ok(())
    }

    pub(super) fn go_on_down(&mut self, now: Instant) -> Result<(), SyncError> {
        if let Subscribed::From(at) = self.down.subscribed
            && now >= at
            && !self.auth.is_pending()
        {
            self.subscribe()?;
        }
        if self.down.catching.is_none() && self.down.compares_at.is_some_and(|at| now >= at) {
            self.compare();
        }
        Ok(())
    }

    /// The relay has sent what it had stored, which is nothing.
    pub(super) fn subscribed(&mut self, name: &str) -> Result<(), SyncError> {
        if name != LIVE || !self.down.is_waiting() {
            return self.unasked();
        }
        self.down.subscribed = Subscribed::Live;
        self.down.live_since = Some(Instant::now());
        self.down.compares_at = Some(Instant::now());
        Ok(())
    }

    /// The relay refused the subscription, or ended it: what comes next is not heard until there is another one.
    pub(super) fn closed(&mut self, name: &str, reason: &str) -> Result<(), SyncError> {
        if name != LIVE || !self.down.is_asked() {
            return self.unasked();
        }
        let tries = self.down.refused(Instant::now());
        let is_for_want_of_key = self.wants_key(reason);
        if is_for_want_of_key {
            self.key_is_wanted(reason)?;
        }
        let may_pass = is_for_want_of_key || matches!(Refusal::of(reason), Refusal::TooFast | Refusal::Dropped);
        if !may_pass || tries > MAX_TRIES {
            return Err(SyncError::Refused(reason.into()));
        }
        self.down.subscribed = Subscribed::From(Instant::now() + self.down.resubscribes.next(chance()));
        Ok(())
    }

    /// Begins a comparison of what may be missing.
    fn compare(&mut self) {
        let stream = &self.link.options.stream;
        let direction = if self.progress.state.has_compared { Direction::Down } else { stream.direction };
        let now = now_s();
        // The clock may have been ahead when the mark was made.
        let mark = self.progress.state.mark.map_or(now, |mark| mark.min(now));
        let since = mark.0.saturating_sub(stream.catch_up_s.max(OVERLAP_S));
        let window = Window { since: Timestamp(since), ..Window::ALL };
        let gap = Gap { scope: stream.scope.clone().within(window), direction };
        let (link, stop, handle) = (Arc::clone(self.link), Arc::new(AtomicBool::new(false)), Handle::current());
        self.down.stop = Some(Arc::clone(&stop));
        self.down.compares_at = None;
        self.down.catching_since = now;
        self.down.catching = Some(tokio::task::spawn_blocking(move || handle.block_on(catch_up(&link, gap, &stop))));
    }

    /// The comparison has ended.
    pub(super) async fn caught_up(&mut self, report: Result<Report, SyncError>) -> Result<(), SyncError> {
        let (name, url) = (&self.link.options.stream.name, &self.link.options.url);
        match report {
            Ok(report) => {
                let (fetched, sent) = (report.missing_here, report.sent);
                tracing::info!(stream = name, %url, fetched, sent, rounds = report.rounds, "level");
            }
            // The store is our trouble, and the import's end that of every link.
            Err(error @ (SyncError::Store(_) | SyncError::ImportOver | SyncError::Interrupted)) => return Err(error),
            Err(error) => {
                let pause = self.down.backoff.next(chance());
                self.down.compares_at = Some(Instant::now() + pause);
                let (next_s, why) = (pause.as_secs_f32(), error.to_string());
                if self.down.logged.is_news(&why, Instant::now()) {
                    tracing::warn!(stream = name, %url, next_s, "not level yet: {why}");
                } else {
                    tracing::debug!(stream = name, %url, next_s, "not level yet: {why}");
                }
                return Ok(());
            }
        }
        self.down.backoff.reset();
        self.down.logged = LoggedReason::default();
        self.progress.state.has_compared |= self.link.options.stream.direction.is_up();
        if !matches!(self.down.subscribed, Subscribed::Live) {
            // It was ended meanwhile, and is compared again when there is another one.
            return Ok(());
        }
        self.down.compares_at = Some(Instant::now() + COMPARE);
        self.down.is_level = true;
        self.flush().await?;
        self.down.pending = Some(Pending { time: self.down.catching_since, pieces: self.feed.passed });
        Ok(())
    }
}
