//! Reading stored events for a client: slices of a scan, on whatever thread has the time.
//!
//! A job is a value: between slices it holds keys and counters, never a transaction (INV-9). It runs its first
//! slice on the io thread that read the REQ if it would be the next one served, and goes to the `read` threads
//! through Q4, which serves the address that used least lately. It stops while its client has enough to read, and
//! ends when nobody wants its rows any more. No other thread ever runs a slice.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::ledger::Hold;
use crate::metrics::StoreOperation;
use crate::nostr::hll::Hll;
use crate::nostr::{Filter, Prefix, Reason, RelayMessage, SubscriptionId};
use crate::pipeline::client::{ClientHandle, Subscription};
use crate::pipeline::commit::uncommitted::{Relevance, Wait};
use crate::pipeline::deliver::live::{Recipient, is_wide};
use crate::pipeline::query::job::{Job, Reading, too_many_queries};
use crate::pipeline::query::row_block::RowBlock;
use crate::pipeline::query::short_queries;
use crate::pipeline::query::slow::{self, SlowQuery};
use crate::pipeline::query::visibility::Visibility;
use crate::pipeline::query::visit::{Counting, Sending};
use crate::store::{Budget, Query, Scan, Seq, Snapshot, Step, StoreError};
use crate::ws::RowsPush;

/// Of which queries an io thread may run the first slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstSlice {
    /// None.
    Never,
    /// Those that come while none waits for a reader.
    WhileNoneWaits,
    /// Those that would be the next to be served, too.
    WhenNext,
}

/// How a slice left its job.
enum SliceEnd {
    /// It is over.
    Finished,
    /// It wants another slice.
    Again(Box<ScanJob>),
    /// It is parked until its client has read some, or until a commit.
    Parked,
}

/// One REQ or COUNT being answered.
pub struct ScanJob {
    client: Arc<ClientHandle>,
    work: Work,
    started: Instant,
    /// Every event up to here that matches the query is in the store. `None` until that was checked.
    covered: Option<Seq>,
    /// Whether it has waited for the commit of what was acknowledged before it came.
    has_waited: bool,
    /// What its scan keeps between slices.
    memory: Option<Hold>,
    /// Microseconds that were spent on it, and what it began with.
    spent_us: u64,
    /// How long its slices took.
    worked: Duration,
}

enum Work {
    /// Send the rows, then EOSE, then go live.
    Rows { sub: Arc<Subscription>, query: Query, scan: Option<Scan> },
    /// After going live: send what was committed during the scan, after `covered` and up to `until`.
    CatchUp { sub: Arc<Subscription>, filters: Arc<[Filter]>, covered: Seq, until: Seq },
    /// Count the rows.
    Count { id: SubscriptionId, query: Query, scan: Option<Scan>, count: u64, hll: Option<Box<Hll>>, _memory: Hold },
}

impl ScanJob {
    /// Answers a REQ. `until_seq` of the query is set when the first slice reads.
    #[must_use]
    pub fn rows(client: &Arc<ClientHandle>, sub: Arc<Subscription>, query: Query, started: Instant) -> Box<Self> {
        let spent_us = short_queries::first_spent_us(&query);
        Self::new(client, Work::Rows { sub, query, scan: None }, started, spent_us)
    }

    /// Answers a COUNT, whose filters are counted in `memory`.
    #[must_use]
    pub fn count(client: &Arc<ClientHandle>, id: SubscriptionId, query: Query, memory: Hold, at: Instant) -> Box<Self> {
        let hll = match &query.filters[..] {
            [filter] => Hll::for_filter(filter).map(Box::new),
            _ => None,
        };
        let spent_us = short_queries::first_spent_us(&query);
        Self::new(client, Work::Count { id, query, scan: None, count: 0, hll, _memory: memory }, at, spent_us)
    }

    fn new(client: &Arc<ClientHandle>, work: Work, started: Instant, spent_us: u64) -> Box<Self> {
        client.scans().fetch_add(1, Ordering::AcqRel);
        let client = Arc::clone(client);
        Box::new(Self {
            client,
            work,
            started,
            covered: None,
            has_waited: false,
            memory: None,
            spent_us,
            worked: Duration::ZERO,
        })
    }

