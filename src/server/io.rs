//! The io threads: accepting sockets, running their tasks, and shutting down in order.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::context::{ACCEPT_PAUSE, Choices, IoContext, IoShared};
use super::dashboard::context::Setting;
use super::management::link::Link;
use super::stage::{RESTARTING, Stage};
use super::{http, monitor};
use crate::allocator;
use crate::pipeline::{ClientHandle, Intake, OnFailure, Serving};
use crate::ws::{CloseCode, Wakeups};

/// Sockets accepted before others get their turn: about half a millisecond with what each costs next.
const ACCEPTED_AT_ONCE: usize = 16;

/// Sockets that become ready in one tick; the others wait in the kernel, in order. A `LocalSet` polls twice as many
/// tasks in a tick, so those that the thread wakes itself, to answer or for their turn, do not wait behind all sockets.
const EVENTS_AT_ONCE: usize = 32;

/// How often draining checks again the connections that were owed answers.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// How often a hand-over checks again whether all events are answered, and whether all threads are paused.
const PAUSE_LOOK: Duration = Duration::from_millis(1);

/// How long a stopping relay waits for the requests of sockets that speak plain HTTP.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// The running io threads.
pub struct Server {
    /// Where clients connect.
    pub address: SocketAddr,
    front: Arc<IoShared>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Binding the address failed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("could not start an io thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Listens on `address`, with a backlog large enough for connection storms.
///
/// # Errors
/// When the system refuses, for example because the address is in use.
pub fn listen(address: SocketAddr) -> Result<StdListener, ServerError> {
    let bind = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(StdListener::from(socket))
    };
    bind().map_err(|source| ServerError::Listen { address, source })
}

/// Bounds the kernel's buffers of the sockets that `listener` accepts: they inherit its settings.
fn bound_buffers(listener: &StdListener, bytes: usize) -> std::io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let socket = socket2::SockRef::from(listener);
    socket.set_send_buffer_size(bytes)?;
    socket.set_recv_buffer_size(bytes)
}

impl Server {
    /// Starts accepting clients on `listener`, which may come from systemd, and operators on `monitor`.
    ///
    /// # Errors
    /// When the listener or a thread cannot be used.
    pub fn start(
        (options, changes, dashboard): Choices,
        pipeline: Serving,
        intake: &Intake,
        (listener, monitor): (StdListener, Option<StdListener>),
        (management, on_failure): (Link, &OnFailure),
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true)?;
        bound_buffers(&listener, options.socket_buffer_bytes)?;
        let address = listener.local_addr()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.io_threads == 0 { cores.div_ceil(2) } else { options.io_threads };
        if let Some(dashboard) = &dashboard {
            dashboard.serve_at(monitor.as_ref().map(StdListener::local_addr).transpose()?, address);
        }
        let front = Arc::new(IoShared::new((options, changes, dashboard), pipeline, management));
        let (stage, told) = watch::channel(Stage::Serving);
        let mut threads = Vec::new();
        let mut monitor = monitor;
        for index in 0..count {
            let (front, intake, told) = (Arc::clone(&front), intake.clone(), told.clone());
            let listener = listener.try_clone()?;
            let (monitor, on_failure) = (monitor.take(), Arc::clone(on_failure));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .max_io_events_per_tick(EVENTS_AT_ONCE)
                .build()?;
            let run = move || {
                let work = std::panic::AssertUnwindSafe(|| {
                    LocalSet::new().block_on(&runtime, io_thread(front, intake, listener, monitor, told));
                });
                if std::panic::catch_unwind(work).is_err() {
                    on_failure("an io thread panicked");
                }
            };
            threads.push(std::thread::Builder::new().name(format!("io-{index}")).spawn(run)?);
        }
        Ok(Self { address, front, stage, threads })
    }

    /// Rounds of the accept loops so far, for the watchdog.
    #[must_use]
    pub fn accept_rounds(&self) -> u64 {
        self.front.accept_rounds.load(Ordering::Relaxed)
    }

    /// Tells what the dashboard shows as the configuration in force.
    pub fn show_configuration(&self, settings: Vec<Setting>) {
        if let Some(dashboard) = &self.front.dashboard {
            dashboard.configuration.store(Arc::new(settings));
        }
    }

    /// Lets no more events in: from now on an EVENT waits, with what its connection sent after it. Everything else is
    /// served.
    pub fn hold_events(&self) {
        self.front.pipeline.gate.close();
    }

    /// Waits until every event that was let in is answered. No event is stored after that if they are held.
    pub async fn answer_all(&self) {
        while self.front.pipeline.gate.events() > 0 {
            tokio::time::sleep(PAUSE_LOOK).await;
        }
    }

    /// Stops accepting and reading. Connections stay open.
    pub async fn pause(&self) {
        self.tell(Stage::Paused);
        while self.front.paused.load(Ordering::Acquire) < self.threads.len() {
            tokio::time::sleep(PAUSE_LOOK).await;
        }
    }

    /// Serves on after [`Server::hold_events`] and [`Server::pause`].
    pub fn resume(&self) {
        self.front.pipeline.gate.open();
        self.tell(Stage::Serving);
    }

    /// Stops accepting, answers what was read, closes every client with 1012, waits up to `grace` for them to leave,
    /// and joins the threads.
    pub fn finish(self, grace: Duration) {
        // What is held there was read.
        self.front.pipeline.gate.open();
        self.end(Stage::Stopping { grace });
    }

    /// The same for a relay that another process has replaced, but events stay held. The closes are spread over most of
    /// `grace`, and a client that asks for something is closed at once, because it gets an answer there.
    pub fn leave(self, grace: Duration) {
        self.end(Stage::Replaced { grace });
    }

    fn end(mut self, stage: Stage) {
        self.tell(stage);
        for thread in self.threads.drain(..) {
            // A panic has already been reported.
            let _ = thread.join();
        }
    }

    fn tell(&self, stage: Stage) {
        // This fails only if every thread has already ended.
        let _ = self.stage.send(stage);
    }
}

