//! Tests of the journal: that it holds what was decided, whatever a kill leaves of its files.

use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::files::{AUDIT_BYTES, Files};
use super::*;
use crate::nostr::{Pubkey, Timestamp};
use crate::policy::{Access, Membership};
use crate::require::{self, Need};

fn who() -> Actor {
    Actor { by: "uid:0".into(), auth: None }
}

/// Calls a method at time 7; its result, or its error.
fn said(journal: &mut Journal, method: &str, params: Value) -> Result<Value, String> {
    let request = json!({ "method": method, "params": params }).to_string();
    let request = Request::parse(request.as_bytes()).expect("a request");
    let configured = Configured { access: &Access::default(), membership: &Membership::default() };
    let done = call(journal, configured, &request, (&who(), Timestamp(7)));
    done.map(|done| done.result).map_err(|error| error.to_string())
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir).expect("a journal")
}

fn hex(byte: u8) -> String {
    Pubkey([byte; 32]).to_string()
}

#[test]
fn what_was_decided_is_there_after_opening_again() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    assert!(!home.path().join("audit.jsonl").exists(), "nothing is written before the first act");
    for (method, params) in [
        ("banpubkey", json!([hex(1), "spam"])),
        ("banpubkey", json!([hex(2)])),
        ("allowpubkey", json!([hex(3), null])),
        ("banevent", json!([hex(4), "doxing"])),
        ("disallowkind", json!([1984])),
        ("allowkind", json!(["30023"])),
        ("blockip", json!(["192.0.2.7", "flood"])),
        ("changerelayname", json!(["a \"new\"\nname"])),
        ("unbanpubkey", json!([hex(2)])),
    ] {
        assert_eq!(said(&mut journal, method, params), Ok(json!(true)), "{method}");
    }
    let mut again = open(home.path());
    assert_eq!(again.state(), journal.state());
    assert_eq!(again.audit(100, 0).expect("an audit").len(), 9);
    for (method, result) in [
        ("listbannedpubkeys", json!([{ "pubkey": hex(1), "reason": "spam" }])),
        ("listallowedpubkeys", json!([{ "pubkey": hex(3), "reason": "" }])),
        ("listbannedevents", json!([{ "id": hex(4), "reason": "doxing" }])),
        ("listblockedips", json!([{ "ip": "192.0.2.7", "reason": "flood" }])),
        ("listallowedkinds", json!([30023])),
        ("listdisallowedkinds", json!([1984])),
    ] {
        assert_eq!(said(&mut again, method, json!([])), Ok(result), "{method}");
    }
}

