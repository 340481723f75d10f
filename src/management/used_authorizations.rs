//! The authorizations (NIP-98), and the requests of members (NIP-43), that were used, so that each is good once: in
//! memory, and in a file for other processes.
//!
//! An id is not forgotten after a time but only when many others were used since, so a clock that goes back does not
//! make an old authorization good again. Who may do what is decided elsewhere.

use std::collections::VecDeque;
use std::path::Path;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::files::{FileVersion, Files, damaged, read_lines};
use crate::nostr::{EventId, Timestamp};

/// Ids that are remembered, at about 100 bytes each. Admins would have to call 68 times a second to be refused.
const MAX_IDS: usize = 8192;

/// Once the file has this many lines, it is rewritten.
const MAX_LINES: u64 = 2 * MAX_IDS as u64;

/// The authorizations that were used.
#[derive(Default)]
pub struct UsedAuthorizations {
    ids: HashSet<EventId>,
    /// In the order of their use, with their `created_at`.
    order: VecDeque<(EventId, Timestamp)>,
    /// The latest `created_at` of an id that was forgotten: none up to then is good.
    forgotten: Option<Timestamp>,
}

impl UsedAuthorizations {
    /// Whether an authorization was used before, or may have been.
    #[must_use]
    pub fn holds(&self, id: &EventId, created_at: Timestamp) -> bool {
        self.forgotten.is_some_and(|forgotten| created_at <= forgotten) || self.ids.contains(id)
    }

    /// Takes an authorization, unless it was used before or may have been.
    pub fn admit(&mut self, id: EventId, created_at: Timestamp) -> bool {
        if self.holds(&id, created_at) {
            return false;
        }
        self.ids.insert(id);
        self.order.push_back((id, created_at));
        if self.order.len() > MAX_IDS
            && let Some((oldest, created_at)) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
            self.forgotten = self.forgotten.max(Some(created_at));
        }
        true
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// An authorization.
    Used { id: String, created_at: u64 },
    /// The latest `created_at` of those that are listed no more.
    Forgotten { created_at: u64 },
}

impl Line {
    fn used(id: EventId, created_at: Timestamp) -> Self {
        Self::Used { id: id.to_string(), created_at: created_at.0 }
    }
}

/// The authorizations that any process used, as far as this one has read their file.
#[derive(Default)]
pub struct Authorizations {
    used: UsedAuthorizations,
    seen: FileVersion,
    /// Of the file.
    lines: u64,
}

impl Authorizations {
    /// Takes an authorization, unless any process used it before or may have, and waits until that is on disk. Call it
    /// with the lock of the journal held.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is damaged. The authorization is not used then.
    pub fn admit(
        &mut self,
        files: &Files,
        path: &Path,
        id: EventId,
        created_at: Timestamp,
    ) -> Result<bool, JournalError> {
        self.read(path)?;
        if self.used.holds(&id, created_at) {
            return Ok(false);
        }
        self.seen = files.append(path, &Line::used(id, created_at))?;
        self.lines += 1;
        self.used.admit(id, created_at);
        if self.lines >= MAX_LINES
            && let Err(error) = self.shorten(files, path)
        {
            // The next one tries again.
            tracing::error!(%error, "the list of used authorizations could not be shortened");
        }
        Ok(true)
    }

