//! The work of a querying connection: REQ, rows, EOSE, CLOSE. Every answer is compared with the prepared one.
//!
//! It must never build a filter while the clock runs, and never have one subscription id open twice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::asker::{Answers, MessageRole, Unanswered, Work, add};
use super::bodies::Bodies;
use super::context::Context;
use super::holdings::Holdings;
use crate::account::{Account, Finding, Replay};
use crate::corpus::event::Verifier;
use crate::corpus::library::Library;
use crate::limits::Limits;
use crate::query::answer::{Key, Question, Row, judge};
use crate::query::filter::Filter;
use crate::wire::codec::Codec;
use crate::wire::message::{Message, event_id};

/// REQs open at a time on one connection of a mixed phase; the others wait in the generator, and their latency counts
/// from when they were due.
pub const MIXED_IN_FLIGHT: usize = 8;

/// A query ready to be sent.
pub struct Prepared {
    shape: &'static str,
    filter: Filter,
    req: Vec<u8>,
    close: Vec<u8>,
    expected: Vec<u32>,
    /// The last answer that differed and was right all the same, and whether it held events from elsewhere.
    judged: RefCell<Option<(Vec<Row>, bool)>>,
}

impl Prepared {
    /// Encodes query `number` with the answer it must get.
    pub fn new(number: usize, shape: &'static str, filter: Filter, expected: Vec<u32>, codec: Codec) -> Self {
        let (mut req, mut close) = (Vec::new(), Vec::new());
        codec.text(format!("[\"REQ\",\"q{number}\",{}]", filter.json()).as_bytes(), &mut req);
        codec.text(format!("[\"CLOSE\",\"q{number}\"]").as_bytes(), &mut close);
        Self { shape, filter, req, close, expected, judged: RefCell::default() }
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The message that asks it, as text.
    fn replay(&self) -> String {
        format!("[\"REQ\",\"replay\",{}]", self.filter.json())
    }

    /// The same query with another answer.
    pub fn expecting(&self, expected: Vec<u32>) -> Self {
        let (filter, req, close) = (self.filter.clone(), self.req.clone(), self.close.clone());
        Self { shape: self.shape, filter, req, close, expected, judged: RefCell::default() }
    }

    /// Rows of the expected answer.
    pub fn expected_rows(&self) -> usize {
        self.expected.len()
    }
}

/// The counters that all queriers of a phase share.
#[derive(Default)]
pub struct Tally {
    /// Rows in the answers.
    pub rows: Cell<u64>,
    /// Answers that held events from elsewhere.
    pub foreign: Cell<u64>,
    /// Live events between EOSE and CLOSE.
    pub late: Cell<u64>,
    /// Answers that were complete and ended by CLOSED in place of EOSE.
    pub closed: Cell<u64>,
    /// While events are read back: those that did not come.
    pub lost: RefCell<Vec<u32>>,
    /// While events are read back: numbers of queries that brought events from elsewhere, with the first of each.
    pub elsewhere: RefCell<Vec<(usize, Key)>>,
}

/// How a querier works.
#[derive(Clone)]
pub struct Rules {
    /// The events.
    pub library: Rc<Library>,
    /// Events of the corpus.
    pub corpus_len: u32,
    /// Which of them the relay holds.
    pub holdings: Rc<Holdings>,
    /// Compares rows with the published events.
    pub bodies: Rc<Bodies>,
    /// Verifies rows from elsewhere.
    pub verifier: Rc<Verifier>,
    /// The limits that the relay states.
    pub limits: Rc<Limits>,
    /// Where findings go.
    pub account: Rc<Account>,
    /// Where answers are counted.
    pub answers: Rc<Answers>,
    /// Where other counts go.
    pub tally: Rc<Tally>,
    /// The queries, asked in turn.
    pub queries: Rc<Vec<Prepared>>,
    /// Queries left for all connections.
    pub left: Rc<Cell<u64>>,
    /// Compare with the expected rows.
    pub exact: bool,
    /// Events are being published: rows may come after EOSE.
    pub live: bool,
    /// The finding for a missing row.
    pub missing: Finding,
    /// The relay holds only events of this run.
    pub exclusive: bool,
}

impl Rules {
    /// Asks these queries without end, with new counters.
    pub fn new(context: &Context, account: &Rc<Account>, queries: Rc<Vec<Prepared>>) -> Self {
        Self {
            library: context.library.clone(),
            corpus_len: context.corpus_len,
            holdings: context.holdings.clone(),
            bodies: context.bodies.clone(),
            verifier: context.verifier.clone(),
            limits: context.limits.clone(),
            account: account.clone(),
            answers: Rc::default(),
            tally: Rc::default(),
            queries,
            left: Rc::new(Cell::new(u64::MAX)),
            exact: true,
            live: false,
            missing: Finding::MissingRow,
            exclusive: context.exclusive,
        }
    }
}

struct Flight {
    query: usize,
    intended: Instant,
    rows: Vec<u32>,
    /// Rows from outside the library, in the order of their [`FOREIGN`] marks.
    foreign: Vec<Vec<u8>>,
}

/// Marks an event in [`Flight::rows`] that is not in the library.
const FOREIGN: u32 = u32::MAX;

/// The state of one connection.
pub struct Querier {
    rules: Rules,
    number: usize,
    turn: Rc<Cell<usize>>,
    flights: Vec<Flight>,
    spare: Vec<Vec<u32>>,
}

impl Querier {
    /// Querier `number`; it starts at another query than its neighbours.
    pub fn new(rules: Rules, number: usize) -> Self {
        Self::in_turn(rules, number, Rc::new(Cell::new(number * 7919)))
    }

