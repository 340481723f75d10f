//! Surveys: what is counted, whether all or some is looked at.

use super::*;

/// Author `n` writes `n` notes for each of 1 to 5, so that events of all lie everywhere.
fn filled() -> Home {
    let home = home();
    let wrote: Vec<u64> = (1..=5).flat_map(|n| std::iter::repeat_n(n, n as usize)).collect();
    for round in 0..400_u64 {
        home.commit(&wrote.iter().zip(0..).map(|(n, at)| note(author(*n), round, &at.to_string())).collect::<Vec<_>>());
    }
    home
}

#[test]
fn a_full_survey_counts_every_event_and_ranks_the_authors() {
    let home = filled();
    let survey = home.store.survey(None, Timestamp(300), |_| ()).expect("a survey");
    assert_eq!((survey.seen.events, survey.recent.events), (6000, 1500));
    let ranked: Vec<(Pubkey, u64)> =
        survey.largest_authors(3).into_iter().map(|(author, amount)| (author, amount.events)).collect();
    assert_eq!(ranked, [(author(5), 2000), (author(4), 1600), (author(3), 1200)]);
    let bytes: u64 = survey.authors.values().map(|amount| amount.bytes).sum();
    let held: u64 =
        home.store.read().expect("a snapshot").kinds().expect("kinds").iter().map(|(_, kind)| kind.bytes).sum();
    assert_eq!((bytes, survey.seen.bytes), (held, held));
}

#[test]
fn a_sample_is_spread_evenly_and_passes_over_what_is_gone() {
    let home = filled();
    let mut last = Seq(0);
    let survey = home.store.survey(Some(600), Timestamp(300), |seq| last = seq).expect("a survey");
    assert_eq!((survey.seen.events, survey.recent.events), (600, 150));
    assert!(last >= Seq(6000 - 10));
    let gone: Vec<Seq> = (1..=3000).map(Seq).collect();
    home.store.writer().remove(&gone, Return::Allowed).expect("a commit");
    let survey = home.store.survey(Some(600), Timestamp(300), |_| ()).expect("a survey");
    assert_eq!((survey.seen.events, survey.recent.events), (300, 150));
}

#[test]
fn an_empty_store_has_nothing_to_tell() {
    assert_eq!(home().store.survey(Some(10), Timestamp(0), |_| ()).expect("a survey"), Survey::default());
}
