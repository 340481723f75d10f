//! What readers of one commit share is true of that commit, whoever looks it up, and in whatever order.

use std::sync::mpsc::channel;

use super::*;

/// The last number of the commit, and which of the events are found.
fn found(home: &Home, events: &[VerifiedEvent]) -> (Seq, Vec<bool>) {
    let snapshot = home.store.read().expect("a snapshot");
    let is_found = |event: &VerifiedEvent| snapshot.by_id(&event.view().id()).expect("a lookup").is_some();
    (snapshot.last_seq().expect("a number"), events.iter().map(is_found).collect())
}

#[test]
fn each_reader_sees_its_own_commit_beside_readers_of_others() {
    let home = home();
    let events: Vec<_> = (0..3).map(|n| note(author(n), n, "")).collect();
    home.commit_one(&events[0]);
    // A thread that fails drops its ends, so that the other one does not wait for ever.
    let ((opened, is_open), (go_on, turn)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let (home, events) = (&home, &events);
        let earlier = scope.spawn(move || {
            let snapshot = home.store.read().expect("a snapshot");
            opened.send(()).expect("it is awaited");
            let _ = turn.recv();
            let is_found = |event: &VerifiedEvent| snapshot.by_id(&event.view().id()).expect("a lookup").is_some();
            (snapshot.last_seq().expect("a number"), events.iter().map(is_found).collect::<Vec<_>>())
        });
        let go_on = go_on;
        is_open.recv().expect("a snapshot");
        home.commit_one(&events[1]);
        assert_eq!(found(home, events), (Seq(2), vec![true, true, false]));
        drop(go_on);
        assert_eq!(earlier.join().expect("no panic"), (Seq(1), vec![true, false, false]));
    });
    home.commit_one(&events[2]);
    home.store.writer().remove(&[Seq(1)], Return::Allowed).expect("a commit");
    assert_eq!(found(&home, &events), (Seq(3), vec![false, true, true]));
}

#[test]
fn a_slow_reader_of_an_earlier_commit_leaves_the_later_one_in_place() {
    let home = home();
    home.commit_one(&note(author(1), 1, ""));
    let generation = home.store.generation();
    let last = |commit: &crate::store::file::commit::Commit| (commit.txn, commit.last_seq);
    let ((began, has_begun), (go_on, turn)) = (channel(), channel::<()>());
    std::thread::scope(|scope| {
        let generation = &generation;
        let earlier = scope.spawn(move || {
            let txn = generation.inner.env.read_txn().expect("a transaction");
            began.send(()).expect("it is awaited");
            let _ = turn.recv();
            let found = generation.inner.commit(&txn).expect("a commit");
            (txn.id(), last(&found))
        });
        let go_on = go_on;
        has_begun.recv().expect("a transaction");
        home.commit_one(&note(author(2), 2, ""));
        let snapshot = home.store.read().expect("a snapshot");
        let later = last(&generation.inner.commit(&snapshot.txn).expect("a commit"));
        drop(go_on);
        let (id, found) = earlier.join().expect("no panic");
        assert_eq!((found, later), ((id, Some(Seq(1))), (id + 1, Some(Seq(2)))));
        assert_eq!(last(&generation.inner.commit.load()), later);
    });
}
