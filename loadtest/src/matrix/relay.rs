//! One relay as a process of ours: started by its command in an empty directory, and ended with all its children.
//!
//! It must never outlive the run that started it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::{Relay, slug};
use crate::process::{Watched, is_alive, tree};
use crate::run::kill::Revival;

/// How long a relay may take to end after SIGTERM before it is killed.
const ENDS: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of its output that are shown when it does not start.
const TAIL: usize = 2000;

/// A running relay.
pub struct RelayProcess {
    /// Its address.
    pub url: String,
    child: Child,
    dir: PathBuf,
    command: String,
}

impl RelayProcess {
    /// Starts a relay in a new directory below `work`, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it cannot be prepared or does not start; the message has the end of its output.
    pub fn start(relay: &Relay, work: &Path, number: usize) -> Result<Self> {
        let dir = work.join(format!("{}-{number}", slug(&relay.name)));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let port = listener.local_addr().context("find a free port")?.port();
        drop(listener);
        let fill = |text: &str| text.replace("{port}", &port.to_string()).replace("{dir}", &dir.display().to_string());
        if let Some(prepare) = &relay.prepare {
            let output = Command::new("sh").args(["-c", &fill(prepare)]).output().context("run a shell")?;
            ensure!(output.status.success(), "{}: prepare: {}", relay.name, String::from_utf8_lossy(&output.stderr));
        }
        let log = dir.with_extension("log");
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let command = fill(&relay.command);
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdin(Stdio::null()).process_group(0);
        shell.stdout(output.try_clone()?).stderr(output);
        let child = shell.spawn().context("run a shell")?;
        let mut running = Self { url: fill(&relay.url), child, dir, command };
        running.wait_until_it_listens(port, Duration::from_secs_f64(relay.start_s)).with_context(|| {
            let text = std::fs::read(&log).unwrap_or_default();
            let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned();
            format!("{}: it does not start; its output ends with:\n{tail}", relay.name)
        })?;
        Ok(running)
    }

    fn wait_until_it_listens(&mut self, port: u16, within: Duration) -> Result<()> {
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            ensure!(began.elapsed() < within, "nothing listens on port {port} after {within:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Its processes and its directory.
    pub fn watched(&self) -> Watched {
        Watched { pids: vec![self.child.id()], data: Some(self.dir.clone()) }
    }

    /// How to kill it and start it again.
    pub fn revival(&self) -> Revival {
        let pids = tree(&[self.child.id()]).into_iter().collect();
        Revival { pids, command: format!("echo $$ >'{}'; {}", self.second().display(), self.command) }
    }

    /// Holds the process id of a relay that was started again.
    fn second(&self) -> PathBuf {
        self.dir.with_extension("pid")
    }

    /// Ends it and removes its directory.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn stop(mut self) -> Result<()> {
        self.end();
        std::fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }

    fn end(&mut self) {
        let second = std::fs::read_to_string(self.second()).ok().and_then(|text| text.trim().parse().ok());
        let roots: Vec<u32> = second.into_iter().chain([self.child.id()]).filter(|&pid| is_alive(pid)).collect();
        let all = if roots.is_empty() { Vec::new() } else { tree(&roots).into_iter().collect() };
        signal(&all, Signal::TERM);
        let asked = Instant::now();
        while all.iter().any(|&pid| is_alive(pid)) && asked.elapsed() < 2 * ENDS {
            if asked.elapsed() > ENDS {
                signal(&all, Signal::KILL);
            }
            // Nobody else waits for it, and unless it is waited for its process id stays taken.
            let _ = self.child.try_wait();
            std::thread::sleep(LOOK);
        }
        let _ = self.child.try_wait();
        // A relay that was not started again has no such file.
        let _ = std::fs::remove_file(self.second());
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process that is gone needs no signal.
fn signal(pids: &[u32], signal: Signal) {
    let pids = pids.iter().filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?));
    pids.for_each(|pid| {
        let _ = kill_process(pid, signal);
    });
}