    /// Runs a first slice here, from `began` on, if this thread may, and passes the rest on to the readers. Returns the
    /// microseconds that were spent here, and when that ended.
    pub fn start(self: Box<Self>, reading: &Arc<Reading>, here: FirstSlice, began: Instant) -> (u64, Instant) {
        let client = Arc::clone(&self.client);
        if reading.options.inline_us == 0 || !self.runs_here(reading, here) {
            reading.submit(self);
            return (0, began);
        }
        let budget =
            Budget { rows: reading.options.inline_rows, time: Duration::from_micros(reading.options.inline_us) };
        let left = self.run_slice(reading, budget, began);
        let ended = Instant::now();
        // What goes beyond the budget was mostly the time of others that had the processor meanwhile.
        let spent = ended.duration_since(began).min(budget.time);
        let (spent_us, now_us) = (spent.as_micros() as u64, reading.clock.us_at(ended));
        client.charge_time(&reading.settings.load(), spent, now_us);
        if let Some(spent_us) = client.spent_here(spent_us) {
            reading.scans.charge(client.address, spent_us, now_us);
        }
        if let SliceEnd::Again(mut job) = left {
            job.spend(spent_us);
            reading.submit(job);
        }
        (spent_us, ended)
    }

    fn runs_here(&self, reading: &Reading, here: FirstSlice) -> bool {
        let is_next = || match here {
            FirstSlice::Never | FirstSlice::WhileNoneWaits => false,
            FirstSlice::WhenNext => {
                reading.scans.would_be_next(&self.client.address, self.spent_us, reading.clock.now_us())
            }
        };
        here != FirstSlice::Never && !self.is_wide() && (reading.scans.is_empty() || is_next() || self.is_short())
    }

    /// Whether the query is known to be cheap before it is planned.
    fn is_short(&self) -> bool {
        let (Work::Rows { query, .. } | Work::Count { query, .. }) = &self.work else { return false };
        short_queries::is_short(query)
    }

    /// Whether planning the query takes longer than a first slice.
    fn is_wide(&self) -> bool {
        let (Work::Rows { query, .. } | Work::Count { query, .. }) = &self.work else { return false };
        is_wide(&query.filters)
    }

    /// Whether the query would miss an event that is acknowledged and not yet committed.
    fn is_ahead(&mut self, reading: &Reading) -> bool {
        let (Work::Rows { query, .. } | Work::Count { query, .. }) = &self.work else { return false };
        if self.covered.is_some() || self.has_waited {
            return false;
        }
        let Relevance::Unconcerned(covered) = reading.uncommitted.look(&query.filters) else { return true };
        self.covered = Some(covered);
        false
    }

    /// Parks the job until what is acknowledged now is committed.
    fn wait(mut self: Box<Self>, reading: &Reading) -> SliceEnd {
        self.has_waited = true;
        match reading.uncommitted.wait(self) {
            Wait::Left => SliceEnd::Parked,
            Wait::Over(job) => SliceEnd::Again(job),
            Wait::Full(mut job) => {
                job.has_waited = false;
                SliceEnd::Again(job)
            }
            Wait::Refused(job) => {
                reading.refuse(job);
                SliceEnd::Finished
            }
        }
    }

    fn hold_scan(&mut self) -> Result<(), Reason> {
        let scan = match &self.work {
            Work::Rows { scan, .. } | Work::Count { scan, .. } => scan.as_ref(),
            Work::CatchUp { .. } => None,
        };
        self.client.hold_scan(scan, &mut self.memory)
    }

    fn is_unwanted(&self) -> bool {
        match &self.work {
            Work::Rows { sub, .. } | Work::CatchUp { sub, .. } => sub.is_ended() || self.client.outbox.is_closed(),
            Work::Count { .. } => self.client.outbox.is_closed(),
        }
    }

    /// Runs a slice that began at `began`: to read the clock costs as much as to find a row.
    fn run_slice(mut self: Box<Self>, reading: &Arc<Reading>, budget: Budget, began: Instant) -> SliceEnd {
        if self.is_unwanted() {
            self.leave();
            return SliceEnd::Finished;
        }
        if self.is_ahead(reading) {
            return self.wait(reading);
        }
        let slice = match &self.work {
            Work::Count { .. } => self.count_slice(reading, budget, began),
            Work::Rows { .. } => self.rows_slice(reading, budget, began),
            Work::CatchUp { .. } => self.catch_up_slice(reading, budget),
        };
        if slice.as_ref().is_ok_and(|slice| *slice != Slice::Done) {
            self.worked += began.elapsed();
            if let Err(reason) = self.hold_scan() {
                self.close(reading, reason);
                return SliceEnd::Finished;
            }
        }
        match slice {
            Ok(Slice::Done) => SliceEnd::Finished,
            Ok(Slice::More) => SliceEnd::Again(self),
            Ok(Slice::ClientFull) => self.park(reading),
            Ok(Slice::Uncommitted) => self.wait(reading),
            Ok(Slice::Wide) => self.go_live_later(reading),
            Err(error) => {
                self.fail(reading, &error);
                SliceEnd::Finished
            }
        }
    }

    /// Parks the job at the outbox until that has drained.
    fn park(self: Box<Self>, reading: &Arc<Reading>) -> SliceEnd {
        let client = Arc::clone(&self.client);
        let reading = Arc::clone(reading);
        let resume = move || reading.submit(self);
        if let Some(resume) = client.outbox.park(Box::new(resume)) {
            // It has drained meanwhile.
            resume();
        }
        SliceEnd::Parked
    }

