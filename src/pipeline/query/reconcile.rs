//! Negentropy sessions (NIP-77): which events does the client lack, and which does the relay?
//!
//! A session holds what its client could read at its NEG-OPEN: never an id that a REQ would not return (INV-15).
//! Collecting and answering run on reader threads; a session answers one message at a time. Sessions are bounded by
//! connection, by address and in all, and so are their records (INV-12).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::Hold;
use crate::metrics::StoreOperation;
use crate::negentropy::{RecordsBuilder, Session, TooMany};
use crate::nostr::{EventView, Filter, Prefix, Reason, RelayMessage, SubscriptionId};
use crate::pipeline::client::ClientHandle;
use crate::pipeline::commit::uncommitted::{Relevance, Wait};
use crate::pipeline::fair::SHORT_US;
use crate::pipeline::query::job::{Job, Reading};
use crate::pipeline::query::visibility::Visibility;
use crate::store::{Budget, Flow, Query, QueryLimits, Scan, Seq, Step, StoreError, Visitor};
use crate::ws::Stream;

/// One session of one connection.
pub struct Reconciliation {
    id: SubscriptionId,
    client: Arc<ClientHandle>,
    reading: Arc<Reading>,
    address: IpAddr,
    /// Its NEG-MSGs, and its NEG-ERR.
    stream: Stream,
    stage: Mutex<Stage>,
    used_us: AtomicU64,
}

struct Stage {
    work: Work,
    /// Records that are counted for this session.
    records: usize,
}

enum Work {
    /// A reader is collecting or answering; the client has to wait.
    Busy,
    /// The client's turn.
    Ready(Arc<Session>),
    /// Refused, closed, idle for too long, or replaced.
    Ended,
}

impl Reconciliation {
    /// Opens a session and puts its first job into Q4.
    ///
    /// # Errors
    /// `rate-limited:` when there are too many sessions.
    pub fn open(
        reading: &Arc<Reading>,
        client: &Arc<ClientHandle>,
        address: IpAddr,
        id: SubscriptionId,
        filter: Filter,
        message: Vec<u8>,
        memory: Hold,
    ) -> Result<Arc<Self>, Reason> {
        reading.sessions.enter(address)?;
        let session = Arc::new(Self {
            id,
            client: Arc::clone(client),
            reading: Arc::clone(reading),
            address,
            stream: Stream::default(),
            stage: Mutex::new(Stage { work: Work::Busy, records: 0 }),
            used_us: AtomicU64::new(reading.clock.now_us()),
        });
        let max_records = reading.sessions.options().max_records;
        // A `limit` asks for that many of the newest events; without one, all matches are collected.
        let limits = filter.limit.map(|limit| QueryLimits {
            default_limit: limit,
            max_limit: limit,
            hints: false,
            tie_extension: 0,
        });
        let query = Query { filters: [filter].into(), until_seq: Seq::default(), limits };
        let records = RecordsBuilder::new(max_records);
        let work =
            NegWork::Collect(Box::new(Collect { query, scan: None, scan_memory: None, records, has_waited: false }));
        session.put_in_line(work, message, memory);
        Ok(session)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the answer to the client's next message into Q4.
    ///
    /// # Errors
    /// When the session is over, or has not answered the message before.
    pub fn message(self: &Arc<Self>, message: Vec<u8>, memory: Hold) -> Result<(), Reason> {
        self.used_us.store(self.reading.clock.now_us(), Ordering::Relaxed);
        let mut stage = self.stage();
        let session = match std::mem::replace(&mut stage.work, Work::Busy) {
            Work::Ready(session) => session,
            Work::Ended => {
                stage.work = Work::Ended;
                return Err(Reason::new(Prefix::Closed, "no such session is open"));
            }
            Work::Busy => {
                drop(stage);
                self.leave();
                return Err(Reason::new(Prefix::Invalid, "the message before this one is not answered yet"));
            }
        };
        drop(stage);
        self.put_in_line(NegWork::Answer(session), message, memory);
        Ok(())
    }

    fn put_in_line(self: &Arc<Self>, work: NegWork, message: Vec<u8>, memory: Hold) {
        let job = Box::new(NegJob { session: Arc::clone(self), work, message, spent_us: SHORT_US, _memory: memory });
        self.reading.submit(job);
    }

    /// Ends the session at its client's request: nothing more is queued for it, and what waits is dropped. For the
    /// connection's own thread.
    pub fn end(&self) {
        self.client.outbox.end(&self.stream);
        self.leave();
    }

    /// Ends the session and frees its place and its records.
    fn leave(&self) {
        let mut stage = self.stage();
        let work = std::mem::replace(&mut stage.work, Work::Ended);
        let records = std::mem::take(&mut stage.records);
        drop(stage);
        // Freed here, not on drop: a client that was told the end finds its place free, though a reader may still hold
        // the session for a moment.
        if !matches!(work, Work::Ended) {
            self.reading.sessions.leave(self.address, records);
        }
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.stage().work, Work::Ended)
    }

