//! Moving events: queries by ids and what they bring, events sent up and what the relay says to them.

use super::Session;
use crate::import::LineOutcome;
use crate::nostr::{Event, EventId, VerifiedEvent};
use crate::peer::event_id;
use crate::pipeline::now;
use crate::replication::error::SyncError;
use crate::replication::feed::Feed;
use crate::replication::local::Sending;
use crate::replication::refusal::Refusal;
use crate::replication::remembered::RemoteAbsence;
use crate::replication::scope::by_ids;
use crate::schnorr::{self, Verifier};

impl Session<'_> {
    /// Asks for more events, as many as may be in flight.
    pub(super) fn ask(&mut self) -> Result<(), SyncError> {
        let may_come = self.comparing.is_some() || !self.windows.is_empty();
        while let Some((name, ids)) = self.downloads.next_query(may_come) {
            self.connection.send(by_ids(&name, ids))?;
        }
        Ok(())
    }

    /// An event came.
    pub(super) async fn take_event(&mut self, name: &str, text: &str, feed: &mut Feed) -> Result<(), SyncError> {
        if self.visibility.event(name, event_id(text)) {
            self.advance();
            return Ok(());
        }
        let is_asked = self.downloads.event(name, event_id(text))? || self.page_event(name, text)?;
        if !is_asked || text.len() > self.task.max_event_bytes {
            // One that is too long counts as not delivered.
            self.report.arrived[LineOutcome::Unwanted as usize] += 1;
            return self.unasked();
        }
        if self.task.direction.is_down() && !self.task.only_tells {
            feed.push(text).await?;
            self.send_newer(text)?;
        }
        self.advance();
        Ok(())
    }

    /// Sends up the newer version of an event of the relay's, if we hold one outside of what is compared.
    fn send_newer(&mut self, text: &str) -> Result<(), SyncError> {
        if !self.task.direction.is_up() || self.task.scope.is_everything() {
            return Ok(());
        }
        let event = self.parser.parse(text.as_bytes(), |root| Event::from_value(root.as_array()?.nth(2)?).ok());
        let (Ok(Some(event)), scope) = (event, self.task.scope.whole()) else { return Ok(()) };
        if !scope.matches(event.view()) {
            return Ok(());
        }
        let Some(newer) = self.task.look().newer_outside(event.view(), &scope)? else { return Ok(()) };
        // Nobody gets what is outside by making up an older version of it.
        let verifier = self.verifier.get_or_insert_with(|| Verifier::new(schnorr::Options::default()));
        if VerifiedEvent::verify_one(verifier, event).is_ok() {
            self.report.missing_there += 1;
            self.uploads.add([newer]);
        }
        Ok(())
    }

    /// A query is answered in full.
    pub(super) fn end_query(&mut self, name: &str) -> Result<(), SyncError> {
        let hidden = self.visibility.end(name);
        let is_ours = hidden.is_some();
        hidden.into_iter().flatten().for_each(|id| self.task.remembered().keep(id, RemoteAbsence::Hidden, now()));
        if is_ours || self.downloads.end(name)? || self.end_page(name)? {
            self.advance();
            self.connection.send(format!("[\"CLOSE\",\"{name}\"]"))?;
        }
        Ok(())
    }

    /// A query was refused, or its subscription ended.
    pub(super) fn closed(&mut self, name: &str, reason: &str) -> Result<(), SyncError> {
        if self.visibility.refused(name) {
            // The next sync finds out.
            return Ok(());
        }
        let is_ours = self.downloads.is_open(name);
        if !is_ours && !self.page_refused(name) {
            // Its EOSE came before, or a relay answers NEG-OPEN this way.
            return self.not_compared(name, reason);
        }
        let refusal = Refusal::of(reason);
        if is_ours {
            self.downloads.again(name, refusal == Refusal::TooFast);
        }
        if matches!(refusal, Refusal::Other | Refusal::TooMany) && !self.may_yet_prove(reason) {
            return Err(SyncError::Refused(reason.into()));
        }
        self.try_again(reason)
    }

    /// Whether a refusal may be due to a key that is not proven yet: some relays say `restricted:` to strangers too.
    fn may_yet_prove(&self, reason: &str) -> bool {
        reason.starts_with("restricted") && self.task.key.is_some() && !self.auth.is_proven()
    }

    /// Sends more events up, as many as may be unanswered.
    pub(super) fn send_up(&mut self) -> Result<(), SyncError> {
        loop {
            let ids = self.uploads.next();
            if ids.is_empty() {
                return Ok(());
            }
            for (id, sending) in self.task.look().messages(&ids)? {
                match sending {
                    Sending::Message(text, kind) => {
                        self.uploads.sent(id, text.len());
                        if !self.task.settings.auth.is_for_anyone(kind) {
                            self.visibility.sent(id);
                        }
                        self.connection.send(text)?;
                    }
                    Sending::Protected => {
                        self.report.protected += 1;
                        self.task.remembered().keep(id, RemoteAbsence::Protected, now());
                    }
                    Sending::Gone => {}
                }
            }
        }
    }

    /// Asks whether what the relay has taken is shown.
    pub(super) fn ask_what_is_shown(&mut self) -> Result<(), SyncError> {
        let may_come = self.comparing.is_some() || !self.windows.is_empty() || !self.uploads.is_idle();
        match self.visibility.next_query(may_come) {
            Some((name, ids)) => Ok(self.connection.send(by_ids(&name, &ids))?),
            None => Ok(()),
        }
    }

    /// The relay's word on an event that was sent up.
    pub(super) fn sent_up(&mut self, id: EventId, accepted: bool, reason: &str) -> Result<(), SyncError> {
        if !self.uploads.answered(&id) {
            return self.unasked();
        }
        let is_duplicate = reason.starts_with("duplicate:");
        let is_ours = is_duplicate && self.uploads.may_have_arrived(&id);
        self.visibility.answered(&id, is_ours || (accepted && !is_duplicate));
        if !accepted && !is_duplicate {
            if matches!(Refusal::of(reason), Refusal::TooFast | Refusal::AuthRequired | Refusal::Dropped) {
                self.uploads.again(id);
                return self.try_again(reason);
            }
            self.report.refused_there += 1;
            self.report.reason(|| format!("{id} was refused there: {reason}"));
            self.task.remembered().keep(id, RemoteAbsence::Refused, now());
        } else if is_duplicate && !is_ours {
            self.report.sent_in_vain += 1;
            self.task.remembered().keep(id, RemoteAbsence::Hidden, now());
        } else {
            self.report.sent += 1;
        }
        self.advance();
        Ok(())
    }
}
