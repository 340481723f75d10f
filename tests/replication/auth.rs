//! Relays that want a key (NIP-42).

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::scene::{Home, key_file, notes, texts};
use crate::support::wire::{Key, hex};

/// The secret of [`Key::named`].
fn secret(name: &str) -> String {
    hex(&Sha256::digest(format!("the key of {name}")))
}

#[test]
fn a_relay_that_wants_a_key_for_everything_gets_it() {
    let (ours, theirs) = (notes("h", 0..30), notes("t", 0..700));
    let (here, there) = (Home::with(&ours), Home::with(&theirs));
    for challenge in ["connect", "demand"] {
        let config =
            format!("[auth]\nread = \"authenticated\"\nwrite = \"authenticated\"\nchallenge = \"{challenge}\"\n");
        let relay = there.serve(&config);
        here.sync(&relay.url(), &["--forget"]).failed("the relay requires authentication (auth-required: ");
        let key = key_file(&here, &secret("operator"));
        here.sync(&relay.url(), &["--dir", "both", "--key", &key, "--forget"]).good();
        let all = texts(ours.iter().chain(&theirs));
        assert_eq!((here.export(), there.export()), (all.clone(), all), "{challenge}");
    }
}

#[test]
fn direct_messages_are_fetched_by_those_whom_they_are_for() {
    let message = Key::named("friend").event(4, 1_700_000_000, json!([["p", Key::named("me").hex]]), "secret");
    let (here, there) = (Home::with(&[]), Home::with(std::slice::from_ref(&message)));
    // A relay that challenges only those who are refused never asks here.
    let relay = there.serve("[auth]\nchallenge = \"connect\"\n");
    let key = key_file(&here, &secret("me"));
    let filter = r#"{"kinds":[4]}"#;
    here.sync(&relay.url(), &["--key", &key, "--filter", filter]).good();
    assert_eq!(here.export(), texts([&message]));
}

#[test]
fn a_key_that_others_may_read_or_that_is_none_is_refused_before_anything_is_done() {
    use std::os::unix::fs::PermissionsExt as _;
    let here = Home::with(&[]);
    let key = key_file(&here, &secret("me"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    here.sync("ws://127.0.0.1:1", &["--key", &key]).failed("others may read the key in ");
    let key = key_file(&here, &Key::named("me").hex.to_uppercase());
    here.sync("ws://127.0.0.1:1", &["--key", &key]).failed("holds no private key");
    let key = key_file(&here, &"0".repeat(300));
    here.sync("ws://127.0.0.1:1", &["--key", &key]).failed("holds more than a key");
    here.sync("ws://127.0.0.1:1", &["--key", "/nowhere/key"]).failed("cannot read the key in /nowhere/key");
}
