//! Checks the whole store: every record against every index, holder and tombstone.
//!
//! Changes nothing. Uses one read transaction for the whole check, so that the counts agree: a relay that writes
//! meanwhile cannot reuse the pages that it frees, and the file grows by the pages that it writes.

use hashbrown::HashSet;

use crate::nostr::EventView;
use crate::store::file::generation::Inner;
use crate::store::file::handle::Store;
use crate::store::file::tally;
use crate::store::format::error::StoreError;
use crate::store::format::keys::Seq;
use crate::store::format::keys::{self, Index};
use crate::store::read::lookup::{self, Lookup};
use crate::store::read::remembered_removals;

/// The most problems that a report lists. Further problems are only counted.
const LISTED: usize = 100;

/// An inconsistency in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The arrival number of the event concerned; zero when no event is.
    pub seq: Seq,
    /// The description of the problem, with the invariant that it breaks.
    pub what: String,
}

/// The result of a check.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Number of records.
    pub events: u64,
    /// Number of entries of each index, in the order of [`Index::ALL`].
    pub entries: [u64; Index::ALL.len()],
    /// Number of coordinates held.
    pub holders: u64,
    /// Number of events that a vanish request covers and that wait for their removal.
    pub awaiting_purge: u64,
    /// Number of problems, listed or not.
    pub problem_count: u64,
    /// The first hundred problems.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether there are no problems.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, seq: Seq, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            self.problems.push(Problem { seq, what: what.into() });
        }
    }
}

impl Store {
    /// Checks the whole store and calls `visit` with each event, in the order of arrival. The caller can show progress
    /// and verify the signatures, which this check does not.
    ///
    /// # Errors
    /// When LMDB fails to read. Problems of the data are in the report instead.
    pub fn check(&self, visit: impl FnMut(Seq, EventView<'_>)) -> Result<Report, StoreError> {
        self.inner().check(visit)
    }
}

impl Inner {
    /// As [`Store::check`].
    pub fn check(&self, mut visit: impl FnMut(Seq, EventView<'_>)) -> Result<Report, StoreError> {
        let txn = self.env.read_txn()?;
        let lookup = self.lookup(&txn);
        let mut report = Report::default();
        let mut kinds = std::collections::BTreeMap::<_, tally::KindUsage>::new();
        let mut last = 0;
        for row in lookup.tables.event.iter(&txn)? {
            let (key, record) = row?;
            let Some(seq) = keys::read_six(key) else {
                report.problem(Seq(0), "a key of the event table is too short");
                continue;
            };
            last = seq;
            let Ok(event) = lookup::view(record) else {
                report.problem(Seq(seq), "the record is too short");
                continue;
            };
            report.events += 1;
            kinds.entry(event.kind()).or_default().add(event);
            check_event(lookup, Seq(seq), event, &mut report)?;
            visit(Seq(seq), event);
        }
        match lookup.tables.next_seq(&txn) {
            Ok(next) if next > last => {}
            _ => report.problem(Seq(last), "INV-4: the next arrival number is missing or not past the last"),
        }
        if !tally::read(lookup.tables.meta, &txn).is_ok_and(|tally| tally.into_iter().eq(kinds)) {
            report.problem(Seq(0), "the tally of events by kind is wrong");
        }
        if let Some((seq, what)) = remembered_removals::fault(lookup.tables, &txn)? {
            report.problem(seq, what);
        }
        for index in Index::ALL {
            check_count(lookup, index, &mut report)?;
        }
        if lookup.tables.holder.len(&txn)? > report.holders {
            report.problem(Seq(0), "INV-10: a holder belongs to no event");
        }
        Ok(report)
    }
}

fn check_event(lookup: Lookup<'_>, seq: Seq, event: EventView<'_>, report: &mut Report) -> Result<(), StoreError> {
    if event.hash() != event.id() {
        report.problem(seq, "INV-6: the id is not the hash of the content");
    }
    let mut keys_seen = Ok(());
    keys::index_entries(event, seq, lookup.secret, |index, key| {
        if keys_seen.is_err() {
            return;
        }
        report.entries[index as usize] += 1;
        match lookup.tables.index(index).get(lookup.txn, key) {
            Ok(Some(_)) => {}
            Ok(None) => report.problem(seq, format!("INV-5: its entry in the {index:?} index is missing")),
            Err(error) => keys_seen = Err(error),
        }
    });
    keys_seen?;
    if let Some(address) = lookup.secret.address_of(event) {
        report.holders += 1;
        if lookup.holder(&address)? != Some(seq) {
            report.problem(seq, "INV-10: it is not the version that its coordinate holds");
        }
    }
    if lookup.is_vanished(seq, event)? {
        report.awaiting_purge += 1;
    } else if let Some(why) = lookup.kept_out(event)? {
        report.problem(seq, format!("INV-11: it is held although it is {why:?}"));
    }
    Ok(())
}

/// Every entry that the records account for is there, so equal counts mean that no other entries exist.
fn check_count(lookup: Lookup<'_>, index: Index, report: &mut Report) -> Result<(), StoreError> {
    let table = lookup.tables.index(index);
    if table.len(lookup.txn)? == report.entries[index as usize] {
        return Ok(());
    }
    // Neighbours in an index rarely belong to one event. But the entries of one huge event must not cost the square of
    // their number, so its keys are computed once and kept while its rows follow each other.
    let (mut of, mut expected) = (None, HashSet::new());
    for row in table.iter(lookup.txn)? {
        let (key, _) = row?;
        let Some(seq) = keys::seq_of(key) else {
            report.problem(Seq(0), format!("INV-5: a key of the {index:?} index is too short"));
            continue;
        };
        if of != Some(seq) {
            of = Some(seq);
            expected.clear();
            if let Ok(Some(event)) = lookup.get(seq) {
                keys::index_entries(event, seq, lookup.secret, |own, key| {
                    if own == index {
                        expected.insert(key.to_vec());
                    }
                });
            }
        }
        if !expected.contains(key) {
            report.problem(seq, format!("INV-5: a stray entry in the {index:?} index"));
        }
    }
    Ok(())
}
