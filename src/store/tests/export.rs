//! The walk from the oldest event returns the events of a scan in reverse.

use std::time::Duration;

use super::*;
use crate::nostr::{Filter, Kind};

pub(super) fn oldest_first(home: &Home, filters: &[Filter], rows: u32) -> Vec<Seq> {
    let mut walk = OldestFirst::new(filters.into());
    let mut seqs = Vec::new();
    let mut visitor = |seq: Seq, _: EventView<'_>| {
        seqs.push(seq);
        Flow::Continue
    };
    let budget = Budget { rows, time: Duration::MAX };
    loop {
        let snapshot = home.store.read().expect("a snapshot");
        if walk.run(&snapshot, budget, &mut visitor).expect("a slice") != Step::Paused {
            return seqs;
        }
    }
}

fn newest_first(home: &Home, filters: &[Filter], rows: u32) -> Vec<Seq> {
    scanned(home, filters, None, rows)
}

pub(super) fn scanned(home: &Home, filters: &[Filter], limits: Option<QueryLimits>, rows: u32) -> Vec<Seq> {
    let mut seqs = Vec::new();
    let mut visitor = |seq: Seq, _: EventView<'_>| {
        seqs.push(seq);
        Flow::Continue
    };
    let mut scan = Scan::new(Query { filters: filters.into(), until_seq: Seq::MAX, limits });
    let snapshot = home.store.read().expect("a snapshot");
    while scan.run(&snapshot, Budget { rows, time: Duration::MAX }, &mut visitor).expect("a scan") == Step::Paused {}
    assert!(scan.spent() >= seqs.len() as u64, "every event was looked at");
    seqs
}

#[test]
fn a_walk_is_the_reverse_of_a_scan_in_slices_of_any_size() {
    let home = home();
    let event = |n: u64| trusted(author(n % 3), (n % 4 + 40) as u16, n / 5, &[], &n.to_string());
    let batch: Vec<_> = (0..100).map(event).collect();
    home.commit(&batch);
    let all = Filter::default();
    let window = Filter { since: Some(Timestamp(3)), until: Some(Timestamp(12)), ..all.clone() };
    let kinds = Filter { kinds: Some([Kind(40), Kind(43)].into()), ..window.clone() };
    let never = Filter { since: Some(Timestamp(5)), until: Some(Timestamp(4)), ..all.clone() };
    let late = Filter { since: Some(Timestamp(15)), ..all.clone() };
    for filters in [&[all][..], &[window], &[never], &[kinds.clone(), late], &[kinds], &[]] {
        let mut expected = newest_first(&home, filters, u32::MAX);
        expected.reverse();
        for rows in [1, 7, u32::MAX] {
            assert_eq!(oldest_first(&home, filters, rows), expected, "{filters:?} in slices of {rows}");
        }
    }
}

#[test]
fn a_walk_resumes_at_its_place_while_events_are_added_and_removed() {
    let home = home();
    let events: Vec<_> = (0..20).map(|n| note(author(1), n, "x")).collect();
    home.commit(&events);
    let mut walk = OldestFirst::new([Filter::default()].into());
    let mut seqs = Vec::new();
    let budget = Budget { rows: 5, time: Duration::MAX };
    loop {
        let snapshot = home.store.read().expect("a snapshot");
        let mut visitor = |seq: Seq, _: EventView<'_>| {
            seqs.push(seq.0);
            Flow::Continue
        };
        let step = walk.run(&snapshot, budget, &mut visitor).expect("a slice");
        drop(snapshot);
        if step != Step::Paused {
            break;
        }
        // Removes the row where the walk stands, the one before and the one after; adds one before and one after.
        if seqs.len() == 5 {
            let gone = [Seq(5), Seq(7), Seq(2)];
            assert_eq!(home.store.writer().remove(&gone, Return::Allowed).expect("a commit").events, 3);
            home.commit(&[note(author(2), 1, "y"), note(author(2), 15, "y")]);
        }
    }
    let expected: Vec<u64> = [1, 2, 3, 4, 5, 6].into_iter().chain(8..=20).collect();
    let without_late: Vec<u64> = seqs.iter().copied().filter(|&seq| seq <= 20).collect();
    assert_eq!(without_late, expected);
    assert_eq!(seqs.iter().filter(|&&seq| seq > 20).collect::<Vec<_>>(), [&22]);
}

#[test]
fn events_of_one_second_whose_ids_begin_alike_are_sorted_by_id() {
    let home = home();
    // These arrive in another order than that of their ids, among events whose ids begin with other bytes.
    let begin = |n: u8| if n.is_multiple_of(4) { n } else { 100 };
    let id = |n: u8| std::array::from_fn(|at| if at < 8 { begin(n) } else { n.wrapping_mul(37) });
    let records: Vec<_> = (0..40).map(|n| super::damage::forged(id(n), 100)).collect();
    home.admit(&records);

    let mut expected: Vec<([u8; 32], Seq)> = (0..40).map(|n| (id(n), Seq(u64::from(n) + 1))).collect();
    expected.sort_unstable();
    let mut expected: Vec<Seq> = expected.into_iter().map(|(_, seq)| seq).collect();
    let authors = Filter { authors: Some([author(1)].into()), ..Filter::default() };
    for filters in [&[Filter::default()][..], &[authors.clone(), Filter::default()], &[authors]] {
        assert_eq!(newest_first(&home, filters, u32::MAX), expected);
        assert_eq!(newest_first(&home, filters, 1), expected, "a row in each slice");
    }
    let limited = Filter { limit: Some(20), ..Filter::default() };
    let limits = QueryLimits { default_limit: 500, max_limit: 500, hints: false, tie_extension: 0 };
    assert_eq!(scanned(&home, &[limited], Some(limits), 1), expected[..20]);
    expected.reverse();
    for rows in [1, 7, u32::MAX] {
        assert_eq!(oldest_first(&home, &[Filter::default()], rows), expected, "in slices of {rows}");
    }
}
