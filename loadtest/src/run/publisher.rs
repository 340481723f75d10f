//! The work of a publishing connection: it sends prepared EVENT frames and matches each with its OK.
//!
//! It must never encode or hash anything while the clock runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::asker::{Answers, MessageRole, Unanswered, Work, add};
use super::context::Context;
use super::holdings::{EventState, Holdings};
use crate::account::{Account, Finding, Replay};
use crate::corpus::event::decode_id;
use crate::corpus::library::Library;
use crate::limits::Limits;
use crate::scenario::phase::Expect;
use crate::wire::codec::Codec;
use crate::wire::message::Message;

/// Encoded EVENT messages, one behind the other.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    numbers: Vec<u32>,
}

impl Frames {
    fn push(&mut self, library: &Library, number: u32, codec: Codec) {
        encode_event(library.json(number), codec, &mut self.bytes);
        self.ends.push(self.bytes.len());
        self.numbers.push(number);
    }

    /// Deals the events to this many connections in turn.
    pub fn deal(context: &Context, numbers: impl Iterator<Item = u32>, connections: usize) -> Vec<Self> {
        let mut frames: Vec<Self> = (0..connections).map(|_| Self::default()).collect();
        for (turn, number) in numbers.enumerate() {
            frames[turn % connections].push(&context.library, number, context.codec);
        }
        frames
    }

    fn get(&self, at: usize) -> Option<(u32, &[u8])> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some((self.numbers[at], &self.bytes[start..end]))
    }
}

fn encode_event(json: &[u8], codec: Codec, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(json.len() + 10);
    text.extend_from_slice(b"[\"EVENT\",");
    text.extend_from_slice(json);
    text.push(b']');
    codec.text(&text, out);
}

/// The message that publishes an event, as text.
fn event_text(library: &Library, number: u32) -> String {
    format!("[\"EVENT\",{}]", String::from_utf8_lossy(library.json(number)))
}

/// The counters that all publishers of a phase share.
#[derive(Default)]
pub struct Tally {
    /// OKs that call an event a duplicate.
    pub duplicates: Cell<u64>,
    /// OK false for events that were replaced, deleted, have expired or are ephemeral: the relay's right.
    pub superseded: Cell<u64>,
}

/// How a publisher works.
#[derive(Clone)]
pub struct Rules {
    /// The events.
    pub library: Rc<Library>,
    /// The relay's answers about them.
    pub holdings: Rc<Holdings>,
    /// The limits that it states.
    pub limits: Rc<Limits>,
    /// Where findings go.
    pub account: Rc<Account>,
    /// Where answers are counted.
    pub answers: Rc<Answers>,
    /// Where other counts go.
    pub tally: Rc<Tally>,
    /// What every OK must say.
    pub expect: Expect,
    /// Events from this number on must be stored, whatever `expect` says.
    pub stored_from: u32,
    /// Start again when the frames end.
    pub cycle: bool,
    /// The form of messages.
    pub codec: Codec,
}

impl Rules {
    /// Publishes the run's events, with new counters.
    pub fn new(context: &Context, account: &Rc<Account>, expect: Expect) -> Self {
        Self {
            library: context.library.clone(),
            holdings: context.holdings.clone(),
            limits: context.limits.clone(),
            account: account.clone(),
            answers: Rc::default(),
            tally: Rc::default(),
            expect,
            stored_from: u32::MAX,
            cycle: false,
            codec: context.codec,
        }
    }
}

/// The state of one connection.
pub struct Publisher {
    rules: Rules,
    number: usize,
    frames: Frames,
    next: usize,
    /// Events that are chosen while the clock runs, in place of `frames`.
    chosen: VecDeque<u32>,
    unanswered: VecDeque<(u32, Instant)>,
}

impl Publisher {
    /// Publisher `number`, of these frames.
    pub fn new(rules: Rules, number: usize, frames: Frames) -> Self {
        Self { rules, number, frames, next: 0, chosen: VecDeque::new(), unanswered: VecDeque::new() }
    }

