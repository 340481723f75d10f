//! What becomes of lines, however they arrive and however the import ends.

use std::sync::Mutex;

use super::*;
use crate::nostr::testing::{author, event, signed};
use crate::policy::{Ruling, Settings};
use crate::store;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Keeps all that it is told.
#[derive(Default)]
struct Told(Vec<Verdict>);

impl Observer for Told {
    fn not_stored(&mut self, verdict: &Verdict) {
        self.0.push(verdict.clone());
    }

    fn progress(&mut self, _: &Report) {}
}

fn open(dir: &tempfile::TempDir, map_bytes: usize) -> Store {
    let options =
        store::Options { map_bytes, durability: store::Durability::None, max_readers: 64, ..store::Options::default() };
    Store::open(dir.path(), options).expect("a new store")
}

fn parts(store: &Store, options: Options) -> Parts {
    let verifier = Verifier::new(crate::schnorr::Options::default());
    let rules = Rules::load(Settings::default(), store).expect("a good store");
    let (store, source) = (store.clone(), Source::Import);
    Parts { store, rules, decisions: Arc::new(Arc::default), source, verifier, options, stop: &NEVER }
}

#[test]
fn what_was_banned_since_it_was_checked_is_not_committed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(&dir, 64 << 20);
    let [banned, fine] = [(1, 1), (2, 1)].map(|(seed, kind)| signed(seed, kind, 1, &[], "x"));
    let vanish = signed(1, 62, 2, &[&["relay", "ALL_RELAYS"]], "");
    let mut moderation = Moderation::default();
    moderation.put(Ruling::Key(banned.view().pubkey(), Some(false)));
    let moderation = Arc::new(moderation);
    let parts = Parts { decisions: Arc::new(move || Arc::clone(&moderation)), ..parts(&store, Options::default()) };
    let text: String = [&banned, &fine, &vanish].map(line).concat();
    let mut told = Told::default();
    let report = import(parts, std::io::Cursor::new(text), &mut told).expect("threads");
    let [refused, stored] = [LineOutcome::Refused, LineOutcome::Stored].map(|outcome| report.count(outcome));
    assert_eq!((refused, stored), (1, 2), "requests to vanish are obeyed");
    let reasons: Vec<_> = told.0.iter().map(|verdict| (verdict.line, verdict.reason.as_ref())).collect();
    assert_eq!(reasons, [(1, "the author is not welcome here")]);
}

fn run(store: &Store, options: Options, text: String) -> (Report, Vec<(u64, LineOutcome, String)>) {
    let mut told = Told::default();
    let report = import(parts(store, options), std::io::Cursor::new(text), &mut told).expect("threads");
    (report, told.0.into_iter().map(|one| (one.line, one.outcome, one.reason.into_owned())).collect())
}

fn line(event: &crate::nostr::Event) -> String {
    event.view().to_json() + "\n"
}

#[test]
fn every_line_gets_its_outcome_and_none_stops_the_import() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir, 64 << 20);
    let note = signed(1, 1, 100, &[], "note");
    let request = signed(1, 5, 200, &[&["e", &note.view().id().to_string()]], "");
    let vanish = |relay| signed(2, 62, 100, &[&["relay", relay]], "");
    let text = [
        line(&signed(1, 0, 100, &[], "profile")),
        "not JSON\n".into(),
        "\n \r\n".into(),
        line(&signed(1, 0, 99, &[], "older profile")),
        line(&note),
        line(&note),
        line(&request),
        line(&event(author(1), 1, 1, &[], "signed by nobody")),
        line(&signed(1, 1, 1, &[&["expiration", "2"]], "expired")),
        line(&signed(1, 20_001, 1, &[], "ephemeral")),
        line(&signed(1, 22_242, 1, &[], "a proof")),
        line(&signed(1, 5, 1, &[], "names nothing")),
        line(&vanish("wss://other.example")),
        line(&vanish("ALL_RELAYS")),
        line(&signed(2, 1, 100, &[], "vanished")),
        format!("\"{}\"\n", "x".repeat(2000)),
        line(&signed(3, 1, 1, &[&["-"]], "protected")).trim_end().into(),
    ];
    let options = Options { batch_events: 1, max_line_bytes: 1000, ..Options::default() };
    let (report, told) = run(&store, options, text.concat());
    assert!(matches!(report.end, ImportEnd::Complete), "{:?}", report.end);
    let lines: Vec<_> = told.iter().map(|(line, outcome, _)| (*line, *outcome)).collect();
    use LineOutcome::*;
    let expected = [
        (2, Invalid),
        (5, Replaced),
        (7, Duplicate),
        (9, Invalid),
        (10, Expired),
        (11, Ephemeral),
        (12, Refused),
        (13, InvalidDeletion),
        (14, Refused),
        (16, Vanished),
        (17, Invalid),
    ];
    assert_eq!(lines, expected);
    assert_eq!(told[3].2, "the signature is wrong");
    let local =
        "the request does not name this relay, which is known as ws://localhost, ws://127.0.0.1 and ws://[::1] only";
    assert_eq!(told[8].2, local);
    assert_eq!(told[10].2, "the line is longer than 1000 bytes");
    assert_eq!((report.count(Stored), report.next_line), (5, 19));
    assert_eq!(report.bytes, text.concat().len() as u64);
    // A second time, what is known is told without a look at signatures.
    let (report, told) = run(&store, Options::default(), line(&note) + &line(&request));
    assert_eq!(
        told.iter().map(|(line, outcome, _)| (*line, *outcome)).collect::<Vec<_>>(),
        [(1, Deleted), (2, Duplicate)]
    );
    assert_eq!(report.counts.iter().sum::<u64>(), 2);
}

