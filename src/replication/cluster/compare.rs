//! Compares what this node holds with what another one holds, by negentropy through NATS, and fetches what is missing.
//!
//! It is the final truth: it finds what a stream dropped, what was lost with one, and what was stored before a relay
//! became a node. Each node fetches for itself. What it asks for and refuses is not asked for again while it runs.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::Request;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;

use super::answering::{MAX_RECORDS, filter};
use super::answers::Answers;
use super::ask::{self, Answer, Question};
use super::disk::on_disk;
use super::error::{ClusterError, nats};
use super::intake;
use super::message;
use super::shared::{Node, Shared};
use crate::metrics::NodeReceived;
use crate::negentropy::{Differences, Initiator, Records};
use crate::nostr::json::Parser;
use crate::nostr::{EventId, VerifiedEvent, hex};
use crate::pipeline::ingest::nodes::NodeClient;
use crate::pipeline::now;
use crate::replication::backoff::chance;
use crate::replication::local::LocalSide;
use crate::replication::remembered::Remembered;
use crate::replication::window::Window;
use crate::store::StoreError;

/// How long another node may take for an answer: it may have to read a million rows.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long the store may take to say what became of an event.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// How soon a comparison that is due is tried, and tried again.
const SOON: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(15);

/// How soon after one that was due another one follows.
const LATER: Duration = Duration::from_secs(60);

/// How soon after one another follows that has become due meanwhile.
const NEXT: Duration = Duration::from_secs(5);

/// Messages of one comparison. Two sides of 100,000 records need five.
const MAX_ROUNDS: usize = 64;

/// Compares whenever it is due, until the session ends.
///
/// # Errors
/// When the store fails, or the relay is stopping.
pub async fn run(shared: Arc<Shared>, events: Stream) -> Result<Infallible, ClusterError> {
    let node = Arc::clone(&shared.node);
    let interval = Duration::from_secs(node.options.compare_interval_s);
    // An earlier session may have ended before that was done, or before the comparison that was to follow.
    node.is_to_compare.store(true, Ordering::Relaxed);
    let (mut pause, mut done) = (SOON, BTreeSet::new());
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = node.compare_now.notified() => {}
            () = due(&node), if pause > AGAIN => {}
        }
        // Before it compares: what becomes due meanwhile is for the next one.
        let was_due = node.is_to_compare.swap(false, Ordering::Relaxed);
        if !compare_with_all(&shared, &events, &mut done).await? {
            node.is_to_compare.store(true, Ordering::Relaxed);
            pause = AGAIN;
            continue;
        }
        done.clear();
        // After a fault, nodes join one after the other. And those that started together do not all compare at once.
        pause = if was_due { LATER } else { interval.mul_f64(0.5 + f64::from(chance()) / f64::from(u32::MAX)) };
    }
}

/// Resolves when a comparison is due, [`NEXT`] from now at the earliest.
async fn due(node: &Node) {
    tokio::time::sleep(NEXT).await;
    while !node.is_to_compare.load(Ordering::Relaxed) {
        tokio::time::sleep(NEXT).await;
    }
}

/// Compares with every node that is not `done`, beginning anywhere: what the stream lost may be at any. Whether all are
/// done now; `false` if there is no other.
async fn compare_with_all(shared: &Shared, events: &Stream, done: &mut BTreeSet<String>) -> Result<bool, ClusterError> {
    let names: Result<Vec<String>, _> = events.consumer_names().try_collect().await;
    let mut names = names.map_err(nats("the nodes cannot be listed"))?;
    names.retain(|name| *name != shared.node.options.node);
    let first = if names.is_empty() { 0 } else { chance() as usize % names.len() };
    names.rotate_left(first);
    for name in names.iter().filter(|name| !done.contains(*name)).cloned().collect::<Vec<_>>() {
        match Comparison::new(shared, &name).run().await {
            Ok(fetched) => {
                tracing::info!(with = name, fetched, "compared with another node");
                shared.node.compared_at.store(now().0, Ordering::Relaxed);
                done.insert(name);
            }
            Err(error @ (ClusterError::Stopping | ClusterError::Store(_))) => return Err(error),
            Err(error) => tracing::debug!(with = name, "not compared: {error}"),
        }
    }
    Ok(!names.is_empty() && names.iter().all(|name| done.contains(name)))
}

