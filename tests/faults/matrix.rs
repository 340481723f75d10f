//! Every write and sync of the store that may fail, with each error that a disk gives, at several calls: what clients
//! are told, what `/readyz` says meanwhile and afterwards, and that nothing acknowledged is lost.

use serde_json::{Value, json};

use super::shim::{Faults, eventually};
use crate::support::relay::Relay;
use crate::support::wire::{Key, Signed};

const UNCONFIRMED: &str = "error: it could not be confirmed that the event is stored; it may still be; send it again";
const FULL: &str = "error: storage full";

/// Notes that are published while calls fail.
const NOTES: u64 = 12;

/// What a fault that lasts leads to.
#[derive(Clone, Copy)]
enum Leads {
    /// Everything is accepted.
    Nowhere,
    /// Events are refused with this reason, and `/readyz` says this, until it passes.
    ToRefusals(&'static str, &'static str),
    /// The relay ends in order, since only a new process can use the store.
    ToTheEnd,
}

/// One row of the matrix: a file and an operation, an error, and what it leads to.
type Row = (&'static str, &'static str, Leads);

const BROKEN: Leads =
    Leads::ToRefusals(UNCONFIRMED, "events cannot be stored: LMDB: Input/output error (os error 5)\n");
const NO_ROOM: Leads = Leads::ToRefusals(FULL, "storage full: reads go on, events are refused\n");

const MATRIX: [Row; 12] = [
    ("log write", "EIO", Leads::Nowhere),
    ("log write", "ENOSPC", Leads::Nowhere),
    ("log sync", "EIO", Leads::Nowhere),
    ("log sync", "ENOSPC", Leads::Nowhere),
    ("pages write", "EIO", BROKEN),
    ("pages write", "ENOSPC", NO_ROOM),
    ("pages sync", "EIO", BROKEN),
    ("pages sync", "ENOSPC", NO_ROOM),
    ("meta write", "EIO", Leads::ToTheEnd),
    ("meta write", "ENOSPC", Leads::ToTheEnd),
    ("meta sync", "EIO", Leads::ToTheEnd),
    ("meta sync", "ENOSPC", Leads::ToTheEnd),
];

/// How many calls succeed first, and how many fail then.
const CALLS: [(u64, &str); 3] = [(0, "all"), (1, "1"), (2, "all")];

/// A relay whose calls fail, and what it answered.
struct Case {
    name: String,
    author: Key,
    faults: Faults,
    accepted: Vec<Signed>,
    refused: Vec<(Signed, String)>,
}

impl Case {
    fn note(&self, content: &str) -> Signed {
        self.author.note(&format!("{}: {content}", self.name))
    }

    /// Publishes notes while the fault is there; false if the relay ended meanwhile.
    fn publish(&mut self, relay: &Relay) -> bool {
        let mut client = relay.connect();
        for number in 0..NOTES {
            let note = self.note(&number.to_string());
            let Some(answer) = client.try_ask(note.message()) else {
                // It may be in the log.
                self.refused.push((note, UNCONFIRMED.into()));
                return false;
            };
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!((&answer[0], &answer[1]), (&json!("OK"), &json!(note.id)), "{}", self.name);
            let reason = answer[3].as_str().expect("a reason").to_owned();
            match answer[2] == true {
                true => self.accepted.push(note),
                false => self.refused.push((note, reason)),
            }
        }
        true
    }

    /// The store holds everything accepted, and nothing that was refused for good.
    #[track_caller]
    fn compare(&self, relay: &Relay) {
        let held = relay.connect().query(&[json!({ "authors": [self.author.hex], "limit": 500 })]);
        for note in &self.accepted {
            assert!(held.contains(&note.text), "{}: acknowledged, and gone: {note:?}", self.name);
        }
        for (note, reason) in self.refused.iter().filter(|(_, reason)| reason != UNCONFIRMED) {
            assert!(!held.contains(&note.text), "{}: {reason}, and held: {note:?}", self.name);
        }
    }

    /// What was said of the notes that were refused.
    fn reasons(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> = self.refused.iter().map(|(_, reason)| reason.as_str()).collect();
        reasons.dedup();
        reasons
    }
}

