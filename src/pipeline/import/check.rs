//! From text to verified events: the part of an import that runs on many cores.
//!
//! It reads the store and changes nothing.

use std::borrow::Cow;
use std::sync::Arc;

use super::lines::Piece;
use super::{Fate, Verdict};
use crate::nostr::json::Parser;
use crate::nostr::{Event, EventView, Reason, Timestamp, VerifiedEvent};
use crate::pipeline::retention::Horizons;
use crate::policy::{Settings, check_import};
use crate::schnorr::Verifier;
use crate::store::{Known, Snapshot, Store, StoreError};

/// What checking a piece needs.
pub struct Checker {
    pub store: Store,
    pub settings: Settings,
    /// How far the rules have come: what they removed does not come back by this way either.
    pub horizons: Horizons,
    pub verifier: Arc<Verifier>,
    /// Whether signatures are checked or taken on trust.
    pub verify: bool,
    pub max_line_bytes: usize,
}

/// A piece whose lines were looked at.
#[derive(Default)]
pub struct Checked {
    /// Bytes of input.
    pub bytes: u64,
    /// The number of its last line.
    pub last_line: u64,
    /// What is to be stored, with the lines it came from.
    pub events: Vec<VerifiedEvent>,
    /// The line of each event.
    pub lines: Vec<u64>,
    /// What became of the other lines, but for empty ones.
    pub verdicts: Vec<Verdict>,
}

impl Checked {
    fn settle(&mut self, line: u64, fate: Fate, reason: impl Into<Cow<'static, str>>) {
        self.verdicts.push(Verdict { line, fate, reason: reason.into() });
    }
}

impl Checker {
    /// Looks at every line of a piece.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, piece: &Piece, now: Timestamp) -> Result<Checked, StoreError> {
        let mut checked = Checked { bytes: piece.bytes(), ..Checked::default() };
        match piece {
            Piece::TooLong { line, .. } => {
                checked.last_line = *line;
                checked.settle(*line, Fate::Invalid, self.too_long());
            }
            Piece::Lines { first, text } => self.check_lines(*first, text, now, &mut checked)?,
        }
        Ok(checked)
    }

    fn too_long(&self) -> String {
        format!("the line is longer than {} bytes", self.max_line_bytes)
    }

    fn check_lines(&self, first: u64, text: &[u8], now: Timestamp, checked: &mut Checked) -> Result<(), StoreError> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut parser = Parser::default();
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let snapshot = self.store.read()?;
        for (number, line) in (first..).zip(text.split(|&byte| byte == b'\n')) {
            checked.last_line = number;
            if line.trim_ascii().is_empty() {
                continue;
            }
            if line.len() > self.max_line_bytes {
                checked.settle(number, Fate::Invalid, self.too_long());
                continue;
            }
            let event = match Event::parse(&mut parser, line) {
                Ok(event) => event,
                Err(error) => {
                    checked.settle(number, Fate::Invalid, error.to_string());
                    continue;
                }
            };
            if let Err(reason) = check_import(&self.settings, event.view()) {
                checked.settle(number, Fate::Refused, reason.text);
            } else if let Err(reason) = self.settings.retention.check_age(event.view(), now) {
                checked.settle(number, Fate::NotKept, reason.text);
            } else if event.view().kind().is_ephemeral() {
                checked.settle(number, Fate::Ephemeral, Fate::Ephemeral.reason());
            } else if let Some(fate) = known(snapshot.status(event.view(), now)?) {
                // Sound before any signature work, since the id was checked against the content.
                checked.settle(number, fate, fate.reason());
            } else if let Err(reason) = self.check_horizons(&snapshot, event.view(), now)? {
                checked.settle(number, Fate::NotKept, reason.text);
            } else {
                lines.push(number);
                events.push(event);
            }
        }
        drop(snapshot);
        self.verify(lines, events, checked);
        Ok(())
    }

    /// Whether the rules would keep the event beside what is held.
    fn check_horizons(
        &self,
        snapshot: &Snapshot<'_>,
        event: EventView<'_>,
        now: Timestamp,
    ) -> Result<Result<(), Reason>, StoreError> {
        let rules = &self.settings.retention;
        self.horizons.look(rules, event.pubkey(), snapshot, now, u32::MAX)?;
        Ok(self.horizons.check(rules, event))
    }

    fn verify(&self, lines: Vec<u64>, events: Vec<Event>, checked: &mut Checked) {
        if !self.verify {
            checked.lines = lines;
            checked.events = events.into_iter().map(VerifiedEvent::trust).collect();
            return;
        }
        for (line, verdict) in lines.into_iter().zip(VerifiedEvent::verify(&self.verifier, events)) {
            match verdict {
                Ok(event) => {
                    checked.lines.push(line);
                    checked.events.push(event);
                }
                Err(_) => checked.settle(line, Fate::Invalid, "the signature is wrong"),
            }
        }
    }
}

/// What the store's knowledge of an event makes of its line; `None` when it has to be tried.
const fn known(known: Known) -> Option<Fate> {
    match known {
        Known::New => None,
        Known::Stored => Some(Fate::Duplicate),
        Known::Deleted => Some(Fate::Deleted),
        Known::Vanished => Some(Fate::Vanished),
        Known::Superseded => Some(Fate::Replaced),
        Known::Expired => Some(Fate::Expired),
    }
}