/// One comparison with one node.
struct Comparison<'a> {
    shared: &'a Shared,
    node: &'a Arc<Node>,
    with: &'a str,
    client: NodeClient,
    answers: Arc<Answers>,
    parser: Parser,
    fetched: u64,
}

impl<'a> Comparison<'a> {
    fn new(shared: &'a Shared, with: &'a str) -> Self {
        let (node, answers) = (&shared.node, Arc::<Answers>::default());
        let client = node.serving.node_events.client(&node.serving.settings.load(), answers.on_answer());
        Self { shared, node, with, client, answers, parser: Parser::default(), fetched: 0 }
    }

    /// Compares everything, the newest first. Returns how many events were stored.
    async fn run(mut self) -> Result<u64, ClusterError> {
        let mut windows = vec![Window::ALL];
        while let Some(window) = windows.pop() {
            let (part, rest, records) = self.held(window).await?;
            match self.differences(part, records).await? {
                Some(need) => {
                    windows.extend(rest);
                    self.fetch(need).await?;
                }
                None => {
                    let halves = part.halves(now());
                    windows.extend(rest);
                    let (newer, older) = halves.ok_or_else(|| failed("one second has too many events"))?;
                    windows.extend([older, newer]);
                }
            }
        }
        Ok(self.fetched)
    }

    /// What this node holds of the newest part of a window, that part, and the rest.
    async fn held(&self, window: Window) -> Result<(Window, Option<Window>, Records), ClusterError> {
        let node = Arc::clone(self.node);
        let look = move || -> Result<_, StoreError> {
            let (stop, filter) = (AtomicBool::new(false), filter(&node.options.kinds, node.authors.clone()));
            let store = &node.serving.store;
            let (max_records, now) = (MAX_RECORDS, now());
            let look = LocalSide { store, filter: &filter, max_records, sends_up: false, now, stop: &stop };
            look.find(window, &Remembered::default())
        };
        let held = on_disk(look).await?.ok_or(ClusterError::Stopping)?;
        Ok((held.window, held.rest, held.records))
    }

    /// The ids that the other node holds in a window and this one does not; `None` if it holds too many.
    async fn differences(&self, window: Window, records: Records) -> Result<Option<BTreeSet<EventId>>, ClusterError> {
        let initiator = Initiator::new(Arc::new(records), ask::frame_bytes(self.shared.max_payload()));
        let options = &self.node.options;
        let mut question = Question::Open {
            since: window.since.0,
            until: window.until.0,
            kinds: options.kinds.clone(),
            authors: self.node.authors.iter().map(|author| hex::encode(&author.0)).collect(),
            message: ask::to_text(&initiator.open()),
        };
        let mut found = Differences::default();
        for _ in 0..MAX_ROUNDS {
            let answer = self.ask(&question).await?;
            let answer = serde_json::from_slice(&answer).map_err(|error| failed(&error.to_string()))?;
            let (session, message) = match answer {
                Answer::Compared { session, message } => (session, message),
                Answer::Much => return Ok(None),
                Answer::Busy => return Err(failed("it is serving another node")),
                Answer::Failed { why } => return Err(failed(&why)),
                Answer::Status(_) => return Err(failed("it answers something else")),
            };
            let message = ask::to_bytes(&message).ok_or_else(|| failed("its message is not hex"))?;
            match initiator.next(&message, &mut found).map_err(|error| failed(&error.to_string()))? {
                Some(next) => question = Question::Next { session, message: ask::to_text(&next) },
                None => return Ok(Some(found.need)),
            }
        }
        Err(failed("the comparison has no end"))
    }

