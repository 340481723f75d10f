//! The journal: records acts, and knows what they come to.
//!
//! An act is on disk before it takes effect. Several processes may share a journal, such as a relay and a command: each
//! takes the lock for an act, and first reads what the others recorded.

use std::path::{Path, PathBuf};

use super::audit::{AuditEntry, Change, Decision, Origin, Verdict};
use super::audit_search;
use super::error::JournalError;
use super::files::{FileVersion, Files, OLDER};
use super::state::State;
use super::subject::Subject;
use super::used_authorizations::Authorizations;
use crate::nostr::{EventId, Timestamp};
use crate::policy::Moderation;

/// Who acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// An admin's key in hex, or `uid:` and the number of a local user.
    pub by: String,
    /// The id of the event that authorized the act (NIP-98), or of the member's request (NIP-43).
    pub auth: Option<EventId>,
}

/// The open journal: its files, the decisions in force, and the authorizations and requests that were used. One for
/// each process.
pub struct Journal {
    files: Files,
    state: State,
    seen: FileVersion,
    authorizations: Authorizations,
    /// Requests of members (NIP-43) that were carried out.
    requests: Authorizations,
}

impl Journal {
    /// Opens the journal in `dir`. Creates nothing: that is left to the first act.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or part of it is gone.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let files = Files::new(dir.into());
        let (state, seen, authorizations) = (State::default(), FileVersion::default(), Authorizations::default());
        let mut journal = Self { files, state, seen, authorizations, requests: Authorizations::default() };
        if journal.is_there()? {
            let _lock = journal.files.lock()?;
            journal.read()?;
        }
        Ok(journal)
    }

    /// Reads what was added to the audit, or all of it.
    fn read(&mut self) -> Result<(), JournalError> {
        let now = Files::seen(&self.files.audit())?;
        if now.is_after(self.seen)
            && let Some(added) = audit_search::added(&self.files.audit(), self.seen.bytes(), self.state.last())?
        {
            added.iter().for_each(|entry| self.state.apply(entry));
            self.seen = now;
            return Ok(());
        }
        (self.state, self.seen) = self.files.read()?;
        Ok(())
    }

    /// Whether there is anything on disk. What was read once must not be gone: a new journal would begin, without the
    /// decisions.
    fn is_there(&self) -> Result<bool, JournalError> {
        let is_there = self.files.exist()?;
        if !is_there && self.seen != FileVersion::default() {
            return Err(JournalError::Missing(self.files.audit()));
        }
        Ok(is_there)
    }

    /// Reads what other processes recorded. Returns whether there was anything.
    ///
    /// # Errors
    /// When the files cannot be read, or are damaged; the state stays as it was.
    pub fn refresh(&mut self) -> Result<bool, JournalError> {
        if !self.is_there()? || Files::seen(&self.files.audit())? == self.seen {
            return Ok(false);
        }
        let _lock = self.files.lock()?;
        self.read().map(|()| true)
    }

    /// The decisions in force.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What events and addresses are looked up in.
    #[must_use]
    pub const fn moderation(&self) -> &Moderation {
        self.state.moderation()
    }

    /// Takes an authorization (NIP-98), unless it was used before or may have been, and waits until that is on disk.
    ///
    /// # Errors
    /// When it cannot be recorded; it is not used then.
    pub fn admit(&mut self, id: EventId, created_at: Timestamp) -> Result<bool, JournalError> {
        let _lock = self.locked()?;
        self.authorizations.admit(&self.files, &self.files.used(), id, created_at)
    }

    /// The same of a request of a member (NIP-43).
    ///
    /// # Errors
    /// When it cannot be recorded; it is not used then.
    pub fn admit_request(&mut self, id: EventId, created_at: Timestamp) -> Result<bool, JournalError> {
        let _lock = self.locked()?;
        self.requests.admit(&self.files, &self.files.requests(), id, created_at)
    }

    /// Whether a request of a member was carried out before, or may have been.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn holds_request(&mut self, id: &EventId, created_at: Timestamp) -> Result<bool, JournalError> {
        if !self.is_there()? {
            return Ok(false);
        }
        let _lock = self.files.lock()?;
        self.requests.holds(&self.files.requests(), id, created_at)
    }

    /// Decides about a subject; `None` takes the decision back. Returns false when that is decided already.
    ///
    /// # Errors
    /// When it cannot be recorded, or there are too many decisions; nothing has changed then.
    pub fn decide(
        &mut self,
        method: &str,
        subject: Subject,
        decision: Option<(Verdict, &str)>,
        reason: &str,
        by: (&Actor, Timestamp),
    ) -> Result<bool, JournalError> {
        self.decide_if(method, subject, decision, reason, by, |_| true)
    }

    /// Decides about a subject, if `may` says so of the decision before. Returns false when it does not, and when that
    /// is decided already.
    ///
    /// # Errors
    /// As [`Journal::decide`].
    pub fn decide_if(
        &mut self,
        method: &str,
        subject: Subject,
        decision: Option<(Verdict, &str)>,
        reason: &str,
        (who, now): (&Actor, Timestamp),
        may: impl FnOnce(Option<&Decision>) -> bool,
    ) -> Result<bool, JournalError> {
        let _lock = self.locked()?;
        let before = self.state.get(&subject);
        if !may(before) || before.map(|before| (before.verdict, before.text.as_str())) == decision {
            return Ok(false);
        }
        if let Some((verdict, _)) = decision {
            self.state.check_room(&subject, verdict).map_err(JournalError::Full)?;
        }
        let mut entry = self.entry(method, subject, reason, (who, now));
        let after = decision.map(|(verdict, text)| Decision {
            verdict,
            text: text.into(),
            number: entry.number,
            at: entry.at,
            by: entry.by.clone(),
        });
        entry.change = Some(Change { before: before.cloned(), after });
        self.record(&entry)?;
        Ok(true)
    }

    /// Takes an act back: its subject gets the decision from before. Returns the subject.
    ///
    /// # Errors
    /// When there is no such act, another one about the subject followed and was not taken back, or it cannot be
    /// recorded.
    pub fn undo(&mut self, number: u64, (who, now): (&Actor, Timestamp)) -> Result<Subject, JournalError> {
        let _lock = self.locked()?;
        let mut found = None;
        for path in self.newest_first() {
            found = found.or(audit_search::acts(&path, &(number..=number))?.pop());
        }
        let undone = found.ok_or(JournalError::NoSuchAct(number))?;
        let subject = undone.subject;
        let change = undone.change.ok_or(JournalError::NotUndoable(number))?;
        if let Some(by) = self.standing_after(number, subject)? {
            return Err(JournalError::Superseded { subject, by });
        }
        if let Some(before) = &change.before {
            self.state.check_room(&subject, before.verdict).map_err(JournalError::Full)?;
        }
        let mut entry = self.entry("undo", subject, "", (who, now));
        entry.undoes = Some(number);
        entry.change = Some(Change { before: change.after, after: change.before });
        self.record(&entry)?;
        Ok(subject)
    }

    /// The latest act that decided about `subject` after act `number`, leaving out each that was taken back before
    /// another followed, and the one that took it back.
    fn standing_after(&self, number: u64, subject: Subject) -> Result<Option<u64>, JournalError> {
        let (mut standing, mut last) = (Vec::new(), number);
        let newest_first: Vec<PathBuf> = self.newest_first().collect();
        for path in newest_first.into_iter().rev() {
            Files::entries(&path, |entry| {
                // After a kill within a checkpoint, two files hold the same acts.
                if entry.number <= last || entry.subject != subject || entry.change.is_none() {
                    return;
                }
                last = entry.number;
                if entry.undoes.is_some() && entry.undoes == standing.last().copied() {
                    standing.pop();
                } else {
                    standing.push(entry.number);
                }
            })?;
        }
        Ok(standing.pop())
    }

    /// Records an act of another node, and makes its decision that of this one. The caller has found it to be the
    /// latest about its subject among the acts up to number `last`. Returns false if there are others by now.
    ///
    /// # Errors
    /// When it cannot be recorded, or there are too many decisions; nothing has changed then.
    pub fn adopt(&mut self, act: &AuditEntry, origin: Origin, last: u64) -> Result<bool, JournalError> {
        let _lock = self.locked()?;
        if self.state.last() != last {
            return Ok(false);
        }
        let before = self.state.get(&act.subject).cloned();
        let after = act.change.as_ref().and_then(|change| change.after.clone());
        if let Some(after) = &after {
            self.state.check_room(&act.subject, after.verdict).map_err(JournalError::Full)?;
        }
        let number = self.state.last() + 1;
        let after = after.map(|after| Decision { number, at: act.at, by: act.by.clone(), ..after });
        self.record(&AuditEntry {
            number,
            change: Some(Change { before, after }),
            undoes: None,
            events: None,
            origin: Some(origin),
            ..act.clone()
        })?;
        Ok(true)
    }

    /// Records that events of a subject are to be removed. No decision changes.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub fn note_purge(
        &mut self,
        subject: Subject,
        events: u64,
        reason: &str,
        (who, now): (&Actor, Timestamp),
    ) -> Result<(), JournalError> {
        let _lock = self.locked()?;
        let mut entry = self.entry("purge", subject, reason, (who, now));
        entry.events = Some(events);
        self.record(&entry)
    }

    /// The latest acts that are kept, the newest first: `count` of them after the first `skip`.
    ///
    /// # Errors
    /// When the files cannot be read, or are damaged.
    pub fn audit(&mut self, count: usize, skip: usize) -> Result<Vec<AuditEntry>, JournalError> {
        if !self.is_there()? {
            return Ok(Vec::new());
        }
        let _lock = self.locked()?;
        let [count, skip] = [count, skip].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
        let newest = self.state.last().saturating_sub(skip);
        let mut wanted = newest.saturating_sub(count) + 1..=newest;
        let mut all: Vec<AuditEntry> = Vec::new();
        for path in self.newest_first() {
            if wanted.is_empty() {
                break;
            }
            let found = audit_search::acts(&path, &wanted)?;
            let oldest = found.first().map_or(*wanted.end() + 1, |entry| entry.number);
            all.extend(found.into_iter().rev());
            // After a kill within a checkpoint, an older file holds the same acts.
            wanted = *wanted.start()..=oldest - 1;
        }
        Ok(all)
    }

    fn newest_first(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.files.audit()).chain((1..=OLDER).map(|age| self.files.older(age)))
    }

    /// Takes the lock, and reads what other processes recorded.
    fn locked(&mut self) -> Result<std::fs::File, JournalError> {
        self.is_there()?;
        let lock = self.files.lock()?;
        if Files::seen(&self.files.audit())? != self.seen {
            self.read()?;
        }
        Ok(lock)
    }

    fn entry(&self, method: &str, subject: Subject, reason: &str, (who, now): (&Actor, Timestamp)) -> AuditEntry {
        AuditEntry {
            number: self.state.last() + 1,
            at: now.0,
            by: who.by.clone(),
            method: method.into(),
            subject,
            reason: reason.into(),
            change: None,
            undoes: None,
            events: None,
            auth: who.auth.map(|id| id.to_string()),
            origin: None,
        }
    }

    /// Puts an act on disk, and then into the state.
    fn record(&mut self, entry: &AuditEntry) -> Result<(), JournalError> {
        self.seen = self.files.append(&self.files.audit(), entry)?;
        self.state.apply(entry);
        if Files::is_long(self.seen) {
            match self.files.checkpoint(&self.state) {
                Ok(seen) => self.seen = seen,
                // The act is recorded, and the next one tries again.
                Err(error) => tracing::error!(%error, "the audit could not be shortened"),
            }
        }
        Ok(())
    }
}
