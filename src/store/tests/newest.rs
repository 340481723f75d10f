//! A feed opens only the ranges that its answer comes down to, and misses nothing that a commit adds or removes.

use super::*;
use crate::nostr::{Filter, Kind, VerifiedEvent};

const AUTHORS: u64 = 50;

fn store() -> Home {
    home_with(Options { newest_times_bytes: 1 << 16, ..options() })
}

/// Rows of a feed of everybody, by their times, and the ranges that were opened for it.
fn ask(home: &Home, filter: &Filter) -> (Vec<u64>, u64) {
    let limits = QueryLimits { default_limit: 500, max_limit: 500, hints: false, tie_extension: 0 };
    let mut scan = Scan::new(Query { filters: [filter.clone()].into(), until_seq: Seq::MAX, limits: Some(limits) });
    let snapshot = home.store.read().expect("a snapshot");
    let mut times = Vec::new();
    let mut take = |_: Seq, event: EventView<'_>| {
        times.push(event.created_at().0);
        Flow::Continue
    };
    let step = scan.run(&snapshot, Budget::UNLIMITED, &mut take).expect("a scan");
    assert!(matches!(step, Step::Done { .. }));
    (times, scan.opened())
}

fn feed(limit: u32) -> Filter {
    let mut authors: Vec<Pubkey> = (0..AUTHORS).map(author).collect();
    authors.sort_unstable();
    Filter {
        authors: Some(authors.into()),
        kinds: Some([Kind(1), Kind(6)].into()),
        limit: Some(limit),
        ..Filter::default()
    }
}

/// Everybody wrote a note long ago, and three authors wrote lately.
fn history(home: &Home) {
    let old = (0..AUTHORS).map(|n| note(author(n), 1_000 + n, ""));
    let new = (0..9).map(|n| note(author(n % 3), 5_000 + n, ""));
    // Others fill the time between, so that a walk through the newest notes does not pay.
    let others = (0..400).map(|n| note(author(1_000 + n), 6_000 + n, ""));
    home.commit(&old.chain(new).chain(others).collect::<Vec<VerifiedEvent>>());
}

#[test]
fn a_second_feed_opens_only_the_ranges_that_it_returns() {
    let home = store();
    history(&home);
    let newest: Vec<u64> = (5_000..5_009).rev().collect();
    let (times, opened) = ask(&home, &feed(9));
    assert_eq!(times, newest);
    assert!(opened >= 2 * AUTHORS, "nothing is known yet: {opened}");
    assert_eq!(ask(&home, &feed(9)), (newest.clone(), 3));
    // One row more is the newest of those who wrote long ago.
    let ten: Vec<u64> = newest.iter().copied().chain([1_000 + AUTHORS - 1]).collect();
    assert_eq!(ask(&home, &feed(10)), (ten, 4));
    let since = Filter { since: Some(Timestamp(5_000)), ..feed(400) };
    assert_eq!(ask(&home, &since), (newest, 3));
}

#[test]
fn a_commit_raises_what_is_known_of_authors_with_and_without_events() {
    let home = store();
    history(&home);
    ask(&home, &feed(9));
    // A repost by an author who had none, and a note by a quiet one.
    home.commit(&[trusted(author(20), 6, 7_000, &[], ""), note(author(30), 7_001, "")]);
    assert_eq!(ask(&home, &feed(3)), (vec![7_001, 7_000, 5_008], 3));
    // An older event leaves the bound as it is.
    home.commit_one(&note(author(30), 900, ""));
    assert_eq!(ask(&home, &feed(3)), (vec![7_001, 7_000, 5_008], 3));
}

#[test]
fn a_removal_leaves_a_bound_too_high_until_the_next_feed_opens_the_range() {
    let home = store();
    history(&home);
    ask(&home, &feed(9));
    home.commit_one(&note(author(30), 7_000, ""));
    let seq = home.store.read().expect("a snapshot").last_seq().expect("a number");
    home.store.writer().remove(&[seq], Return::Allowed).expect("a commit");
    assert_eq!(ask(&home, &feed(1)), (vec![5_008], 2));
    assert_eq!(ask(&home, &feed(1)), (vec![5_008], 1));
}

#[test]
fn profiles_of_authors_without_one_are_not_looked_up_again() {
    let home = store();
    // Others fill the time after, so that a walk through the newest profiles does not pay.
    let others = (0..400).map(|n| trusted(author(1_000 + n), 0, 6_000 + n, &[], ""));
    let own = (0..5).map(|n| trusted(author(n), 0, 1_000 + n, &[], ""));
    home.commit(&own.chain(others).collect::<Vec<_>>());
    let profiles = Filter { kinds: Some([Kind(0)].into()), limit: None, ..feed(0) };
    let expected: Vec<u64> = (1_000..1_005).rev().collect();
    assert_eq!(ask(&home, &profiles).0, expected);
    assert_eq!(ask(&home, &profiles), (expected.clone(), 5));
    home.commit_one(&trusted(author(9), 0, 500, &[], ""));
    assert_eq!(ask(&home, &profiles), ([expected, vec![500]].concat(), 6));
}

#[test]
fn a_commit_around_the_table_ends_what_it_knows() {
    let home = store();
    history(&home);
    ask(&home, &feed(9));
    let before = home.store.newest_counts();
    // As another process would commit.
    let generation = home.store.generation();
    let mut txn = generation.write_txn().expect("the lock");
    let next = generation.inner.tables.next_seq(&txn).expect("a number");
    generation.inner.tables.put_next_seq(&mut txn, next).expect("a row");
    txn.commit().expect("a commit");
    assert!(ask(&home, &feed(9)).1 >= 2 * AUTHORS, "the snapshot is not covered");
    assert_eq!(home.store.newest_counts(), before);
    home.commit_one(&note(author(30), 7_000, ""));
    assert_eq!(home.store.newest_counts().resets, before.resets + 1);
    assert_eq!(ask(&home, &feed(2)).0, [7_000, 5_008]);
    assert_eq!(ask(&home, &feed(2)), (vec![7_000, 5_008], 2));
}

#[test]
fn what_a_repair_adds_is_known() {
    let home = store();
    history(&home);
    home.commit_one(&note(author(30), 7_000, ""));
    let seq = home.store.read().expect("a snapshot").last_seq().expect("a number");
    let generation = home.store.generation();
    let event = note(author(30), 7_000, "");
    let mut txn = generation.write_txn().expect("the lock");
    keys::index_entries(event.view(), seq, home.store.secret(), |index, key| {
        if [keys::Index::Author, keys::Index::Kind].contains(&index) {
            generation.inner.tables.index(index).delete(&mut txn, key).expect("a row");
        }
    });
    txn.commit().expect("a commit");
    home.commit_one(&note(author(31), 10, ""));
    assert_eq!(ask(&home, &feed(1)).0, [5_008]);
    assert_eq!(ask(&home, &feed(1)), (vec![5_008], 1));
    home.store.writer().repair(100, |_| {}).expect("a repair");
    assert_eq!(ask(&home, &feed(1)).0, [7_000]);
}
