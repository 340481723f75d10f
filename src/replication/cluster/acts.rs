//! Acts of admins, which every node records: of two about one subject the later one holds, wherever it was done.
//!
//! What is read from the stream may come in any order and any number of times. The audit of this node is the outbox,
//! and remembers what came from others. The relay notices within a second what was recorded here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;

use super::disk::on_disk;
use super::error::{ClusterError, nats};
use super::known_acts::Acts;
use super::message::{self, Poison};
use super::shared::{Node, Shared, publisher};
use crate::management::JournalError;
use crate::metrics::{NodeReceived, NodeSent};

/// How often the audit is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Acts that are asked for at a time, and published before others get a turn.
const AT_ONCE: usize = 64;

/// How soon an act comes again that could not be recorded.
const AGAIN: Duration = Duration::from_secs(30);

/// Takes and publishes acts until the session ends.
///
/// # Errors
/// When NATS or the disk fails.
pub async fn run(shared: Arc<Shared>, consumer: Consumer<Config>) -> Result<Infallible, ClusterError> {
    let messages = consumer.stream().max_messages_per_batch(AT_ONCE).messages().await;
    let mut messages = messages.map_err(nats("the stream of acts cannot be read"))?;
    loop {
        publish(&shared).await?;
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or(ClusterError::Disconnected)?;
                take(&shared.node, message.map_err(nats("the stream of acts cannot be read"))?).await?;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Publishes what was recorded here.
async fn publish(shared: &Shared) -> Result<(), ClusterError> {
    let node = &shared.node;
    let published = node.state().acts_published;
    let (acts, last) = on_disk(of(node, move |acts| acts.unpublished(published))).await.map_err(journal)?;
    for act in &acts {
        let Some(origin) = &act.origin else { continue };
        let json = serde_json::to_vec(act).map_err(|error| ClusterError::Journal(error.to_string()))?;
        let mut headers = node.headers();
        headers.insert(NATS_MESSAGE_ID, format!("{}/{}", origin.node, origin.number));
        let message = PublishMessage::build().payload(json.into()).headers(headers);
        let sent = shared.context.send_publish(node.names.act(&act.subject), message).await;
        let answer = sent.map_err(nats("an act could not be published"))?;
        answer.await.map_err(nats("NATS did not take an act"))?;
        node.sent(NodeSent::Act, 1);
    }
    if last != published {
        node.state().acts_published = last;
    }
    Ok(())
}

/// Deals with a message.
async fn take(node: &Arc<Node>, message: Message) -> Result<(), ClusterError> {
    let number = message.info().map(|info| info.stream_sequence).map_err(nats("a message has no number"))?;
    let adopted = match message::read_act(&message.payload) {
        Ok(act) => on_disk(of(node, move |acts| acts.adopt(&act))).await,
        Err(poison) => {
            poisoned(node, &message, &poison);
            return acked(message.ack_with(AckKind::Term).await);
        }
    };
    match adopted {
        Ok(true) => node.received(NodeReceived::Act, 1),
        Ok(false) => {}
        Err(error) => {
            node.received(NodeReceived::Postponed, 1);
            tracing::error!("an act of another node could not be recorded, and is tried again: {error}");
            return acked(message.ack_with(AckKind::Nak(Some(AGAIN))).await);
        }
    }
    acked(message.ack().await)?;
    let mut state = node.state();
    state.acts.seen = state.acts.seen.max(number);
    Ok(())
}

fn poisoned(node: &Node, message: &Message, poison: &Poison) {
    node.poisoned(&message.subject, publisher(message.headers.as_ref()), poison);
}

fn acked(result: Result<(), async_nats::Error>) -> Result<(), ClusterError> {
    result.map_err(nats("an act cannot be acknowledged"))
}

fn journal(error: JournalError) -> ClusterError {
    ClusterError::Journal(error.to_string())
}

/// Work with the audit.
fn of<T, W: FnOnce(&mut Acts) -> T>(node: &Arc<Node>, work: W) -> impl FnOnce() -> T + use<T, W> {
    let node = Arc::clone(node);
    move || work(&mut node.acts())
}
