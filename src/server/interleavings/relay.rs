//! A relay without sockets: every thread of the pipeline, and for each client an io thread with the real engine, outbox
//! and wake-ups. A script stands for the client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Instant;

use serde_json::Value;
use shuttle::future;

use super::outboxes::Socket;
use crate::metrics::Metrics;
use crate::nostr::Event;
use crate::nostr::testing::signed;
use crate::pipeline::query::job::Reading;
use crate::pipeline::query::sessions;
use crate::pipeline::{Bounds, ClientHandle, Intake, Options, Parts, Pipeline, Serving};
use crate::policy::{Peer, RateLimiter, Settings};
use crate::schnorr::{self, Verifier};
use crate::server::context::{IoContext, IoShared};
use crate::server::engine::Engine;
use crate::server::turns::TURN;
use crate::store::{self, Durability, Store};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, atomic};
use crate::ws::{CloseCode, Flow, Flushed, Incoming, OutboxOptions, Writer};

/// How a relay is run.
#[derive(Clone)]
pub struct Setup {
    pub options: Options,
    pub bounds: Bounds,
    pub outbox: OutboxOptions,
}

impl Default for Setup {
    /// One reader, and no commit unless a query or the end asks for it. Nothing depends on how long it takes.
    fn default() -> Self {
        let options = Options {
            read_threads: 1,
            verify_threads: 1,
            slice_us: 1 << 40,
            inline_us: 1 << 40,
            commit_interval_ms: 1 << 30,
            ..Options::default()
        };
        let bounds = Bounds { ingest_events: 8, write_batches: 2, live_batches: 2, scans: 8, ..Bounds::default() };
        Self { options, bounds, outbox: OutboxOptions::default() }
    }
}

impl Setup {
    /// Every slice runs on the reader, and takes one row.
    pub fn in_slices(self) -> Self {
        Self { options: Options { inline_us: 0, slice_rows: 1, ..self.options }, ..self }
    }

    /// Each batch is committed before it is answered.
    pub fn without_log(self) -> Self {
        Self { options: Options { commit_interval_ms: 0, ..self.options }, ..self }
    }

    /// Live events are gathered for a round.
    pub fn gathering(self) -> Self {
        Self { options: Options { fanout_interval_ms: 1, ..self.options }, ..self }
    }
}

/// A relay under test: the real pipeline on a store in a temporary directory, and the parts of io threads that clients
/// need.
pub struct Relay {
    pipeline: Pipeline,
    front: Arc<IoShared>,
    intake: Intake,
    outbox: OutboxOptions,
    stop: Arc<Stop>,
    dir: tempfile::TempDir,
}

/// That the relay is stopping, and whom to tell.
#[derive(Default)]
struct Stop {
    is_set: atomic::AtomicBool,
    tasks: Mutex<Vec<Waker>>,
}

/// What the client of a script does next, given what it has got so far.
pub enum Next {
    /// It sends a message.
    Send(String),
    /// It waits for more.
    Wait,
    /// It leaves.
    Leave,
}

/// What a client got.
pub struct Got {
    /// Every message to it, parsed.
    pub messages: Vec<Value>,
    /// The close frame came.
    pub was_closed: bool,
}

impl Relay {
    pub fn start(setup: Setup) -> Self {
        let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(base).expect("a temporary directory");
        let store = open(dir.path());
        let parts = Parts {
            store,
            settings: Settings::default(),
            verifier: Verifier::new(schnorr::Options::default()),
            metrics: Metrics::new(),
            bounds: setup.bounds,
            memory: crate::ledger::Options::default(),
            options: setup.options,
            negentropy: sessions::Options::default(),
        };
        let on_failure: crate::pipeline::OnFailure = Arc::new(|why: &str| panic!("{why}"));
        let pipeline = Pipeline::start(parts, &on_failure).expect("the threads start");
        let front = Arc::new(IoShared::new(
            Default::default(),
            pipeline.serving().clone(),
            crate::server::management::link::Link::none(),
        ));
        let (intake, stop) = (pipeline.intake(), Arc::default());
        Self { pipeline, front, intake, outbox: setup.outbox, stop, dir }
    }

    /// A client on its own io thread, which follows `script`.
    pub fn connect(&self, script: impl FnMut(&[Value]) -> Next + Send + 'static) -> JoinHandle<Got> {
        self.connect_by(Socket::default(), script)
    }

    /// The same, by this socket.
    pub fn connect_by(&self, socket: Socket, script: impl FnMut(&[Value]) -> Next + Send + 'static) -> JoinHandle<Got> {
        let (front, intake) = (Arc::clone(&self.front), self.intake.clone());
        let (bounds, stop) = (self.outbox, Arc::clone(&self.stop));
        thread::spawn(move || io_thread(front, intake, bounds, stop, socket, script))
    }

