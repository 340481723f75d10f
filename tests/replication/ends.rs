//! A sync that is interrupted, killed, or loses its relay is run again and ends with everything.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::scene::{Home, Ran, notes, texts};
use crate::support::relay::{Relay, TIMEOUT};

/// Ends the process.
fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it may have ended, but was not waited for");
}

/// Waits until the store of a sync that runs holds something.
fn wait_for_some(home: &Home) {
    let end = Instant::now() + 3 * TIMEOUT;
    while home.try_export().is_empty() {
        assert!(Instant::now() < end, "nothing arrived");
    }
}

#[test]
fn killed_at_any_time_and_run_again_it_ends_with_everything() {
    let events = notes("a", 0..3_000);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    for delay_ms in [0, 20, 60, 120, 200, 350] {
        let mut child = here.begin(&relay.url(), &["--batch", "100"]);
        // The clock decides when, since any instant must do.
        std::thread::sleep(Duration::from_millis(delay_ms));
        kill(&child, Signal::KILL);
        child.wait().expect("it is ours");
    }
    let ran = here.sync(&relay.url(), &[]).good();
    assert_eq!(ran.count("missing here"), ran.count("stored"), "{ran:?}");
    assert_eq!(here.export(), texts(&events));
    here.assert_clean();
}

#[test]
fn a_relay_that_is_killed_half_way_ends_the_sync_and_the_next_one_goes_on() {
    let (ours, theirs) = (notes("h", 0..1_000), notes("t", 0..3_000));
    let (here, there) = (Home::with(&ours), Home::with(&theirs));
    let relay = there.serve("");
    let child = here.begin(&relay.url(), &["--dir", "both", "--batch", "100"]);
    let end = Instant::now() + 3 * TIMEOUT;
    while here.export().len() <= ours.len() && Instant::now() < end {
        std::thread::yield_now();
    }
    drop(relay);
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    // It may have been done by then.
    assert!(ran.code == Some(0) || ran.err.contains("did not end; run it again"), "{ran:?}");
    let relay: Relay = there.serve("");
    here.sync(&relay.url(), &["--dir", "both"]).good();
    let all = texts(ours.iter().chain(&theirs));
    assert_eq!((here.export(), there.export()), (all.clone(), all));
    here.assert_clean();
}

#[test]
fn ctrl_c_stores_what_has_arrived_and_says_how_to_go_on() {
    let events = notes("a", 0..3_000);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let relay = there.serve("");
    let child = here.begin(&relay.url(), &["--batch", "100"]);
    wait_for_some(&here);
    kill(&child, Signal::INT);
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    // It may have been done by then.
    let is_interrupted = ran.code == Some(130) && ran.err.contains("interrupted; run it again to go on");
    assert!(is_interrupted || ran.code == Some(0), "{ran:?}");
    assert_eq!(here.export().len() as u64, ran.count("stored"), "{ran:?}");
    here.sync(&relay.url(), &[]).good();
    assert_eq!(here.export(), texts(&events));
}

#[test]
fn a_full_store_ends_the_sync_with_advice_and_keeps_what_fits() {
    let key = crate::support::wire::Key::named("k");
    let text = "x".repeat(2_000);
    let large: Vec<_> = (0..4_000).map(|n| key.event(1, 1_700_000_000 + n, serde_json::json!([]), &text)).collect();
    let (here, there) = (Home::with(&[]), Home::with(&large));
    let relay = there.serve("");
    let ran = here.sync_under("[storage]\nmap_bytes = 8388608\n", &relay.url(), &[]);
    let stored = ran.count("stored");
    assert!(stored > 500 && stored < 4_000, "{ran:?}");
    ran.failed("weir: the store is full: free space or raise storage.map_bytes, then run it again\n");
    assert_eq!(here.export().len() as u64, stored);
}

#[test]
fn a_sync_stores_nothing_where_the_disk_has_less_free_than_it_must() {
    let (here, there) = (Home::with(&[]), Home::with(&notes("a", 0..100)));
    let relay = there.serve("");
    let ran = here.sync_under("[storage]\nmin_free_disk_bytes = 1152921504606846976\n", &relay.url(), &[]);
    let advice = "free space on the disk, of which storage.min_free_disk_bytes must stay free";
    assert_eq!((ran.count("stored"), here.export().len()), (0, 0));
    ran.failed(&format!("weir: the store is full: {advice}, then run it again\n"));
}
