//! Starting and ending the threads, and what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::channel::{Sender, channel};
use super::evict::evictor;
use super::fair_channel::FairChannel;
use super::health::Health;
use super::queues::{Bounds, Depths};
use crate::ledger::{self, Ledger};
use crate::metrics::{Metrics, Queue, StoreOperation};
use crate::nostr::Timestamp;
use crate::pipeline::commit::uncommitted::Uncommitted;
use crate::pipeline::commit::writer;
use crate::pipeline::cron;
use crate::pipeline::deliver::live;
use crate::pipeline::deliver::live::LiveHub;
use crate::pipeline::ingest::gate::Ingest;
use crate::pipeline::ingest::verify;
use crate::pipeline::ingest::verify::Intake;
use crate::pipeline::query::reader;
use crate::pipeline::query::reader::ReaderCommand;
use crate::pipeline::query::reconcile::{self, Sessions};
use crate::policy::{Retention, Settings};
use crate::retention::{self, Horizons};
use crate::schnorr::Verifier;
use crate::store::{self, Durability, Store, StoreError};

/// How queries are run, and how many threads there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Threads that run scans; 0 chooses by the number of cores.
    pub read_threads: usize,
    /// Threads of the signature pool; 0 chooses by the number of cores.
    pub verify_threads: usize,
    /// Rows a scan may look at in one slice.
    pub slice_rows: u32,
    /// Microseconds a scan may take in one slice.
    pub slice_us: u64,
    /// Rows a scan may look at on the io thread before it moves to a reader.
    pub inline_rows: u32,
    /// Microseconds a scan may take on the io thread; 0 always uses a reader.
    pub inline_us: u64,
    /// Milliseconds that events may stand in the write-ahead log alone; 0 commits each batch before its OKs.
    pub commit_interval_ms: u64,
    /// Milliseconds from one sending of live events to the next at the least; 0 sends at once.
    pub fanout_interval_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_threads: 0,
            verify_threads: 0,
            slice_rows: 4096,
            slice_us: 5_000,
            inline_rows: 512,
            inline_us: 300,
            commit_interval_ms: 100,
            fanout_interval_ms: 0,
        }
    }
}

impl Options {
    /// The longest interval between commits: commands in other processes wait that long for their turn.
    pub const MAX_COMMIT_INTERVAL_MS: u64 = 1_000;

    /// The longest interval between sendings: subscribers wait for new events that long.
    pub const MAX_FANOUT_INTERVAL_MS: u64 = 1_000;

    /// The budget of a slice on a reader thread.
    #[must_use]
    pub fn slice(&self) -> store::Budget {
        store::Budget { rows: self.slice_rows, time: Duration::from_micros(self.slice_us) }
    }
}

/// Signs of life, for the watchdog.
#[derive(Default)]
pub struct Heartbeat {
    writer: AtomicU64,
    plans: AtomicU64,
}

impl Heartbeat {
    /// The writer went round its loop.
    pub fn writer(&self) {
        self.writer.fetch_add(1, Ordering::Relaxed);
    }

    /// The rules were executed from end to end.
    pub fn plan(&self) {
        self.plans.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they were.
    pub fn plans(&self) -> u64 {
        self.plans.load(Ordering::Relaxed)
    }

    /// How often it did.
    pub fn writer_rounds(&self) -> u64 {
        self.writer.load(Ordering::Relaxed)
    }
}

/// The time now, from the system's clock. What is pure is told it.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is broken; nothing is expired then.
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// How much nicer query threads are than the rest. On busy cores a long scan then gets a third of what the threads
/// get that answer events, and these run as soon as they have work.
const READ_NICE: i32 = 5;

/// So long passes at least from one line of the log about a full storage to the next.
const TELL_APART_US: u64 = 1_000_000;

/// What all threads share.
pub struct Shared {
    /// The events.
    pub store: Store,
    /// The reloadable settings; a message is handled under one load of them (INV-13).
    pub settings: ArcSwap<Settings>,
    /// From where on events are kept beside what is held.
    pub horizons: Horizons,
    /// What is acknowledged and not yet committed.
    pub uncommitted: Uncommitted<ReaderCommand>,
    /// The live index.
    pub live: LiveHub,
    /// The gate of Q1.
    pub ingest: Ingest,
    /// What clients make the relay hold.
    pub memory: Arc<Ledger>,
    /// The signature engines.
    pub verifier: Verifier,
    /// The metrics.
    pub metrics: Metrics,
    /// Signs of life.
    pub beat: Heartbeat,
    /// Whether the store does its work.
    pub health: Health,
    /// Bounds of the queues.
    pub bounds: Bounds,
    /// How queries run.
    pub options: Options,
    /// Q4.
    pub scans: FairChannel<ReaderCommand>,
    /// Negentropy sessions, counted.
    pub negentropy: Sessions,
    depths: Depths,
    epoch: Instant,
    writable: AtomicBool,
    /// What the log said last.
    told: AtomicBool,
    /// When it did; 0 for never.
    told_us: AtomicU64,
}

impl Shared {
    /// Has the rules in force say what `found` says, unless a reload brought others than `rules` meanwhile.
    pub fn put_retention(&self, rules: &Retention, found: &Retention) {
        if rules != found {
            self.settings.rcu(|now| {
                if now.retention == *rules {
                    Arc::new(Settings { retention: found.clone(), ..Settings::clone(now) })
                } else {
                    Arc::clone(now)
                }
            });
        }
    }

