//! A sync as a conversation: what to send next, and what to do about each message that comes.
//!
//! One task does all of it and never waits for anything but the next message, the import or a tick of the clock. Every
//! wait for the relay ends: what brings the sync further counts as progress, and a relay that owes something and brings
//! no progress within its time-out is given up. [`compare`] finds what differs, [`transfer`] moves events.

mod compare;
mod resume;
mod transfer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::attempts::Attempts;
use super::auth::Auth;
use super::download::{Abuse, Downloads, RequestedEvents};
use super::error::SyncError;
use super::feed::Feed;
use super::local::{LocalSide, StoredPart};
use super::open_window::{OpenComparison, OpenPages};
use super::pause::doubled;
use super::refusal::{Refusal, refuses};
use super::remembered::Remembered;
use super::report::{Direction, Progress, Report, Watch};
use super::scope::Scope;
use super::upload::Uploads;
use super::visibility_check::VisibilityCheck;
use super::window::Window;
use crate::nostr::EventId;
use crate::nostr::json::Parser;
use crate::peer::{self, Connection, Incoming, PeerUrl, Tls, Traffic};
use crate::pipeline::now;
use crate::policy::Settings;
use crate::schnorr::{SigningKey, Verifier};
use crate::store::Store;

/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// How often a relay may refuse in a row before it is given up.
const MAX_TRIES: u32 = 8;

/// The longest pause after a refusal.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Messages that nobody asked for before the relay counts as flooding.
const MAX_UNASKED: u64 = 10_000;

/// What a query or an event may take altogether, in multiples of the time for one answer: a relay that drips, or
/// that answers others, is not waited for without end.
const QUERY_TIMEOUTS: u32 = 10;

/// What a session is about.
pub(super) struct Task<'a> {
    pub url: &'a PeerUrl,
    pub tls: Option<Tls>,
    /// How to connect again, and how long an answer may take.
    pub options: peer::Options,
    pub scope: &'a Scope,
    pub direction: Direction,
    /// Whether differences are only told.
    pub only_tells: bool,
    pub key: Option<&'a SigningKey>,
    /// Our own, which say what others may hide too.
    pub settings: Arc<Settings>,
    pub store: &'a Store,
    /// Events that are compared at a time.
    pub max_records: usize,
    /// Longer messages with events are dropped.
    pub max_event_bytes: usize,
    pub remembered: &'a Mutex<Remembered>,
    pub stop: &'a AtomicBool,
    pub watch: &'a (dyn Watch + 'a),
}

impl Task<'_> {
    pub fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> LocalSide<'_> {
        LocalSide {
            store: self.store,
            filter: self.scope.filter(),
            max_records: self.max_records,
            sends_up: self.direction.is_up(),
            now: now(),
            stop: self.stop,
        }
    }
}

/// The conversation with one relay.
pub(super) struct Session<'a> {
    task: Task<'a>,
    connection: Connection,
    parser: Parser,
    asked: Arc<RequestedEvents>,
    /// What is still to be compared, the next window last.
    windows: Vec<Window>,
    comparing: Option<OpenComparison>,
    reading: Option<OpenPages>,
    downloads: Downloads,
    uploads: Uploads,
    visibility: VisibilityCheck,
    auth: Auth,
    speaks_negentropy: bool,
    /// The number in the name of the last session or page.
    named: u64,
    /// When something last came that brought the sync further.
    progress_at: Instant,
    paused_until: Option<Instant>,
    tries: u32,
    unasked: u64,
    told_at: Instant,
    /// Made when a signature decides whether something is sent up.
    verifier: Option<Verifier>,
    attempts: Attempts,
    /// What came and went over earlier connections.
    traffic_before: Traffic,
    /// The last notice, which may explain a silence.
    notice: String,
    pub report: Report,
}

