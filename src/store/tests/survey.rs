//! Surveys: what is looked at, whether all or some.

use super::*;
use crate::store::Amount;

/// Author `n` writes `n` notes for each of 1 to 5, so that events of all lie everywhere.
fn filled() -> Home {
    let home = home();
    let wrote: Vec<u64> = (1..=5).flat_map(|n| std::iter::repeat_n(n, n as usize)).collect();
    for round in 0..400_u64 {
        home.commit(&wrote.iter().zip(0..).map(|(n, at)| note(author(*n), round, &at.to_string())).collect::<Vec<_>>());
    }
    home
}

/// What was looked at, how many of it since 300, and how far it went.
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
fn a_full_survey_looks_at_every_event_once() {
    let home = filled();
    let kinds = home.store.read().expect("a snapshot").kinds().expect("kinds");
    let [(_, held)] = kinds[..] else { panic!("one kind") };
    let expected = Amount { events: held.events, bytes: held.bytes, footprint: held.footprint };
    assert_eq!(survey(&home, None), (expected, 1500, Seq(6000)));
}

#[test]
fn a_sample_is_spread_evenly_and_passes_over_what_is_gone() {
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
fn an_empty_store_has_nothing_to_tell() {
    assert_eq!(survey(&home(), Some(10)), (Amount::default(), 0, Seq(0)));
}
