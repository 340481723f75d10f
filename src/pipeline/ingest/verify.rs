//! The `verify` thread: checks signatures in batches, in the pinned rayon pool when a batch is large enough. And
//! [`Intake`], the way there, which verifies an event that comes alone on the io thread.
//!
//! Both answer what they refuse and pass the rest on: stored kinds to the writer, ephemeral ones to live; and all of
//! them to the `plugin` thread where a plugin judges events. The thread never waits on a client; the intake never
//! blocks at all.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::metrics::{EventOutcome, Metrics, StoreOperation};
use crate::nostr::{Event, Prefix, Pubkey, RelayMessage, VerifiedEvent};
use crate::pipeline::channel::{Receiver, SendError, Sender};
use crate::pipeline::client::{BatchReplies, ClientHandle};
use crate::pipeline::clock::Clock;
use crate::pipeline::health::Health;
use crate::pipeline::ingest::answers::Answers;
use crate::pipeline::ingest::backlog::Backlog;
use crate::pipeline::ingest::gate::Gate;
use crate::pipeline::ingest::plugin::sender::PluginSender;
use crate::pipeline::queues::{LiveCommand, Submission, Verified, WriteCommand};
use crate::policy::{Access, Act, Decision, Newcomers, Offenders, Refusal, Settings};
use crate::schnorr::Verifier;
use crate::store::Store;

/// Work per thread in one batch: about 250 signatures. Larger batches gain nothing, and other events wait for them.
const BATCH_US: u64 = 4_000;

/// Signatures that one pool thread takes at a time: eight full groups of the 8-lane engine.
const CHUNK: usize = 64;

/// What checking signatures takes.
#[derive(Clone)]
pub struct Verifying {
    /// The signature engines.
    pub verifier: Arc<Verifier>,
    /// The gate, which refused events leave here.
    pub gate: Arc<Gate>,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The store, which knows who published here before.
    pub store: Store,
    /// Keys that are new here.
    pub newcomers: Arc<Newcomers>,
    /// Who is refused over and over.
    pub offenders: Arc<Offenders>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the store works.
    pub health: Arc<Health>,
    /// The clocks.
    pub clock: Clock,
}

/// The way of an io thread's events into the pipeline.
#[derive(Clone)]
pub struct Intake {
    verifying: Verifying,
    ingest: Sender<Vec<Submission>>,
    onward: VerifiedOutputs,
}

/// The ways on for events whose signature is good.
#[derive(Clone)]
pub struct VerifiedOutputs {
    /// To the `plugin` thread.
    pub plugin: PluginSender,
    /// To the writer.
    pub write: Sender<WriteCommand>,
    /// To live.
    pub live: Sender<LiveCommand>,
}

impl Intake {
    /// A full group of the 8-lane engine: this many events gain nothing from waiting for more.
    pub const FULL: usize = 8;

    pub(in crate::pipeline) const fn new(
        verifying: Verifying,
        ingest: Sender<Vec<Submission>>,
        onward: VerifiedOutputs,
    ) -> Self {
        Self { verifying, ingest, onward }
    }

    /// Hands events over; never blocks. Call it with everything that came in one turn.
    ///
    /// A single event that comes while the `verify` thread sleeps is verified here: that takes 25 µs, as much as waking
    /// that thread. It overtakes nothing, since a thread that sleeps has passed everything on. Unless this thread
    /// `may_read` from the store, it leaves events that take a look into it to the `verify` thread.
    pub fn submit(&self, mut batch: Vec<Submission>, may_read: bool) {
        if let [one] = &batch[..]
            && (may_read || one.decision != Decision::Newcomer)
            && self.ingest.is_awaited()
        {
            batch = self.verify_here(batch);
        }
        if batch.is_empty() {
            return;
        }
        if let Err(SendError::Full(batch) | SendError::Closed(batch)) = self.ingest.try_send(batch) {
            // Never full: the gate lets in no more than the queue holds. Closed: the `verify` thread has ended and the
            // process is stopping; none of these events was acknowledged.
            tracing::error!(events = batch.len(), "the pipeline is closed");
        }
    }

    /// Verifies, refuses and passes on; returns what there was no room for.
    fn verify_here(&self, batch: Vec<Submission>) -> Vec<Submission> {
        let (stored, ephemeral) = self.verifying.verify(None, batch);
        let back = self.pass_on(stored, ephemeral);
        let unverified = |Verified { event, from, received }| {
            // What was muted has been answered, and newcomers have been charged.
            Submission { event: event.into_event(), decision: Decision::Accept, from, received }
        };
        back.into_iter().map(unverified).collect()
    }

