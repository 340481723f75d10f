//! The old process's end of a hand-over.
//!
//! It never stops serving before the new process serves.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::sockets::Sockets;
use super::words::{BYE, MAX_LINE, READY, SERVING, TAKE, TAKE_OVER};
use crate::cli::systemd;
use crate::replication::Cluster;
use crate::server::Server;

/// How long a new process may take until it is ready: it may have to recover the store.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How long the events that were let in before may then take: a slow plugin judges some. New ones wait meanwhile, and
/// everything else is served.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// How long the new process may then take until it serves. Clients are not accepted meanwhile.
const SERVING_WITHIN: Duration = Duration::from_secs(10);

/// How a hand-over ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// The new process serves.
    Done,
    /// This one serves on.
    Failed,
}

/// The processes that are to replace this one: at most one at a time.
pub struct Successors<'a> {
    sockets: &'a Sockets,
    current: Option<Successor>,
}

impl<'a> Successors<'a> {
    /// None yet.
    pub const fn new(sockets: &'a Sockets) -> Self {
        Self { sockets, current: None }
    }

    /// Starts one, unless there is one.
    pub fn start(&mut self) {
        if let Some(current) = &self.current {
            tracing::warn!(pid = current.child.id(), "a new process is already being started");
            return;
        }
        match Successor::start(self.sockets) {
            Ok(successor) => {
                tracing::info!(pid = successor.child.id(), "started a new process, which is to take over");
                self.current = Some(successor);
            }
            Err(error) => tracing::error!("no new process was started, this one keeps serving: {error:#}"),
        }
    }

    /// Waits until the new process is ready, and all events that were let in until then are answered; forever while
    /// there is none. One that fails is ended. Nothing is lost when this is not awaited to the end.
    pub async fn is_ready(&mut self, server: &Server) {
        loop {
            let Some(current) = &mut self.current else { return std::future::pending().await };
            let result = if current.is_ready {
                let answered = timeout_at(current.deadline, server.answer_all()).await;
                answered.map_err(|_| {
                    anyhow::anyhow!("events that were read before are not answered after {ANSWERED_WITHIN:?}")
                })
            } else {
                let heard = timeout_at(current.deadline, current.hear(READY)).await;
                heard.unwrap_or_else(|_| Err(anyhow::anyhow!("it is not ready after {READY_WITHIN:?}")))
            };
            match result {
                Ok(()) if current.is_ready => return,
                Ok(()) => {
                    server.hold_events();
                    (current.is_ready, current.deadline) = (true, Instant::now() + ANSWERED_WITHIN);
                    tracing::info!("the new process is ready; new events wait until those before are answered");
                }
                Err(error) => self.give_up(&error, server),
            }
        }
    }

    /// Hands over to the process that is ready. Everything is served again when that fails. Two processes are never the
    /// same node of a cluster: this one leaves it first.
    pub async fn hand_over(&mut self, server: &Server, cluster: Option<&Cluster>) -> Handover {
        let Some(current) = &mut self.current else { return Handover::Failed };
        let began = Instant::now();
        let give = async {
            server.pause().await;
            if let Some(cluster) = cluster {
                cluster.pause().await;
            }
            current.give().await
        };
        let result = timeout(SERVING_WITHIN, give).await;
        match result.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not serve after {SERVING_WITHIN:?}"))) {
            Ok(()) => {
                tracing::info!(
                    pid = current.child.id(),
                    paused_ms = began.elapsed().as_millis() as u64,
                    "the new process serves; this one closes its connections"
                );
                self.dismiss().await;
                Handover::Done
            }
            Err(error) => {
                self.give_up(&error, server);
                if let Some(cluster) = cluster {
                    cluster.resume();
                }
                Handover::Failed
            }
        }
    }

    /// Introduces the new process to systemd and lets it go.
    async fn dismiss(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        systemd::notify(&[NotifyState::MainPid(current.child.id()), NotifyState::Watchdog]);
        current.is_on_its_own = true;
        // If it has died since, systemd starts another.
        let _ = current.say(BYE).await;
    }

    fn give_up(&mut self, error: &anyhow::Error, server: &Server) {
        tracing::error!("the new process does not take over, this one keeps serving: {error:#}");
        self.current = None;
        server.resume();
    }
}

/// A process that is to replace this one. Dropping it ends it, unless it serves.
struct Successor {
    child: Child,
    stream: UnixStream,
    /// What was read and not yet heard.
    read: Vec<u8>,
    /// It has said so.
    is_ready: bool,
    /// When the step under way must be done.
    deadline: Instant,
    is_on_its_own: bool,
}

impl Successor {
    /// Runs this process's command again: a newer program, if one lies in its place.
    fn start(sockets: &Sockets) -> anyhow::Result<Self> {
        // A container ends with its first process.
        anyhow::ensure!(std::process::id() != 1, "this is process 1, which cannot be replaced");
        let (own, other) = StdStream::pair()?;
        own.set_nonblocking(true)?;
        sockets.send(&own)?;
        let mut line = std::env::args_os();
        let program = line.next().context("the name of the program is unknown")?;
        let mut command = Command::new(&program);
        command.args(line).env(TAKE_OVER, "1").stdin(Stdio::from(OwnedFd::from(other)));
        // What systemd said was meant for this process.
        ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"].iter().for_each(|name| {
            command.env_remove(name);
        });
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let (deadline, stream) = (Instant::now() + READY_WITHIN, UnixStream::from_std(own)?);
        Ok(Self { child, stream, read: Vec::new(), is_ready: false, deadline, is_on_its_own: false })
    }

    async fn give(&mut self) -> anyhow::Result<()> {
        self.say(TAKE).await?;
        self.hear(SERVING).await
    }

    async fn say(&mut self, word: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{word}\n").as_bytes()).await
    }

    /// Waits for this word. Nothing is lost when it is not awaited to the end.
    async fn hear(&mut self, word: &str) -> anyhow::Result<()> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let said = String::from_utf8_lossy(&line[..end]);
                anyhow::ensure!(said == word, "it sent {said:?} instead of {word:?}");
                return Ok(());
            }
            anyhow::ensure!(self.read.len() < MAX_LINE, "it sent a line that is too long");
            let count = match self.stream.read_buf(&mut self.read).await {
                // It ended with words unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                read => read?,
            };
            anyhow::ensure!(count > 0, "it ended; its log has the reason");
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.is_on_its_own {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
