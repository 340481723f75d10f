//! Commands that write the store where there is little room: on a small disk, and at `max_bytes`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::scene::{SmallDisk, notes, text, weir};
use crate::support::wire::{Key, Signed, now};

const MIB: u64 = 1 << 20;

/// Bytes free on the file system of `path`.
fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a file system");
    stat.f_bavail * stat.f_frsize
}

/// Writes a configuration next to the store.
fn config(dir: &Path, storage: &str) -> String {
    let path = dir.join("weir.toml");
    std::fs::write(&path, format!("[storage]\n{storage}\n")).expect("the directory is writable");
    path.to_str().expect("UTF-8").into()
}

/// `weir import` of these events, without a look at their signatures.
fn import(data: &Path, config: &str, events: &[Signed]) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines: String = events.iter().map(|event| event.text.clone() + "\n").collect();
    std::fs::write(file.path(), lines).expect("the file is writable");
    let path = file.path().to_str().expect("UTF-8");
    weir(data, &["import", "--no-verify", "--config", config, path])
}

/// The number of lines with this outcome.
fn count(output: &Output, outcome: &str) -> usize {
    let out = text(&output.stdout);
    let line = out.lines().find_map(|line| line.trim().strip_prefix(outcome)?.strip_prefix(": "));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no count of {outcome} in {output:?}"))
}

/// What the store holds, in the order of arrival.
fn exported(data: &Path) -> Vec<String> {
    let output = weir(data, &["export"]);
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn texts(events: &[Signed]) -> Vec<String> {
    events.iter().map(|event| event.text.clone()).collect()
}

#[track_caller]
fn assert_clean(data: &Path) {
    let output = weir(data, &["check", "--signatures", "none"]);
    assert!(output.status.success(), "{output:?}");
}

fn used_bytes(data: &Path) -> u64 {
    let output = weir(data, &["info", "--json"]);
    let info: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    info["used_bytes"].as_u64().expect("a number")
}

/// Checks that the import ended at its first event without room for this reason; returns how many it stored.
#[track_caller]
fn is_full(output: &Output, reason: &str) -> usize {
    let stored = count(output, "stored");
    let line = stored + 1;
    let expected = format!("weir: the store is full: line {line} was not stored; {reason}, then resume from there\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected));
    stored
}

const NO_DISK: &str = "free space on the disk, of which storage.min_free_disk_bytes must stay free";

#[test]
fn an_import_leaves_free_what_must_stay_free_and_keeps_what_it_stored() {
    let Some(disk) = SmallDisk::tmpfs(64) else { return };
    let (data, config) = (disk.path().join("data"), config(disk.path(), "min_free_disk_bytes = \"16 MiB\""));
    let filler = disk.fill(24);
    let events: Vec<Signed> = notes(&Key::named("import"), 4500, 4000).collect();
    let stored = is_full(&import(&data, &config, &events), NO_DISK);
    assert!(stored > 1000, "{stored} were stored");
    // The last commit was small, and 1 MiB is allocated for deletions.
    assert!(free_bytes(disk.path()) > 14 * MIB, "{} bytes are free", free_bytes(disk.path()));
    assert!(exported(&data) == texts(&events[..stored]), "not the first {stored}");
    assert_clean(&data);

    std::fs::remove_file(filler).expect("the filler goes");
    let output = import(&data, &config, &events[stored..]);
    assert_eq!((output.status.code(), count(&output, "stored")), (Some(0), 4500 - stored), "{output:?}");
    assert!(exported(&data) == texts(&events), "not all events");
}

fn fills_the_disk(disk: &SmallDisk) {
    let (data, config) = (disk.path().join("data"), config(disk.path(), "min_free_disk_bytes = 0"));
    let events: Vec<Signed> = notes(&Key::named("import"), 8000, 4000).collect();
    let stored = is_full(&import(&data, &config, &events), NO_DISK);
    assert!(stored > 1000, "{stored} were stored");
    assert!(exported(&data) == texts(&events[..stored]), "not the first {stored}");
    assert_clean(&data);
    let deletion = Key::named("import").delete(now(), json!([["e", events[0].id]]));
    let output = import(&data, &config, std::slice::from_ref(&deletion));
    assert_eq!((output.status.code(), count(&output, "stored")), (Some(0), 1), "{output:?}");
    assert!(exported(&data) == [texts(&events[1..stored]), texts(&[deletion])].concat(), "not what is left");
}

#[test]
fn an_import_that_fills_the_disk_says_so_and_deletions_are_imported_still() {
    if let Some(disk) = SmallDisk::tmpfs(40) {
        fills_the_disk(&disk);
    }
    if let Some(disk) = SmallDisk::ext4(40) {
        fills_the_disk(&disk);
    }
}

#[test]
fn an_import_never_exceeds_max_bytes_and_fills_it_up_to_the_next_event() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, config) = (home.path().join("data"), config(home.path(), "max_bytes = 4000000"));
    let author = Key::named("import");
    let events: Vec<Signed> = notes(&author, 3000, 1000).collect();
    let advice = "free space or raise storage.max_bytes";
    let stored = is_full(&import(&data, &config, &events), advice);
    assert!(exported(&data) == texts(&events[..stored]), "not the first {stored}");
    // All notes take the same, give or take the digits of their numbers.
    let (used, note) = (used_bytes(&data), used_bytes(&data) / stored as u64);
    assert!(used < 4_000_000 && used + note + 4 >= 4_000_000, "{used} bytes are used, {note} by a note");

    // A deletion after what does not fit is stored.
    let deletion = author.delete(now(), json!([["e", events[0].id]]));
    let output = import(&data, &config, &[events[stored].clone(), deletion.clone()]);
    assert!(
        text(&output.stderr).contains("line 1 was not stored; free space or raise storage.max_bytes"),
        "{output:?}"
    );
    assert_eq!((output.status.code(), count(&output, "stored")), (Some(1), 1), "{output:?}");
    assert!(exported(&data) == [&texts(&events[1..stored])[..], &texts(&[deletion])].concat(), "not what is left");
    assert_clean(&data);
}

