//! Imports events from a file, JSON in any layout, compressed or not, or from another relay. Reading, checking on every
//! core and committing in large batches run in parallel.
//!
//! A relay may run on the same store; its live thread delivers the committed events. A bad line never stops an import,
//! and no more of the input is held than `AHEAD` pieces and a batch.
//!
//! ```text
//! read ──pieces──▶ pinned pool (parse, hash, look up, verify, judge) ──in order──▶ the caller's thread: commit
//! ```

mod checker;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod judge;
mod origin;
mod pieces;
mod rules;
mod split;
mod storing;
#[cfg(test)]
mod tests;
mod verdict;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::nostr::{EventView, Kind, VerifiedEvent};
use crate::pipeline::channel::{Receiver, RecvError, Sender, channel};
use crate::pipeline::{StartError, now, pinned_pool};
use crate::policy::{Moderation, Source};
use crate::retention::Limit;
use crate::schnorr::Verifier;
use crate::store::{Store, StoreError};
use checker::{Checked, Checker};
use judge::Judge;
use pieces::Pieces;
use storing::{BatchResult, ImportWriter};

pub use format::Unsupported;
pub use origin::{Origin, Wanted};
pub use pieces::Piece;
pub use rules::Rules;
pub use verdict::{LineOutcome, Verdict};

/// Pieces read or checked ahead of the commit, to keep the cores busy while the disk syncs.
const AHEAD: usize = 32;

/// How often an idle import checks whether it has been interrupted.
const IDLE: Duration = Duration::from_millis(50);

/// How long the write lock is left free between commits. LMDB's lock is not fair: without this pause, a relay could
/// wait for many commits of an import whose next batch is always ready. Meanwhile the next batch keeps filling.
const PAUSE_BETWEEN_COMMITS: Duration = Duration::from_millis(1);

/// The maximum size of a batch in bytes of records, whatever the number of events.
const BATCH_BYTES: usize = 64 << 20;

/// How to import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether signatures are verified. Without it, only events that this relay has exported should be imported.
    pub verify: bool,
    /// Events per commit, at least 1. A running relay waits for one commit, some tenths of a second with the default.
    /// With a tenth of the events it waits less, and the import takes several times as long.
    pub batch_events: usize,
    /// The longest time that an event waits for its batch to fill, if the input is slower than the disk.
    pub max_delay: Duration,
    /// Threads for checking; 0 means one per core.
    pub threads: usize,
    /// Longer lines and objects are rejected.
    pub max_line_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        let max_delay = Duration::from_millis(500);
        Self { verify: true, batch_events: 10_000, max_delay, threads: 0, max_line_bytes: 16 << 20 }
    }
}

/// How an import ended.
#[derive(Debug)]
pub enum ImportEnd {
    /// The input ended.
    Complete,
    /// [`Parts::stop`] was set.
    Interrupted,
    /// The store is full: this limit is reached.
    Full(Limit),
    /// The input is not text.
    Unsupported(Unsupported),
    /// The input could not be read.
    Unreadable(std::io::Error),
    /// The store could not be read or written.
    Store(StoreError),
}

/// The result of an import, so far or in total.
#[derive(Debug)]
pub struct Report {
    /// The number of lines with each [`LineOutcome`], by its number.
    pub counts: [u64; LineOutcome::ALL.len()],
    /// Bytes of decompressed text that were processed.
    pub bytes: u64,
    /// The first line that was not processed: where to resume.
    pub next_line: u64,
    /// What the text looks like, in case it holds no event.
    pub looks_like: &'static str,
    /// How it ended.
    pub end: ImportEnd,
}

impl Report {
    /// The number of lines with this outcome.
    #[must_use]
    pub const fn count(&self, outcome: LineOutcome) -> u64 {
        self.counts[outcome as usize]
    }
}

/// Receives reports during an import.
pub trait Observer {
    /// A line was not stored. Called in the order of the lines.
    fn not_stored(&mut self, verdict: &Verdict);
    /// A batch was committed.
    fn progress(&mut self, so_far: &Report);
}

/// What admins decided by now (NIP-86). It is asked before each commit, since an import may run for hours.
pub type Decisions = Arc<dyn Fn() -> Arc<Moderation> + Send + Sync>;

/// What an import needs.
pub struct Parts {
    /// The store to import into.
    pub store: Store,
    /// The rules. The plugin is the one that they name at the start.
    pub rules: Rules,
    /// Bans that are younger than the settings.
    pub decisions: Decisions,
    /// Whose events they are, as `policy.sources` and `plugin.sources` name it.
    pub source: Source,
    /// The signature engines.
    pub verifier: Verifier,
    /// How to import.
    pub options: Options,
    /// Set this to stop early: events read so far are committed.
    pub stop: &'static AtomicBool,
}

/// A piece that the pool is checking. Tickets arrive in the order of the pieces.
type Ticket = Receiver<Result<Checked, StoreError>>;