#[test]
fn a_request_is_json_to_its_end_whatever_of_it_is_ignored() {
    let parse = |ignored: &[u8]| Request::parse(&[br#"{"method":"audit","x":""#, ignored, br#""}"#].concat()).is_ok();
    let ignored: [&[u8]; 4] = [b"", b"\\ud83d\\ude00", b"a\xdfc", b"\\ud800"];
    assert_eq!(ignored.map(parse), [true, true, false, false]);
}

#[test]
fn wrong_parameters_change_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    for (method, params, error) in [
        ("banpubkey", json!([]), "params[0]: is not a public key of 64 hex digits"),
        ("banpubkey", json!([hex(0xab).to_uppercase()]), "params[0]: is not a public key of 64 hex digits"),
        ("banpubkey", json!([hex(1), 5]), "params[1]: is not a string"),
        ("banpubkey", json!([hex(1), "x".repeat(513)]), "params[1]: the text is too long"),
        ("banevent", json!([1]), "params[0]: is not an event id of 64 hex digits"),
        ("allowkind", json!([65536]), "params[0]: is not a kind from 0 to 65535"),
        ("allowkind", json!([1.5]), "params[0]: is not a kind from 0 to 65535"),
        ("blockip", json!(["1.2.3"]), "params[0]: is not an address or a prefix"),
        ("changerelayname", json!([]), "params[0]: is missing"),
        ("listbannedpubkeys", json!(["x"]), "params[0]: is not a number"),
        ("dropeverything", json!([]), "unknown method \"dropeverything\""),
    ] {
        assert_eq!(said(&mut journal, method, params), Err(error.into()), "{method}");
    }
    assert_eq!(journal.state(), open(home.path()).state());
    assert_eq!(journal.audit(9, 0).expect("an audit"), []);
    for wrong in ["", "[]", "{}", r#"{"method":1}"#, r#"{"method":"x","params":{}}"#, "\u{0}"] {
        assert!(Request::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn an_act_is_undone_once_and_only_while_no_other_followed() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    said(&mut journal, "banpubkey", json!([hex(1), "first"])).expect("done");
    said(&mut journal, "banpubkey", json!([hex(1), "second"])).expect("done");
    let by = (&who(), Timestamp(9));
    let undo = |journal: &mut Journal, number| journal.undo(number, by).map_err(|error| error.to_string());
    let subject = Subject::Key(Pubkey([1; 32]));
    assert_eq!(undo(&mut journal, 1), Err(format!("{subject} was decided again by act 2; undo that first")));
    assert_eq!(undo(&mut journal, 2), Ok(subject));
    let reason = |journal: &Journal| journal.state().get(&subject).map(|decision| decision.text.clone());
    assert_eq!(reason(&journal).as_deref(), Some("first"));
    assert_eq!(undo(&mut journal, 1), Ok(subject), "what the undo restored is act 1 again");
    assert_eq!((reason(&journal), journal.moderation()), (None, &Default::default()));
    assert_eq!(undo(&mut journal, 4), Ok(subject), "an undo can be undone");
    assert_eq!(reason(&journal).as_deref(), Some("first"));
    assert_eq!(undo(&mut journal, 99), Err("the audit has no act 99".into()));
    assert_eq!(open(home.path()).state(), journal.state());
    let numbers: Vec<_> =
        journal.audit(2, 1).expect("an audit").iter().map(|entry| (entry.number, entry.undoes)).collect();
    assert_eq!(numbers, [(4, Some(1)), (3, Some(2))]);
}

#[test]
fn an_act_is_not_undone_when_others_followed_that_left_what_it_left() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    for round in ["first", "second"] {
        said(&mut journal, "banpubkey", json!([hex(1), round])).expect("done");
        said(&mut journal, "unbanpubkey", json!([hex(1)])).expect("done");
        said(&mut journal, "banpubkey", json!([hex(2), round])).expect("done");
    }
    let subject = Subject::Key(Pubkey([1; 32]));
    let mut undo = |number| journal.undo(number, (&who(), Timestamp(9))).map_err(|error| error.to_string());
    let superseded = |by| Err(format!("{subject} was decided again by act {by}; undo that first"));
    assert_eq!([undo(2), undo(1), undo(4)], [superseded(5), superseded(5), superseded(5)]);
    assert_eq!([undo(5), undo(4), undo(2)], [Ok(subject), Ok(subject), Ok(subject)], "from the latest back");
    assert_eq!([undo(2), undo(4)], [superseded(9), superseded(9)], "nothing is undone twice");
    assert_eq!(journal.state().get(&subject).map(|decision| decision.text.as_str()), Some("first"));
    assert_eq!(open(home.path()).state(), journal.state());
}

#[test]
fn the_same_decision_again_is_no_act() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    for _ in 0..3 {
        said(&mut journal, "banpubkey", json!([hex(1), "spam"])).expect("done");
        said(&mut journal, "unbanpubkey", json!([hex(2)])).expect("done");
        said(&mut journal, "unallowpubkey", json!([hex(1)])).expect("done");
    }
    assert_eq!(journal.audit(9, 0).expect("an audit").len(), 1);
}

#[test]
fn a_kill_at_any_byte_of_an_act_leaves_the_state_before_or_after_it() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    let audit = home.path().join("audit.jsonl");
    let mut states = vec![(0, journal.state().clone())];
    for byte in 1..=3 {
        said(&mut journal, "banpubkey", json!([hex(byte), "a\nreason"])).expect("done");
        states.push((std::fs::metadata(&audit).expect("the audit").len(), journal.state().clone()));
    }
    let whole = std::fs::read(&audit).expect("the audit");
    for length in 0..=whole.len() {
        std::fs::write(&audit, &whole[..length]).expect("the audit");
        let (bytes, state) = states.iter().rfind(|(bytes, _)| *bytes <= length as u64).expect("the first");
        assert_eq!(open(home.path()).state(), state, "{length} bytes");
        assert_eq!(std::fs::metadata(&audit).expect("the audit").len(), *bytes, "the rest is cut off");
    }
}