    /// What a server has of the pipeline.
    pub fn serving(&self) -> &Serving {
        self.pipeline.serving()
    }

    /// What queries read with.
    pub fn reading(&self) -> Arc<Reading> {
        Arc::clone(&self.front.pipeline.reading)
    }

    /// Tells the io threads to end.
    pub fn stop(&self) {
        self.stop.is_set.store(true, atomic::Ordering::SeqCst);
        let tasks = std::mem::take(&mut *self.stop.tasks.lock().expect("no panic"));
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Ends every thread of the pipeline, once all io threads have ended, and looks for what is left.
    pub fn finish(self) -> Left {
        let Self { pipeline, front, intake, dir, .. } = self;
        drop(intake);
        let serving = pipeline.serving().clone();
        pipeline.finish();
        assert_eq!(serving.reading.live.size(), (0, 0), "subscriptions are left in the live index");
        assert_eq!(serving.gate.events(), 0);
        let memory = Arc::clone(&serving.memory);
        // With them goes a query that waited for the last commit, after whose client had gone.
        drop((serving, front));
        let left = [&memory.filters, &memory.waiting_events, &memory.outboxes].map(|account| account.used_bytes());
        assert_eq!(left, [0; 3], "INV-12: bytes of filters, events and outboxes that nobody holds");
        let store = open(dir.path());
        let snapshot = store.read().expect("a snapshot");
        let rows = snapshot.after(store::Seq(0)).expect("rows");
        let ids = rows.map(|row| row.expect("a row").1.id().to_string()).collect();
        Left { ids }
    }
}

/// What the store holds after a restart.
pub struct Left {
    /// Ids, in the order of arrival.
    pub ids: Vec<String>,
}

fn open(path: &std::path::Path) -> Store {
    let options = store::Options { map_bytes: 1 << 24, durability: Durability::None, ..store::Options::default() };
    Store::open(path, options).expect("a store")
}

/// A note, or an event of another kind, by one author.
pub struct Made {
    pub id: String,
    /// `["EVENT",…]`
    pub message: String,
}

/// Events of these kinds, each a second older than the one before, but for every third, which ties with it.
pub fn made(kinds: &[u16]) -> Vec<Made> {
    let event = |(n, kind): (usize, &u16)| signed(7, *kind, 1_700_000_000 - (n - n / 3) as u64, &[], &n.to_string());
    kinds.iter().enumerate().map(event).map(|event| Made::of(&event)).collect()
}

impl Made {
    fn of(event: &Event) -> Self {
        let (view, mut json) = (event.view(), Vec::new());
        view.write_json(&mut json);
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        Self { id: view.id().to_string(), message: format!("[\"EVENT\",{json}]") }
    }
}

/// One io thread with one client.
fn io_thread(
    front: Arc<IoShared>,
    intake: Intake,
    bounds: OutboxOptions,
    stop: Arc<Stop>,
    socket: Socket,
    script: impl FnMut(&[Value]) -> Next + 'static,
) -> Got {
    let context = Rc::new(IoContext::new(front, intake));
    let client = Rc::new(RefCell::new(Client::new(&context, bounds, stop, socket.clone(), script)));
    let (wakeups, deferring, submitting) = (Arc::clone(&context.wakeups), Rc::clone(&context), Rc::clone(&context));
    let own = Rc::clone(&client);
    let tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![
        Box::pin(async move { match wakeups.run().await {} }),
        Box::pin(async move {
            loop {
                submitting.submitted.notified().await;
                submitting.hand_over();
            }
        }),
        Box::pin(async move {
            while deferring.wakeups.round().is_some() {
                deferring.wakeups.deferred().await;
                deferring.wakeups.wake_deferred();
                future::yield_now().await;
            }
        }),
    ];
    run_tasks(poll_fn(move |cx| own.borrow_mut().poll(cx)), tasks);
    client.borrow_mut().end();
    context.hand_over();
    let seen = socket.seen();
    let was_closed = seen.iter().any(|one| matches!(one, crate::ws::oracle::Seen::Close(..)));
    Got { messages: messages(&socket), was_closed }
}

fn messages(socket: &Socket) -> Vec<Value> {
    let texts = socket.texts();
    let parsed = texts.iter().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    parsed.filter(|message| message[0] != "AUTH").collect()
}

/// Whether a task was woken; the thread is woken with it.
struct Woken {
    is_set: AtomicBool,
    thread: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::SeqCst);
        self.thread.wake_by_ref();
    }
}