/// Imports all of `input`.
///
/// # Errors
/// When the store cannot be read at the start, or threads cannot be started. Later errors are in the report.
pub fn import(
    parts: Parts,
    input: impl Read + Send + 'static,
    observer: &mut impl Observer,
) -> Result<Report, StartError> {
    let max_line_bytes = parts.options.max_line_bytes;
    run(parts, observer, move |passing| passing.read(input, max_line_bytes))
}

/// Imports what arrives in pieces, each with whole values, from one origin or several. `next` waits for a piece and
/// returns `None` at the end.
///
/// # Errors
/// As [`import`].
pub fn receive(
    parts: Parts,
    mut next: impl FnMut() -> Option<(Origin, Piece)> + Send + 'static,
    observer: &mut impl Observer,
) -> Result<Report, StartError> {
    run(parts, observer, move |passing| passing.all(|| Ok(next())))
}

fn run(
    parts: Parts,
    observer: &mut impl Observer,
    read: impl FnOnce(PieceReader) + Send + 'static,
) -> Result<Report, StartError> {
    let Parts { store, rules, decisions, source, verifier, options, stop } = parts;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = pinned_pool(if options.threads == 0 { cores } else { options.threads }, cores)?;
    let Options { verify, batch_events, max_delay, max_line_bytes, .. } = options;
    let storing = ImportWriter::new(store.clone(), Arc::clone(&rules.settings));
    let judge = Judge::start(&rules.settings.load().plugin, source)?;
    let verifier = Arc::new(verifier);
    let checker = Checker { store, rules, verifier, verify, judge, max_line_bytes };
    let (tickets, queue) = channel(AHEAD);
    // Not joined: it may wait for input forever, and has nothing to finish.
    let passing = PieceReader { pool, checker: Arc::new(checker), tickets, stop };
    std::thread::Builder::new().name("import-read".into()).spawn(move || read(passing))?;
    let (counts, looks_like) = ([0; LineOutcome::ALL.len()], format::describe(b""));
    let report = Report { counts, bytes: 0, next_line: 1, looks_like, end: ImportEnd::Complete };
    let batch = Batch {
        storing,
        observer,
        decisions,
        report,
        events: Vec::new(),
        pieces: Vec::new(),
        record_bytes: 0,
        since: None,
        committed: None,
        max_delay,
    };
    Ok(batch.run(&queue, batch_events.max(1), stop))
}

/// Messages of the reading thread.
enum Message {
    /// What the text looks like; sent first.
    Begins(&'static str),
    Piece(Ticket),
    /// Nothing follows.
    Ends(ImportEnd),
}

/// Passes pieces to the pool until the input ends or the import is over.
struct PieceReader {
    pool: ThreadPool,
    checker: Arc<Checker>,
    tickets: Sender<Message>,
    stop: &'static AtomicBool,
}

impl PieceReader {
    /// Passes on the text of an input.
    fn read(self, input: impl Read + Send + 'static, max_line_bytes: usize) {
        match format::text(input) {
            Ok(Ok(text)) => {
                let mut pieces = Pieces::new(text, max_line_bytes);
                self.all(|| Ok(pieces.next_piece()?.map(|piece| (Origin::File, piece))));
            }
            Ok(Err(unsupported)) => self.end(ImportEnd::Unsupported(unsupported)),
            Err(error) => self.end(ImportEnd::Unreadable(error)),
        }
    }

    fn all(self, mut next: impl FnMut() -> std::io::Result<Option<(Origin, Piece)>>) {
        let mut is_first = true;
        while !self.stop.load(Ordering::Relaxed) {
            let (origin, piece) = match next() {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(error) => return self.end(ImportEnd::Unreadable(error)),
            };
            if is_first && self.tickets.send(Message::Begins(format::describe(&piece.text))).is_err() {
                return;
            }
            is_first = false;
            if !self.pass(origin, piece) {
                return;
            }
        }
    }

    /// Has a piece checked. Returns false if the import is over: then the receiver is gone.
    fn pass(&self, origin: Origin, piece: Piece) -> bool {
        let (done, ticket) = channel(1);
        let checker = Arc::clone(&self.checker);
        let is_wanted = self.tickets.send(Message::Piece(ticket)).is_ok();
        if is_wanted {
            self.pool.spawn_fifo(move || {
                // The receiver is gone only if the import has ended early.
                let _ = done.send(checker.check(origin, &piece, now()));
            });
        }
        is_wanted
    }

    fn end(&self, end: ImportEnd) {
        // If the receiver is gone, the import is over and nobody needs the message.
        let _ = self.tickets.send(Message::Ends(end));
    }
}

/// The next batch, and the report on those before.
struct Batch<'o, O> {
    storing: ImportWriter,
    observer: &'o mut O,
    decisions: Decisions,
    report: Report,
    events: Vec<VerifiedEvent>,
    /// The pieces that the events came from, without the events.
    pieces: Vec<Checked>,
    record_bytes: usize,
    /// When the first piece of the batch arrived.
    since: Option<Instant>,
    /// When the last batch was committed.
    committed: Option<Instant>,
    max_delay: Duration,
}