    /// Querier `number`, which asks from `turn` on; queriers that share a turn share the queries.
    pub fn in_turn(rules: Rules, number: usize, turn: Rc<Cell<usize>>) -> Self {
        Self { rules, number, turn, flights: Vec::new(), spare: Vec::new() }
    }

    fn flight(&self, sub: &str) -> Option<usize> {
        let query: usize = sub.strip_prefix('q')?.parse().ok()?;
        self.flights.iter().position(|flight| flight.query == query)
    }

    fn row(&mut self, sub: &str, event: &[u8]) -> MessageRole {
        let rules = &self.rules;
        add(&rules.tally.rows, 1);
        let Some(at) = self.flight(sub) else {
            if rules.live {
                add(&rules.tally.late, 1);
            } else {
                rules.account.note(Finding::LateRow, || format!("on {sub}"));
            }
            return MessageRole::Aside;
        };
        let Some(id) = event_id(event) else {
            rules.account.malformed("an event without id", event);
            return MessageRole::Aside;
        };
        let flight = &mut self.flights[at];
        // Rows usually come as expected, which saves the lookup.
        let next = rules.queries[flight.query].expected.get(flight.rows.len()).copied();
        let guess = next.filter(|&number| *rules.library.id(number) == id);
        match guess.or_else(|| rules.library.find(&id)) {
            Some(number) => {
                rules.bodies.check(number, event, &rules.account);
                flight.rows.push(number);
            }
            None => {
                flight.foreign.push(event.to_vec());
                flight.rows.push(FOREIGN);
            }
        }
        MessageRole::Answer
    }

    fn eose(&mut self, sub: &str, at: Instant, out: &mut Vec<u8>) -> MessageRole {
        let Some(position) = self.flight(sub) else {
            self.rules.account.note(Finding::StrayEose, || format!("on {sub}"));
            return MessageRole::Aside;
        };
        out.extend_from_slice(&self.rules.queries[self.flights[position].query].close);
        self.answered(position, at);
        MessageRole::Answer
    }

    fn answered(&mut self, position: usize, at: Instant) {
        let mut flight = self.flights.swap_remove(position);
        self.rules.answers.add(at.saturating_duration_since(flight.intended));
        if flight.rows != self.rules.queries[flight.query].expected {
            self.judge(&mut flight);
        }
        self.spare.push(flight.rows);
    }