    /// Whether any process used this one before, or may have. Call it with the lock of the journal held.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn holds(&mut self, path: &Path, id: &EventId, created_at: Timestamp) -> Result<bool, JournalError> {
        self.read(path)?;
        Ok(self.used.holds(id, created_at))
    }

    /// Reads what other processes used. What this one knows stays, even if the file is gone.
    fn read(&mut self, path: &Path) -> Result<(), JournalError> {
        if Files::seen(path)? == self.seen {
            return Ok(());
        }
        let end = read_lines(path, |number, line| {
            match line {
                Line::Used { id, created_at } => {
                    let not_an_id = || damaged(path, number, format!("{id:?} is not the id of an event"));
                    let id = EventId::from_hex(id.as_bytes()).ok_or_else(not_an_id)?;
                    self.used.admit(id, Timestamp(created_at));
                }
                Line::Forgotten { created_at } => {
                    self.used.forgotten = self.used.forgotten.max(Some(Timestamp(created_at)));
                }
            }
            Ok(())
        })?;
        end.cut(path)?;
        (self.lines, self.seen) = (end.lines, Files::seen(path)?);
        Ok(())
    }

    fn shorten(&mut self, files: &Files, path: &Path) -> Result<(), JournalError> {
        let forgotten = self.used.forgotten.map(|at| Line::Forgotten { created_at: at.0 });
        let lines = forgotten.into_iter().chain(self.used.order.iter().map(|(id, at)| Line::used(*id, *at)));
        self.seen = files.replace(path, lines)?;
        self.lines = self.used.order.len() as u64 + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        EventId(id)
    }

    #[test]
    fn an_authorization_is_good_once_even_when_the_clock_goes_back() {
        let mut used = UsedAuthorizations::default();
        let [now, earlier] = [5_000, 1_000].map(Timestamp);
        assert_eq!([used.admit(id(1), now), used.admit(id(1), now)], [true, false]);
        assert_eq!([used.admit(id(2), earlier), used.admit(id(2), earlier)], [true, false]);
        assert!(!used.admit(id(1), now));
    }

    #[test]
    fn the_table_is_bounded_and_what_it_forgot_is_not_good_again() {
        let mut used = UsedAuthorizations::default();
        for number in 0..2 * MAX_IDS as u64 {
            assert!(used.admit(id(number), Timestamp(number)));
        }
        assert_eq!((used.ids.len(), used.order.len()), (MAX_IDS, MAX_IDS));
        assert!(!used.admit(id(0), Timestamp(0)) && !used.admit(id(99_999), Timestamp(MAX_IDS as u64 - 1)));
        assert!(used.admit(id(99_999), Timestamp(MAX_IDS as u64)));
    }

    /// Files in a directory, and a process that uses number `number` at time `at`.
    fn scene() -> (tempfile::TempDir, Files, impl Fn(&mut Authorizations, u64, u64) -> bool) {
        let home = tempfile::tempdir().expect("a directory");
        let files = Files::new(home.path().join("management"));
        drop(files.lock().expect("a lock"));
        let of = files.clone();
        (home, files, move |process, number, at| {
            process.admit(&of, &of.used(), id(number), Timestamp(at)).expect("recorded")
        })
    }

    #[test]
    fn an_authorization_is_good_once_for_all_processes_whatever_a_kill_leaves_of_their_file() {
        let (_home, files, uses) = scene();
        let [mut one, mut other] = [Authorizations::default(), Authorizations::default()];
        assert_eq!([uses(&mut one, 1, 5), uses(&mut other, 1, 5), uses(&mut other, 2, 5)], [true, false, true]);
        assert_eq!([uses(&mut one, 2, 5), uses(&mut one, 3, 5)], [false, true]);
        let whole = std::fs::read(files.used()).expect("the file");
        for length in 0..=whole.len() {
            std::fs::write(files.used(), &whole[..length]).expect("the file");
            let recorded = whole[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
            let mut next = Authorizations::default();
            let good: Vec<u64> = (1..=3).filter(|number| uses(&mut next, *number, 5)).collect();
            assert_eq!(good, (recorded + 1..=3).collect::<Vec<_>>(), "{length} bytes");
            assert_eq!(std::fs::read(files.used()).expect("the file"), whole, "{length} bytes");
        }
        std::fs::remove_file(files.used()).expect("the file");
        assert_eq!([uses(&mut one, 1, 5), uses(&mut one, 4, 5)], [false, true], "it still knows");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_makes_no_authorization_good() {
        let (_home, files, uses) = scene();
        assert!(uses(&mut Authorizations::default(), 1, 5));
        for damage in ["x\n", "{}\n", "{\"used\":{\"id\":\"ab\",\"created_at\":5}}\n", "{\"forgotten\":{}}\n"] {
            std::fs::write(files.used(), damage).expect("the file");
            let used = Authorizations::default().admit(&files, &files.used(), id(1), Timestamp(5));
            let error = used.expect_err("an error").to_string();
            assert!(error.starts_with(&format!("{}:1: ", files.used().display())), "{error}");
        }
    }

    #[test]
    fn a_long_file_is_shortened_and_what_it_lists_no_more_is_not_good_again() {
        let (_home, files, uses) = scene();
        let line = |number| serde_json::to_string(&Line::used(id(number), Timestamp(number))).expect("JSON") + "\n";
        let long: String = (1..MAX_LINES).map(line).collect();
        std::fs::write(files.used(), long).expect("the file");
        assert!(uses(&mut Authorizations::default(), MAX_LINES, MAX_LINES));
        let short = std::fs::read_to_string(files.used()).expect("the file");
        assert_eq!(short.lines().count(), MAX_IDS + 1);
        assert_eq!(short.lines().next(), Some(r#"{"forgotten":{"created_at":8192}}"#));
        let mut next = Authorizations::default();
        assert_eq!([1, MAX_LINES, 99_999].map(|number| uses(&mut next, number, number)), [false, false, true]);
        assert!(!uses(&mut next, 100_000, 8192));
    }
}