    /// Returns what finds its queue full. A closed queue means that the process is stopping.
    fn pass_on(&self, stored: Vec<Verified>, ephemeral: Vec<Verified>) -> Vec<Verified> {
        let VerifiedOutputs { plugin, write, live } = &self.onward;
        if plugin.is_open(&self.verifying.settings.load()) {
            plugin.pass(stored);
            plugin.pass(ephemeral);
            return Vec::new();
        }
        let mut back = Vec::new();
        if !stored.is_empty()
            && let Err(SendError::Full(WriteCommand::Store(stored))) = write.try_send(WriteCommand::Store(stored))
        {
            back.extend(stored);
        }
        if !ephemeral.is_empty()
            && let Err(SendError::Full(LiveCommand::Ephemeral(ephemeral))) =
                live.try_send(LiveCommand::Ephemeral(ephemeral))
        {
            back.extend(ephemeral);
        }
        back
    }
}

/// Runs until Q1 is closed and empty.
pub fn run(
    verifying: &Verifying,
    pool: Option<&ThreadPool>,
    ingest: &Receiver<Vec<Submission>>,
    VerifiedOutputs { plugin, write, live }: &VerifiedOutputs,
) {
    let threads = pool.map_or(1, ThreadPool::current_num_threads) as u64;
    let mut backlog = Backlog::new(BATCH_US * threads);
    loop {
        if backlog.is_empty() {
            let Some(first) = ingest.recv() else { return };
            backlog.add(first);
        }
        while let Some(more) = ingest.try_recv() {
            backlog.add(more);
        }
        let (stored, ephemeral) = verifying.verify(pool, backlog.take(verifying.clock.now_us()));
        if plugin.is_open(&verifying.settings.load()) {
            plugin.pass(stored);
            plugin.pass(ephemeral);
            continue;
        }
        // A closed queue means that its thread has panicked, which stops the process.
        if !stored.is_empty() && write.send(WriteCommand::Store(stored)).is_err() {
            return;
        }
        if !ephemeral.is_empty() && live.send(LiveCommand::Ephemeral(ephemeral)).is_err() {
            return;
        }
    }
}

/// What policy says about an event, who sent it, and when it was read.
type Origin = (Decision, Arc<ClientHandle>, Instant);

/// An event with its proof, or without one when its signature is wrong.
type Verdict = Result<VerifiedEvent, Event>;

impl Verifying {
    /// Checks a batch, answers what is wrong, and splits the rest into stored and ephemeral events.
    fn verify(&self, pool: Option<&ThreadPool>, batch: Vec<Submission>) -> (Vec<Verified>, Vec<Verified>) {
        self.metrics.verify_batch.observe(batch.len() as f64);
        self.split(self.verdicts(pool, batch))
    }

    fn verdicts(&self, pool: Option<&ThreadPool>, batch: Vec<Submission>) -> Vec<(Origin, Verdict)> {
        let (origins, events): (Vec<Origin>, Vec<Event>) =
            batch.into_iter().map(|one| ((one.decision, one.from, one.received), one.event)).unzip();
        let verify = |events: Vec<Event>| VerifiedEvent::verify(&self.verifier, events);
        let verdicts: Vec<Verdict> = match pool {
            Some(pool) if events.len() > CHUNK => {
                pool.install(|| events.into_par_iter().chunks(CHUNK).flat_map_iter(verify).collect())
            }
            _ => verify(events),
        };
        origins.into_iter().zip(verdicts).collect()
    }

    fn split(&self, verdicts: Vec<(Origin, Verdict)>) -> (Vec<Verified>, Vec<Verified>) {
        let (mut stored, mut ephemeral, mut bad) = (Vec::with_capacity(verdicts.len()), Vec::new(), Vec::new());
        let mut answers = Answers::new(&self.metrics, &self.gate);
        for ((decision, from, received), verdict) in verdicts {
            match verdict {
                Ok(event) => {
                    let verified = Verified { event, from, received };
                    match self.admit(decision, &verified) {
                        Ok(Decision::Mute) => answers.shadow(&verified),
                        Ok(_) if verified.event.view().kind().is_ephemeral() => ephemeral.push(verified),
                        Ok(_) => stored.push(verified),
                        Err(refusal) => answers.refuse(&verified, refusal),
                    }
                }
                Err(event) => bad.push((from, event)),
            }
        }
        if !bad.is_empty() {
            self.refuse(&bad);
        }
        (stored, ephemeral)
    }

