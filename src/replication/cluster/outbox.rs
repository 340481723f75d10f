//! The way out: what arrived in the store goes to the stream, and ephemeral events to whoever listens.
//!
//! The cursor moves only past what NATS has answered, so a session that ends publishes again from there. At most
//! [`MAX_UNANSWERED`] events are unanswered. What is there at the same time shares messages ([`batch`]).

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

use super::batch::{self, Batch};
use super::error::{ClusterError, nats};
use super::message;
use super::options::{MAX_UNANSWERED, MAX_UNANSWERED_BYTES};
use super::reading;
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

/// What NATS said to a message.
struct Answer {
    /// Everything up to here is in this message or in those before it.
    until: Seq,
    events: usize,
    bytes: usize,
    ack: Result<PublishAck, PublishError>,
}

/// See the module.
pub struct Outbox {
    shared: Arc<Shared>,
    /// Everything up to here was published or passed over.
    read: Seq,
    unanswered: FuturesOrdered<BoxFuture<'static, Answer>>,
    unanswered_events: usize,
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
    let unanswered = FuturesOrdered::new();
    let mut outbox = Outbox { shared, read, unanswered, unanswered_events: 0, unanswered_bytes: 0, max_payload };
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
        let room = MAX_UNANSWERED - self.unanswered_events;
        if self.unanswered_bytes >= MAX_UNANSWERED_BYTES || room < LEAST_ROOM { 0 } else { room }
    }

    /// Publishes what has arrived, as far as there is room.
    async fn publish(&mut self) -> Result<(), ClusterError> {
        while self.room() > 0 {
            let found = reading::after(&self.shared.node, self.read, self.room()).await?;
            let has_read = found.read > self.read;
            let mut events = found.events;
            events.retain(|event| self.fits(&event.id, event.json.len()));
            for batch in batch::of(events, found.read, self.max_payload.saturating_sub(HEADERS_BYTES)) {
                self.send(batch).await?;
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

    async fn send(&mut self, batch: Batch) -> Result<(), ClusterError> {
        let node = &self.shared.node;
        let mut headers = node.headers();
        headers.insert(NATS_MESSAGE_ID, batch.id());
        let Batch { until, kind, events, lines, .. } = batch;
        let bytes = lines.len();
        let message = PublishMessage::build().payload(lines.into()).headers(headers);
        let sent = self.shared.context.send_publish(node.names.event(kind), message).await;
        let answer = sent.map_err(nats("events could not be published"))?.into_future();
        self.unanswered_events += events;
        self.unanswered_bytes += bytes;
        self.unanswered.push_back(Box::pin(async move { Answer { until, events, bytes, ack: answer.await } }));
        Ok(())
    }

    /// Whether NATS takes an event of so many bytes. One that it does not take is counted, and passed over.
    fn fits(&self, id: &EventId, bytes: usize) -> bool {
        let max_payload = self.max_payload;
        let fits = bytes + HEADERS_BYTES <= max_payload;
        if !fits {
            self.shared.node.sent(NodeSent::TooLarge, 1);
            tracing::error!(%id, bytes, max_payload, "an event is too large for NATS and stays on this node");
        }
        fits
    }

    /// Takes the answers that are there already.
    fn answered_meanwhile(&mut self) -> Result<(), ClusterError> {
        while let Some(Some(answer)) = self.unanswered.next().now_or_never() {
            self.answered(answer)?;
        }
        Ok(())
    }

    fn answered(&mut self, Answer { until, events, bytes, ack }: Answer) -> Result<(), ClusterError> {
        let ack = ack.map_err(nats("NATS did not take events"))?;
        self.unanswered_events -= events;
        self.unanswered_bytes -= bytes;
        let node = &self.shared.node;
        node.sent(NodeSent::Published, events as u64);
        let published = if self.unanswered.is_empty() { self.read } else { until };
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
            if !self.fits(&event.view().id(), json.len()) {
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
