//! The way out: what arrived in the store goes to the stream, and ephemeral events to whoever listens.
//!
//! The cursor moves only past what NATS has answered, so a session that ends publishes again from there. At most
//! [`MAX_UNANSWERED`] events are unanswered.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::error::{ClusterError, nats};
use super::message;
use super::options::{MAX_UNANSWERED, MAX_UNANSWERED_BYTES};
use super::reading::{self, Outgoing};
use super::shared::Shared;
use crate::metrics::NodeSent;
use crate::nostr::EventId;
use crate::store::Seq;

/// How often the store is looked at without news: another process may have stored something.
const LOOK: Duration = Duration::from_millis(250);

/// For how many events there is room before the store is read on.
const LEAST_ROOM: usize = MAX_UNANSWERED / 4;

/// What the headers of a message take at most: the protocol's line, the id and the node.
const HEADERS_BYTES: usize = 512;

type Answer = (Seq, usize, Result<PublishAck, PublishError>);

/// See the module.
pub struct Outbox {
    shared: Arc<Shared>,
    /// Everything up to here was published or passed over.
    read: Seq,
    unanswered: FuturesOrdered<BoxFuture<'static, Answer>>,
    unanswered_bytes: usize,
    max_payload: usize,
}

/// Publishes until the session ends.
///
/// # Errors
/// When NATS does not answer, or the store cannot be read.
pub async fn run(shared: Arc<Shared>) -> Result<Infallible, ClusterError> {
    let read = Seq(shared.node.state().published);
    let max_payload = shared.max_payload();
    let (unanswered, unanswered_bytes) = (FuturesOrdered::new(), 0);
    let mut outbox = Outbox { shared, read, unanswered, unanswered_bytes, max_payload };
    let node = Arc::clone(&outbox.shared.node);
    loop {
        outbox.publish_ephemeral().await?;
        outbox.publish().await?;
        tokio::select! {
            Some(answer) = outbox.unanswered.next(), if !outbox.unanswered.is_empty() => {
                outbox.answered(answer)?;
                outbox.answered_meanwhile()?;
            }
            () = node.serving.outward.news() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Outbox {
    /// How many events may be published now. Little room counts as none, since each look at the store costs as much as
    /// some events.
    fn room(&self) -> usize {
        let room = MAX_UNANSWERED - self.unanswered.len();
        if self.unanswered_bytes >= MAX_UNANSWERED_BYTES || room < LEAST_ROOM { 0 } else { room }
    }

    /// Publishes what has arrived, as far as there is room.
    async fn publish(&mut self) -> Result<(), ClusterError> {
        while self.room() > 0 {
            let found = reading::after(&self.shared.node, self.read, self.room()).await?;
            let has_read = found.read > self.read;
            for event in found.events {
                self.send(event).await?;
            }
            self.read = found.read;
            if self.unanswered.is_empty() {
                self.shared.node.state().published = self.read.0;
            }
            if !has_read {
                break;
            }
        }
        Ok(())
    }

    async fn send(&mut self, Outgoing { seq, id, kind, json }: Outgoing) -> Result<(), ClusterError> {
        let node = &self.shared.node;
        let bytes = json.len();
        if bytes + HEADERS_BYTES > self.max_payload {
            self.too_large(&id, bytes);
            return Ok(());
        }
        let mut headers = node.headers();
        headers.insert(NATS_MESSAGE_ID, id.to_string());
        let message = PublishMessage::build().payload(json.into()).headers(headers);
        let sent = self.shared.context.send_publish(node.names.event(kind), message).await;
        let answer = sent.map_err(nats("an event could not be published"))?.into_future();
        self.unanswered_bytes += bytes;
        self.unanswered.push_back(Box::pin(async move { (seq, bytes, answer.await) }));
        Ok(())
    }

    fn too_large(&self, id: &EventId, bytes: usize) {
        self.shared.node.sent(NodeSent::TooLarge, 1);
        let max_payload = self.max_payload;
        tracing::error!(%id, bytes, max_payload, "an event is too large for NATS and stays on this node");
    }

    /// Takes the answers that are there already.
    fn answered_meanwhile(&mut self) -> Result<(), ClusterError> {
        while let Some(Some(answer)) = self.unanswered.next().now_or_never() {
            self.answered(answer)?;
        }
        Ok(())
    }

    fn answered(&mut self, (seq, bytes, answer): Answer) -> Result<(), ClusterError> {
        let ack = answer.map_err(nats("NATS did not take an event"))?;
        self.unanswered_bytes -= bytes;
        let node = &self.shared.node;
        node.sent(NodeSent::Published, 1);
        let published = if self.unanswered.is_empty() { self.read } else { seq };
        let mut state = node.state();
        state.published = published.0;
        state.events.seen = state.events.seen.max(ack.sequence);
        drop(state);
        let mut settled = self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.note(ack.sequence, published);
        Ok(())
    }

    /// Exclusive, since answers that wait can be polled by one thread alone.
    async fn publish_ephemeral(&mut self) -> Result<(), ClusterError> {
        let node = &self.shared.node;
        for event in node.serving.outward.take() {
            let json = message::write(event.view());
            if json.len() + HEADERS_BYTES > self.max_payload {
                self.too_large(&event.view().id(), json.len());
                continue;
            }
            let subject = node.names.ephemeral(event.view().kind());
            let sent = self.shared.client.publish_with_headers(subject, node.headers(), json.into()).await;
            sent.map_err(nats("an ephemeral event could not be published"))?;
            node.sent(NodeSent::Ephemeral, 1);
        }
        node.sent(NodeSent::Dropped, node.serving.outward.take_dropped());
        Ok(())
    }
}
