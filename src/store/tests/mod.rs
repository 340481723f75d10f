//! The rules of the store, one test each, and a simple oracle that implements them in another way.

mod arrivals;
mod commit;
mod compact;
mod damage;
mod deletion;
mod export;
mod group;
mod newest;
mod open;
mod oracle;
mod pages;
mod removals;
mod replace;
mod survey;
mod ties;
mod upgrade;
mod vanish;

use super::file::tally;
use super::file::{journal, schema};
use super::read::lookup;
use super::write::transaction::Transaction;
use super::*;
use crate::nostr::testing::{author, trusted};
use crate::nostr::{EventView, Pubkey, Timestamp, VerifiedEvent};

const NOW: Timestamp = Timestamp(1_700_000_000);

/// An empty store in a directory that is removed with it.
struct Home {
    store: Store,
    dir: tempfile::TempDir,
}

fn options() -> Options {
    Options { map_bytes: 1 << 30, durability: Durability::None, ..Options::default() }
}

fn home() -> Home {
    home_with(options())
}

fn home_with(options: Options) -> Home {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path(), options).expect("a new store");
    Home { store, dir }
}

impl Home {
    fn commit(&self, batch: &[VerifiedEvent]) -> Vec<Outcome> {
        self.store.writer().commit(batch, NOW).expect("a commit")
    }

    /// Stores records in one commit, even with ids that are not their hash.
    fn admit(&self, records: &[Vec<u8>]) {
        let generation = self.store.generation();
        let mut txn =
            Transaction::begin(&generation, Default::default()).expect("a transaction").expect("the store is here");
        for record in records {
            let view = EventView::from_record(record).expect("a record");
            assert!(matches!(txn.admit(view, NOW).expect("an outcome"), Outcome::Stored(_)));
        }
        txn.commit().map(drop).expect("a commit");
    }

    fn commit_one(&self, event: &VerifiedEvent) -> Outcome {
        let [outcome] = self.commit(std::slice::from_ref(event))[..] else { panic!("one outcome for one event") };
        outcome
    }

    fn holds(&self, event: &VerifiedEvent) -> bool {
        let snapshot = self.store.read().expect("a snapshot");
        let found = snapshot.by_id(&event.view().id()).expect("a lookup");
        found.is_some_and(|(seq, held)| held == event.view() && !snapshot.is_hidden(seq, held).expect("a lookup"))
    }

    fn status(&self, event: &VerifiedEvent) -> Known {
        self.store.read().expect("a snapshot").status(event.view(), NOW).expect("a status")
    }

    fn assert_clean(&self) -> Report {
        let report = self.store.check(|_, _| {}).expect("a check");
        assert_eq!(report.problems, []);
        report
    }
}

fn note(by: Pubkey, created_at: u64, content: &str) -> VerifiedEvent {
    trusted(by, 1, created_at, &[], content)
}

fn id(event: &VerifiedEvent) -> String {
    event.view().id().to_string()
}

#[test]
fn an_event_is_stored_once_and_found_by_id_and_number() {
    let home = home();
    let event = note(author(1), 100, "hello");
    let batch = [event.clone(), event.clone()];
    assert_eq!(home.commit(&batch), [Outcome::Stored(Seq(1)), Outcome::Duplicate]);
    assert_eq!(home.commit(&batch), [Outcome::Duplicate, Outcome::Duplicate]);
    let snapshot = home.store.read().expect("a snapshot");
    assert_eq!(snapshot.last_seq().expect("a number"), Seq(1));
    assert!(snapshot.by_id(&event.view().id()).expect("a lookup") == Some((Seq(1), event.view())));
    assert!(snapshot.contains(&event.view().id()).expect("a lookup"));
    assert!(snapshot.get(Seq(1)).expect("a lookup") == Some(event.view()));
    assert_eq!(snapshot.status(event.view(), NOW).expect("a status"), Known::Stored);
}

#[test]
fn ephemeral_events_are_never_stored_and_do_not_expire() {
    let home = home();
    let ephemeral = trusted(author(1), 20_000, 100, &[&["expiration", "5"]], "");
    assert_eq!(home.commit_one(&ephemeral), Outcome::Ephemeral);
    assert_eq!(home.status(&ephemeral), Known::New);
    assert!(!home.holds(&ephemeral));
}

#[test]
fn an_event_past_its_expiration_is_refused() {
    let home = home();
    let at = |seconds: u64| trusted(author(1), 1, 100, &[&["expiration", &seconds.to_string()]], "");
    assert_eq!(home.commit_one(&at(NOW.0)), Outcome::Expired);
    assert_eq!(home.status(&at(NOW.0)), Known::Expired);
    assert_eq!(home.commit_one(&at(NOW.0 + 1)), Outcome::Stored(Seq(1)));
}

