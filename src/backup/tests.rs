//! Tests that a backup restores exactly what was stored, and that damage to it is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::nostr::testing::{author, trusted};
use crate::nostr::{EventId, Timestamp, VerifiedEvent};
use crate::store::{Durability, Evicted, Options, Outcome, Return, Seq, Store};

mod hostile;

const NOW: Timestamp = Timestamp(1_700_000_000);
const DAY: u64 = 24 * 60 * 60;
const KEEP_S: u64 = 30 * DAY;
static NEVER_STOP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// There is nothing beside the store.
fn nothing() -> Result<Vec<AttachedFile>, BackupError> {
    Ok(Vec::new())
}

struct Home {
    dir: tempfile::TempDir,
    store: Store,
}

fn options() -> Options {
    Options { map_bytes: 1 << 30, durability: Durability::None, ..Options::default() }
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&dir.path().join("data"), options()).expect("a store");
        Self { dir, store }
    }

    fn commit(&self, batch: &[VerifiedEvent]) -> Vec<Outcome> {
        self.store.writer().commit(batch, NOW).expect("a commit")
    }

    fn backup(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    fn run(&self) -> Created {
        create(&self.store, &self.backup(), NOW, 0, &mut nothing, &mut |_| {}, &NEVER_STOP).expect("a backup")
    }

    /// A run at `now` that remembers what was removed in the last 30 days.
    fn run_at(&self, now: u64) -> Created {
        create(&self.store, &self.backup(), Timestamp(now), KEEP_S, &mut nothing, &mut |_| {}, &NEVER_STOP)
            .expect("a backup")
    }

    fn manifest(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.backup().join("MANIFEST")).expect("the manifest");
        serde_json::from_str(text.lines().next().expect("a line")).expect("the manifest is JSON")
    }

    /// Replaces the manifest by another one, whose checksum is right.
    fn put_manifest(&self, json: &serde_json::Value) {
        let line = json.to_string();
        let sum = crate::nostr::hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(&line));
        std::fs::write(self.backup().join("MANIFEST"), format!("{line}\n{sum}\n")).expect("a file");
    }

    /// A store from the backup, and what it holds.
    fn restored(&self, name: &str) -> (Store, BTreeMap<EventId, String>) {
        self.restored_state(name, StateChoice::Newest)
    }

    fn restored_as_of(&self, name: &str, as_of: u64) -> (Store, BTreeMap<EventId, String>) {
        self.restored_state(name, StateChoice::AsOf(Timestamp(as_of)))
    }

    fn restored_state(&self, name: &str, which: StateChoice) -> (Store, BTreeMap<EventId, String>) {
        let path = self.dir.path().join(name);
        restore(&self.backup(), &path, options(), (which, NOW), &mut |_| {}, &NEVER_STOP).expect("a restore");
        let store = Store::open(&path, options()).expect("the store");
        assert_eq!(store.check(|_, _| {}).expect("a check").problems, []);
        let held = held(&store);
        (store, held)
    }
}

fn held(store: &Store) -> BTreeMap<EventId, String> {
    let snapshot = store.read().expect("a snapshot");
    let rows = snapshot.after(Seq(0)).expect("a walk").map(|row| row.expect("a row"));
    let visible = rows.filter(|(seq, event)| !snapshot.is_hidden(*seq, *event).expect("a lookup"));
    visible.map(|(_, event)| (event.id(), event.to_json())).collect()
}

fn note(n: u64) -> VerifiedEvent {
    trusted(author(n % 5), 1, n, &[&["t", "x"]], &format!("note {n}"))
}

fn notes(range: std::ops::Range<u64>) -> Vec<VerifiedEvent> {
    range.map(note).collect()
}

#[test]
fn a_restored_store_holds_what_the_store_held() {
    let home = Home::new();
    home.commit(&notes(0..500));
    home.commit(&[trusted(author(1), 0, 1, &[], "old"), trusted(author(1), 0, 2, &[], "new")]);
    assert_eq!(home.run(), Created { added: 501, events: 501, run: 1, ..home.run_again() });
    let (restored, events) = home.restored("new");
    assert_eq!(events, held(&home.store));
    assert_eq!(restored.writer().commit(&notes(0..500), NOW).expect("a commit"), vec![Outcome::Duplicate; 500]);
}

