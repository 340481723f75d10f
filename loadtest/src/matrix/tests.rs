//! A matrix of relays that are processes of their own.

use std::time::Duration;

use super::plan::Plan;
use super::run::{Options, run};
use crate::fake_relay::Fault;
use crate::fake_relay::alone::command;

/// A matrix of a relay that keeps its events and one that forgets them when it is killed.
fn plan(scenario: &str) -> String {
    let relay = |name: &str, fault| {
        let command = command("{port}", "{dir}/events", fault);
        format!(
            "[[relay]]\nname = \"{name}\"\ncommand = \"{command}\"\nversion = \"echo 1.0\"\n\
             prepare = \"touch {{dir}}/prepared\"\ndurability = \"written to a file\"\n"
        )
    };
    let sweep = "[[sweep]]\nscenario = \"publish-duplicate\"\nfrom = 20.0\nto = 40.0\nfactor = 2.0\nduration_s = 0.5\n";
    let (right, wrong) = (relay("a | b", Fault::None), relay("Forgetful", Fault::Forget));
    format!("scenarios = [{scenario:?}]\nrepeats = 2\nevents = 100\ncount = 60\n{sweep}{right}{wrong}")
}

#[test]
fn a_matrix_tells_a_relay_that_keeps_its_word_from_one_that_does_not() {
    let out = std::env::temp_dir().join(format!("loadtest-matrix-{}", std::process::id()));
    let plan = Plan::parse(&plan("publish-new")).expect("a valid file");
    let options =
        Options { plan, work: out.join("work"), out: out.clone(), stall: Duration::from_secs(20), progress: false };
    let results = run(&options).expect("both relays start");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (page, chart, sweep) = (text("README.md"), text("publish-new-cpu.svg"), text("publish-duplicate-sweep.svg"));
    let report: crate::report::Report = serde_json::from_str(&text("runs/publish-new-forgetful-2.json")).expect("JSON");
    let left: Vec<_> = std::fs::read_dir(out.join("work")).expect("a directory").flatten().collect();
    let directories = left.iter().filter(|entry| entry.path().is_dir()).count();
    std::fs::remove_dir_all(&out).expect("our own directory");

    assert_eq!(results.troubles, [""; 0]);
    let order: Vec<(usize, usize)> = results.runs.iter().map(|run| (run.repeat, run.relay)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 1), (1, 0)]);
    assert_eq!(results.relays[0].version, "1.0");
    assert!(results.relays[0].kill.starts_with("all "), "{}", results.relays[0].kill);
    assert!(results.relays[1].kill.starts_with("LOST "), "{}", results.relays[1].kill);
    assert!(results.faults() == results.lost_after_kill && results.lost_after_kill > 0);
    assert_eq!(results.sweeps[0].relays.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    assert_eq!((report.label.as_str(), report.phases.len()), ("Forgetful", 1));
    assert_eq!(directories, 0, "nothing is left of a relay but its output");
    for expected in [
        "# Relays side by side",
        "| a \\| b | 1.0 |",
        "## publish-new",
        "| new events | ",
        "| corpus fingerprint | ",
        "| kernel | Linux",
        "(publish-new-cpu.svg)",
    ] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(chart.starts_with("<svg ") && chart.contains("a | b") && sweep.contains("<circle"), "{chart}");
}

#[test]
fn a_relay_that_does_not_start_is_an_error_with_its_own_words() {
    let out = std::env::temp_dir().join(format!("loadtest-matrix-broken-{}", std::process::id()));
    let text = "[[relay]]\nname = \"a\"\ncommand = \"echo no such key >&2; exit 3\"\n";
    let plan = Plan::parse(text).expect("a valid file");
    let options =
        Options { plan, work: out.join("work"), out: out.clone(), stall: Duration::from_secs(1), progress: false };
    let error = format!("{:#}", run(&options).expect_err("it ends at once"));
    std::fs::remove_dir_all(&out).expect("our own directory");
    assert_eq!(error, "a: it does not start; its output ends with:\nno such key\n: it ended with exit status: 3");
}
