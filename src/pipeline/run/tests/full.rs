//! Q1, Q2 and Q3 filled on purpose: who waits, who does not, and that nothing is lost of what waited.

use super::*;
use crate::metrics::Queue;
use crate::nostr::Event;
use crate::pipeline::queues::Verified;
use crate::pipeline::testing::start_with;
use crate::store::Seq;

const NOW: u64 = 1_700_000_000;

fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = store::Options { map_bytes: 1 << 30, durability: Durability::None, ..store::Options::default() };
    (Store::open(dir.path(), options).expect("a new store"), dir)
}

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < TIMEOUT, "it never came to this: {what}");
        std::thread::yield_now();
    }
}

/// Counts `event` at the gate and as owed; `false` when there is no room.
fn enter(serving: &Serving, client: &ClientHandle, event: &Event) -> bool {
    let has_room = serving.gate.try_enter(&client.memory, event.view().record().len());
    if has_room {
        client.owe();
    }
    has_room
}

/// The disk is busy: somebody else holds the lock that each commit needs.
#[test]
fn while_nothing_can_be_written_q1_and_q2_fill_the_gate_closes_and_later_every_event_is_answered() {
    const EVENTS: usize = 32;
    let (store, _dir) = store();
    let bounds = Bounds { ingest_events: EVENTS, write_batches: 2, ..Bounds::default() };
    let settings = Settings::default();
    let [one, other] = [client(&settings), client(&settings)];
    let (pipeline, _failures) = start_with(store.clone(), settings, bounds);
    let serving = pipeline.serving().clone();
    let depth =
        |queue: Queue| serving.queues().iter().find(|(one, ..)| *one == queue).map_or(0, |(_, depth, _)| *depth);
    let (held, is_held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = std::thread::spawn(move || {
        let hold = |_: &mut store::Group<'_, '_>| {
            held.send(()).expect("the test waits for it");
            // An error means that the test has failed.
            let _ = released.recv();
            Ok(())
        };
        store.writer().group(hold).expect("a commit of nothing");
    });
    is_held.recv().expect("it has the lock");

    let mut sent = 0;
    let mut submit = |client: &Arc<ClientHandle>| {
        let event = signed(1, 1, NOW, &[], &sent.to_string());
        let is_in = enter(&serving, client, &event);
        if is_in {
            sent += 1;
            let (decision, received) = (Decision::Accept, Instant::now());
            pipeline.intake().submit(vec![Submission { event, decision, from: Arc::clone(client), received }], true);
        }
        is_in
    };
    // One at a time: the writer takes the first, Q2 the next two, and `verify` waits with one in hand.
    for waiting in [0, 1, 2] {
        assert!(submit(&one));
        until("each is passed on", || depth(Queue::Verify) == 0 && depth(Queue::Write) == waiting);
    }
    while submit(&one) {}
    while submit(&other) {}
    let entered = serving.gate.events();
    assert_eq!((one.unanswered() + other.unanswered(), depth(Queue::Write)), (entered, 2), "Q2 holds what it may");
    assert_eq!(one.unanswered(), (EVENTS - EVENTS / 16) / 2, "an address takes no more than it leaves free");
    assert!(other.unanswered() > 0 && entered <= EVENTS, "a stranger found room, and all together have their bound");
    assert!(serving.store.read().is_ok_and(|snapshot| snapshot.last_seq().is_ok()), "readers go on");

    release.send(()).expect("it holds the lock");
    busy.join().expect("no panic");
    until("all are answered", || serving.gate.events() == 0 && one.is_answered() && other.is_answered());
    assert!(submit(&one), "there is room again");
    until("it is answered", || one.is_answered());
    assert!(ends(move || pipeline.finish()), "a thread waits for ever");
    assert_eq!(serving.store.read().expect("a snapshot").last_seq().expect("a number"), Seq(entered as u64 + 1));
}

/// Nobody takes from Q3.
#[test]
fn while_q3_is_full_the_writer_waits_with_its_answers_and_nothing_is_delivered_twice_or_left_out() {
    let (store, _dir) = store();
    let (write, q2) = channel(8);
    let (live, q3) = channel(1);
    let (ingest, _q1) = channel(1);
    let on_failure: OnFailure = Arc::new(|why: &str| panic!("{why}"));
    let parts = Parts {
        store,
        settings: Settings::default(),
        verifier: Verifier::new(crate::schnorr::Options::default()),
        metrics: Metrics::new(),
        bounds: Bounds::default(),
        memory: ledger::Options::default(),
        options: Options { commit_interval_ms: 0, ..Options::default() },
        negentropy: sessions::Options::default(),
    };
    let depths = Depths { verify: ingest.depth(), write: write.depth(), live: live.depth() };
    let serving = serving(parts, &on_failure, (&write, &live), depths).expect("the parts");
    let (writing, writer) = (writing(&serving, &Arc::default()), serving.store.writer());
    let thread = std::thread::spawn(move || writer::run(&writing, writer, &q2, &live));
    let client = client(&Settings::default());
    let send = |n: u64| {
        let event = trusted(author(n), 1, NOW, &[], "");
        assert!(serving.gate.try_enter(&client.memory, event.view().record().len()));
        client.owe();
        let verified = Verified { event, from: Arc::clone(&client), received: Instant::now() };
        assert!(write.send(WriteCommand::Store(vec![verified])).is_ok());
    };
    let stored = || serving.store.read().expect("a snapshot").last_seq().expect("a number");
    send(1);
    until("the first is stored, told and answered", || client.is_answered());
    send(2);
    until("the second is stored", || stored() == Seq(2));
    send(3);
    assert_eq!((client.unanswered(), serving.gate.events()), (2, 2), "no OK before live is told (INV-2)");
    let told = || match q3.recv_timeout(TIMEOUT) {
        Ok(LiveCommand::Committed(events, _)) => events.iter().map(|one| one.seq).collect(),
        _ => Vec::new(),
    };
    assert_eq!([told(), told(), told()], [[Seq(1)], [Seq(2)], [Seq(3)]]);
    until("all are answered", || client.is_answered() && serving.gate.events() == 0);
    drop(write);
    assert!(ends(move || thread.join().expect("no panic")), "the writer waits for ever");
}
