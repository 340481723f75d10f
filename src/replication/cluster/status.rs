//! How the nodes of a cluster are, asked through NATS: for `weir cluster status`.
//!
//! It changes nothing.

use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::Stream;
use async_nats::{Client, Request};
use futures_util::TryStreamExt as _;
use tokio::runtime::Builder;

use super::ask::{Answer, Question};
use super::error::{ClusterError, nats};
use super::names::Names;
use super::options::Options;
use super::session::connect;

pub use super::ask::Status;

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What NATS and the nodes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overview {
    /// The name of the stream of events.
    pub stream: String,
    /// Messages that it holds, and their bytes.
    pub messages: u64,
    /// See `messages`.
    pub bytes: u64,
    /// The number of its last message.
    pub last: u64,
    /// The nodes, by name.
    pub nodes: Vec<NodeStatus>,
}

/// What is known of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Messages that it has not acknowledged yet.
    pub waiting: u64,
    /// What it says of itself; `None` if it does not answer.
    pub status: Option<Status>,
}

/// Asks NATS and every node.
///
/// # Errors
/// When NATS cannot be reached, or there is no stream.
pub fn status(options: &Options) -> Result<Overview, ClusterError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(nats("a thread could not be started"))?;
    runtime.block_on(ask_all(options))
}

async fn ask_all(options: &Options) -> Result<Overview, ClusterError> {
    let (client, _) = connect(options).await?;
    let names = Names::new(&options.name);
    let context = async_nats::jetstream::new(client.clone());
    let stream: Stream = context.get_stream(&names.events).await.map_err(nats("there is no stream of events"))?;
    let listed: Result<Vec<consumer::Info>, _> = stream.consumers().try_collect().await;
    let mut nodes = Vec::new();
    for info in listed.map_err(nats("the nodes cannot be listed"))? {
        let status = ask(&client, &names, &info.name).await;
        let waiting = info.num_pending + info.num_ack_pending as u64;
        nodes.push(NodeStatus { name: info.name, waiting, status });
    }
    nodes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let state = &stream.cached_info().state;
    let (messages, bytes, last) = (state.messages, state.bytes, state.last_sequence);
    Ok(Overview { stream: names.events, messages, bytes, last, nodes })
}

/// What a node says of itself; `None` if it does not answer.
async fn ask(client: &Client, names: &Names, node: &str) -> Option<Status> {
    let question = serde_json::to_vec(&Question::Status).ok()?;
    let request = Request::new().payload(question.into()).timeout(Some(ANSWER_WITHIN));
    let answer = client.send_request(names.ask(node), request).await.ok()?;
    match serde_json::from_slice(&answer.payload).ok()? {
        Answer::Status(status) => Some(status),
        _ => None,
    }
}
