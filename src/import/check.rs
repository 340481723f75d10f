//! From text to verified events: the part of an import that runs on many cores.
//!
//! It reads the store and changes nothing.

use std::borrow::Cow;
use std::sync::Arc;

use super::pieces::Piece;
use super::split::{Found, Splitter};
use super::{Fate, Verdict};
use crate::nostr::json::Parser;
use crate::nostr::{Event, EventError, EventView, Reason, Timestamp, VerifiedEvent};
use crate::policy::{Settings, check_import};
use crate::retention::Horizons;
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

/// A piece whose values were looked at.
#[derive(Default)]
pub struct Checked {
    /// Bytes of input.
    pub bytes: u64,
    /// The line on which the next piece begins.
    pub next_line: u64,
    /// What is to be stored, with the lines it came from.
    pub events: Vec<VerifiedEvent>,
    /// The line of each event.
    pub lines: Vec<u64>,
    /// What became of the other values.
    pub verdicts: Vec<Verdict>,
}

impl Checked {
    fn settle(&mut self, line: u64, fate: Fate, reason: impl Into<Cow<'static, str>>) {
        self.verdicts.push(Verdict { line, fate, reason: reason.into() });
    }
}

impl Checker {
    /// Looks at every value of a piece.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, piece: &Piece, now: Timestamp) -> Result<Checked, StoreError> {
        let mut checked = Checked { bytes: piece.bytes, next_line: piece.next_line, ..Checked::default() };
        let (mut lines, mut events) = (Vec::with_capacity(piece.values.len()), Vec::with_capacity(piece.values.len()));
        let snapshot = self.store.read()?;
        let mut take = |line, read: Result<Event, String>, checked: &mut Checked| -> Result<(), StoreError> {
            let event = match read {
                Ok(event) => event,
                Err(reason) => {
                    checked.settle(line, Fate::Invalid, reason);
                    return Ok(());
                }
            };
            match self.refuse(&snapshot, event.view(), now)? {
                Some((fate, reason)) => checked.settle(line, fate, reason),
                None => {
                    lines.push(line);
                    events.push(event);
                }
            }
            Ok(())
        };
        let mut parser = Parser::default();
        for Found { line, text } in &piece.values {
            let Some(text) = text.clone().and_then(|range| piece.text.get(range)) else {
                take(*line, Err(self.too_long()), &mut checked)?;
                continue;
            };
            match self.read(&mut parser, text) {
                // Perhaps there are several on the line.
                Err(_) if matches!(text.first(), Some(b'{' | b'[')) => {
                    let mut splitter = Splitter::new(*line, false, usize::MAX);
                    while let Some(Found { line, text: range }) = splitter.next(text, true) {
                        let text = range.and_then(|range| text.get(range)).unwrap_or_default();
                        take(line, self.read(&mut parser, text), &mut checked)?;
                    }
                }
                read => take(*line, read, &mut checked)?,
            }
        }
        drop(snapshot);
        self.verify(lines, events, &mut checked);
        Ok(checked)
    }

    fn too_long(&self) -> String {
        format!("the line is longer than {} bytes", self.max_line_bytes)
    }

    /// Reads an event, or a relay message that holds one; else the reason.
    fn read(&self, parser: &mut Parser, text: &[u8]) -> Result<Event, String> {
        if text.len() > self.max_line_bytes {
            return Err(self.too_long());
        }
        let read = parser.parse(text, |root| match root.as_array() {
            None => Event::from_value(root).map_err(|error| error.to_string()),
            Some(elements) => match elements.collect::<Vec<_>>()[..] {
                // From a client, and from a relay with its subscription.
                [verb, event] | [verb, _, event] if verb.as_str() == Some("EVENT") => {
                    Event::from_value(event).map_err(|error| error.to_string())
                }
                _ => Err("neither an event nor a message with one".to_owned()),
            },
        });
        read.unwrap_or_else(|error| Err(EventError::from(error).to_string()))
    }

    /// What becomes of an event that need not be tried, and why.
    fn refuse(
        &self,
        snapshot: &Snapshot<'_>,
        event: EventView<'_>,
        now: Timestamp,
    ) -> Result<Option<(Fate, Cow<'static, str>)>, StoreError> {
        let fate = if let Err(reason) = check_import(&self.settings, event) {
            (Fate::Refused, reason.text)
        } else if let Err(reason) = self.settings.retention.check_age(event, now) {
            (Fate::NotKept, reason.text)
        } else if event.kind().is_ephemeral() {
            (Fate::Ephemeral, Fate::Ephemeral.reason().into())
        } else if let Some(fate) = known(snapshot.status(event, now)?) {
            // Sound before any signature work, since the id was checked against the content.
            (fate, fate.reason().into())
        } else if let Err(reason) = self.check_horizons(snapshot, event, now)? {
            (Fate::NotKept, reason.text)
        } else {
            return Ok(None);
        };
        Ok(Some(fate))
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
        Ok(self.horizons.check(rules, event, now))
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
