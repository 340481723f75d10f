//! Which acts of a file of the audit have these numbers, and which were added? Acts are numbered one after another, so
//! they are found by halving, and a page of a long audit costs no more than one of a short audit.
//!
//! It only reads. The lock is held by whoever calls it.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::audit::AuditEntry;
use super::error::JournalError;
use super::files::{Files, Lines, damaged};

/// Bytes within which looking at each line costs less than halving again.
const NEAR: u64 = 16 << 10;

/// As much of an act as tells where it is.
#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

/// The acts of the file with these numbers, in order; none if there is no such file.
///
/// # Errors
/// When the file cannot be read, or is damaged where it was looked at.
pub fn acts(path: &Path, wanted: &RangeInclusive<u64>) -> Result<Vec<AuditEntry>, JournalError> {
    match find(path, wanted) {
        // Read from its beginning, it tells the line.
        Err(JournalError::Damaged { .. }) => {
            let mut found = Vec::new();
            Files::entries(path, |entry| found.extend(Some(entry).filter(|entry| wanted.contains(&entry.number))))?;
            Ok(found)
        }
        found => found,
    }
}

fn find(path: &Path, wanted: &RangeInclusive<u64>) -> Result<Vec<AuditEntry>, JournalError> {
    let Some(mut lines) = Lines::open(path)? else { return Ok(Vec::new()) };
    // `low` is where a line begins, and the first act that is wanted is not before it.
    let (mut low, mut high) = (0, Files::seen(path)?.bytes());
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        let next = lines.seek_after(middle)?;
        match lines.next()? {
            Some(line) if read::<Numbered>(path, &line)?.number <= *wanted.start() => low = next,
            _ => high = middle,
        }
    }
    lines.seek(low)?;
    let mut found = Vec::new();
    while let Some(line) = lines.next()? {
        let number = read::<Numbered>(path, &line)?.number;
        if number > *wanted.end() {
            break;
        }
        if number >= *wanted.start() {
            found.push(read(path, &line)?);
        }
    }
    Ok(found)
}

fn read<T: DeserializeOwned>(path: &Path, line: &str) -> Result<T, JournalError> {
    // Nobody is told the number of the line: see `acts`.
    serde_json::from_str(line).map_err(|error| damaged(path, 0, error.to_string()))
}

/// The acts after `place`, where act `last` ends; `None` unless they follow it one after another up to the end.
///
/// # Errors
/// When the file cannot be read.
pub fn added(path: &Path, place: u64, last: u64) -> Result<Option<Vec<AuditEntry>>, JournalError> {
    let Some(mut lines) = Lines::open(path)? else { return Ok(None) };
    lines.seek(place)?;
    let mut added: Vec<AuditEntry> = Vec::new();
    while let Some(line) = lines.next()? {
        match serde_json::from_str::<AuditEntry>(&line) {
            Ok(entry) if entry.number == last + 1 + added.len() as u64 => added.push(entry),
            // Another file has taken its place.
            _ => return Ok(None),
        }
    }
    Ok(Some(added).filter(|_| lines.torn == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::{Actor, Journal, Subject, Verdict};
    use crate::nostr::{Pubkey, Timestamp};

    fn actor() -> Actor {
        Actor { by: "uid:0".into(), auth: None }
    }

    fn open(dir: &Path) -> Journal {
        Journal::open(dir).expect("a journal")
    }

    fn decide(journal: &mut Journal, byte: u8, is_banned: bool) {
        let (subject, decision) = (Subject::Key(Pubkey([byte; 32])), is_banned.then_some((Verdict::Ban, "")));
        assert!(journal.decide("ban", subject, decision, "", (&actor(), Timestamp(7))).expect("done"));
    }

    /// Purges with reasons of many lengths, as lines of the audit.
    fn purges(numbers: std::ops::RangeInclusive<u64>) -> String {
        let purge = |number: u64| AuditEntry {
            number,
            at: 7,
            by: "uid:0".into(),
            method: "purge".into(),
            subject: Subject::Key(Pubkey([number as u8; 32])),
            reason: "x".repeat((number * number % 500) as usize),
            change: None,
            undoes: None,
            events: Some(number),
            auth: None,
            origin: None,
        };
        numbers.map(|number| serde_json::to_string(&purge(number)).expect("JSON") + "\n").collect()
    }

    #[test]
    fn every_page_of_a_long_audit_is_found_in_its_files() {
        let home = tempfile::tempdir().expect("a directory");
        let files = Files::new(home.path().into());
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("a file");
        write(&files.older(2), &purges(101..=300));
        write(&files.older(1), &purges(301..=900));
        write(&files.audit(), &purges(901..=2_000));
        write(&home.path().join("state.jsonl"), "{\"format\":1,\"last\":900,\"decisions\":0}\n");
        let mut journal = open(home.path());
        for (count, skip) in
            (0..2_100).step_by(61).flat_map(|skip| [(1, skip), (50, skip), (700, skip)]).chain([(0, 9)])
        {
            let numbers: Vec<u64> = journal.audit(count, skip).expect("acts").iter().map(|act| act.number).collect();
            let expected: Vec<u64> = (101..=2_000).rev().skip(skip).take(count).collect();
            assert_eq!(numbers, expected, "{count} after {skip}");
        }
        assert_eq!(journal.undo(777, (&actor(), Timestamp(7))).expect_err("a purge").to_string(), {
            "act 777 changed no decision: there is nothing to undo"
        });
        let damaged = purges(301..=900).replacen("\"number\":600,", "\"number\":\"600\",", 1);
        write(&files.older(1), &damaged);
        let error = journal.audit(50, 1_380).expect_err("an error").to_string();
        assert!(error.contains("audit.1.jsonl:300: invalid type: string \"600\""), "{error}");
    }

    #[test]
    fn of_what_another_process_recorded_only_that_is_read() {
        let home = tempfile::tempdir().expect("a directory");
        let [mut one, mut other] = [open(home.path()), open(home.path())];
        decide(&mut one, 1, true);
        other.refresh().expect("readable");
        decide(&mut one, 2, true);
        decide(&mut one, 1, false);
        // What was read before is not looked at.
        let audit = home.path().join("audit.jsonl");
        let text = std::fs::read_to_string(&audit).expect("the audit");
        std::fs::write(&audit, text.replacen("uid:0", "uid;0", 2).replacen("number", "numbre", 1)).expect("the audit");
        assert!(other.refresh().expect("readable"));
        assert_eq!(other.state(), one.state());
        // What does not follow is: the file is another one.
        std::fs::write(&audit, text.clone() + &text).expect("the audit");
        let error = other.refresh().expect_err("an error").to_string();
        assert!(error.contains("audit.jsonl:4: act 1 is where act 4 belongs"), "{error}");
        assert_eq!(other.state(), one.state(), "the state stays as it was");
    }
}
