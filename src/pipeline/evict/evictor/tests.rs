//! What the evictor does when the writer is behind, or gone.

use super::*;
use crate::pipeline::run::evicting;
use crate::pipeline::testing::{ends, start};
use crate::policy::Settings;
use crate::store::{Durability, Options, Store, StoreError};

/// An evictor on its own pipeline, without rules; `work` is its thread.
fn with_evictor(work: impl FnOnce(&Evicting) + Send + 'static) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes: 64 << 20, durability: Durability::None, ..Options::default() };
    let store = Store::open(dir.path(), options).expect("a new store");
    let (pipeline, _failures) = start(store, Settings::default());
    let evicting = evicting(pipeline.serving(), pipeline.heartbeat());
    assert!(ends(move || work(&evicting)), "it waits for ever");
    assert!(ends(move || pipeline.finish()), "a thread waits for ever");
}

/// The writer takes every removal from Q2 and answers none. The answer that comes at last is an error, which only
/// somebody who waits for it can pass on.
#[test]
fn sixteen_removals_are_sent_without_an_answer_and_the_next_waits_for_one() {
    with_evictor(|evicting| {
        let (write, inbox) = channel(100);
        let mut evictor = Evictor::new(evicting, &write);
        let mut at_the_writer = VecDeque::new();
        for n in 1..=16 {
            assert!(evictor.send(vec![Seq(n)], Parts::default()).is_ok(), "it waits for no answer");
            at_the_writer.push_back(inbox.recv().expect("it is sent"));
        }
        let mut answer = |result| match at_the_writer.pop_front() {
            Some(WriteCommand::Evict(Eviction { seqs, done })) => {
                assert!(done.try_send(result).is_ok(), "the answers have room for every removal");
                seqs
            }
            _ => Vec::new(),
        };
        assert_eq!(answer(Err(StoreError::Full)), [Seq(1)]);
        let seventeenth = evictor.send(vec![Seq(17)], Parts::default());
        assert!(matches!(seventeenth, Err(EvictError::Store(StoreError::Full))), "it waits for the first answer");
        assert!(inbox.is_empty(), "it was not sent");
        assert_eq!((2..=16).map(|_| answer(Ok(1))).collect::<Vec<_>>(), (2..=16).map(|n| [Seq(n)]).collect::<Vec<_>>());
        assert!(evictor.await_writer(0).is_ok() && evictor.done.is_empty(), "each removal has one answer");
        assert!(evictor.send(vec![Seq(18)], Parts::default()).is_ok(), "there is room again");
    });
}

#[test]
fn an_evictor_whose_writer_died_with_work_in_hand_does_not_wait_for_it() {
    with_evictor(|evicting| {
        let (write, inbox) = channel(PENDING);
        let mut evictor = Evictor::new(evicting, &write);
        for _ in 0..2 {
            assert!(evictor.send(vec![Seq(1)], Parts::default()).is_ok(), "the writer takes it");
        }
        // One is in its hands, the other waits.
        let in_hand = inbox.recv().expect("the first");
        drop((in_hand, inbox));
        assert!(matches!(evictor.await_writer(0), Err(EvictError::Closed)));
    });
}
