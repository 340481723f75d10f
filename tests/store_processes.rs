//! Several processes and one store: numbers, visibility, and what is left when one of them is killed.
//!
//! The other process is this very test binary, started again with a directory to write to.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::event::{author, trusted};
use weir::nostr::{EventId, EventView, Filter, Kind, Timestamp, VerifiedEvent};
use weir::store::{Budget, Flow, Options, Outcome, Query, QueryLimits, Scan, Seq, Snapshot, Store};

const NOW: Timestamp = Timestamp(1_700_000_000);
const DIRECTORY: &str = "WEIR_TEST_STORE";
const BATCHES: &str = "WEIR_TEST_BATCHES";

fn open(path: &Path) -> Store {
    Store::open(path, Options { map_bytes: 1 << 30, ..Options::default() }).expect("the store opens")
}

fn batch(by: u64, number: u64) -> Vec<VerifiedEvent> {
    (0..8)
        .map(|n| trusted(author(by), if n == 0 { 10_002 } else { 1 }, number, &[&["t", "x"]], &n.to_string()))
        .collect()
}

/// Not a test: the other process. Says each id on standard output once it is committed.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let batches: u64 = std::env::var(BATCHES).expect("how many").parse().expect("a number");
    let store = open(Path::new(&path));
    let mut writer = store.writer();
    for number in 0..batches {
        let batch = batch(1, number);
        let outcomes = writer.commit(&batch, NOW).expect("a commit");
        for (event, outcome) in batch.iter().zip(outcomes) {
            let Outcome::Stored(seq) = outcome else { panic!("{outcome:?}") };
            println!("stored {seq} {}", event.view().id());
        }
    }
}

fn start(path: &Path, batches: u64) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "other_process", "--nocapture"])
        .env(DIRECTORY, path)
        .env(BATCHES, batches.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the process starts")
}

/// What the other process says that it stored.
fn acknowledged(child: &mut Child) -> impl Iterator<Item = (Seq, EventId)> {
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    lines.filter_map(|line| {
        let mut words = line.strip_prefix("stored ")?.split(' ');
        let seq = Seq(words.next()?.parse().ok()?);
        Some((seq, EventId::from_hex(words.next()?.as_bytes())?))
    })
}

#[test]
fn two_processes_write_to_one_store_and_no_number_is_given_twice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path());
    let before = store.txn_id().expect("a number");
    let mut child = start(dir.path(), 50);
    let mut writer = store.writer();
    let mut seqs = Vec::new();
    for number in 0..50 {
        for outcome in writer.commit(&batch(2, number), NOW).expect("a commit") {
            let Outcome::Stored(seq) = outcome else { panic!("{outcome:?}") };
            seqs.push(seq);
        }
    }
    seqs.extend(acknowledged(&mut child).map(|(seq, _)| seq));
    assert!(child.wait().expect("an end").success());
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=800).map(Seq).collect::<Vec<_>>(), "INV-4");
    assert!(store.txn_id().expect("a number") >= before + 100, "the commits of the other process are noticed");
    let report = store.check(|_, _| {}).expect("a check");
    assert_eq!((report.events, report.problems), (2 * (50 * 7 + 1), vec![]));
}

/// The newest rows of a feed, by a scan.
fn feed(filter: &Filter, snapshot: &Snapshot<'_>) -> Vec<(u64, EventId)> {
    let limits = QueryLimits { default_limit: 500, max_limit: 500, hints: false, tie_extension: 0 };
    let query = Query { filters: [filter.clone()].into(), until_seq: Seq::MAX, limits: Some(limits) };
    let mut rows = Vec::new();
    let mut take = |_: Seq, event: EventView<'_>| {
        rows.push((event.created_at().0, event.id()));
        Flow::Continue
    };
    Scan::new(query).run(snapshot, Budget::UNLIMITED, &mut take).expect("a scan");
    rows
}

#[test]
fn a_feed_misses_nothing_that_two_processes_write_at_the_same_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options { map_bytes: 1 << 30, newest_times_bytes: 1 << 16, ..Options::default() };
    let store = Store::open(dir.path(), options).expect("the store opens");
    let limit = 20;
    let mut authors: Vec<_> = (0..40).map(author).collect();
    authors.sort_unstable();
    let filter = Filter {
        authors: Some(authors.into()),
        kinds: Some([Kind(1)].into()),
        limit: Some(limit),
        ..Filter::default()
    };
    // Few enough that all it says fits into the pipe.
    let mut child = start(dir.path(), 60);
    let mut writer = store.writer();
    let mut number = 0;
    loop {
        let is_last = child.try_wait().expect("a state").is_some();
        // Now and then this process only reads, so the last commit is the other's.
        if number % 3 < 2 {
            writer.commit(&batch(2 + number % 5, number), NOW).expect("a commit");
        }
        for _ in 0..2 {
            let snapshot = store.read().expect("a snapshot");
            let mut all: Vec<_> = snapshot
                .after(Seq(0))
                .expect("a walk")
                .map(|row| row.expect("a row").1)
                .filter(|event| event.kind() == Kind(1))
                .map(|event| (event.created_at().0, event.id()))
                .collect();
            all.sort_unstable_by_key(|(time, id)| (std::cmp::Reverse(*time), *id));
            all.truncate(limit as usize);
            assert_eq!(feed(&filter, &snapshot), all);
        }
        if is_last {
            break;
        }
        number += 1;
    }
    let counts = store.newest_counts();
    assert!(counts.hits > 0 && counts.resets > 0, "{counts:?}");
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_killed_writer_leaves_a_sound_store_with_everything_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for round in 0..5 {
        let mut child = start(dir.path(), 100_000);
        let acknowledged: Vec<_> = acknowledged(&mut child).take(100 + 77 * round).collect();
        child.kill().expect("a kill");
        child.wait().expect("an end");

        let store = open(dir.path());
        let report = store.check(|_, _| {}).expect("a check");
        assert_eq!(report.problems, []);
        let snapshot = store.read().expect("a snapshot");
        let first = acknowledged.first().expect("it wrote").0.0 % 8;
        for (seq, id) in acknowledged {
            // The first of each batch takes the place of the one before.
            match snapshot.by_id(&id).expect("a lookup") {
                Some((held, _)) => assert_eq!(held, seq, "INV-1"),
                None => assert_eq!(seq.0 % 8, first, "INV-1: only replaced versions are gone"),
            }
        }
        drop(snapshot);
        // The next round writes the same events again.
        let last = store.read().expect("a snapshot").last_seq().expect("a number");
        let all: Vec<Seq> = (1..=last.0).map(Seq).collect();
        store.writer().remove(&all, weir::store::Return::Allowed).expect("a commit");
    }
}
