//! Outbox and writer together, over a socket that takes as many bytes as the test allows.

mod deferred;
mod streams;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use super::*;
use crate::ws::frame::{CloseCode, OpCode, encode_text};
use crate::ws::oracle::{self, Rules, Seen, StreamEnd};
use crate::ws::outgoing::{Budget, SharedBody};
use crate::ws::push::{LivePush, OutboxOptions, Overflow, RowsPush};
use crate::ws::stream::Stream;
use crate::ws::testing::Wakes;

/// Takes `allowance` bytes, then blocks.
#[derive(Default)]
struct Socket {
    taken: Vec<u8>,
    allowance: usize,
    /// The most it takes in one call; 0 for no limit.
    gulp: usize,
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gulp = if self.gulp == 0 { usize::MAX } else { self.gulp };
        let room = self.allowance.min(gulp);
        let before = self.taken.len();
        for slice in slices {
            let left = room - (self.taken.len() - before);
            self.taken.extend_from_slice(&slice[..slice.len().min(left)]);
        }
        let taken = self.taken.len() - before;
        self.allowance -= taken;
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Bench {
    budget: Arc<Budget>,
    outbox: Arc<Outbox>,
    writer: Writer,
    socket: Socket,
    wakes: Arc<Wakes>,
}

const OPTIONS: OutboxOptions =
    OutboxOptions { max_bytes: 1000, max_frames: 20, high_water_bytes: 400, low_water_bytes: 100 };

impl Bench {
    fn new(options: OutboxOptions) -> Self {
        let budget = Arc::new(Budget::new(1 << 20));
        let (outbox, writer) = Writer::with_outbox(options, Arc::clone(&budget), None);
        Self { budget, outbox, writer, socket: Socket::default(), wakes: Arc::default() }
    }

    /// Lets the socket take `bytes` more and polls once.
    fn flush(&mut self, bytes: usize) -> Poll<Flushed> {
        self.flush_up_to(usize::MAX, bytes)
    }

    fn flush_up_to(&mut self, max_bytes: usize, bytes: usize) -> Poll<Flushed> {
        self.socket.allowance = self.socket.allowance.saturating_add(bytes);
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut cx = Context::from_waker(&waker);
        self.writer.start_poll();
        self.writer
            .poll_flush(&mut cx, Pin::new(&mut self.socket), max_bytes)
            .map(|flushed| flushed.expect("the socket never fails"))
    }

    fn wakes(&self) -> usize {
        self.wakes.get()
    }

    fn seen(&self) -> (Vec<Seen>, StreamEnd) {
        let rules = Rules { masked: false, deflate: true, max_message_bytes: 1 << 20 };
        oracle::read(&self.socket.taken, &rules)
    }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn encoded(bytes: usize) -> Frame {
    let mut out = Vec::new();
    encode_text(&mut out, &vec![b'r'; bytes]);
    Frame::encoded(out)
}

#[test]
fn frames_of_every_form_arrive_in_order_whatever_the_socket_takes() {
    for gulp in [0, 1, 3, 50] {
        let mut bench = Bench::new(OutboxOptions::default());
        bench.socket.gulp = gulp;
        let body = SharedBody::new(b"{\"content\":\"shared\"}]".to_vec(), &bench.budget);
        let long = "l".repeat(300);
        let mut expected = Vec::new();
        // The fewer bytes the socket takes at once, the more often the rest is gathered again.
        for i in 0..if gulp == 0 { 100 } else { 3 } {
            assert!(bench.outbox.push_reply(Frame::text(&format!("reply {i}"))));
            assert!(bench.outbox.push_reply(Frame::text(&long)));
            let head = format!("[\"EVENT\",\"sub{i}\",");
            assert_eq!(bench.outbox.push_live(&Stream::default(), body.frame(head.as_bytes(), false)), LivePush::Taken);
            assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(10)), RowsPush::More);
            assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(3000)), RowsPush::More);
            expected.extend([
                text(&format!("reply {i}")),
                text(&long),
                text(&format!("{head}{{\"content\":\"shared\"}}]")),
                text("rrrrrrrrrr"),
                text(&"r".repeat(3000)),
            ]);
        }
        drop(body);
        assert_eq!(bench.flush(7), Poll::Pending);
        assert_eq!(bench.flush(5000), Poll::Pending);
        assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
        assert_eq!(bench.seen(), (expected, StreamEnd::Open));
        assert_eq!(bench.outbox.unsent(), (0, 0));
        assert_eq!(bench.budget.used_bytes(), 0);
    }
}

