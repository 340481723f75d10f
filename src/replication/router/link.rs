//! A link: one relay of a stream, as its connections see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::intake::Intake;
use super::progress::Progress;
use super::status::Status;
use super::stream::LinkOptions;
use crate::import::Rules;
use crate::nostr::Timestamp;
use crate::pipeline::now;
use crate::replication::recent::Recent;
use crate::replication::run::longest_message;
use crate::store::{Seq, Store};

/// How often the figures are brought up to date.
pub const MEASURE: Duration = Duration::from_secs(1);

/// What all links share.
pub struct Shared {
    /// The store.
    pub store: Store,
    /// Which store it is.
    pub store_id: [u8; 16],
    /// The rules for what arrives.
    pub rules: Rules,
    /// The way in.
    pub intake: Intake,
    /// The number of the last event that arrived in the store.
    pub arrivals: watch::Receiver<Seq>,
    /// Events that a comparison compares at a time.
    pub max_records: usize,
    /// The directory of what is remembered of other relays.
    pub memory: PathBuf,
    /// The directory of how far links have come.
    pub states: PathBuf,
}

impl Shared {
    /// Longer messages with events are dropped.
    #[must_use]
    pub fn max_event_bytes(&self) -> usize {
        longest_message(&self.rules)
    }
}

/// One relay of a stream: its options, what it shares with the other links, and its figures.
pub struct Link {
    /// What the operator asks for.
    pub options: LinkOptions,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// What the relay has shown.
    pub recent: Arc<Recent>,
    /// Its figures.
    pub status: Arc<Status>,
    /// Becomes true when the link is to end.
    pub stop: watch::Receiver<bool>,
}

impl Link {
    /// Brings the figures up to date.
    pub fn measure(&self, progress: &Progress) {
        let (now, last) = (now(), *self.shared.arrivals.borrow());
        let since = |at: Timestamp| now.0.saturating_sub(at.0);
        let direction = self.options.stream.direction;
        let down = if direction.is_down() { since(progress.state.mark.unwrap_or(progress.began_at)) } else { 0 };
        let (mut up, mut behind) = (0, 0);
        if direction.is_up() {
            behind = progress.state.cursor.map_or(0, |cursor| last.0.saturating_sub(cursor.0));
            up = if behind > 0 { since(progress.sent_all_at) } else { 0 };
        }
        self.status.behind_events.set(behind as i64);
        self.status.behind_seconds.set(down.max(up) as i64);
    }
}
