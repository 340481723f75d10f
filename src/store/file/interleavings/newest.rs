//! The bounds of newest events beside commits: in whatever order threads run, no bound is below a row that its reader
//! must see.
//!
//! The file is made up: it has a state for each commit, as LMDB has, and a lock that writers take. The table is the
//! relay's own.

use std::sync::Arc;

use shuttle::rand::{Rng as _, thread_rng};

use crate::nostr::Timestamp;
use crate::server::interleavings::explore;
use crate::store::file::newest::{Bound, Newest, RangeKey};
use crate::sync::{Mutex, thread};

/// More than a bucket holds, so entries are forgotten.
const RANGES: usize = 4;

/// The number of the commit that the file begins with.
const FIRST: u64 = 5;

/// The rows of each range, a bit for each time.
type State = [u32; RANGES];

struct File {
    write_lock: Mutex<()>,
    commits: Mutex<Vec<State>>,
    newest: Newest,
}

/// Who makes a commit, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// This process adds a row.
    Own,
    /// This process tries to, and LMDB fails.
    Failed,
    /// This process removes a row.
    Removal,
    /// Another process adds a row.
    Foreign,
}

/// All of them are in one bucket.
fn key(range: usize) -> RangeKey {
    [7, 7, 7, 7, 7, 7, 0, 2 * range as u8]
}

fn bound(rows: u32) -> Bound {
    rows.checked_ilog2().map_or(Bound::Nothing, |time| Bound::At(Timestamp(time.into())))
}

fn is_below(bound: Bound, rows: u32) -> bool {
    match (bound, rows.checked_ilog2()) {
        (_, None) => false,
        (Bound::Nothing, Some(_)) => true,
        (Bound::At(bound), Some(newest)) => bound.0 < newest.into(),
    }
}

impl File {
    fn new() -> Arc<Self> {
        let commits = vec![[0b1, 0b10, 0, 0b100]];
        Arc::new(Self { write_lock: Mutex::new(()), commits: Mutex::new(commits), newest: Newest::new(128, FIRST) })
    }

    fn commits(&self) -> Vec<State> {
        self.commits.lock().expect("no panic").clone()
    }

    /// What a scan does: takes a snapshot, asks for a bound, and enters what it saw where there is none.
    fn read(&self, range: usize) {
        let snapshot = self.commits();
        let (commit, seen) = (FIRST + snapshot.len() as u64 - 1, snapshot[snapshot.len() - 1][range]);
        if !self.newest.covers(commit) {
            return;
        }
        let Some(known) = self.newest.get(key(range)) else {
            return self.newest.enter(key(range), bound(seen), commit);
        };
        // Rows that were removed since may be missed.
        let kept = self.commits()[snapshot.len() - 1..].iter().fold(seen, |kept, state| kept & state[range]);
        assert!(!is_below(known, kept), "{known:?} for {kept:b} in commit {commit}");
    }

    fn write(&self, range: usize, time: u32, commit: Commit) {
        let lock = self.write_lock.lock().expect("no panic");
        let commits = self.commits();
        let (number, mut state) = (FIRST + commits.len() as u64, commits[commits.len() - 1]);
        match commit {
            Commit::Removal => state[range] = 0,
            Commit::Own | Commit::Failed => {
                self.newest.begin(number);
                self.newest.raise(key(range), Timestamp(time.into()));
                state[range] |= 1 << time;
            }
            Commit::Foreign => state[range] |= 1 << time,
        }
        if commit != Commit::Failed {
            self.commits.lock().expect("no panic").push(state);
        }
        // LMDB lets go of the lock before its commit returns.
        drop(lock);
        if [Commit::Own, Commit::Removal].contains(&commit) {
            self.newest.committed(number);
        }
    }
}

fn race(schedules: usize, writers: &'static [&'static [Commit]]) {
    explore(schedules, move || {
        let file = File::new();
        let mut threads = Vec::new();
        for (number, commits) in writers.iter().enumerate() {
            let file = Arc::clone(&file);
            threads.push(thread::spawn(move || {
                for (step, commit) in commits.iter().enumerate() {
                    let range = thread_rng().gen_range(0..RANGES);
                    file.write(range, 8 + 8 * number as u32 + step as u32, *commit);
                }
            }));
        }
        for _ in 0..2 {
            let file = Arc::clone(&file);
            threads.push(thread::spawn(move || {
                for _ in 0..5 {
                    file.read(thread_rng().gen_range(0..RANGES));
                }
            }));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        (0..RANGES).for_each(|range| file.read(range));
    });
}

#[test]
fn what_readers_enter_beside_a_writer_is_never_below_what_it_adds() {
    race(20_000, &[&[Commit::Own, Commit::Own, Commit::Own]]);
}

#[test]
fn a_removal_between_two_commits_leaves_no_bound_that_is_too_low() {
    race(20_000, &[&[Commit::Own, Commit::Removal, Commit::Own], &[Commit::Removal, Commit::Own]]);
}

#[test]
fn commits_of_another_process_and_failed_ones_leave_no_bound_that_is_too_low() {
    use Commit::{Failed, Foreign, Own, Removal};
    race(20_000, &[&[Own, Failed, Own], &[Foreign, Foreign], &[Removal, Own]]);
}
