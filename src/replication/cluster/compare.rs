//! Compares what this node holds with what another one holds, by negentropy through NATS, and fetches what is missing.
//!
//! It is the final truth: it finds what a stream dropped, what was lost with one, and what was stored before a relay
//! became a node. Each node fetches for itself. What it asks for and refuses is not asked for again while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Request;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;

use super::answering::{MAX_RECORDS, filter, on_disk};
use super::ask::{self, Answer, Question};
use super::error::{ClusterError, nats};
use super::intake;
use super::message;
use super::shared::{Node, Shared};
use crate::metrics::NodeReceived;
use crate::negentropy::{Differences, Initiator, Records};
use crate::nostr::json::Parser;
use crate::nostr::{EventId, VerifiedEvent, hex};
use crate::pipeline::client::OnAnswer;
use crate::pipeline::ingest::nodes::NodeClient;
use crate::pipeline::now;
use crate::replication::backoff::chance;
use crate::replication::local::Look;
use crate::replication::remembered::Remembered;
use crate::replication::window::Window;
use crate::store::StoreError;

/// How long another node may take for an answer: it may have to read a million rows.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How soon a comparison that is due is tried, and tried again.
const SOON: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(15);

/// Messages of one comparison. Two sides of 100,000 records need five.
const MAX_ROUNDS: usize = 64;

/// Compares whenever it is due, until the session ends.
///
/// # Errors
/// When the store fails, or the relay is stopping.
pub async fn run(shared: Arc<Shared>, events: Stream) -> Result<Infallible, ClusterError> {
    let node = Arc::clone(&shared.node);
    let interval = Duration::from_secs(node.options.compare_interval_s);
    let mut pause = SOON;
    if node.compared_at.load(Ordering::Relaxed) == 0 {
        // An earlier session may have ended before that was done.
        node.is_to_compare.store(true, Ordering::Relaxed);
    }
    loop {
        if !node.is_to_compare.load(Ordering::Relaxed) {
            // Nodes that started together do not all compare at once.
            pause = interval.mul_f64(0.5 + f64::from(chance()) / f64::from(u32::MAX));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = node.compare_now.notified() => {}
        }
        // What becomes due meanwhile is for the next one.
        node.is_to_compare.store(false, Ordering::Relaxed);
        if compare_with_any(&shared, &events).await? {
            node.compared_at.store(now().0, Ordering::Relaxed);
        } else {
            node.is_to_compare.store(true, Ordering::Relaxed);
            pause = AGAIN;
        }
    }
}

/// Compares with the first node that answers, beginning anywhere. Whether there was one.
async fn compare_with_any(shared: &Shared, events: &Stream) -> Result<bool, ClusterError> {
    let names: Result<Vec<String>, _> = events.consumer_names().try_collect().await;
    let mut names = names.map_err(nats("the nodes cannot be listed"))?;
    names.retain(|name| *name != shared.node.options.node);
    let first = if names.is_empty() { 0 } else { chance() as usize % names.len() };
    names.rotate_left(first);
    for name in names {
        match Comparison::new(shared, &name).run().await {
            Ok(fetched) => {
                tracing::info!(with = name, fetched, "compared with another node");
                return Ok(true);
            }
            Err(error @ (ClusterError::Stopping | ClusterError::Store(_))) => return Err(error),
            Err(error) => tracing::debug!(with = name, "not compared: {error}"),
        }
    }
    Ok(false)
}

/// What became of events that were handed over.
#[derive(Default)]
struct Outcomes(Mutex<BTreeMap<EventId, NodeReceived>>);

impl Outcomes {
    fn on_answer(self: &Arc<Self>) -> OnAnswer {
        let outcomes = Arc::clone(self);
        Arc::new(move |id, accepted, reason| {
            let mut known = outcomes.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id, intake::outcome(accepted, reason));
        })
    }

    fn take(&self) -> BTreeMap<EventId, NodeReceived> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One comparison with one node.
struct Comparison<'a> {
    shared: &'a Shared,
    node: &'a Arc<Node>,
    with: &'a str,
    client: NodeClient,
    outcomes: Arc<Outcomes>,
    parser: Parser,
    fetched: u64,
}

impl<'a> Comparison<'a> {
    fn new(shared: &'a Shared, with: &'a str) -> Self {
        let (node, outcomes) = (&shared.node, Arc::<Outcomes>::default());
        let client = node.serving.node_events.client(&node.serving.settings.load(), outcomes.on_answer());
        Self { shared, node, with, client, outcomes, parser: Parser::default(), fetched: 0 }
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
            let look = Look { store, filter: &filter, max_records, sends_up: false, now, stop: &stop };
            look.find(window, &Remembered::default())
        };
        let held = on_disk(look).await?.ok_or(ClusterError::Stopping)?;
        Ok((held.window, held.rest, held.records))
    }

    /// The ids that the other node holds in a window and this one does not; `None` if it holds too many.
    async fn differences(&self, window: Window, records: Records) -> Result<Option<BTreeSet<EventId>>, ClusterError> {
        let initiator = Initiator::new(Arc::new(records), ask::FRAME_BYTES);
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

    /// Fetches events and stores them.
    async fn fetch(&mut self, need: BTreeSet<EventId>) -> Result<(), ClusterError> {
        let mut ids: Vec<EventId> = need.into_iter().filter(|id| !self.node.refused.has(id)).collect();
        while !ids.is_empty() {
            let asked: Vec<EventId> = ids.drain(..ids.len().min(ask::MAX_IDS)).collect();
            let question = Question::Events { ids: asked.iter().map(ToString::to_string).collect() };
            let lines = self.ask(&question).await?;
            let came = self.take(&lines, &asked).await?;
            // It answers as much as fits, in this order; what comes before the last one is gone there.
            let answered =
                came.and_then(|last| asked.iter().position(|id| *id == last)).map_or(asked.len(), |at| at + 1);
            if lines.len() >= ask::ANSWER_BYTES / 2 {
                ids.extend_from_slice(&asked[answered..]);
            }
        }
        Ok(())
    }

    /// Stores the events of an answer that were asked for, and waits for what becomes of them. Returns the last one.
    async fn take(&mut self, lines: &[u8], asked: &[EventId]) -> Result<Option<EventId>, ClusterError> {
        let (mut events, mut last) = (Vec::new(), None);
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
            last = Some(id);
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
        let mut owed = verified.len();
        while owed > 0 {
            if verified.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            } else {
                verified = intake::store(&self.client, verified).await?;
            }
            for (id, outcome) in self.outcomes.take() {
                owed = owed.saturating_sub(1);
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
        Ok(last)
    }

    fn refused(&self, id: &EventId, outcome: NodeReceived) {
        self.node.received(outcome, 1);
        self.node.refused.note(id);
    }
}

fn failed(why: &str) -> ClusterError {
    ClusterError::Nats { what: "a comparison", why: why.into() }
}