    /// Ends the session if its client was silent for too long, and says so (NIP-77).
    pub fn end_if_idle(&self) {
        let idle_us = self.reading.clock.now_us().saturating_sub(self.used_us.load(Ordering::Relaxed));
        if idle_us < self.reading.sessions.options().idle_timeout_s * 1_000_000 {
            return;
        }
        let is_ready = matches!(self.stage().work, Work::Ready(_));
        if is_ready {
            self.end_with(Reason::new(Prefix::Closed, "you took too long to respond!"), None);
        }
    }

    fn fail(&self, reason: Reason, max_records: Option<u64>) {
        self.reading.metrics.refusal(reason.prefix.as_str());
        self.end_with(reason, max_records);
    }

    fn end_with(&self, reason: Reason, max_records: Option<u64>) {
        self.leave();
        self.client.finish(&self.stream, &RelayMessage::NegErr { sub: self.id.as_str().into(), reason, max_records });
    }

    /// Counts that the session holds `records`, never fewer than before.
    fn hold_records(&self, records: usize) -> Result<(), Reason> {
        let mut stage = self.stage();
        if matches!(stage.work, Work::Ended) {
            // It has freed what it had, and its next slice ends the job.
            return Ok(());
        }
        self.reading.sessions.add_records(self.address, records - stage.records)?;
        stage.records = records;
        Ok(())
    }

    /// Sends an answer; then it is the client's turn.
    fn answer(&self, session: Arc<Session>, message: &[u8]) {
        match session.reply(message) {
            Ok(message) => {
                let mut stage = self.stage();
                if matches!(stage.work, Work::Ended) {
                    return;
                }
                stage.work = Work::Ready(session);
                drop(stage);
                self.used_us.store(self.reading.clock.now_us(), Ordering::Relaxed);
                self.client.answer(&self.stream, &RelayMessage::NegMsg { sub: self.id.clone(), message });
            }
            Err(error) => self.fail(Reason::new(Prefix::Invalid, error.to_string()), None),
        }
    }
}

impl Drop for Reconciliation {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The work of answering one message of a session.
pub struct NegJob {
    session: Arc<Reconciliation>,
    work: NegWork,
    message: Vec<u8>,
    /// Microseconds that were spent on it, and what it began with.
    spent_us: u64,
    /// The message, and the filter while it is collected for.
    _memory: Hold,
}

struct Collect {
    query: Query,
    scan: Option<Scan>,
    /// What the scan keeps between slices.
    scan_memory: Option<Hold>,
    records: RecordsBuilder,
    /// Whether it has waited for the commit of what was acknowledged before it came.
    has_waited: bool,
}

enum NegWork {
    Collect(Box<Collect>),
    Answer(Arc<Session>),
}

impl Job for NegJob {
    fn address(&self) -> IpAddr {
        self.session.client.address
    }

    fn client(&self) -> Option<&Arc<ClientHandle>> {
        Some(&self.session.client)
    }

    fn spent_us(&self) -> u64 {
        self.spent_us
    }

    fn spend(&mut self, us: u64) {
        self.spent_us += us;
    }

    fn run(self: Box<Self>, reading: &Arc<Reading>, budget: Budget) -> Option<Box<dyn Job>> {
        self.run_slice(reading, budget).map(Into::into)
    }

    fn is_over(&self) -> bool {
        self.session.is_ended() || self.session.client.outbox.is_closed()
    }