#[test]
fn the_reaper_removes_only_expired_events_and_works_in_steps() {
    let home = home();
    let expiring = |at: &str| trusted(author(1), 1, 100, &[&["expiration", at]], "");
    let batch: Vec<_> =
        ["1700000001", "1700000002", "1700000003", "1700000009", "18446744073709551615"].map(expiring).into();
    home.commit(&batch);
    let mut writer = home.store.writer();
    let later = Timestamp(1_700_000_003);
    assert_eq!(writer.reap_expired(later, 2).expect("a commit").events, 2);
    assert_eq!(writer.reap_expired(later, 2).expect("a commit").events, 1);
    assert_eq!(writer.reap_expired(later, 2).expect("a commit"), Removed::default());
    assert_eq!(writer.reap_expired(Timestamp(u64::MAX), 9).expect("a commit").events, 1);
    assert_eq!(batch.iter().map(|event| home.holds(event)).collect::<Vec<_>>(), [false, false, false, false, true]);
    home.assert_clean();
}

#[test]
fn events_after_a_number_come_in_the_order_of_arrival() {
    let home = home();
    let batch: Vec<_> = (0..5).map(|n| note(author(n), 500 - n, "")).collect();
    home.commit(&batch);
    let snapshot = home.store.read().expect("a snapshot");
    let after = |seq| -> Vec<_> { snapshot.after(seq).expect("a walk").map(|row| row.expect("a row").0).collect() };
    assert_eq!(after(Seq(3)), [Seq(4), Seq(5)]);
    assert_eq!(after(Seq(0)).len(), 5);
    assert_eq!(after(Seq(5)), []);
}

#[test]
fn the_commit_number_changes_with_commits_by_others() {
    let home = home();
    let before = home.store.txn_id().expect("a number");
    assert_eq!(home.store.read().expect("a snapshot").txn_id(), before);
    home.commit_one(&note(author(1), 1, ""));
    assert_eq!(home.store.txn_id().expect("a number"), before + 1);
}

#[test]
fn a_removed_event_may_be_stored_again_unless_it_is_refused() {
    let home = home();
    let [free, refused] = [note(author(1), 1, ""), note(author(1), 2, "")];
    let request = trusted(author(1), 5, 3, &[&["e", &"ab".repeat(32)]], "");
    home.commit(&[free.clone(), refused.clone(), request.clone()]);
    let mut writer = home.store.writer();
    assert_eq!(writer.remove(&[Seq(1), Seq(77)], Return::Allowed).expect("a commit").events, 1);
    assert_eq!(writer.remove(&[Seq(2), Seq(3)], Return::Refused).expect("a commit").events, 2);
    assert_eq!(
        home.commit(&[free, refused, request]),
        [Outcome::Stored(Seq(4)), Outcome::Deleted, Outcome::Deleted],
        "INV-4: numbers of removed events are not used again"
    );
    home.assert_clean();
}

#[test]
fn usage_counts_entries_and_pages_of_every_table() {
    let home = home();
    home.commit(&(0..200).map(|n| trusted(author(n), 1, n, &[&["t", "x"], &["t", "x"]], "")).collect::<Vec<_>>());
    let usage = home.store.usage().expect("usage");
    let entries = |name| usage.tables.iter().find(|table| table.name == name).map(|table| table.entries);
    for name in ["event", "id", "time", "author", "kind", "tag"] {
        assert_eq!(entries(name), Some(200), "{name}");
    }
    assert_eq!(usage.file_bytes, usage.page_bytes + usage.free_bytes);
    assert!(usage.used_bytes > 0 && usage.file_bytes < usage.map_bytes);
}

#[test]
fn a_removal_lowers_used_bytes_by_the_footprint_of_its_events() {
    let home = home();
    let of =
        |n: u64| trusted(author(n % 7), 1, n, &[&["t", "x"], &["e", &"ab".repeat(32)]], &"y".repeat(n as usize * 9));
    let events: Vec<_> = (0..400).map(of).collect();
    home.commit(&events);
    let mut used = home.store.room().expect("the room").used_bytes;
    let sizes: Vec<u64> = events.iter().map(|event| keys::footprint(event.view())).collect();
    assert_eq!(used, sizes.iter().sum::<u64>());
    // Every third event, so that pages stay partly filled.
    for (place, size) in sizes.iter().enumerate().step_by(3) {
        home.store.writer().remove(&[Seq(place as u64 + 1)], Return::Allowed).expect("a commit");
        used -= size;
        assert_eq!(home.store.room().expect("the room").used_bytes, used);
    }
    let usage = home.store.usage().expect("usage");
    assert_eq!((usage.used_bytes, home.assert_clean().events), (used, 266));
    assert!(usage.page_bytes > used / 2 && usage.page_bytes < 2 * used, "{usage:?}");
    // A commit without changes leaves its number to the next one.
    home.store.writer().evict(Evicted::default()).expect("a commit");
    home.store.writer().remove(&[Seq(2)], Return::Allowed).expect("a commit");
    used -= sizes[1];
    assert_eq!(home.store.room().expect("the room").used_bytes, used);
    // Another process counts the same from the tallies.
    home.store.inner().last_used.note(u64::MAX, 0);
    assert_eq!(home.store.room().expect("the room").used_bytes, used);
}
