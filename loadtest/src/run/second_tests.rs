//! The second generator (`second/second.c`) and this one do the same work.
//!
//! How long it takes is for `second/agree` to compare, on a quiet machine.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::tests::{PUBLISH, QUERY, faults_of, names, options};
use super::{Options, run};
use crate::fake_relay::Fault;
use crate::fake_relay::alone::start_process;

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write_corpus(path: &Path, events: u64) {
    let mut text = Vec::new();
    let add = |line: &[u8]| {
        text.extend_from_slice(line);
        text.push(b'\n');
        Ok(())
    };
    crate::corpus::generate(&crate::corpus::Options::social(1, events), add).expect("events");
    std::fs::write(path, text).expect("a temporary file");
}

#[test]
fn a_second_generator_in_another_language_publishes_and_asks_the_same() {
    let directory = std::env::temp_dir().join(format!("loadtest-second-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let (program, corpus) = (directory.join("second"), directory.join("corpus.jsonl"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("second/second.c");
    output(Command::new("cc").args(["-std=c17", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source));
    write_corpus(&corpus, 300);
    let (mut relay, _, url) = start_process(&directory.join("events"), Fault::None);
    let second = |rest: &str| -> Value {
        let port = url.rsplit_once(':').expect("a port").1;
        let mut command = Command::new(&program);
        let (mode, numbers) = rest.split_once(' ').expect("a mode");
        command.args([port, &relay.id().to_string(), mode]).arg(&corpus).args(numbers.split(' '));
        serde_json::from_slice(&output(&mut command)).expect("JSON")
    };
    let published = second("publish 300 3 5");
    let paced = second("publish 60 3 1 2000");
    let asked = second("by-id 100 2 1");
    let asked_paced = second("by-id 50 2 1 2000");
    // The first generator finds every event of the second, byte for byte.
    let phases = format!("{PUBLISH}expect = \"duplicate\"\n{QUERY}");
    let report = run(&Options { corpus: Some(corpus), load: false, ..options(url.clone(), &phases) });
    relay.kill().and_then(|()| relay.wait()).expect("our own child");
    std::fs::remove_dir_all(&directory).expect("our own directory");

    for (told, units, rows) in [(&published, 300, 0), (&paced, 60, 0), (&asked, 100, 100), (&asked_paced, 50, 50)] {
        assert_eq!(
            (&told["units"], &told["rows"], &told["refused"]),
            (&units.into(), &rows.into(), &0.into()),
            "{told}"
        );
        assert!(told["relay_cpu_us_per_unit"].as_f64() > Some(0.0), "{told}");
        assert!(told["p50_us"].as_f64() > Some(0.0) && told["p50_us"].as_f64() <= told["p99_us"].as_f64(), "{told}");
    }
    let report = report.expect("the run can be made");
    assert_eq!(faults_of(&report), names(&[]), "{:?}", report.phases);
    assert_eq!(report.phases[0].figures["answered_duplicate_events"], 300.0);
}