    /// The time now. Pure code below is told it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        now()
    }

    /// Microseconds since the pipeline began, by a clock that never goes back.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Entries that wait in each queue, and the most that it takes.
    #[must_use]
    pub fn queues(&self) -> [(Queue, usize, usize); 5] {
        let (depths, bounds) = (&self.depths, &self.bounds);
        [
            (Queue::Ingest, self.ingest.events(), bounds.ingest_events),
            (Queue::Verify, depths.verify.len(), bounds.ingest_events),
            (Queue::Write, depths.write.len(), bounds.write_batches),
            (Queue::Live, depths.live.len(), bounds.live_batches),
            (Queue::Scans, self.scans.len(), bounds.scans),
        ]
    }

    /// Whether there is room for events.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Notes whether there is room, and says so when that changes.
    pub fn storage_writable(&self, writable: bool) {
        if self.writable.swap(writable, Ordering::Relaxed) != writable {
            self.metrics.storage_writable.set(writable.into());
        }
        // At a limit that is held under a storm it may change many times a second. The retention thread comes again.
        let (now, told_us) = (self.now_us(), self.told_us.load(Ordering::Relaxed));
        let is_told = self.told.load(Ordering::Relaxed) == writable;
        if is_told
            || (told_us > 0 && now < told_us + TELL_APART_US)
            || self.told.swap(writable, Ordering::Relaxed) == writable
        {
            return;
        }
        self.told_us.store(now, Ordering::Relaxed);
        if writable {
            tracing::info!("storage has room again; events are accepted");
        } else {
            tracing::error!("storage is full; events are refused until there is room");
        }
    }
}

/// What the pipeline is made of.
pub struct Parts {
    /// The events.
    pub store: Store,
    /// The first settings.
    pub settings: Settings,
    /// The signature engines.
    pub verifier: Verifier,
    /// The metrics.
    pub metrics: Metrics,
    /// Bounds of the queues.
    pub bounds: Bounds,
    /// What clients may make the relay hold.
    pub memory: ledger::Options,
    /// How queries run.
    pub options: Options,
    /// Negentropy.
    pub negentropy: reconcile::Options,
}

/// The running threads.
pub struct Pipeline {
    shared: Arc<Shared>,
    intake: Option<Intake>,
    stop_cron: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

/// Called with the reason when the process must end as failed, in order.
pub type OnFailure = Arc<dyn Fn(&str) + Send + Sync>;

impl Pipeline {
    /// Starts every thread.
    ///
    /// # Errors
    /// When the store cannot be read or a thread cannot be started.
    pub fn start(parts: Parts, on_failure: &OnFailure) -> Result<Self, StartError> {
        let Parts { store, mut settings, verifier, metrics, bounds, memory, options, negentropy } = parts;
        store.open_log()?;
        settings.retention = retention::resolve(settings.retention, &store)?;
        let last_seq = store.read()?.last_seq()?;
        let write_half = store.writer();
        // Every event has passed the gate, so as many batches as events always fit: io never blocks here.
        let (ingest, q1) = channel(bounds.ingest_events);
        let (write, q2) = channel(bounds.write_batches);
        let (live_tx, q3) = channel(bounds.live_batches);
        let (stop_cron, cron_stopped) = channel::<()>(1);
        let depths = Depths { verify: ingest.depth(), write: write.depth(), live: live_tx.depth() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let read_threads = if options.read_threads == 0 { cores.clamp(1, 8) } else { options.read_threads };
        let pool = pool(&options, cores)?;
        metrics.storage_writable.set(1);
        let shared = Arc::new(Shared {
            horizons: Horizons::load(&settings.retention, &store)?,
            uncommitted: Uncommitted::new(write.downgrade(), bounds.scans),
            live: LiveHub::new(last_seq, random()?),
            ingest: Ingest::new(&bounds),
            memory: Ledger::new(memory),
            settings: ArcSwap::from_pointee(settings),
            beat: Heartbeat::default(),
            health: Health::new(&metrics, on_failure),
            epoch: Instant::now(),
            writable: AtomicBool::new(true),
            told: AtomicBool::new(true),
            told_us: AtomicU64::new(0),
            store,
            verifier,
            metrics,
            scans: FairChannel::new(bounds.scans),
            bounds,
            options,
            negentropy: Sessions::new(negentropy),
            depths,
        });
        let spawn = |name: &'static str, work: Work| spawn(name, Arc::clone(&shared), Arc::clone(on_failure), work);
        let intake = Intake::new(ingest, write.clone(), live_tx.clone());
        let (write_for_cron, live_for_verify) = (write.clone(), live_tx.clone());
        let (write_for_retention, retention_stopped) = (write.clone(), cron_stopped.clone());
        let threads = vec![
            spawn("live", Box::new(move |shared| live::run(shared, &q3)))?,
            spawn("writer", Box::new(move |shared| writer::run(shared, write_half, &q2, &live_tx)))?,
            spawn("verify", Box::new(move |shared| verify::run(shared, pool.as_ref(), &q1, &write, &live_for_verify)))?,
            spawn("retention", Box::new(move |shared| evictor::run(shared, &write_for_retention, &retention_stopped)))?,
            spawn("cron", Box::new(move |shared| cron::run(shared, &write_for_cron, &cron_stopped)))?,
        ];
        let mut readers = Vec::new();
        for _ in 0..read_threads {
            let read = |shared: &Arc<Shared>| {
                lower_priority(READ_NICE);
                reader::run(shared);
            };
            readers.push(spawn("read", Box::new(read))?);
        }
        Ok(Self { shared, intake: Some(intake), stop_cron: Some(stop_cron), threads, readers })
    }

    /// What the threads share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The way in.
    ///
    /// # Panics
    /// After [`Pipeline::finish`].
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone().expect("the pipeline has not finished")
    }

