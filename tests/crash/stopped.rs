//! Stopped in order, by SIGTERM.

use super::storm::{Publisher, Role, storm};
use crate::support::relay::Relay;
use crate::support::wire::now;

#[test]
fn a_stop_in_a_storm_answers_what_it_took_and_closes_with_1012() {
    for round in 0..3 {
        let seed = now() + round;
        println!("seed {seed}");
        let mut publishers: Vec<Publisher> =
            (0..6).map(|one| Publisher::new(&format!("stopped {seed} {one}"), seed + one)).collect();
        let (codes, relay) = storm(Relay::start(""), &mut publishers, 700, |relay| {
            relay.signal("TERM");
            Some(relay)
        });
        assert_eq!(codes, vec![Some(1012); publishers.len()]);
        // Exit code 0, in time.
        let relay = relay.expect("it was handed on").wait_for_exit().restart("");
        let mut client = relay.connect();
        for publisher in &publishers {
            let held = publisher.held(&mut client);
            publisher.verify(&held);
            for one in publisher.published.iter().filter(|one| held.contains(&one.event.id)) {
                assert!(one.is_accepted(), "INV-14: stored, but its publisher was not told: {one:?}");
            }
            let refused = publisher.published.iter().filter_map(|one| one.answer.as_ref()).filter(|(taken, _)| !taken);
            assert_eq!(refused.collect::<Vec<_>>(), Vec::<&(bool, String)>::new());
            assert!(publisher.published.iter().any(|one| one.role == Role::Note && one.is_accepted()));
        }
    }
}
