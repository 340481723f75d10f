//! What a plugin writes to standard error: it goes to the log, so many lines a minute, each of them cut.
//!
//! It reads on whatever happens, so that the program never waits for its standard error; but in measure, so that a
//! program that never stops writing takes little of this thread's time.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// The lines that are logged in a minute.
const LINES_A_MINUTE: u32 = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// The bytes of a line that are logged.
const LINE_BYTES: usize = 512;

/// Bytes read at a time, and the pause after a read that filled them all: at most 1.6 MB/s are read.
const CHUNK: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Logs lines until the program closes its standard error.
pub async fn log(mut stderr: Receiver, pid: u32) {
    let (mut chunk, mut line) = (vec![0; CHUNK], Vec::new());
    let mut quota = Quota::new(Instant::now());
    loop {
        let count = match stderr.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for part in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                say(&mut quota, &line, pid);
                line.clear();
            }
        }
        if count == CHUNK {
            tokio::time::sleep(PAUSE).await;
        }
    }
    if !line.is_empty() {
        say(&mut quota, &line, pid);
    }
}

fn say(quota: &mut Quota, line: &[u8], pid: u32) {
    let (is_logged, lost) = quota.take(Instant::now());
    if lost > 0 {
        tracing::warn!(pid, lines = lost, "the plugin wrote more lines than are logged in a minute");
    }
    if is_logged {
        tracing::info!(pid, "plugin: {}", printable(line));
    }
}

/// A line without the control characters that would change the log's own lines.
pub fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What may still be logged in this minute.
pub struct Quota {
    began: Instant,
    used: u32,
    lost: u32,
}

impl Quota {
    /// A whole minute's quota.
    pub const fn new(now: Instant) -> Self {
        Self { began: now, used: 0, lost: 0 }
    }

    /// Whether a line may be logged now; and how many were not in the minute that this one ends.
    pub fn take(&mut self, now: Instant) -> (bool, u32) {
        let mut lost = 0;
        if now.saturating_duration_since(self.began) >= MINUTE {
            lost = self.lost;
            *self = Self::new(now);
        }
        let is_within = self.used < LINES_A_MINUTE;
        if is_within {
            self.used += 1
        } else {
            self.lost += 1
        }
        (is_within, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_minute_are_logged_and_the_rest_is_counted() {
        let began = Instant::now();
        let mut quota = Quota::new(began);
        let logged = (0..100).filter(|_| quota.take(began).0).count();
        assert_eq!(logged, LINES_A_MINUTE as usize);
        assert_eq!(quota.take(began + MINUTE), (true, 40));
        assert_eq!(quota.take(began + MINUTE), (true, 0));
    }

    #[test]
    fn a_line_cannot_forge_another_one() {
        assert_eq!(printable(b"one\rtwo\x1b[2J\xff \n"), "one two [2J\u{fffd}");
    }
}
