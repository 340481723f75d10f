//! One publishing connection: sends prepared frames, matches every OK to the EVENT it answers.
//!
//! It must never encode or hash anything while the clock runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::asker::{Answers, Asker, Finish, add};
use super::progress::Progress;
use crate::account::{Account, Violation};
use crate::corpus::library::{Library, decode_id};
use crate::scenario::Expect;
use crate::wire::frame::{encode, opcode};
use crate::wire::link::{Handler, Link, MASK};
use crate::wire::message::{Message, parse};

/// Encoded EVENT messages, one behind the other.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    numbers: Vec<u32>,
}

impl Frames {
    /// Appends the event of this number.
    pub fn push(&mut self, library: &Library, number: u32) {
        let json = library.json(number);
        let mut text = Vec::with_capacity(json.len() + 10);
        text.extend_from_slice(b"[\"EVENT\",");
        text.extend_from_slice(json);
        text.push(b']');
        encode(opcode::TEXT, &text, MASK, &mut self.bytes);
        self.ends.push(self.bytes.len());
        self.numbers.push(number);
    }

    fn range(&self, from: usize, to: usize) -> &[u8] {
        let start = from.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[to - 1]]
    }
}

/// What all publishers of a phase count together.
#[derive(Default)]
pub struct Tally {
    /// EVENTs, and the OKs for them.
    pub answers: Answers,
    /// Of those, duplicates.
    pub duplicates: Cell<u64>,
}

/// How a publisher works.
#[derive(Clone)]
pub struct Rules {
    /// The events.
    pub library: Rc<Library>,
    /// Where faults go.
    pub account: Rc<Account>,
    /// Where counts go.
    pub tally: Rc<Tally>,
    /// Who waits for the end.
    pub progress: Rc<Progress>,
    /// Closed loop: unanswered events; 0 for an open loop.
    pub in_flight: usize,
    /// What OKs have to say.
    pub expect: Expect,
    /// Events from this number on must be stored, whatever `expect` says.
    pub stored_from: u32,
    /// Closed loop: when to stop.
    pub deadline: Option<Instant>,
    /// Start again when the frames end (needs a deadline).
    pub cycle: bool,
}

/// The state of one connection.
pub struct Publisher {
    rules: Rules,
    frames: Frames,
    next: usize,
    unanswered: VecDeque<(u32, Instant)>,
    /// Nothing more will be sent.
    ended: bool,
    finish: Finish,
}

impl Publisher {
    /// A publisher of these frames.
    pub fn new(rules: Rules, frames: Frames) -> Self {
        // In a closed loop there is nothing to wait for without events; in an open loop somebody else says when it ends.
        let ended = frames.ends.is_empty() && rules.in_flight > 0;
        Self { rules, frames, next: 0, unanswered: VecDeque::new(), ended, finish: Finish::default() }
    }

    /// Closed loop: sends until `in_flight` events are unanswered, in one write.
    pub fn fill(&mut self, link: &Link, now: Instant) {
        if self.rules.deadline.is_some_and(|deadline| now >= deadline) {
            self.ended = true;
        }
        if !self.ended {
            let room = self.rules.in_flight.saturating_sub(self.unanswered.len());
            let to = (self.next + room).min(self.frames.ends.len());
            if to > self.next {
                link.send(self.frames.range(self.next, to));
                let numbers = &self.frames.numbers[self.next..to];
                self.unanswered.extend(numbers.iter().map(|&number| (number, now)));
                self.next = to;
            }
            if self.next == self.frames.ends.len() {
                self.next = 0;
                self.ended = !self.rules.cycle;
            }
        }
        self.check_finished();
    }

    /// Open loop over a mix that is too long to be encoded beforehand: encodes one event (about 0.1 us) and sends it.
    pub fn send_number(&mut self, link: &Link, number: u32, intended: Instant) {
        let mut frames = Frames::default();
        frames.push(&self.rules.library, number);
        link.send(&frames.bytes);
        self.rules.tally.answers.lag.borrow_mut().record(intended.elapsed());
        self.unanswered.push_back((number, intended));
    }

