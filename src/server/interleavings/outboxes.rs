//! An outbox, its writer and the wake-ups of an io thread: many threads push, one task sends.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::future;
use tokio::io::AsyncWrite;

use super::explore;
use crate::sync::{Mutex, MutexGuard, thread};
use crate::ws::oracle::{self, Rules, Seen};
use crate::ws::{
    Budget, CloseCode, Flushed, Frame, LivePush, Outbox, OutboxOptions, Outboxes, RowsPush, SharedBody, Stream,
    Wakeups, Writer,
};

/// What the other side of a socket has: it reads as much as it likes, when it likes.
#[derive(Clone, Default)]
pub struct Socket(Arc<Mutex<Wire>>);

#[derive(Default)]
struct Wire {
    taken: Vec<u8>,
    /// Bytes that the socket takes before its client reads; `None` for no bound.
    room: Option<usize>,
    writer: Option<Waker>,
}

impl Socket {
    /// A socket that takes `bytes` and then waits for its client.
    pub fn full_after(bytes: usize) -> Self {
        let socket = Self::default();
        socket.wire().room = Some(bytes);
        socket
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().expect("no panic")
    }

    /// The client reads: `bytes` more are taken.
    pub fn read(&self, bytes: usize) {
        let mut wire = self.wire();
        wire.room = wire.room.map(|room| room + bytes);
        let writer = wire.writer.take();
        drop(wire);
        writer.into_iter().for_each(Waker::wake);
    }

    /// The client reads on from now.
    pub fn read_all(&self) {
        self.wire().room = None;
        self.read(0);
    }

    /// Bytes that it has taken.
    pub fn taken_bytes(&self) -> usize {
        self.wire().taken.len()
    }

    /// The messages that it has taken.
    pub fn seen(&self) -> Vec<Seen> {
        let rules = Rules { masked: false, deflate: false, max_message_bytes: 1 << 20 };
        let (seen, end) = oracle::read(&self.wire().taken, &rules);
        assert!(!matches!(end, oracle::StreamEnd::Broken(_)), "{seen:?}");
        seen
    }

