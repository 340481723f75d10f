//! One connection to NATS: makes it, and runs what travels over it.
//!
//! Whatever fails ends the session, and the next one goes on from what is on disk.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::disk::on_disk;
use super::error::{ClusterError, nats};
use super::options::{MAX_UNANSWERED, Options};
use super::shared::{Node, Shared};
use super::{acts, answering, compare, inbox, login, outbox, streams, watch as watching};

/// How long NATS may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of a subscription that wait in the client.
const WAITING: usize = 1024;

/// Runs a session until it fails.
///
/// # Errors
/// Why it ended.
pub async fn run(node: &Arc<Node>) -> Result<Infallible, ClusterError> {
    let (client, mut disconnected) = connect(&node.options).await?;
    let mut context = jetstream::context::ContextBuilder::new()
        .timeout(TIMEOUT)
        .ack_timeout(TIMEOUT)
        .max_ack_inflight(2 * MAX_UNANSWERED)
        .build(client.clone());
    context.set_timeout(TIMEOUT);
    let (events, consumer) = streams::events(node, &context).await?;
    let (acts_stream, acts_consumer) = streams::acts(node, &context).await?;
    watching::save(node).await?;
    let shared = Arc::new(Shared { node: Arc::clone(node), client, context, settled: Mutex::default() });
    node.serving.metrics.cluster_connected.set(1);
    tracing::info!(node = node.options.node, server = shared.client.server_info().server_name, "joined the cluster");
    let mut tasks: JoinSet<Result<Infallible, ClusterError>> = JoinSet::new();
    tasks.spawn(outbox::run(Arc::clone(&shared)));
    tasks.spawn(inbox::run(Arc::clone(&shared), consumer));
    tasks.spawn(inbox::run_ephemeral(Arc::clone(&shared)));
    tasks.spawn(acts::run(Arc::clone(&shared), acts_consumer));
    tasks.spawn(answering::run(Arc::clone(&shared)));
    tasks.spawn(compare::run(Arc::clone(&shared), events.clone()));
    tasks.spawn(watching::run(Arc::clone(&shared), events, acts_stream));
    tokio::select! {
        Some(ended) = tasks.join_next() => match ended {
            Ok(Err(error)) => Err(error),
            Ok(Ok(never)) => match never {},
            // A panic is a fault of ours: the thread ends, and the relay with it.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        _ = disconnected.wait_for(|is_gone| *is_gone) => Err(ClusterError::Disconnected),
    }
}

/// Connects to any of the servers.
pub async fn connect(options: &Options) -> Result<(Client, watch::Receiver<bool>), ClusterError> {
    let (gone, disconnected) = watch::channel(false);
    let gone = Arc::new(gone);
    let connect = ConnectOptions::new()
        .name(format!("weir {}", options.node))
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT))
        .subscription_capacity(WAITING)
        // Its own messages come back from the streams alone.
        .no_echo()
        // A new session begins instead: it looks at the streams again.
        .max_reconnects(1)
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                gone.send_replace(true);
            }
            std::future::ready(())
        });
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    let mut connect = login::with_login(connect, &options.servers)?;
    if is_set(&options.credentials_file) {
        let file = options.credentials_file.clone();
        connect = on_disk(move || login::with_file(connect, &file)).await?;
    }
    if is_set(&options.ca_file) {
        connect = connect.add_root_certificates(options.ca_file.clone()).require_tls(true);
    }
    if is_set(&options.cert_file) {
        connect = connect.add_client_certificate(options.cert_file.clone(), options.cert_key_file.clone());
    }
    let servers = login::addresses(&options.servers)?;
    let client = connect.connect(servers).await.map_err(nats("cannot connect"))?;
    Ok((client, disconnected))
}
