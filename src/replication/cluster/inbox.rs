//! The way in: messages of the stream are checked, stored and then acknowledged, each once its event is on disk or is
//! refused for good.
//!
//! A message may come twice, late or in another order, and may be anything: the store decides by id and by the rules of
//! what stays. Whatever waits here is bounded by what NATS may leave unacknowledged.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;

use super::answers::Answers;
use super::error::{ClusterError, nats};
use super::intake;
use super::message::{self, Poison};
use super::options::TAKEN_AT_ONCE;
use super::shared::{Node, Shared, publisher};
use crate::metrics::NodeReceived;
use crate::nostr::json::Parser;
use crate::nostr::{Event, EventId, VerifiedEvent};
use crate::pipeline::client::OnAnswer;
use crate::pipeline::ingest::nodes::{NodeClient, NotEntered};
use crate::policy::check_from_node;

/// How long NATS waits for a question of ours to be asked again, and within what time it must say something.
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How soon a message comes again whose event could not be stored.
const AGAIN: Duration = Duration::from_secs(5);

/// Messages that are checked together: eight groups of the engine.
const CHECKED_AT_ONCE: usize = 64;

/// See the module.
struct Inbox {
    node: Arc<Node>,
    parser: Parser,
    client: NodeClient,
    answers: Arc<Answers>,
    /// Messages whose events are on their way to the disk.
    waiting: HashMap<EventId, Vec<Acker>>,
}

/// Takes messages until the session ends.
///
/// # Errors
/// When NATS fails, or the relay is stopping.
pub async fn run(shared: Arc<Shared>, consumer: Consumer<Config>) -> Result<Infallible, ClusterError> {
    let messages = consumer.stream().max_messages_per_batch(TAKEN_AT_ONCE).expires(EXPIRES).heartbeat(HEARTBEAT);
    let messages = messages.messages().await.map_err(nats("the stream of events cannot be read"))?;
    let mut messages = messages.ready_chunks(CHECKED_AT_ONCE);
    let answers = Arc::<Answers>::default();
    let node = Arc::clone(&shared.node);
    let client = node.serving.node_events.client(&node.serving.settings.load(), answers.on_answer());
    let mut inbox = Inbox { node, parser: Parser::default(), client, answers, waiting: HashMap::new() };
    loop {
        let answers = Arc::clone(&inbox.answers);
        tokio::select! {
            chunk = messages.next() => {
                let chunk = chunk.ok_or(ClusterError::Disconnected)?;
                let chunk: Result<Vec<Message>, _> = chunk.into_iter().collect();
                inbox.take(chunk.map_err(nats("the stream of events cannot be read"))?).await?;
            }
            () = answers.news() => {}
        }
        inbox.acknowledge().await?;
    }
}