async fn io_thread(
    front: Arc<IoShared>,
    intake: Intake,
    listener: StdListener,
    monitor: Option<StdListener>,
    mut told: watch::Receiver<Stage>,
) {
    let fanout_interval = Duration::from_millis(front.pipeline.reading.options.fanout_interval_ms);
    let context = Rc::new(IoContext::new(front, intake));
    let wakeups = Arc::clone(&context.wakeups);
    tokio::task::spawn_local(async move { wakeups.run().await });
    if !fanout_interval.is_zero() {
        tokio::task::spawn_local(pace(Arc::clone(&context.wakeups), fanout_interval));
    }
    let submitting = Rc::clone(&context);
    tokio::task::spawn_local(async move {
        loop {
            submitting.submitted.notified().await;
            submitting.hand_over();
        }
    });
    let closing = Rc::clone(&context);
    let mut welcome = context.front.pipeline.welcome.subscribe();
    tokio::task::spawn_local(async move {
        while welcome.changed().await.is_ok() {
            closing.close_unwelcome();
        }
    });
    if let Some(listener) = monitor {
        tokio::task::spawn_local(monitor::serve(Rc::clone(&context), listener, told.clone()));
    }
    let (accepting, stage) = (Rc::clone(&context), told.clone());
    tokio::task::spawn_local(async move { accept(&accepting, listener, stage).await });
    let mut serving = pin!(serve(&context, &mut told));
    // A `LocalSet` polls its root task before each round of the others, and the runtime checks the sockets in between.
    poll_fn(|cx| {
        context.begin_tick(cx.waker());
        serving.as_mut().poll(cx)
    })
    .await;
    context.hand_over();
}

/// Sends gathered live events once per interval. Events that follow a quiet interval are sent at once.
async fn pace(wakeups: Arc<Wakeups>, interval: Duration) {
    loop {
        wakeups.deferred().await;
        let next = tokio::time::Instant::now() + interval;
        wakeups.wake_deferred();
        tokio::time::sleep_until(next).await;
    }
}

/// Follows the stages until the relay stops, and has stopped.
async fn serve(context: &Rc<IoContext>, told: &mut watch::Receiver<Stage>) {
    let mut is_paused = false;
    loop {
        let stage = *told.borrow_and_update();
        match stage {
            Stage::Serving if is_paused => {
                is_paused = false;
                context.front.paused.fetch_sub(1, Ordering::AcqRel);
                context.turns.resume();
            }
            Stage::Paused if !is_paused => {
                is_paused = true;
                context.turns.pause();
                context.front.paused.fetch_add(1, Ordering::AcqRel);
            }
            Stage::Serving | Stage::Paused => {}
            Stage::Stopping { .. } | Stage::Replaced { .. } => return drain(context, stage).await,
        }
        // An error means that the server was dropped: stop as well.
        if told.changed().await.is_err() {
            return drain(context, Stage::Stopping { grace: Duration::ZERO }).await;
        }
    }
}

async fn accept(context: &Rc<IoContext>, listener: StdListener, mut told: watch::Receiver<Stage>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the listening socket cannot be used");
            return;
        }
    };
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    let mut at_once = 0;
    loop {
        let stage = *told.borrow_and_update();
        if stage.grace().is_some() {
            return;
        }
        if at_once == ACCEPTED_AT_ONCE {
            at_once = 0;
            // Until the thread has looked at its sockets.
            tokio::task::yield_now().await;
        }
        tokio::select! {
            // An error means that the server was dropped.
            changed = told.changed() => if changed.is_err() {
                return;
            },
            accepted = listener.accept(), if stage.accepts_clients() => match accepted {
                Ok((stream, address)) => {
                    let (waiting, visitor) = (context.arrive(address.ip()), Rc::clone(&context.visitors));
                    let serving = http::serve(Rc::clone(context), stream, address, waiting);
                    tokio::task::spawn_local(async move {
                        serving.await;
                        drop(visitor);
                    });
                    at_once += 1;
                }
                Err(error) => {
                    context.make_room(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = beat.tick() => {
                context.end_idle_sessions();
                allocator::collect_if_due();
            }
        }
        context.front.accept_rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Closes each connection once all its EVENTs are answered and it is its turn, and waits for all to leave, as long as
/// the stage allows.
async fn drain(context: &Rc<IoContext>, stage: Stage) {
    context.draining.set(true);
    context.turns.resume();
    context.leaving.notify_waiters();
    context.front.pipeline.gate.wake();
    let (began, grace) = (Instant::now(), stage.grace().unwrap_or_default());
    // In the order of the map, which is random. Those that come later are closed as they come.
    let mut open: Vec<Arc<ClientHandle>> = context.clients.borrow().values().cloned().collect();
    let count = open.len();
    let has_visitors = || Rc::strong_count(&context.visitors) > 1;
    while !context.clients.borrow().is_empty() || (has_visitors() && began.elapsed() < grace.min(REQUEST_GRACE)) {
        let late = began.elapsed() >= grace;
        let mut due = stage.due(count, began.elapsed()).saturating_sub(count - open.len());
        open.retain(|client| {
            let is_closed = late || (due > 0 && client.is_answered());
            if is_closed {
                due = due.saturating_sub(1);
                client.outbox.close(CloseCode::Restart, RESTARTING);
            }
            !is_closed
        });
        if late {
            tracing::warn!(clients = context.clients.borrow().len(), "clients did not leave in time");
            return;
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}
