//! One querying connection: REQ, rows, EOSE, CLOSE; every answer is compared with the prepared one.
//!
//! It must never build a filter while the clock runs, and never have one subscription id open twice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::asker::{Answers, Asker, Finish, add};
use super::progress::Progress;
use super::publisher::malformed;
use crate::account::{Account, Violation};
use crate::corpus::library::Library;
use crate::query::answer::{Question, Row, judge};
use crate::query::filter::Filter;
use crate::query::shape::Shape;
use crate::wire::frame::{encode, opcode};
use crate::wire::link::{Handler, Link, MASK};
use crate::wire::message::{Message, event_id, parse};

/// A query ready to be sent.
pub struct Prepared {
    shape: Shape,
    filter: Filter,
    req: Vec<u8>,
    close: Vec<u8>,
    expected: Vec<u32>,
    /// The last answer that differed and was right all the same, and whether it held events from outside the corpus.
    judged: RefCell<Option<(Vec<Row>, bool)>>,
}

impl Prepared {
    /// Encodes query `number` with the answer it must get.
    pub fn new(number: usize, shape: Shape, filter: Filter, expected: Vec<u32>) -> Self {
        let (mut req, mut close) = (Vec::new(), Vec::new());
        encode(opcode::TEXT, format!("[\"REQ\",\"q{number}\",{}]", filter.json()).as_bytes(), MASK, &mut req);
        encode(opcode::TEXT, format!("[\"CLOSE\",\"q{number}\"]").as_bytes(), MASK, &mut close);
        Self { shape, filter, req, close, expected, judged: RefCell::default() }
    }

    /// Rows of the expected answer.
    pub fn expected_rows(&self) -> usize {
        self.expected.len()
    }
}

/// What all queriers of a phase count together.
#[derive(Default)]
pub struct Tally {
    /// REQs, and the EOSEs for them.
    pub answers: Answers,
    /// Rows in the answers.
    pub rows: Cell<u64>,
    /// Answers that held events from outside the corpus and so could not be compared row by row.
    pub inexact: Cell<u64>,
    /// Live events between EOSE and CLOSE.
    pub late: Cell<u64>,
}

/// How a querier works.
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
    /// The queries, asked in turn.
    pub queries: Rc<Vec<Prepared>>,
    /// Most REQs open at a time; must not exceed the number of queries.
    pub in_flight: usize,
    /// Closed loop: send the next query as soon as one is answered.
    pub closed_loop: bool,
    /// Closed loop: queries left for all connections.
    pub left: Rc<Cell<u64>>,
    /// Closed loop: when to stop.
    pub deadline: Option<Instant>,
    /// Compare row by row.
    pub exact: bool,
    /// Events are being published: rows may come after EOSE.
    pub live: bool,
    /// First event that this run published.
    pub live_from: u32,
}

struct Flight {
    query: usize,
    intended: Instant,
    rows: Vec<u32>,
    /// Rows from outside the library, in the order of their [`FOREIGN`] marks.
    foreign: Vec<Vec<u8>>,
}

/// Stands in [`Flight::rows`] for an event that is not in the library.
const FOREIGN: u32 = u32::MAX;

/// The state of one connection.
pub struct Querier {
    rules: Rules,
    turn: usize,
    flights: Vec<Flight>,
    due: VecDeque<Instant>,
    out: Vec<u8>,
    spare: Vec<Vec<u32>>,
    intact: Intact,
    ended: bool,
    finish: Finish,
}

impl Querier {
    /// Querier `number`; it starts at another query than its neighbours.
    pub fn new(rules: Rules, number: usize) -> Self {
        let turn = number * 7919;
        Self {
            rules,
            turn,
            flights: Vec::new(),
            due: VecDeque::new(),
            out: Vec::new(),
            spare: Vec::new(),
            intact: Intact::default(),
            ended: false,
            finish: Finish::default(),
        }
    }

    fn take_turns(&mut self, now: Instant) {
        if !self.rules.closed_loop {
            return;
        }
        let stop = self.rules.deadline.is_some_and(|deadline| now >= deadline);
        while self.flights.len() + self.due.len() < self.rules.in_flight {
            let left = self.rules.left.get();
            if stop || left == 0 {
                self.ended = true;
                return;
            }
            self.rules.left.set(left - 1);
            self.due.push_back(now);
        }
    }

    fn send_waiting(&mut self, link: &Link) {
        while self.flights.len() < self.rules.in_flight
            && let Some(intended) = self.due.pop_front()
        {
            let query = self.turn % self.rules.queries.len();
            self.turn += 1;
            self.out.extend_from_slice(&self.rules.queries[query].req);
            let mut rows = self.spare.pop().unwrap_or_default();
            rows.clear();
            self.flights.push(Flight { query, intended, rows, foreign: Vec::new() });
            if !self.rules.closed_loop {
                self.rules.tally.answers.lag.borrow_mut().record(intended.elapsed());
            }
        }
        if !self.out.is_empty() {
            link.send(&self.out);
            self.out.clear();
        }
    }

    fn flight(&self, sub: &str) -> Option<usize> {
        let query: usize = sub.strip_prefix('q')?.parse().ok()?;
        self.flights.iter().position(|flight| flight.query == query)
    }