    /// The number of the event that [`Self::send_due`] will send.
    pub fn upcoming(&self) -> Option<u32> {
        self.frames.numbers.get(self.next).copied()
    }

    fn check_finished(&mut self) {
        if self.ended && self.unanswered.is_empty() {
            self.finish.tell(&self.rules.progress);
        }
    }

    fn ok(&mut self, id: &str, accepted: bool, text: &str, at: Instant) {
        let library = self.rules.library.clone();
        let account = self.rules.account.clone();
        let position = decode_id(id.as_bytes())
            .and_then(|id| self.unanswered.iter().position(|&(number, _)| *library.id(number) == id));
        let Some((number, intended)) = position.and_then(|position| self.unanswered.remove(position)) else {
            account.note(Violation::StrayOk, || format!("OK for {id}, which is not unanswered on this connection"));
            return;
        };
        let tally = &self.rules.tally;
        tally.answers.add(at.saturating_duration_since(intended));
        let duplicate = text.starts_with("duplicate:");
        if duplicate {
            add(&tally.duplicates, 1);
        }
        let kind = library.meta(number).kind;
        let message = || format!("kind {kind} {id}: {accepted} {text:?}");
        let must_be_stored = number >= self.rules.stored_from;
        match if must_be_stored { Expect::Stored } else { self.rules.expect } {
            Expect::Stored if duplicate => account.note(Violation::UnexpectedDuplicate, message),
            _ if !accepted && !duplicate => account.note(Violation::RefusedEvent, message),
            _ => {}
        }
    }
}

impl Asker for Publisher {
    fn start(&mut self, link: &Link, now: Instant) {
        self.fill(link, now);
    }

    fn send_due(&mut self, link: &Link, intended: Instant) {
        let at = self.next;
        let Some(&number) = self.frames.numbers.get(at) else { return };
        link.send(self.frames.range(at, at + 1));
        self.rules.tally.answers.lag.borrow_mut().record(intended.elapsed());
        self.unanswered.push_back((number, intended));
        self.next += 1;
    }

    fn end(&mut self) {
        self.ended = true;
        self.check_finished();
    }

    fn settle(&mut self) {
        let count = self.unanswered.len() as u64;
        let first = self.unanswered.front().map(|&(number, _)| faster_hex::hex_string(self.rules.library.id(number)));
        self.rules.account.note_many(Violation::MissingOk, count, || {
            format!("{count} events without OK, the first is {}", first.unwrap_or_default())
        });
        self.unanswered.clear();
    }
}

impl Handler for Publisher {
    fn message(&mut self, _link: &Link, text: &[u8], at: Instant) {
        self.rules.progress.touch(at);
        match parse(text) {
            Ok(Message::Ok { id, accepted, text }) => self.ok(&id, accepted, &text, at),
            Ok(Message::Notice(text)) => self.rules.account.notice(&text),
            Ok(Message::Other) => {}
            Ok(other) => {
                self.rules.account.note(Violation::Malformed, || format!("on a publishing connection: {other:?}"));
            }
            Err(reason) => malformed(&self.rules.account, reason, text),
        }
    }

    fn batch_end(&mut self, link: &Link, at: Instant) {
        if self.rules.in_flight > 0 {
            self.fill(link, at);
        } else {
            self.check_finished();
        }
    }

    fn closed(&mut self, reason: &str, asked: bool) {
        if !asked {
            self.rules.account.note(Violation::LostConnection, || format!("a publisher: {reason}"));
            self.ended = true;
            self.finish.tell(&self.rules.progress);
        }
    }
}

/// Notes a message that is none.
pub fn malformed(account: &Account, reason: &str, text: &[u8]) {
    account.note(Violation::Malformed, || format!("{reason}: {}", String::from_utf8_lossy(text)));
}
