//! Surveys: the events visited, by full and by sampled surveys.

use super::*;
use crate::store::Amount;

/// Authors 1 to 5 write as many notes per round as their number, so that each author's events are spread everywhere.
fn filled() -> Home {
    let home = home();
    let wrote: Vec<u64> = (1..=5).flat_map(|n| std::iter::repeat_n(n, n as usize)).collect();
    for round in 0..400_u64 {
        home.commit(&wrote.iter().zip(0..).map(|(n, at)| note(author(*n), round, &at.to_string())).collect::<Vec<_>>());
    }
    home
}

/// The events visited, the number of them since 300, and the last arrival number.
fn survey(home: &Home, sample: Option<u64>) -> (Amount, u64, Seq) {
    let (mut seen, mut recent, mut last) = (Amount::default(), 0, Seq(0));
    let visit = |_: Seq, event: crate::nostr::EventView<'_>| {
        seen.add(event);
        recent += u64::from(event.created_at() >= Timestamp(300));
    };
    home.store.survey(sample, visit, |seq| last = seq).expect("a survey");
    (seen, recent, last)
}

#[test]
fn a_full_survey_visits_every_event_once() {
    let home = filled();
    let kinds = home.store.read().expect("a snapshot").kinds().expect("kinds");
    let [(_, held)] = kinds[..] else { panic!("one kind") };
    let expected = Amount { events: held.events, bytes: held.bytes, footprint: held.footprint };
    assert_eq!(survey(&home, None), (expected, 1500, Seq(6000)));
}

#[test]
fn a_sample_is_spread_evenly_and_skips_removed_events() {
    let home = filled();
    let (seen, recent, last) = survey(&home, Some(600));
    assert_eq!((seen.events, recent), (600, 150));
    assert!(last >= Seq(6000 - 10));
    let gone: Vec<Seq> = (1..=3000).map(Seq).collect();
    home.store.writer().remove(&gone, Return::Allowed).expect("a commit");
    let (seen, recent, _) = survey(&home, Some(600));
    assert_eq!((seen.events, recent), (300, 150));
}

#[test]
fn a_survey_of_an_empty_store_visits_nothing() {
    assert_eq!(survey(&home(), Some(10)), (Amount::default(), 0, Seq(0)));
}
