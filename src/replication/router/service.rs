//! Runs the links: starts and stops them as the operator's streams change.
//!
//! One thread runs the tasks of all links; it waits for no disk and no relay.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task;
use tokio::time::Interval;

use super::intake::{self, Intake, IntakeThread};
use super::link::{Link, Shared};
use super::reconnect;
use super::status::Status;
use super::stream::{LinkOptions, Stream};
use crate::metrics::Metrics;
use crate::pipeline::{StartError, threads};
use crate::replication::recent::Recent;
use crate::store::{Seq, Store};
use crate::sync::thread::JoinHandle;

/// How often the store is looked at for events that arrived: 50 ms, as for subscribers of other processes' events.
const LOOK: Duration = Duration::from_millis(50);

/// How long a link may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// How often the log says what links have done.
const SUMMARY: Duration = Duration::from_secs(60);

/// The bytes that comparisons of all links may hold, at 41 for each event.
const COMPARED_BYTES: usize = 256 << 20;

/// Events that a comparison compares at least at a time.
const MIN_RECORDS: usize = 20_000;

/// What a router needs.
pub struct Parts {
    /// What stores the events that come, with the store and the rules for them. The plugin is the one that the rules
    /// name now.
    pub intake: intake::Parts,
    /// Events that are compared at a time, at most.
    pub max_records: usize,
    /// Where the figures of links appear.
    pub metrics: Arc<Metrics>,
}

/// The running streams.
pub struct Router {
    /// The streams to run. Dropping it stops them.
    wanted: watch::Sender<Vec<Stream>>,
    thread: JoinHandle<()>,
}

impl Router {
    /// Starts a router without streams.
    ///
    /// # Errors
    /// When threads cannot be started or the store cannot be read.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("replicate-io").build()?;
        let running = IntakeThread::start(parts.intake.clone())?;
        let (last, store_id) = {
            let snapshot = parts.intake.store.read()?;
            (snapshot.last_seq()?, snapshot.store_id()?)
        };
        let (wanted, told) = watch::channel(Vec::new());
        let on_failure = Arc::clone(&parts.intake.on_failure);
        let router = Links::new(parts, running.intake().clone(), last, store_id);
        let run = move || {
            router.run(&runtime, told);
            // Comparisons that do not end in time are left behind.
            runtime.shutdown_timeout(ENDING);
            running.finish();
        };
        let thread = threads::spawn("router", &on_failure, run)?;
        Ok(Self { wanted, thread })
    }

    /// Puts other streams in force: links that are the same go on, the others are stopped or started. Does not wait for
    /// them.
    pub fn apply(&self, streams: Vec<Stream>) {
        self.wanted.send_replace(streams);
    }

    /// Stops all streams. What has arrived is committed when this returns.
    pub fn finish(self) {
        let Self { wanted, thread } = self;
        drop(wanted);
        // A panic was reported when it happened.
        let _ = thread.join();
    }
}

/// A link that runs.
struct Active {
    options: LinkOptions,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    task: task::JoinHandle<()>,
    /// What was last said of it.
    told: [u64; 4],
}

/// The thread's own.
struct Links {
    parts: Parts,
    intake: Intake,
    arrived: watch::Sender<Seq>,
    store_id: [u8; 16],
    active: Vec<Active>,
    recents: HashMap<String, Weak<Recent>>,
}

impl Links {
    fn new(parts: Parts, intake: Intake, last: Seq, store_id: [u8; 16]) -> Self {
        let (arrived, _) = watch::channel(last);
        Self { parts, intake, arrived, store_id, active: Vec::new(), recents: HashMap::new() }
    }