    /// Lets the connection start another scan. To be called before the last push, which wakes it.
    fn release_slot(&self) {
        if !matches!(self.work, Work::CatchUp { .. }) {
            self.client.scans().fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Lets the connection start another scan when the last push is refused, or nothing is pushed.
    fn leave(&self) {
        self.release_slot();
        self.client.outbox.nudge();
    }

    /// Ends the query without EOSE: the client learns that it did not get everything.
    fn fail(&self, reading: &Reading, error: &StoreError) {
        reading.health.failed(StoreOperation::Read, error);
        self.close(reading, Reason::new(Prefix::Error, "the store could not be read"));
    }

    /// Ends the query, and says why.
    fn close(&self, reading: &Reading, reason: Reason) {
        reading.metrics.refusal(reason.prefix.as_str());
        self.release_slot();
        match &self.work {
            Work::Rows { sub, .. } | Work::CatchUp { sub, .. } => {
                reading.live.fail(&self.client, sub, reason);
                // If it has ended, nothing was pushed.
                self.client.outbox.nudge();
            }
            Work::Count { id, .. } => self.client.reply(&RelayMessage::Closed { sub: id.as_str().into(), reason }),
        }
    }

    fn rows_slice(&mut self, reading: &Arc<Reading>, budget: Budget, began: Instant) -> Result<Slice, StoreError> {
        let Work::Rows { sub, query, scan } = &mut self.work else {
            unreachable!("only called for rows");
        };
        let snapshot = reading.store.read()?;
        let scan = begin(query, scan, &snapshot)?;
        let mut rows = RowBlock::new(&self.client, sub);
        let mut sending = Sending { visibility: Visibility::new(reading, &self.client), rows: &mut rows };
        let step = scan.run_since(began, &snapshot, budget, &mut sending)?;
        drop(snapshot);
        reading.metrics.rows_sent.inc_by(rows.count());
        let Step::Done { hint } = step else {
            return Ok(match rows.send() {
                RowsPush::More => Slice::More,
                RowsPush::Park => Slice::ClientFull,
                RowsPush::Closed => {
                    self.leave();
                    Slice::Done
                }
            });
        };
        let ended = Instant::now();
        let worked = self.worked + ended.duration_since(began);
        if reading.slow.is_slow(worked) {
            note_slow(reading, &self.client, ("REQ", &query.filters), scan, (worked, self.started));
        }
        rows.end(&RelayMessage::Eose { sub: sub.id.clone(), hint });
        let covered = query.until_seq.max(self.covered.unwrap_or_default());
        let (sub, filters) = (Arc::clone(sub), Arc::clone(&query.filters));
        self.client.scans().fetch_sub(1, Ordering::AcqRel);
        reading.metrics.req_eose_seconds.observe(ended.duration_since(self.started).as_secs_f64());
        // One that ended meanwhile does not go live; a closed connection is noticed by whoever uses the outbox next.
        if matches!(rows.send(), RowsPush::Closed) {
            self.client.outbox.nudge();
        }
        if is_wide(&filters) {
            self.work = Work::CatchUp { sub, filters, covered, until: covered };
            return Ok(Slice::Wide);
        }
        let recipient = Recipient { client: Arc::clone(&self.client), sub: Arc::clone(&sub) };
        let until = sub.go_live(|| reading.live.register(recipient, &filters, covered));
        let Some(until) = until.filter(|until| *until > covered) else {
            return Ok(Slice::Done);
        };
        self.has_waited = false;
        self.work = Work::CatchUp { sub, filters, covered, until };
        Ok(Slice::More)
    }

    /// Leaves the job with the `live` thread until that has listed its subscription. What was committed by then is sent
    /// from the store.
    fn go_live_later(mut self: Box<Self>, reading: &Arc<Reading>) -> SliceEnd {
        let Work::CatchUp { sub, filters, covered, .. } = &self.work else {
            unreachable!("only called after the rows");
        };
        let (sub, filters, sent) = (Arc::clone(sub), Arc::clone(filters), *covered);
        let recipient = Recipient { client: Arc::clone(&self.client), sub: Arc::clone(&sub) };
        (self.has_waited, self.memory) = (false, None);
        let resumed = Arc::clone(reading);
        let listed = move |seen: Seq| {
            if let Work::CatchUp { covered, until, .. } = &mut self.work
                && *covered < seen
            {
                *until = seen;
                resumed.submit(self);
            }
        };
        sub.go_live(|| (reading.live.register_later(recipient, &filters, sent, Box::new(listed)), ()));
        SliceEnd::Parked
    }

    fn catch_up_slice(&mut self, reading: &Reading, budget: Budget) -> Result<Slice, StoreError> {
        let Work::CatchUp { sub, filters, covered, until } = &mut self.work else {
            unreachable!("only called for catching up");
        };
        let snapshot = reading.store.read()?;
        if snapshot.last_seq()? < *until && !self.has_waited {
            return Ok(Slice::Uncommitted);
        }
        let mut rows = RowBlock::new(&self.client, sub);
        let visibility = Visibility::new(reading, &self.client);
        let mut done = true;
        for (count, row) in snapshot.after(*covered)?.enumerate() {
            let (seq, event) = row?;
            if seq > *until {
                break;
            }
            if count >= budget.rows as usize {
                done = false;
                break;
            }
            *covered = seq;
            let wanted = filters.iter().any(|filter| filter.matches(event)) && visibility.allows(event);
            if wanted && !snapshot.is_hidden(seq, event)? {
                rows.push(event);
            }
        }
        drop(snapshot);
        reading.metrics.deliveries.inc_by(rows.count());
        Ok(match rows.send() {
            _ if done => Slice::Done,
            RowsPush::More => Slice::More,
            RowsPush::Park => Slice::ClientFull,
            RowsPush::Closed => Slice::Done,
        })
    }

    fn count_slice(&mut self, reading: &Reading, budget: Budget, began: Instant) -> Result<Slice, StoreError> {
        let Work::Count { id, query, scan, count, hll, .. } = &mut self.work else {
            unreachable!("only called for counting");
        };
        let snapshot = reading.store.read()?;
        let scan = begin(query, scan, &snapshot)?;
        let mut counting = Counting { visibility: Visibility::new(reading, &self.client), count, hll };
        if scan.run_since(began, &snapshot, budget, &mut counting)? == Step::Paused {
            return Ok(Slice::More);
        }
        let worked = self.worked + began.elapsed();
        if reading.slow.is_slow(worked) {
            note_slow(reading, &self.client, ("COUNT", &query.filters), scan, (worked, self.started));
        }
        let hll = hll.take().map(|hll| Box::new(*hll.registers()));
        let message = RelayMessage::Count { sub: id.clone(), count: *count, approximate: false, hll };
        self.release_slot();
        self.client.reply(&message);
        Ok(Slice::Done)
    }
}

impl Job for ScanJob {
    fn address(&self) -> IpAddr {
        self.client.address
    }

    fn client(&self) -> Option<&Arc<ClientHandle>> {
        Some(&self.client)
    }

    fn spent_us(&self) -> u64 {
        self.spent_us
    }

    fn spend(&mut self, us: u64) {
        self.spent_us += us;
    }

    fn run(self: Box<Self>, reading: &Arc<Reading>, budget: Budget) -> Option<Box<dyn Job>> {
        match self.run_slice(reading, budget, Instant::now()) {
            SliceEnd::Finished | SliceEnd::Parked => None,
            SliceEnd::Again(job) => Some(job),
        }
    }

    fn is_over(&self) -> bool {
        self.is_unwanted()
    }

    fn refuse(self: Box<Self>, reading: &Reading, reason: Reason) {
        self.close(reading, reason);
    }
}

impl From<Box<ScanJob>> for Box<dyn Job> {
    fn from(job: Box<ScanJob>) -> Self {
        job
    }
}

/// Tells of a slow query whose scan is over.
#[cold]
fn note_slow(
    reading: &Reading,
    client: &ClientHandle,
    (verb, filters): (&'static str, &[Filter]),
    scan: &Scan,
    (worked, started): (Duration, Instant),
) {
    let query = SlowQuery {
        address: client.peer,
        verb,
        filters: slow::shortened(filters),
        plan: slow::plan_of(scan),
        rows: scan.spent(),
        worked,
        waited: started.elapsed(),
    };
    reading.slow.note(query, reading.clock.now_us());
}

/// The scan of a job, planned when its first slice knows up to which seq it reads (INV-3).
fn begin<'a>(
    query: &mut Query,
    scan: &'a mut Option<Scan>,
    snapshot: &Snapshot<'_>,
) -> Result<&'a mut Scan, StoreError> {
    if scan.is_none() {
        query.until_seq = snapshot.last_seq()?;
    }
    Ok(scan.get_or_insert_with(|| Scan::new(query.clone())))
}

/// How a slice went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    Done,
    More,
    ClientFull,
    /// What it is to read is not committed yet.
    Uncommitted,
    /// Everything is sent, and the `live` thread lists its filters.
    Wide,
}

/// A message for a query that cannot be admitted now.
#[must_use]
pub fn busy(id: &SubscriptionId) -> RelayMessage {
    RelayMessage::Closed { sub: id.as_str().into(), reason: too_many_queries() }
}
