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

use super::context::{ACCEPT_PAUSE, Front, IoContext};
use super::options::Options;
use super::{http, monitor};
use crate::allocator;
use crate::pipeline::{Intake, OnFailure, Serving};
use crate::ws::{CloseCode, Wakeups};

/// How often draining checks again the connections that were owed answers.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// The running io threads.
pub struct Server {
    /// Where clients connect.
    pub address: SocketAddr,
    front: Arc<Front>,
    /// How long clients get to leave, once the relay is stopping.
    stop: watch::Sender<Option<Duration>>,
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
    /// Starts accepting on `listener`, which may come from systemd.
    ///
    /// # Errors
    /// When the listener or a thread cannot be used.
    pub fn start(
        options: Options,
        pipeline: Serving,
        intake: &Intake,
        listener: StdListener,
        monitor: Option<StdListener>,
        on_failure: &OnFailure,
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true)?;
        bound_buffers(&listener, options.socket_buffer_bytes)?;
        let address = listener.local_addr()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.io_threads == 0 { cores.div_ceil(2) } else { options.io_threads };
        let front = Arc::new(Front::new(options, pipeline));
        let (stop, stopped) = watch::channel(None);
        let mut threads = Vec::new();
        let mut monitor = monitor;
        for index in 0..count {
            let (front, intake, stopped) = (Arc::clone(&front), intake.clone(), stopped.clone());
            let listener = listener.try_clone()?;
            let (monitor, on_failure) = (monitor.take(), Arc::clone(on_failure));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
            let run = move || {
                let work = std::panic::AssertUnwindSafe(|| {
                    LocalSet::new().block_on(&runtime, io_thread(front, intake, listener, monitor, stopped));
                });
                if std::panic::catch_unwind(work).is_err() {
                    on_failure("an io thread panicked");
                }
            };
            threads.push(std::thread::Builder::new().name(format!("io-{index}")).spawn(run)?);
        }
        Ok(Self { address, front, stop, threads })
    }

    /// Rounds of the accept loops so far, for the watchdog.
    #[must_use]
    pub fn accept_rounds(&self) -> u64 {
        self.front.accept_rounds.load(Ordering::Relaxed)
    }

    /// Stops accepting, answers what was read, closes every client with 1012, waits up to `grace` for them to leave,
    /// and joins the threads.
    pub fn finish(mut self, grace: Duration) {
        // This fails only if every thread has already ended.
        let _ = self.stop.send(Some(grace));
        for thread in self.threads.drain(..) {
            // A panic has already been reported.
            let _ = thread.join();
        }
    }
}

async fn io_thread(
    front: Arc<Front>,
    intake: Intake,
    listener: StdListener,
    monitor: Option<StdListener>,
    mut stopped: watch::Receiver<Option<Duration>>,
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
    if let Some(listener) = monitor {
        tokio::task::spawn_local(monitor::serve(Rc::clone(&context), listener));
    }
    let accepting = Rc::clone(&context);
    let acceptor = tokio::task::spawn_local(async move { accept(&accepting, listener).await });
    let mut serving = pin!(async {
        // An error means that the server was dropped: stop as well.
        let grace = stopped.wait_for(Option::is_some).await.ok().and_then(|grace| *grace);
        acceptor.abort();
        drain(&context, grace.unwrap_or_default()).await;
    });
    // A `LocalSet` polls its root task before each round of the others, and the runtime checks the sockets in between.
    poll_fn(|cx| {
        context.turns.begin_tick(Instant::now(), cx.waker());
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

async fn accept(context: &Rc<IoContext>, listener: StdListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the listening socket cannot be used");
            return;
        }
    };
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let waiting = context.arrive(address.ip());
                    tokio::task::spawn_local(http::serve(Rc::clone(context), stream, address, waiting));
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

/// Closes each connection once all its EVENTs are answered, and waits up to `grace` for all to leave.
async fn drain(context: &Rc<IoContext>, grace: Duration) {
    context.draining.set(true);
    let deadline = Instant::now() + grace;
    while !context.clients.borrow().is_empty() {
        let late = Instant::now() >= deadline;
        for client in context.clients.borrow().values() {
            if late || client.is_answered() {
                client.outbox.close(CloseCode::Restart, "the relay is restarting");
            }
        }
        if late {
            tracing::warn!(clients = context.clients.borrow().len(), "clients did not leave in time");
            return;
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}