impl Inbox {
    /// Deals with some messages.
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), ClusterError> {
        let mut events = Vec::with_capacity(messages.len());
        let mut origins = Vec::with_capacity(messages.len());
        for message in messages {
            match self.read(&message) {
                Ok(Some(event)) => {
                    events.push(event);
                    origins.push(message);
                }
                Ok(None) => acked(message.ack().await)?,
                Err(poison) => self.term(&message, &poison).await?,
            }
        }
        let mut verified = Vec::with_capacity(events.len());
        for (message, verdict) in origins.into_iter().zip(VerifiedEvent::verify(&self.node.verifier, events)) {
            match verdict {
                Ok(event) => {
                    let id = event.view().id();
                    // Before it is stored, so that it is not published again in between.
                    self.node.recent.note(&id);
                    self.waiting.entry(id).or_default().push(message.split().1);
                    verified.push(event);
                }
                Err(_) => self.term(&message, &Poison::BadSignature).await?,
            }
        }
        self.store(verified).await
    }

    /// The event of a message, unless it is to be passed over.
    fn read(&mut self, message: &Message) -> Result<Option<Event>, Poison> {
        let node = &self.node;
        if publisher(message.headers.as_ref()) == node.options.node {
            node.received(NodeReceived::Own, 1);
            return Ok(None);
        }
        let max_bytes = node.max_event_bytes();
        let event = message::read(&mut self.parser, &message.subject, &message.payload, max_bytes, false)?;
        Ok(match intake::check(node, event.view()) {
            Ok(()) => Some(event),
            Err(outcome) => {
                node.received(outcome, 1);
                None
            }
        })
    }

    /// Passes over a message for good.
    async fn term(&self, message: &Message, poison: &Poison) -> Result<(), ClusterError> {
        self.node.poisoned(&message.subject, publisher(message.headers.as_ref()), poison);
        acked(message.ack_with(AckKind::Term).await)
    }

    /// Hands events to the writer. Waits for room.
    async fn store(&mut self, mut events: Vec<VerifiedEvent>) -> Result<(), ClusterError> {
        while !events.is_empty() {
            events = intake::store(&self.client, events).await?;
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Acknowledges what is on disk or refused for good.
    async fn acknowledge(&mut self) -> Result<(), ClusterError> {
        for (id, outcome) in self.answers.take() {
            self.node.received(outcome, 1);
            for acker in self.waiting.remove(&id).unwrap_or_default() {
                acked(match outcome {
                    NodeReceived::Postponed => acker.ack_with(AckKind::Nak(Some(AGAIN))).await,
                    _ => acker.ack().await,
                })?;
            }
        }
        Ok(())
    }
}

fn acked(result: Result<(), async_nats::Error>) -> Result<(), ClusterError> {
    result.map_err(nats("a message cannot be acknowledged"))
}

/// Takes ephemeral events of other nodes until the session ends. What finds no room is dropped.
///
/// # Errors
/// When NATS fails, or the relay is stopping.
pub async fn run_ephemeral(shared: Arc<Shared>) -> Result<Infallible, ClusterError> {
    let node = Arc::clone(&shared.node);
    let subscribed = shared.client.subscribe(node.names.all_ephemeral()).await;
    let mut messages =
        subscribed.map_err(nats("ephemeral events cannot be subscribed to"))?.ready_chunks(CHECKED_AT_ONCE);
    let nobody: OnAnswer = Arc::new(|_, _, _| {});
    let client = node.serving.node_events.client(&node.serving.settings.load(), nobody);
    let mut parser = Parser::default();
    while let Some(chunk) = messages.next().await {
        let mut events = Vec::with_capacity(chunk.len());
        for message in chunk {
            let from = publisher(message.headers.as_ref());
            let max_bytes = node.max_event_bytes();
            match message::read(&mut parser, &message.subject, &message.payload, max_bytes, true) {
                // The server does not send us our own, but another session of ours may have been cut off.
                Ok(_) if from == node.options.node => {}
                Ok(event) if !node.wants(event.view()) => node.received(NodeReceived::Unwanted, 1),
                Ok(event) if check_from_node(&node.serving.settings.load(), event.view()).is_err() => {
                    node.received(NodeReceived::Refused, 1);
                }
                Ok(event) => events.push(event),
                Err(poison) => node.poisoned(&message.subject, from, &poison),
            }
        }
        let verdicts = VerifiedEvent::verify(&node.verifier, events);
        let bad = verdicts.iter().filter(|verdict| verdict.is_err()).count();
        if bad > 0 {
            node.poisoned(&node.names.all_ephemeral(), "", &Poison::BadSignature);
        }
        let events: Vec<VerifiedEvent> = verdicts.into_iter().filter_map(Result::ok).collect();
        let count = events.len();
        let dropped = match client.deliver(events) {
            Ok(()) => 0,
            Err(NotEntered::Full(left)) => left.len(),
            Err(NotEntered::Closed) => return Err(ClusterError::Stopping),
        };
        node.received(NodeReceived::Ephemeral, (count - dropped) as u64);
        node.received(NodeReceived::Dropped, dropped as u64);
    }
    Err(ClusterError::Disconnected)
}
