//! Replaceable and addressable events (NIP-01).

use super::*;

/// Two versions with the same `created_at`, the lower id first.
fn tie(kind: u16, created_at: u64, tags: &[&[&str]]) -> [VerifiedEvent; 2] {
    let mut both = ["a", "b"].map(|content| trusted(author(1), kind, created_at, tags, content));
    both.sort_by_key(|event| event.view().id());
    both
}

#[test]
fn only_the_newest_version_is_held_whatever_the_order() {
    for kind in [0, 3, 10_002, 30_023] {
        let [old, new] = [100, 200].map(|at| trusted(author(1), kind, at, &[&["d", "x"]], ""));
        for batches in
            [vec![vec![&old, &new]], vec![vec![&new, &old]], vec![vec![&old], vec![&new]], vec![vec![&new], vec![&old]]]
        {
            let home = home();
            for batch in batches {
                home.commit(&batch.into_iter().cloned().collect::<Vec<_>>());
            }
            assert!(home.holds(&new) && !home.holds(&old), "kind {kind}");
            assert_eq!(home.commit_one(&old), Outcome::Replaced);
            assert_eq!(home.status(&old), Known::Superseded);
            assert_eq!(home.assert_clean().events, 1);
        }
    }
}

#[test]
fn of_two_versions_with_one_time_the_lowest_id_stays() {
    for tags in [&[][..], &[&["d", "x"][..]][..]] {
        let [low, high] = tie(30_000, 100, tags);
        let home = home();
        assert_eq!(home.commit_one(&high), Outcome::Stored(Seq(1)));
        assert_eq!(home.status(&low), Known::New);
        assert_eq!(home.commit_one(&low), Outcome::Stored(Seq(2)));
        assert_eq!(home.commit_one(&high), Outcome::Replaced);
        assert!(home.holds(&low) && !home.holds(&high));
        home.assert_clean();
    }
}

#[test]
fn addressable_events_differ_by_their_first_d_and_no_d_is_an_empty_one() {
    let home = home();
    let version = |tags: &[&[&str]], at| trusted(author(1), 30_000, at, tags, "");
    let hex = "0f".repeat(32);
    let batch = [
        version(&[], 1),
        version(&[&["d"]], 2),
        version(&[&["d", ""]], 3),
        version(&[&["d", "x"], &["d", "y"]], 4),
        version(&[&["d", "y"]], 5),
        version(&[&["d", &hex]], 6),
        version(&[&["d", &hex.to_uppercase()]], 7),
    ];
    assert_eq!(home.commit(&batch), (1..=7).map(|n| Outcome::Stored(Seq(n))).collect::<Vec<_>>());
    assert_eq!(
        batch.iter().map(|event| home.holds(event)).collect::<Vec<_>>(),
        [false, false, true, true, true, true, true]
    );
    assert_eq!(home.assert_clean().holders, 5);
}

#[test]
fn replaceable_kinds_ignore_d_and_keep_authors_and_kinds_apart() {
    let home = home();
    let batch = [
        trusted(author(1), 10_000, 1, &[&["d", "x"]], ""),
        trusted(author(1), 10_000, 2, &[&["d", "y"]], ""),
        trusted(author(1), 10_001, 1, &[], ""),
        trusted(author(2), 10_000, 1, &[], ""),
    ];
    home.commit(&batch);
    assert_eq!(batch.iter().map(|event| home.holds(event)).collect::<Vec<_>>(), [false, true, true, true]);
    home.assert_clean();
}

#[test]
fn kind_41_and_unplaced_kinds_are_regular() {
    let home = home();
    for kind in [41, 45, 999, 40_000, 65_535] {
        let batch = [1, 2].map(|at| trusted(author(1), kind, at, &[], ""));
        home.commit(&batch);
        assert!(batch.iter().all(|event| home.holds(event)), "kind {kind}");
    }
    home.assert_clean();
}