#[test]
fn a_socket_that_takes_everything_is_written_to_as_much_as_it_may_take_in_one_poll() {
    const MIXED: [usize; 5] = [100, 5_000, 100, 3_000, 800];
    let length = |one: &Seen| if let Seen::Text(text) = one { text.len() } else { 0 };
    let mut bench = Bench::new(OutboxOptions::default());
    // One frame alone, many small ones, and large ones among small ones.
    for lengths in [vec![9_000], vec![100; 90], MIXED.to_vec()] {
        for bytes in &lengths {
            assert!(bench.outbox.push_reply(encoded(*bytes)));
        }
        let (mut before, wakes) = (bench.socket.taken.len(), bench.wakes());
        while bench.flush_up_to(1_000, usize::MAX) == Poll::Ready(Flushed::Paused) {
            assert_eq!((bench.socket.taken.len(), bench.wakes()), (before + 1_000, wakes), "{lengths:?}");
            before = bench.socket.taken.len();
            bench.outbox.push_reply(Frame::text(""));
        }
        assert!(bench.socket.taken.len() < before + 1_000 && bench.outbox.unsent() == (0, 0));
    }
    let (seen, _) = bench.seen();
    assert!(seen.iter().filter(|one| **one != text("")).map(length).eq([&[9_000][..], &[100; 90], &MIXED].concat()));
}

#[test]
fn a_sleeping_task_is_woken_once_however_much_is_pushed() {
    let mut bench = Bench::new(OPTIONS);
    assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    for _ in 0..5 {
        bench.outbox.push_reply(Frame::text("x"));
    }
    assert_eq!(bench.wakes(), 1);
    // While the task runs, and while its socket is full, nobody wakes it.
    bench.writer.start_poll();
    bench.outbox.push_reply(Frame::text("y"));
    assert_eq!(bench.flush(1), Poll::Pending);
    bench.outbox.push_reply(Frame::text("z"));
    assert_eq!(bench.wakes(), 1);
    assert_eq!(bench.flush(1000), Poll::Ready(Flushed::Idle));
    bench.outbox.push_reply(Frame::text("again"));
    assert_eq!(bench.wakes(), 2);
}

#[test]
fn rows_park_above_high_water_and_resume_once_at_low_water() {
    let mut bench = Bench::new(OPTIONS);
    let resumed = Arc::new(AtomicUsize::new(0));
    let resume = || -> crate::ws::Resume {
        let resumed = Arc::clone(&resumed);
        Box::new(move || {
            resumed.fetch_add(1, Ordering::SeqCst);
        })
    };
    assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(198)), RowsPush::More);
    assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(198)), RowsPush::Park);
    assert!(bench.outbox.is_above_high_water());
    assert!(bench.outbox.park(resume()).is_none());
    assert!(bench.outbox.park(resume()).is_none());
    assert_eq!(bench.flush(202), Poll::Pending);
    assert_eq!(resumed.load(Ordering::SeqCst), 0, "202 bytes are above low water");
    assert_eq!(bench.flush(202), Poll::Ready(Flushed::Idle));
    assert_eq!(resumed.load(Ordering::SeqCst), 2);
    assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    assert_eq!(resumed.load(Ordering::SeqCst), 2);
    assert!(bench.outbox.park(resume()).is_some(), "drained: go on at once");
}

