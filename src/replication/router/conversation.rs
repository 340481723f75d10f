//! The live connection of a link: one task that waits for whatever comes next, and never for one thing alone.
//!
//! Every wait for the relay ends: one that owes an answer for too long is given up. [`receive`] subscribes and moves
//! the mark, [`send`] follows what arrives here.

mod receive;
mod send;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::account::{Account, LiveEvents};
use super::down::{DownState, LIVE};
use super::follow::ArrivedEvents;
use super::link::Link;
use super::progress::Progress;
use super::up::UpState;
use crate::import::Origin;
use crate::nostr::json::Parser;
use crate::nostr::{EventId, Timestamp};
use crate::peer::{Connection, Frame, Incoming, PeerError};
use crate::pipeline::now as now_s;
use crate::replication::auth::Auth;
use crate::replication::download::Abuse;
use crate::replication::error::SyncError;
use crate::replication::feed::Feed;
use crate::replication::refusal::Refusal;
use crate::replication::report::Report;
use crate::store::{Seq, StoreError};

/// How often the clock is looked at, and how long an event waits at most for others to be checked with.
const TICK: Duration = Duration::from_millis(50);

/// How often the relay is asked whether it is still there.
const PING: Duration = Duration::from_secs(5);

/// How often the figures are brought up to date.
const MEASURE: Duration = Duration::from_secs(1);

/// How many times as long as for any answer to wait for that to one event while the relay answers others.
const ANSWERS: u32 = 4;

/// Messages that nobody asked for, and events that do not match or are not signed, before the relay is given up.
const MAX_UNASKED: u64 = 10_000;
const MAX_BAD: u64 = 1_000;

/// A ping that is not answered yet.
struct Ping {
    number: u64,
    sent_at: Instant,
    /// Everything that the relay had before this is received before the pong.
    time: Timestamp,
}

/// The state of one open connection of a link.
pub struct Conversation<'l> {
    link: &'l Arc<Link>,
    progress: &'l mut Progress,
    connection: Connection,
    parser: Parser,
    auth: Auth,
    feed: Feed,
    account: Arc<Account>,
    failures: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    arrivals: watch::Receiver<Seq>,
    down: DownState,
    up: Option<UpState>,
    reading: Option<JoinHandle<Result<ArrivedEvents, StoreError>>>,
    ping: Option<Ping>,
    pinged_at: Instant,
    pings: u64,
    measured_at: Instant,
    /// Since when we listen again, after the import was behind.
    listens_since: Instant,
    unasked: u64,
    /// The last notice.
    notice: String,
}

/// What happened.
enum Input {
    Frame(Frame),
    Caught(Result<Report, SyncError>),
    Found(Result<ArrivedEvents, StoreError>),
    Tick,
}

impl<'l> Conversation<'l> {
    /// Talks until the connection ends, the relay is given up, or the link is to stop.
    pub async fn hold(
        link: &'l Arc<Link>,
        progress: &'l mut Progress,
        connection: Connection,
    ) -> Result<(), SyncError> {
        let shared = &link.shared;
        let failures = shared.intake.failures();
        let account = Arc::new(Account::new(Arc::clone(&link.recent), Arc::clone(&link.status)));
        let live = LiveEvents { filter: link.options.stream.scope.whole(), account: Arc::clone(&account) };
        let origin = Origin::Relay(link.options.url.as_str().into(), Arc::new(live));
        let feed = shared.intake.feed(origin, account.window()).ok_or(SyncError::ImportOver)?;
        let up = if link.options.stream.direction.is_up() { Some(UpState::begin(link, progress)) } else { None };
        let now = Instant::now();
        let mut conversation = Self {
            link,
            progress,
            connection,
            parser: Parser::default(),
            auth: Auth::default(),
            feed,
            account,
            failures,
            stop: link.stop.clone(),
            arrivals: shared.arrivals.clone(),
            down: DownState::default(),
            up,
            reading: None,
            ping: None,
            pinged_at: now,
            pings: 0,
            measured_at: now,
            listens_since: now,
            unasked: 0,
            notice: String::new(),
        };
        let ended = conversation.run().await;
        conversation.end(&ended).await;
        ended
    }

