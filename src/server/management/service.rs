//! What the `management` thread does: it records acts and makes them take effect.
//!
//! One request at a time, so acts have an order. An act is on disk before anything else happens.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::history::History;
use super::link::{Answer, Authority, Inbox};
use super::outlook::Outlook;
use super::purge_queue::{PurgeRequest, Purges};
use super::{members, reports, view};
use crate::management::{self, Actor, Configured, Journal, MethodResult, Request, Subject};
use crate::nostr::EventId;
use crate::pipeline::Serving;
use crate::pipeline::commit::uncommitted::Change;
use crate::policy::Moderation;
use crate::server::dashboard::context::DashboardContext;
use crate::store::{Seq, Store, StoreError};

/// How often the thread looks whether a command recorded something.
const WATCH: Duration = Duration::from_secs(1);

/// How long the writer is given to commit, or to remove an event, and how often the thread looks.
pub(super) const COMMITTED_WITHIN: Duration = Duration::from_secs(8);
pub(super) const LOOK: Duration = Duration::from_millis(2);

/// How long after its ban an event is looked for that was on its way to the store, and how many bans are remembered for
/// that; of more, the earliest are looked for at the next start.
const ON_THE_WAY: Duration = Duration::from_secs(10);
const MAX_RECENT: usize = 1024;

/// Carries out management requests: holds the journal, what the running relay shares, and the bans of the last seconds
/// (at most 1,024 events).
pub struct Service {
    pub(super) journal: RefCell<Journal>,
    serving: Serving,
    /// The number of the last act that is in force.
    in_force: Cell<u64>,
    /// What it has of members.
    pub(super) members: members::Members,
    /// The dashboard, if any address serves it.
    pub(super) dashboard: Option<Arc<DashboardContext>>,
    /// What the relay did lately.
    pub(super) history: RefCell<History>,
    /// How long the room will last.
    pub(super) outlook: Outlook,
    /// Purges that nobody waits for.
    pub(super) purges: Purges,
    /// Events that were banned lately, and when.
    recent: RefCell<VecDeque<(Instant, EventId)>>,
}

impl Service {
    /// A service whose decisions are in force already.
    pub fn new((journal, dashboard): (Journal, Option<Arc<DashboardContext>>), serving: Serving) -> Rc<Self> {
        serving.metrics.show_decisions(journal.state().counts());
        let (in_force, members) = (Cell::new(journal.state().last()), members::Members::default());
        let (journal, recent) = (RefCell::new(journal), RefCell::default());
        let (history, outlook, purges) = (RefCell::default(), Outlook::default(), Purges::default());
        Rc::new(Self { journal, serving, in_force, members, dashboard, history, outlook, purges, recent })
    }

    /// Serves until `stopped`.
    pub async fn run(self: Rc<Self>, Inbox { mut jobs, mut asked }: Inbox, mut stopped: watch::Receiver<bool>) {
        tokio::task::spawn_local(Rc::clone(&self).take_history());
        tokio::task::spawn_local(Rc::clone(&self).run_purges());
        self.remove_banned(&Moderation::default()).await;
        let mut watch = tokio::time::interval(WATCH);
        loop {
            tokio::select! {
                // An error means that nobody can stop it any more.
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
                Some(job) = jobs.recv() => {
                    let answer = self.serve(job.by, &job.body).await;
                    // The client may have left.
                    let _ = job.answer.send(answer);
                }
                Some(asked) = asked.recv() => self.serve_member(asked).await,
                _ = watch.tick() => {
                    self.refresh().await;
                    self.look_again().await;
                    self.publish_members().await;
                }
            }
        }
    }

    /// Carries out a request that came over HTTP.
    async fn serve(&self, by: Authority, body: &[u8]) -> Answer {
        let who = match by {
            Authority::Session(by) => Actor { by, auth: None },
            Authority::Signed(auth) => {
                let (id, created_at) = (auth.view().id(), auth.view().created_at());
                let admitted = self.journal.borrow_mut().admit(id, created_at);
                match admitted {
                    Ok(true) => {}
                    Ok(false) => return Answer::Unauthorized("this authorization was used before; sign a new one"),
                    Err(error) => return Answer::Failed(error.to_string()),
                }
                Actor { by: auth.view().pubkey().to_string(), auth: Some(id) }
            }
        };
        let answer = match Request::parse(body) {
            Ok(request) => self.call(&request, &who).await,
            Err(error) => Err(error.to_string()),
        };
        answer.map_or_else(Answer::Failed, Answer::Done)
    }

    /// Carries out a request.
    pub async fn call(&self, request: &Request, who: &Actor) -> Result<serde_json::Value, String> {
        const REPORTED: &str = "listeventsneedingmoderation";
        match request.method.as_str() {
            "supportedmethods" => {
                let settings = self.serving.settings.load();
                return Ok(management::methods::methods(&settings.membership)
                    .chain([REPORTED])
                    .chain(view::METHODS)
                    .collect());
            }
            REPORTED => {
                self.committed().await?;
                let listed = reports::list(&self.serving.store, &self.journal).await;
                return listed.map_err(|error| error.to_string());
            }
            _ => {}
        }
        if let Some(answer) = self.call_own(request, who).await {
            return answer;
        }
        let (settings, now) = (self.serving.settings.load_full(), self.serving.clock.now());
        let configured = Configured { access: &settings.access, membership: &settings.membership };
        let called = management::call(&mut self.journal.borrow_mut(), configured, request, (who, now));
        let MethodResult { result, changed } = called.map_err(|error| error.to_string())?;
        if let Some(subject) = changed {
            tracing::info!(by = who.by, method = request.method, %subject, "a management act");
            self.take_effect(subject).await?;
        }
        Ok(result)
    }

