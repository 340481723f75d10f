//! How far a link has come in this process, and the file that keeps it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::outgoing::Outgoing;
use super::state::{self, State};
use crate::nostr::{EventId, Timestamp};
use crate::replication::file::FileError;
use crate::store::Seq;

/// How often the file is replaced at most. After a kill, what was sent meanwhile is sent again, as duplicates.
const APART: Duration = Duration::from_secs(1);

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
    /// What is on its way up, between two connections.
    pub outgoing: Option<Outgoing>,
    /// An event that the other relay has answered.
    pub proof: Option<EventId>,
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
            outgoing: None,
            proof: None,
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
}
