//! Runs against a relay that is right, and against relays that are wrong or unusual in one way each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::kill::Revival;
use super::{Options, run};
use crate::account::Replay;
use crate::fake_relay::alone::start_process;
use crate::fake_relay::{Fault, start, start_with};
use crate::process::Watched;
use crate::report::Report;
use crate::scenario::Scenario;

pub(super) fn options(url: String, phases: &str) -> Options {
    let text = format!("name = \"test\"\nabout = \"\"\ncorpus = {{ events = 300, seed = 1 }}\n{phases}");
    Options {
        url,
        label: None,
        scenario: Scenario::parse(&text).expect("a valid scenario"),
        corpus: None,
        load: true,
        watched: Watched { pids: vec![std::process::id()], data: None },
        seed: 1,
        connect: crate::wire::connect::Options::default(),
        stall: Duration::from_millis(1500),
        exclusive: false,
        read_back: true,
        revival: None,
        progress: false,
    }
}

fn report(fault: Fault, phases: &str) -> Report {
    run(&options(start(fault), phases)).expect("the run can be made")
}

/// A run that nothing should stall, however busy the machine is.
fn patient_report(fault: Fault, phases: &str) -> Report {
    let options = Options { stall: Duration::from_secs(30), ..options(start(fault), phases) };
    run(&options).expect("the run can be made")
}

/// Names of the faults in a report.
pub(super) fn faults_of(report: &Report) -> BTreeSet<String> {
    report.phases.iter().flat_map(|phase| phase.violations.keys().cloned()).collect()
}

/// Names of the faults found in a run.
fn faults(fault: Fault, phases: &str) -> BTreeSet<String> {
    faults_of(&report(fault, phases))
}