impl Home {
    /// The size of the backup; the other fields are zero.
    fn run_again(&self) -> Created {
        let manifest = Manifest::read(&self.backup()).expect("a manifest").expect("a backup");
        Created { added: 0, events: 0, run: 0, bytes: manifest.bytes() }
    }
}

#[test]
fn what_is_deleted_while_a_backup_is_made_is_in_it_or_its_deletion_is() {
    let home = Home::new();
    home.commit(&notes(0..3));
    let mut copied = 0;
    let mut beside = |_| {
        copied += 1;
        let id = note(1).view().id().to_string();
        let deletion = trusted(author(1), 5, 200, &[&["e", &id]], "");
        home.commit(&[if copied == 1 { note(3) } else { deletion }]);
    };
    create(&home.store, &home.backup(), NOW, 0, &mut nothing, &mut beside, &NEVER_STOP).expect("a backup");
    assert_eq!(copied, 2, "the deletion came after everything was copied");
    let expected: BTreeMap<_, _> = notes(0..4).iter().map(|note| (note.view().id(), note.view().to_json())).collect();
    assert_eq!(home.restored("new").1, expected);
}

#[test]
fn a_run_adds_what_is_new_and_what_is_gone_is_gone() {
    let home = Home::new();
    home.commit(&notes(0..100));
    assert_eq!(home.run().added, 100);
    let id = note(7).view().id().to_string();
    home.commit(&[trusted(author(2), 5, 200, &[&["e", &id]], "")]);
    home.commit(&notes(100..130));
    home.store.writer().remove(&[Seq(1), Seq(2)], Return::Refused).expect("a commit");
    home.store.writer().remove(&[Seq(3)], Return::Allowed).expect("a commit");
    let Created { added, events, run, .. } = home.run();
    assert_eq!((added, events, run), (31, 131 - 4, 2));
    assert_eq!(home.run().added, 0);
    let verified = verify(&home.backup(), &mut |_, _| {}).expect("a good backup");
    assert_eq!((verified.events, verified.removed), (127, 4));
    let (restored, events) = home.restored("new");
    assert_eq!(events, held(&home.store));
    let again = [note(7), note(0), note(1), note(2)];
    let outcomes = restored.writer().commit(&again, NOW).expect("a commit");
    assert_eq!(outcomes[..3], [Outcome::Deleted; 3], "INV-11");
    assert!(matches!(outcomes[3], Outcome::Stored(_)));
}

#[test]
fn vanished_authors_stay_vanished_even_with_the_purge_half_done() {
    let home = Home::new();
    home.commit(&notes(0..100));
    let wrap = |n: u64| trusted(author(77), 1059, NOW.0 + n, &[&["p", &author(3).to_string()]], "");
    home.commit(&[wrap(1), wrap(2)]);
    home.commit(&[trusted(author(3), 62, NOW.0, &[&["relay", "ALL_RELAYS"]], "")]);
    home.commit(&[wrap(3)]);
    home.store.writer().purge_vanished(5).expect("a commit");
    home.run();
    let (restored, events) = home.restored("new");
    assert_eq!(events, held(&home.store));
    assert_eq!(restored.check(|_, _| {}).expect("a check").awaiting_purge, 0);
    let outcomes = restored.writer().commit(&[note(3), wrap(1), wrap(2), wrap(3), wrap(4)], NOW).expect("a commit");
    assert_eq!(outcomes[..4], [Outcome::Vanished, Outcome::Deleted, Outcome::Deleted, Outcome::Duplicate]);
    assert!(matches!(outcomes[4], Outcome::Stored(_)));
}

