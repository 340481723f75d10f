//! The way in: messages of the stream are checked, stored and then acknowledged, each once its events are on disk or
//! are refused for good.
//!
//! A message may come twice, late or in another order, and may be anything: the store decides by id and by the rules of
//! what stays. Whatever waits here is bounded by what NATS may leave unacknowledged.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
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
use super::owed::{End, Number, Owed};
use super::shared::{Node, Shared, publisher};
use crate::metrics::NodeReceived;
use crate::nostr::json::Parser;
use crate::nostr::{Event, VerifiedEvent};
use crate::pipeline::client::OnAnswer;
use crate::pipeline::ingest::nodes::{NodeClient, NotEntered};
use crate::policy::check_from_node;

/// How long NATS waits for a question of ours to be asked again, and within what time it must say something.
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How soon a message comes again of which an event could not be stored.
const AGAIN: Duration = Duration::from_secs(5);

/// Events that are checked together: eight groups of the engine. What is published waits that long at most.
const CHECKED_AT_ONCE: usize = 64;

/// See the module.
struct Inbox {
    node: Arc<Node>,
    parser: Parser,
    client: NodeClient,
    answers: Arc<Answers>,
    /// Messages that are not acknowledged.
    owed: Owed<Origin>,
}

/// Where a message came from.
struct Origin {
    acker: Acker,
    subject: Subject,
    /// The node that published it, as it says itself.
    from: String,
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
    let mut inbox = Inbox { node, parser: Parser::default(), client, answers, owed: Owed::default() };
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
        let mut events = Vec::new();
        for message in messages {
            let from = publisher(message.headers.as_ref());
            if from == self.node.options.node {
                self.node.received(NodeReceived::Own, message::lines(&message.payload).count() as u64);
                acked(message.ack().await)?;
                continue;
            }
            let from = from.to_owned();
            let (message, acker) = message.split();
            let number = self.owed.begin(Origin { acker, subject: message.subject, from });
            for line in message::lines(&message.payload) {
                self.owed.add(number);
                match self.read(number, line) {
                    Ok(event) => events.push((number, event)),
                    Err(end) => self.end(number, end).await?,
                }
                if events.len() >= CHECKED_AT_ONCE {
                    self.check(std::mem::take(&mut events)).await?;
                    // The way out runs on this thread too.
                    tokio::task::yield_now().await;
                }
            }
            self.end(number, End::Poison).await?;
        }
        self.check(events).await
    }

    /// The event in a line of a message, or what else becomes of it.
    fn read(&mut self, number: Number, line: &[u8]) -> Result<Event, End> {
        let Some(origin) = self.owed.by(number) else { return Err(End::Done) };
        let node = &self.node;
        match message::read(&mut self.parser, &origin.subject, line, node.max_event_bytes(), false) {
            Ok(event) => intake::check(node, event.view()).map(|()| event).map_err(|outcome| {
                node.received(outcome, 1);
                End::Done
            }),
            Err(poison) => {
                node.poisoned(&origin.subject, &origin.from, &poison);
                Err(End::Poison)
            }
        }
    }

    /// Checks signatures, and hands what is good to the writer. Waits for room.
    async fn check(&mut self, events: Vec<(Number, Event)>) -> Result<(), ClusterError> {
        let (numbers, events): (Vec<Number>, Vec<Event>) = events.into_iter().unzip();
        let mut verified = Vec::with_capacity(events.len());
        for (number, verdict) in numbers.into_iter().zip(VerifiedEvent::verify(&self.node.verifier, events)) {
            match verdict {
                Ok(event) => {
                    let id = event.view().id();
                    // Before it is stored, so that it is not published again in between.
                    self.node.recent.note(&id);
                    self.owed.wait(number, id);
                    verified.push(event);
                }
                Err(_) => {
                    if let Some(Origin { subject, from, .. }) = self.owed.by(number) {
                        self.node.poisoned(subject, from, &Poison::BadSignature);
                    }
                    self.end(number, End::Poison).await?;
                }
            }
        }
        while !verified.is_empty() {
            verified = intake::store(&self.client, verified).await?;
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Deals with what became of events.
    async fn acknowledge(&mut self) -> Result<(), ClusterError> {
        for (id, outcome) in self.answers.take() {
            self.node.received(outcome, 1);
            let end = if outcome == NodeReceived::Postponed { End::Again } else { End::Done };
            for (origin, end) in self.owed.settle(&id, end) {
                answer(&origin.acker, end).await?;
            }
        }
        Ok(())
    }

    /// An event of a message, or its reading, has come to an end.
    async fn end(&mut self, number: Number, end: End) -> Result<(), ClusterError> {
        match self.owed.end(number, end) {
            Some((origin, end)) => answer(&origin.acker, end).await,
            None => Ok(()),
        }
    }
}

/// Tells NATS what became of a message.
async fn answer(acker: &Acker, end: End) -> Result<(), ClusterError> {
    acked(match end {
        End::Poison => acker.ack_with(AckKind::Term).await,
        End::Done => acker.ack().await,
        End::Again => acker.ack_with(AckKind::Nak(Some(AGAIN))).await,
    })
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