/// Runs tasks on this thread, each when it was woken and not otherwise, until the first has ended.
fn run_tasks(first: impl Future<Output = ()> + 'static, rest: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    let mut tasks: VecDeque<Pin<Box<dyn Future<Output = ()>>>> = rest.into();
    tasks.push_front(Box::pin(first));
    let mut woken: Vec<Arc<Woken>> = Vec::new();
    future::block_on(poll_fn(|cx| {
        if woken.is_empty() {
            let new = |_| Arc::new(Woken { is_set: AtomicBool::new(true), thread: cx.waker().clone() });
            woken = (0..tasks.len()).map(new).collect();
        }
        loop {
            let mut polled = false;
            for (number, (task, woken)) in tasks.iter_mut().zip(&woken).enumerate() {
                if !woken.is_set.swap(false, Ordering::SeqCst) {
                    continue;
                }
                polled = true;
                let waker = Waker::from(Arc::clone(woken));
                let is_over = task.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready();
                if is_over && number == 0 {
                    return Poll::Ready(());
                }
            }
            if !polled {
                return Poll::Pending;
            }
        }
    }));
}

/// What `server::connection` does, without a socket: reads, handles and sends until nothing is left to do.
struct Client<S> {
    context: Rc<IoContext>,
    engine: Engine,
    handle: Arc<ClientHandle>,
    writer: Option<Writer>,
    socket: Socket,
    stop: Arc<Stop>,
    key: u64,
    script: S,
    is_paused: bool,
    has_left: bool,
}

impl<S: FnMut(&[Value]) -> Next> Client<S> {
    fn new(context: &Rc<IoContext>, bounds: OutboxOptions, stop: Arc<Stop>, socket: Socket, script: S) -> Self {
        let front = &context.front;
        let settings = front.pipeline.settings.load();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let memory = front.pipeline.memory.address(address);
        let (outbox, writer) =
            Writer::with_outbox(bounds, Arc::clone(&memory.outboxes), Some(Arc::clone(&context.wakeups)));
        outbox.join(&front.outboxes, address);
        let rates = RateLimiter::new(&settings, address, front.address_rates.get(address, 0));
        let handle = Arc::new(ClientHandle::new(outbox, false, rates, (address, address), memory));
        let mut engine = Engine::new(context, &handle, Peer::new(address));
        engine.greet(&settings);
        let (context, key) = (Rc::clone(context), context.enter(&handle));
        let (writer, is_paused, has_left) = (Some(writer), false, false);
        Self { context, engine, handle, writer, socket, stop, key, script, is_paused, has_left }
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            if let Some(writer) = &self.writer {
                writer.start_poll();
            }
            self.engine.begin_turn(Instant::now(), TURN);
            self.engine.start_waiting_scans();
            if self.is_paused && self.engine.may_resume(cx) {
                self.is_paused = false;
            }
            let before = messages(&self.socket).len();
            let sent = self.read();
            self.engine.flush();
            self.drain(cx);
            let Some(writer) = &mut self.writer else { return Poll::Ready(()) };
            match writer.poll_flush(cx, Pin::new(&mut self.socket), usize::MAX) {
                Poll::Ready(Ok(Flushed::Closed)) => return Poll::Ready(()),
                Poll::Ready(Ok(Flushed::Paused)) => unreachable!("it may take everything"),
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Ready(Ok(Flushed::Idle)) if self.has_left => return Poll::Ready(()),
                Poll::Pending if self.has_left => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Flushed::Idle)) => {}
            }
            // The client reacts to what it got; the socket would be readable then.
            let is_answered = !self.is_paused && (messages(&self.socket).len() > before || sent);
            let may_go_on = self.engine.has_startable_scan() || (self.is_paused && self.engine.may_resume(cx));
            if !is_answered && !may_go_on && !self.engine.wants_turn() {
                return Poll::Pending;
            }
        }
    }

    /// Handles what the client sends now; whether that was anything.
    fn read(&mut self) -> bool {
        let mut sent = false;
        while !self.is_paused && !self.has_left {
            match (self.script)(&messages(&self.socket)) {
                Next::Wait => break,
                Next::Leave => self.has_left = true,
                Next::Send(text) => {
                    sent = true;
                    match self.engine.take(Incoming::Text(&text)) {
                        Flow::Continue => {}
                        Flow::Pause => self.is_paused = true,
                        Flow::Stop => return sent,
                    }
                }
            }
        }
        sent
    }

    /// Closes the connection when the relay stops and every EVENT has its OK in the outbox.
    fn drain(&mut self, cx: &mut TaskContext<'_>) {
        let mut tasks = self.stop.tasks.lock().expect("no panic");
        if !self.stop.is_set.load(atomic::Ordering::SeqCst) {
            tasks.push(cx.waker().clone());
            return;
        }
        drop(tasks);
        self.context.draining.set(true);
        if self.handle.is_answered() {
            self.handle.outbox.close(CloseCode::Restart, "the relay is restarting");
        } else {
            // The relay looks again after a while.
            cx.waker().wake_by_ref();
            thread::yield_now();
        }
    }

    fn end(&mut self) {
        self.writer = None;
        self.engine.client_left();
        self.engine.end();
        self.context.leave(self.key);
    }
}
