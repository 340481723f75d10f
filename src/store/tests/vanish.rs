//! Requests to vanish (NIP-62).

use super::*;

fn request(by: Pubkey, at: u64) -> VerifiedEvent {
    trusted(by, 62, at, &[&["relay", "ALL_RELAYS"]], "")
}

fn purge(home: &Home, max_rows: usize) -> usize {
    let mut writer = home.store.writer();
    let mut steps = 1;
    while writer.purge_vanished(max_rows).expect("a commit") {
        steps += 1;
        assert!(steps < 1000, "the purge ends");
        home.assert_clean();
    }
    steps
}

#[test]
fn a_vanish_request_hides_its_events_at_once_and_purges_them_in_steps() {
    for max_rows in [1, 2, 100] {
        let home = home();
        let gone = author(1);
        let covered = [
            note(gone, 100, "a"),
            note(gone, 200, "b"),
            trusted(gone, 0, 150, &[], ""),
            trusted(gone, 5, 120, &[&["e", &"ab".repeat(32)]], ""),
        ];
        let kept = [note(gone, 201, "newer"), note(author(2), 100, "another's")];
        home.commit(&[&covered[..], &kept[..]].concat());
        let request = request(gone, 200);
        assert_eq!(home.commit_one(&request), Outcome::Stored(Seq(7)));
        let check = || {
            assert!(covered.iter().all(|event| !home.holds(event)));
            assert!(kept.iter().all(|event| home.holds(event)) && home.holds(&request));
            assert_eq!(home.commit(&covered), [Outcome::Vanished; 4]);
            assert!(covered.iter().all(|event| home.status(event) == Known::Vanished));
        };
        check();
        assert_eq!(home.assert_clean().awaiting_purge, 4);
        purge(&home, max_rows);
        check();
        let report = home.assert_clean();
        assert_eq!((report.events, report.awaiting_purge), (3, 0));
        assert!(!home.store.writer().purge_vanished(1).expect("a commit"), "the purge is complete");
    }
}

#[test]
fn a_purge_continues_after_a_restart() {
    let home = home();
    home.commit(&(0..10).map(|n| note(author(1), n, "")).collect::<Vec<_>>());
    home.commit_one(&request(author(1), 100));
    assert!(home.store.writer().purge_vanished(3).expect("a commit"));
    let Home { store, dir } = home;
    drop(store);
    let home = Home { store: Store::open(dir.path(), options()).expect("the same store"), dir };
    assert_eq!(home.assert_clean().awaiting_purge, 7);
    purge(&home, 3);
    assert_eq!(home.assert_clean().events, 1);
}

#[test]
fn events_newer_than_a_vanish_request_are_stored_after_it() {
    let home = home();
    home.commit_one(&request(author(1), 200));
    assert_eq!(home.commit(&[note(author(1), 200, ""), note(author(1), 201, "")])[0], Outcome::Vanished);
    assert!(home.holds(&note(author(1), 201, "")));
    purge(&home, 10);
    assert!(home.holds(&note(author(1), 201, "")));
    home.assert_clean();
}

#[test]
fn gift_wraps_are_purged_by_arrival_and_stay_out() {
    let home = home();
    let gone = author(1);
    let day = 86_400;
    let wrap = |at, content| trusted(author(7), 1059, at, &[&["p", &gone.to_string()]], content);
    let (early, other) = (wrap(100 * day, "early"), trusted(author(7), 1059, 1, &[&["p", &author(3).to_string()]], ""));
    let mention = trusted(author(7), 1, 1, &[&["p", &gone.to_string()]], "");
    home.commit(&[early.clone(), other.clone(), mention.clone()]);
    home.commit_one(&request(gone, 100 * day));
    // Wraps are dated up to two days back, so this one may be younger than the request.
    let fresh = wrap(99 * day, "fresh");
    assert!(matches!(home.commit_one(&fresh), Outcome::Stored(_)));
    assert_eq!(home.commit_one(&wrap(98 * day, "old")), Outcome::Vanished);
    let check = || {
        assert!(!home.holds(&early));
        assert!(home.holds(&fresh) && home.holds(&other) && home.holds(&mention));
    };
    check();
    assert_eq!(home.commit_one(&early), Outcome::Vanished);
    purge(&home, 1);
    check();
    assert_eq!(home.commit_one(&early), Outcome::Deleted);
    home.assert_clean();
}

#[test]
fn a_later_vanish_request_covers_more_and_an_older_one_changes_nothing() {
    let home = home();
    let gone = author(1);
    home.commit(&[note(gone, 100, ""), note(gone, 200, "")]);
    home.commit_one(&request(gone, 150));
    assert!(home.holds(&note(gone, 200, "")));
    home.commit_one(&request(gone, 250));
    assert!(!home.holds(&note(gone, 200, "")));
    purge(&home, 1);
    let wrap = trusted(author(7), 1059, 200, &[&["p", &gone.to_string()]], "");
    home.commit_one(&wrap);
    // Somebody replays an old request to remove the wraps that arrived since.
    home.commit_one(&request(gone, 140));
    assert!(!home.store.writer().purge_vanished(9).expect("a commit"));
    assert!(home.holds(&wrap));
    assert_eq!(home.commit_one(&note(gone, 250, "")), Outcome::Vanished);
    home.assert_clean();
}

#[test]
fn the_deletions_of_a_vanished_author_stay_in_force() {
    let home = home();
    let target = note(author(1), 300, "");
    let deletion = trusted(author(1), 5, 100, &[&["e", &id(&target)]], "");
    home.commit(&[deletion.clone(), request(author(1), 200)]);
    purge(&home, 1);
    assert!(!home.holds(&deletion));
    assert_eq!(home.commit_one(&target), Outcome::Deleted);
    home.assert_clean();
}

#[test]
fn a_key_with_the_same_first_bytes_does_not_vanish_too() {
    let home = home();
    let mut twin = author(1);
    twin.0[31] ^= 1;
    home.commit(&[note(author(1), 1, ""), note(twin, 1, "")]);
    home.commit_one(&request(author(1), 200));
    purge(&home, 1);
    assert!(home.holds(&note(twin, 1, "")) && !home.holds(&note(author(1), 1, "")));
    home.assert_clean();
}