    fn refuse(self: Box<Self>, _: &Reading, reason: Reason) {
        if !self.session.is_ended() {
            self.session.fail(reason, None);
        }
    }
}

impl From<Box<NegJob>> for Box<dyn Job> {
    fn from(job: Box<NegJob>) -> Self {
        job
    }
}

impl NegJob {
    /// Whether the session would miss an event that is acknowledged and not yet committed.
    fn is_ahead(&mut self, reading: &Reading) -> bool {
        let NegWork::Collect(collect) = &mut self.work else { return false };
        collect.scan.is_none()
            && !std::mem::replace(&mut collect.has_waited, true)
            && reading.uncommitted.look(&collect.query.filters) == Relevance::Concerned
    }

    /// Runs a slice; the job comes back when there is more to do.
    fn run_slice(mut self: Box<Self>, reading: &Reading, budget: Budget) -> Option<Box<Self>> {
        if self.is_over() {
            return None;
        }
        if self.is_ahead(reading) {
            match reading.uncommitted.wait(self) {
                Wait::Left => return None,
                Wait::Over(job) => self = job,
                Wait::Full(mut job) => {
                    if let NegWork::Collect(collect) = &mut job.work {
                        collect.has_waited = false;
                    }
                    return Some(job);
                }
                Wait::Refused(job) => {
                    reading.refuse(job);
                    return None;
                }
            }
        }
        if let NegWork::Answer(session) = &self.work {
            self.session.answer(Arc::clone(session), &self.message);
            return None;
        }
        match self.collect(reading, budget) {
            Ok(CollectOutcome::More) => return Some(self),
            Ok(CollectOutcome::All) => self.begin(reading),
            Ok(CollectOutcome::NoRoom(reason)) => self.session.fail(reason, None),
            Ok(CollectOutcome::TooMany(TooMany { max_records })) => {
                // Clients split their query when they read these words. Collecting stopped at the first record too
                // many.
                let found = max_records + 1;
                let text = format!("too many records ({found}, at most {max_records})");
                let reason = Reason::new(Prefix::Blocked, text);
                self.session.fail(reason, Some(max_records as u64));
            }
            Err(error) => {
                reading.health.failed(StoreOperation::Read, &error);
                self.session.fail(Reason::new(Prefix::Error, "the store could not be read"), None);
            }
        }
        None
    }

    fn collect(&mut self, reading: &Reading, budget: Budget) -> Result<CollectOutcome, StoreError> {
        let NegWork::Collect(collect) = &mut self.work else {
            unreachable!("only called while collecting");
        };
        let Collect { query, scan, scan_memory, records, .. } = &mut **collect;
        let snapshot = reading.store.read()?;
        if scan.is_none() {
            query.until_seq = snapshot.last_seq()?;
        }
        let scan = scan.get_or_insert_with(|| Scan::new(query.clone()));
        let mut collecting =
            Collector { visibility: Visibility::new(reading, &self.session.client), records, too_many: None };
        let step = scan.run(&snapshot, budget, &mut collecting)?;
        let too_many = collecting.too_many;
        let held = self.session.hold_records(records.len());
        if let Err(reason) = held.and_then(|()| self.session.client.hold_scan(Some(scan), scan_memory)) {
            return Ok(CollectOutcome::NoRoom(reason));
        }
        Ok(match (too_many, step) {
            (Some(too_many), _) => CollectOutcome::TooMany(too_many),
            (None, Step::Paused) => CollectOutcome::More,
            (None, Step::Done { .. }) => CollectOutcome::All,
        })
    }

    /// Answers the first message, once everything is collected.
    fn begin(self, reading: &Reading) {
        let NegWork::Collect(collect) = self.work else {
            unreachable!("only called after collecting");
        };
        let records = collect.records;
        let session = Session::new(Arc::new(records.finish()), reading.sessions.options().frame_bytes);
        self.session.answer(Arc::new(session), &self.message);
    }
}

enum CollectOutcome {
    More,
    All,
    TooMany(TooMany),
    NoRoom(Reason),
}

struct Collector<'a> {
    visibility: Visibility,
    records: &'a mut RecordsBuilder,
    too_many: Option<TooMany>,
}

impl Visitor for Collector<'_> {
    fn admits(&mut self, event: EventView<'_>) -> bool {
        self.visibility.allows(event)
    }

    fn take(&mut self, _: Seq, event: EventView<'_>) -> Flow {
        match self.records.push(event.created_at(), event.id()) {
            Ok(()) => Flow::Continue,
            Err(too_many) => {
                self.too_many = Some(too_many);
                Flow::Pause
            }
        }
    }
}