#[test]
fn without_verification_signatures_are_taken_on_trust_and_ids_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir, 64 << 20);
    let unsigned = line(&event(author(1), 1, 1, &[], "text"));
    let (_, told) =
        run(&store, Options { verify: false, ..Options::default() }, unsigned.replace("text", "test") + &unsigned);
    assert_eq!(told, [(1, LineOutcome::Invalid, "id is not the SHA-256 of the event".to_owned())]);
}

#[test]
fn a_full_store_keeps_all_lines_before_the_one_it_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir, 8 << 20);
    let text = |n: u64| line(&event(author(n), 1, n, &[], &"x".repeat(2000)));
    let options = Options { verify: false, ..Options::default() };
    let (report, _) = run(&store, options, (1..=4000).map(text).collect());
    assert!(matches!(report.end, ImportEnd::Full(Limit::MapBytes)), "{:?}", report.end);
    let stored = report.count(LineOutcome::Stored);
    assert!(stored > 1000, "the map holds 8 MiB, half of it for deletions, not only {stored} events");
    assert_eq!(report.next_line, stored + 1);
    assert_eq!(store.read().expect("a snapshot").last_seq().expect("a number").0, stored);
}

/// Hands out one line, then sets the flag and never comes to an end.
struct Endless(Option<String>, &'static AtomicBool);

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.0.take() {
            Some(text) => {
                out[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            None => {
                self.1.store(true, Ordering::Relaxed);
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

#[test]
fn an_interrupted_import_commits_what_was_read() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir, 64 << 20);
    let input = Endless(Some(line(&signed(1, 1, 1, &[], "note"))), &STOP);
    let parts = Parts { stop: &STOP, ..parts(&store, Options::default()) };
    let report = import(parts, input, &mut Told::default()).expect("threads");
    assert!(matches!(report.end, ImportEnd::Interrupted), "{:?}", report.end);
    assert_eq!((report.count(LineOutcome::Stored), report.next_line), (1, 2));
}

/// Brings a line, then an error.
struct Failing(Option<String>);

impl Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let Some(text) = self.0.take() else { return Err(std::io::Error::other("the disk is broken")) };
        out[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

#[test]
fn an_input_that_fails_leaves_what_came_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir, 64 << 20);
    let input = Failing(Some(line(&signed(1, 1, 1, &[], "note"))));
    let report = import(parts(&store, Options::default()), input, &mut Told::default()).expect("threads");
    assert!(matches!(&report.end, ImportEnd::Unreadable(error) if error.to_string() == "the disk is broken"));
    assert_eq!((report.count(LineOutcome::Stored), report.next_line), (1, 2));
}

/// Wants kind 1, and notes what it is told.
#[derive(Default)]
struct OnlyNotes(Mutex<Vec<(u64, Vec<LineOutcome>)>>);

impl Wanted for OnlyNotes {
    fn wants(&self, event: EventView<'_>) -> bool {
        event.kind() == Kind(1)
    }

    fn committed(&self, stored: u64, others: &[Verdict]) {
        let outcomes = others.iter().map(|verdict| verdict.outcome).collect();
        self.0.lock().expect("no test panicked").push((stored, outcomes));
    }
}

#[test]
fn relays_that_share_an_import_are_each_told_what_became_of_their_pieces() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(&dir, 64 << 20);
    let [one, two] = [(); 2].map(|()| Arc::new(OnlyNotes::default()));
    let [note, other, unwanted] =
        [(1, 1, "x"), (2, 1, "y"), (3, 7, "+")].map(|(seed, kind, content)| signed(seed, kind, 1, &[], content));
    let delivery = |to: &Arc<OnlyNotes>, texts: &[String]| {
        let mut piece = Piece::empty(1);
        texts.iter().for_each(|text| piece.push(text.trim_end().as_bytes()));
        (Origin::Relay("wss://relay".into(), Arc::clone(to) as _), piece)
    };
    let deliveries = vec![
        delivery(&one, &[line(&note), line(&unwanted)]),
        delivery(&two, &[line(&note), "no event".into()]),
        delivery(&one, &[line(&other)]),
    ];
    let mut deliveries = deliveries.into_iter();
    let parts = Parts { source: Source::Sync, ..parts(&store, Options::default()) };
    let report = receive(parts, move || deliveries.next(), &mut Told::default()).expect("threads");
    assert!(matches!(report.end, ImportEnd::Complete), "{report:?}");
    let told = |to: &OnlyNotes| to.0.lock().expect("no test panicked").clone();
    assert_eq!(told(&one), [(1, vec![LineOutcome::Unwanted]), (1, vec![])]);
    assert_eq!(told(&two), [(0, vec![LineOutcome::Duplicate, LineOutcome::Invalid])]);
}