    fn run(mut self, runtime: &Runtime, mut told: watch::Receiver<Vec<Stream>>) {
        runtime.block_on(async {
            let (mut look, mut summary) = (tokio::time::interval(LOOK), Instant::now());
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    changed = told.changed() => {
                        if changed.is_err() {
                            break;
                        }
                        let streams = told.borrow_and_update().clone();
                        self.apply(streams, &mut look).await;
                    }
                    _ = look.tick() => self.look(),
                }
                if summary.elapsed() >= SUMMARY {
                    summary = Instant::now();
                    self.tell();
                }
            }
            let active = std::mem::take(&mut self.active);
            end(active).await;
        });
    }

    /// Looks for events that arrived.
    fn look(&self) {
        if self.active.iter().any(|active| active.task.is_finished()) {
            // Only a panic ends it, and that was logged.
            (self.parts.intake.on_failure)("the task of a stream panicked");
        }
        match self.parts.intake.store.read().and_then(|snapshot| snapshot.last_seq()) {
            Ok(last) => {
                self.arrived.send_if_modified(|seq| std::mem::replace(seq, last) != last);
            }
            Err(error) => tracing::error!(%error, "the store could not be read"),
        }
    }

    async fn apply(&mut self, streams: Vec<Stream>, look: &mut Interval) {
        let wanted = LinkOptions::of(streams);
        let is_wanted = |active: &Active| wanted.iter().any(|options| options.is_same(&active.options));
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active).into_iter().partition(is_wanted);
        // The new ones go on where the old ones ended.
        for ended in &go {
            tracing::info!(stream = ended.options.stream.name, url = %ended.options.url, "stopped");
        }
        self.active = stay;
        let mut ending = pin!(end(go));
        loop {
            tokio::select! {
                () = &mut ending => break,
                // The others need not wait for them.
                _ = look.tick() => self.look(),
            }
        }
        let records = COMPARED_BYTES / 41 / wanted.len().max(1);
        let shared = Arc::new(Shared {
            store: self.parts.intake.store.clone(),
            store_id: self.store_id,
            rules: self.parts.intake.rules.clone(),
            intake: self.intake.clone(),
            arrivals: self.arrived.subscribe(),
            max_records: records.clamp(MIN_RECORDS, self.parts.max_records.max(MIN_RECORDS)),
            memory: directory(&self.parts.intake.store, "replication"),
            states: directory(&self.parts.intake.store, "streams"),
        });
        for options in wanted {
            if !self.active.iter().any(|active| active.options.is_same(&options)) {
                self.begin(options, &shared);
            }
        }
    }

    fn begin(&mut self, options: LinkOptions, shared: &Arc<Shared>) {
        tracing::info!(stream = options.stream.name, url = %options.url, "started");
        self.recents.retain(|_, recent| recent.strong_count() > 0);
        let known = self.recents.get(options.url.as_str()).and_then(Weak::upgrade);
        let recent = known.unwrap_or_default();
        self.recents.insert(options.url.as_str().into(), Arc::downgrade(&recent));
        let status = Arc::new(Status::new(&self.parts.metrics, &options));
        let (stop, stopped) = watch::channel(false);
        let link = Link {
            options: options.clone(),
            shared: Arc::clone(shared),
            recent,
            status: Arc::clone(&status),
            stop: stopped,
        };
        let task = tokio::spawn(reconnect::run(Arc::new(link)));
        self.active.push(Active { options, status, stop, task, told: [0; 4] });
    }

    /// Logs what links have done since the last time.
    fn tell(&mut self) {
        for active in &mut self.active {
            let totals = active.status.totals();
            if totals == active.told {
                continue;
            }
            let [stored, refused, sent, refused_there] = totals;
            let behind = active.status.behind_events.get();
            let (stream, url) = (&active.options.stream.name, &active.options.url);
            tracing::info!(stream, %url, stored, refused, sent, refused_there, behind, "so far");
            active.told = totals;
        }
    }
}

/// A directory of the store.
fn directory(store: &Store, name: &str) -> PathBuf {
    store.path().join(name)
}

/// Stops links, all at once.
async fn end(links: Vec<Active>) {
    for active in &links {
        active.stop.send_replace(true);
    }
    let until = Instant::now() + ENDING;
    for mut active in links {
        if tokio::time::timeout_at(until.into(), &mut active.task).await.is_err() {
            active.task.abort();
        }
    }
}
