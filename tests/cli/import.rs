//! Imports with bad lines, into a full store, and interrupted by Ctrl-C.

use std::io::Write;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::home::{Home, lines};
use super::support::event::{author, event, signed};

#[test]
fn one_bad_line_never_stops_an_import() {
    let home = Home::new();
    let good: Vec<_> = (0..8).map(|n| signed(n, 1, n, &[], "good")).collect();
    let unsigned = lines(&[event(author(1), 1, 1, &[], "nobody signed this")]);
    let wrong_id = lines(&good[..1]).replace("good", "evil");
    let bad: [&[u8]; 7] = [
        b"not JSON\n",
        b"{\"id\":\"\xff\"}\n",
        b"[]\n",
        b"\x00\n",
        unsigned.as_bytes(),
        wrong_id.as_bytes(),
        &[vec![b'x'; 17 << 20], vec![b'\n']].concat(),
    ];
    let mut text = Vec::new();
    for (bad, good) in bad.iter().zip(good.chunks(1)) {
        text.extend_from_slice(bad);
        text.extend_from_slice(lines(good).as_bytes());
    }
    text.extend_from_slice(lines(&good[7..]).trim_end().as_bytes());
    let ran = home.run_with(&["import", "-"], &text);
    assert_eq!((ran.code, ran.count("stored"), ran.count("invalid")), (Some(0), 8, 7), "{ran:?}");
    let reasons: Vec<_> = ran.out.lines().skip_while(|line| *line != "reasons:").skip(1).collect();
    assert_eq!(reasons.len(), 7);
    assert!(
        reasons
            .iter()
            .zip([1, 3, 5, 7, 9, 11, 13])
            .all(|(reason, line)| { reason.starts_with(&format!("  line {line}: invalid: ")) })
    );
    assert_eq!(reasons[4], "  line 9: invalid: the signature is wrong");
    assert_eq!(reasons[6], "  line 13: invalid: the line is longer than 16777216 bytes");
    assert_eq!(home.export(), lines(&good).lines().collect::<Vec<_>>());
    home.assert_clean();
}