/// One fault: after `skip` calls, `count` fail.
fn fault(call: &str, error: &str, (skip, count): (u64, &str), config: &str, leads: Leads) {
    let name = format!("{call} {error} {skip} {count}");
    println!("{name}; {config:?}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (author, faults) = (Key::named("alice"), Faults::none());
    let mut case = Case { name, author, faults, accepted: Vec::new(), refused: Vec::new() };
    let config = format!("metrics.listen = \"127.0.0.1:0\"\n{config}");
    let relay = Relay::start_by(case.faults.beneath_relay(), dir.path(), &config);
    let before = case.note("before");
    let mut client = relay.connect();
    client.publish(&before);
    client.finds(json!({ "kinds": [1] }), &[&before]);
    drop(client);
    case.accepted.push(before);

    case.faults.set("fail", &case.name);
    let is_there = case.publish(&relay);
    case.faults.wait_for("failed");
    match leads {
        Leads::ToTheEnd => {
            let line = relay.wait_for_log("; the relay stops");
            assert!(line.contains("this process cannot use the store any more"), "{line}");
            assert_eq!(relay.wait_for_status(), Some(1), "systemd starts it again");
        }
        Leads::Nowhere => {
            assert!(is_there && case.refused.is_empty(), "{}: {:?}", case.name, case.reasons());
            assert_eq!(relay.watch("/readyz"), (200, "ready\n".into()), "{}", case.name);
            case.compare(&relay);
        }
        Leads::ToRefusals(reason, ready) => {
            assert!(
                is_there && case.reasons().iter().all(|said| *said == reason),
                "{}: {:?}",
                case.name,
                case.reasons()
            );
            if count == "all" {
                assert_eq!(case.reasons(), [reason], "{}", case.name);
                assert_eq!(relay.watch("/readyz"), (503, ready.into()), "{}", case.name);
            }
            assert_eq!(relay.watch("/healthz"), (200, "ok\n".into()), "it serves readers");
            case.faults.switch_off("fail");
            let after = case.note("after");
            relay.connect().publish(&after);
            case.accepted.push(after);
            assert_eq!(relay.watch("/readyz"), (200, "ready\n".into()), "{}", case.name);
            case.compare(&relay);
        }
    }
    // Killed, if it still runs, and started again on a disk that works.
    let relay = Relay::start_in(dir.path(), "");
    case.compare(&relay);
}

/// The rows of one file.
fn rows(file: &str) {
    for (call, error, leads) in MATRIX.iter().filter(|(call, ..)| call.starts_with(file)) {
        for calls in CALLS {
            fault(call, error, calls, "pipeline.commit_interval_ms = 1\n", *leads);
            if file != "log" {
                fault(call, error, calls, "pipeline.commit_interval_ms = 0\n", *leads);
            }
        }
    }
}

#[test]
fn whatever_fails_of_the_log_nothing_is_refused_or_lost() {
    rows("log");
}

#[test]
fn whatever_fails_of_the_pages_is_told_and_recovered_from_and_nothing_acknowledged_is_lost() {
    rows("pages");
}

#[test]
fn whatever_fails_of_the_meta_page_ends_the_relay_in_order_and_nothing_acknowledged_is_lost() {
    rows("meta");
}

#[test]
fn want_of_room_for_a_commit_is_told_although_no_event_comes_and_until_a_commit_fits() {
    let (dir, faults) = (tempfile::tempdir().expect("a temporary directory"), Faults::none());
    let relay = Relay::start_by(faults.beneath_relay(), dir.path(), "metrics.listen = \"127.0.0.1:0\"\n");
    faults.set("fail", "pages write ENOSPC 0 all");
    // It is in the log. No commit fits, although the file system says that there is room.
    let [kept, refused] = ["kept", "refused"].map(|text| Key::named("alice").note(text));
    let mut client = relay.connect();
    client.publish(&kept);
    let full = (503, "storage full: reads go on, events are refused\n".to_owned());
    eventually("it is told", || relay.watch("/readyz") == full);
    assert_eq!(relay.metric("weir_storage_writable"), 0);
    client.refused(&refused, FULL);
    relay.wait_for_log("storage is full; events are refused until there is room");
    // The relay looks every few seconds, and finds nothing better.
    faults.switch_off("failed");
    faults.wait_for("failed");
    assert_eq!(relay.watch("/readyz"), full);

    faults.switch_off("fail");
    eventually("it is ready again", || relay.watch("/readyz") == (200, "ready\n".into()));
    client.finds(json!({ "kinds": [1] }), &[&kept]);
    client.publish(&refused);
}