/// Names of the deviations found in a run without faults.
fn deviations(fault: Fault, phases: &str) -> BTreeSet<String> {
    let report = patient_report(fault, phases);
    assert_eq!(faults_of(&report), names(&[]), "{:?}", report.phases);
    report.phases.iter().flat_map(|phase| phase.deviations.keys().cloned()).collect()
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

pub(super) const PUBLISH: &str = "[[phase]]\nwork = \"publish\"\nconnections = 3\nin_flight = 5\n";
const DUPLICATES: &str = "[[phase]]\nwork = \"publish\"\nconnections = 3\nin_flight = 5\nexpect = \"duplicate\"\n";
pub(super) const QUERY: &str = "[[phase]]\nwork = \"query\"\nconnections = 2\ncount = 60\nduration_s = 0.0\ndistinct = 30\n\
    shapes = { by-id = 1, \"newest-100\" = 1, thread = 1, author-notes = 1, \"ids-100\" = 1, \"profiles-300\" = 1 }\n";
pub(super) const FANOUT: &str = "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\nrate = 2000.0\ncount = 50\n";
const FEEDS: &str =
    "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\nsubscriptions = 3\nauthors = 40\nrate = 2000.0\ncount = 50\n";
pub(super) const BURST: &str =
    "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\npublishers = 2\nrate = 0.0\ncount = 50\n";

/// The phases of the smoke scenario, a little shorter.
fn smoke() -> String {
    let (_, text) = crate::scenario::BUILTIN.iter().find(|(name, _)| *name == "smoke").expect("built in");
    let phases = text.split_once("[[phase]]").expect("phases").1;
    // The relay of the tests searches linearly, so it gets fewer events.
    format!("[[phase]]{phases}").replace("duration_s = 3.0", "duration_s = 1.0")
}

#[test]
fn the_smoke_scenario_finds_nothing_in_a_right_relay() {
    let scenario = Scenario::find("smoke").expect("built in");
    let report = patient_report(Fault::None, &smoke());
    for phase in &report.phases {
        assert_eq!(phase.examples, Vec::<String>::new(), "{}", phase.name);
        assert!(!phase.has_findings() && phase.is_comparable(), "{}", phase.name);
        assert!(phase.units > 0, "{}", phase.name);
    }
    assert_eq!((report.phases.len(), report.incomplete), (scenario.phases.len(), None));
    let fanout = report.phases.iter().find(|phase| phase.name == "fan-out").expect("in the scenario");
    assert_eq!((fanout.unit.as_str(), fanout.units), ("delivery", 20 * 200));
}

#[test]
fn a_relay_that_reads_nip_01_in_its_loosest_way_passes_everything() {
    let found = deviations(Fault::Loose, &smoke());
    assert_eq!(found, names(&["duplicate_as_new", "tie_order"]));
}

#[test]
fn publishing_finds_missing_repeated_and_refused_oks() {
    assert_eq!(faults(Fault::None, PUBLISH), names(&[]));
    assert_eq!(faults(Fault::DropOk(50), PUBLISH), names(&["missing_ok"]));
    assert_eq!(faults(Fault::RepeatOk(50), PUBLISH), names(&["stray_ok"]));
    assert_eq!(faults(Fault::Refuse(50), PUBLISH), names(&["refused_event"]));
}

#[test]
fn a_lost_connection_is_one_fault_and_not_one_for_each_event_behind_it() {
    let report = report(Fault::Hangup(290), &format!("{PUBLISH}{QUERY}"));
    assert_eq!(report.phases[0].violations, [("lost_connection".to_string(), 1)].into());
    assert_eq!(report.phases[0].examples.len(), 1);
    assert_eq!(report.phases[1].violations, [].into(), "what was not confirmed need not be found");
    // While the corpus is loaded, what was left is sent again.
    let loaded = faults(Fault::Hangup(170), QUERY);
    assert_eq!(loaded, names(&["lost_connection"]));
}

#[test]
fn a_mix_sends_no_event_again_that_never_got_its_ok() {
    let mixed = "[[phase]]\nwork = \"mixed\"\nduration_s = 0.2\nevents_per_s = 200.0\nqueries_per_s = 50.0\n\
        duplicate_permille = 1000\npublishers = 2\nqueriers = 2\nfollowers = 2\nauthors = 10\nshapes = { by-id = 1 }\n";
    // The connection that is cut has sent about two thirds of its events, and no other one is cut.
    let report = report(Fault::Hangup(200), &format!("{PUBLISH}{mixed}"));
    assert_eq!(report.phases[0].violations, [("lost_connection".to_string(), 1)].into());
    let figures = &report.phases[1].figures;
    assert_eq!((report.phases[1].violations.len(), figures["events"]), (0, 40.0));
    assert_eq!(figures["answered_duplicate_events"], 40.0);
}

#[test]
fn no_more_events_are_unanswered_than_the_scenario_allows_in_bursts_and_while_loading_too() {
    let phases = format!("{QUERY}[[phase]]\nwork = \"publish\"\nevents = \"fresh\"\ncount = 600\n{BURST}");
    let fresh = "[[phase]]\nwork = \"publish\"\nevents = \"fresh\"\ncount = 600\n";
    for phase in [QUERY, fresh, BURST] {
        assert_eq!(faults(Fault::Crowded(6), phase), names(&["lost_connection"]), "without a bound: {phase}");
    }
    assert_eq!(faults(Fault::Crowded(6), &format!("max_in_flight = 6\n{phases}")), names(&[]));
}

#[test]
fn an_ok_without_an_event_behind_it_is_found_by_reading_back() {
    assert_eq!(faults(Fault::StoreNothing, PUBLISH), names(&["lost_event"]));
    assert_eq!(faults(Fault::StoreNothing, BURST), names(&["lost_event"]));
    let unread = Options { read_back: false, ..options(start(Fault::StoreNothing), PUBLISH) };
    assert_eq!(faults_of(&run(&unread).expect("the run can be made")), names(&[]));
    let read = &report(Fault::None, PUBLISH).phases[0].figures;
    assert_eq!(read["read_back_events"] + read["read_back_private_events"], 300.0);
}

#[test]
fn an_event_that_can_be_read_a_moment_after_its_ok_is_not_lost() {
    let report = report(Fault::Late, PUBLISH);
    assert_eq!(faults_of(&report), names(&[]), "{:?}", report.phases);
    assert!(report.phases[0].figures["read_back_late_events"] > 0.0);
    let lost = &self::report(Fault::StoreNothing, PUBLISH).phases[0];
    assert_eq!(lost.violations["lost_event"] as f64, lost.figures["read_back_events"]);
}

#[test]
fn what_got_an_ok_must_be_there_after_the_relay_was_killed() {
    let kill = format!("{PUBLISH}events = \"fresh\"\ncount = 300\nkill = true\n");
    let run_killed = |fault| {
        let file = std::env::temp_dir().join(format!("loadtest-kill-{}-{fault:?}", std::process::id()));
        let (mut child, command, url) = start_process(&file, fault);
        let revival = Some(Revival { pids: vec![child.id()], command });
        let options = Options { revival, watched: Watched::default(), ..options(url, &format!("{PUBLISH}{kill}")) };
        let report = run(&options);
        std::fs::remove_file(&file).expect("the file of the relay");
        let status = child.wait().expect("our own child");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        report.expect("the run can be made")
    };
    let (keeps, forgets) = (run_killed(Fault::None), run_killed(Fault::Forget));
    assert_eq!(faults_of(&keeps), names(&[]), "{:?}", keeps.phases);
    let killed = &keeps.phases[1].figures;
    assert!((150.0..300.0).contains(&killed["ok_before_kill_events"]), "{killed:?}");
    // What was published before that phase is read again too.
    let read_back = killed["read_back_events"] + killed["read_back_private_events"];
    assert_eq!(read_back, 300.0 + killed["ok_before_kill_events"]);
    assert_eq!(faults_of(&forgets), names(&["lost_event"]));
}

#[test]
fn every_fault_says_how_it_can_be_seen_again() {
    let replays = |fault, phases: &str| {
        let report = report(fault, phases);
        let replays = report.phases.into_iter().flat_map(|phase| phase.replays);
        replays.map(|replay| (replay.finding.clone(), replay)).collect::<BTreeMap<String, Replay>>()
    };
    for (fault, phases, finding, first) in [
        (Fault::DropOk(50), PUBLISH, "missing_ok", "[\"EVENT\","),
        (Fault::Refuse(50), PUBLISH, "refused_event", "[\"EVENT\","),
        (Fault::DropEose(20), QUERY, "missing_eose", "[\"REQ\","),
        (Fault::CloseRequest(20), QUERY, "refused_request", "[\"REQ\","),
        (Fault::DropRow(5), QUERY, "missing_row", "[\"REQ\","),
        (Fault::CorruptRow(500), QUERY, "corrupt_event", "[\"EVENT\","),
        (Fault::DropDelivery(60), FANOUT, "lost_delivery", "[\"REQ\","),
        (Fault::RepeatDelivery(60), FANOUT, "duplicate_delivery", "[\"REQ\","),
        (Fault::DeliverToAll, FEEDS, "wrong_delivery", "[\"REQ\","),
    ] {
        let found = replays(fault, phases);
        let replay = found.get(finding).unwrap_or_else(|| panic!("{finding}: {found:?}"));
        assert!(replay.frames[0].starts_with(first), "{finding}: {replay:?}");
    }
    let stray = &replays(Fault::RepeatOk(50), PUBLISH)["stray_ok"];
    assert!(stray.answer.starts_with("OK for "), "{stray:?}");
}

#[test]
fn events_that_should_be_new_and_are_not_are_found() {
    let twice = format!("{PUBLISH}{PUBLISH}");
    assert_eq!(faults(Fault::None, &twice), names(&["unexpected_duplicate"]));
    assert_eq!(deviations(Fault::None, &format!("{PUBLISH}{DUPLICATES}")), names(&[]));
}

#[test]
fn a_duplicate_that_is_answered_as_new_is_a_deviation() {
    assert_eq!(deviations(Fault::DuplicateAsNew, &format!("{PUBLISH}{DUPLICATES}")), names(&["duplicate_as_new"]));
}

#[test]
fn an_older_version_that_is_refused_is_no_fault() {
    let path = write_versions(&[3000, 2000, 1000]);
    // One connection: over several, the order in which the versions arrive is open.
    let phases = "[[phase]]\nwork = \"publish\"\nconnections = 1\nin_flight = 5\n\
        [[phase]]\nwork = \"query\"\ncount = 20\nduration_s = 0.0\nshapes = { \"profiles-300\" = 1 }\n";
    let run = |fault| {
        let options = Options { corpus: Some(path.clone()), ..options(start(fault), phases) };
        run(&options).expect("the run can be made")
    };
    let (refusing, keeping) = (run(Fault::RefuseOlder), run(Fault::None));
    std::fs::remove_file(&path).expect("the same file");
    assert_eq!(faults_of(&refusing), names(&[]), "{:?}", refusing.phases);
    assert!(refusing.phases[0].figures["refused_superseded_events"] > 0.0);
    // The other relay keeps every version, which NIP-01 only advises against.
    assert_eq!(faults_of(&keeping), names(&[]));
    assert!(keeping.phases[1].deviations.contains_key("superseded_row"));
}

#[test]
fn an_event_that_a_newer_one_from_elsewhere_replaces_is_not_lost() {
    let phases = "[[phase]]\nwork = \"publish\"\n\
        [[phase]]\nwork = \"query\"\ncount = 20\nduration_s = 0.0\nshapes = { \"profiles-300\" = 1, by-id = 1 }\n";
    let (newer, older) = (write_versions(&[3000]), write_versions(&[2000]));
    let url = start(Fault::Replace);
    let options = |corpus: &PathBuf, phases| Options { corpus: Some(corpus.clone()), ..options(url.clone(), phases) };
    let publish = |options: &Options| run(options).expect("the run can be made");
    publish(&options(&newer, PUBLISH));
    let replaced = publish(&options(&older, phases));
    let exclusive = publish(&Options { exclusive: true, ..options(&older, PUBLISH) });
    let lost =
        run(&Options { corpus: Some(older.clone()), ..super::tests::options(start(Fault::StoreNothing), PUBLISH) });
    [newer, older].iter().for_each(|path| std::fs::remove_file(path).expect("the same file"));
    assert_eq!(faults_of(&replaced), names(&[]), "{:?}", replaced.phases);
    assert_eq!(replaced.phases[0].figures["replaced_elsewhere_events"], 1.0);
    // Where nothing is from elsewhere, or no newer version is shown, it is lost.
    assert_eq!(faults_of(&exclusive), names(&["lost_event"]));
    assert_eq!(faults_of(&lost.expect("the run can be made")), names(&["lost_event"]));
}

/// A corpus in which one author has a profile of each of these times, and a line that is no event.
fn write_versions(times: &[u64]) -> PathBuf {
    use crate::corpus::authors::Authors;
    use crate::corpus::draft::{Draft, Fields, Signer};
    let authors = Authors::derive(1, 1);
    let mut text = String::from("not an event\n");
    for &created_at in times {
        let fields = Fields { pubkey: authors.pubkey(0), created_at, kind: 0, tags: "[]", content: "\"{}\"" };
        let draft = Draft::new(Signer::Author(0), fields);
        let signature = faster_hex::hex_string(&authors.sign(Signer::Author(0), &draft.id));
        text += &format!("{}{signature}\"}}\n", String::from_utf8(draft.json).expect("text"));
    }
    let path = std::env::temp_dir().join(format!("loadtest-versions-{}-{times:?}.jsonl", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    path
}

#[test]
fn queries_find_every_wrong_answer() {
    assert_eq!(faults(Fault::None, QUERY), names(&[]));
    assert_eq!(faults(Fault::DropEose(20), QUERY), names(&["missing_eose"]));
    assert_eq!(faults(Fault::RepeatEose(20), QUERY), names(&["stray_eose"]));
    assert_eq!(faults(Fault::CloseRequest(20), QUERY), names(&["refused_request"]));
    assert!(faults(Fault::DropRow(5), QUERY).contains("missing_row"));
    assert!(faults(Fault::RepeatRow(5), QUERY).contains("duplicate_row"));
    assert_eq!(deviations(Fault::OldestFirst, QUERY), names(&["tie_order", "wrong_order"]));
    assert_eq!(faults(Fault::IgnoreLimit, QUERY), names(&["over_limit", "wrong_row"]));
}

#[test]
fn one_forged_row_in_place_of_a_hundred_is_named_and_excuses_none_of_them() {
    let found = faults(Fault::ForgeAnswer(5), QUERY);
    assert!(found.contains("forged_event") && found.contains("missing_row"), "{found:?}");
}

#[test]
fn one_wrong_body_among_hundreds_of_rows_in_another_form_is_found() {
    assert_eq!(faults(Fault::CorruptRow(500), QUERY), names(&["corrupt_event"]));
}

#[test]
fn fan_out_finds_lost_repeated_corrupt_and_wrong_deliveries() {
    assert_eq!(faults(Fault::None, FANOUT), names(&[]));
    assert_eq!(faults(Fault::DropDelivery(60), FANOUT), names(&["lost_delivery"]));
    assert_eq!(faults(Fault::RepeatDelivery(60), FANOUT), names(&["duplicate_delivery"]));
    assert_eq!(faults(Fault::CorruptDelivery(60), FANOUT), names(&["corrupt_event"]));
    assert_eq!(faults(Fault::None, FEEDS), names(&[]));
    assert_eq!(faults(Fault::DeliverToAll, FEEDS), names(&["wrong_delivery"]));
    // Nobody is owed an event that the relay refused.
    assert_eq!(faults(Fault::Refuse(10), FANOUT), names(&["refused_event"]));
}

#[test]
fn memory_beyond_the_bound_of_the_scenario_is_a_fault() {
    let bounded = format!("{BURST}max_growth_mib = 16.0\n");
    assert_eq!(faults(Fault::Hoard, &bounded), names(&["memory_over_bound"]));
    assert_eq!(faults(Fault::Hoard, BURST), names(&[]));
}

#[test]
fn a_relay_that_keeps_everything_for_those_who_stopped_reading_is_named() {
    // Each of the two slow ones is owed 60 MiB; sockets hold a tenth of it.
    let slow = "[[phase]]\nwork = \"fanout\"\nsubscribers = 4\nslow = 2\nrate = 4000.0\ncount = 240\n\
        content_bytes = 262144\n";
    assert_eq!(faults(Fault::None, &format!("{slow}max_growth_mib = 16.0\n")), names(&["memory_over_bound"]));
    assert_eq!(faults(Fault::None, &format!("{slow}max_growth_mib = 4096.0\n")), names(&[]));
}

#[test]
fn a_query_that_waits_for_an_answer_is_the_backlog_of_the_relay_and_no_lag_of_the_generator() {
    let phase = format!("{QUERY}rate = 2000.0\nin_flight = 1\n");
    let options = Options { read_back: false, ..options(start(Fault::DropEose(1)), &phase) };
    let report = run(&options).expect("the run can be made");
    let latency = &report.phases[0].latency;
    // Every question was noticed when it was due; only the first of each connection could be sent.
    assert_eq!((latency["generator lag"].count, latency["wait for earlier answers"].count), (60, 2));
    assert_eq!(report.phases[0].violations, [("missing_eose".to_string(), 60)].into());
}

#[test]
fn answers_that_wait_for_delayed_acknowledgements_are_named() {
    let phase = "[[phase]]\nwork = \"query\"\nconnections = 1\ncount = 60\nduration_s = 0.0\nshapes = { by-id = 1 }\n";
    let notes = |fault| report(fault, phase).phases[0].notes.join("; ");
    // On a busy machine answers may come later still.
    assert!((0..5).any(|_| notes(Fault::Pieces).contains("delayed acknowledgement")));
    assert_eq!(notes(Fault::None), "");
}

#[test]
fn an_open_loop_counts_the_wait_and_misses_nothing() {
    let publish = format!("{PUBLISH}rate = 2000.0\n");
    let query = format!("{QUERY}rate = 1000.0\n");
    let report = report(Fault::None, &format!("{publish}{query}"));
    assert_eq!(report.violations(), 0, "{:?}", report.phases);
    assert_eq!((report.phases[0].units, report.phases[1].units), (300, 60));
    assert!(report.phases[0].latency.contains_key("generator lag"));
    assert!(report.phases[1].latency.contains_key("wait for earlier answers"));
}

#[test]
fn a_greeting_gives_no_head_start() {
    let phases = format!("{PUBLISH}{DUPLICATES}{QUERY}{BURST}");
    let (plain, greeted) = (report(Fault::None, &phases), report(Fault::Greet, &phases));
    assert_eq!(faults_of(&greeted), names(&[]));
    // Every byte that is sent is sent while the meter runs.
    let sent = |report: &Report| report.phases.iter().map(|phase| phase.sent_bytes).collect::<Vec<_>>();
    let (plain, greeted) = (sent(&plain), sent(&greeted));
    assert_eq!(plain[..2], greeted[..2]);
    assert_eq!(plain[3], greeted[3]);
}

#[test]
fn the_wait_for_a_missing_answer_is_not_measured_time() {
    let report = report(Fault::DropEose(20), QUERY);
    let query = &report.phases[0];
    assert!(query.stalled_s >= 0.4, "{}", query.stalled_s);
    assert_eq!((query.per_second * query.seconds).round() as u64, query.units);
    assert!(query.seconds < query.stalled_s && query.units > 20, "{} in {} s", query.units, query.seconds);
}

#[test]
fn what_a_relay_states_as_its_limits_is_kept_and_said() {
    let document =
        json!({ "software": "fake", "version": "1", "limitation": { "max_limit": 20, "max_event_tags": 5 } });
    let url = start_with(Fault::None, Some(document.clone()));
    let fitted = run(&options(url, &format!("{PUBLISH}{QUERY}"))).expect("the run can be made");
    assert_eq!(faults_of(&fitted), names(&[]), "{:?}", fitted.phases);
    assert_eq!((fitted.limits.software.as_str(), fitted.limits.max_limit), ("fake 1", Some(20)));
    assert!(fitted.corpus_skipped["beyond the relay's max_event_tags"] > 0);
    assert!(fitted.phases.iter().all(|phase| !phase.is_comparable()));
    // The same limit without a word about it: answers are too short.
    let text = fitted.phases[1].fitted.join("; ");
    assert!(text.contains("newest-100: limit 20"), "{text}");
}

#[test]
fn a_refusal_that_the_relay_announces_is_a_limit_and_any_other_is_a_fault() {
    let run = |document: Value| {
        let url = start_with(Fault::Restrict(50), Some(document));
        run(&options(url, PUBLISH)).expect("the run can be made")
    };
    let announced = run(json!({ "limitation": { "restricted_writes": true } }));
    assert_eq!(faults_of(&announced), names(&[]));
    assert_eq!(announced.phases[0].refusals, [("event_limit".to_string(), 6)].into());
    assert_eq!(faults_of(&run(json!({}))), names(&["refused_event"]));
}

#[test]
fn with_exclusive_an_event_from_elsewhere_is_a_fault() {
    let url = start(Fault::None);
    let fanout = options(url.clone(), FANOUT);
    run(&fanout).expect("the run can be made");
    let query = Options { seed: 2, ..options(url, QUERY) };
    let shared = run(&query).expect("the run can be made");
    assert_eq!(faults_of(&shared), names(&[]), "{:?}", shared.phases);
    assert!(shared.phases[0].figures["answers_with_foreign_events"] > 0.0);
    let exclusive = run(&Options { exclusive: true, load: false, ..query }).expect("the run can be made");
    assert_eq!(faults_of(&exclusive), names(&["foreign_event"]));
}

#[test]
fn a_relay_that_dies_leaves_a_report_of_what_was_finished() {
    let report = report(Fault::Die(400), &format!("{PUBLISH}{QUERY}{DUPLICATES}{FANOUT}"));
    let finished: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(finished, ["publish", "query", "publish"]);
    assert_eq!(report.phases[2].violations.keys().collect::<Vec<_>>(), ["lost_connection"]);
    let reason = report.incomplete.expect("the last phase could not be run");
    assert!(reason.starts_with("the relay is gone before the phase fan-out"), "{reason}");
}

#[test]
fn a_relay_that_cannot_be_reached_is_an_error() {
    let error = run(&options("ws://127.0.0.1:1".into(), PUBLISH)).expect_err("nothing listens there");
    assert!(format!("{error:#}").starts_with("reach ws://127.0.0.1:1: connect"), "{error:#}");
}

#[test]
fn an_upgrade_with_the_accept_value_of_another_key_is_an_error() {
    let error = run(&options(start(Fault::WrongAccept), PUBLISH)).expect_err("it is no WebSocket");
    assert!(format!("{error:#}").contains("does not answer the key"), "{error:#}");
}