    /// What it has of the pipeline.
    pub const fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.serving.store
    }

    /// Records a purge, once what was acknowledged is committed, so that the purge finds it.
    pub async fn note_purge(&self, PurgeRequest { subject, events, reason, by }: &PurgeRequest) -> Result<(), String> {
        self.committed().await?;
        let now = self.serving.clock.now();
        tracing::info!(by = by.by, %subject, events, "a purge");
        let noted = self.journal.borrow_mut().note_purge(*subject, *events, reason, (by, now));
        noted.map_err(|error| error.to_string())
    }

    /// Waits until what was acknowledged before is committed: only then is it read.
    pub(super) async fn committed(&self) -> Result<(), String> {
        let uncommitted = &self.serving.reading.uncommitted;
        let last = uncommitted.last();
        let committed = tokio::time::timeout(COMMITTED_WITHIN, async {
            while uncommitted.holds(last) {
                self.serving.removals.commit();
                tokio::time::sleep(LOOK).await;
            }
        });
        committed.await.map_err(|_| "the writer is busy; try again later".into())
    }

    /// Waits until this event is committed, if it is acknowledged. Nothing but the caller ends the wait.
    pub(super) async fn event_committed(&self, id: &EventId) {
        while self.serving.reading.uncommitted.change(id) == Some(Change::Added) {
            self.serving.removals.commit();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts the decisions in force, and does what the latest one entails.
    async fn take_effect(&self, subject: Subject) -> Result<(), String> {
        let before = self.publish();
        self.publish_members().await;
        let mut removed = Ok(());
        if let Subject::Event(id) = subject
            && self.is_banned(&id)
        {
            self.remember(id);
            removed = self.remove(&id).await;
        }
        // Another process may have banned some meanwhile.
        self.remove_banned(&before).await;
        removed
    }

    /// Keeps a ban for [`Service::look_again`]. When there are too many, the oldest is forgotten.
    fn remember(&self, id: EventId) {
        let mut recent = self.recent.borrow_mut();
        recent.push_front((Instant::now(), id));
        recent.truncate(MAX_RECENT);
    }

    /// Removes banned events that passed policy before their ban and reached the store after it.
    async fn look_again(&self) {
        self.recent.borrow_mut().retain(|(banned, _)| banned.elapsed() < ON_THE_WAY);
        let recent: Vec<EventId> = self.recent.borrow().iter().map(|(_, id)| *id).collect();
        for id in recent {
            if matches!(self.find(&id), Ok(Some(_)))
                && self.is_banned(&id)
                && let Err(error) = self.remove(&id).await
            {
                tracing::error!(%id, error, "a banned event could not be removed");
            }
        }
    }

    /// Puts the decisions in force; returns the former ones.
    pub(super) fn publish(&self) -> Arc<Moderation> {
        let before = Arc::clone(&self.serving.settings.load().moderation);
        let journal = self.journal.borrow();
        self.serving.apply_moderation(&Arc::new(journal.moderation().clone()));
        self.serving.metrics.show_decisions(journal.state().counts());
        self.in_force.set(journal.state().last());
        before
    }

    /// Puts in force what another process recorded, and removes the events that it banned. An act of this process may
    /// have read it before.
    async fn refresh(&self) {
        let refreshed = self.journal.borrow_mut().refresh();
        if let Err(error) = refreshed {
            tracing::error!(%error, "the decisions could not be read again; the former ones stay in force");
        }
        if self.journal.borrow().state().last() != self.in_force.get() {
            let before = self.publish();
            self.remove_banned(&before).await;
        }
    }

    fn is_banned(&self, id: &EventId) -> bool {
        let journal = self.journal.borrow();
        let decision = journal.state().get(&Subject::Event(*id));
        decision.is_some_and(|decision| decision.verdict == management::Verdict::Ban)
    }

    /// Removes the stored events that are banned and were not `before`: another process recorded that, or this one was
    /// killed between a ban and its removal.
    pub(super) async fn remove_banned(&self, before: &Moderation) {
        let banned: Vec<EventId> = self.journal.borrow().moderation().newly_banned(before).collect();
        for id in banned {
            if !self.is_banned(&id) {
                continue;
            }
            self.remember(id);
            if let Err(error) = self.remove(&id).await {
                tracing::error!(%id, error, "a banned event could not be removed");
            }
        }
    }

    /// Removes an event, if it is stored, and waits until it is gone.
    async fn remove(&self, id: &EventId) -> Result<(), String> {
        let late = || "the event is banned, but the writer is busy: it is removed at the next start".to_string();
        let removed = tokio::time::timeout(COMMITTED_WITHIN, async {
            self.event_committed(id).await;
            match self.find(id) {
                Ok(Some(seq)) => self.remove_all(vec![seq]).await.map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        removed.await.unwrap_or_else(|_| Err(late()))
    }

    pub(super) fn find(&self, id: &EventId) -> Result<Option<Seq>, StoreError> {
        Ok(self.serving.store.read()?.by_id(id)?.map(|(seq, _)| seq))
    }

    /// Has the writer remove these events; returns how many there were.
    pub async fn remove_all(&self, seqs: Vec<Seq>) -> Result<u64, String> {
        let done = loop {
            match self.serving.removals.ask(seqs.clone()) {
                Some(done) => break done,
                None => tokio::time::sleep(LOOK).await,
            }
        };
        loop {
            match done.try_recv() {
                Some(removed) => return removed.map_err(|error| error.to_string()),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
