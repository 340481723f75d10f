//! Groups: acknowledged events are stored, whether the commit succeeds or not.

use super::*;
use crate::store::file::wal::{FRAME, LOG_FILE};

/// Outcomes of a batch, and whether they are durable at once.
type Answer = (Vec<Outcome>, bool);

/// A group that gets these batches and then ends with `end`.
fn group(
    home: &Home,
    batches: &[&[VerifiedEvent]],
    end: Result<(), StoreError>,
) -> (Vec<Answer>, Result<(), StoreError>) {
    let mut added = Vec::new();
    let result = home.store.writer().group(|group| {
        for batch in batches {
            let AddedBatch { outcomes, is_durable, .. } = group.add(batch, NOW, Evicted::default())?;
            added.push((outcomes, is_durable));
        }
        end
    });
    (added, result)
}

fn stored(seqs: std::ops::RangeInclusive<u64>) -> Vec<Outcome> {
    seqs.map(|seq| Outcome::Stored(Seq(seq))).collect()
}

fn notes(from: u64, count: u64) -> Vec<VerifiedEvent> {
    (from..from + count).map(|at| note(author(at % 3), at, "a note")).collect()
}

#[test]
fn batches_of_a_group_are_durable_at_once_and_readable_after_its_commit() {
    let home = home();
    let (first, second) = (notes(1, 3), notes(3, 3));
    let mut seen = Vec::new();
    let result = home.store.writer().group(|group| {
        for batch in [&first, &second] {
            let AddedBatch { outcomes, is_durable, removed, .. } = group.add(batch, NOW, Evicted::default())?;
            assert!(is_durable && removed.is_empty());
            seen.push(outcomes);
        }
        Ok(())
    });
    result.expect("a commit");
    let again = [vec![Outcome::Duplicate], stored(4..=5)].concat();
    assert_eq!(seen, [stored(1..=3), again]);
    assert!(first.iter().chain(&second).all(|event| home.holds(event)));
    home.assert_clean();
}

#[test]
fn the_next_transaction_adds_the_durable_batches_of_a_group_whose_commit_failed() {
    let home = home();
    let profile = trusted(author(1), 0, 10, &[], "old");
    home.commit_one(&profile);
    let newer = trusted(author(1), 0, 20, &[], "new");
    let deletion = trusted(author(2), 5, 30, &[&["e", &"ab".repeat(32)]], "");
    let (added, result) = group(&home, &[&notes(1, 2), &[newer.clone(), deletion.clone()]], Err(StoreError::Full));
    assert_eq!(added, [(stored(2..=3), true), (stored(4..=5), true)]);
    assert!(matches!(result, Err(StoreError::Full)));
    assert!(home.holds(&profile) && !home.holds(&newer), "nothing is committed yet");

    assert_eq!(
        home.commit(&notes(2, 2)),
        [Outcome::Duplicate, Outcome::Stored(Seq(6))],
        "the arrival numbers are the same"
    );
    assert!(!home.holds(&profile) && home.holds(&newer) && home.holds(&deletion));
    home.assert_clean();
}

/// Its numbers were told to subscribers, so they must not be given again.
#[test]
fn a_log_of_what_the_store_still_holds_is_not_overwritten_before_a_commit() {
    let home = home();
    let event = note(author(1), 1, "evicted, and published again");
    home.commit_one(&event);
    let result = home.store.writer().group(|group| {
        group.evict(Evicted { seqs: &[Seq(1)], horizons: None })?;
        let AddedBatch { outcomes, is_durable, .. } =
            group.add(std::slice::from_ref(&event), NOW, Evicted::default())?;
        assert_eq!((outcomes, is_durable), (stored(2..=2), true));
        Err::<(), _>(StoreError::Full)
    });
    assert!(matches!(result, Err(StoreError::Full)));
    let (added, _) = group(&home, &[&notes(10, 1)], Err(StoreError::Full));
    assert_eq!(added, [(stored(3..=3), false)]);
    assert_eq!(home.commit(&notes(20, 1)), stored(3..=3));
    assert!(home.holds(&event));
    home.assert_clean();
}

#[test]
fn opening_a_store_recovers_the_events_that_a_dead_process_acknowledged() {
    let home = home();
    let events = notes(1, 40);
    let (added, _) = group(&home, &[&events[..20], &events[20..]], Err(StoreError::Full));
    assert_eq!(added, [(stored(1..=20), true), (stored(21..=40), true)]);
    let Home { store, dir } = home;
    drop(store);
    let home = Home { store: Store::open(dir.path(), options()).expect("the store"), dir };
    assert!(events.iter().all(|event| home.holds(event)));
    assert_eq!(home.store.read().expect("a snapshot").last_seq().expect("a number"), Seq(40));
    home.assert_clean();
    home.store.checkpoint().expect("nothing is left");
    assert_eq!(home.assert_clean().events, 40);
}

/// As after a power cut that took commits whose meta page was not waited for: the log is of a later transaction.
#[test]
fn what_a_power_cut_took_with_commits_before_it_does_not_return() {
    let home = home();
    home.commit_one(&note(author(1), 1, "before"));
    let lost = notes(10, 2);
    let path = home.dir.path().join(LOG_FILE);
    let earlier = tempfile::tempdir().expect("a directory");
    std::fs::copy(home.dir.path().join("data.mdb"), earlier.path().join("data.mdb")).expect("a copy");
    home.commit_one(&note(author(1), 2, "a commit that is lost"));
    drop(group(&home, &[&lost], Err(StoreError::Full)));
    std::fs::copy(&path, earlier.path().join(LOG_FILE)).expect("a copy");
    let home = Home { store: Store::open(earlier.path(), options()).expect("the store"), dir: earlier };
    // The lost commit's number, and then that of the log's frames.
    home.commit_one(&note(author(1), 3, "after"));
    home.commit_one(&note(author(1), 4, "after"));
    assert_eq!(lost.iter().map(|event| home.holds(event)).collect::<Vec<_>>(), [false, false]);
    assert_eq!(home.assert_clean().events, 3);
}