#[test]
fn a_full_store_stops_the_import_and_names_the_line_to_go_on_from() {
    let home = Home::new();
    let events: Vec<_> = (1..=4000).map(|n| event(author(n), 1, n, &[], &"x".repeat(2000))).collect();
    let file = home.write("events.jsonl", lines(&events));
    let small = home.write("small.toml", "[storage]\nmap_bytes = 8388608\n");
    let ran = home.run(&["import", "--no-verify", "--config", &small, &file]);
    let stored = ran.count("stored");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.starts_with(&format!("weir: the store is full: line {} was not stored", stored + 1)), "{ran:?}");
    assert_eq!(home.export(), lines(&events[..stored as usize]).lines().collect::<Vec<_>>());
    assert_eq!(home.run(&["check", "--signatures", "none", "--config", &small]).code, Some(0));

    let by_hand = home.run(&["delete", "--config", &small, "--filter", r#"{"until":100}"#]).good();
    assert!(by_hand.starts_with("100 events removed, "), "there is room for deletions: {by_hand}");

    let rest = lines(&events[stored as usize..]);
    let ran = home.run_with(&["import", "--no-verify"], rest.as_bytes());
    assert_eq!((ran.code, ran.count("stored")), (Some(0), 4000 - stored), "{ran:?}");
    assert_eq!(home.export(), lines(&events[100..]).lines().collect::<Vec<_>>());
}

#[test]
fn what_the_retention_rules_removed_does_not_come_back_by_an_import() {
    let home = Home::new();
    let events: Vec<_> = (1..=300).map(|n| event(author(n % 3), 1, 1000 + n, &[], &"x".repeat(500))).collect();
    home.hold(&events);
    let rules = home.write("rules.toml", "[[storage.retention]]\nmax_bytes = 100000\n");
    home.run(&["retention", "--run", "--config", &rules]).good();
    let left = home.export();
    assert!(left.len() > 100 && left.len() < 200, "{} are left", left.len());
    let all = lines(&events);
    let ran = home.run_with(&["import", "--no-verify", "--config", &rules], all.as_bytes());
    let counts = ["stored", "duplicate", "not kept"].map(|outcome| ran.count(outcome));
    assert_eq!((ran.code, counts), (Some(0), [0, left.len() as u64, 300 - left.len() as u64]), "{ran:?}");
    let since = 1000 + 300 - left.len() + 1;
    let reason = format!("  line 1: not kept: there is only room for events of kind 1 since {since} (rule 1)\n");
    assert!(ran.out.contains(&reason), "{ran:?}");
    assert_eq!(home.export(), left);

    let numbers = home.write("numbers.toml", "[[storage.retention]]\nmax_per_author_and_kind = 20\n");
    home.run(&["retention", "--run", "--config", &numbers]).good();
    let ran = home.run_with(&["import", "--no-verify", "--config", &numbers], all.as_bytes());
    assert_eq!(["stored", "duplicate", "not kept"].map(|outcome| ran.count(outcome)), [0, 60, 240], "{ran:?}");
    let reason = "  line 1: not kept: the newest 20 events of kind 1 of one author are kept (rule 1)\n";
    assert!(ran.out.contains(reason), "{ran:?}");
    let ran = home.run_with(&["import", "--no-verify"], all.as_bytes());
    assert_eq!((ran.count("stored"), ran.count("duplicate")), (240, 60), "without rules everything comes back");
}

/// Runs `weir scan --count` until it reports this many.
fn await_count(home: &Home, count: usize) {
    let started = Instant::now();
    while home.run(&["scan", "--count", "{}"]).out.trim() != count.to_string() {
        assert!(started.elapsed() < Duration::from_secs(60), "the events never came");
    }
}

fn spawn_import(home: &Home) -> Child {
    let mut command = home.command(&["import"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
}

#[test]
fn a_slow_input_is_committed_as_it_comes_and_ctrl_c_ends_in_order() {
    let home = Home::new();
    home.hold(&[]);
    let events: Vec<_> = (0..10).map(|n| signed(n, 1, n, &[], "x")).collect();
    let mut child = spawn_import(&home);
    let mut stdin = child.stdin.take().expect("a pipe");
    for (count, event) in (1..).zip(events.chunks(5)) {
        stdin.write_all(lines(event).as_bytes()).expect("the import reads");
        await_count(&home, 5 * count);
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("the child was not waited for");
    let status = child.wait().expect("the import ends");
    // The input stayed open: the import did not wait for more.
    drop(stdin);
    let mut out = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut out).expect("a summary");
    assert_eq!(status.code(), Some(130));
    assert!(out.contains("  stored: 10\n"), "{out}");
}

/// A stalled reader keeps the command from stopping in order, since the pipe of its output is full.
#[test]
fn a_second_signal_of_either_kind_ends_a_command_at_once() {
    let home = Home::new();
    home.hold(&(0..2000).map(|n| signed(n % 7, 1, n, &[], &"x".repeat(500))).collect::<Vec<_>>());
    for [first, second] in [[Signal::INT, Signal::TERM], [Signal::TERM, Signal::TERM]] {
        let mut command = home.command(&["export"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
        let send = |child: &Child, signal| kill_process(Pid::from_child(child), signal).expect("it was not waited for");
        // Once something is written, the signals are caught, and the rest is more than the pipe holds.
        let out = child.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(out, &mut [0; 1]).expect("an event");
        send(&child, first);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            // Sent repeatedly, since two equal signals that are pending at the same time become one.
            send(&child, second);
            std::thread::yield_now();
        };
        // If both are pending at the same time, either may be handled first.
        let ended_by = status.signal();
        assert!([first, second].map(|signal| Some(signal.as_raw())).contains(&ended_by), "{status:?}");
    }
}
