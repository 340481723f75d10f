//! The streams of a cluster and this node's consumers of them: found, or created.
//!
//! A node that finds another stream than it left goes back to what others may lack.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType, Stream};

use super::error::{ClusterError, nats};
use super::options::MAX_ACK_PENDING;
use super::shared::Node;
use super::state::{StreamChange, StreamInfo};
use crate::nostr::Kind;

/// How long a message may stay unacknowledged before NATS delivers it again.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Within what time NATS drops a second message with the same id. Nothing depends on it.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Acts about one subject that NATS keeps: a node which is late may add an earlier one after the latest.
const ACTS_KEPT: i64 = 16;

fn events_config(node: &Node) -> stream::Config {
    let options = &node.options;
    stream::Config {
        name: node.names.events.clone(),
        subjects: vec![node.names.all_events()],
        max_bytes: i64::try_from(options.max_bytes).unwrap_or(i64::MAX),
        max_age: Duration::from_secs(options.max_age_s),
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        num_replicas: options.replicas,
        duplicate_window: DUPLICATES.min(Duration::from_secs(options.max_age_s)),
        ..stream::Config::default()
    }
}

fn acts_config(node: &Node) -> stream::Config {
    stream::Config {
        name: node.names.acts.clone(),
        subjects: vec![node.names.all_acts()],
        max_messages_per_subject: ACTS_KEPT,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        num_replicas: node.options.replicas,
        duplicate_window: DUPLICATES,
        ..stream::Config::default()
    }
}

/// Finds a stream, or creates it. One that is there stays as its operator made it.
async fn open_stream(context: &Context, config: stream::Config) -> Result<Stream, ClusterError> {
    context.get_or_create_stream(config).await.map_err(nats("a stream cannot be found or created"))
}

/// What a stream says of itself.
pub fn found(info: &stream::Info) -> StreamInfo {
    let created = i64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(1).max(1);
    StreamInfo { created, first: info.state.first_sequence, last: info.state.last_sequence }
}

/// Goes on with the stream of events. What a lost one held that others have not taken is published again.
///
/// # Errors
/// When NATS fails or refuses.
pub async fn events(node: &Arc<Node>, context: &Context) -> Result<(Stream, Consumer<Config>), ClusterError> {
    let stream = open_stream(context, events_config(node)).await?;
    let found = found(stream.cached_info());
    let (change, taken) = {
        let mut state = node.state();
        let change = state.events.compare(found);
        if change == StreamChange::Lost {
            state.published = state.published.min(state.settled);
        }
        (change, state.events.taken)
    };
    if change != StreamChange::Same {
        node.is_to_compare.store(true, Ordering::Relaxed);
        node.compare_now.notify_one();
    }
    match change {
        StreamChange::Same | StreamChange::First => {}
        StreamChange::Lost => {
            tracing::warn!("the stream of events was lost; what other nodes may lack is published again")
        }
        StreamChange::Outrun => {
            tracing::warn!("the stream of events no longer holds all that this node has missed; it compares")
        }
    }
    let kinds = &node.options.kinds;
    let subjects = match kinds.is_empty() {
        true => vec![node.names.all_events()],
        false => kinds.iter().map(|kind| node.names.event(Kind(*kind))).collect(),
    };
    let consumer = open_consumer(node, &stream, (change, taken), subjects).await?;
    Ok((stream, consumer))
}

/// Goes on with the stream of acts. A lost one gets all acts again.
///
/// # Errors
/// As [`events`].
pub async fn acts(node: &Arc<Node>, context: &Context) -> Result<(Stream, Consumer<Config>), ClusterError> {
    let stream = open_stream(context, acts_config(node)).await?;
    let found = found(stream.cached_info());
    let (change, taken) = {
        let mut state = node.state();
        let change = state.acts.compare(found);
        if matches!(change, StreamChange::Lost | StreamChange::First) {
            state.acts_published = 0;
        }
        (change, state.acts.taken)
    };
    let consumer = open_consumer(node, &stream, (change, taken), Vec::new()).await?;
    Ok((stream, consumer))
}

/// This node's consumer of a stream, which goes on after message `taken`.
async fn open_consumer(
    node: &Arc<Node>,
    stream: &Stream,
    (change, taken): (StreamChange, u64),
    filter_subjects: Vec<String>,
) -> Result<Consumer<Config>, ClusterError> {
    let name = node.options.node.as_str();
    let config = Config {
        durable_name: Some(name.into()),
        deliver_policy: match taken {
            0 => DeliverPolicy::All,
            taken => DeliverPolicy::ByStartSequence { start_sequence: taken + 1 },
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_ACK_PENDING as i64,
        filter_subjects: filter_subjects.clone(),
        ..Config::default()
    };
    // A consumer that knows another stream, or asks for something else, would not go on where this node does.
    let is_same = |found: &Consumer<Config>| {
        let found = &found.cached_info().config;
        found.filter_subjects == filter_subjects && found.max_ack_pending == MAX_ACK_PENDING as i64
    };
    match stream.get_consumer::<Config>(name).await {
        Ok(consumer) if !matches!(change, StreamChange::Lost) && is_same(&consumer) => return Ok(consumer),
        Ok(_) => {
            stream.delete_consumer(name).await.map_err(nats("the consumer of this node cannot be replaced"))?;
        }
        // There is none, or it cannot be read: creating it tells.
        Err(_) => {}
    }
    stream.create_consumer(config).await.map_err(nats("the consumer of this node cannot be created"))
}
