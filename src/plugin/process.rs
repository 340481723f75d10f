//! One process of a plugin: how it is started and ended, and its pipes.
//!
//! Nothing here blocks. A process has its own group, so that what it started ends with it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::complaints;

/// How long a process may take to end after SIGTERM, and after SIGKILL.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// How often it is checked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A running process.
pub struct Process {
    child: Child,
    /// Where it is asked.
    pub stdin: Sender,
    /// Where it answers.
    pub stdout: Receiver,
}

impl Process {
    /// Starts a command through `/bin/sh`, as strfry does.
    ///
    /// # Errors
    /// When the system starts no process.
    pub fn start(command: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut pipes = || {
            let fd = |pipe: Option<OwnedFd>| pipe.ok_or_else(|| io::Error::other("a pipe is missing"));
            let stdin = Sender::from_owned_fd(fd(child.stdin.take().map(OwnedFd::from))?)?;
            let stdout = Receiver::from_owned_fd(fd(child.stdout.take().map(OwnedFd::from))?)?;
            let stderr = Receiver::from_owned_fd(fd(child.stderr.take().map(OwnedFd::from))?)?;
            io::Result::Ok((stdin, stdout, stderr))
        };
        let pipes = pipes();
        let pid = child.id();
        match pipes {
            Ok((stdin, stdout, stderr)) => {
                tokio::spawn(complaints::log(stderr, pid));
                Ok(Self { child, stdin, stdout })
            }
            Err(error) => {
                signal(&child, Signal::KILL);
                // Nothing outlives that signal for long.
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it: SIGTERM, and SIGKILL if that does not help.
    pub async fn end(self) {
        let Self { mut child, stdin, stdout } = self;
        drop((stdin, stdout));
        for how in [Signal::TERM, Signal::KILL] {
            signal(&child, how);
            if has_ended(&child).await {
                // What it has left behind in its group. The group's number is not free before the process is reaped.
                signal(&child, Signal::KILL);
                // It has ended, so this does not wait.
                let _ = child.wait();
                return;
            }
        }
        tracing::error!(pid = child.id(), "the plugin's process does not end");
    }
}

/// Waits for the end of a process, for as long as it may take. Does not reap it.
async fn has_ended(child: &Child) -> bool {
    let Some(pid) = pid(child) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let wait = async {
        // An error means that there is no such process any more.
        while matches!(waitid(WaitId::Pid(pid), options), Ok(None)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(ENDS_WITHIN, wait).await.is_ok()
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn signal(child: &Child, signal: Signal) {
    // Refused when nothing is left of the group.
    let _ = pid(child).map(|pid| kill_process_group(pid, signal));
}
