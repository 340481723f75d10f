//! The order of events of one second (INV-17), held against sorting: however many there are, through every plan, and
//! where a limit cuts them.

use std::cmp::Reverse;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::export::{oldest_first, scanned};
use super::*;
use crate::nostr::json::Parser;
use crate::nostr::{EventId, Filter, ParseOptions};
use crate::store::scan::position::MAX_TIED;

/// A store, and the records that it holds, by arrival.
struct Ties {
    home: Home,
    records: Vec<Vec<u8>>,
}

/// An id like any other; but of the first events every fifth, [`MAX_TIED`] of them, begin with the same three bytes.
fn id(n: usize) -> [u8; 32] {
    let mut id: [u8; 32] = Sha256::digest(n.to_string()).into();
    if n.is_multiple_of(5) && n < 5 * MAX_TIED {
        id[..3].fill(0x77);
    }
    id
}

/// The record of an event with a chosen id, of one of three authors, three kinds and two tag values.
fn forged(n: usize, id: [u8; 32], created_at: u64) -> Vec<u8> {
    let tags: &[&[&str]] = &[&["t", if n.is_multiple_of(2) { "even" } else { "odd" }], &["t", "all"]];
    let event = trusted(author(n as u64 % 3), 40 + (n % 7 % 3) as u16, created_at, tags, "");
    let mut record = event.view().record().to_vec();
    record[..32].copy_from_slice(&id);
    record
}

impl Ties {
    fn new(records: Vec<Vec<u8>>) -> Self {
        let home = home();
        home.admit(&records);
        Self { home, records }
    }

    /// What matches, as sorting and filtering everything gives it.
    fn expected(&self, filters: &[Filter]) -> Vec<Seq> {
        let mut found: Vec<_> = Vec::new();
        for (record, seq) in self.records.iter().zip(1..) {
            let event = EventView::from_record(record).expect("a record");
            if filters.iter().any(|filter| filter.matches(event)) {
                found.push((Reverse(event.created_at()), event.id().0, Seq(seq)));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, seq)| seq).collect()
    }
}

/// Filters that are answered by each index, by two together, and by many ranges at a time.
fn plans(count: usize) -> Vec<Vec<Filter>> {
    let hex = |n| author(n).to_string();
    let ids: Vec<String> = (0..count).step_by(3).map(|n| EventId(id(n)).to_string()).collect();
    let plans = [
        json!([{}]),
        json!([{"kinds": [41]}]),
        json!([{"kinds": [40, 41, 42]}]),
        json!([{"authors": [hex(1)]}]),
        json!([{"authors": [hex(0), hex(1), hex(2)], "kinds": [40, 42]}]),
        json!([{"#t": ["odd"]}]),
        json!([{"#t": ["odd", "even"]}]),
        json!([{"authors": [hex(0), hex(2)], "#t": ["even"]}]),
        json!([{"ids": ids}]),
        json!([{"#t": ["all"]}, {"kinds": [40]}, {"#t": ["odd"], "authors": [hex(1)]}]),
    ];
    let parse = |filter: &serde_json::Value| {
        let text = filter.to_string();
        Filter::parse(&mut Parser::default(), text.as_bytes(), ParseOptions::default()).expect("a filter")
    };
    plans.iter().map(|plan| plan.as_array().expect("filters").iter().map(parse).collect()).collect()
}

const SECOND: u64 = 1_000;

#[test]
fn events_of_one_second_come_by_their_ids_however_many_there_are_whatever_the_plan_and_the_slices() {
    for count in [65, 300, 2_000] {
        let one = |n: usize| forged(n, id(n), SECOND + (n % 50 / 49) as u64);
        let ties = Ties::new((0..count).map(one).collect());
        for filters in plans(count) {
            let expected = ties.expected(&filters);
            assert!(expected.len() > 10, "{filters:?}");
            for rows in [1, 100, u32::MAX] {
                assert_eq!(
                    scanned(&ties.home, &filters, None, rows),
                    expected,
                    "{count}, slices of {rows}: {filters:?}"
                );
            }
            // A limit counts for its filter alone, so that only one filter's answer is a prefix of everything.
            for limit in if filters.len() == 1 { [1, 7, 64, 65, 100] } else { [0; 5] } {
                let limited = Filter { limit: Some(limit), ..filters[0].clone() };
                let cut = &expected[..expected.len().min(limit as usize)];
                let limits = QueryLimits { default_limit: 5_000, max_limit: 5_000, hints: false, tie_extension: 0 };
                let found = scanned(&ties.home, &[limited], Some(limits), 100);
                assert!(filters.len() > 1 || found == cut, "{count}, cut after {limit}: {filters:?}");
            }
            let mut oldest = expected;
            oldest.reverse();
            assert_eq!(oldest_first(&ties.home, &filters, 100), oldest, "{count}: {filters:?}");
        }
    }
}

/// With NIP-67's hints, a page goes on to the end of its last second, so that the next one may begin before that.
#[test]
fn pages_by_until_have_every_event_once_and_in_order_where_seconds_hold_more_than_a_page() {
    let ties = Ties::new((0..900).map(|n| forged(n, id(n), SECOND + n as u64 % 3)).collect());
    let limits = QueryLimits { default_limit: 100, max_limit: 1_000, hints: true, tie_extension: 256 };
    for filters in plans(900).into_iter().filter(|filters| filters.len() == 1) {
        let (expected, mut found, mut until) = (ties.expected(&filters), Vec::new(), None);
        loop {
            let page = scanned(&ties.home, &[Filter { until, ..filters[0].clone() }], Some(limits), 7);
            let Some(last) = page.last() else { break };
            let view = EventView::from_record(&ties.records[last.0 as usize - 1]).expect("a record");
            until = Some(Timestamp(view.created_at().0 - 1));
            found.extend(page);
        }
        assert!(found == expected, "{filters:?}");
    }
}

/// The limit of the promise, which only somebody who makes ids for it can reach: see [`MAX_TIED`].
#[test]
fn of_more_ids_that_begin_alike_than_are_sorted_together_each_group_is_sorted_and_none_is_left_out() {
    let alike = |n: usize| std::array::from_fn(|at| if at < 3 { 7 } else { id(n)[at] });
    let count = 3 * MAX_TIED + 10;
    let ties = Ties::new((0..count).map(|n| forged(n, alike(n), SECOND)).collect());
    let by_arrival: Vec<usize> = (0..count).collect();
    let group = |group: &[usize]| {
        let mut group = group.to_vec();
        group.sort_unstable_by_key(|n| alike(*n));
        group.into_iter().map(|n| Seq(n as u64 + 1)).collect::<Vec<_>>()
    };
    let expected: Vec<Seq> = by_arrival.chunks(MAX_TIED).flat_map(group).collect();
    for rows in [1, 50, u32::MAX] {
        assert_eq!(scanned(&ties.home, &[Filter::default()], None, rows), expected, "slices of {rows}");
    }
}
