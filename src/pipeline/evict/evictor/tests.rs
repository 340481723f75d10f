//! What the evictor does when the writer is gone.

use super::*;
use crate::pipeline::run::evicting;
use crate::pipeline::testing::{ends, start};
use crate::policy::Settings;
use crate::store::{Durability, Options, Store};

#[test]
fn an_evictor_whose_writer_died_with_work_in_hand_does_not_wait_for_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes: 64 << 20, durability: Durability::None, ..Options::default() };
    let store = Store::open(dir.path(), options).expect("a new store");
    let (pipeline, _failures) = start(store, Settings::default());
    let evicting = evicting(pipeline.serving(), pipeline.heartbeat());
    let waited = move || {
        let (write, inbox) = channel(PENDING);
        let mut evictor = Evictor::new(&evicting, &write);
        for _ in 0..2 {
            assert!(evictor.send(vec![Seq(1)], Parts::default()).is_ok(), "the writer takes it");
        }
        // One is in its hands, the other waits.
        let in_hand = inbox.recv().expect("the first");
        drop((in_hand, inbox));
        assert!(matches!(evictor.await_writer(0), Err(Trouble::Closed)));
    };
    assert!(ends(waited), "it waits for ever");
    assert!(ends(move || pipeline.finish()), "a thread waits for ever");
}
