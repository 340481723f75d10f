//! Turns text into verified events: the part of an import that runs on all cores.
//!
//! It reads the store but never changes it.

use std::borrow::Cow;
use std::sync::Arc;

use super::judge::Judge;
use super::origin::Origin;
use super::pieces::Piece;
use super::rules::Rules;
use super::split::{FoundValue, Splitter};
use super::verdict::{LineOutcome, Verdict};
use crate::nostr::json::Parser;
use crate::nostr::{Event, EventError, EventView, Reason, Timestamp, VerifiedEvent};
use crate::policy::{Decision, Settings, check_import};
use crate::schnorr::Verifier;
use crate::store::{Outcome, Snapshot, Store, StoreError};

/// Everything needed to check a piece.
pub struct Checker {
    pub store: Store,
    pub rules: Rules,
    pub verifier: Arc<Verifier>,
    /// Whether signatures are verified.
    pub verify: bool,
    /// The operator's program, if it is to judge these events.
    pub judge: Option<Judge>,
    pub max_line_bytes: usize,
}

/// A checked piece.
pub struct Checked {
    /// Where it came from.
    pub origin: Origin,
    /// Bytes of input.
    pub bytes: u64,
    /// The line on which the next piece begins.
    pub next_line: u64,
    /// The events to store.
    pub events: Vec<VerifiedEvent>,
    /// The line of each event.
    pub lines: Vec<u64>,
    /// The outcomes of all other values.
    pub verdicts: Vec<Verdict>,
}

impl Checked {
    /// What is known of a piece before it is checked.
    const fn of(origin: Origin, piece: &Piece) -> Self {
        let (bytes, next_line) = (piece.bytes, piece.next_line);
        Self { origin, bytes, next_line, events: Vec::new(), lines: Vec::new(), verdicts: Vec::new() }
    }

    fn reject(
        &mut self,
        line: u64,
        event: Option<EventView<'_>>,
        outcome: LineOutcome,
        reason: impl Into<Cow<'static, str>>,
    ) {
        let event = event.map(|event| (event.id(), event.created_at()));
        self.verdicts.push(Verdict { line, event, outcome, reason: reason.into() });
    }
}