#[test]
fn a_damaged_file_is_an_error_with_its_line_and_drops_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    for byte in 1..=3 {
        said(&mut journal, "banpubkey", json!([hex(byte)])).expect("done");
    }
    let files = Files::new(home.path().into());
    let audit = files.audit();
    let text = std::fs::read_to_string(&audit).expect("the audit");
    let lines: Vec<&str> = text.lines().collect();
    let fails = |damage: String| {
        std::fs::write(&audit, &damage).expect("the audit");
        let error = Journal::open(home.path()).map(|_| ()).expect_err("an error").to_string();
        assert_eq!(std::fs::read_to_string(&audit).expect("the audit"), damage, "nothing is cut off");
        error.replace(&format!("{}/", home.path().display()), "")
    };
    let damaged = fails(format!("{}\n{}\n{}\n", lines[0], lines[1].replace("number", "numb"), lines[2]));
    assert!(damaged.starts_with("audit.jsonl:2: unknown field `numb`"), "{damaged}");
    let lost = fails(format!("{}\n{}\n", lines[0], lines[2]));
    assert!(lost.starts_with("audit.jsonl:2: act 3 is where act 2 belongs"), "{lost}");
    let lost = fails(format!("{}\n", lines[1]));
    assert!(lost.starts_with("audit.jsonl:1: act 2 is where act 1 belongs"), "{lost}");
    std::fs::write(&audit, &text).expect("the audit");
    files.checkpoint(journal.state()).expect("a checkpoint");
    let state = home.path().join("state.jsonl");
    let whole = std::fs::read_to_string(&state).expect("the state");
    for (cut, at) in [(0, 1), (10, 1), (whole.len() / 2, 2), (whole.len() - 1, 3)] {
        std::fs::write(&state, &whole[..cut]).expect("the state");
        let error = Journal::open(home.path()).map(|_| ()).expect_err("an error").to_string();
        let place = format!("{}:{at}: ", state.display());
        assert!(error.starts_with(&place) || error.contains("ends early"), "{cut}: {error}");
    }
    std::fs::write(&state, whole.replace("\"format\":1", "\"format\":2")).expect("the state");
    let error = Journal::open(home.path()).map(|_| ()).expect_err("an error").to_string();
    assert!(error.contains("state.jsonl:1: format 2 is of another version"), "{error}");
    std::fs::write(&state, &whole).expect("the state");
    std::fs::remove_file(&audit).expect("the audit");
    let error = Journal::open(home.path()).map(|_| ()).expect_err("an error").to_string();
    assert!(error.contains("audit.jsonl: the file is missing"), "{error}");
}

/// The steps of a checkpoint, each followed by a kill.
#[test]
fn a_kill_at_any_step_of_a_checkpoint_loses_nothing() {
    for step in 0..4 {
        let home = tempfile::tempdir().expect("a directory");
        let mut journal = open(home.path());
        for byte in 1..=3 {
            said(&mut journal, "banpubkey", json!([hex(byte)])).expect("done");
        }
        let files = Files::new(home.path().into());
        let audit = std::fs::read(files.audit()).expect("the audit");
        files.checkpoint(journal.state()).expect("a checkpoint");
        match step {
            0 => {
                std::fs::rename(home.path().join("state.jsonl"), home.path().join("state.new")).expect("not renamed");
                std::fs::rename(files.older(1), files.audit()).expect("not moved");
            }
            1 => std::fs::rename(files.older(1), files.audit()).expect("not moved"),
            2 => {
                std::fs::remove_file(files.audit()).expect("not begun");
                std::fs::hard_link(files.older(1), files.audit()).expect("one file");
            }
            _ => {}
        }
        let mut again = open(home.path());
        assert_eq!(again.state(), journal.state(), "step {step}");
        said(&mut again, "banpubkey", json!([hex(4)])).expect("done");
        assert_eq!(again.state().last(), 4);
        files.checkpoint(again.state()).expect("another checkpoint");
        assert_eq!(open(home.path()).state(), again.state(), "step {step}");
        let older = std::fs::read(files.older(if step == 3 { 2 } else { 1 })).expect("the older acts");
        assert!(older.starts_with(&audit), "step {step}");
        let numbers: Vec<u64> = again.audit(9, 0).expect("an audit").iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [4, 3, 2, 1], "step {step}");
    }
}

