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
use crate::server::Server;

/// How long a new process may take until it is ready: it may have to recover the store.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How long it may then take until it serves. Clients are not accepted meanwhile.
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

    /// Waits until the new process is ready; forever while there is none. One that fails is ended.
    pub async fn is_ready(&mut self) {
        loop {
            let Some(current) = &mut self.current else { return std::future::pending().await };
            let heard = timeout_at(current.deadline, current.hear(READY)).await;
            match heard.unwrap_or_else(|_| Err(anyhow::anyhow!("it is not ready after {READY_WITHIN:?}"))) {
                Ok(()) => return,
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// Hands over to the process that is ready. Events are read again when that fails.
    pub async fn hand_over(&mut self, server: &Server) -> Handover {
        let Some(current) = &mut self.current else { return Handover::Failed };
        let began = Instant::now();
        if !server.pause(SERVING_WITHIN).await {
            self.give_up(&anyhow::anyhow!("events that were read before are not answered after {SERVING_WITHIN:?}"));
            return Handover::Failed;
        }
        let result = timeout(SERVING_WITHIN, current.give()).await;
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
                self.give_up(&error);
                server.resume();
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

    fn give_up(&mut self, error: &anyhow::Error) {
        tracing::error!("the new process does not take over, this one keeps serving: {error:#}");
        self.current = None;
    }
}

/// A process that is to replace this one. Dropping it ends it, unless it serves.
struct Successor {
    child: Child,
    stream: UnixStream,
    /// What was read and not yet heard.
    read: Vec<u8>,
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
        Ok(Self { child, stream, read: Vec::new(), deadline, is_on_its_own: false })
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
