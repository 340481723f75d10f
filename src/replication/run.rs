//! Runs a sync: connects, compares and transfers, and remembers what stays different.
//!
//! Two threads: the caller's commits what arrived (`import`), the other one talks to the relay.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::download::RequestedEvents;
use super::error::SyncError;
use super::feed::feed;
use super::file;
use super::remembered::{LocalAbsence, Remembered};
use super::report::{Direction, Report, SyncEnd, Watch};
use super::scope::Scope;
use super::session::{Session, Task};
use crate::import::{self, Observer, Origin, Verdict};
use crate::nostr::Timestamp;
use crate::peer::{self, Connection, PeerUrl, Tls};
use crate::pipeline::{StartError, now};
use crate::policy::Source;
use crate::schnorr::{self, SigningKey, Verifier};
use crate::store::Store;

/// How often everything is compared. A second time only if what was sent up made the other relay drop what was refused
/// here.
const MAX_PASSES: usize = 2;

/// The longest message of a relay. Longer events than we take may come, and are passed over.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// What a sync needs.
pub struct Parts<'a> {
    /// Our store. A relay may run on it.
    pub store: &'a Store,
    /// The rules for events from other relays.
    pub rules: import::Rules,
    /// Bans that are younger than the settings.
    pub decisions: import::Decisions,
    /// The signature engines.
    pub verify: schnorr::Options,
    /// How events are committed.
    pub import: import::Options,
    /// The other relay.
    pub url: PeerUrl,
    /// Whose certificates are trusted; needed for `wss://`.
    pub tls: Option<Tls>,
    /// What is compared.
    pub scope: Scope,
    /// Which way events go.
    pub direction: Direction,
    /// Whether missing events are only told.
    pub only_tells: bool,
    /// How long the relay may take for an answer.
    pub timeout: Duration,
    /// The key to prove to the relay, if it asks (NIP-42).
    pub key: Option<SigningKey>,
    /// Events that are compared at a time; each takes 41 bytes of memory.
    pub max_records: usize,
    /// The directory of files about other relays. It is created if missing.
    pub memory: PathBuf,
    /// Whether what earlier syncs remembered is ignored, and replaced.
    pub forget: bool,
    /// Set this to stop early.
    pub stop: &'static AtomicBool,
}

/// Brings this relay and the other one to the same events.
///
/// # Errors
/// When threads cannot be started or the store cannot be read at the start. Later errors are in the report.
pub fn sync(parts: Parts<'_>, watch: &impl Watch) -> Result<Report, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let memory = file::path(&parts.memory, parts.url.as_str(), &parts.scope.name());
    let warn = |text: String| watch.warn(&text);
    let remembered = if parts.forget { Remembered::default() } else { load(&memory, warn) };
    let remembered = Mutex::new(remembered);
    let options = peer::Options { timeout: parts.timeout, max_message_bytes: MAX_MESSAGE_BYTES };
    let connection = match runtime.block_on(Connection::open(&parts.url, parts.tls.clone(), &options)) {
        Ok(connection) => connection,
        Err(error) => return Ok(Report { end: SyncEnd::Failed(error.into()), ..Report::default() }),
    };
    let asked = Arc::new(RequestedEvents::new(parts.scope.whole()));
    let task = Task {
        url: &parts.url,
        tls: parts.tls.clone(),
        options,
        scope: &parts.scope,
        direction: parts.direction,
        only_tells: parts.only_tells,
        key: parts.key.as_ref(),
        settings: parts.rules.settings.load_full(),
        store: parts.store,
        max_records: parts.max_records,
        max_event_bytes: longest_message(&parts.rules),
        remembered: &remembered,
        stop: parts.stop,
        watch,
    };
    let mut session = Session::new(task, connection, Arc::clone(&asked));
    let mut end = SyncEnd::Complete;
    for pass in 0..MAX_PASSES {
        let sent_before = session.report.sent;
        let (ended, outdated) = run_pass(&parts, &runtime, &mut session, &remembered, &asked)?;
        end = ended;
        let is_outdated = outdated && session.report.sent > sent_before;
        if !matches!(end, SyncEnd::Complete) || !is_outdated || pass + 1 == MAX_PASSES {
            break;
        }
    }
    let mut report = runtime.block_on(session.close());
    let mut remembered = remembered.into_inner().unwrap_or_else(PoisonError::into_inner);
    remembered.was_equal = matches!(end, SyncEnd::Complete) && report.leaves_nothing(parts.direction);
    if !parts.only_tells
        && let Err(error) = file::save(&memory, &remembered)
    {
        watch.warn(&format!("{} cannot be written, so the next sync does more work: {error}", memory.display()));
    }
    report.end = end;
    Ok(report)
}

