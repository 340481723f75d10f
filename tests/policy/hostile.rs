//! List files that are no lists.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::scene::{DENIED, config, replace};
use crate::support::relay::Relay;
use crate::support::wire::Key;

/// What `weir config check` says about a list file at this path.
fn check(dir: &Path, path: &Path) -> String {
    let file = dir.join("weir.toml");
    std::fs::write(&file, format!("[access]\ndeny_pubkeys_file = \"{}\"\n", path.display())).expect("written");
    let run = Command::new(env!("CARGO_BIN_EXE_weir")).args(["config", "check", "--config"]).arg(&file).output();
    String::from_utf8_lossy(&run.expect("the binary runs").stdout).replace(&format!("{}/", dir.display()), "")
}

#[test]
fn whatever_a_list_file_is_the_check_ends_and_names_it_with_key_and_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("list.txt");
    let said = |text: &[u8]| {
        std::fs::write(&list, text).expect("written");
        check(dir.path(), &list)
    };
    let key = "weir.toml:2:1: access.deny_pubkeys_file: list.txt";
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let cases: [(&[u8], &str); 5] = [
        (&binary, ":1: a public key is npub1"),
        (&[b'a'; 5_000_000], ":1: a line of more than 4096 bytes"),
        (&[0; 5_000], ":1: a line of more than 4096 bytes"),
        (b"\xff\xfe\n", ":1: a public key is npub1"),
        (b"{\"keys\": []}", ":1: a public key is npub1"),
    ];
    for (text, fault) in cases {
        let said = said(text);
        assert!(said.starts_with(&format!("{key}{fault}")), "{fault}: {}", said.chars().take(300).collect::<String>());
    }
    assert_eq!(said(&b"x\n".repeat(1_000_000)).lines().count(), 10, "the first ten mistakes are told");
    std::fs::remove_file(&list).expect("removed");
    assert!(check(dir.path(), &list).starts_with(&format!("{key}: No such file")));
    std::fs::create_dir(&list).expect("a directory");
    assert!(check(dir.path(), &list).starts_with(&format!("{key}: it is not a file")));
    std::fs::remove_dir(&list).expect("removed");
    let made = Command::new("mkfifo").arg(&list).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(check(dir.path(), &list).starts_with(&format!("{key}: it is not a file")), "a pipe is not waited for");
}

#[test]
fn a_relay_keeps_its_list_while_its_file_is_missing_a_directory_or_rubbish_and_takes_a_million_keys() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("list.txt");
    let [first, second] = ["one of few", "one of a million"].map(Key::named);
    std::fs::write(&list, &first.hex).expect("written");
    let relay = Relay::start_in(dir.path(), &config("access.deny_pubkeys_file = \"list.txt\""));
    let mut client = relay.connect();
    client.refused(&first.note("one"), DENIED);
    std::fs::remove_file(&list).expect("removed");
    std::fs::create_dir(&list).expect("a directory");
    relay.wait_for_log("list.txt: it is not a file");
    client.refused(&first.note("two"), DENIED);
    std::fs::remove_dir(&list).expect("removed");
    replace(&list, [0; 10_000]);
    relay.wait_for_log("list.txt:1: a line of more than 4096 bytes");
    client.refused(&first.note("three"), DENIED);
    let mut million = String::with_capacity(65 * 1_000_001);
    for number in 0..1_000_000_u64 {
        writeln!(million, "{:016x}{number:048x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("a line");
    }
    million.push_str(&second.hex);
    replace(&list, million);
    relay.wait_for_log("list files were read again");
    client.refused(&second.note("four"), DENIED);
    client.publish(&first.note("five"));
}
