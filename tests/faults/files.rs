//! Files of the store that are removed below a running relay, and none that could be opened.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::shim::eventually;
use crate::support::relay::Relay;
use crate::support::wire::Key;

const CONFIG: &str = "metrics.listen = \"127.0.0.1:0\"\n";

/// What happens when `missing` is taken away from a running relay, and put back.
fn is_noticed_and_recovered_from(missing: &str, told: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let relay = Relay::start_in(dir.path(), CONFIG);
    let [kept, refused, unheard] = ["kept", "refused", "unheard"].map(|text| Key::named("alice").note(text));
    let mut client = relay.connect();
    client.publish(&kept);
    client.finds(json!({ "kinds": [1] }), &[&kept]);
    let (there, away): (PathBuf, &Path) = (dir.path().join(missing), &dir.path().join("away"));
    std::fs::rename(&there, away).expect("it is taken away");

    client.refused(&refused, "error: the relay cannot store events now");
    let why = format!(
        "events cannot be stored: {} was removed or replaced while the store is open\n",
        dir.path().join(told).display()
    );
    assert_eq!(relay.watch("/readyz"), (503, why.clone()));
    relay.wait_for_log("was removed or replaced while the store is open");
    // What is open can still be read, and so be rescued.
    client.finds(json!({ "kinds": [1] }), &[&kept]);

    std::fs::rename(away, &there).expect("it is put back");
    eventually("the relay is ready", || relay.watch("/readyz") == (200, "ready\n".into()));
    client.publish(&refused);
    // Without an event that would notice.
    std::fs::rename(&there, away).expect("it is taken away");
    eventually("the relay is not ready", || relay.watch("/readyz") == (503, why.clone()));
    client.refused(&unheard, "error: the relay cannot store events now");
}

#[test]
fn a_data_directory_that_is_removed_is_noticed_and_nothing_is_acknowledged_until_it_is_back() {
    is_noticed_and_recovered_from("data", "data/data.mdb");
}

#[test]
fn a_log_that_is_removed_is_noticed_and_nothing_is_acknowledged_until_it_is_back() {
    is_noticed_and_recovered_from("data/write-ahead.log", "data/write-ahead.log");
}

#[test]
fn the_first_event_is_stored_although_no_file_can_be_opened_any_more() {
    let relay = Relay::start("");
    let note = Key::named("alice").note("stored");
    let mut client = relay.connect();
    relay.limit_descriptors(3);
    client.publish(&note);
    client.finds(json!({ "kinds": [1] }), &[&note]);
}