#[test]
fn parts_that_are_mostly_gone_are_rewritten() {
    let home = Home::new();
    home.commit(&notes(0..1000));
    let before = home.run().bytes;
    let most: Vec<Seq> = (1..=900).map(Seq).collect();
    home.store.writer().remove(&most, Return::Allowed).expect("a commit");
    assert!(home.run().bytes < before / 4);
    let verified = verify(&home.backup(), &mut |_, _| {}).expect("a good backup");
    assert_eq!((verified.events, verified.removed), (100, 0));
    home.commit(&notes(2000..2010));
    home.run();
    assert_eq!(home.restored("new").1, held(&home.store));
    let files = std::fs::read_dir(home.backup()).expect("the directory").count();
    assert_eq!(files, 2 + 2 + 2, "manifest and lock, two parts, held and tombstones");
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_not_restored() {
    let home = Home::new();
    home.commit(&notes(0..20));
    home.commit(&[trusted(author(2), 5, 200, &[&["e", &note(7).view().id().to_string()]], "")]);
    home.run();
    let names = ["MANIFEST", "records-1-0.weir", "held-1.weir", "tombstones-1.weir"];
    for name in names {
        let path = home.backup().join(name);
        let good = std::fs::read(&path).expect("the file");
        for place in (0..good.len()).step_by(1 + good.len() / 40) {
            let mut bad = good.clone();
            bad[place] ^= 1 << (place % 8);
            std::fs::write(&path, bad).expect("the file");
            assert!(verify(&home.backup(), &mut |_, _| {}).is_err(), "{name} at {place}");
            let to = home.dir.path().join("new");
            let result = restore(&home.backup(), &to, options(), (StateChoice::Newest, NOW), &mut |_| {}, &NEVER_STOP);
            assert!(result.is_err() && !Store::exists(&to), "{name} at {place}");
        }
        std::fs::write(&path, &good[..good.len() - 2]).expect("the file");
        assert!(verify(&home.backup(), &mut |_, _| {}).is_err(), "{name} cut short");
        std::fs::write(&path, good).expect("the file");
    }
    assert_eq!(home.restored("new").1, held(&home.store));
}

#[test]
fn a_run_that_is_cut_off_leaves_the_backup_and_the_next_one_goes_on() {
    let home = Home::new();
    home.commit(&notes(0..50));
    home.run();
    home.commit(&notes(50..80));
    let stop = std::sync::atomic::AtomicBool::new(true);
    let result = create(&home.store, &home.backup(), NOW, 0, &mut nothing, &mut |_| {}, &stop);
    assert!(matches!(result, Err(BackupError::Interrupted)));
    // Leftovers of a killed run.
    for name in ["records-2-0.weir", "held-2.weir", "MANIFEST.partial"] {
        std::fs::write(home.backup().join(name), "half").expect("a file");
    }
    assert_eq!(home.restored("first").1.len(), 50);
    assert_eq!(home.run().added, 30);
    assert_eq!(home.restored("second").1, held(&home.store));
}

#[test]
fn another_store_or_an_older_state_is_not_mixed_in() {
    let home = Home::new();
    home.commit(&notes(0..50));
    home.run();
    let other = Home::new();
    other.commit(&notes(0..90));
    let result = create(&other.store, &home.backup(), NOW, 0, &mut nothing, &mut |_| {}, &NEVER_STOP);
    assert!(matches!(result, Err(BackupError::OtherStore(_))));
    let (restored, _) = home.restored("new");
    let result = create(&restored, &home.backup(), NOW, 0, &mut nothing, &mut |_| {}, &NEVER_STOP);
    assert!(matches!(result, Err(BackupError::OtherStore(_))), "its numbers are others");
}

#[test]
fn a_directory_of_somebody_else_and_a_store_are_left_alone() {
    let home = Home::new();
    home.commit(&notes(0..5));
    std::fs::create_dir(home.backup()).expect("a directory");
    std::fs::write(home.backup().join("letter.txt"), "dear").expect("a file");
    let result = create(&home.store, &home.backup(), NOW, 0, &mut nothing, &mut |_| {}, &NEVER_STOP);
    assert!(matches!(result, Err(BackupError::Foreign(_))));
    assert_eq!(std::fs::read_dir(home.backup()).expect("the directory").count(), 1);
    std::fs::remove_file(home.backup().join("letter.txt")).expect("the file");
    home.run();
    let result =
        restore(&home.backup(), home.store.path(), options(), (StateChoice::Newest, NOW), &mut |_| {}, &NEVER_STOP);
    assert!(matches!(result, Err(BackupError::Store(crate::store::StoreError::Exists(_)))));
    assert!(matches!(verify(home.dir.path(), &mut |_, _| {}), Err(BackupError::Absent(_))));
}

#[test]
fn a_run_has_what_was_acknowledged_and_not_yet_committed() {
    let home = Home::new();
    home.commit(&notes(0..10));
    let result: Result<(), _> = home.store.writer().group(|group| {
        assert!(group.add(&notes(10..20), NOW, Evicted::default())?.is_durable);
        Err(crate::store::StoreError::Full)
    });
    assert!(result.is_err() && held(&home.store).len() == 10);
    assert_eq!(home.run().added, 20);
    assert_eq!(home.restored("new").1.len(), 20);
}

#[test]
fn what_was_removed_is_restored_as_of_a_run_that_held_it() {
    let home = Home::new();
    home.commit(&notes(0..1000));
    home.run_at(NOW.0);
    let before = held(&home.store);
    let most: Vec<Seq> = (1..=990).map(Seq).collect();
    home.store.writer().remove(&most, Return::Allowed).expect("a commit");
    for day in 1..=3 {
        home.run_at(NOW.0 + day * DAY);
    }
    let verified = verify(&home.backup(), &mut |_, _| {}).expect("a good backup");
    assert_eq!((verified.events, verified.removed, verified.states), (10, 990, 4));
    assert_eq!(home.restored("newest").1, held(&home.store));
    assert_eq!(home.restored_as_of("first", NOW.0).1, before);
    assert_eq!(home.restored_as_of("between", NOW.0 + DAY - 1).1, before);
    assert_eq!(home.restored_as_of("second", NOW.0 + DAY).1, held(&home.store));
    assert_eq!(home.restored_state("run", StateChoice::Run(1)).1, before);
    let to = home.dir.path().join("early");
    let try_one = |which| restore(&home.backup(), &to, options(), (which, NOW), &mut |_| {}, &NEVER_STOP);
    let early = try_one(StateChoice::AsOf(Timestamp(NOW.0 - 1)));
    assert!(matches!(early, Err(BackupError::TooEarly(time)) if time == NOW.0) && !Store::exists(&to));
    assert!(matches!(try_one(StateChoice::Run(5)), Err(BackupError::NoSuchRun(5))) && !Store::exists(&to));
}

#[test]
fn what_authors_deleted_since_stays_deleted_in_an_earlier_state() {
    let home = Home::new();
    home.commit(&notes(0..20));
    home.run_at(NOW.0);
    let id = note(7).view().id();
    home.commit(&[trusted(author(2), 5, NOW.0, &[&["e", &id.to_string()]], "")]);
    home.commit(&[trusted(author(3), 62, NOW.0, &[&["relay", "ALL_RELAYS"]], "")]);
    home.store.writer().purge_vanished(100).expect("a commit");
    home.store.writer().remove(&[Seq(1)], Return::Refused).expect("a commit");
    home.commit(&notes(30..31));
    home.run_at(NOW.0 + DAY);
    let (restored, events) = home.restored_as_of("then", NOW.0);
    let is_back = |n: u64| events.contains_key(&note(n).view().id());
    assert!(is_back(0), "the operator removed it");
    assert!(!is_back(7) && !is_back(3) && !is_back(8) && !is_back(30));
    assert_eq!((0..20).filter(|n| is_back(*n)).count(), 20 - 4 - 1);
    let outcomes = restored.writer().commit(&[note(7), note(3)], NOW).expect("a commit");
    assert_eq!(outcomes, [Outcome::Deleted, Outcome::Vanished]);
}

#[test]
fn pruning_forgets_what_is_older_and_frees_its_bytes() {
    let home = Home::new();
    home.commit(&notes(0..1000));
    home.run_at(NOW.0);
    home.store.writer().remove(&(1..=300).map(Seq).collect::<Vec<_>>(), Return::Allowed).expect("a commit");
    home.run_at(NOW.0 + DAY);
    let bytes = Manifest::read(&home.backup()).expect("a manifest").expect("a backup").bytes();
    let now = Timestamp(NOW.0 + 10 * DAY);
    let kept = prune(&home.backup(), now, KEEP_S).expect("a backup");
    assert_eq!(kept, Pruned { before: bytes, after: bytes, states: 2 });
    let pruned = prune(&home.backup(), now, 5 * DAY).expect("a backup");
    assert_eq!((pruned.before, pruned.states), (bytes, 1));
    assert!(pruned.after < bytes * 3 / 4);
    assert_eq!(prune(&home.backup(), now, 0).expect("a backup").after, pruned.after);
    let verified = verify(&home.backup(), &mut |_, _| {}).expect("a good backup");
    assert_eq!((verified.events, verified.removed), (700, 0));
    home.commit(&notes(2000..2010));
    home.run_at(NOW.0 + 11 * DAY);
    assert_eq!(home.restored("new").1, held(&home.store));
    assert!(matches!(prune(home.dir.path(), now, 0), Err(BackupError::Absent(_))));
}

#[test]
fn runs_without_removals_share_their_files() {
    let home = Home::new();
    home.commit(&notes(0..50));
    home.run_at(NOW.0);
    home.run_at(NOW.0 + DAY);
    let manifest = Manifest::read(&home.backup()).expect("a manifest").expect("a backup");
    let [first, second] = &manifest.states[..] else { panic!("two states") };
    assert_eq!((&first.held, &first.tombstones), (&second.held, &second.tombstones));
    let files = std::fs::read_dir(home.backup()).expect("the directory").count();
    assert_eq!(files, 2 + 1 + 2, "manifest and lock, one part, one of each list");
    verify(&home.backup(), &mut |_, _| {}).expect("a good backup");
}

#[test]
fn a_backup_of_the_first_format_is_read_and_goes_on() {
    let home = Home::new();
    home.commit(&notes(0..50));
    home.run_at(NOW.0);
    home.store.writer().remove(&[Seq(5)], Return::Allowed).expect("a commit");
    // As the first format had it: one state, whose list was called otherwise.
    let mut json = home.manifest();
    let state = json["states"][0].take();
    let old = json.as_object_mut().expect("an object");
    old.remove("states");
    old.insert("format".into(), 1.into());
    for (new, name) in [("run", "runs"), ("created_at", "created_at"), ("last_seq", "last_seq"), ("events", "events")] {
        old.insert(name.into(), state[new].clone());
    }
    old.insert("tombstones".into(), state["tombstones"].clone());
    let mut live = state["held"].clone();
    live["name"] = "live-1.weir".into();
    old.insert("live".into(), live);
    std::fs::rename(home.backup().join("held-1.weir"), home.backup().join("live-1.weir")).expect("a file");
    home.put_manifest(&json);

    assert_eq!(home.restored("old").1.len(), 50);
    assert_eq!(home.run_at(NOW.0 + DAY).run, 2);
    assert_eq!(home.restored_as_of("then", NOW.0).1.len(), 50);
    assert_eq!(home.restored("now").1, held(&home.store));
}

#[test]
fn a_restored_store_knows_when_its_events_had_arrived() {
    let home = Home::new();
    let at = |seconds: u64| Timestamp(NOW.0 - 10_000 + seconds);
    for round in 0..4 {
        home.store.writer().commit(&notes(10 * round..10 * round + 10), at(1000 * round)).expect("a commit");
        home.store.writer().reap_expired(at(1000 * round + 60), 1).expect("upkeep");
    }
    // Of the second ten, three are gone, and of the third all: their numbers are not given again.
    let gone: Vec<Seq> = (15..18).chain(21..31).map(Seq).collect();
    home.store.writer().remove(&gone, Return::Allowed).expect("a commit");
    home.run();
    let (restored, _) = home.restored("new");
    let rows = |store: &Store| {
        let rows = store.read().expect("a snapshot").arrival_times().expect("rows");
        rows.iter().map(|row| (row.by.0 + 10_000 - NOW.0, row.below.0)).collect::<Vec<_>>()
    };
    assert_eq!(rows(&home.store), [(60, 11), (1060, 21), (2060, 31), (3060, 41)]);
    assert_eq!(rows(&restored), [(60, 11), (1060, 18), (2060, 18), (3060, 28)]);
}