impl Checker {
    /// Checks every value of a piece, under the rules as they are now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, origin: Origin, piece: &Piece, now: Timestamp) -> Result<Checked, StoreError> {
        let settings = self.rules.settings.load_full();
        let mut checked = Checked::of(origin, piece);
        let (mut lines, mut events) = (Vec::with_capacity(piece.values.len()), Vec::with_capacity(piece.values.len()));
        let snapshot = self.store.read()?;
        let mut take = |line, read: Result<Event, String>, checked: &mut Checked| -> Result<(), StoreError> {
            let event = match read {
                Ok(event) => event,
                Err(reason) => {
                    checked.reject(line, None, LineOutcome::Invalid, reason);
                    return Ok(());
                }
            };
            match self.refuse(&settings, &checked.origin, &snapshot, event.view(), now)? {
                Some((outcome, reason)) => checked.reject(line, Some(event.view()), outcome, reason),
                None => {
                    lines.push(line);
                    events.push(event);
                }
            }
            Ok(())
        };
        let mut parser = Parser::default();
        for FoundValue { line, text } in &piece.values {
            let Some(text) = text.clone().and_then(|range| piece.text.get(range)) else {
                take(*line, Err(self.too_long()), &mut checked)?;
                continue;
            };
            match self.read(&mut parser, text) {
                // There may be several values on the line.
                Err(_) if matches!(text.first(), Some(b'{' | b'[')) => {
                    let mut splitter = Splitter::new(*line, false, usize::MAX);
                    while let Some(FoundValue { line, text: range }) = splitter.next(text, true) {
                        let text = range.and_then(|range| text.get(range)).unwrap_or_default();
                        take(line, self.read(&mut parser, text), &mut checked)?;
                    }
                }
                read => take(*line, read, &mut checked)?,
            }
        }
        drop(snapshot);
        self.verify(lines, events, &mut checked);
        self.judge(&mut checked);
        Ok(checked)
    }

    fn too_long(&self) -> String {
        format!("the line is longer than {} bytes", self.max_line_bytes)
    }

    /// Parses an event, or an EVENT message that holds one.
    fn read(&self, parser: &mut Parser, text: &[u8]) -> Result<Event, String> {
        if text.len() > self.max_line_bytes {
            return Err(self.too_long());
        }
        let read = parser.parse(text, |root| match root.as_array() {
            None => Event::from_value(root).map_err(|error| error.to_string()),
            Some(elements) => match elements.collect::<Vec<_>>()[..] {
                // From a client, or from a relay with the subscription.
                [verb, event] | [verb, _, event] if verb.as_str() == Some("EVENT") => {
                    Event::from_value(event).map_err(|error| error.to_string())
                }
                _ => Err("neither an event nor an EVENT message".to_owned()),
            },
        });
        read.unwrap_or_else(|error| Err(EventError::from(error).to_string()))
    }

    /// The outcome and reason of an event that need not be committed; `None` for all others.
    fn refuse(
        &self,
        settings: &Settings,
        origin: &Origin,
        snapshot: &Snapshot<'_>,
        event: EventView<'_>,
        now: Timestamp,
    ) -> Result<Option<(LineOutcome, Cow<'static, str>)>, StoreError> {
        if !origin.wants(event) {
            return Ok(Some((LineOutcome::Unwanted, LineOutcome::Unwanted.reason().into())));
        }
        let policy = check_import(settings, event, origin.source(), now);
        let outcome = if let Err(refusal) = policy {
            (LineOutcome::Refused, refusal.reason.text)
        } else if policy == Ok(Decision::Mute) {
            (LineOutcome::Refused, "it is muted".into())
        } else if let Err(reason) = settings.retention.check_age(event, now) {
            (LineOutcome::NotKept, reason.text)
        } else if event.kind().is_ephemeral() {
            (LineOutcome::Ephemeral, LineOutcome::Ephemeral.reason().into())
        } else if let Some(outcome) = Outcome::of(snapshot.status(event, now)?).and_then(LineOutcome::of) {
            // This needs no signature check, since the id is known to be the hash of the content.
            (outcome, outcome.reason().into())
        } else if let Err(reason) = self.check_horizons(settings, snapshot, event, now)? {
            (LineOutcome::NotKept, reason.text)
        } else {
            return Ok(None);
        };
        Ok(Some(outcome))
    }

    /// Whether the rules would keep the event, given the events that are stored.
    fn check_horizons(
        &self,
        settings: &Settings,
        snapshot: &Snapshot<'_>,
        event: EventView<'_>,
        now: Timestamp,
    ) -> Result<Result<(), Reason>, StoreError> {
        let (rules, horizons) = (&settings.retention, &self.rules.horizons);
        horizons.look(rules, event.pubkey(), snapshot, now, u32::MAX)?;
        Ok(horizons.check(rules, event, now))
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
                Err(event) => {
                    checked.reject(line, Some(event.view()), LineOutcome::Invalid, "the signature is wrong");
                }
            }
        }
    }

    /// Has the plugin judge the events whose signature is good.
    fn judge(&self, checked: &mut Checked) {
        let Some(judge) = &self.judge else { return };
        let (lines, events) = (std::mem::take(&mut checked.lines), std::mem::take(&mut checked.events));
        for (line, (event, refusal)) in lines.into_iter().zip(judge.judge(events, &checked.origin)) {
            match refusal {
                None => {
                    checked.lines.push(line);
                    checked.events.push(event);
                }
                Some(reason) => checked.reject(line, Some(event.view()), LineOutcome::Refused, reason),
            }
        }
    }
}
