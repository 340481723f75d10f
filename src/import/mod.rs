//! Events from a file, in JSON however it is laid out, compressed or not: read, check on every core, commit in big batches, all at the same time.
//!
//! Works beside a serving process on the same store, whose live thread finds what was committed. Never stops for
//! a bad line, and never holds more of the input than `AHEAD` pieces and a batch.
//!
//! ```text
//! read ──pieces──▶ pinned pool (parse, hash, look up, verify) ──in their order──▶ the caller's thread: commit
//! ```

mod check;
mod format;
mod pieces;
mod split;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::nostr::VerifiedEvent;
use crate::pipeline::channel::{Receiver, RecvError, Sender, channel};
use crate::pipeline::{StartError, now, pinned_pool};
use crate::policy::Settings;
use crate::retention::{Horizons, resolve};
use crate::schnorr::Verifier;
use crate::store::{Outcome, Store, StoreError, Writer};
use check::{Checked, Checker};
use pieces::{Piece, Pieces};

pub use format::Foreign;

/// Pieces read or checked ahead of the commit: what the cores do while the disk syncs.
const AHEAD: usize = 32;

/// The longest an event waits for its batch to fill, when the input is slower than the disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often the interruption is looked for while nothing arrives.
const IDLE: Duration = Duration::from_millis(50);

/// How long the write lock is left alone between commits. LMDB's lock goes to whoever asks first, not to who waits
/// longest: without this a serving process can wait for many commits of an import whose next batch is ready.
const COURTESY: Duration = Duration::from_millis(1);

/// The most bytes of records in a batch, whatever the number of events.
const BATCH_BYTES: usize = 64 << 20;

/// Events per commit when the store has no room for a whole batch, to find the line where it became full.
const LAST_EVENTS: usize = 256;

/// How to import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether signatures are checked. Without, only what the operator exported himself should be imported.
    pub verify: bool,
    /// Events per commit, at least 1. A serving process waits for a commit, some tenths of a second at the default;
    /// a tenth of the events makes that shorter, and the import several times as slow.
    pub batch_events: usize,
    /// Threads that check; 0 is one for each core.
    pub threads: usize,
    /// Longer lines and objects are refused.
    pub max_line_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { verify: true, batch_events: 10_000, threads: 0, max_line_bytes: 16 << 20 }
    }
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Fate {
    /// Stored now.
    Stored,
    /// Held already.
    Duplicate,
    /// A newer version is held (NIP-01).
    Replaced,
    /// Its author deleted it (NIP-09).
    Deleted,
    /// Its author asked to vanish (NIP-62).
    Vanished,
    /// Past its expiration (NIP-40).
    Expired,
    /// A kind that is never stored (NIP-01).
    Ephemeral,
    /// An event that this relay may not keep.
    Refused,
    /// The retention rules would remove it, or removed it before.
    NotKept,
    /// A deletion request without a target that is its author's (NIP-09).
    InvalidDeletion,
    /// Not an event, or its id or signature is wrong.
    Invalid,
}

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Stored,
        Self::Duplicate,
        Self::Replaced,
        Self::Deleted,
        Self::Vanished,
        Self::Expired,
        Self::Ephemeral,
        Self::Refused,
        Self::NotKept,
        Self::InvalidDeletion,
        Self::Invalid,
    ];

    /// The word for it in a summary.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Vanished => "vanished",
            Self::Expired => "expired",
            Self::Ephemeral => "ephemeral",
            Self::Refused => "refused",
            Self::NotKept => "not kept",
            Self::InvalidDeletion => "invalid deletion",
            Self::Invalid => "invalid",
        }
    }

    /// What happened, where the word alone leaves room for no more.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Stored => "it is stored",
            Self::Duplicate => "it is held already",
            Self::Replaced => "a newer version is held",
            Self::Deleted => "its author deleted it",
            Self::Vanished => "its author asked to vanish",
            Self::Expired => "it is past its expiration",
            Self::Ephemeral => "its kind is never stored",
            Self::Refused => "this relay may not keep it",
            Self::NotKept => "the retention rules would remove it",
            Self::InvalidDeletion => "it names nothing that its author may delete",
            Self::Invalid => "it is not an event",
        }
    }
}

/// What became of one line, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The line, from 1.
    pub line: u64,
    /// What became of it.
    pub fate: Fate,
    /// Why.
    pub reason: Cow<'static, str>,
}

/// How an import ended.
#[derive(Debug)]
pub enum End {
    /// With the end of the input.
    Complete,
    /// By [`Parts::stop`].
    Interrupted,
    /// The store has no room for more.
    Full,
    /// At once, since the input is no text.
    Foreign(Foreign),
    /// The input could not be read on.
    Unreadable(std::io::Error),
    /// The store could not be read or written.
    Store(StoreError),
}

