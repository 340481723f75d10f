//! Looks at the streams and at what the nodes have taken of them, keeps the state on disk, and brings the figures up to
//! date.
//!
//! It carries no events.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::Stream;
use futures_util::TryStreamExt as _;

use super::disk::on_disk;
use super::error::{ClusterError, nats};
use super::shared::{Node, Shared};
use super::state;
use super::streams::found;
use super::watermark::MOST_AGAIN;
use crate::replication::file::FileError;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// How many looks pass before it asks NATS what the nodes have taken.
const ASK: u32 = 2;

/// Nodes that are remembered while this one runs.
const MAX_KNOWN: usize = 256;

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

/// Up to which message of a stream every other node has taken everything; `None` if one that was seen before has not
/// joined yet, or there is none. Of a stream that was made again, such a node has taken nothing.
fn least(others: &BTreeMap<&str, u64>, known: &mut BTreeSet<String>) -> Option<u64> {
    let room = MAX_KNOWN.saturating_sub(known.len());
    let new: Vec<String> = others.keys().filter(|name| !known.contains(**name)).map(ToString::to_string).collect();
    known.extend(new.into_iter().take(room));
    let are_all_there = known.iter().all(|name| others.contains_key(name.as_str()));
    others.values().min().copied().filter(|_| are_all_there)
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
    let floors = consumers.iter().map(|info| (info.name.as_str(), floor(info, found.last)));
    let others = floors.filter(|(name, _)| *name != node.options.node).collect();
    let least = least(&others, &mut node.others.lock().unwrap_or_else(PoisonError::into_inner));
    let settled = least.and_then(|least| shared.settled.lock().unwrap_or_else(PoisonError::into_inner).up_to(least));
    let mut state = node.state();
    // What it had not taken at the last look is gone. It may have been taken since; a comparison tells.
    if state.events.is_outrun(found) && !node.is_to_compare.swap(true, Ordering::Relaxed) {
        tracing::warn!("the stream of events drops messages before this node has taken them; it compares");
    }
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

/// Keeps the state on disk: one after the other, so that what is kept last is the latest.
///
/// # Errors
/// When the disk refuses.
pub async fn save(node: &Arc<Node>) -> Result<(), ClusterError> {
    let node = Arc::clone(node);
    let save = move || -> Result<(), FileError> {
        let _one = node.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let state = node.state().clone();
        if state::load(&node.file, &state.store).ok().flatten().as_ref() == Some(&state) {
            return Ok(());
        }
        state::save(&node.file, &state)
    };
    Ok(on_disk(save).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_by_all_while_a_node_that_was_there_has_not_joined_again() {
        let mut known = BTreeSet::new();
        assert_eq!(least(&BTreeMap::new(), &mut known), None);
        assert_eq!(least(&[("b", 7)].into(), &mut known), Some(7));
        assert_eq!(least(&[("b", 9), ("c", 4)].into(), &mut known), Some(4));
        assert_eq!(least(&[("b", 9)].into(), &mut known), None);
        assert_eq!(least(&[("b", 9), ("c", 9)].into(), &mut known), Some(9));
    }
}
