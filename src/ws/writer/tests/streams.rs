//! Streams that end: what is queued of them, what waits, and what is partly sent.

use super::*;

#[test]
fn nothing_of_a_stream_is_queued_after_it_ended_and_nothing_of_it_waits() {
    let mut bench = Bench::new(OutboxOptions::default());
    let (old, new) = (Stream::default(), Stream::default());
    let body = SharedBody::new(b"{}]".to_vec(), &bench.budget);
    assert!(bench.outbox.push_reply(Frame::text("before")));
    assert_eq!(bench.outbox.push_rows(&old, encoded(300)), RowsPush::More);
    assert_eq!(bench.outbox.push_rows(&new, encoded(20)), RowsPush::More);
    assert_eq!(bench.outbox.push_live(&old, body.frame(b"[\"EVENT\",\"old\",", false)), LivePush::Taken);
    assert!(bench.outbox.push_answer(&old, Frame::text("an answer")));
    assert!(old.is_open());
    bench.outbox.end(&old);
    assert!(!old.is_open());
    assert_eq!(bench.outbox.unsent(), (8 + 22, 2));
    assert_eq!(bench.outbox.push_rows(&old, encoded(10)), RowsPush::Closed);
    assert_eq!(bench.outbox.push_live(&old, encoded(10)), LivePush::Closed);
    assert!(!bench.outbox.push_answer(&old, encoded(10)));
    assert!(!bench.outbox.push_last(&old, encoded(10)));
    assert_eq!(bench.outbox.push_live(&new, body.frame(b"[\"EVENT\",\"new\",", false)), LivePush::Taken);
    bench.outbox.end(&old);
    drop(body);
    assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
    let expected = vec![text("before"), text(&"r".repeat(20)), text("[\"EVENT\",\"new\",{}]")];
    assert_eq!(bench.seen(), (expected, StreamEnd::Open));
    assert_eq!((bench.outbox.unsent(), bench.budget.used_bytes()), ((0, 0), 0));
}

#[test]
fn the_last_frame_of_a_stream_is_followed_by_none_and_is_withdrawn_with_the_others() {
    let mut bench = Bench::new(OutboxOptions::default());
    let (told, replaced) = (Stream::default(), Stream::default());
    for stream in [&told, &replaced] {
        assert_eq!(bench.outbox.push_rows(stream, encoded(10)), RowsPush::More);
        assert!(bench.outbox.push_last(stream, Frame::text("closed")));
        assert!(!stream.is_open());
        assert!(!bench.outbox.push_last(stream, Frame::text("closed again")));
        assert_eq!(bench.outbox.push_live(stream, encoded(10)), LivePush::Closed);
    }
    bench.outbox.end(&replaced);
    assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.seen(), (vec![text(&"r".repeat(10)), text("closed")], StreamEnd::Open));
}

#[test]
fn a_message_that_is_partly_sent_is_finished_and_those_behind_it_are_dropped() {
    // One block of messages whose headers have 2, 4 and 10 bytes, then frames of either form.
    let sizes = [5, 200, 70_000, 3];
    let mut block = Vec::new();
    sizes.iter().for_each(|bytes| encode_text(&mut block, &vec![b'r'; *bytes]));
    let ends = [7, 7 + 204, 7 + 204 + 70_010, 7 + 204 + 70_010 + 5];
    assert_eq!(block.len(), ends[3]);
    let mut cuts = vec![1, 6, 7, 8, 9, 210, 211, 212, 221, 40_000, 70_220, 70_221, 70_222, 70_225, 70_226];
    cuts.extend([ends[3] + 1, ends[3] + 19, ends[3] + 20, ends[3] + 22]);
    for cut in cuts {
        let mut bench = Bench::new(OutboxOptions::default());
        let (old, other) = (Stream::default(), Stream::default());
        let body = SharedBody::new(b"{}]".to_vec(), &bench.budget);
        assert_eq!(bench.outbox.push_rows(&old, Frame::encoded(block.clone())), RowsPush::More);
        assert_eq!(bench.outbox.push_live(&old, body.frame(b"[\"EVENT\",\"old\",", false)), LivePush::Taken);
        assert_eq!(bench.outbox.push_rows(&other, encoded(4)), RowsPush::More);
        assert_eq!(bench.outbox.push_live(&old, Frame::text("never sent")), LivePush::Taken);
        drop(body);
        assert_eq!(bench.flush(cut), Poll::Pending);
        assert_eq!(bench.outbox.push_rows(&old, encoded(9)), RowsPush::More);
        bench.outbox.end(&old);
        assert!(bench.outbox.push_reply(Frame::text("after")));

        // A frame counts until all of it is sent, a block up to where it is cut.
        let (live_end, mut start, mut begun) = (ends[3] + 20, 0, 0);
        let mut expected: Vec<Seen> = Vec::new();
        for (end, bytes) in ends.into_iter().zip(sizes) {
            if start < cut {
                expected.push(text(&"r".repeat(bytes)));
                begun = if cut < end { end } else { 0 };
            }
            start = end;
        }
        if ends[3] < cut {
            expected.push(text("[\"EVENT\",\"old\",{}]"));
            begun = if cut < live_end { 20 } else { 0 };
        }
        expected.extend([text("rrrr"), text("after")]);
        assert_eq!(bench.flush(0), Poll::Pending);
        assert_eq!(bench.outbox.unsent().0, begun + 6 + 7, "cut at {cut}");
        assert_eq!(bench.flush(1), Poll::Pending);
        assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
        assert_eq!(bench.seen(), (expected, StreamEnd::Open), "cut at {cut}");
        assert_eq!((bench.outbox.unsent(), bench.budget.used_bytes()), ((0, 0), 0), "cut at {cut}");
    }
}