/// What an import has done, so far or in all.
#[derive(Debug)]
pub struct Report {
    /// How many lines came to each [`Fate`], by its number.
    pub counts: [u64; Fate::ALL.len()],
    /// Bytes of text that were handled, decompressed.
    pub bytes: u64,
    /// The first line that was not handled: where to go on.
    pub next_line: u64,
    /// What the text looks like by its beginning: for those who find no event in it.
    pub looks_like: &'static str,
    /// How it ended.
    pub end: End,
}

impl Report {
    /// How many lines came to this.
    #[must_use]
    pub const fn count(&self, fate: Fate) -> u64 {
        self.counts[fate as usize]
    }
}

/// Who is told how it goes.
pub trait Observer {
    /// A line was not stored. In the order of the lines.
    fn not_stored(&mut self, verdict: &Verdict);
    /// A batch was committed.
    fn progress(&mut self, so_far: &Report);
}

/// What an import works with.
pub struct Parts {
    /// Where events go.
    pub store: Store,
    /// The relay's own names, for requests to vanish.
    pub settings: Settings,
    /// The signature engines.
    pub verifier: Verifier,
    /// How to import.
    pub options: Options,
    /// Set to end early: what was read is committed.
    pub stop: &'static AtomicBool,
}

/// A piece in the hands of the pool; the results arrive in the order of the pieces.
type Ticket = Receiver<Result<Checked, StoreError>>;

/// Brings in all of `input`.
///
/// # Errors
/// When the store cannot be read at first, or threads cannot be started. Whatever goes wrong later is in the report.
pub fn import(
    parts: Parts,
    input: impl Read + Send + 'static,
    observer: &mut impl Observer,
) -> Result<Report, StartError> {
    let Parts { store, mut settings, verifier, options, stop } = parts;
    settings.retention = resolve(settings.retention, &store)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = pinned_pool(if options.threads == 0 { cores } else { options.threads }, cores)?;
    let Options { verify, batch_events, max_line_bytes, .. } = options;
    let writer = store.writer();
    let horizons = Horizons::load(&settings.retention, &store)?;
    let checker = Checker { store, settings, horizons, verifier: Arc::new(verifier), verify, max_line_bytes };
    let (tickets, queue) = channel(AHEAD);
    // Not joined: it may wait for input for ever, and has nothing to finish.
    std::thread::Builder::new()
        .name("import-read".into())
        .spawn(move || read(input, max_line_bytes, &pool, &Arc::new(checker), &tickets, stop))?;
    let (counts, looks_like) = ([0; Fate::ALL.len()], format::describe(b""));
    let report = Report { counts, bytes: 0, next_line: 1, looks_like, end: End::Complete };
    let batch =
        Batch { writer, observer, report, events: Vec::new(), pieces: Vec::new(), record_bytes: 0, since: None };
    Ok(batch.run(&queue, batch_events.max(1), stop))
}