#[test]
fn a_truncated_frame_loses_only_its_own_batch() {
    let home = home();
    let (first, second) = (notes(1, 2), notes(10, 2));
    drop(group(&home, &[&first, &second], Err(StoreError::Full)));
    let path = home.dir.path().join(LOG_FILE);
    let mut log = std::fs::read(&path).expect("the log");
    let at = FRAME + first.iter().map(|event| event.view().record().len() + 4).sum::<usize>();
    log[at + FRAME + 50] ^= 1;
    std::fs::write(&path, log).expect("the log");
    home.store.checkpoint().expect("a commit");
    let held: Vec<bool> = first.iter().chain(&second).map(|event| home.holds(event)).collect();
    assert_eq!(held, [true, true, false, false]);
    home.assert_clean();
}

#[test]
fn a_batch_that_the_log_cannot_take_is_durable_with_the_commit() {
    let home = home();
    let long = "x".repeat(1 << 20);
    let large: Vec<_> = (1..=3).map(|at| note(author(1), at, &long)).collect();
    let (added, result) = group(&home, &[&notes(50, 1), &large], Ok(()));
    result.expect("a commit");
    assert_eq!(added, [(stored(1..=1), true), (stored(2..=4), false)]);
    assert!(large.iter().all(|event| home.holds(event)));
    home.assert_clean();
}

#[test]
fn near_the_limit_events_are_acknowledged_only_after_their_commit() {
    let home = home();
    home.commit(&notes(1, 100));
    let used = home.store.room().expect("the room").used_bytes;
    home.store.set_full(Full { used_bytes: used + 300, ..Full::NEVER });
    let (added, _) = group(&home, &[&notes(200, 1)], Ok(()));
    assert_eq!(added, [(stored(101..=101), false)]);
    home.store.set_full(Full { used_bytes: used / 2, ..Full::NEVER });
    let deletion = trusted(author(2), 5, 30, &[&["e", &"ab".repeat(32)]], "");
    let (added, _) = group(&home, &[&[note(author(1), 300, ""), deletion]], Ok(()));
    assert_eq!(added, [(vec![Outcome::Full, Outcome::Stored(Seq(102))], false)]);
    home.assert_clean();
}

#[test]
fn a_group_returns_the_records_that_it_removes() {
    let home = home();
    let [old, new] = [trusted(author(1), 0, 10, &[], "old"), trusted(author(1), 0, 20, &[], "new")];
    let gone = note(author(1), 5, "");
    home.commit(&[old.clone(), gone.clone()]);
    let deletion = trusted(author(1), 5, 30, &[&["e", &id(&gone)]], "");
    let removed = home
        .store
        .writer()
        .group(|group| Ok(group.add(&[new, deletion], NOW, Evicted::default())?.removed))
        .expect("a commit");
    assert_eq!(removed, [old.view().record().into(), gone.view().record().into()] as [Box<[u8]>; 2]);
}

#[test]
fn a_move_keeps_acknowledged_events() {
    let home = home();
    let (first, second) = (notes(1, 5), notes(10, 5));
    drop(group(&home, &[&first], Err(StoreError::Full)));
    let mut copy = Compaction::begin(&home.store).expect("a copy");
    drop(group(&home, &[&second], Err(StoreError::Full)));
    while copy.step().expect("a step") != Stage::Ready {}
    let third = notes(20, 5);
    let (added, _) = group(&home, &[&third], Err(StoreError::Full));
    assert_eq!(added, [(stored(11..=15), false)], "records left in the log must not be overwritten");
    home.store.checkpoint().expect("a commit");
    let (added, _) = group(&home, &[&third], Err(StoreError::Full));
    assert_eq!(added, [(stored(11..=15), true)]);
    copy.finish().expect("a move");
    assert!(first.iter().chain(&second).chain(&third).all(|event| home.holds(event)));
    assert_eq!(home.assert_clean().events, 15);
    let (added, result) = group(&home, &[&notes(30, 1)], Ok(()));
    result.expect("a commit in the new file");
    assert_eq!(added, [(stored(16..=16), true)]);
}

#[test]
fn a_store_without_room_for_its_log_opens_and_recovers_the_log_when_there_is_room() {
    let home = home();
    let [first, ..] = &notes(1, 1)[..] else { unreachable!() };
    home.commit_one(first);
    let long = "x".repeat(10_000);
    let events: Vec<_> = (1..=150).map(|at| note(author(1), at, &long)).collect();
    let (added, _) = group(&home, &[&events], Err(StoreError::Full));
    assert_eq!(added, [(stored(2..=151), true)]);
    let Home { store, dir } = home;
    drop(store);
    let open = |map_bytes| Store::open(dir.path(), Options { map_bytes, ..options() }).expect("the store");
    let store = open(1 << 20);
    assert!(store.read().expect("a snapshot").contains(&first.view().id()).expect("a look"));
    let result = store.writer().commit(&notes(500, 1), NOW);
    assert!(matches!(result, Err(StoreError::Full)), "acknowledged events are not displaced");
    drop(store);
    let home = Home { store: open(1 << 30), dir };
    assert!(events.iter().all(|event| home.holds(event)));
    home.assert_clean();
}
