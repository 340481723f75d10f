//! Backups that remember removed events, and restores of earlier states.

use super::home::Home;
use super::support::event::{author, event};
use weir::nostr::Event;

fn notes() -> Vec<Event> {
    (0..100).map(|n| event(author(n % 3), if n < 60 { 1 } else { 7 }, 1000 + n, &[], &n.to_string())).collect()
}

#[test]
fn what_a_mistake_removed_is_restored_as_of_the_run_before_it() {
    let home = Home::new();
    home.hold(&notes());
    let before = home.export();
    let backup = home.path("backup");
    let backup = backup.to_str().expect("a plain name");
    let out = home.run(&["backup", backup]).good();
    assert!(out.starts_with("run 1: 100 events added; the backup holds 100 events in "), "{out}");
    home.run(&["delete", "--filter", r#"{"kinds":[1]}"#]).good();
    for run in 2..=4 {
        let out = home.run(&["backup", backup]).good();
        assert!(out.starts_with(&format!("run {run}: 0 events added; the backup holds 40 events in ")), "{out}");
    }
    // These events have no valid signatures, which --verify reports after the summary.
    let verified = home.run(&["backup", backup, "--verify"]);
    let summary = "40 events, 60 removed events, 0 tombstones, 4 states, ";
    assert!(verified.out.starts_with(summary), "{verified:?}");
    let listed = home.run(&["backup", backup, "--list"]).good();
    let states: Vec<Vec<&str>> = listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let counts: Vec<_> = states.iter().take(4).map(|state| (state[0], state[3])).collect();
    assert_eq!(counts, [("1", "100"), ("2", "40"), ("3", "40"), ("4", "40")]);
    let out = home.run_elsewhere("then", &["restore", backup, "--run", "1"]).good();
    assert!(
        out.starts_with("100 events and 0 tombstones restored to ") && out.ends_with("no problems found\n"),
        "{out}"
    );
    let exported = home.run_elsewhere("then", &["export"]).good();
    assert_eq!(exported.lines().collect::<Vec<_>>(), before);
    home.run_elsewhere("now", &["restore", backup, "--as-of", &format!("{}T{}", states[3][1], states[3][2])]).good();
    assert_eq!(home.run_elsewhere("now", &["export"]).good().lines().count(), 40);
    let limited = home.write("limited.toml", "storage.max_bytes = 4096\n");
    let out = home.run_elsewhere("limited", &["restore", backup, "--run", "1", "--config", &limited]).good();
    assert!(out.contains(" which exceeds storage.max_bytes, 4.00 KiB: see weir retention --dry-run"), "{out}");
    let too_early = home.run_elsewhere("none", &["restore", backup, "--as-of", "2020-01-01"]);
    assert_eq!(too_early.code, Some(1));
    assert!(too_early.err.contains("the oldest state in the backup is from "), "{too_early:?}");
    let wrong = home.run_elsewhere("none", &["restore", backup, "--as-of", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("use 2026-11-28, 2026-11-28T14:00, 2026-11-28T14:00:00Z or unix seconds"), "{wrong:?}");
}
