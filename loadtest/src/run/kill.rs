//! Kills the relay in the middle of a phase and starts it again: an OK must outlive the process that gave it.
//!
//! It must never kill a process that the user did not name.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::process::is_alive;
use crate::wire::connect::{Target, connect};

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// How long the relay may take to listen again: it may have to recover its store.
const BACK: Duration = Duration::from_secs(120);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// The processes to kill, and how to start the relay again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revival {
    /// All of its processes.
    pub pids: Vec<u32>,
    /// Starts it at the same address with the same data; a command of `sh`.
    pub command: String,
}

impl Revival {
    /// Checks that the processes can be killed.
    ///
    /// # Errors
    /// If one is not there, is not ours to kill, or is this process.
    pub fn check(&self) -> Result<()> {
        for &number in &self.pids {
            ensure!(number > 1 && number != std::process::id(), "--kill {number}: this is not a relay");
            test_kill_process(pid(number)?).with_context(|| format!("--kill {number}"))?;
        }
        Ok(())
    }

    /// Kills the relay after `answers` answers.
    pub fn trigger(&self, answers: u64) -> KillTrigger {
        KillTrigger { pids: self.pids.clone(), left: Cell::new(answers.max(1)) }
    }

    /// Waits until the killed processes are gone, starts the relay and returns how long it took to accept connections.
    ///
    /// # Errors
    /// If the processes do not end, or the relay does not come back.
    pub async fn restart(&self, target: &Target) -> Result<Duration> {
        let killed = Instant::now();
        while self.pids.iter().any(|&pid| is_alive(pid)) {
            ensure!(killed.elapsed() < GONE, "the killed relay is still there after {GONE:?}");
            tokio::time::sleep(LOOK).await;
        }
        let started = Instant::now();
        let mut shell = Command::new("sh");
        // Its output is not ours; a pipe that nobody reads would stop it.
        shell.args(["-c", &self.command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = shell.spawn().with_context(|| format!("--restart {}", self.command))?;
        while let Err(error) = connect(target, 0, None).await {
            // A command that ends well may have told a service manager to start the relay.
            if let Some(status) = child.try_wait()?.filter(|status| !status.success()) {
                bail!("--restart {}: it ended with {status}", self.command);
            }
            if started.elapsed() > BACK {
                return Err(error.context(format!("the relay did not come back within {BACK:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(started.elapsed())
    }
}

fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).with_context(|| format!("{number} is not a process id"))
}

/// Kills the relay at a number of answers: while the next ones are on their way.
#[derive(Debug)]
pub struct KillTrigger {
    pids: Vec<u32>,
    left: Cell<u64>,
}

impl KillTrigger {
    /// Counts an answer.
    pub fn answered(&self) {
        match self.left.get() {
            0 => {}
            1 => self.fire(),
            left => self.left.set(left - 1),
        }
    }

    /// Kills the relay now, if it was not killed yet.
    pub fn fire(&self) {
        if self.left.replace(0) > 0 {
            // A process that is gone already needs no killing, and `Revival::check` has tried that it can be killed.
            self.pids.iter().filter_map(|&number| pid(number).ok()).for_each(|pid| {
                let _ = kill_process(pid, Signal::KILL);
            });
        }
    }

    /// Whether the relay was killed.
    pub fn has_fired(&self) -> bool {
        self.left.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_kills_at_its_number_of_answers_and_not_before() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let revival = Revival { pids: vec![child.id()], command: "true".into() };
        revival.check().expect("our own child");
        let trigger = revival.trigger(2);
        trigger.answered();
        assert!(!trigger.has_fired() && is_alive(child.id()));
        trigger.answered();
        assert!(trigger.has_fired());
        let status = child.wait().expect("our own child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn what_cannot_be_a_relay_is_refused() {
        let check =
            |pid| Revival { pids: vec![pid], command: String::new() }.check().map_err(|error| error.to_string());
        assert_eq!(check(1), Err("--kill 1: this is not a relay".into()));
        let own = std::process::id();
        assert_eq!(check(own), Err(format!("--kill {own}: this is not a relay")));
        assert_eq!(check(u32::MAX), Err(format!("{} is not a process id", u32::MAX)));
    }
}
