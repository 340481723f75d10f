//! Command lines and their exit codes.

use super::arguments::pids;
use super::*;
use crate::fake_relay::{Fault, start};

/// The exit code of a command line.
fn code(line: &str, more: &[&str]) -> u8 {
    let arguments = line.split_whitespace().chain(more.iter().copied());
    let cli = Cli::try_parse_from(std::iter::once("loadtest").chain(arguments));
    cli.map_or_else(|error| error.exit_code() as u8, |cli| execute(cli.command))
}

fn run(fault: Fault, more: &[&str]) -> u8 {
    let file = std::env::temp_dir().join(format!("loadtest-cli-{}-{fault:?}.toml", std::process::id()));
    let scenario = "name = \"x\"\nabout = \"\"\ncorpus = { events = 50 }\n[[phase]]\nwork = \"publish\"\n\
                    [[phase]]\nwork = \"publish\"\nexpect = \"duplicate\"\n";
    std::fs::write(&file, scenario).expect("a temporary file");
    let line = format!("run -q --stall 0.4 --url {} --scenario {}", start(fault), file.display());
    let code = code(&line, more);
    std::fs::remove_file(&file).expect("the same file");
    code
}

#[test]
fn the_exit_code_tells_faults_thresholds_and_failures_apart() {
    assert_eq!(run(Fault::None, &["--pid", &std::process::id().to_string()]), EXIT_RIGHT);
    assert_eq!(run(Fault::DuplicateAsNew, &[]), EXIT_RIGHT);
    assert_eq!(run(Fault::Refuse(10), &["--fail-if", "p99>0us"]), EXIT_FAULTS);
    assert_eq!(run(Fault::Greet, &["--fail-if", "p99>0us"]), EXIT_THRESHOLD);
    assert_eq!(run(Fault::Loose, &["--fail-if", "deviations>1000", "--fail-if", "p99>100s"]), EXIT_RIGHT);
    assert_eq!(run(Fault::RefuseOlder, &["--fail-if", "p98>1"]), EXIT_ERROR);
    assert_eq!(code("run --url ws://127.0.0.1:1 --scenario smoke", &[]), EXIT_ERROR);
    assert_eq!(code("run --url ws://127.0.0.1:1", &[]), 2);
    assert_eq!(code("run --url x --scenario smoke --fail-if", &["p99"]), 2);
}

#[test]
fn an_incomplete_run_is_told_from_an_interrupted_one_and_a_fault_from_both() {
    let report = |reason: &str| Report { incomplete: Some(reason.into()), ..Report::default() };
    let code = |report: &Report| exit_code(report, &[]).expect("no threshold");
    assert_eq!(code(&report("interrupted before the phase x")), EXIT_INTERRUPTED);
    assert_eq!(code(&report("the relay is gone")), EXIT_ERROR);
    let phase = crate::report::PhaseReport { violations: [("missing_ok".into(), 1)].into(), ..Default::default() };
    assert_eq!(code(&Report { phases: vec![phase], ..report("the relay is gone") }), EXIT_FAULTS);
}

#[test]
fn each_of_the_first_faults_has_a_replay_file() {
    let directory = std::env::temp_dir().join(format!("loadtest-replays-{}", std::process::id()));
    assert_eq!(run(Fault::StoreNothing, &["--replays", &directory.display().to_string()]), EXIT_FAULTS);
    let text = std::fs::read_to_string(directory.join("1-lost_event-0.json")).expect("the first fault's file");
    std::fs::remove_dir_all(&directory).expect("the same directory");
    let replay: crate::account::Replay = serde_json::from_str(&text).expect("its own form");
    assert_eq!((replay.finding.as_str(), replay.frames.len()), ("lost_event", 1));
    assert!(replay.frames[0].contains(&replay.missing[0]), "{replay:?}");
    let filter = format!(r#"{{"ids":["{}"]}}"#, replay.missing[0]);
    assert_eq!(replay.smallest_filter, filter);
}

#[test]
fn process_ids_are_taken_as_pidof_prints_them() {
    assert_eq!(pids("12 345"), Ok(vec![12, 345]));
    assert_eq!(pids("7\n"), Ok(vec![7]));
    assert_eq!(pids(""), Err("no process id; does the relay run?".into()));
    assert_eq!(pids("12 x"), Err("\"x\" is not a process id".into()));
}

/// Holds a command line for [`runs_alone_where_its_variable_is_set`].
const ALONE: &str = "LOADTEST_COMMAND_LINE";

/// Not a test but the tool: the test below runs it in its own process, which can be interrupted.
#[test]
fn runs_alone_where_its_variable_is_set() {
    let Ok(line) = std::env::var(ALONE) else { return };
    std::process::exit(i32::from(code(&line, &[])));
}

#[test]
fn ctrl_c_ends_the_phase_and_keeps_what_was_measured() {
    use std::io::{BufRead, BufReader, Read};
    let (name, pid) = ("cli::tests::runs_alone_where_its_variable_is_set", std::process::id());
    let json = std::env::temp_dir().join(format!("loadtest-interrupted-{pid}.json"));
    let file = std::env::temp_dir().join(format!("loadtest-interrupted-{pid}.toml"));
    let scenario = "name = \"x\"\nabout = \"\"\ncorpus = { events = 50 }\n[[phase]]\nwork = \"publish\"\n\
                    [[phase]]\nwork = \"query\"\nname = \"long\"\nduration_s = 3600.0\nshapes = { by-id = 1 }\n\
                    [[phase]]\nwork = \"connect\"\n";
    std::fs::write(&file, scenario).expect("a temporary file");
    let line = format!("run --url {} --scenario {} --json {}", start(Fault::None), file.display(), json.display());
    let mut command = std::process::Command::new(std::env::current_exe().expect("the path of the tests"));
    command.args([name, "--exact", "--nocapture"]).env(ALONE, line);
    let mut child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn();
    let child = child.as_mut().expect("a child");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
    let lines = errors.by_ref().lines().map_while(Result::ok);
    let mut told = Vec::new();
    for line in lines {
        told.push(line);
        if told.last().is_some_and(|line| line.starts_with("phase 2 of 3: long")) {
            break;
        }
    }
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our own child");
    // Nobody writes into a pipe that is not read.
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("text");
    let status = child.wait().expect("our own child");
    let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {told:?} {rest}"));
    [json, file].iter().for_each(|path| std::fs::remove_file(path).expect("our own file"));
    assert_eq!(status.code(), Some(i32::from(EXIT_INTERRUPTED)), "{told:?} {rest}");
    let report: Report = serde_json::from_str(&text).expect("a report");
    let phases: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["publish", "long"]);
    assert_eq!(report.incomplete.as_deref(), Some("interrupted before the phase connect"));
    assert!(told.iter().any(|line| line.starts_with("x: at least 60 min")), "{told:?}");
}

#[test]
fn a_matrix_ends_as_the_worst_of_its_runs() {
    let troubles = vec!["it did not start".to_string()];
    assert_eq!(matrix_exit_code(&Results::default()), EXIT_RIGHT);
    let mut results = Results { troubles, ..Results::default() };
    assert_eq!(matrix_exit_code(&results), EXIT_ERROR);
    results.interrupted = true;
    assert_eq!(matrix_exit_code(&results), EXIT_INTERRUPTED);
    results.lost_after_kill = 1;
    assert_eq!(matrix_exit_code(&results), EXIT_FAULTS);
    assert_eq!(code("matrix /nowhere/relays.toml", &[]), EXIT_ERROR);
}