    async fn ask(&self, question: &Question) -> Result<Vec<u8>, ClusterError> {
        let payload = serde_json::to_vec(question).map_err(|error| failed(&error.to_string()))?;
        let request = Request::new().payload(payload.into()).headers(self.node.headers()).timeout(Some(ANSWER_WITHIN));
        let answer = self.shared.client.send_request(self.node.names.ask(self.with), request).await;
        Ok(answer.map_err(nats("another node did not answer"))?.payload.to_vec())
    }

    /// Fetches events and stores them. What does not come is asked for again, since not all fit into one answer, until
    /// nothing new comes: then it is gone there, or fits into no message.
    async fn fetch(&mut self, need: BTreeSet<EventId>) -> Result<(), ClusterError> {
        let mut missing: Vec<EventId> = need.into_iter().filter(|id| !self.node.refused.has(id)).collect();
        let mut has_news = true;
        while has_news && !missing.is_empty() {
            let mut left = Vec::new();
            for asked in missing.chunks(ask::MAX_IDS) {
                let question = Question::Events { ids: asked.iter().map(ToString::to_string).collect() };
                let lines = self.ask(&question).await?;
                let came = self.take(&lines, asked).await?;
                left.extend(asked.iter().filter(|id| !came.contains(*id)));
            }
            has_news = left.len() < missing.len();
            missing = left;
        }
        Ok(())
    }

    /// Stores the events of an answer that were asked for, and waits for what becomes of them. Returns their ids.
    async fn take(&mut self, lines: &[u8], asked: &[EventId]) -> Result<BTreeSet<EventId>, ClusterError> {
        let (mut events, mut came) = (Vec::new(), BTreeSet::new());
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event = match message::read_bare(&mut self.parser, line, self.node.max_event_bytes()) {
                Ok(event) if asked.contains(&event.view().id()) => event,
                Ok(_) => return Err(failed("it sends what it was not asked for")),
                Err(poison) => {
                    self.node.poisoned("a comparison", self.with, &poison);
                    continue;
                }
            };
            let id = event.view().id();
            if !came.insert(id) {
                return Err(failed("it sends an event twice"));
            }
            match intake::check(self.node, event.view()) {
                Ok(()) => events.push(event),
                Err(outcome) => self.refused(&id, outcome),
            }
        }
        let mut verified: Vec<VerifiedEvent> = Vec::with_capacity(events.len());
        for verdict in VerifiedEvent::verify(&self.node.verifier, events) {
            match verdict {
                Ok(event) => {
                    // All nodes compare: it need not be published again.
                    self.node.recent.note(&event.view().id());
                    verified.push(event);
                }
                Err(event) => self.refused(&event.view().id(), NodeReceived::Poison),
            }
        }
        self.store(verified).await?;
        Ok(came)
    }

    /// Stores events, and waits for what becomes of each.
    async fn store(&mut self, mut events: Vec<VerifiedEvent>) -> Result<(), ClusterError> {
        let mut owed: BTreeSet<EventId> = events.iter().map(|event| event.view().id()).collect();
        while !owed.is_empty() {
            let told = if events.is_empty() {
                let told = self.answers.next(STORED_WITHIN).await;
                if told.is_empty() {
                    return Err(failed("the store does not say what became of an event"));
                }
                told
            } else {
                events = intake::store(&self.client, events).await?;
                self.answers.take()
            };
            for (id, outcome) in told {
                owed.remove(&id);
                match outcome {
                    NodeReceived::Stored => {
                        self.fetched += 1;
                        self.node.received(NodeReceived::Compared, 1);
                    }
                    NodeReceived::Postponed => return Err(failed("the store does not take events now")),
                    other => self.refused(&id, other),
                }
            }
        }
        Ok(())
    }

    fn refused(&self, id: &EventId, outcome: NodeReceived) {
        self.node.received(outcome, 1);
        self.node.refused.note(id);
    }
}

fn failed(why: &str) -> ClusterError {
    ClusterError::Nats { what: "a comparison", why: why.into() }
}