impl<'a> Session<'a> {
    pub fn new(task: Task<'a>, connection: Connection, asked: Arc<RequestedEvents>) -> Self {
        Self {
            task,
            connection,
            parser: Parser::default(),
            asked,
            windows: Vec::new(),
            comparing: None,
            reading: None,
            downloads: Downloads::default(),
            uploads: Uploads::default(),
            visibility: VisibilityCheck::default(),
            auth: Auth::default(),
            speaks_negentropy: true,
            named: 0,
            progress_at: Instant::now(),
            paused_until: None,
            tries: 0,
            unasked: 0,
            told_at: Instant::now(),
            verifier: None,
            attempts: Attempts::default(),
            traffic_before: Traffic::default(),
            notice: String::new(),
            report: Report::default(),
        }
    }

    /// Compares everything once and transfers what differs.
    pub async fn pass(&mut self, mut feed: Feed) -> Result<(), SyncError> {
        self.windows = vec![self.task.scope.window()];
        self.windows.retain(|window| !window.is_empty() && !self.task.scope.filter().is_never());
        self.progress_at = Instant::now();
        let result = self.run(&mut feed).await;
        self.report.traffic = self.traffic();
        self.tell();
        // What came before an error was asked for and is good.
        let flushed = feed.flush().await;
        result.and(flushed)
    }

    async fn run(&mut self, feed: &mut Feed) -> Result<(), SyncError> {
        loop {
            if self.task.stop.load(Ordering::Relaxed) {
                return Err(SyncError::Interrupted);
            }
            self.issue()?;
            if self.is_done() {
                return Ok(());
            }
            match tokio::time::timeout(TICK, self.connection.next()).await {
                Ok(Ok(text)) => self.take(&text, feed).await?,
                Ok(Err(lost)) => {
                    feed.flush().await?;
                    self.reconnect(lost).await?;
                }
                Err(_) => feed.flush().await?,
            }
            self.check_time()?;
        }
    }

    /// What is stored of a window, as it is compared.
    fn held(&self, window: Window) -> Result<StoredPart, SyncError> {
        let found = if self.task.only_tells {
            // Everything that differs is told, also what is known to stay so.
            self.task.look().find(window, &Remembered::default())
        } else {
            self.task.look().find(window, &self.task.remembered())
        };
        found?.ok_or(SyncError::Interrupted)
    }

    fn is_done(&self) -> bool {
        self.windows.is_empty()
            && self.comparing.is_none()
            && self.reading.is_none()
            && self.downloads.is_idle()
            && self.uploads.is_idle()
            && self.visibility.is_idle()
            && !self.auth.is_pending()
    }

    /// Sends whatever may be sent now.
    fn issue(&mut self) -> Result<(), SyncError> {
        if self.auth.is_pending() || self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.paused_until = None;
        if !self.downloads.is_enough() && !self.uploads.is_enough() {
            self.go_on_comparing()?;
        }
        self.ask()?;
        self.send_up()?;
        self.ask_what_is_shown()
    }

    /// Does what a message demands.
    async fn take(&mut self, text: &str, feed: &mut Feed) -> Result<(), SyncError> {
        let incoming = Incoming::parse(&mut self.parser, text);
        if !matches!(incoming, Incoming::Event(_)) {
            // A query may be over: what it brought need not wait for more.
            feed.flush().await?;
        }
        match incoming {
            Incoming::Event(name) => return self.take_event(name, text, feed).await,
            Incoming::Eose(name) => self.end_query(&name)?,
            Incoming::Closed(name, reason) => self.closed(&name, &reason)?,
            Incoming::Ok(id, accepted, reason) => self.answered(id, accepted, &reason)?,
            Incoming::Notice(text) => self.noticed(text)?,
            Incoming::Auth(challenge) => {
                self.auth.challenged(challenge);
                self.prove()?;
            }
            Incoming::NegMsg(name, message) => self.compared(&name, &message)?,
            Incoming::NegErr(name, reason) => self.not_compared(&name, &reason)?,
            Incoming::Other => self.unasked()?,
        }
        Ok(())
    }

    /// Something came that nobody asked for.
    fn unasked(&mut self) -> Result<(), SyncError> {
        self.unasked += 1;
        if self.unasked > MAX_UNASKED { Err(Abuse::Flood.into()) } else { Ok(()) }
    }

    fn advance(&mut self) {
        self.progress_at = Instant::now();
        self.tries = 0;
    }

    /// The next name for a session or page.
    fn name(&mut self, letter: char) -> String {
        self.named += 1;
        format!("{letter}{}", self.named)
    }