/// The longest message with an event that these rules take. A record is twice as long in JSON, unless most of it needs
/// escapes.
pub(super) fn longest_message(rules: &import::Rules) -> usize {
    2 * rules.settings.load().tiers.largest_event_bytes() + 4096
}

/// What is remembered of the relay. A file that cannot be used costs the next sync work, and nothing else.
pub(super) fn load(file: &Path, warn: impl FnOnce(String)) -> Remembered {
    let mut remembered = file::load(file).unwrap_or_else(|error| {
        warn(format!("{} is ignored: {error}", file.display()));
        Remembered::default()
    });
    remembered.forget_old(now());
    remembered
}

/// Compares and transfers once. Returns how it ended, and whether something was refused that the other relay drops once
/// it has what was sent up.
fn run_pass(
    parts: &Parts<'_>,
    runtime: &tokio::runtime::Runtime,
    session: &mut Session<'_>,
    remembered: &Mutex<Remembered>,
    asked: &Arc<RequestedEvents>,
) -> Result<(SyncEnd, bool), StartError> {
    let (feed, mut pieces) = feed(Origin::Relay(parts.url.as_str().into(), Arc::clone(asked) as _));
    let mut observer = Remembering { remembered, now: now(), outdated: false, reasons: Vec::new() };
    let import_parts = import::Parts {
        store: parts.store.clone(),
        rules: parts.rules.clone(),
        decisions: Arc::clone(&parts.decisions),
        source: Source::Sync,
        verifier: Verifier::new(parts.verify),
        options: parts.import.clone(),
        stop: parts.stop,
    };
    let (talked, imported) = std::thread::scope(|scope| -> Result<_, StartError> {
        let talking = || runtime.block_on(session.pass(feed));
        let talking = std::thread::Builder::new().name("peer".into()).spawn_scoped(scope, talking)?;
        let imported = import::receive(import_parts, move || pieces.next_piece(), &mut observer);
        Ok((talking.join().expect("the thread that talks to the relay panicked"), imported?))
    })?;
    let Remembering { outdated, reasons, .. } = observer;
    let report = &mut session.report;
    imported.counts.iter().zip(&mut report.arrived).for_each(|(count, total)| *total += count);
    reasons.into_iter().for_each(|reason| report.reason(|| reason));
    let is_whole = talked.is_ok() && matches!(imported.end, import::ImportEnd::Complete);
    let missing = asked.take_missing();
    if is_whole {
        report.undelivered += missing.len() as u64;
        remembered.lock().unwrap_or_else(PoisonError::into_inner).refuse_undelivered(missing, now());
    }
    Ok((end_of(talked, imported.end), outdated))
}

/// The end of both halves: the store's troubles come first, since they end the other half too.
fn end_of(talked: Result<(), SyncError>, imported: import::ImportEnd) -> SyncEnd {
    match (imported, talked) {
        (import::ImportEnd::Full(limit), _) => SyncEnd::Full(limit),
        (import::ImportEnd::Store(error), _) | (_, Err(SyncError::Store(error))) => SyncEnd::Store(error),
        (import::ImportEnd::Interrupted, _) | (_, Err(SyncError::Interrupted)) => SyncEnd::Interrupted,
        (_, Err(error)) => SyncEnd::Failed(error),
        (_, Ok(())) => SyncEnd::Complete,
    }
}

/// Remembers what the import refuses.
struct Remembering<'a> {
    remembered: &'a Mutex<Remembered>,
    now: Timestamp,
    outdated: bool,
    reasons: Vec<String>,
}

impl Observer for Remembering<'_> {
    fn not_stored(&mut self, verdict: &Verdict) {
        let Some(reason) = LocalAbsence::by(verdict.outcome) else { return };
        self.outdated |= reason.is_outdated();
        if matches!(reason, LocalAbsence::Rules | LocalAbsence::Invalid) && self.reasons.len() < 10 {
            let name = verdict.event.map_or_else(|| "an event".to_owned(), |(id, _)| id.to_string());
            self.reasons.push(format!("{name} is {}: {}", verdict.outcome.as_str(), verdict.reason));
        }
        if let Some((id, created_at)) = verdict.event {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.refuse(id, created_at, reason, self.now);
        }
    }

    fn progress(&mut self, _: &import::Report) {}
}
