//! The state of a backup after each of its runs, and which states are kept.
//!
//! The decision is pure; `create` writes and removes the files.

use serde::{Deserialize, Serialize};

use super::file::Listed;
use crate::nostr::Timestamp;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// The state of a backup after one run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State {
    /// The number of the run, from 1.
    pub run: u64,
    /// When the run began, in unix seconds.
    pub created_at: u64,
    /// The last arrival number that the run covered.
    pub last_seq: u64,
    /// The number of events held.
    pub events: u64,
    /// The arrival numbers of those events.
    pub held: Listed,
    /// The tombstones: events that must not be stored again.
    pub tombstones: Listed,
    /// Files from beside the store, if there were any. Missing in earlier backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Listed>,
}

impl State {
    /// Its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Listed> {
        [&self.held, &self.tombstones].into_iter().chain(&self.attached)
    }
}

/// The number of newest states that are kept, however short the time between their runs.
const NEWEST: usize = 24;

/// The states to keep: the newest 24, the last of each hour of the last day, and the last of each day (in UTC) before
/// that, as long as they are less than `keep_removed_s` seconds old. So at most 49 states are kept, plus one per day.
///
/// `states` are in the order of their runs; the newest is kept whatever its age.
pub(super) fn remembered(states: Vec<State>, now: Timestamp, keep_removed_s: u64) -> Vec<State> {
    let oldest = now.0.saturating_sub(keep_removed_s);
    let slot = |state: &State| {
        let is_recent = state.created_at.saturating_add(DAY) > now.0;
        if is_recent { (1, state.created_at / HOUR) } else { (0, state.created_at / DAY) }
    };
    let (mut kept, mut later): (Vec<State>, _) = (Vec::new(), None);
    for (age, state) in states.into_iter().rev().enumerate() {
        let is_last_of_its_slot = later.replace(slot(&state)) != Some(slot(&state));
        let is_wanted = state.created_at > oldest && (age < NEWEST || is_last_of_its_slot);
        if age == 0 || is_wanted {
            kept.push(state);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 20th day of some month, at noon.
    const NOW: u64 = 1_000 * DAY + 12 * HOUR;

    fn remembered_at(times: &[u64], keep_removed_s: u64) -> Vec<u64> {
        let file = Listed { name: String::new(), bytes: 0, sha256: String::new(), rows: 0, first_seq: 0, last_seq: 0 };
        let states = times.iter().zip(1..).map(|(&created_at, run)| State {
            run,
            created_at,
            last_seq: 0,
            events: 0,
            held: file.clone(),
            tombstones: file.clone(),
            attached: None,
        });
        let kept = remembered(states.collect(), Timestamp(NOW), keep_removed_s);
        kept.into_iter().map(|state| state.created_at).collect()
    }

    #[test]
    fn the_newest_state_is_kept_whatever_its_age() {
        assert_eq!(remembered_at(&[NOW - 90 * DAY, NOW - 80 * DAY], 0), [NOW - 80 * DAY]);
        assert_eq!(remembered_at(&[], 0), [0; 0]);
        // The clock was set back between the runs.
        assert_eq!(remembered_at(&[NOW + DAY, NOW], DAY), [NOW + DAY, NOW]);
    }

    #[test]
    fn the_newest_are_kept_then_one_for_each_hour_of_the_last_day_and_for_each_day_before() {
        let every_ten_minutes: Vec<u64> = (NOW - 10 * DAY..=NOW).step_by(600).collect();
        let kept = remembered_at(&every_ten_minutes, 5 * DAY);
        let (rest, newest) = kept.split_at(kept.len() - NEWEST);
        assert_eq!(newest, (0..NEWEST as u64).rev().map(|n| NOW - n * 600).collect::<Vec<_>>());
        let (days, hours) = rest.split_at(rest.len() - 20);
        assert_eq!(hours, (0..20).map(|n| NOW - (24 - n) * HOUR + 50 * 60).collect::<Vec<_>>());
        // Noon splits the day that is partly older than a day: its last state before noon is kept too.
        let last_of_days = [995, 996, 997, 998].map(|day| day * DAY + 24 * HOUR - 600);
        assert_eq!(days, [&last_of_days[..], &[NOW - DAY]].concat());
    }

    #[test]
    fn states_older_than_the_time_to_keep_are_forgotten() {
        let times = [NOW - 40 * DAY, NOW - 30 * DAY, NOW - 20 * DAY, NOW];
        assert_eq!(remembered_at(&times, 30 * DAY), times[2..]);
        assert_eq!(remembered_at(&times, 0), [NOW]);
    }
}