    /// Its text messages.
    pub fn texts(&self) -> Vec<String> {
        self.seen().into_iter().filter_map(|one| if let Seen::Text(text) = one { Some(text) } else { None }).collect()
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let taken = bytes.len().min(wire.room.unwrap_or(usize::MAX));
        if taken == 0 {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.room = wire.room.map(|room| room - taken);
        wire.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const BOUNDS: OutboxOptions =
    OutboxOptions { max_bytes: 1_000, max_frames: 20, high_water_bytes: 40, low_water_bytes: 10 };

/// One connection on its own io thread.
struct Bench {
    budget: Arc<Budget>,
    all: Arc<Outboxes>,
    wakeups: Option<Arc<Wakeups>>,
}

impl Bench {
    fn new(wakeups: Option<Wakeups>) -> Self {
        let budget = Arc::new(Budget::new(2_000));
        Self { all: Outboxes::new(Arc::clone(&budget)), budget, wakeups: wakeups.map(Arc::new) }
    }

    fn connect(&self) -> (Arc<Outbox>, Writer) {
        let (outbox, writer) = Writer::with_outbox(BOUNDS, Arc::clone(&self.budget), self.wakeups.clone());
        outbox.join(&self.all, [192, 0, 2, 1].into());
        (outbox, writer)
    }

    /// Wakes the tasks of this io thread, and ends its rounds as soon as there is one to end.
    fn run_wakeups(&self) -> Vec<future::JoinHandle<()>> {
        let Some(wakeups) = &self.wakeups else { return Vec::new() };
        let (urgent, deferred) = (Arc::clone(wakeups), Arc::clone(wakeups));
        let run = future::spawn(async move { match urgent.run().await {} });
        let pace = future::spawn(async move {
            while deferred.round().is_some() {
                deferred.deferred().await;
                deferred.wake_deferred();
                future::yield_now().await;
            }
        });
        vec![run, pace]
    }
}

/// Sends what is pushed until `until`, or until a close frame is sent. `each` runs in every poll.
async fn send(mut writer: Writer, mut socket: Socket, mut each: impl FnMut(&Socket) -> bool) {
    std::future::poll_fn(|cx| {
        writer.start_poll();
        let is_over = each(&socket);
        match writer.poll_flush(cx, Pin::new(&mut socket), usize::MAX) {
            Poll::Ready(Ok(Flushed::Closed)) => Poll::Ready(()),
            Poll::Ready(Ok(Flushed::Idle)) if is_over || each(&socket) => Poll::Ready(()),
            Poll::Ready(Ok(Flushed::Idle)) | Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Flushed::Paused)) => unreachable!("it may take everything"),
            Poll::Ready(Err(error)) => panic!("{error}"),
        }
    })
    .await;
}

/// Everything that three threads push to two connections of one io thread is sent, with no later push to wake a task.
fn everything_is_sent(wakeups: fn() -> Option<Wakeups>) {
    explore(4_000, move || {
        let bench = Bench::new(wakeups());
        let helpers = bench.run_wakeups();
        let connections: Vec<_> = (0..2)
            .map(|_| {
                let ((outbox, writer), socket) = (bench.connect(), Socket::default());
                let task = future::spawn(send(writer, socket.clone(), |socket| socket.texts().len() == 6));
                (outbox, socket, task)
            })
            .collect();
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let outboxes: Vec<_> = connections.iter().map(|(outbox, ..)| Arc::clone(outbox)).collect();
                let budget = Arc::clone(&bench.budget);
                thread::spawn(move || {
                    let streams: Vec<Stream> = outboxes.iter().map(|_| Stream::default()).collect();
                    for n in 0..2 {
                        let body = SharedBody::new(format!("{number}{n}").into(), &budget);
                        for (outbox, stream) in outboxes.iter().zip(&streams) {
                            match number {
                                0 => assert!(outbox.push_reply(body.frame(b"", false))),
                                1 => assert_eq!(outbox.push_live(stream, body.frame(b"", false)), LivePush::Taken),
                                _ => assert_ne!(outbox.push_rows(stream, body.frame(b"", false)), RowsPush::Closed),
                            }
                        }
                    }
                })
            })
            .collect();
        for (outbox, socket, task) in connections {
            future::block_on(task).expect("no panic");
            let texts = socket.texts();
            for number in 0..3 {
                let own: Vec<_> = texts.iter().filter(|text| text.starts_with(&number.to_string())).collect();
                assert_eq!(own, [&format!("{number}0"), &format!("{number}1")], "each once, in order");
            }
            drop(outbox);
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        helpers.iter().for_each(future::JoinHandle::abort);
        assert_eq!(bench.budget.used_bytes(), 0);
    });
}

#[test]
fn what_is_pushed_is_sent_without_another_push() {
    everything_is_sent(|| None);
}

#[test]
fn what_is_pushed_is_sent_without_another_push_by_way_of_the_io_threads_wake_ups() {
    everything_is_sent(|| Some(Wakeups::new()));
}

#[test]
fn what_is_pushed_is_sent_without_another_push_where_live_events_are_gathered() {
    everything_is_sent(|| Some(Wakeups::deferring()));
}

/// A scan of six blocks that parks whenever the outbox says so.
fn scan(outbox: &Arc<Outbox>, stream: &Arc<Stream>, mut left: usize, ended: &Arc<Mutex<bool>>) {
    let ended = Arc::clone(ended);
    while left > 0 {
        left -= 1;
        match outbox.push_rows(stream, Frame::text(&format!("rows {left}........"))) {
            RowsPush::More => {}
            RowsPush::Closed => break,
            RowsPush::Park => {
                let (own, stream, ended) = (Arc::clone(outbox), Arc::clone(stream), Arc::clone(&ended));
                let resume = move || drop(thread::spawn(move || scan(&own, &stream, left, &ended)));
                match outbox.park(Box::new(resume)) {
                    Some(resume) => return resume(),
                    None => return,
                }
            }
        }
    }
    *ended.lock().expect("no panic") = true;
}

#[test]
fn a_parked_scan_resumes_once_its_client_has_read_and_sends_the_rest() {
    explore(4_000, || {
        let bench = Bench::new(Some(Wakeups::new()));
        let (outbox, writer) = bench.connect();
        let (socket, ended) = (Socket::full_after(10), Arc::new(Mutex::new(false)));
        let helpers = bench.run_wakeups();
        let task = future::spawn(send(writer, socket.clone(), |socket| socket.texts().len() == 6));
        let client = socket.clone();
        let reader = thread::spawn(move || {
            client.read(30);
            client.read(60);
            client.read_all();
        });
        let (own, end) = (Arc::clone(&outbox), Arc::clone(&ended));
        let scanner = thread::spawn(move || scan(&own, &Arc::default(), 6, &end));
        future::block_on(task).expect("no panic");
        reader.join().expect("no panic");
        scanner.join().expect("no panic");
        let expected: Vec<String> = (0..6).rev().map(|n| format!("rows {n}........")).collect();
        assert_eq!(socket.texts(), expected);
        helpers.iter().for_each(future::JoinHandle::abort);
    });
}

