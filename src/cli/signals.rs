//! What a serving process does between start and end: reloads on SIGHUP, pings systemd's watchdog, waits.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::systemd;
use crate::allocator;
use crate::config::Config;
use crate::metrics::{Reload, ReloadLabel};
use crate::pipeline::Shared;
use crate::server::Server;

/// The writer and the accept loops go round at least every few seconds, idle or not. Silent for this long, one of
/// them is stuck, and systemd is not told that all is well.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// The signals, caught from the moment that this is made: what comes earlier than it is waited for is kept.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches the signals. To be done before anybody is told that the relay runs: an early SIGHUP would end it.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn catch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, hangup })
    }

    /// Waits for SIGTERM or SIGINT, which end the relay; handles the rest meanwhile.
    pub fn wait(self, mut config: Config, load: impl Fn() -> anyhow::Result<Config>, shared: &Shared, server: &Server) {
        let Self { runtime, mut terminate, mut interrupt, mut hangup } = self;
        runtime.block_on(async {
            let watched = sd_notify::watchdog_enabled();
            // systemd asks for a ping at least twice as often as its limit.
            let mut tick = tokio::time::interval(watched.map_or(Duration::from_secs(3600), |limit| limit / 3));
            let mut due = allocator::collect_if_due();
            let mut life = Life::new(shared, server);
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => reload(&mut config, &load, shared),
                    () = tokio::time::sleep_until(due.into()) => due = allocator::collect_if_due(),
                    _ = tick.tick() => {
                        if life.is_well(shared, server) && watched.is_some() {
                            systemd::tell(&[NotifyState::Watchdog]);
                        }
                    }
                }
            }
        });
    }
}

/// Puts a new configuration in force, or keeps the old one and says why.
fn reload(config: &mut Config, load: &impl Fn() -> anyhow::Result<Config>, shared: &Shared) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => systemd::tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd was not told of the reload"),
    }
    let result = match load() {
        Ok(new) => {
            let changes = config.changes(&new);
            shared.settings.store(new.settings().into());
            tracing::info!(keys = ?changes.live, "the configuration was reloaded");
            if !changes.restart.is_empty() {
                tracing::warn!(keys = ?changes.restart, "these changes hold after a restart");
            }
            // What waits for a restart stays as it was, so that the next reload names it again.
            *config = config.with_live_sections_of(new);
            Reload::Applied
        }
        Err(error) => {
            tracing::error!("the configuration was not reloaded, the old one holds: {error:#}");
            Reload::Failed
        }
    };
    shared.metrics.reloads.get_or_create(&ReloadLabel { result }).inc();
    systemd::tell(&[NotifyState::Ready]);
}

/// When the threads that must never stand still last moved.
struct Life {
    writer: (u64, Instant),
    accept: (u64, Instant),
}

impl Life {
    fn new(shared: &Shared, server: &Server) -> Self {
        let now = Instant::now();
        Self { writer: (shared.beat.writer_rounds(), now), accept: (server.accept_rounds(), now) }
    }

    fn is_well(&mut self, shared: &Shared, server: &Server) -> bool {
        let now = Instant::now();
        let rounds = [shared.beat.writer_rounds(), server.accept_rounds()];
        let mut well = true;
        for ((last, at), (rounds, thread)) in
            [&mut self.writer, &mut self.accept].into_iter().zip(rounds.into_iter().zip(["writer", "accept"]))
        {
            if rounds != *last {
                (*last, *at) = (rounds, now);
            } else if now.duration_since(*at) > STUCK_AFTER {
                tracing::error!(thread, "no sign of life; the watchdog is not told that all is well");
                well = false;
            }
        }
        well
    }
}