/// Drains until the close frame, on its own runtime.
fn drain_to_the_close(writer: &mut Writer, socket: &mut Socket) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let flushed = runtime.block_on(std::future::poll_fn(|cx| {
        writer.start_poll();
        match writer.poll_flush(cx, Pin::new(socket), usize::MAX) {
            Poll::Ready(Ok(Flushed::Idle)) => Poll::Pending,
            other => other,
        }
    }));
    assert_eq!(flushed.expect("never fails"), Flushed::Closed);
}

#[test]
fn a_scan_on_another_thread_parks_and_resumes_until_all_rows_are_sent() {
    const ROWS: usize = 20_000;
    let budget = Arc::new(Budget::new(1 << 30));
    let (outbox, mut writer) = Writer::with_outbox(OPTIONS, Arc::clone(&budget), None);
    let most = OPTIONS.high_water_bytes + 54;
    let scan = std::thread::spawn(move || {
        for _ in 0..ROWS {
            match outbox.push_rows(&Stream::default(), encoded(50)) {
                RowsPush::More => {}
                RowsPush::Park => {
                    assert!(outbox.unsent().0 < most, "one push beyond the high water");
                    let (tx, rx) = std::sync::mpsc::channel();
                    let resume = Box::new(move || tx.send(()).expect("the scan waits"));
                    if outbox.park(resume).is_none() {
                        rx.recv().expect("resumed, not dropped");
                    }
                }
                RowsPush::Closed => panic!("closed by nobody"),
            }
        }
        outbox.close(CloseCode::Normal, "");
    });
    let mut socket = Socket { allowance: usize::MAX, gulp: 70, ..Socket::default() };
    drain_to_the_close(&mut writer, &mut socket);
    scan.join().expect("scanned");
    assert_eq!(socket.taken.len(), ROWS * 52 + 4);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_connection_that_ends_drops_its_parked_jobs_uncalled() {
    let job = Arc::new(());
    let park = |bench: &Bench| {
        let held = Arc::clone(&job);
        let resume = Box::new(move || panic!("resumed {held:?}"));
        assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(500)), RowsPush::Park);
        assert!(bench.outbox.park(resume).is_none());
    };
    let bench = Bench::new(OPTIONS);
    park(&bench);
    assert_eq!(Arc::strong_count(&job), 2);
    bench.outbox.close(CloseCode::Restart, "");
    assert_eq!(Arc::strong_count(&job), 1);

    let bench = Bench::new(OPTIONS);
    park(&bench);
    drop(bench.writer);
    assert_eq!(Arc::strong_count(&job), 1);
    assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(1)), RowsPush::Closed);
    assert_eq!(bench.budget.used_bytes(), 0);
}

#[test]
fn nothing_follows_a_close_frame_and_everything_before_it_is_sent() {
    let mut bench = Bench::new(OPTIONS);
    bench.outbox.push_reply(Frame::text("last words"));
    bench.outbox.close(CloseCode::Restart, "restarting");
    bench.outbox.close(CloseCode::Policy, "twice");
    assert!(!bench.outbox.push_reply(Frame::text("refused")));
    assert_eq!(bench.outbox.push_rows(&Stream::default(), encoded(1)), RowsPush::Closed);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(1)), LivePush::Closed);
    assert!(bench.outbox.is_closed());
    assert_eq!(bench.flush(5), Poll::Pending);
    assert_eq!(bench.flush(1000), Poll::Ready(Flushed::Closed));
    assert_eq!(bench.flush(1000), Poll::Ready(Flushed::Closed));
    let close = Seen::Close(Some(1012), "restarting".to_owned());
    assert_eq!(bench.seen(), (vec![text("last words"), close], StreamEnd::Closed));
    assert_eq!(bench.outbox.unsent(), (0, 0));
}

