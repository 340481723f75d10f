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

/// The progress of a link over all its connections. Its file is replaced at most once a second.
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
        let saved = state;
        // Nobody has seen the future: the clock was ahead.
        let state = State { mark: state.mark.map(|mark| mark.min(now)), ..state };
        let progress = Self {
            file,
            state,
            saved,
            saved_at: None,
            saving: None,
            began_at: now,
            sent_all_at: now,
            outgoing: None,
            proof: None,
        };
        (progress, error)
    }

    /// Notes where a new link begins, so that it begins there whenever the relay can be reached first: at this time
    /// and, up, after this event.
    pub fn begin(&mut self, last: Option<Seq>) {
        self.state.mark.get_or_insert(self.began_at);
        if let Some(last) = last {
            self.state.cursor.get_or_insert(last);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_link_begins_at_its_first_start_and_no_mark_is_in_the_future() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.link");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let start = |now: u64, last: u64| {
            let (mut progress, error) = Progress::load(file.clone(), Timestamp(now));
            assert!(error.is_none());
            progress.begin(Some(Seq(last)));
            runtime.block_on(progress.save());
            progress.state
        };
        let first = State { mark: Some(Timestamp(1_000)), cursor: Some(Seq(7)), has_compared: false };
        assert_eq!(start(1_000, 7), first);
        // The relay was never reached meanwhile.
        assert_eq!(start(5_000, 90), first);
        assert_eq!(start(900, 90), State { mark: Some(Timestamp(900)), ..first });
        assert_eq!(state::load(&file).expect("a good file").mark, Some(Timestamp(900)));
    }
}
