//! Rules about content and sizes, for clients and imports.

use std::process::Command;

use serde_json::json;

use crate::scene::{DENIED, config, outcome, refused_by, replace};
use crate::support::relay::Relay;
use crate::support::wire::{Key, now};

const RULES: &str = "[[policy.kind_limits]]\nkinds = [0]\nmax_content_length = 20\n\
    [[policy.content]]\nkinds = [1]\nwords = [\"casino\"]\n\
    [[policy.content]]\npatterns = ['(?i)free\\s+sats']\naction = \"mute\"\n";

const UNWELCOME: &str = "blocked: the content is not welcome here";

#[test]
fn content_is_refused_or_muted_and_sizes_hold_by_kind_until_a_reload_without_mistakes() {
    let relay = Relay::start(&config(RULES));
    let key = Key::named("ruled");
    let mut client = relay.connect();
    client.refused(&key.note("The CASINO is open"), UNWELCOME);
    client.publish(&key.event(7, now(), json!([]), "casino"));
    client.publish(&key.note("casinos"));
    let muted = key.note("get FREE \n sats");
    client.ask(muted.message(), &muted.ok());
    client.counts(json!({"authors": [key.hex]}), 2);
    let long = key.event(0, now(), json!([]), "{\"name\":\"somebody long\"}");
    client.refused(&long, "invalid: content is too long: 24 characters, the limit for kind 0 is 20");
    assert_eq!(["content", "size"].map(|rule| refused_by(&relay, rule)), [1, 1]);
    assert_eq!(outcome(&relay, "shadowed"), 1);
    relay.reload(&config("[[policy.content]]\nwords = [\"a\"]\n[[policy.content]]\npatterns = [\"x(\"]\n"));
    let line = relay.wait_for_log("`x(` is not a valid pattern: error: unclosed group");
    assert!(line.contains("weir.toml:4:1: policy.content[2].patterns: "), "{line}");
    client.refused(&key.note("another casino"), UNWELCOME);
    relay.reload(&config(""));
    relay.wait_for_log("the configuration was reloaded");
    client.publish(&key.note("a third casino"));
}

#[test]
fn an_import_keeps_to_lists_and_rules_only_where_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let [denied, muted, other] = ["denied", "muted", "other"].map(Key::named);
    let lines = format!(
        "access.deny_pubkeys = [\"{}\"]\naccess.mute_pubkeys = [\"{}\"]\npolicy.sources = SOURCES\n{RULES}",
        denied.hex, muted.hex
    );
    let events = [denied.note("one"), muted.note("two"), other.note("the casino"), other.note("four")];
    let input = dir.path().join("events.jsonl");
    let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
    std::fs::write(&input, texts.join("\n")).expect("written");
    let import = |sources: &str, data: &str| {
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, lines.replace("SOURCES", sources)).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["import", "--show-refused", "--config"]).arg(&file).arg("--data").arg(dir.path().join(data));
        let run = command.arg(&input).output().expect("the binary runs");
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
    };
    let said = import("[\"ws\", \"import\"]", "strict");
    for line in [
        "  stored: 1",
        "line 1: refused: the author is not welcome here",
        "line 2: refused: it is muted",
        "line 3: refused: the content is not welcome here",
    ] {
        assert!(said.lines().any(|said| said == line), "{line} in {said}");
    }
    let said = import("[\"ws\"]", "lenient");
    assert!(said.contains("  stored: 4\n"), "{said}");
}

#[test]
fn an_age_that_a_reload_brought_holds_after_acts_of_admins_and_changed_lists_and_for_imports() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("denied.txt");
    std::fs::write(&list, "").expect("written");
    let lists = config("access.deny_pubkeys_file = \"denied.txt\"");
    let relay = Relay::start_in(dir.path(), &lists);
    let [author, denied, banned] = ["author", "denied", "banned"].map(Key::named);
    let mut client = relay.connect();
    let old = |text: &str| author.event(1, now() - 1000, json!([]), text);
    let reason = "blocked: events of kind 1 are kept for 10m here (rule 1)";
    client.publish(&old("before there are rules"));
    relay.reload(&format!("{lists}[[storage.retention]]\nkinds = [1]\nmax_age = \"10m\"\n"));
    relay.wait_for_log("the configuration was reloaded");
    client.refused(&old("after the reload"), reason);
    let weir = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let config = dir.path().join("weir.toml");
        let ran = command.arg("--config").arg(config).arg("--data").arg(relay.data()).args(arguments).output();
        String::from_utf8(ran.expect("it runs").stdout).expect("UTF-8")
    };
    weir(&["ban", &banned.hex]);
    client.refused(&banned.note("after its ban"), DENIED);
    client.refused(&old("after a ban"), reason);
    replace(&list, &denied.hex);
    relay.wait_for_log("list files were read again");
    client.refused(&denied.note("after it was listed"), DENIED);
    client.refused(&old("after a list has changed"), reason);
    let (file, event) = (dir.path().join("old.jsonl"), old("from a file"));
    std::fs::write(&file, &event.text).expect("written");
    let said = weir(&["import", file.to_str().expect("UTF-8")]);
    assert!(said.contains("  line 1: not kept: events of kind 1 are kept for 10m here (rule 1)\n"), "{said}");
    assert_eq!(refused_by(&relay, "retention"), 3);
    client.publish(&author.note("young"));
}