#[test]
fn a_slow_consumer_gets_the_frame_it_began_and_then_the_close() {
    let mut bench = Bench::new(OPTIONS);
    for _ in 0..4 {
        assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(198)), LivePush::Taken);
    }
    // The writer holds all four and has begun the first; two more wait behind them.
    assert_eq!(bench.flush(10), Poll::Pending);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(100)), LivePush::Taken);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(100)), LivePush::Taken);
    let overflowed = LivePush::Overflowed(Overflow::Bytes);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(1)), overflowed);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(1)), LivePush::Closed, "counted once");
    assert_eq!(bench.wakes(), 1, "a close wakes a task that waits for its socket");
    assert_eq!(bench.flush(0), Poll::Pending);
    let close_bytes = 2 + 2 + "slow consumer".len();
    assert_eq!(bench.outbox.unsent(), (202 + close_bytes, 2), "the backlog is freed at once");
    assert_eq!(bench.flush(1000), Poll::Ready(Flushed::Closed));
    let close = Seen::Close(Some(1008), "slow consumer".to_owned());
    assert_eq!(bench.seen(), (vec![text(&"r".repeat(198)), close], StreamEnd::Closed));
    assert_eq!(bench.outbox.unsent(), (0, 0));
    assert_eq!(bench.budget.used_bytes(), 0);
}

#[test]
fn live_events_beyond_the_frame_bound_close_and_replies_never_do() {
    let bench = Bench::new(OPTIONS);
    for _ in 0..OPTIONS.max_frames {
        assert!(bench.outbox.push_reply(Frame::text("")));
    }
    assert!(bench.outbox.push_reply(Frame::text("")), "replies are bounded by permits");
    let overflowed = LivePush::Overflowed(Overflow::Frames);
    assert_eq!(bench.outbox.push_live(&Stream::default(), encoded(1)), overflowed);
}

#[test]
fn scans_of_those_with_a_backlog_pause_before_all_outboxes_are_full() {
    let budget = Arc::new(Budget::new(2000));
    let (slow, slow_writer) = Writer::with_outbox(OPTIONS, Arc::clone(&budget), None);
    let (quick, quick_writer) = Writer::with_outbox(OPTIONS, Arc::clone(&budget), None);
    let _hog = SharedBody::new(vec![b'h'; 1700], &budget);
    assert_eq!(slow.push_rows(&Stream::default(), encoded(50)), RowsPush::More);
    assert_eq!(slow.push_rows(&Stream::default(), encoded(50)), RowsPush::Park);
    assert_eq!(slow.push_live(&Stream::default(), encoded(1)), LivePush::Taken);
    assert_eq!(quick.push_rows(&Stream::default(), encoded(50)), RowsPush::More);
    drop((slow_writer, quick_writer, _hog));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_shared_body_reads_the_same_plain_and_compressed_in_any_window() {
    let mut bench = Bench::new(OutboxOptions::default());
    let hex = "0123456789abcdef".repeat(4);
    let bodies: Vec<String> = (0..5)
        .map(|i| format!("{{\"id\":\"{hex}\",\"n\":{i},\"content\":\"{}\"}}]", "word ".repeat(10 + i * 90)))
        .collect();
    let mut expected = Vec::new();
    let long_id = format!("[\"EVENT\",\"{}\",", "i".repeat(64));
    let escaped_id = format!("[\"EVENT\",\"{}\",", "\\u0000".repeat(64));
    for body in &bodies {
        let shared = SharedBody::new(body.clone().into_bytes(), &bench.budget);
        for head in ["[\"EVENT\",\"a\",", &long_id, &escaped_id] {
            let compressed = shared.frame(head.as_bytes(), true);
            let plain = shared.frame(head.as_bytes(), false);
            assert!(compressed.wire_bytes() < plain.wire_bytes());
            for frame in [compressed, plain] {
                assert_eq!(bench.outbox.push_live(&Stream::default(), frame), LivePush::Taken);
                expected.push(text(&format!("{head}{body}")));
            }
        }
    }
    assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.seen(), (expected, StreamEnd::Open));
    assert_eq!(bench.budget.used_bytes(), 0);
}

