//! Live events whose wake-ups are deferred: when they are sent, with what, and in which order.

use super::*;
use crate::ws::Wakeups;

/// A connection of an io thread that defers wake-ups. Nothing runs them, so see [`woken`] for the urgent ones.
fn deferring(options: OutboxOptions) -> (Bench, Arc<Wakeups>) {
    let budget = Arc::new(Budget::new(1 << 20));
    let wakeups = Arc::new(Wakeups::deferring());
    let (outbox, writer) = Writer::with_outbox(options, Arc::clone(&budget), Some(Arc::clone(&wakeups)));
    let mut bench = Bench { budget, outbox, writer, socket: Socket::default(), wakes: Arc::default() };
    assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
    (bench, wakeups)
}

/// Runs the wake-ups once, as the io thread does. Returns how often the task has been woken by then.
fn woken(bench: &Bench, wakeups: &Wakeups) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(std::pin::pin!(wakeups.run()).poll(&mut cx).is_pending());
    bench.wakes()
}

fn live(bench: &Bench, text: &str) -> LivePush {
    bench.outbox.push_live(&Stream::default(), Frame::text(text))
}

#[test]
fn live_events_wait_for_the_end_of_the_round_and_are_sent_together() {
    let (mut bench, wakeups) = deferring(OutboxOptions::default());
    for name in ["a", "b", "c"] {
        assert_eq!(live(&bench, name), LivePush::Taken);
    }
    assert_eq!(woken(&bench, &wakeups), 0);
    wakeups.wake_deferred();
    assert_eq!(bench.wakes(), 1, "listed once, however many events wait");
    assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.seen(), (vec![text("a"), text("b"), text("c")], StreamEnd::Open));
    wakeups.wake_deferred();
    assert_eq!(bench.wakes(), 1, "nothing waits");
}

#[test]
fn a_reply_rows_and_a_close_send_at_once_what_waits_before_them() {
    type Push = fn(&Outbox);
    let pushes: [(Push, Seen); 3] = [
        (|outbox| assert!(outbox.push_reply(Frame::text("reply"))), text("reply")),
        (|outbox| assert_eq!(outbox.push_rows(&Stream::default(), encoded(3)), RowsPush::More), text("rrr")),
        (|outbox| outbox.close(CloseCode::Restart, ""), Seen::Close(Some(1012), String::new())),
    ];
    for (push, pushed) in pushes {
        let (mut bench, wakeups) = deferring(OutboxOptions::default());
        assert_eq!(live(&bench, "a"), LivePush::Taken);
        push(&bench.outbox);
        assert_eq!(woken(&bench, &wakeups), 1);
        assert!(bench.flush(0).is_ready());
        assert_eq!(bench.seen().0, vec![text("a"), pushed]);
    }
}

#[test]
fn a_connection_that_replies_wake_is_listed_once_in_a_round() {
    let (mut bench, wakeups) = deferring(OutboxOptions::default());
    for answered in 1..=5 {
        assert_eq!(live(&bench, "event"), LivePush::Taken);
        assert!(bench.outbox.push_reply(Frame::text("reply")));
        assert_eq!(woken(&bench, &wakeups), answered);
        assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    }
    assert_eq!(live(&bench, "last"), LivePush::Taken);
    wakeups.wake_deferred();
    assert_eq!(bench.wakes(), 6, "one of the six was the round's");
    assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.seen().0.last(), Some(&text("last")));
}

#[test]
fn what_fills_a_write_or_comes_near_the_bounds_is_not_deferred_further() {
    let bytes = OutboxOptions { low_water_bytes: 100, ..OutboxOptions::default() };
    let frames = OutboxOptions { max_frames: 8, ..OutboxOptions::default() };
    // A frame of "0123456789" has 12 bytes on the wire.
    for (options, at) in [(bytes, 9), (frames, 4)] {
        let (bench, wakeups) = deferring(options);
        for n in 1..=at {
            assert_eq!(woken(&bench, &wakeups), 0, "{n} of {at}");
            assert_eq!(live(&bench, "0123456789"), LivePush::Taken);
        }
        assert_eq!(woken(&bench, &wakeups), 1);
    }
}

#[test]
fn a_slow_consumer_is_closed_at_the_same_event_whether_or_not_wake_ups_are_deferred() {
    let overflow = |bench: &mut Bench| {
        // The socket takes nothing from now on.
        bench.socket.allowance = 0;
        let taken = (0..).take_while(|_| {
            let taken = live(bench, "0123456789") == LivePush::Taken;
            assert!(bench.flush(0).is_pending());
            taken
        });
        taken.count()
    };
    for options in [OPTIONS, OutboxOptions { max_frames: 4096, ..OPTIONS }] {
        let (mut bench, _wakeups) = deferring(options);
        let mut at_once = Bench::new(options);
        assert_eq!(at_once.flush(0), Poll::Ready(Flushed::Idle));
        assert_eq!(overflow(&mut bench), overflow(&mut at_once));
    }
}

#[test]
fn pushers_on_many_threads_lose_no_wake_up_and_keep_their_order() {
    const THREADS: usize = 3;
    const EACH: usize = 3000;
    let options = OutboxOptions { max_frames: usize::MAX, ..OutboxOptions::default() };
    let (bench, wakeups) = deferring(options);
    let Bench { outbox, mut writer, mut socket, .. } = bench;
    socket.gulp = 1000;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || {
                for n in 0..EACH {
                    // Replies from one thread only, and rarely: most events must be sent by the rounds alone.
                    if thread == 0 && n % 500 == 0 {
                        assert!(outbox.push_reply(Frame::text(&format!("{thread} {n}"))));
                    } else {
                        assert_eq!(
                            outbox.push_live(&Stream::default(), Frame::text(&format!("{thread} {n}"))),
                            LivePush::Taken
                        );
                    }
                }
            })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let local = tokio::task::LocalSet::new();
    let (run, paced) = (Arc::clone(&wakeups), wakeups);
    local.spawn_local(async move { run.run().await });
    local.spawn_local(async move {
        loop {
            paced.deferred().await;
            paced.wake_deferred();
            tokio::task::yield_now().await;
        }
    });
    // Nothing closes the connection. The test ends once everything has arrived, which takes the rounds.
    local.block_on(
        &runtime,
        std::future::poll_fn(|cx| {
            writer.start_poll();
            let flushed = writer.poll_flush(cx, Pin::new(&mut socket), usize::MAX);
            assert!(matches!(flushed, Poll::Ready(Ok(Flushed::Idle))));
            let frames = socket.taken.iter().filter(|byte| **byte == 0x81).count();
            if frames == THREADS * EACH { Poll::Ready(()) } else { Poll::Pending }
        }),
    );
    threads.into_iter().for_each(|thread| thread.join().expect("pushed all"));
    let (seen, end) = Bench { socket, ..Bench::new(OPTIONS) }.seen();
    assert_eq!((seen.len(), end), (THREADS * EACH, StreamEnd::Open));
    for thread in 0..THREADS {
        let start = format!("{thread} ");
        let own = seen.iter().filter(|one| matches!(one, Seen::Text(own) if own.starts_with(&start)));
        assert!(own.eq((0..EACH).map(|n| text(&format!("{start}{n}"))).collect::<Vec<_>>().iter()));
    }
}
