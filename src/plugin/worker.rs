//! A worker: keeps one process of the plugin running, asks it about one event after the other, and gives up on it when
//! it fails.
//!
//! It waits for the process's pipes, for events and for time, all at once, and for nothing else. A process that fails
//! is started again, after pauses that double while it comes to no answer. Events that were in flight when it died are
//! asked about once more, each alone, so that one which kills the program costs no other its verdict.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::sleep_until;

use super::answer::{MAX_LINE, Verdict};
use super::complaints::printable;
use super::conversation::{Conversation, ProcessLine, Question};
use super::process::Process;
use super::queue::{Candidate, Queue};
use super::request;
use super::stamp::Stamp;
use crate::metrics::{Metrics, PluginFailure, PluginFailureLabel, PluginVerdict, PluginVerdictLabel};
use crate::nostr::Timestamp;
use crate::policy::PluginOptions;

/// Bytes of requests that wait for the process to read them; one more request may exceed it.
const OUT_BYTES: usize = 64 << 10;

/// Bytes of answers read at a time.
const CHUNK: usize = 64 << 10;

/// What a worker's buffers take at most, beside one request: requests, answers, the beginning of a line, complaints.
pub const BUFFER_BYTES: u64 = 256 << 10;

/// The first pause before a process that failed is started again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A process that answered and lived for this long is started again at once.
const STEADY: Duration = Duration::from_secs(1);

/// What a process gets for its first answer at the least: it may have lists to read.
const START: Duration = Duration::from_secs(5);

/// Answers given side by side after which a program is known to take several events at a time.
const PROVEN: u32 = 100;

/// How often rubbish is logged at most.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// How a worker is told that an event waits, and that it is to end.
#[derive(Default)]
pub struct WorkerSignal {
    wake: Notify,
    is_over: AtomicBool,
}

impl WorkerSignal {
    /// Tells it that an event waits.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tells it to end once everything in flight is answered. It takes no further event.
    pub fn retire(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// How a process came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ProcessEnd {
    /// The worker was told to end.
    Over,
    /// The program's file has changed.
    Changed,
    /// It failed.
    Failed(PluginFailure),
}

/// Runs the plugin for the events of one queue, one process at a time.
pub struct Worker<Q: Queue> {
    queue: Q,
    signal: Arc<WorkerSignal>,
    options: PluginOptions,
    metrics: Arc<Metrics>,
    /// The time of day.
    now: fn() -> Timestamp,
    /// The most events in flight. One, after the program has shown that it takes no more.
    limit: usize,
    side_by_side: u32,
    /// Events over which a process died.
    retries: VecDeque<Question<Q::Candidate>>,
    /// Lives in a row without any answer.
    barren: u32,
    said: Option<Instant>,
}

/// One process and what is between it and the worker.
struct Life<C> {
    process: Process,
    conversation: Conversation<C>,
    /// Requests that the process has not read; those before `sent` it has.
    out: Vec<u8>,
    sent: usize,
    /// The beginning of a line.
    line: Vec<u8>,
    /// Whether it no longer reads.
    is_deaf: bool,
}

impl<Q: Queue> Worker<Q> {
    /// A worker that takes events from `queue`.
    pub fn new(
        queue: Q,
        signal: Arc<WorkerSignal>,
        options: PluginOptions,
        metrics: Arc<Metrics>,
        now: fn() -> Timestamp,
    ) -> Self {
        let limit = options.in_flight;
        let retries = VecDeque::new();
        let (side_by_side, barren, said) = (0, 0, None);
        Self { queue, signal, options, metrics, now, limit, side_by_side, retries, barren, said }
    }