#[test]
fn a_long_audit_becomes_a_checkpoint_and_its_acts_can_still_be_undone() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    said(&mut journal, "banpubkey", json!([hex(1), "the first"])).expect("done");
    let audit = home.path().join("audit.jsonl");
    // As if thousands of acts had followed.
    let first = std::fs::read_to_string(&audit).expect("the audit");
    let mut text = first.clone();
    let mut number = 1;
    while text.len() as u64 <= AUDIT_BYTES {
        number += 1;
        text += &first
            .replace("\"number\":1", &format!("\"number\":{number}"))
            .replace(&hex(1), &format!("{number:064x}"))
            .replace("the first", &"x".repeat(400));
    }
    std::fs::write(&audit, &text).expect("the audit");
    let mut journal = open(home.path());
    said(&mut journal, "banpubkey", json!([hex(2)])).expect("done");
    assert_eq!(std::fs::metadata(&audit).expect("the audit").len(), 0, "a new file begins");
    assert_eq!(open(home.path()).state(), journal.state());
    assert_eq!(journal.undo(1, (&who(), Timestamp(9))).expect("undone"), Subject::Key(Pubkey([1; 32])));
    assert_eq!(open(home.path()).state(), journal.state());
}

/// A list that is asked for page by page.
fn pages(journal: &mut Journal, method: &str) -> Vec<Value> {
    let mut listed = Vec::new();
    loop {
        let page = said(journal, method, json!([1_000, listed.len()])).expect("a page");
        assert!(page.to_string().len() <= socket::MAX_ANSWER / 2, "{method}: {} bytes", page.to_string().len());
        let page = page.as_array().expect("a list");
        if page.is_empty() {
            return listed;
        }
        listed.extend(page.iter().cloned());
    }
}

#[test]
fn a_page_of_long_texts_fits_in_an_answer_and_pages_hold_everything() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    // A control character takes six bytes.
    for number in 0..200_u8 {
        let text = "\u{1}".repeat(4_000) + &number.to_string();
        said(&mut journal, "changerelaydescription", json!([text])).expect("done");
    }
    let numbers = pages(&mut journal, "audit");
    let numbers: Vec<_> = numbers.iter().map(|act| act["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=200).rev().map(Some).collect::<Vec<_>>());
    let one = &pages(&mut journal, "audit")[0];
    assert!(one.to_string().len() * 200 > socket::MAX_ANSWER / 2, "all in one would be too long");
}

#[test]
fn a_list_has_the_latest_decision_first_whatever_came_and_went() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    for byte in 1..=4 {
        said(&mut journal, "banpubkey", json!([hex(byte)])).expect("done");
    }
    said(&mut journal, "allowpubkey", json!([hex(2)])).expect("done");
    said(&mut journal, "banpubkey", json!([hex(1), "again"])).expect("done");
    said(&mut journal, "blockip", json!(["192.0.2.7", "flood"])).expect("done");
    journal.undo(5, (&who(), Timestamp(9))).expect("undone");
    let keys = |journal: &mut Journal, params: Value| -> Vec<String> {
        let listed = said(journal, "listbannedpubkeys", params).expect("a list");
        listed.as_array().expect("entries").iter().map(|one| one["pubkey"].as_str().unwrap_or("").into()).collect()
    };
    for journal in [&mut journal, &mut open(home.path())] {
        // The undo restored act 2.
        assert_eq!(keys(journal, json!([])), [1, 4, 3, 2].map(hex));
        assert_eq!(keys(journal, json!([2, 1])), [4, 3].map(hex));
        assert_eq!(keys(journal, json!([2, 4])), [""; 0]);
        assert_eq!(said(journal, "listblockedips", json!([])), Ok(json!([{ "ip": "192.0.2.7", "reason": "flood" }])));
        let counts =
            json!({ "listbannedpubkeys": 4, "listallowedpubkeys": 0, "listbannedevents": 0, "listblockedips": 1 });
        assert_eq!(said(journal, "countdecisions", json!([])), Ok(counts));
    }
}

#[test]
fn two_processes_take_turns_and_see_each_others_acts() {
    let home = tempfile::tempdir().expect("a directory");
    let [mut one, mut other] = [open(home.path()), open(home.path())];
    said(&mut one, "banpubkey", json!([hex(1)])).expect("done");
    said(&mut other, "banpubkey", json!([hex(2)])).expect("done");
    assert_eq!(other.state().last(), 2, "it read the first act before its own");
    assert!(one.refresh().expect("readable"));
    assert_eq!(one.state(), other.state());
    assert!(!one.refresh().expect("readable"));
    said(&mut other, "banpubkey", json!([hex(3)])).expect("done");
    said(&mut one, "unbanpubkey", json!([hex(3)])).expect("done");
    assert_eq!((one.state().last(), one.state().get(&Subject::Key(Pubkey([3; 32])))), (4, None), "it knew of the ban");
}