    fn row(&mut self, sub: &str, event: &[u8]) {
        let rules = &self.rules;
        add(&rules.tally.rows, 1);
        let Some(at) = self.flight(sub) else {
            if rules.live {
                add(&rules.tally.late, 1);
            } else {
                rules.account.note(Violation::LateRow, || format!("on {sub}"));
            }
            return;
        };
        let Some(id) = event_id(event) else {
            return malformed(&rules.account, "an event without id", event);
        };
        let flight = &mut self.flights[at];
        // Rows usually come as expected, which saves the lookup.
        let next = rules.queries[flight.query].expected.get(flight.rows.len()).copied();
        let guess = next.filter(|&number| *rules.library.id(number) == id);
        match guess.or_else(|| rules.library.find(&id)) {
            Some(number) => {
                self.intact.check(&rules.library, number, event, &rules.account);
                flight.rows.push(number);
            }
            None => {
                flight.foreign.push(event.to_vec());
                flight.rows.push(FOREIGN);
            }
        }
    }

    fn eose(&mut self, sub: &str, at: Instant) {
        let Some(position) = self.flight(sub) else {
            self.rules.account.note(Violation::StrayEose, || format!("on {sub}"));
            return;
        };
        let mut flight = self.flights.swap_remove(position);
        self.rules.tally.answers.add(at.saturating_duration_since(flight.intended));
        let query = &self.rules.queries[flight.query];
        self.out.extend_from_slice(&query.close);
        if flight.rows != query.expected {
            self.judge(&mut flight);
        }
        self.spare.push(flight.rows);
    }

    /// Looks closer at an answer that is not the expected one. The last good one of each query is kept, so that an
    /// answer that only holds other people's events is not looked at again each time.
    fn judge(&self, flight: &mut Flight) {
        let rules = &self.rules;
        let query = &rules.queries[flight.query];
        let mut foreign = std::mem::take(&mut flight.foreign).into_iter();
        let row = |&number: &u32| match number {
            FOREIGN => Row::Foreign(foreign.next().unwrap_or_default()),
            number => Row::Known(number),
        };
        let rows: Vec<Row> = flight.rows.iter().map(row).collect();
        let mut judged = query.judged.borrow_mut();
        if let Some((good, inexact)) = &*judged
            && *good == rows
        {
            return add(&rules.tally.inexact, u64::from(*inexact));
        }
        let question = Question {
            shape: query.shape.name(),
            filter: &query.filter,
            expected: rules.exact.then_some(query.expected.as_slice()),
            live_from: rules.live_from,
            live: rules.live,
        };
        let verdict = judge(&question, &rows, &rules.library, &rules.account);
        add(&rules.tally.inexact, u64::from(verdict.inexact));
        if !verdict.faulty {
            *judged = Some((rows, verdict.inexact));
        }
    }

    fn refused(&mut self, sub: &str, text: &str) {
        // Some relays also confirm our CLOSE with CLOSED; only an open REQ is refused.
        let Some(position) = self.flight(sub) else {
            return;
        };
        let flight = self.flights.swap_remove(position);
        let query = &self.rules.queries[flight.query];
        self.rules.account.note(Violation::RefusedRequest, || format!("{}: {text}", query.shape.name()));
    }

    fn check_finished(&mut self) {
        if self.ended && self.flights.is_empty() && self.due.is_empty() {
            self.finish.tell(&self.rules.progress);
        }
    }
}

impl Asker for Querier {
    fn start(&mut self, link: &Link, now: Instant) {
        self.take_turns(now);
        self.send_waiting(link);
        self.check_finished();
    }

    /// A query is sent at once unless too many are open.
    fn send_due(&mut self, link: &Link, intended: Instant) {
        self.due.push_back(intended);
        self.send_waiting(link);
    }

    fn end(&mut self) {
        self.ended = true;
        self.check_finished();
    }

    fn settle(&mut self) {
        for flight in self.flights.drain(..) {
            let query = &self.rules.queries[flight.query];
            self.rules.account.note(Violation::MissingEose, || {
                format!("{}: {} rows and no EOSE", query.shape.name(), flight.rows.len())
            });
        }
        let unsent = self.due.len() as u64;
        self.rules
            .account
            .note_many(Violation::MissingEose, unsent, || format!("{unsent} queries could not be sent in time"));
    }
}

impl Handler for Querier {
    fn message(&mut self, _link: &Link, text: &[u8], at: Instant) {
        match parse(text) {
            Ok(Message::Event { sub, event }) => self.row(&sub, &event),
            Ok(Message::Eose { sub }) => self.eose(&sub, at),
            Ok(Message::Closed { sub, text }) => self.refused(&sub, &text),
            Ok(Message::Notice(text)) => self.rules.account.notice(&text),
            Ok(Message::Other) => {}
            Ok(other) => malformed(&self.rules.account, "on a querying connection", format!("{other:?}").as_bytes()),
            Err(reason) => malformed(&self.rules.account, reason, text),
        }
    }

    fn batch_end(&mut self, link: &Link, at: Instant) {
        self.rules.progress.touch(at);
        self.take_turns(at);
        self.send_waiting(link);
        self.check_finished();
    }

    fn closed(&mut self, reason: &str, asked: bool) {
        if !asked {
            self.rules.account.note(Violation::LostConnection, || format!("a querier: {reason}"));
            self.finish.tell(&self.rules.progress);
        }
    }
}

/// Compares delivered JSON with what was published.
#[derive(Default)]
pub struct Intact {
    reordered: u32,
}

impl Intact {
    /// Byte equality is enough and cheap. A relay may write the same event differently; then one in 64 is parsed.
    pub fn check(&mut self, library: &Library, number: u32, event: &[u8], account: &Account) {
        let published = library.json(number);
        if event == published {
            return;
        }
        self.reordered = self.reordered.wrapping_add(1);
        if self.reordered % 64 != 1 {
            return;
        }
        let value = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).ok();
        if value(event).is_none_or(|event| Some(event) != value(published)) {
            account.note(Violation::CorruptEvent, || String::from_utf8_lossy(event).into_owned());
        }
    }
}