    /// The next event is this one. For a mix that is too long to be encoded beforehand: encoding takes about 0.1 us,
    /// and compressing 5 us.
    pub fn choose(&mut self, number: u32) {
        self.chosen.push_back(number);
    }

    /// The number of the event that comes next.
    pub fn upcoming(&self) -> Option<u32> {
        self.frames.numbers.get(self.next).copied()
    }

    fn ok(&mut self, id: &str, accepted: bool, text: &str, at: Instant) {
        let library = &self.rules.library;
        let position = decode_id(id.as_bytes())
            .and_then(|id| self.unanswered.iter().position(|&(number, _)| *library.id(number) == id));
        let Some((number, intended)) = position.and_then(|position| self.unanswered.remove(position)) else {
            let text = || format!("OK for {id}, which is not unanswered on this connection");
            return self.rules.account.note(Finding::StrayOk, text);
        };
        self.rules.answers.add(at.saturating_duration_since(intended));
        self.judge(number, accepted, text);
    }

    fn judge(&self, number: u32, accepted: bool, text: &str) {
        let Rules { library, holdings, account, tally, .. } = &self.rules;
        let duplicate = text.starts_with("duplicate:");
        if duplicate {
            add(&tally.duplicates, 1);
        }
        let before = holdings.get(number);
        let meta = library.meta(number);
        let finding = if !accepted && !duplicate {
            holdings.set(number, EventState::Refused);
            match before {
                _ if !meta.stored => return add(&tally.superseded, 1),
                _ if self.rules.limits.announce(text) => Finding::EventLimit,
                // The first refusal was a finding already.
                EventState::Refused => return,
                _ => Finding::RefusedEvent,
            }
        } else {
            if before != EventState::ReadBack {
                holdings.set(number, EventState::Stored);
            }
            let must_be_stored = number >= self.rules.stored_from;
            match if must_be_stored { Expect::Stored } else { self.rules.expect } {
                _ if !meta.stored => return,
                Expect::Stored if duplicate => Finding::UnexpectedDuplicate,
                Expect::Duplicate if !duplicate && matches!(before, EventState::Stored | EventState::ReadBack) => {
                    Finding::DuplicateAsNew
                }
                _ => return,
            }
        };
        account.keep_replay(finding, || Replay {
            connection: self.number,
            frames: vec![event_text(library, number)],
            answer: format!("OK {accepted} {text:?}"),
            ..Replay::default()
        });
        account.note(finding, || {
            let id = faster_hex::hex_string(library.id(number));
            format!("kind {} {id}: {accepted} {text:?}", meta.kind)
        });
    }
}

impl Work for Publisher {
    const NAME: &'static str = "publisher";
    const UNANSWERED: Finding = Finding::MissingOk;

    fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    fn ask(&mut self, intended: Instant, out: &mut Vec<u8>) -> bool {
        if let Some(number) = self.chosen.pop_front() {
            encode_event(self.rules.library.json(number), self.rules.codec, out);
            self.unanswered.push_back((number, intended));
            return true;
        }
        if self.next == self.frames.ends.len() && self.rules.cycle {
            self.next = 0;
        }
        let Some((number, frame)) = self.frames.get(self.next) else { return false };
        out.extend_from_slice(frame);
        self.unanswered.push_back((number, intended));
        self.next += 1;
        true
    }

    fn take(&mut self, message: Message<'_>, at: Instant, _out: &mut Vec<u8>) -> MessageRole {
        let Message::Ok { id, accepted, text } = message else { return MessageRole::Unexpected };
        self.ok(&id, accepted, &text, at);
        MessageRole::Answer
    }

    fn abandon(&mut self) -> Vec<Unanswered> {
        let (library, connection) = (&self.rules.library, self.number);
        let unanswered = |(number, _)| {
            let frames = vec![event_text(library, number)];
            let replay = Replay { connection, frames, ..Replay::default() };
            Unanswered { text: faster_hex::hex_string(library.id(number)), replay }
        };
        self.unanswered.drain(..).map(unanswered).collect()
    }
}
