//! Clients that are refused over and over: they are closed, and then not served for a while.
//!
//! Offences count for an address and for a key that a client has proven; what a client only claims counts against
//! nobody. The table is bounded; nothing here reads a clock. `now_us` is in microseconds of any monotonic clock.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::metrics::PolicyRule;
use crate::nostr::{Prefix, Pubkey, Reason};

/// How many offences make an offender, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffenderOptions {
    /// Offences in `period_s` that make an offender; 0 means that nobody is one.
    pub offences: u32,
    /// Seconds after which offences are forgotten, counted from the first.
    pub period_s: u64,
    /// Seconds for which an offender is not served.
    pub refused_s: u64,
}

impl Default for OffenderOptions {
    fn default() -> Self {
        Self { offences: 0, period_s: 600, refused_s: 3_600 }
    }
}

/// Whom offences count for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suspect {
    /// A network, as `[rates]` counts addresses.
    Address(IpAddr),
    /// A key that a client has proven.
    Key(Pubkey),
}

/// Whether an event that breaks this rule is an offence: no client sends such events over and over by accident.
#[must_use]
pub const fn is_offence(rule: PolicyRule) -> bool {
    matches!(
        rule,
        PolicyRule::PrivateKind
            | PolicyRule::Author
            | PolicyRule::Content
            | PolicyRule::Size
            | PolicyRule::Tags
            | PolicyRule::Work
    )
}

/// How often a full table is searched for what it may forget.
const SWEEP_EVERY_US: u64 = 1_000_000;

/// The suspects and offenders.
#[derive(Debug)]
pub struct Offenders {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<Suspect, Record>,
    next_sweep_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    since_us: u64,
    offences: u32,
    /// Until when it is not served; 0 if it is.
    until_us: u64,
}

impl Record {
    const fn is_over(self, options: &OffenderOptions, now_us: u64) -> bool {
        self.until_us <= now_us && now_us.saturating_sub(self.since_us) >= us(options.period_s)
    }
}

impl Offenders {
    /// A table of at most `max` suspects, about 80 bytes each.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, state: Mutex::default() }
    }

    /// Counts an offence. Once the table is full of others that are not over, a new suspect's are not counted.
    pub fn count(&self, options: &OffenderOptions, suspect: Suspect, now_us: u64) {
        if options.offences == 0 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.records.len() >= self.max && now_us >= state.next_sweep_us {
            state.next_sweep_us = now_us.saturating_add(SWEEP_EVERY_US);
            state.records.retain(|_, record| !record.is_over(options, now_us));
        }
        if state.records.len() >= self.max && !state.records.contains_key(&suspect) {
            return;
        }
        let new = Record { since_us: now_us, offences: 0, until_us: 0 };
        let record = state.records.entry(suspect).or_insert(new);
        if record.is_over(options, now_us) {
            *record = new;
        }
        record.offences += 1;
        if record.offences >= options.offences && record.until_us <= now_us {
            record.until_us = now_us.saturating_add(us(options.refused_s));
        }
    }

    /// Why this suspect is not served, if it is an offender.
    #[must_use]
    pub fn refusal(&self, options: &OffenderOptions, suspect: Suspect, now_us: u64) -> Option<Reason> {
        if options.offences == 0 {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait_us = state.records.get(&suspect)?.until_us.checked_sub(now_us).filter(|wait_us| *wait_us > 0)?;
        let text = format!("too many refused events; try again in {} s", wait_us.div_ceil(1_000_000));
        Some(Reason::new(Prefix::Blocked, text))
    }
}

const fn us(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: OffenderOptions = OffenderOptions { offences: 3, period_s: 10, refused_s: 60 };

    fn from(last: u8) -> Suspect {
        Suspect::Address([192, 0, 2, last].into())
    }

    /// Seconds for which it is not served.
    fn wait(table: &Offenders, suspect: Suspect, now_s: u64) -> u64 {
        let Some(reason) = table.refusal(&OPTIONS, suspect, us(now_s)) else { return 0 };
        assert_eq!(reason.prefix, Prefix::Blocked);
        reason.text.rsplit(' ').nth(1).expect("a number").parse().expect("a number")
    }

    #[test]
    fn enough_offences_in_the_period_are_answered_by_a_time_without_service_and_then_begin_again() {
        let table = Offenders::new(9);
        let offend = |suspect, now_s| {
            table.count(&OPTIONS, suspect, us(now_s));
            wait(&table, suspect, now_s)
        };
        assert_eq!([offend(from(1), 0), offend(from(1), 5), offend(from(1), 9)], [0, 0, 60]);
        assert_eq!([wait(&table, from(1), 68), wait(&table, from(1), 69), wait(&table, from(2), 9)], [1, 0, 0]);
        assert_eq!([offend(from(1), 70), offend(from(1), 71), offend(from(1), 72)], [0, 0, 60], "from the first on");
        let key = Suspect::Key(Pubkey([1; 32]));
        assert_eq!(
            [offend(key, 0), offend(key, 9), offend(key, 10), offend(key, 11)],
            [0, 0, 0, 0],
            "some are forgotten"
        );
        assert_eq!(offend(key, 12), 60);
    }

    #[test]
    fn a_full_table_keeps_its_offenders_and_forgets_what_is_over() {
        let table = Offenders::new(2);
        for _ in 0..3 {
            table.count(&OPTIONS, from(1), 0);
        }
        table.count(&OPTIONS, from(2), 0);
        for now_s in [0, 1, 2, 3] {
            table.count(&OPTIONS, from(3), us(now_s));
        }
        assert_eq!([wait(&table, from(1), 3), wait(&table, from(3), 3)], [57, 0]);
        for now_s in [10, 11, 12] {
            table.count(&OPTIONS, from(3), us(now_s));
        }
        assert_eq!([wait(&table, from(1), 12), wait(&table, from(3), 12)], [48, 60], "the second one was over");
        assert_eq!(table.state.lock().expect("no panic").records.len(), 2);
    }

    #[test]
    fn without_the_option_nobody_is_an_offender() {
        let (table, options) = (Offenders::new(9), OffenderOptions::default());
        (0..100).for_each(|_| table.count(&options, from(1), 0));
        assert_eq!(table.refusal(&options, from(1), 0), None);
    }
}
