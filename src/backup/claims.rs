//! Are the numbers and names in a manifest possible? Checked once, when it is read: everybody else relies on them.
//!
//! A checksum does not tell who wrote a manifest. The numbers are compared with each other here, and each part compares
//! its own with what it holds. Neither memory nor time is ever spent on what a number claims.

use super::file::Listed;
use super::part::{LEAST_RECORD_BYTES, MAGIC};
use super::seq_set::most_bytes;
use super::state::State;
use crate::nostr::Timestamp;
use crate::store::Seq;

/// What cannot be true in a manifest with these parts, states and times of arrival, if anything.
pub(super) fn fault(parts: &[Listed], states: &[State], arrived: &[(u64, u64)]) -> Option<&'static str> {
    files(parts, states)
        .or_else(|| records(parts))
        .or_else(|| runs(parts, states))
        .or_else(|| (!arrived.iter().all(is_time)).then_some("it claims impossible times of arrival"))
}

/// Names lead to files of the directory, and the lengths have a sum.
fn files(parts: &[Listed], states: &[State]) -> Option<&'static str> {
    let mut bytes = Some(0_u64);
    for file in parts.iter().chain(states.iter().flat_map(State::files)) {
        if !Listed::is_name(&file.name) {
            return Some("it lists a file that is not one of a backup");
        }
        bytes = bytes.and_then(|bytes| bytes.checked_add(file.bytes));
    }
    bytes.is_none().then_some("its files are larger than any disk")
}

/// The parts follow each other in the order of arrival, and each has room for its records.
fn records(parts: &[Listed]) -> Option<&'static str> {
    let mut before = 0;
    for part in parts {
        if part.first_seq <= before || part.last_seq < part.first_seq || part.last_seq > Seq::MAX.0 {
            return Some("the arrival numbers of its parts are out of order");
        }
        before = part.last_seq;
        let most = part.bytes.saturating_sub(MAGIC.len() as u64) / LEAST_RECORD_BYTES;
        if part.rows > most || part.rows > part.last_seq - part.first_seq + 1 {
            return Some("a part is too small for its records");
        }
    }
    None
}

/// The runs ascend, and each state holds no more than the records and no later ones than its last.
fn runs(parts: &[Listed], states: &[State]) -> Option<&'static str> {
    // No overflow: each is at most an eleventh of a length, and the lengths have a sum.
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let Some(newest) = states.last() else { return Some("it lists no run") };
    // The next run has a number, too.
    let (mut run, mut last_seq) = (0, 0);
    for state in states {
        if state.run <= run || state.run == u64::MAX {
            return Some("its runs are out of order");
        }
        if state.last_seq < last_seq || state.last_seq > Seq::MAX.0 {
            return Some("the arrival numbers of its runs are out of order");
        }
        (run, last_seq) = (state.run, state.last_seq);
        if state.events > rows || state.events > state.last_seq {
            return Some("a run holds more events than there are");
        }
        if state.held.bytes > MAGIC.len() as u64 + most_bytes(state.events) {
            return Some("a list of arrival numbers is too long");
        }
    }
    let last = parts.last().map_or(0, |part| part.last_seq);
    (last > newest.last_seq).then_some("it lists records that came after its last run")
}

/// Times and numbers have six bytes in a store.
const fn is_time((by, below): &(u64, u64)) -> bool {
    *by <= Timestamp::MAX.0 && *below <= Seq::MAX.0 + 1
}
