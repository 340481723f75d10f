//! The log of `weir serve`: a dedicated thread writes the lines to standard error.
//!
//! A thread that logs never waits for the reader of the log, nor fails when the reader does. A line is dropped and
//! counted if it cannot be written or the queue is full; the number of lost lines is logged once writing works again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Bytes of lines waiting for the writer, about ten thousand lines; the writer may hold as many again. A line that does
/// not fit is lost.
const QUEUE_BYTES: usize = 1 << 20;

/// A library that tells of each connection and message. What fails there is told in our words.
const QUIET: &str = "async_nats=off";

/// How long the process waits for the last lines at its end: a stalled reader must not keep it alive.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// The running log. Dropping it waits until all lines are written, for [`LAST_FLUSH`] at most.
pub struct LogThread(Queue);

impl Drop for LogThread {
    fn drop(&mut self) {
        self.0.flush(LAST_FLUSH);
    }
}

/// Starts logging to standard error, including panics; `lost` counts the lines that were not written.
///
/// # Errors
/// When `log.level` is not a filter or the thread cannot be started.
pub fn start(log: &Log, lost: &Counter) -> anyhow::Result<LogThread> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level)).context("log.level")?;
    let has_colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let queue = Queue::new(QUEUE_BYTES, lost.clone());
    let (lines, format) = (queue.clone(), log.format);
    let note = move |lost| note(format, has_colours, lost);
    std::thread::Builder::new().name("log".into()).spawn(move || lines.write_to(std::io::stderr(), note))?;
    tracing::subscriber::set_global_default(subscriber(format, has_colours, filter, queue.clone()))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(thread = name, "{panic}\n{backtrace}"),
            _ => tracing::error!(thread = name, "{panic}"),
        }
    }));
    Ok(LogThread(queue))
}

/// The subscriber that formats log lines.
fn subscriber<W>(format: LogFormat, has_colours: bool, filter: EnvFilter, lines: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(has_colours).finish()),
        LogFormat::Json => Box::new(builder.json().finish()),
    }
}

/// The line that reports how many lines were lost.
fn note(format: LogFormat, has_colours: bool, lost: u64) -> Vec<u8> {
    let line = Queue::new(QUEUE_BYTES, Counter::default());
    let lines = subscriber(format, has_colours, EnvFilter::new("warn"), line.clone());
    tracing::subscriber::with_default(lines, || tracing::warn!("{lost} log lines were lost"));
    line.lock().lines.drain(..).flatten().collect()
}

/// The queue of lines for the writer.
#[derive(Clone)]
struct Queue(Arc<Inner>);

struct Inner {
    bound_bytes: usize,
    waiting: Mutex<QueuedLines>,
    /// Notified when a line has arrived.
    arrived: Condvar,
    /// Notified when no line is waiting or being written.
    written: Condvar,
    lost: Counter,
}

#[derive(Default)]
struct QueuedLines {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl Queue {
    fn new(bound_bytes: usize, lost: Counter) -> Self {
        let (waiting, arrived, written) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self(Arc::new(Inner { bound_bytes, waiting, arrived, written, lost }))
    }

    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        // No code panics between two changes that belong together.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > self.0.bound_bytes {
            self.0.lost.inc();
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.0.arrived.notify_one();
    }

    /// Waits until everything is written, for at most `timeout`.
    fn flush(&self, timeout: Duration) {
        let is_busy = |waiting: &mut QueuedLines| waiting.is_writing || !waiting.lines.is_empty();
        // The process ends in either case.
        let _ = self.0.written.wait_timeout_while(self.lock(), timeout, is_busy);
    }

    /// Writes lines forever. `note` formats the line that reports lost ones.
    fn write_to(&self, mut out: impl Write, note: impl Fn(u64) -> Vec<u8>) {
        let mut reported = 0;
        loop {
            let lines = self.next_lines();
            let lost = self.0.lost.get();
            if lost > reported && out.write_all(&note(lost - reported)).is_ok() {
                reported = lost;
            }
            for line in lines {
                if out.write_all(&line).is_err() {
                    self.0.lost.inc();
                }
            }
        }
    }

    /// Waits for lines and takes all of them.
    fn next_lines(&self) -> VecDeque<Vec<u8>> {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        if waiting.lines.is_empty() {
            self.0.written.notify_all();
        }
        let is_idle = |waiting: &mut QueuedLines| waiting.lines.is_empty();
        let mut waiting = self.0.arrived.wait_while(waiting, is_idle).unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.lines)
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Receives one line, which the subscriber writes in one call.
struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_lost_lines_is_a_line_like_any_other() {
        let text = String::from_utf8(note(LogFormat::Text, false, 7)).expect("text");
        assert!(text.ends_with("  WARN weir::cli::log: 7 log lines were lost\n"), "{text}");
        let line = note(LogFormat::Json, false, 7);
        let json: serde_json::Value = serde_json::from_slice(&line).expect("one object");
        assert_eq!((&json["level"], &json["fields"]["message"]), (&"WARN".into(), &"7 log lines were lost".into()));
        assert_eq!(line.last(), Some(&b'\n'));
    }

    /// Fails for the first lines.
    struct Failing(usize, Arc<Mutex<Vec<u8>>>);

    impl Write for Failing {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            if self.0 > 0 {
                self.0 -= 1;
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.1.lock().expect("nobody panicked").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_or_do_not_fit_are_counted_and_reported_once() {
        let (lost, written) = (Counter::default(), Arc::default());
        let queue = Queue::new(10, lost.clone());
        for line in [&b"one\n"[..], b"two\n", b"three\n"] {
            queue.push(line);
        }
        assert_eq!(lost.get(), 1, "the third does not fit");
        // Writing fails for the note about the first loss, and then for one line.
        let (lines, out) = (queue.clone(), Failing(2, Arc::clone(&written)));
        std::thread::spawn(move || lines.write_to(out, |lost| format!("{lost} lost\n").into_bytes()));
        queue.flush(Duration::MAX);
        queue.push(b"four\n");
        queue.flush(Duration::MAX);
        queue.push(b"five\n");
        queue.flush(Duration::MAX);
        let written = String::from_utf8(written.lock().expect("nobody panicked").clone()).expect("text");
        assert_eq!((written.as_str(), lost.get()), ("two\n2 lost\nfour\nfive\n", 2));
    }
}
