//! Arrival times: correct to the minute, and never earlier than the arrival.

use super::compact::dump;
use super::*;

const MINUTE: u64 = 60;

fn at(home: &Home, seconds: u64, count: u64) {
    let events: Vec<_> = (0..count).map(|n| note(author(n), seconds, &format!("{seconds} {n}"))).collect();
    home.store.writer().commit(&events, Timestamp(NOW.0 + seconds)).expect("a commit");
}

/// Upkeep, which a relay does every few seconds.
fn upkeep(home: &Home, seconds: u64) {
    home.store.writer().reap_expired(Timestamp(NOW.0 + seconds), 1).expect("upkeep");
}

/// The rows, in seconds.
fn rows(store: &Store) -> Vec<(u64, u64)> {
    let rows = store.read().expect("a snapshot").arrival_times().expect("rows");
    rows.iter().map(|row| (row.by.0 - NOW.0, row.below.0)).collect()
}

fn arrived_before(home: &Home, seconds: u64) -> u64 {
    home.store.read().expect("a snapshot").arrived_before(Timestamp(NOW.0 + seconds)).expect("a number").0
}

#[test]
fn arrival_times_are_recorded_once_a_minute_and_only_for_new_events() {
    let home = home();
    upkeep(&home, 0);
    at(&home, 10, 3);
    assert_eq!(rows(&home.store), [], "no event had arrived before");
    at(&home, 20, 2);
    at(&home, 79, 2);
    assert_eq!(rows(&home.store), [(20, 4)]);
    upkeep(&home, 85);
    upkeep(&home, 85 + MINUTE);
    assert_eq!(rows(&home.store), [(20, 4), (85, 8)]);
    assert_eq!([20, 21, 85, 86, 1000].map(|seconds| arrived_before(&home, seconds)), [0, 4, 4, 8, 8]);
}

#[test]
fn a_clock_that_was_ahead_makes_no_event_older() {
    let home = home();
    at(&home, 0, 3);
    upkeep(&home, MINUTE);
    at(&home, 5000, 3);
    upkeep(&home, 9000);
    assert_eq!(rows(&home.store), [(60, 4), (9000, 7)]);
    // The clock is corrected.
    at(&home, 200, 2);
    assert_eq!(rows(&home.store), [(60, 4), (200, 7)]);
    upkeep(&home, 300);
    assert_eq!(rows(&home.store), [(60, 4), (200, 7), (300, 9)]);
}

#[test]
fn events_from_before_the_first_row_count_as_arrived_with_it() {
    let home = home();
    at(&home, 0, 5);
    upkeep(&home, MINUTE);
    // An earlier version wrote no rows.
    home.store.writer().put_arrival_times(&[]).expect("a commit");
    assert_eq!((rows(&home.store), arrived_before(&home, 1000)), (vec![], 0));
    upkeep(&home, 2000);
    assert_eq!([2000, 2001].map(|seconds| arrived_before(&home, seconds)), [0, 6]);
}

#[test]
fn events_recovered_from_a_dead_process_count_as_arrived_at_their_recovery() {
    let home = home();
    at(&home, 0, 2);
    upkeep(&home, MINUTE);
    let acknowledged = note(author(1), 1, "acknowledged");
    let killed: Result<(), _> = home.store.writer().group(|group| {
        let now = Timestamp(NOW.0 + 5000);
        assert!(group.add(std::slice::from_ref(&acknowledged), now, Evicted::default())?.is_durable);
        Err(StoreError::Busy)
    });
    assert!(matches!(killed, Err(StoreError::Busy)));
    at(&home, 9000, 1);
    upkeep(&home, 9100);
    assert_eq!(rows(&home.store), [(60, 3), (9100, 5)]);
}

#[test]
fn compaction_keeps_arrival_times() {
    let home = home();
    for minute in 0..200 {
        at(&home, minute * MINUTE, 3);
    }
    let before = (rows(&home.store), dump(&home.store));
    assert!(before.0.len() > 100);
    let mut compaction = Compaction::begin(&home.store).expect("it begins");
    while compaction.step().expect("a step") != Stage::Ready {}
    compaction.finish().expect("the store moves");
    assert_eq!((rows(&home.store), dump(&home.store)), before);
    home.assert_clean();
}