    /// What becomes of an event whose signature is good.
    fn admit(&self, decision: Decision, verified: &Verified) -> Result<Decision, Refusal> {
        if decision == Decision::Newcomer {
            let (author, address, settings) =
                (verified.event.view().pubkey(), verified.from.address, self.settings.load());
            let (options, now_us) = (&settings.policy.newcomers, self.clock.now_us());
            let is_new = self.newcomers.is_new(options, &author, now_us);
            if is_new.unwrap_or_else(|| !self.has_published(&author, &settings.access)) {
                self.newcomers.charge(options, author, address, now_us)?;
            }
        }
        Ok(decision)
    }

    /// Whether the store holds an event of this author that counts. Reading it costs no more of the disk than storing
    /// the event, which goes to the same place of the index.
    fn has_published(&self, author: &Pubkey, access: &Access) -> bool {
        let counts = |kind| access.counts_for_newcomers(kind);
        let holds = self.store.read().and_then(|snapshot| snapshot.holds_author(author, counts));
        holds.unwrap_or_else(|error| {
            self.health.failed(StoreOperation::Read, &error);
            true
        })
    }

    /// Answers and charges events whose signature is wrong.
    fn refuse(&self, bad: &[(Arc<ClientHandle>, Event)]) {
        self.gate.leave(bad.iter().map(|(from, event)| (&*from.memory, event.view().record().len())));
        self.metrics.event(EventOutcome::Invalid, bad.len() as u64);
        let (settings, now_us) = (self.settings.load(), self.clock.now_us());
        let mut replies = BatchReplies::default();
        for (from, event) in bad {
            from.rates.charge_act(&settings, from.identity().tier, Act::Rejected, now_us);
            from.offend(&self.offenders, &settings.policy.offenders, now_us);
            replies.answer(from, &RelayMessage::refused(event.view().id(), Prefix::Invalid, "the signature is wrong"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{self, Ledger};
    use crate::nostr::testing::{author, trusted};
    use crate::pipeline::OnFailure;
    use crate::pipeline::channel::channel;
    use crate::pipeline::queues::Bounds;
    use crate::policy::{RateLimiter, RateTable};
    use crate::schnorr;
    use crate::store::{self, Durability};
    use crate::ws::{Budget, OutboxOptions, Writer};

    #[test]
    fn the_short_cut_gives_back_what_finds_its_queue_full_and_does_not_wait() {
        let (settings, address) = (Settings::default(), std::net::Ipv4Addr::LOCALHOST.into());
        let (outbox, _writer) = Writer::with_outbox(OutboxOptions::default(), Arc::new(Budget::new(1 << 20)), None);
        let rates = RateLimiter::new(&settings, address, RateTable::new(1).get(address, 0));
        let memory = Ledger::new(ledger::Options::default()).address(address);
        let from = Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory));
        let one = |kind| {
            vec![Verified {
                event: trusted(author(1), kind, 1, &[], "x"),
                from: Arc::clone(&from),
                received: Instant::now(),
            }]
        };
        let ((ingest, _q1), (write, q2), (live, q3), (plugin, _)) = (channel(1), channel(1), channel(1), channel(1));
        let plugin = PluginSender::new(plugin, Arc::default());
        let (dir, metrics) = (tempfile::tempdir().expect("a temporary directory"), Arc::new(Metrics::new()));
        let options = store::Options { map_bytes: 1 << 24, durability: Durability::None, ..store::Options::default() };
        let on_failure: OnFailure = Arc::new(|why| panic!("{why}"));
        let verifying = Verifying {
            verifier: Arc::new(Verifier::new(schnorr::Options::default())),
            gate: Arc::new(Gate::new(&Bounds::default())),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            store: Store::open(dir.path(), options).expect("a new store"),
            newcomers: Arc::new(Newcomers::new(1)),
            offenders: Arc::new(Offenders::new(1)),
            health: Arc::new(Health::new(&metrics, &on_failure)),
            metrics,
            clock: Clock::start(),
        };
        let intake = Intake::new(verifying, ingest, VerifiedOutputs { plugin, write, live });
        assert!(intake.pass_on(one(1), one(20_001)).is_empty());
        let kinds = |back: &[Verified]| back.iter().map(|one| one.event.view().kind().0).collect::<Vec<_>>();
        assert_eq!(kinds(&intake.pass_on(one(1), one(20_001))), [1, 20_001]);
        assert!(matches!(q2.try_recv(), Some(WriteCommand::Store(events)) if kinds(&events) == [1]));
        assert!(matches!(q3.try_recv(), Some(LiveCommand::Ephemeral(events)) if kinds(&events) == [20_001]));
    }
}