    /// Judges an answer that differs from the expected one. The last correct one of each query is kept, so that an
    /// answer that merely holds other people's events is not judged again each time.
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
        if let Some((good, has_foreign)) = &*judged
            && *good == rows
        {
            return add(&rules.tally.foreign, u64::from(*has_foreign));
        }
        let certain = |number: u32| match rules.missing {
            Finding::LostEvent => true,
            _ => number < rules.corpus_len && rules.holdings.holds(number),
        };
        let question = Question {
            shape: query.shape,
            filter: &query.filter,
            expected: rules.exact.then_some(query.expected.as_slice()),
            certain: &certain,
            live: rules.live,
            missing: rules.missing,
            exclusive: rules.exclusive,
        };
        let verdict = judge(&question, &rows, &rules.library, &rules.verifier, &rules.account);
        add(&rules.tally.foreign, u64::from(verdict.foreign));
        if rules.missing == Finding::LostEvent {
            rules.tally.lost.borrow_mut().extend(&verdict.missing);
            rules.tally.elsewhere.borrow_mut().extend(verdict.newest_foreign.map(|key| (flight.query, key)));
        }
        if verdict.findings.is_empty() {
            *judged = Some((rows, verdict.foreign));
            return;
        }
        let ids = |numbers: &[u32]| {
            numbers.iter().map(|&number| faster_hex::hex_string(rules.library.id(number))).collect::<Vec<_>>()
        };
        let first = verdict.missing.first();
        for finding in verdict.findings {
            rules.account.keep_replay(finding, || Replay {
                connection: self.number,
                frames: vec![query.replay()],
                smallest_filter: first
                    .map(|&number| query.filter.narrowed(&rules.library, number).json())
                    .unwrap_or_default(),
                missing: ids(&verdict.missing),
                extra: ids(&verdict.extra),
                ..Replay::default()
            });
        }
    }

    /// CLOSED ends a subscription. After a complete answer it means the same as EOSE; otherwise it refuses the request.
    fn closed(&mut self, sub: &str, text: &str, at: Instant) -> MessageRole {
        // Some relays also confirm our CLOSE with CLOSED.
        let Some(position) = self.flight(sub) else { return MessageRole::Aside };
        let flight = &self.flights[position];
        let query = &self.rules.queries[flight.query];
        let mut rows = flight.rows.clone();
        let mut expected = query.expected.clone();
        rows.sort_unstable();
        expected.sort_unstable();
        if text.is_empty() || (!rows.is_empty() && rows == expected) {
            add(&self.rules.tally.closed, 1);
            self.answered(position, at);
        } else {
            let stated = self.rules.limits.announce(text);
            let finding = if stated { Finding::RequestLimit } else { Finding::RefusedRequest };
            self.rules.account.keep_replay(finding, || Replay {
                connection: self.number,
                frames: vec![query.replay()],
                answer: format!("CLOSED {text:?}"),
                ..Replay::default()
            });
            self.rules.account.note(finding, || format!("{}: {text}", query.shape));
            self.flights.swap_remove(position);
        }
        MessageRole::Answer
    }
}

impl Work for Querier {
    const NAME: &'static str = "querier";
    const UNANSWERED: Finding = Finding::MissingEose;

    fn unanswered(&self) -> usize {
        self.flights.len()
    }

    fn ask(&mut self, intended: Instant, out: &mut Vec<u8>) -> bool {
        let left = self.rules.left.get();
        if left == 0 {
            return false;
        }
        self.rules.left.set(left - 1);
        let query = self.turn.get() % self.rules.queries.len();
        self.turn.set(self.turn.get() + 1);
        out.extend_from_slice(&self.rules.queries[query].req);
        let mut rows = self.spare.pop().unwrap_or_default();
        rows.clear();
        self.flights.push(Flight { query, intended, rows, foreign: Vec::new() });
        true
    }

    fn take(&mut self, message: Message<'_>, at: Instant, out: &mut Vec<u8>) -> MessageRole {
        match message {
            Message::Event { sub, event } => self.row(&sub, &event),
            Message::Eose { sub } => self.eose(&sub, at, out),
            Message::Closed { sub, text } => self.closed(&sub, &text, at),
            _ => MessageRole::Unexpected,
        }
    }

    fn abandon(&mut self) -> Vec<Unanswered> {
        let (queries, connection) = (&self.rules.queries, self.number);
        let unanswered = |flight: Flight| {
            let query = &queries[flight.query];
            let replay = Replay { connection, frames: vec![query.replay()], ..Replay::default() };
            Unanswered { text: format!("{}: {} rows and no EOSE", query.shape, flight.rows.len()), replay }
        };
        self.flights.drain(..).map(unanswered).collect()
    }
}