    async fn run(&mut self) -> Result<(), SyncError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.subscribe()?;
        loop {
            self.go_on()?;
            let follows = self.up.is_some();
            let happened = tokio::select! {
                frame = self.connection.next_frame() => Input::Frame(frame?),
                caught = joined(&mut self.down.catching) => Input::Caught(caught),
                found = joined(&mut self.reading) => Input::Found(found),
                _ = self.arrivals.changed(), if follows => Input::Tick,
                _ = tick.tick() => Input::Tick,
                _ = self.failures.changed() => return Err(SyncError::ImportOver),
                _ = self.stop.wait_for(|stop| *stop) => return Err(SyncError::Interrupted),
            };
            match happened {
                Input::Frame(Frame::Text(text)) => self.take(&text).await?,
                Input::Frame(Frame::Pong(number)) => self.answered_ping(number).await?,
                Input::Caught(report) => self.caught_up(report).await?,
                Input::Found(found) => self.found(found?)?,
                Input::Tick => self.flush().await?,
            }
            self.check()?;
        }
    }

    /// Begins whatever may begin now.
    fn go_on(&mut self) -> Result<(), SyncError> {
        let now = Instant::now();
        if self.ping.is_none() && now.duration_since(self.pinged_at) >= PING {
            self.pings += 1;
            self.pinged_at = now;
            self.ping = Some(Ping { number: self.pings, sent_at: now, time: now_s() });
            self.connection.ping(self.pings)?;
        }
        self.go_on_down(now)?;
        self.go_on_up(now);
        Ok(())
    }

    /// Does what a message demands.
    async fn take(&mut self, text: &str) -> Result<(), SyncError> {
        match Incoming::parse(&mut self.parser, text) {
            Incoming::Event(name) => {
                if name != LIVE || !self.down.is_asked() || text.len() > self.link.shared.max_event_bytes() {
                    return self.unasked();
                }
                self.push(text).await
            }
            Incoming::Eose(name) => self.subscribed(&name),
            Incoming::Closed(name, reason) => self.closed(&name, &reason),
            Incoming::Ok(id, accepted, reason) => self.answered(id, accepted, &reason),
            Incoming::Auth(challenge) => {
                self.auth.challenged(challenge);
                self.prove()
            }
            Incoming::Notice(text) => {
                // It may explain a silence.
                self.notice = format!("; it said: {text}");
                self.unasked()
            }
            Incoming::NegMsg(..) | Incoming::NegErr(..) | Incoming::Other => self.unasked(),
        }
    }

    /// Passes an event on. Waits while the import is behind, and the relay with it.
    async fn push(&mut self, text: &str) -> Result<(), SyncError> {
        let began = Instant::now();
        let pushed = tokio::select! {
            pushed = self.feed.push(text) => pushed,
            _ = self.failures.changed() => Err(SyncError::ImportOver),
            _ = self.stop.wait_for(|stop| *stop) => Err(SyncError::Interrupted),
        };
        if began.elapsed() >= TICK {
            self.listens_since = Instant::now();
        }
        pushed
    }

    /// Passes on what waits for more.
    async fn flush(&mut self) -> Result<(), SyncError> {
        tokio::select! {
            flushed = self.feed.flush() => flushed,
            _ = self.failures.changed() => Err(SyncError::ImportOver),
            _ = self.stop.wait_for(|stop| *stop) => Err(SyncError::Interrupted),
        }
    }

    /// Something came that nobody asked for.
    fn unasked(&mut self) -> Result<(), SyncError> {
        self.unasked += 1;
        if self.unasked > MAX_UNASKED { Err(Abuse::Flood.into()) } else { Ok(()) }
    }

    /// Answers the challenge, if there is one and a key (NIP-42).
    fn prove(&mut self) -> Result<(), SyncError> {
        let (key, url) = (self.link.options.stream.key.as_deref(), &self.link.options.url);
        match self.auth.prove(key, url, now_s()) {
            Some(proof) => Ok(self.connection.send(proof)?),
            None => Ok(()),
        }
    }

    /// A refusal for want of a key: proves it, if there is one.
    fn key_is_wanted(&mut self, reason: &str) -> Result<(), SyncError> {
        if self.link.options.stream.key.is_none() {
            return Err(SyncError::AuthRequired(reason.into()));
        }
        if self.auth.is_due() { self.prove() } else { Ok(()) }
    }

    /// Whether a refusal may be due to a key that is not proven yet: some relays say `restricted:` to strangers too.
    fn wants_key(&self, reason: &str) -> bool {
        let may_yet_prove = self.link.options.stream.key.is_some() && !self.auth.is_proven();
        Refusal::of(reason) == Refusal::AuthRequired || (reason.starts_with("restricted") && may_yet_prove)
    }

    /// The relay's word on an event of ours: the proof of a key, or one that was sent up.
    fn answered(&mut self, id: EventId, accepted: bool, reason: &str) -> Result<(), SyncError> {
        match self.auth.answered(id, accepted) {
            None => self.sent_up(id, accepted, reason),
            Some(false) => Err(SyncError::AuthRefused(reason.into())),
            Some(true) => {
                self.down.ask_again_at(Instant::now());
                if let Some(up) = &mut self.up {
                    up.pause.end();
                    up.outgoing.hurry();
                }
                Ok(())
            }
        }
    }

    async fn answered_ping(&mut self, number: u64) -> Result<(), SyncError> {
        let Some(ping) = self.ping.take_if(|ping| ping.number == number) else { return self.unasked() };
        self.flush().await?;
        self.down.heard_until(ping.time, self.feed.passed);
        Ok(())
    }

    /// Looks at the clock and the figures, and gives up a relay that owes something or misbehaves.
    fn check(&mut self) -> Result<(), SyncError> {
        let now = Instant::now();
        if self.account.bad() > MAX_BAD {
            return Err(SyncError::Abuse(Abuse::Flood));
        }
        if let Some(mark) = self.down.committed(self.account.committed()) {
            self.progress.level_until(mark);
        }
        if let Some(up) = &self.up {
            self.progress.answered_until(up.cursor());
            if up.cursor() >= *self.arrivals.borrow() {
                self.progress.sent_all_at = now_s();
            }
        }
        self.progress.save_some();
        if now.duration_since(self.measured_at) >= MEASURE {
            self.measured_at = now;
            self.link.measure(self.progress);
            let timeout = ANSWERS * self.link.options.stream.timeout;
            if let Some(up) = self.up.as_mut().filter(|_| now.duration_since(self.listens_since) > timeout) {
                up.look_for_left_out(now, timeout);
            }
        }
        let timeout = self.link.options.stream.timeout;
        let owed_since = [self.ping.as_ref().map(|ping| ping.sent_at), self.down.waiting_since()];
        // Not while we did not listen.
        let is_overdue = |since: Instant| now.duration_since(since.max(self.listens_since)) >= timeout;
        let stalls = |up: &mut UpState| up.waiting_since().is_some_and(is_overdue) && !up.may_go_on(now);
        if owed_since.into_iter().flatten().any(is_overdue) || self.up.as_mut().is_some_and(stalls) {
            return Err(SyncError::TimedOut(timeout.as_secs(), self.notice.clone()));
        }
        Ok(())
    }

    /// Ends everything that this connection began.
    async fn end(mut self, ended: &Result<(), SyncError>) {
        self.down.stop().await;
        if let Some(reading) = self.reading.take() {
            drop(reading.await);
        }
        if let Some(up) = self.up.take() {
            let is_cut = matches!(ended, Err(SyncError::Peer(PeerError::Closed(_) | PeerError::Broken(_))));
            if let Some(id) = up.end(is_cut, self.progress) {
                self.pass_over(&id, "the relay ends the connection whenever it gets this event");
            }
        }
        self.connection.close(Duration::from_secs(1)).await;
    }
}

/// The result of a task, once there is a task and it has ended.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> T {
    match task {
        Some(running) => {
            let result = running.await;
            *task = None;
            result.expect("tasks of links do not panic")
        }
        None => pending().await,
    }
}