    /// Runs until it is told to end.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            let end = self.live().await;
            match end {
                ProcessEnd::Over => break,
                ProcessEnd::Changed => tracing::info!("the plugin's file has changed; it is started again"),
                ProcessEnd::Failed(cause) => {
                    self.metrics.plugin_failures.get_or_create(&PluginFailureLabel { cause }).inc();
                    if !self.pause(cause, began.elapsed()).await {
                        break;
                    }
                }
            }
        }
        let left: Vec<_> = self.retries.drain(..).collect();
        left.into_iter().for_each(|asked| self.fail(asked.candidate));
        self.queue.flush();
    }

    /// One life of the process, from its start to its end.
    async fn live(&mut self) -> ProcessEnd {
        let process = match Process::start(&self.options.command) {
            Ok(process) => process,
            Err(error) => {
                tracing::error!(%error, "the plugin could not be started");
                self.barren += 1;
                return ProcessEnd::Failed(PluginFailure::Start);
            }
        };
        tracing::info!(pid = process.pid(), command = self.options.command, "the plugin was started");
        self.metrics.plugin_processes.inc();
        let conversation = Conversation::new(self.limit);
        let mut life = Life { process, conversation, out: Vec::new(), sent: 0, line: Vec::new(), is_deaf: false };
        let end = self.talk(&mut life).await;
        let Life { process, conversation, .. } = life;
        self.finish(end, conversation);
        process.end().await;
        self.metrics.plugin_processes.dec();
        end
    }

    /// Asks and listens until the process fails or is to end.
    async fn talk(&mut self, life: &mut Life<Q::Candidate>) -> ProcessEnd {
        let timeout = Duration::from_millis(self.options.timeout_ms);
        let options = self.options.clone();
        let mut stamp = Stamp::take(options.file());
        let (mut chunk, mut has_changed) = (vec![0; CHUNK], false);
        let signal = Arc::clone(&self.signal);
        loop {
            if signal.is_over() && life.conversation.is_empty() {
                return ProcessEnd::Over;
            }
            if !signal.is_over() && !has_changed {
                has_changed = self.ask(life, &mut stamp);
            }
            if has_changed && life.conversation.is_empty() {
                return ProcessEnd::Changed;
            }
            let within = if life.conversation.has_answered() { timeout } else { timeout.max(START) };
            let deadline = life.conversation.deadline(within);
            let Life { process, out, sent, is_deaf, .. } = &mut *life;
            tokio::select! {
                biased;
                read = process.stdout.read(&mut chunk) => {
                    // Nothing is read when it has closed its standard output, as it does when it ends.
                    let count = read.unwrap_or(0);
                    if count == 0 {
                        return ProcessEnd::Failed(PluginFailure::Died);
                    }
                    if !self.hear(life, &chunk[..count], timeout) {
                        return ProcessEnd::Failed(PluginFailure::Rubbish);
                    }
                }
                written = process.stdin.write(&out[*sent..]), if *sent < out.len() => match written {
                    Ok(count) => *sent += count,
                    // It may have answered before it stopped reading. Either it ends now, or the timeout ends it.
                    Err(_) => (*is_deaf, *sent) = (true, out.len()),
                },
                () = signal.wake.notified() => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    // This thread may have been kept from reading: what came meanwhile counts.
                    tokio::task::yield_now().await;
                    match process.stdout.try_read(&mut chunk) {
                        Ok(count) if count > 0 => {
                            if !self.hear(life, &chunk[..count], timeout) {
                                return ProcessEnd::Failed(PluginFailure::Rubbish);
                            }
                        }
                        _ => return ProcessEnd::Failed(PluginFailure::Timeout),
                    }
                }
            }
        }
    }

    /// Asks about as many events as it may. Returns whether the program's file has changed, so that it is to be asked
    /// no more.
    fn ask(&mut self, life: &mut Life<Q::Candidate>, stamp: &mut Stamp<'_>) -> bool {
        let now = Instant::now();
        if life.sent == life.out.len() {
            life.out.clear();
            // A request may be large; the next ones are not.
            life.out.shrink_to(2 * OUT_BYTES);
            life.sent = 0;
        }
        while life.out.len() < OUT_BYTES && !life.is_deaf && life.conversation.may_ask(!self.retries.is_empty()) {
            let next = self.retries.pop_front();
            let Some(asked) = next.or_else(|| self.queue.next().map(|candidate| Question { candidate, again: false }))
            else {
                return false;
            };
            if stamp.has_changed(now) {
                // Its turn comes with the next process.
                self.retries.push_front(asked);
                return true;
            }
            let event = asked.candidate.event();
            request::write(event, &asked.candidate.origin(), (self.now)(), &mut life.out);
            life.conversation.ask(event.id(), asked, now);
        }
        false
    }

    /// Takes what the process printed. Returns `false` when that is too much rubbish.
    fn hear(&mut self, life: &mut Life<Q::Candidate>, printed: &[u8], timeout: Duration) -> bool {
        let now = Instant::now();
        life.line.extend_from_slice(printed);
        let text = std::mem::take(&mut life.line);
        let mut rest = &text[..];
        while let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(MAX_LINE + 1)]) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            match life.conversation.hear(line, now) {
                ProcessLine::Judged { candidate, verdict, asked_at, spent } => {
                    self.metrics.plugin_seconds.observe(now.saturating_duration_since(asked_at).as_secs_f64());
                    self.queue.spent(&candidate, spent);
                    self.judged(candidate, verdict);
                    while let Some(skipped) = life.conversation.take_skipped(asked_at, timeout) {
                        self.fail(skipped);
                    }
                }
                ProcessLine::Rubbish(why) => self.complain(line, why, now),
            }
            if life.conversation.is_rubbish() {
                break;
            }
        }
        self.queue.flush();
        // Whether it has an end or not.
        let is_too_long = rest.len() > MAX_LINE && !life.conversation.is_rubbish();
        if is_too_long {
            self.complain(&rest[..MAX_LINE], "it is too long", now);
        }
        life.line.extend_from_slice(rest);
        !is_too_long && !life.conversation.is_rubbish()
    }

    fn judged(&self, candidate: Q::Candidate, verdict: Option<Verdict>) {
        let label = match verdict {
            Some(Verdict::Accept) => PluginVerdict::Accept,
            Some(Verdict::Reject(_)) => PluginVerdict::Reject,
            Some(Verdict::ShadowReject) => PluginVerdict::ShadowReject,
            None => PluginVerdict::Failed,
        };
        self.metrics.plugin_verdicts.get_or_create(&PluginVerdictLabel { verdict: label }).inc();
        self.queue.judged(candidate, verdict);
    }

    fn fail(&self, candidate: Q::Candidate) {
        self.judged(candidate, None);
    }

    fn complain(&mut self, line: &[u8], why: &str, now: Instant) {
        self.metrics.plugin_rubbish.inc();
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < SAID_AGAIN) {
            return;
        }
        self.said = Some(now);
        let start = printable(&line[..line.len().min(128)]);
        tracing::warn!(line = start, "the plugin printed a line that is not used: {why}");
    }

    /// Decides what becomes of the events that were in flight when a process ended.
    fn finish(&mut self, end: ProcessEnd, mut conversation: Conversation<Q::Candidate>) {
        let ProcessEnd::Failed(cause) = end else { return };
        self.barren = if conversation.has_answered() { 0 } else { self.barren + 1 };
        self.side_by_side = self.side_by_side.saturating_add(conversation.side_by_side());
        let is_several = conversation.len() > 1;
        let takes_one_only = is_several && self.side_by_side < PROVEN;
        if takes_one_only {
            self.limit = 1;
            tracing::warn!(
                "the plugin failed with several requests at a time; from now on it gets one (plugin.in_flight)"
            );
        }
        for (place, mut asked) in conversation.take_all().enumerate() {
            // It has been silent over the first; the others had no chance.
            let is_to_blame = cause == PluginFailure::Timeout && place == 0 && !takes_one_only;
            if asked.again || is_to_blame {
                self.fail(asked.candidate);
            } else {
                asked.again = true;
                self.retries.push_back(asked);
            }
        }
        self.queue.flush();
    }

    /// Waits until the process may be started again. Returns `false` when the worker is to end.
    async fn pause(&mut self, cause: PluginFailure, lived: Duration) -> bool {
        let pause = match self.barren {
            0 if lived >= STEADY => Duration::ZERO,
            barren => FIRST_PAUSE.saturating_mul(1 << barren.saturating_sub(1).min(16)).min(LONGEST_PAUSE),
        };
        tracing::warn!(
            cause = cause.as_str(),
            pause_ms = pause.as_millis() as u64,
            "the plugin failed; it is started again"
        );
        // One event may hang it once or kill it twice. If the next one does too, those that wait have no chance.
        let is_hopeless = self.barren >= if cause == PluginFailure::Timeout { 2 } else { 3 };
        let until = Instant::now() + pause;
        let signal = Arc::clone(&self.signal);
        loop {
            if signal.is_over() {
                return false;
            }
            if is_hopeless {
                self.fail_all();
            }
            tokio::select! {
                biased;
                () = sleep_until(until.into()) => return true,
                () = signal.wake.notified() => {}
            }
        }
    }

    fn fail_all(&mut self) {
        let retries: Vec<_> = self.retries.drain(..).collect();
        retries.into_iter().for_each(|asked| self.fail(asked.candidate));
        while let Some(candidate) = self.queue.next() {
            self.fail(candidate);
        }
        self.queue.flush();
    }
}

/// Passes on the panic of a worker to the thread that runs it, which then ends as any other that panics.
pub fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
