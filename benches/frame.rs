//! What does a frame cost on its way through the socket layer, without the socket?
//!
//! Expected on a CPU of about 3 GHz:
//!
//! - `read`: 512 B are unmasked and checked as UTF-8 at 16 to 32 bytes per cycle or two: 40 ns a frame. A compressed
//!   frame is bound by inflating, about 1 GB/s: 0.7 µs.
//! - `reply`: an OK is copied into its frame (20 ns); the queue adds four uncontended locks and an allocation: 0.1 µs.
//! - `compress`: 5 µs, since this body is repetitive; 13 µs for real events of that length. Once per event.
//! - `fan-out`: a head of 40 B copied, two locks to push and wake, two to drain, an allocation and 1 KB gathered:
//!   0.15 µs a delivery, less than half of it when the events come together.

#[path = "../src/ws/testing.rs"]
#[allow(dead_code)]
mod testing;

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mimalloc::MiMalloc;
use testing::masked_frame;
use tokio::io::AsyncWrite;
use weir::ws::{
    Budget, Flow, Frame, LivePush, OpCode, Outbox, OutboxOptions, Reader, ReaderOptions, Role, SharedBody, Stream,
    Wakeups, Writer, deflate,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const CONNECTIONS: usize = 200;

/// An EVENT of about 500 bytes, as text.
fn event(content_bytes: usize) -> String {
    let hex = "0123456789abcdef";
    format!(
        "{{\"id\":\"{}\",\"pubkey\":\"{}\",\"created_at\":1700000000,\"kind\":1,\"tags\":[],\
         \"content\":\"{}\",\"sig\":\"{}\"}}",
        hex.repeat(4),
        hex.repeat(4),
        "word ".repeat(content_bytes / 5),
        hex.repeat(8),
    )
}

/// Takes everything and keeps nothing.
struct Sink;

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(slices).iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read(c: &mut Criterion) {
    let text = format!("[\"EVENT\",{}]", event(160));
    let options = ReaderOptions { max_message_bytes: 1 << 20, deflate: true, role: Role::Server };
    let mut group = c.benchmark_group("read");
    // A mask of zeros leaves the input unchanged, so that it can be read again.
    for frames in [1usize, 32] {
        let mut input = Vec::new();
        for _ in 0..frames {
            masked_frame(&mut input, OpCode::Text as u8, text.as_bytes(), [0; 4]);
        }
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("{frames} masked of {} B", text.len()), |b| {
            let mut reader = Reader::new(options);
            b.iter(|| {
                reader.feed(&mut input, |incoming| {
                    black_box(incoming);
                    Flow::Continue
                })
            });
        });
    }
    let mut packed = Vec::new();
    deflate::encode_text_deflated(&mut packed, text.as_bytes());
    let payload = &packed[4..];
    let mut input = Vec::new();
    masked_frame(&mut input, OpCode::Text as u8, payload, [0; 4]);
    input[0] |= 0x40;
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function(format!("1 compressed from {} B", text.len()), |b| {
        let mut reader = Reader::new(options);
        b.iter(|| {
            reader.feed(&mut input, |incoming| {
                black_box(incoming);
                Flow::Continue
            })
        });
    });
    group.finish();
}

fn reply(c: &mut Criterion) {
    let ok = format!("[\"OK\",\"{}\",true,\"\"]", "0".repeat(64));
    let mut group = c.benchmark_group("reply");
    group.bench_function("encode an OK", |b| b.iter(|| Frame::text(black_box(&ok))));
    group.bench_function("an OK through outbox and writer", |b| {
        let budget = Arc::new(Budget::new(u64::MAX));
        let (outbox, mut writer) = Writer::with_outbox(OutboxOptions::default(), budget, None);
        let mut cx = Context::from_waker(Waker::noop());
        b.iter(|| {
            writer.start_poll();
            outbox.push_reply(Frame::text(black_box(&ok)));
            writer.poll_flush(&mut cx, Pin::new(&mut Sink), usize::MAX)
        });
    });
    group.finish();
}

fn compress(c: &mut Criterion) {
    let body = event(600).into_bytes();
    c.bench_function(&format!("compress a body of {} B", body.len()), |b| {
        b.iter(|| deflate::compress_block(black_box(&body)));
    });
}

struct Fan {
    budget: Arc<Budget>,
    outboxes: Vec<Arc<Outbox>>,
    streams: Vec<Stream>,
    writers: Vec<Writer>,
}

impl Fan {
    fn new(wakeups: &Arc<Wakeups>) -> Self {
        let budget = Arc::new(Budget::new(u64::MAX));
        let (outboxes, writers) = (0..CONNECTIONS)
            .map(|_| {
                let budget = Arc::clone(&budget);
                Writer::with_outbox(OutboxOptions::default(), budget, Some(Arc::clone(wakeups)))
            })
            .unzip();
        let streams = (0..CONNECTIONS).map(|_| Stream::default()).collect();
        Self { budget, outboxes, streams, writers }
    }

    fn push(&self, events: &[String], deflate: bool) {
        for event in events {
            let body = SharedBody::new(format!("{event}]").into_bytes(), &self.budget);
            for (outbox, stream) in self.outboxes.iter().zip(&self.streams) {
                let frame = body.frame(b"[\"EVENT\",\"a subscription id\",", deflate);
                assert_eq!(outbox.push_live(stream, frame), LivePush::Taken);
            }
        }
    }

    fn drain(&mut self, cx: &mut Context<'_>) {
        for writer in &mut self.writers {
            writer.start_poll();
            assert!(writer.poll_flush(cx, Pin::new(&mut Sink), usize::MAX).is_ready());
        }
    }
}

/// The cost of a delivery without system calls: head, queue, wake-up, drain, gather.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out to 200");
    let mut cx = Context::from_waker(Waker::noop());
    for (name, count, deflate) in
        [("1 event", 1, false), ("1 event, compressed", 1, true), ("20 events at once", 20, false)]
    {
        let events = vec![event(600); count];
        group.throughput(Throughput::Elements((CONNECTIONS * count) as u64));
        group.bench_function(name, |b| {
            let wakeups = Arc::new(Wakeups::new());
            let mut answer = pin!(wakeups.run());
            let mut fan = Fan::new(&wakeups);
            fan.drain(&mut cx);
            b.iter(|| {
                fan.push(&events, deflate);
                let polled: Poll<Infallible> = answer.as_mut().poll(&mut cx);
                assert!(polled.is_pending());
                fan.drain(&mut cx);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read, reply, compress, fan_out);
criterion_main!(benches);