impl<O: Observer> Batch<'_, O> {
    fn run(mut self, queue: &Receiver<Message>, batch_events: usize, stop: &AtomicBool) -> Report {
        let mut end = ImportEnd::Complete;
        loop {
            let is_stopping = stop.load(Ordering::Relaxed);
            match queue.recv_timeout(IDLE) {
                Ok(Message::Piece(ticket)) => match ticket.recv().expect("a piece is answered unless its check panics")
                {
                    Ok(checked) => self.add(checked),
                    Err(error) => end = ImportEnd::Store(error),
                },
                Ok(Message::Begins(looks_like)) => self.report.looks_like = looks_like,
                Ok(Message::Ends(early)) => end = early,
                Err(RecvError::Timeout) if is_stopping => end = ImportEnd::Interrupted,
                Err(RecvError::Timeout) => {}
                Err(RecvError::Closed) if is_stopping => end = ImportEnd::Interrupted,
                Err(RecvError::Closed) => break,
            }
            let is_over = !matches!(end, ImportEnd::Complete);
            let is_due = self.since.is_some_and(|since| since.elapsed() >= self.max_delay);
            let is_full = self.events.len() >= batch_events || self.record_bytes >= BATCH_BYTES;
            let may_commit = self.committed.is_none_or(|at| at.elapsed() >= PAUSE_BETWEEN_COMMITS);
            if (is_full || is_due) && may_commit && !is_over {
                if let Err(error) = self.commit() {
                    self.report.end = error;
                    return self.report;
                }
                self.committed = Some(Instant::now());
            }
            if is_over {
                break;
            }
        }
        self.report.end = self.commit().err().unwrap_or(end);
        self.report
    }

    fn add(&mut self, mut checked: Checked) {
        self.since.get_or_insert_with(Instant::now);
        self.record_bytes += checked.events.iter().map(|event| event.view().record().len()).sum::<usize>();
        self.events.append(&mut checked.events);
        self.pieces.push(checked);
    }

    /// Commits the batch and reports the outcomes of its lines.
    fn commit(&mut self) -> Result<(), ImportEnd> {
        let mut pieces = std::mem::take(&mut self.pieces);
        let events = std::mem::take(&mut self.events);
        (self.record_bytes, self.since) = (0, None);
        let Some(last) = pieces.last() else { return Ok(()) };
        let next_line = last.next_line;
        let (moderation, mut refused) = ((self.decisions)(), Vec::new());
        let is_welcome = |((piece, line), event): &((usize, u64), VerifiedEvent)| {
            let verdict = refuse_banned(&moderation, *line, event.view());
            verdict.map(|verdict| refused.push((*piece, verdict))).is_none()
        };
        let lines = pieces.iter().enumerate().flat_map(|(number, piece)| piece.lines.iter().map(move |&l| (number, l)));
        let (places, events): (Vec<_>, Vec<VerifiedEvent>) = lines.zip(events).filter(is_welcome).unzip();
        let BatchResult { outcomes, reached } = self.storing.store(&events).map_err(ImportEnd::Store)?;
        for (number, verdict) in refused {
            pieces[number].verdicts.push(verdict);
        }
        let mut first_without_room = None;
        let mut stored = vec![0; pieces.len()];
        for (((number, line), event), outcome) in places.into_iter().zip(events).zip(outcomes) {
            match LineOutcome::of(outcome) {
                Some(LineOutcome::Stored) => stored[number] += 1,
                Some(outcome) => {
                    let event = Some((event.view().id(), event.view().created_at()));
                    pieces[number].verdicts.push(Verdict { line, event, outcome, reason: outcome.reason().into() });
                }
                None => first_without_room = first_without_room.or(Some(line)),
            }
        }
        for (mut piece, stored) in pieces.into_iter().zip(stored) {
            self.report.bytes += piece.bytes;
            self.report.counts[LineOutcome::Stored as usize] += stored;
            piece.verdicts.sort_by_key(|verdict| verdict.line);
            for verdict in &piece.verdicts {
                self.report.counts[verdict.outcome as usize] += 1;
                self.observer.not_stored(verdict);
            }
            if first_without_room.is_none() {
                piece.origin.committed(stored, &piece.verdicts);
            }
        }
        self.report.next_line = first_without_room.unwrap_or(next_line);
        self.observer.progress(&self.report);
        reached.map_or(Ok(()), |limit| Err(ImportEnd::Full(limit)))
    }
}

/// The verdict on an event that was banned since it was checked. Requests to vanish are obeyed (NIP-62).
fn refuse_banned(moderation: &Moderation, line: u64, event: EventView<'_>) -> Option<Verdict> {
    let refusal = moderation.check_bans(event).err().filter(|_| event.kind() != Kind::VANISH)?;
    let (event, outcome) = (Some((event.id(), event.created_at())), LineOutcome::Refused);
    Some(Verdict { line, event, outcome, reason: refusal.reason.text })
}
