//! `docs/operating.md`: the configurations that it tells people to write are good.

use std::process::Command;

const PAGE: &str = include_str!("../../docs/operating.md");

/// What stands between each `begin` and the next `end`.
fn blocks<'a>(page: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    page.split(begin).skip(1).map(|rest| rest.split(end).next().expect("a first part")).collect()
}

#[test]
fn every_configuration_on_the_page_is_good() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let files = blocks(PAGE, "cat > /etc/weir/weir.toml <<'END'\n", "\nEND\n");
    let examples = blocks(PAGE, "```toml\n", "```");
    // Of the small disk, the five policies, and whose events a rule is about.
    assert_eq!((files.len(), examples.len()), (1, 7));
    assert!(examples.iter().all(|text| text.contains("[[storage.retention]]")));
    for (number, text) in files.into_iter().chain(examples).enumerate() {
        let file = dir.path().join(format!("{number}.toml"));
        std::fs::write(&file, text).expect("the configuration is written");
        let checked = Command::new(env!("CARGO_BIN_EXE_weir")).args(["config", "check", "--config"]).arg(file).output();
        let checked = checked.expect("the binary runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn every_command_on_the_page_is_one() {
    let shell = blocks(PAGE, "```sh\n", "```").join("\n");
    let mut commands = 0;
    for line in shell.lines().filter_map(|line| line.trim().strip_prefix("weir ")) {
        let mut words = line.split(' ').skip_while(|word| word.starts_with("--") || word.starts_with('/'));
        let Some(command) = words.next() else { continue };
        let help = Command::new(env!("CARGO_BIN_EXE_weir")).args([command, "--help"]).output();
        assert!(help.expect("the binary runs").status.success(), "weir {command}");
        commands += 1;
    }
    assert!(commands >= 10, "the page runs only {commands} commands");
}