    /// A refusal after which the same is asked again: waits, longer each time, for as often as is decent.
    fn try_again(&mut self, reason: &str) -> Result<(), SyncError> {
        if Refusal::of(reason) == Refusal::AuthRequired {
            if self.task.key.is_none() {
                return Err(SyncError::AuthRequired(reason.into()));
            }
            if self.auth.is_due() {
                self.prove()?;
            }
        }
        self.tries += 1;
        if self.tries > MAX_TRIES {
            return Err(SyncError::Refused(reason.into()));
        }
        let pause = doubled(self.tries - 1, LONGEST_PAUSE);
        self.paused_until = Some(Instant::now() + pause);
        Ok(())
    }

    /// Answers the challenge, if there is one and a key (NIP-42).
    fn prove(&mut self) -> Result<(), SyncError> {
        match self.auth.prove(self.task.key, self.task.url, now()) {
            Some(proof) => Ok(self.connection.send(proof)?),
            None => Ok(()),
        }
    }

    /// The answer to an event of ours: a proof or one that was sent up.
    fn answered(&mut self, id: EventId, accepted: bool, reason: &str) -> Result<(), SyncError> {
        match self.auth.answered(id, accepted) {
            None => return self.sent_up(id, accepted, reason),
            Some(false) => return Err(SyncError::AuthRefused(reason.into())),
            Some(true) => {}
        }
        self.paused_until = None;
        self.advance();
        Ok(())
    }

    /// A notice refuses what waits for its first answer, if its words do.
    fn noticed(&mut self, text: String) -> Result<(), SyncError> {
        let is_refusal = refuses(&text);
        self.notice.clone_from(&text);
        let unanswered = self.comparing.as_ref().filter(|comparing| comparing.is_unanswered());
        match unanswered.map(|comparing| comparing.name.clone()) {
            Some(name) if is_refusal => self.not_compared(&name, &text),
            _ => self.unasked(),
        }
    }

    /// Gives up a relay that owes something and brings nothing.
    fn check_time(&mut self) -> Result<(), SyncError> {
        let now = Instant::now();
        let is_tick = now.duration_since(self.told_at) >= TICK;
        if is_tick {
            self.told_at = now;
            self.tell();
        }
        let is_waiting = self.comparing.as_ref().is_some_and(OpenComparison::is_waiting)
            || self.reading.as_ref().is_some_and(OpenPages::is_waiting)
            || self.downloads.is_waiting()
            || self.uploads.is_waiting()
            || self.visibility.is_waiting()
            || self.auth.is_pending();
        if !is_waiting {
            self.progress_at = now;
        }
        let timeout = self.task.options.timeout;
        let is_overdue = is_tick && self.is_overdue(now, timeout * QUERY_TIMEOUTS);
        if !is_overdue && now.duration_since(self.progress_at) < timeout {
            return Ok(());
        }
        if let Some(name) = self.comparing.as_ref().filter(|it| it.is_unanswered()).map(|it| it.name.clone()) {
            // It may not know the message at all, and say nothing.
            self.progress_at = now;
            return self.not_compared(&name, "no answer to NEG-OPEN");
        }
        let notice = if self.notice.is_empty() { String::new() } else { format!("; it said: {}", self.notice) };
        Err(SyncError::TimedOut(timeout.as_secs(), notice))
    }

    /// Whether anything has been owed for longer than this.
    fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.downloads.is_overdue(now, timeout)
            || self.uploads.is_overdue(now, timeout)
            || self.visibility.is_overdue(now, timeout)
            || self.comparing.as_ref().is_some_and(|comparing| comparing.is_overdue(now, timeout))
            || self.reading.as_ref().is_some_and(|reading| reading.is_overdue(now, timeout))
    }

    fn tell(&self) {
        self.task.watch.progress(&Progress {
            missing_here: self.report.missing_here,
            missing_there: self.report.missing_there,
            received: self.downloads.received,
            answered: self.report.sent + self.report.sent_in_vain + self.report.refused_there,
        });
    }

    /// Ends the connection.
    pub async fn close(self) -> Report {
        self.connection.close(Duration::from_secs(1)).await;
        self.report
    }
}
