//! Deletion requests (NIP-09) and the events that they keep out.

use super::*;

fn delete(by: Pubkey, at: u64, tags: &[&[&str]]) -> VerifiedEvent {
    trusted(by, 5, at, tags, "")
}

fn address(kind: u16, by: Pubkey, d: &str) -> String {
    format!("{kind}:{by}:{d}")
}

#[test]
fn a_deletion_and_its_target_in_one_batch_end_the_same_in_either_order() {
    let target = note(author(1), 100, "");
    let request = delete(author(1), 50, &[&["e", &id(&target)]]);
    for batch in [[target.clone(), request.clone()], [request.clone(), target.clone()]] {
        let home = home();
        home.commit(&batch);
        assert!(!home.holds(&target) && home.holds(&request));
        assert_eq!(home.commit_one(&target), Outcome::Deleted);
        assert_eq!(home.status(&target), Known::Deleted);
        home.assert_clean();
    }
}

#[test]
fn a_deleted_event_stays_out_after_a_restart() {
    let home = home();
    let target = note(author(1), 100, "");
    home.commit(&[target.clone(), delete(author(1), 200, &[&["e", &id(&target)]])]);
    let Home { store, dir } = home;
    drop(store);
    let home = Home { store: Store::open(dir.path(), options()).expect("the same store"), dir };
    assert_eq!(home.commit_one(&target), Outcome::Deleted);
    assert_eq!(home.commit_one(&note(author(1), 300, "")), Outcome::Stored(Seq(3)), "INV-4");
    home.assert_clean();
}

#[test]
fn nobody_deletes_the_events_of_others_seen_or_not() {
    let home = home();
    let [seen, unseen] = [note(author(1), 1, "seen"), note(author(1), 1, "unseen")];
    home.commit_one(&seen);
    let alone = delete(author(2), 9, &[&["e", &id(&seen)]]);
    assert_eq!(home.commit_one(&alone), Outcome::InvalidDeletion);
    assert!(!home.holds(&alone));
    // The unseen event could be the author's, so the request is stored; it keeps out no event of another author.
    let mixed = delete(author(2), 9, &[&["e", &id(&seen)], &["e", &id(&unseen)]]);
    assert_eq!(home.commit_one(&mixed), Outcome::Stored(Seq(2)));
    assert_eq!(home.commit_one(&unseen), Outcome::Stored(Seq(3)));
    assert!(home.holds(&seen) && home.holds(&unseen));
    home.assert_clean();
}

#[test]
fn a_deletion_that_names_nothing_or_only_foreign_addresses_is_invalid() {
    let home = home();
    let foreign = address(30_000, author(2), "x");
    let regular = address(1, author(1), "");
    let cases: [&[&[&str]]; 6] =
        [&[], &[&["p", "x"]], &[&["e", "xyz"]], &[&["a", "30000"]], &[&["a", &foreign]], &[&["a", &regular]]];
    for tags in cases {
        assert_eq!(home.commit_one(&delete(author(1), 9, tags)), Outcome::InvalidDeletion, "{tags:?}");
    }
    let own = address(30_000, author(1), "x");
    assert_eq!(home.commit_one(&delete(author(1), 9, &[&["a", &foreign], &["a", &own]])), Outcome::Stored(Seq(1)));
}

#[test]
fn a_deletion_by_address_removes_versions_up_to_its_time_and_lets_newer_ones_in() {
    let hex = "0f".repeat(32);
    for (kind, d) in [(0, ""), (3, ""), (10_002, ""), (30_023, ""), (30_023, "x"), (30_023, "a:b"), (30_023, &*hex)] {
        let home = home();
        let version = |at| trusted(author(1), kind, at, &[&["d", d]], "");
        home.commit_one(&version(100));
        let request = delete(author(1), 200, &[&["a", &address(kind, author(1), d)]]);
        assert_eq!(home.commit_one(&request), Outcome::Stored(Seq(2)));
        assert!(!home.holds(&version(100)), "kind {kind}, d {d:?}");
        assert_eq!(home.commit(&[version(100), version(150), version(200)]), [Outcome::Deleted; 3]);
        assert_eq!(home.commit_one(&version(201)), Outcome::Stored(Seq(3)));
        // An older deletion changes nothing.
        home.commit_one(&delete(author(1), 90, &[&["a", &address(kind, author(1), d)]]));
        assert_eq!(home.commit_one(&version(200)), Outcome::Deleted);
        assert!(home.holds(&version(201)));
        home.assert_clean();
    }
}

#[test]
fn a_deletion_by_address_without_the_last_colon_counts_for_replaceable_kinds() {
    let home = home();
    let profile = trusted(author(1), 0, 100, &[], "");
    home.commit_one(&profile);
    home.commit_one(&delete(author(1), 200, &[&["a", &format!("0:{}", author(1))]]));
    assert!(!home.holds(&profile));
}

#[test]
fn an_older_version_is_not_revived_when_the_newest_is_deleted() {
    let home = home();
    let [old, new] = [100, 200].map(|at| trusted(author(1), 0, at, &[], ""));
    home.commit(&[old.clone(), new.clone(), delete(author(1), 300, &[&["e", &id(&new)]])]);
    assert!(!home.holds(&old) && !home.holds(&new));
    assert_eq!(home.commit_one(&new), Outcome::Deleted);
    assert_eq!(home.assert_clean().events, 1);
}

#[test]
fn deletions_and_vanish_requests_are_immune_to_deletion() {
    let home = home();
    let target = note(author(1), 1, "");
    let first = delete(author(1), 2, &[&["e", &id(&target)]]);
    let vanish = trusted(author(2), 62, 3, &[], "");
    home.commit(&[target.clone(), first.clone(), vanish.clone()]);
    let unseen = delete(author(1), 4, &[&["e", &id(&note(author(1), 9, ""))]]);
    home.commit(&[
        delete(author(1), 5, &[&["e", &id(&first)], &["e", &id(&unseen)]]),
        delete(author(2), 5, &[&["e", &id(&vanish)]]),
    ]);
    assert!(home.holds(&first) && home.holds(&vanish));
    assert_eq!(home.commit_one(&target), Outcome::Deleted);
    assert!(matches!(home.commit_one(&unseen), Outcome::Stored(_)));
    home.assert_clean();
}

#[test]
fn the_recipient_of_a_gift_wrap_deletes_it_seen_or_not() {
    let home = home();
    let (random, recipient) = (author(1), author(2));
    let wrap = |at| trusted(random, 1059, at, &[&["p", &recipient.to_string()]], "");
    home.commit_one(&wrap(1));
    assert_eq!(home.commit_one(&delete(author(3), 9, &[&["e", &id(&wrap(1))]])), Outcome::InvalidDeletion);
    home.commit_one(&delete(recipient, 9, &[&["e", &id(&wrap(1))], &["e", &id(&wrap(2))]]));
    assert!(!home.holds(&wrap(1)));
    assert_eq!(home.commit(&[wrap(1), wrap(2)]), [Outcome::Deleted; 2]);
    // An event of another kind gives no rights to the keys that it names.
    let mention = trusted(random, 1, 1, &[&["p", &recipient.to_string()]], "");
    home.commit_one(&mention);
    assert_eq!(home.commit_one(&delete(recipient, 9, &[&["e", &id(&mention)]])), Outcome::InvalidDeletion);
    home.assert_clean();
}
