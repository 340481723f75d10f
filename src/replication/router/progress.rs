//! How far a link has come in this process, and the file that keeps it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::state::{self, State};
use crate::nostr::{EventId, Timestamp};
use crate::replication::file::FileError;
use crate::store::Seq;

/// How often the file is replaced at most. After a kill, what was sent meanwhile is sent again, as duplicates.
const APART: Duration = Duration::from_secs(1);

/// How often the other relay may end the connection when it gets an event, before the event is passed over.
const MAX_ENDINGS: u32 = 3;

/// See the module.
pub struct Progress {
    file: PathBuf,
    /// What is true now.
    pub state: State,
    saved: State,
    saved_at: Option<Instant>,
    saving: Option<JoinHandle<Result<(), FileError>>>,
    /// When this process began with it.
    pub began_at: Timestamp,
    /// When everything was last sent.
    pub sent_all_at: Timestamp,
    suspect: Option<(EventId, u32)>,
    /// Whether events were unanswered when the last connection ended.
    pub is_cautious: bool,
}

impl Progress {
    /// Goes on with what the file says; as a new link if it cannot be used, with the reason.
    pub fn load(file: PathBuf, now: Timestamp) -> (Self, Option<FileError>) {
        let (state, error) = match state::load(&file) {
            Ok(state) => (state, None),
            Err(error) => (State::default(), Some(error)),
        };
        let progress = Self {
            file,
            state,
            saved: state,
            saved_at: None,
            saving: None,
            began_at: now,
            sent_all_at: now,
            suspect: None,
            is_cautious: false,
        };
        (progress, error)
    }

    /// Nothing that the relay has shown until now is missing here.
    pub fn level_until(&mut self, mark: Timestamp) {
        self.state.mark = Some(self.state.mark.map_or(mark, |old| old.max(mark)));
    }

    /// Every event up to here was dealt with.
    pub const fn answered_until(&mut self, cursor: Seq) {
        self.state.cursor = Some(cursor);
    }

    /// Writes the file, if there is something new and the last time is long enough ago. Never waits.
    pub fn save_some(&mut self) {
        let is_due = self.saved_at.is_none_or(|at| at.elapsed() >= APART);
        let is_busy = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if is_due && !is_busy && self.state != self.saved {
            self.begin_saving();
        }
    }

    fn begin_saving(&mut self) {
        let (file, state) = (self.file.clone(), self.state);
        (self.saved, self.saved_at) = (state, Some(Instant::now()));
        self.saving = Some(tokio::task::spawn_blocking(move || {
            state::save(&file, &state).inspect_err(|error| {
                tracing::error!("{} cannot be written, so more is compared or sent again: {error}", file.display());
            })
        }));
    }

    /// Writes the file if there is something new, and waits for the disk.
    pub async fn save(&mut self) {
        if let Some(saving) = self.saving.take() {
            // Errors were logged.
            drop(saving.await);
        }
        if self.state != self.saved {
            self.begin_saving();
            if let Some(saving) = self.saving.take() {
                drop(saving.await);
            }
        }
    }

    /// The other relay ended the connection while this event alone was unanswered.
    pub fn suspect(&mut self, id: EventId) {
        let times = self.suspect.filter(|(same, _)| *same == id).map_or(0, |(_, times)| times);
        self.suspect = Some((id, times + 1));
    }

    /// The event with which the other relay ends each connection, if there is one.
    #[must_use]
    pub fn poison(&self) -> Option<EventId> {
        self.suspect.filter(|(_, times)| *times >= MAX_ENDINGS).map(|(id, _)| id)
    }
}
