//! What shells and `man` know about the commands.

use std::collections::BTreeSet;
use std::process::{Command, Output};

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("the binary runs")
}

/// The commands that `weir --help` lists.
fn commands() -> BTreeSet<String> {
    let help = String::from_utf8(weir(&["--help"]).stdout).expect("text");
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next()).map(Into::into).filter(|name| name != "help").collect()
}

#[test]
fn each_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = weir(&["completions", shell]);
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
    assert_eq!(weir(&["completions", "cmd.exe"]).status.code(), Some(2));
}

#[test]
fn bash_runs_the_script_and_completes_an_option() {
    let script = String::from_utf8(weir(&["completions", "bash"]).stdout).expect("text");
    let ask = "COMP_WORDS=(weir serve --lis); COMP_CWORD=2; _weir weir --lis serve; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().expect("bash runs");
    assert_eq!((String::from_utf8_lossy(&bash.stdout).trim(), bash.status.success()), ("--listen", true));
}

#[test]
fn every_command_has_a_manual_page_without_the_date_of_the_build() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = dir.path().join("man");
    let write = || {
        assert!(weir(&["man", pages.to_str().expect("a path")]).status.success());
        let files = std::fs::read_dir(&pages).expect("a directory").map(|entry| entry.expect("an entry").path());
        files.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a page"))).collect::<BTreeSet<_>>()
    };
    let written = write();
    let names: BTreeSet<&str> = written.iter().filter_map(|(path, _)| path.file_stem()?.to_str()).collect();
    assert!(names.contains("weir"));
    let without: Vec<String> =
        commands().into_iter().filter(|name| !names.contains(format!("weir-{name}").as_str())).collect();
    assert_eq!(without, [""; 0]);
    assert!(!names.contains("weir-man"), "it is for those who build packages");
    assert!(written.iter().all(|(_, page)| page.contains(".SH NAME") && page.contains(".SH SYNOPSIS")));
    assert_eq!(write(), written);
    let output = weir(&["man", "/proc/nowhere"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.starts_with("weir: cannot write the pages to /proc/nowhere: "), "{error}");
}
