//! Looks at the streams and at what the nodes have taken of them, keeps the state on disk, and brings the figures up to
//! date.
//!
//! It carries no events.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;

use super::error::{ClusterError, nats};
use super::settled::MOST_AGAIN;
use super::shared::{Node, Shared};
use super::state;
use super::streams::found;
use crate::replication::file::FileError;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// How many looks pass before it asks NATS what the nodes have taken.
const ASK: u32 = 2;

/// Watches until the session ends.
///
/// # Errors
/// When NATS or the disk fails, a stream was lost, or this node's consumer is gone.
pub async fn run(shared: Arc<Shared>, events: Stream, acts: Stream) -> Result<Infallible, ClusterError> {
    let mut looks = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        looks += 1;
        if looks % ASK == 0 {
            look_at_events(&shared, &events).await?;
            look_at_acts(&shared, &acts).await?;
        }
        measure(&shared.node)?;
        save(&shared.node).await?;
    }
}

/// Up to which message of a stream a consumer has dealt with everything, if the stream ended at `last` before the
/// consumer was asked.
fn floor(info: &consumer::Info, last: u64) -> u64 {
    let is_level = info.num_pending == 0 && info.num_ack_pending == 0;
    if is_level { info.ack_floor.stream_sequence.max(last) } else { info.ack_floor.stream_sequence }
}

async fn consumers(stream: &Stream) -> Result<Vec<consumer::Info>, ClusterError> {
    stream.consumers().try_collect().await.map_err(nats("the consumers of a stream cannot be listed"))
}

async fn look_at_events(shared: &Shared, stream: &Stream) -> Result<(), ClusterError> {
    let node = &shared.node;
    let info = stream.get_info().await.map_err(nats("the stream of events is gone"))?;
    let found = found(&info);
    {
        let state = node.state();
        if found.created != state.events.created || found.last < state.events.taken {
            return Err(ClusterError::Nats { what: "the stream of events", why: "it was lost".into() });
        }
    }
    let consumers = consumers(stream).await?;
    let own = consumers.iter().find(|info| info.name == node.options.node);
    let own = own.ok_or_else(|| ClusterError::Nats { what: "the consumer of this node", why: "it is gone".into() })?;
    node.serving.metrics.cluster_waiting_messages.set((own.num_pending + own.num_ack_pending as u64) as i64);
    let taken = floor(own, found.last);
    let least = consumers.iter().map(|info| floor(info, found.last)).min().unwrap_or_default();
    let settled = shared.settled.lock().unwrap_or_else(PoisonError::into_inner).up_to(least);
    let mut state = node.state();
    state.events.seen = state.events.seen.max(found.last);
    state.events.taken = state.events.taken.max(taken);
    state.settled = settled.map_or(state.settled, |settled| state.settled.max(settled.0));
    state.settled = state.settled.max(state.published.saturating_sub(MOST_AGAIN));
    Ok(())
}

async fn look_at_acts(shared: &Shared, stream: &Stream) -> Result<(), ClusterError> {
    let node = &shared.node;
    let info = stream.get_info().await.map_err(nats("the stream of acts is gone"))?;
    let found = found(&info);
    if found.created != node.state().acts.created {
        return Err(ClusterError::Nats { what: "the stream of acts", why: "it was lost".into() });
    }
    let own = stream.consumer_info(&node.options.node).await.map_err(nats("the consumer of acts is gone"))?;
    let mut state = node.state();
    state.acts.seen = state.acts.seen.max(found.last);
    state.acts.taken = state.acts.taken.max(floor(&own, found.last));
    Ok(())
}

/// Brings the figures up to date.
pub fn measure(node: &Node) -> Result<(), ClusterError> {
    let last = node.serving.store.read()?.last_seq()?;
    let behind = last.0.saturating_sub(node.state().published);
    node.serving.metrics.cluster_behind_events.set(behind as i64);
    Ok(())
}

/// Keeps the state on disk.
///
/// # Errors
/// When the disk refuses.
pub async fn save(node: &Arc<Node>) -> Result<(), ClusterError> {
    let (file, state) = (node.file.clone(), node.state().clone());
    let saved = tokio::task::spawn_blocking(move || -> Result<(), FileError> {
        if state::load(&file, &state.store).ok().flatten().as_ref() == Some(&state) {
            return Ok(());
        }
        state::save(&file, &state)
    });
    Ok(saved.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
}