#[test]
fn a_journal_that_is_gone_or_cannot_be_looked_at_is_an_error_and_not_an_empty_one() {
    let home = tempfile::tempdir().expect("a directory");
    let (dir, away) = (home.path().join("management"), home.path().join("away"));
    let said = |opened: Result<Journal, JournalError>| {
        let error = opened.map(|_| ()).expect_err("an error").to_string();
        error.replace(&format!("{}/", home.path().display()), "")
    };
    let open = || Journal::open(&dir);
    let mut journal = open().expect("a journal");
    self::said(&mut journal, "banpubkey", json!([hex(1)])).expect("done");
    let gone = "management/audit.jsonl: the file is missing; restore it, or move its directory away to begin without decisions";
    std::fs::rename(dir.join("audit.jsonl"), &away).expect("moved");
    assert_eq!(said(open()), gone, "only the lock is left");
    std::fs::rename(&away, dir.join("audit.jsonl")).expect("moved");
    std::fs::rename(&dir, &away).expect("moved");
    let mut open_journal =
        |method: &str, params: Value| self::said(&mut journal, method, params).expect_err("an error");
    assert!(open_journal("banpubkey", json!([hex(2)])).ends_with(gone), "a journal that was read is gone");
    assert!(open_journal("audit", json!([])).ends_with(gone));
    assert!(!dir.exists(), "no other begins in its place");
    symlink(home.path().join("nowhere"), &dir).expect("a link");
    assert_eq!(said(open()), "management: a link to a directory that is not there; is its disk mounted?");
    std::fs::remove_file(&dir).expect("the link");
    std::fs::write(&dir, "").expect("a file");
    assert_eq!(said(open()), "management/lock: Not a directory (os error 20)");
    std::fs::remove_file(&dir).expect("the file");
    std::fs::rename(&away, &dir).expect("moved");
    assert_eq!(open().expect("a journal").state(), journal.state());
}

#[test]
fn a_first_act_that_was_never_recorded_leaves_a_journal_that_opens() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    // It changes nothing, but takes the lock.
    said(&mut journal, "changerelayname", json!([""])).expect("done");
    assert!(home.path().join("lock").exists());
    assert_eq!(open(home.path()).state(), &state::State::default());
}

#[test]
fn what_root_creates_belongs_to_the_owner_of_the_directory_around_it() {
    // Only root can give files to another user.
    if !require::has(Need::Root, rustix::process::geteuid().is_root()) {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    chown(home.path(), Some(65_534), Some(65_534)).expect("given away");
    for dir in ["management", "some/where"].map(|name| home.path().join(name)) {
        let mut journal = open(&dir);
        said(&mut journal, "banpubkey", json!([hex(1)])).expect("done");
        Files::new(dir.clone()).checkpoint(journal.state()).expect("a checkpoint");
        let files = std::fs::read_dir(&dir).expect("a directory").map(|file| file.expect("a file").path());
        let mut files: Vec<_> = files.chain([dir.clone()]).collect();
        files.sort_unstable();
        let names = ["", "audit.1.jsonl", "audit.jsonl", "lock", "state.jsonl"].map(|name| dir.join(name));
        assert_eq!(files, names);
        for file in files {
            let metadata = file.metadata().expect("it is there");
            assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_534), "{}", file.display());
        }
    }
    assert_eq!(home.path().join("some").metadata().expect("it is there").uid(), 65_534);
}

#[test]
fn an_act_that_cannot_be_recorded_does_not_take_effect() {
    let home = tempfile::tempdir().expect("a directory");
    let mut journal = open(home.path());
    said(&mut journal, "banpubkey", json!([hex(1)])).expect("done");
    let before = journal.state().clone();
    // Not even root writes to a directory of this name.
    std::fs::remove_file(home.path().join("audit.jsonl")).expect("the audit");
    std::fs::create_dir(home.path().join("audit.jsonl")).expect("a directory");
    assert!(said(&mut journal, "banpubkey", json!([hex(2)])).is_err());
    assert_eq!(journal.state(), &before);
}