#[test]
fn what_is_kept_of_a_block_is_all_that_stays_in_memory() {
    let mut bench = Bench::new(OutboxOptions::default());
    let old = Stream::default();
    let mut block = Vec::new();
    (0..100).for_each(|_| encode_text(&mut block, &[b'r'; 1000]));
    assert_eq!(bench.outbox.push_rows(&old, Frame::encoded(block)), RowsPush::More);
    assert_eq!(bench.flush(1500), Poll::Pending);
    bench.outbox.end(&old);
    assert_eq!(bench.flush(0), Poll::Pending);
    let kept = 2 * 1004;
    assert_eq!(bench.writer.pending[0].body().len(), kept);
    assert_eq!(bench.budget.used_bytes(), (size_of::<Frame>() + kept) as u64);
    assert_eq!(bench.outbox.unsent(), (kept, 1));
}

#[test]
fn a_job_that_waited_behind_a_stream_goes_on_when_that_ended() {
    let mut bench = Bench::new(OPTIONS);
    let (old, other) = (Stream::default(), Stream::default());
    assert_eq!(bench.flush(0), Poll::Ready(Flushed::Idle));
    assert_eq!(bench.outbox.push_rows(&other, encoded(20)), RowsPush::More);
    assert_eq!(bench.outbox.push_rows(&old, encoded(500)), RowsPush::Park);
    assert_eq!(bench.flush(5), Poll::Pending);
    let resumed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&resumed);
    let resume = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert!(bench.outbox.park(resume).is_none());
    bench.outbox.end(&old);
    assert_eq!(bench.flush(0), Poll::Pending);
    assert_eq!(bench.flush(0), Poll::Pending);
    assert_eq!(resumed.load(Ordering::SeqCst), 1);
    assert_eq!(bench.outbox.unsent(), (22, 1));
}

#[test]
fn a_stream_that_ended_is_forgotten_with_the_frames_that_the_writer_held() {
    let mut bench = Bench::new(OutboxOptions::default());
    for round in 0..100 {
        let stream = Stream::default();
        assert_eq!(bench.outbox.push_live(&stream, Frame::text(&round.to_string())), LivePush::Taken);
        assert_eq!(bench.flush(1), Poll::Pending);
        bench.outbox.end(&stream);
        assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
        bench.socket.allowance = 0;
        assert!(bench.outbox.take_ended().is_empty());
    }
}

#[test]
fn threads_that_push_for_a_stream_queue_nothing_after_its_end() {
    const THREADS: usize = 3;
    for round in 0..10 {
        let mut bench = Bench::new(OutboxOptions::default());
        let (stream, is_over) = (Arc::new(Stream::default()), Arc::new(AtomicBool::new(false)));
        let pushers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (outbox, stream, is_over) = (Arc::clone(&bench.outbox), Arc::clone(&stream), Arc::clone(&is_over));
                std::thread::spawn(move || {
                    loop {
                        let was_over = is_over.load(Ordering::Acquire);
                        if outbox.push_rows(&stream, Frame::text("old")) == RowsPush::Closed {
                            return;
                        }
                        assert!(!was_over, "queued after the end");
                    }
                })
            })
            .collect();
        // The socket takes parts of messages, also while others are pushed.
        (0..round).for_each(|bytes| assert_ne!(bench.flush(bytes), Poll::Ready(Flushed::Closed)));
        bench.outbox.end(&stream);
        is_over.store(true, Ordering::Release);
        assert!(bench.outbox.push_reply(Frame::text("the end")));
        assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
        pushers.into_iter().for_each(|pusher| pusher.join().expect("refused in the end"));
        assert_eq!(bench.flush(usize::MAX), Poll::Ready(Flushed::Idle));
        let (seen, end) = bench.seen();
        assert_eq!((seen.last(), end), (Some(&text("the end")), StreamEnd::Open));
        assert!(seen[..seen.len() - 1].iter().all(|message| *message == text("old")));
        assert_eq!((bench.outbox.unsent(), bench.budget.used_bytes()), ((0, 0), 0));
    }
}
