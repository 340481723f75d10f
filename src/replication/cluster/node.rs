//! Runs this node: one session after the other, for as long as the relay runs.
//!
//! One thread. It waits for no client, and no thread of the pipeline waits for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};

use super::error::ClusterError;
use super::known_acts::Acts;
use super::names::Names;
use super::options::{MAX_RECENT, Options};
use super::shared::Node;
use super::state::{self, State};
use super::{session, watch as watching};
use crate::management::Journal;
use crate::metrics::{NodeReceived, NodeSent};
use crate::nostr::bech32::parse_pubkey;
use crate::nostr::hex;
use crate::pipeline::{OnFailure, Serving, StartError, threads};
use crate::replication::backoff::{Backoff, GOOD, chance};
use crate::replication::recent::Recent;
use crate::schnorr::{self, Verifier};
use crate::server::LogLimit;
use crate::sync::thread::JoinHandle;

/// How often the log tells that the cluster cannot be reached while that stays so.
const REMINDER: Duration = Duration::from_secs(3600);

/// The longest pause between two attempts: nodes of one operator are near.
const LONGEST: Duration = Duration::from_secs(5);

/// How long the tasks that wait for the disk may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// What a node needs.
pub struct Parts {
    /// What the operator chose; valid, and with servers.
    pub options: Options,
    /// The running relay.
    pub serving: Serving,
    /// The decisions of admins, for this node alone to read.
    pub journal: Journal,
    /// The signature engines.
    pub verify: schnorr::Options,
    /// Is told when the thread has panicked.
    pub on_failure: OnFailure,
}

/// What a node is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NodeCommand {
    Run,
    /// Be in no session, until the next command.
    Pause,
    Stop,
}

/// The running node.
pub struct Cluster {
    command: watch::Sender<NodeCommand>,
    /// Whether it is in no session and begins none.
    is_paused: watch::Receiver<bool>,
    thread: JoinHandle<()>,
}

impl Cluster {
    /// Starts the node. It does not wait for NATS.
    ///
    /// # Errors
    /// When the thread cannot be started or the store cannot be read.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("cluster-disk").build()?;
        let on_failure = Arc::clone(&parts.on_failure);
        let node = Arc::new(node(parts)?);
        node.serving.outward.turn(true);
        NodeSent::ALL.iter().for_each(|result| node.sent(*result, 0));
        NodeReceived::ALL.iter().for_each(|outcome| node.received(*outcome, 0));
        let (command, commands) = watch::channel(NodeCommand::Run);
        let (paused, is_paused) = watch::channel(false);
        let run = move || {
            runtime.block_on(run(&node, commands, &paused));
            node.serving.outward.turn(false);
            runtime.shutdown_timeout(ENDING);
        };
        let thread = threads::spawn("cluster", &on_failure, run)?;
        Ok(Self { command, is_paused, thread })
    }

    /// Leaves the others, for a process that is to be this node. Its consumers, its cursors and the file of its state
    /// are nobody's when this returns.
    pub async fn pause(&self) {
        self.command.send_replace(NodeCommand::Pause);
        // The thread may have ended.
        let _ = self.is_paused.clone().wait_for(|is_paused| *is_paused).await;
    }

    /// Joins the others again after [`Cluster::pause`].
    pub fn resume(&self) {
        self.command.send_replace(NodeCommand::Run);
    }

    /// Stops the node. What it has taken and not acknowledged comes again.
    pub fn finish(self) {
        self.command.send_replace(NodeCommand::Stop);
        // A panic was reported when it happened.
        let _ = self.thread.join();
    }
}

fn node(Parts { options, serving, journal, verify, .. }: Parts) -> Result<Node, StartError> {
    let snapshot = serving.store.read()?;
    let (last, store) = (snapshot.last_seq()?, hex::encode(&snapshot.store_id()?));
    drop(snapshot);
    let file: PathBuf = state::path(serving.store.path(), &options.node);
    let state = state::load(&file, &store).unwrap_or_else(|error| {
        tracing::warn!("{} is ignored: {error}", file.display());
        None
    });
    let known = state.filter(|state| state.published <= last.0);
    let is_new = known.is_none();
    // What was stored before it became a node is for comparisons to find.
    let new = || State { store: store.clone(), published: last.0, settled: last.0, ..State::default() };
    let state = known.unwrap_or_else(new);
    if is_new && let Err(error) = state::save(&file, &state) {
        // What arrives from now on is to be published, even if it is killed before it joins.
        tracing::warn!("{} is not kept yet: {error}", file.display());
    }
    Ok(Node {
        names: Names::new(&options.name),
        authors: options.authors.iter().filter_map(|author| parse_pubkey(author).ok()).collect(),
        acts: Mutex::new(Acts::new(&options.node, journal)),
        verifier: Verifier::new(verify),
        file,
        state: Mutex::new(state),
        recent: Recent::of(MAX_RECENT),
        refused: Recent::of(MAX_RECENT / 2),
        // What arrived while it was not running may be gone from the stream.
        is_to_compare: AtomicBool::new(true),
        compare_now: Notify::new(),
        compared_at: AtomicU64::new(0),
        others: Mutex::default(),
        poison: LogLimit::default(),
        saving: Mutex::default(),
        options,
        serving,
    })
}

/// Runs sessions until the node is to stop.
async fn run(node: &Arc<Node>, mut command: watch::Receiver<NodeCommand>, paused: &watch::Sender<bool>) {
    let (mut backoff, mut told) = (Backoff::default(), None);
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            Err(error) = session::run(node) => Some(error),
            () = interrupted(&mut command) => None,
        };
        // The session is over when this line runs.
        let was_connected = node.serving.metrics.cluster_connected.set(0) == 1;
        let Some(error) = ended else {
            if was_connected {
                tracing::info!(node = node.options.node, "left the cluster");
            }
            if rest(node, &mut command, paused).await { continue } else { return }
        };
        if matches!(error, ClusterError::Stopping) {
            return save(node).await;
        }
        if was_connected || began.elapsed() >= GOOD {
            backoff.reset();
            told = None;
        }
        if told.is_none_or(|told: Instant| told.elapsed() >= REMINDER) {
            told = Some(Instant::now());
            tracing::warn!("not joined with the other nodes; events wait in the store: {error}");
        } else {
            tracing::debug!("not joined with the other nodes: {error}");
        }
        if let Err(error) = watching::measure(node) {
            tracing::error!("{error}");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next(chance()).min(LONGEST)) => {}
            // The next session is interrupted at once.
            () = interrupted(&mut command) => {}
        }
    }
}

/// Resolves when no session is to run.
async fn interrupted(command: &mut watch::Receiver<NodeCommand>) {
    // Without anybody who gives commands it is to stop.
    let _ = command.wait_for(|command| *command != NodeCommand::Run).await;
}

/// Is in no session for as long as that is the command. Whether there is to be another one.
async fn rest(node: &Arc<Node>, command: &mut watch::Receiver<NodeCommand>, paused: &watch::Sender<bool>) -> bool {
    save(node).await;
    // From here on the file may be another process's.
    paused.send_replace(true);
    let next =
        command.wait_for(|command| *command != NodeCommand::Pause).await.map_or(NodeCommand::Stop, |command| *command);
    paused.send_replace(false);
    next == NodeCommand::Run && command.has_changed().is_ok()
}

async fn save(node: &Arc<Node>) {
    if let Err(error) = watching::save(node).await {
        tracing::error!("{error}");
    }
}