#[test]
fn a_restore_leaves_free_what_must_stay_free_and_no_remains() {
    let Some(disk) = SmallDisk::tmpfs(40) else { return };
    let home = tempfile::tempdir().expect("a directory");
    let (data, backup) = (home.path().join("data"), home.path().join("backup"));
    let events: Vec<Signed> = notes(&Key::named("restore"), 9000, 4000).collect();
    let output = import(&data, &config(home.path(), "min_free_disk_bytes = 0"), &events);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let backup = backup.to_str().expect("UTF-8");
    assert!(weir(&data, &["backup", backup]).status.success());

    let before = free_bytes(disk.path());
    // With the key, before the disk is full; without it, when a write fails.
    for min_free in ["16 MiB", "0 B"] {
        let config = config(home.path(), &format!("min_free_disk_bytes = \"{min_free}\""));
        let to = disk.path().join("data");
        let output = weir(&to, &["restore", backup, "--config", &config]);
        let expected = format!("weir: nothing was restored: there is no room: {NO_DISK}: the store is full\n");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected));
        assert!(!weir(&to, &["info"]).status.success(), "there is no store");
        assert!(free_bytes(disk.path()) + MIB > before, "{} bytes of {before} are free", free_bytes(disk.path()));
    }
}

#[test]
fn a_compaction_leaves_free_what_must_stay_free_and_the_store_unchanged() {
    let Some(disk) = SmallDisk::tmpfs(64) else { return };
    let (data, config) = (disk.path().join("data"), config(disk.path(), "min_free_disk_bytes = \"16 MiB\""));
    let events: Vec<Signed> = notes(&Key::named("compact"), 4000, 4000).collect();
    let output = import(&data, &config, &events);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let before = free_bytes(disk.path());
    // With the key, before the disk is full; without it, when a write fails.
    for min_free in ["16 MiB", "0 B"] {
        let config = self::config(disk.path(), &format!("min_free_disk_bytes = \"{min_free}\""));
        let output = weir(&data, &["compact", "--config", &config]);
        let expected = format!("weir: the store is unchanged: there is no room: {NO_DISK}: the store is full\n");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected));
        assert!(free_bytes(disk.path()) + MIB > before, "{} bytes of {before} are free", free_bytes(disk.path()));
    }
    assert!(exported(&data) == texts(&events), "not all events");
    assert_clean(&data);
}
