//! The main loop of `weir serve`: waits for signals, reloads on SIGHUP, hands over on SIGUSR2, and notifies the
//! watchdog of systemd.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::handover::{Handover, Sockets, Successors};
use super::streams::Streams;
use super::systemd;
use crate::allocator;
use crate::config::{Config, RereadLists};
use crate::metrics::{Reload, ReloadLabel};
use crate::pipeline::Pipeline;
use crate::pipeline::heartbeat::STUCK_AFTER;
use crate::replication::Cluster;
use crate::server::Server;

/// How often the list files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The signals, which are caught from the creation of this value on: signals that arrive before [`Self::wait`] are
/// kept.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    replace: Signal,
}

/// Why the relay ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayEnd {
    /// It was told to, or failed.
    Stopped,
    /// Another process serves its sockets.
    Replaced,
}

impl Signals {
    /// Catches the signals. This must happen before the relay announces that it runs: an early SIGHUP would end it.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn catch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (hangup, replace) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, hangup, replace })
    }

    /// Waits for SIGTERM or SIGINT, or for a process that takes over; handles everything else meanwhile.
    pub fn wait(
        self,
        mut config: Config,
        load: impl Fn() -> anyhow::Result<Config>,
        pipeline: &Pipeline,
        server: &Server,
        sockets: &Sockets,
        (streams, cluster): (&mut Streams, Option<&Cluster>),
    ) -> RelayEnd {
        let Self { runtime, mut terminate, mut interrupt, mut hangup, mut replace } = self;
        let mut successors = Successors::new(sockets);
        runtime.block_on(async {
            let watched = sd_notify::watchdog_enabled();
            // systemd recommends to notify at least twice per period.
            let mut tick = tokio::time::interval(watched.map_or(Duration::from_secs(3600), |limit| limit / 3));
            let mut look = tokio::time::interval(LOOK);
            let mut due = allocator::collect_if_due();
            let mut progress = Progress::new(pipeline, server);
            loop {
                tokio::select! {
                    _ = terminate.recv() => return RelayEnd::Stopped,
                    _ = interrupt.recv() => return RelayEnd::Stopped,
                    _ = hangup.recv() => {
                        reload(&mut config, &load, pipeline, streams);
                        server.show_configuration(config.shown());
                    }
                    _ = look.tick() => reread_lists(&mut config, pipeline),
                    _ = replace.recv() => successors.start(),
                    () = successors.is_ready(server) => {
                        let handover = tokio::select! {
                            _ = terminate.recv() => return RelayEnd::Stopped,
                            _ = interrupt.recv() => return RelayEnd::Stopped,
                            handover = successors.hand_over(server, cluster) => handover,
                        };
                        if handover == Handover::Done {
                            return RelayEnd::Replaced;
                        }
                    }
                    () = tokio::time::sleep_until(due.into()) => due = allocator::collect_if_due(),
                    _ = tick.tick() => {
                        if progress.is_alive(pipeline, server) && watched.is_some() {
                            systemd::notify(&[NotifyState::Watchdog]);
                        }
                    }
                }
            }
        })
    }
}

/// Applies the new configuration, or keeps the old one and logs why.
fn reload(config: &mut Config, load: &impl Fn() -> anyhow::Result<Config>, pipeline: &Pipeline, streams: &mut Streams) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => systemd::notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd was not notified of the reload"),
    }
    let result = match load() {
        Ok(new) => {
            let changes = config.changes(&new);
            pipeline.serving().apply(&new.settings());
            tracing::info!(keys = ?changes.live, "the configuration was reloaded");
            if !changes.restart.is_empty() {
                tracing::warn!(keys = ?changes.restart, "these changes take effect after a restart");
            }
            // Keys that need a restart keep their old values, so that the next reload reports them again.
            *config = config.with_live_sections_of(new);
            if let Err(error) = streams.apply(config) {
                tracing::error!("the former streams go on: {error:#}");
            }
            Reload::Applied
        }
        Err(error) => {
            tracing::error!("the configuration was not reloaded, the old one stays in force: {error:#}");
            Reload::Failed
        }
    };
    pipeline.serving().metrics.reloads.get_or_create(&ReloadLabel { result }).inc();
    systemd::notify(&[NotifyState::Ready]);
}

/// Puts the list files that have changed in force. A file with mistakes changes nothing.
fn reread_lists(config: &mut Config, pipeline: &Pipeline) {
    let RereadLists { changed, problems } = config.read_changed_lists();
    let serving = pipeline.serving();
    for problem in &problems {
        tracing::error!("a list file was not read, its former list stays in force: {problem}");
    }
    if !changed.is_empty() {
        serving.apply_access(&config.access);
        tracing::info!(keys = ?changed, "list files were read again");
    }
    for (result, happened) in [(Reload::Applied, !changed.is_empty()), (Reload::Failed, !problems.is_empty())] {
        serving.metrics.reloads.get_or_create(&ReloadLabel { result }).inc_by(happened.into());
    }
}

/// When the threads that must never hang last made progress.
struct Progress {
    writer: (u64, Instant),
    accept: (u64, Instant),
}

impl Progress {
    fn new(pipeline: &Pipeline, server: &Server) -> Self {
        let now = Instant::now();
        Self { writer: (pipeline.heartbeat().writer_rounds(), now), accept: (server.accept_rounds(), now) }
    }

    fn is_alive(&mut self, pipeline: &Pipeline, server: &Server) -> bool {
        let now = Instant::now();
        let rounds = [pipeline.heartbeat().writer_rounds(), server.accept_rounds()];
        let mut alive = true;
        // The accept loops wake as often as the writer.
        for ((last, at), (rounds, thread)) in
            [&mut self.writer, &mut self.accept].into_iter().zip(rounds.into_iter().zip(["writer", "accept"]))
        {
            if rounds != *last {
                (*last, *at) = (rounds, now);
            } else if now.duration_since(*at) > STUCK_AFTER {
                tracing::error!(thread, "the thread makes no progress; the watchdog is not notified");
                alive = false;
            }
        }
        alive
    }
}
