//! The rules of the store, one test each.

use super::*;
use crate::nostr::testing::{author, trusted};
use crate::nostr::{Pubkey, Timestamp, VerifiedEvent};

const NOW: Timestamp = Timestamp(1_700_000_000);

/// An empty store in a directory that lasts as long.
pub(super) struct Home {
    pub store: Store,
    _dir: tempfile::TempDir,
}

pub(super) fn home() -> Home {
    home_with(Options { map_bytes: 1 << 30, durability: Durability::None, ..Options::default() })
}

pub(super) fn home_with(options: Options) -> Home {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path(), options).expect("a new store");
    Home { store, _dir: dir }
}

fn commit(store: &Store, batch: &[VerifiedEvent]) -> Vec<Outcome> {
    store.writer().commit(batch, NOW).expect("a commit")
}

fn note(by: Pubkey, created_at: u64, content: &str) -> VerifiedEvent {
    trusted(by, 1, created_at, &[], content)
}

#[test]
fn an_event_is_stored_once_and_found_by_id_and_number() {
    let home = home();
    let event = note(author(1), 100, "hello");
    let batch = [event.clone(), event.clone()];
    assert_eq!(commit(&home.store, &batch), [Outcome::Stored(Seq(1)), Outcome::Duplicate]);
    assert_eq!(commit(&home.store, &batch), [Outcome::Duplicate, Outcome::Duplicate]);
    let snapshot = home.store.read().expect("a snapshot");
    assert_eq!(snapshot.last_seq().expect("a number"), Seq(1));
    assert!(snapshot.by_id(&event.view().id()).expect("a lookup") == Some((Seq(1), event.view())));
    assert!(snapshot.get(Seq(1)).expect("a lookup") == Some(event.view()));
    assert_eq!(snapshot.status(event.view(), NOW).expect("a status"), Known::Stored);
}