    /// Ends the threads from the top, each once its queue is empty: what was taken is committed and answered.
    /// Every clone of [`Pipeline::intake`] must be gone.
    pub fn finish(mut self) {
        let started = Instant::now();
        self.intake = None;
        self.stop_cron = None;
        self.shared.scans.close();
        for thread in self.readers.drain(..).chain(self.threads.drain(..).rev()) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
        if self.shared.store.durability() == Durability::NoMetaSync
            && let Err(error) = self.shared.store.sync()
        {
            self.shared.health.failed(StoreOperation::Sync, &error);
        }
        tracing::info!(elapsed_ms = started.elapsed().as_millis() as u64, "the pipeline is empty");
    }
}

/// Why the pipeline could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The signature pool could not be started.
    #[error("could not start the signature pool: {0}")]
    Pool(#[from] rayon::ThreadPoolBuildError),
}

/// The signature pool: one pinned thread per core but one; none when that leaves a single thread, which would
/// only add a hand-over to the `verify` thread's own work.
fn pool(options: &Options, cores: usize) -> Result<Option<ThreadPool>, rayon::ThreadPoolBuildError> {
    let threads = match options.verify_threads {
        0 => cores.saturating_sub(1),
        threads => threads,
    };
    if threads < 2 {
        return Ok(None);
    }
    pinned_pool(threads, cores).map(Some)
}

/// A signature pool of `threads` threads, each pinned to one of the `cores`.
///
/// # Errors
/// When a thread cannot be started.
pub fn pinned_pool(threads: usize, cores: usize) -> Result<ThreadPool, rayon::ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("verify-{index}"))
        .start_handler(move |index| pin(index % cores))
        .build()
}

fn random() -> Result<[u64; 2], std::io::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let (low, high) = bytes.split_at(8);
    let number = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of 16 bytes"));
    Ok([number(low), number(high)])
}

/// Keeps this thread on one core: the kernel otherwise wakes two workers on the same one.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    // The kernel refuses the empty set, so a core past the largest set is logged as well.
    if core < CpuSet::MAX_CPU {
        set.set(core);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        // Cores may be withheld from this process; unpinned is slower, not wrong.
        tracing::debug!(core, %error, "could not pin a signature thread");
    }
}

/// Lets other threads of this process go first (setpriority(2); on Linux a nice value is a thread's own).
fn lower_priority(nice: i32) {
    // `None` is the calling thread.
    let lowered = getpriority_process(None).and_then(|own| setpriority_process(None, own + nice));
    if let Err(error) = lowered {
        // Less even, not wrong.
        tracing::debug!(%error, "could not lower the priority of a query thread");
    }
}

/// What a thread does with the shared state until it ends.
type Work = Box<dyn FnOnce(&Arc<Shared>) + Send>;

fn spawn(
    name: &'static str,
    shared: Arc<Shared>,
    on_failure: OnFailure,
    work: Work,
) -> Result<JoinHandle<()>, std::io::Error> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let run = std::panic::AssertUnwindSafe(|| work(&shared));
        if std::panic::catch_unwind(run).is_err() {
            on_failure(&format!("the thread {name} panicked"));
        }
    })
}

#[cfg(test)]
mod tests;