/// What the reading thread passes on.
enum Message {
    /// What the text looks like; comes first.
    Begins(&'static str),
    Piece(Ticket),
    /// Nothing follows.
    Ends(End),
}

/// Reads pieces and gives them to the pool, until the input ends or nobody wants more.
fn read(
    input: impl Read + Send + 'static,
    max_line_bytes: usize,
    pool: &ThreadPool,
    checker: &Arc<Checker>,
    tickets: &Sender<Message>,
    stop: &AtomicBool,
) {
    // Nobody is to be told when the writing end is gone.
    let pass = |piece: Piece| {
        let (done, ticket) = channel(1);
        let checker = Arc::clone(checker);
        let is_wanted = tickets.send(Message::Piece(ticket)).is_ok();
        if is_wanted {
            pool.spawn_fifo(move || {
                // The receiver is gone only when the import has ended early.
                let _ = done.send(checker.check(&piece, now()));
            });
        }
        is_wanted
    };
    let end = |end| {
        let _ = tickets.send(Message::Ends(end));
    };
    let mut pieces = match format::text(input) {
        Ok(Ok(text)) => Pieces::new(text, max_line_bytes),
        Ok(Err(foreign)) => return end(End::Foreign(foreign)),
        Err(error) => return end(End::Unreadable(error)),
    };
    let mut is_first = true;
    while !stop.load(Ordering::Relaxed) {
        match pieces.next_piece() {
            Ok(Some(piece)) => {
                if is_first && tickets.send(Message::Begins(format::describe(&piece.text))).is_err() {
                    return;
                }
                is_first = false;
                if !pass(piece) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return end(End::Unreadable(error)),
        }
    }
}

/// The next batch, and what became of those before.
struct Batch<'o, O> {
    writer: Writer,
    observer: &'o mut O,
    report: Report,
    events: Vec<VerifiedEvent>,
    /// The rest of the pieces that the events are of.
    pieces: Vec<Checked>,
    record_bytes: usize,
    /// When the first piece came.
    since: Option<Instant>,
}

impl<O: Observer> Batch<'_, O> {
    fn run(mut self, queue: &Receiver<Message>, batch_events: usize, stop: &AtomicBool) -> Report {
        let mut end = End::Complete;
        loop {
            let is_stopping = stop.load(Ordering::Relaxed);
            match queue.recv_timeout(IDLE) {
                Ok(Message::Piece(ticket)) => match ticket.recv().expect("a piece is answered unless its check panics")
                {
                    Ok(checked) => self.add(checked),
                    Err(error) => end = End::Store(error),
                },
                Ok(Message::Begins(looks_like)) => self.report.looks_like = looks_like,
                Ok(Message::Ends(early)) => end = early,
                Err(RecvError::Timeout) if is_stopping => end = End::Interrupted,
                Err(RecvError::Timeout) => {}
                Err(RecvError::Closed) if is_stopping => end = End::Interrupted,
                Err(RecvError::Closed) => break,
            }
            let is_over = !matches!(end, End::Complete);
            let is_due = self.since.is_some_and(|since| since.elapsed() >= PATIENCE);
            let is_full = self.events.len() >= batch_events || self.record_bytes >= BATCH_BYTES;
            if (is_full || is_due) && !is_over {
                if let Err(error) = self.commit() {
                    self.report.end = error;
                    return self.report;
                }
                std::thread::sleep(COURTESY);
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

    /// Commits the batch and tells what became of its lines.
    fn commit(&mut self) -> Result<(), End> {
        let pieces = std::mem::take(&mut self.pieces);
        let events = std::mem::take(&mut self.events);
        (self.record_bytes, self.since) = (0, None);
        let Some(last) = pieces.last() else { return Ok(()) };
        let next_line = last.next_line;
        let outcomes = store(&mut self.writer, events).map_err(End::Store)?;
        let lines = pieces.iter().flat_map(|piece| &piece.lines).copied();
        let mut first_without_room = None;
        let mut verdicts = Vec::new();
        for (line, outcome) in lines.zip(outcomes) {
            match fate(outcome) {
                Some(Fate::Stored) => self.report.counts[Fate::Stored as usize] += 1,
                Some(fate) => verdicts.push(Verdict { line, fate, reason: fate.reason().into() }),
                None => first_without_room = first_without_room.or(Some(line)),
            }
        }
        self.report.bytes += pieces.iter().map(|piece| piece.bytes).sum::<u64>();
        verdicts.extend(pieces.into_iter().flat_map(|piece| piece.verdicts));
        verdicts.sort_by_key(|verdict| verdict.line);
        for verdict in verdicts {
            self.report.counts[verdict.fate as usize] += 1;
            self.observer.not_stored(&verdict);
        }
        self.report.next_line = first_without_room.unwrap_or(next_line);
        self.observer.progress(&self.report);
        if first_without_room.is_some() { Err(End::Full) } else { Ok(()) }
    }
}

/// Commits events; when there is no room for all of them, as many of the first as there is room for.
fn store(writer: &mut Writer, events: Vec<VerifiedEvent>) -> Result<Vec<Outcome>, StoreError> {
    let commit = |writer: &mut Writer, events: &[VerifiedEvent]| match writer.commit(events, now()) {
        // Nothing of it is stored.
        Err(StoreError::Full) => Ok(vec![Outcome::Full; events.len()]),
        result => result,
    };
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut outcomes = commit(writer, &events)?;
    if events.len() <= LAST_EVENTS || !outcomes.contains(&Outcome::Full) {
        return Ok(outcomes);
    }
    for (events, outcomes) in events.chunks(LAST_EVENTS).zip(outcomes.chunks_mut(LAST_EVENTS)) {
        let again = commit(writer, events)?;
        for (outcome, again) in outcomes.iter_mut().zip(again) {
            // Deletions were stored with the first try.
            if *outcome == Outcome::Full {
                *outcome = again;
            }
        }
        if outcomes.contains(&Outcome::Full) {
            break;
        }
    }
    Ok(outcomes)
}

/// What an outcome is called here; `None` when there was no room.
const fn fate(outcome: Outcome) -> Option<Fate> {
    match outcome {
        Outcome::Stored(_) => Some(Fate::Stored),
        Outcome::Duplicate => Some(Fate::Duplicate),
        Outcome::Replaced => Some(Fate::Replaced),
        Outcome::Deleted => Some(Fate::Deleted),
        Outcome::Vanished => Some(Fate::Vanished),
        Outcome::Expired => Some(Fate::Expired),
        Outcome::Ephemeral => Some(Fate::Ephemeral),
        Outcome::InvalidDeletion => Some(Fate::InvalidDeletion),
        Outcome::Full => None,
    }
}
