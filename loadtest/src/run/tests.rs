//! Runs against a relay that is right, and against relays that are wrong in one way each.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Options, run};
use crate::fake_relay::{Fault, start};
use crate::process::Watched;
use crate::report::Report;
use crate::scenario::Scenario;

fn report(fault: Fault, phases: &str) -> Report {
    let text = format!("name = \"test\"\nabout = \"\"\ncorpus = {{ events = 300, seed = 1 }}\n{phases}");
    let options = Options {
        url: start(fault),
        label: None,
        scenario: Scenario::parse(&text).expect("a valid scenario"),
        corpus: None,
        load: true,
        watched: Watched { pids: vec![std::process::id()], data: None },
        seed: 1,
        sources: 1,
        stall: Duration::from_millis(400),
        progress: false,
    };
    run(&options).expect("the run can be made")
}

/// Names of the faults found in a run.
fn faults(fault: Fault, phases: &str) -> BTreeSet<String> {
    report(fault, phases).phases.iter().flat_map(|phase| phase.violations.keys().cloned()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

const PUBLISH: &str = "[[phase]]\nwork = \"publish\"\nconnections = 3\nin_flight = 5\n";
const QUERY: &str = "[[phase]]\nwork = \"query\"\nconnections = 2\ncount = 60\nduration_s = 0.0\ndistinct = 30\n\
    shapes = { by-id = 1, \"newest-100\" = 1, thread = 1, author-notes = 1, \"ids-100\" = 1, \"profiles-300\" = 1 }\n";
const FANOUT: &str = "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\nrate = 2000.0\ncount = 50\n";
const FEEDS: &str =
    "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\nsubscriptions = 3\nauthors = 40\nrate = 2000.0\ncount = 50\n";

#[test]
fn the_smoke_scenario_finds_no_fault_in_a_right_relay() {
    let scenario = Scenario::find("smoke").expect("built in");
    let (_, text) = crate::scenario::BUILTIN.iter().find(|(name, _)| *name == "smoke").expect("built in");
    let phases = text.split_once("[[phase]]").expect("phases").1;
    // The relay of the tests searches linearly, so it gets fewer events.
    let phases = format!("[[phase]]{phases}").replace("duration_s = 3.0", "duration_s = 1.0");
    let report = report(Fault::None, &phases);
    for phase in &report.phases {
        assert_eq!(phase.examples, Vec::<String>::new(), "{}", phase.name);
        assert_eq!(phase.violations.len(), 0, "{}", phase.name);
        assert!(phase.units > 0, "{}", phase.name);
    }
    assert_eq!(report.phases.len(), scenario.phases.len());
    let fanout = report.phases.iter().find(|phase| phase.name == "fan-out").expect("in the scenario");
    assert_eq!((fanout.unit.as_str(), fanout.units), ("delivery", 20 * 200));
}

#[test]
fn publishing_finds_missing_repeated_and_refused_oks() {
    assert_eq!(faults(Fault::None, PUBLISH), names(&[]));
    assert_eq!(faults(Fault::DropOk(50), PUBLISH), names(&["missing_ok"]));
    assert_eq!(faults(Fault::RepeatOk(50), PUBLISH), names(&["stray_ok"]));
    assert_eq!(faults(Fault::Refuse(50), PUBLISH), names(&["refused_event"]));
    assert_eq!(faults(Fault::Hangup(290), PUBLISH), names(&["lost_connection", "missing_ok"]));
}

#[test]
fn events_that_should_be_new_and_are_not_are_found() {
    let twice = format!("{PUBLISH}{PUBLISH}");
    assert_eq!(faults(Fault::None, &twice), names(&["unexpected_duplicate"]));
    let duplicates = format!("{PUBLISH}{PUBLISH}expect = \"duplicate\"\n");
    assert_eq!(faults(Fault::None, &duplicates), names(&[]));
}

#[test]
fn queries_find_every_wrong_answer() {
    assert_eq!(faults(Fault::None, QUERY), names(&[]));
    assert_eq!(faults(Fault::DropEose(20), QUERY), names(&["missing_eose"]));
    assert_eq!(faults(Fault::RepeatEose(20), QUERY), names(&["stray_eose"]));
    assert_eq!(faults(Fault::CloseRequest(20), QUERY), names(&["refused_request"]));
    assert_eq!(faults(Fault::DropRow(5), QUERY), names(&["missing_row"]));
    assert!(faults(Fault::RepeatRow(5), QUERY).contains("duplicate_row"));
    assert_eq!(faults(Fault::OldestFirst, QUERY), names(&["wrong_order"]));
    assert_eq!(faults(Fault::IgnoreLimit, QUERY), names(&["over_limit", "wrong_row"]));
}

#[test]
fn fan_out_finds_lost_repeated_corrupt_and_wrong_deliveries() {
    assert_eq!(faults(Fault::None, FANOUT), names(&[]));
    assert_eq!(faults(Fault::DropDelivery(60), FANOUT), names(&["lost_delivery"]));
    assert_eq!(faults(Fault::RepeatDelivery(60), FANOUT), names(&["duplicate_delivery"]));
    assert_eq!(faults(Fault::CorruptDelivery(1), FANOUT), names(&["corrupt_event"]));
    assert_eq!(faults(Fault::None, FEEDS), names(&[]));
    assert_eq!(faults(Fault::DeliverToAll, FEEDS), names(&["wrong_delivery"]));
}

#[test]
fn an_open_loop_counts_the_wait_and_misses_nothing() {
    let publish = format!("{PUBLISH}rate = 2000.0\n");
    let query = format!("{QUERY}rate = 1000.0\n");
    let report = report(Fault::None, &format!("{publish}{query}"));
    assert_eq!(report.violations(), 0, "{:?}", report.phases);
    assert_eq!((report.phases[0].units, report.phases[1].units), (300, 60));
    assert!(report.phases[0].latency.contains_key("generator lag"));
}

#[test]
fn a_relay_that_cannot_be_reached_is_an_error() {
    let options = Options {
        url: "ws://127.0.0.1:1".into(),
        label: None,
        scenario: Scenario::find("by-id").expect("a shape"),
        corpus: None,
        load: true,
        watched: Watched::default(),
        seed: 1,
        sources: 1,
        stall: Duration::from_millis(400),
        progress: false,
    };
    let error = run(&options).expect_err("nothing listens there");
    assert!(format!("{error:#}").starts_with("reach ws://127.0.0.1:1: connect"), "{error:#}");
}