#[test]
fn a_small_frame_costs_no_more_than_its_place_in_the_queue() {
    let ok = format!("[\"OK\",\"{}\",true,\"\"]", "0".repeat(64));
    assert_eq!(Frame::text(&ok).owned_bytes(), size_of::<Frame>());
    assert_eq!(Frame::control(OpCode::Pong, &[0; 84]).owned_bytes(), size_of::<Frame>());
    let whole = Frame::control(OpCode::Ping, &[0; 200]);
    assert_eq!(whole.wire_bytes(), 2 + 125);
}

#[test]
fn an_idle_connection_owns_less_than_a_kilobyte() {
    let mut bench = Bench::new(OutboxOptions::default());
    for _ in 0..1000 {
        bench.outbox.push_reply(Frame::text("x"));
    }
    assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.writer.pending.capacity(), 0);
    let bytes = size_of::<Writer>() + size_of::<Outbox>() + size_of::<crate::ws::Reader>();
    assert!(bytes < 600, "{bytes}");
}

// INV-12
#[test]
fn pushers_on_many_threads_leave_every_counter_at_zero() {
    const THREADS: usize = 4;
    const EACH: usize = 2000;
    let budget = Arc::new(Budget::new(1 << 30));
    let options = OutboxOptions { max_frames: usize::MAX, ..OutboxOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let wakeups = Arc::new(crate::ws::Wakeups::new());
    let (outbox, mut writer) = Writer::with_outbox(options, Arc::clone(&budget), Some(wakeups.clone()));
    let body = Arc::new(SharedBody::new(vec![b'b'; 500], &budget));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (outbox, body) = (Arc::clone(&outbox), Arc::clone(&body));
            std::thread::spawn(move || {
                for i in 0..EACH {
                    let taken = match i % 3 {
                        0 => outbox.push_reply(Frame::text("reply")),
                        1 => outbox.push_live(&Stream::default(), body.frame(b"head", false)) == LivePush::Taken,
                        _ => outbox.push_rows(&Stream::default(), encoded(50)) != RowsPush::Closed,
                    };
                    assert!(taken);
                }
            })
        })
        .collect();
    let closer = std::thread::spawn({
        let outbox = Arc::clone(&outbox);
        move || {
            threads.into_iter().for_each(|thread| thread.join().expect("pushed all"));
            outbox.close(CloseCode::Normal, "");
        }
    });
    let mut socket = Socket { allowance: usize::MAX, gulp: 1000, ..Socket::default() };
    runtime.block_on(async {
        let answer = tokio::spawn(async move { wakeups.run().await });
        let flushed = std::future::poll_fn(|cx| match writer.poll_flush(cx, Pin::new(&mut socket), usize::MAX) {
            Poll::Ready(Ok(Flushed::Idle)) => Poll::Pending,
            other => other,
        });
        assert_eq!(flushed.await.expect("never fails"), Flushed::Closed);
        answer.abort();
    });
    closer.join().expect("closed");
    drop(body);
    assert_eq!(outbox.unsent(), (0, 0));
    assert_eq!(budget.used_bytes(), 0);
    let bench_socket = Bench { socket, ..Bench::new(OPTIONS) };
    let (seen, end) = bench_socket.seen();
    assert_eq!((seen.len(), end), (THREADS * EACH + 1, StreamEnd::Closed));
}

// INV-12
#[test]
fn a_dropped_writer_leaves_nothing_counted() {
    let mut bench = Bench::new(OPTIONS);
    for _ in 0..3 {
        bench.outbox.push_reply(Frame::encoded(vec![0; 100]));
    }
    assert_eq!(bench.flush(150), Poll::Pending);
    bench.outbox.push_reply(Frame::text("queued"));
    drop(bench.writer);
    assert_eq!(bench.outbox.unsent(), (0, 0));
    assert_eq!(bench.budget.used_bytes(), 0);
    assert!(!bench.outbox.push_reply(Frame::text("refused")));
}
