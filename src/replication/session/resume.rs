//! After the connection was lost: connects again, and takes up what the relay had not answered.
//!
//! What was compared, fetched and answered before stays done. Only a connection that was there and is gone is made
//! again: whoever cannot be reached at first, says nothing or misbehaves is not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Session, TICK};
use crate::peer::{Connection, PeerError, Traffic};
use crate::replication::auth::Auth;
use crate::replication::error::SyncError;

impl Session<'_> {
    /// Connects again, after longer and longer pauses.
    ///
    /// # Errors
    /// The error that it was called with, if that is no reason to connect again or there were enough attempts.
    pub(super) async fn reconnect(&mut self, lost: PeerError) -> Result<(), SyncError> {
        if !matches!(lost, PeerError::Closed(_) | PeerError::Broken(_)) {
            return Err(lost.into());
        }
        self.take_up();
        self.report.traffic = self.traffic();
        loop {
            let moved = self.downloads.received + self.report.sent + self.report.refused_there;
            let Some(pause) = self.attempts.next(moved) else { return Err(lost.into()) };
            self.wait(pause).await?;
            // The next attempt may find it.
            if let Ok(connection) = Connection::open(self.task.url, self.task.tls.clone(), &self.task.options).await {
                self.task.watch.warn(&format!("{lost}; connected again"));
                (self.traffic_before, self.connection) = (self.report.traffic, connection);
                self.progress_at = Instant::now();
                return Ok(());
            }
        }
    }

    /// Bytes over all connections.
    pub(super) fn traffic(&self) -> Traffic {
        let (before, own) = (self.traffic_before, self.connection.traffic());
        Traffic { received: before.received + own.received, sent: before.sent + own.sent }
    }

    /// Queues again what waited for an answer.
    fn take_up(&mut self) {
        self.windows.extend(self.comparing.take().map(|comparing| comparing.window));
        if let Some(reading) = &mut self.reading {
            reading.name = None;
            reading.pages.restart();
        }
        self.downloads.take_up();
        self.uploads.take_up();
        self.visibility.take_up();
        self.auth = Auth::default();
        (self.paused_until, self.tries) = (None, 0);
    }

    /// Waits, and looks now and then whether it is to stop.
    async fn wait(&self, pause: Duration) -> Result<(), SyncError> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if self.task.stop.load(Ordering::Relaxed) {
                return Err(SyncError::Interrupted);
            }
            tokio::time::sleep(TICK.min(pause)).await;
        }
        Ok(())
    }
}
