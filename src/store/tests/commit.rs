//! What readers of one commit share is true of that commit, whoever looks it up, and in whatever order.

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
    let (opened, turn) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let earlier = scope.spawn(|| {
            let snapshot = home.store.read().expect("a snapshot");
            opened.wait();
            turn.wait();
            let is_found = |event: &VerifiedEvent| snapshot.by_id(&event.view().id()).expect("a lookup").is_some();
            (snapshot.last_seq().expect("a number"), events.iter().map(is_found).collect::<Vec<_>>())
        });
        opened.wait();
        home.commit_one(&events[1]);
        assert_eq!(found(&home, &events), (Seq(2), vec![true, true, false]));
        turn.wait();
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
    let (began, turn) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let earlier = scope.spawn(|| {
            let txn = generation.inner.env.read_txn().expect("a transaction");
            began.wait();
            turn.wait();
            let found = generation.inner.commit(&txn).expect("a commit");
            (txn.id(), last(&found))
        });
        began.wait();
        home.commit_one(&note(author(2), 2, ""));
        let snapshot = home.store.read().expect("a snapshot");
        let later = last(&generation.inner.commit(&snapshot.txn).expect("a commit"));
        turn.wait();
        let (id, found) = earlier.join().expect("no panic");
        assert_eq!((found, later), ((id, Some(Seq(1))), (id + 1, Some(Seq(2)))));
        assert_eq!(last(&generation.inner.commit.load()), later);
    });
}