#[test]
fn of_a_stream_that_ended_nothing_is_sent_but_the_rest_of_a_message_that_had_begun() {
    explore(4_000, || {
        let bench = Bench::new(Some(Wakeups::new()));
        let (outbox, writer) = bench.connect();
        let (socket, stream) = (Socket::full_after(10), Arc::new(Stream::default()));
        let helpers = bench.run_wakeups();
        let (own, of, at) = (Arc::clone(&outbox), Arc::clone(&stream), Arc::new(Mutex::new(None)));
        let ended_at = Arc::clone(&at);
        let mut polls = 0;
        let task = future::spawn(send(writer, socket.clone(), move |socket| {
            polls += 1;
            if polls == 2 {
                own.end(&of);
                *ended_at.lock().expect("no panic") = Some(socket.taken_bytes());
                own.push_reply(Frame::text("ended"));
            }
            socket.texts().contains(&"ended".to_owned())
        }));
        let pushers: Vec<_> = [true, false]
            .map(|is_live| {
                let (outbox, stream) = (Arc::clone(&outbox), Arc::clone(&stream));
                thread::spawn(move || {
                    for _ in 0..2 {
                        if is_live {
                            let _ = outbox.push_live(&stream, Frame::text("live...."));
                        } else {
                            let _ = outbox.push_rows(&stream, Frame::text("rows...."));
                        }
                    }
                    // So that there is a second poll.
                    outbox.push_reply(Frame::text("nudge"));
                })
            })
            .into();
        let client = socket.clone();
        let reader = thread::spawn(move || client.read_all());
        pushers.into_iter().for_each(|thread| thread.join().expect("no panic"));
        outbox.push_reply(Frame::text("nudge"));
        reader.join().expect("no panic");
        future::block_on(task).expect("no panic");
        let ended_at = at.lock().expect("no panic").expect("it ended");
        let mut begins = 0;
        for text in socket.texts() {
            let is_of_stream = text.starts_with("live") || text.starts_with("rows");
            assert!(!is_of_stream || begins < ended_at, "INV-16: {:?}, ended at {ended_at}", socket.texts());
            begins += 2 + text.len();
        }
        helpers.iter().for_each(future::JoinHandle::abort);
    });
}

/// One connection holds more than all may: it is cut, whatever else happens to it, and nothing of it stays counted.
#[test]
fn a_connection_that_is_cut_closed_or_dropped_at_any_time_leaves_nothing_counted_and_nobody_waiting() {
    explore(4_000, || {
        let bench = Bench::new(Some(Wakeups::new()));
        let ((outbox, writer), (greedy, other)) = (bench.connect(), bench.connect());
        let (socket, helpers) = (Socket::full_after(10), bench.run_wakeups());
        let parked = Arc::new(());
        let task = future::spawn(send(writer, socket, |_| false));
        let dropped = thread::spawn(move || drop(other));
        let (own, held) = (Arc::clone(&outbox), Arc::clone(&parked));
        let scanner = thread::spawn(move || {
            let stream = Stream::default();
            while own.push_rows(&stream, Frame::text(&"x".repeat(30))) == RowsPush::More {}
            let held = Arc::clone(&held);
            let _ = own.park(Box::new(move || drop(held)));
        });
        let pusher = thread::spawn(move || {
            let frames: VecDeque<_> = (0..3).map(|_| Frame::text(&"y".repeat(600))).collect();
            for frame in frames {
                let _ = greedy.push_live(&Stream::default(), frame);
            }
            greedy
        });
        outbox.close(CloseCode::Restart, "");
        let greedy = pusher.join().expect("no panic");
        dropped.join().expect("no panic");
        scanner.join().expect("no panic");
        // The client never reads: its connection is cut off after a while.
        task.abort();
        let _ = future::block_on(task);
        assert!(outbox.is_closed() && greedy.is_closed());
        assert_eq!((bench.budget.used_bytes(), Arc::strong_count(&parked)), (0, 1));
        helpers.iter().for_each(future::JoinHandle::abort);
    });
}
