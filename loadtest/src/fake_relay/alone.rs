//! The relay of the tests as its own process, which can be killed.
//!
//! It must never outlive the test that starts it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use super::{Fault, State, listen};

/// Tells [`serves_alone_where_its_variable_is_set`] the port, the file of its events and whether it forgets.
const ALONE: &str = "LOADTEST_FAKE_RELAY";

/// A command of `sh` that runs this relay as its own process. It writes events to `file`, unless it forgets, and
/// ends with the thread that starts it.
pub fn command(port: &str, file: &str, fault: Fault) -> String {
    let program = std::env::current_exe().expect("the path of the tests");
    let forgets = fault == Fault::Forget;
    let test = "fake_relay::alone::serves_alone_where_its_variable_is_set";
    format!("{ALONE}='{port} {file} {forgets}' exec {} {test} --exact --nocapture", program.display())
}

/// Starts such a process on a free port; returns it with its command and its URL once it listens.
pub fn start_process(file: &std::path::Path, fault: Fault) -> (std::process::Child, String, String) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let command = command(&free.port().to_string(), &file.display().to_string(), fault);
    let mut shell = std::process::Command::new("sh");
    let mut child = shell.args(["-c", &command]).stdout(std::process::Stdio::piped()).spawn().expect("a shell");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "listening"), "{command}");
    (child, command, format!("ws://{free}"))
}

/// Not a test but a relay: the tests run it in its own process, which can be killed.
#[test]
fn serves_alone_where_its_variable_is_set() {
    let Ok(setting) = std::env::var(ALONE) else { return };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).expect("Linux");
    let parts: Vec<&str> = setting.split(' ').collect();
    let [port, file, forgets] = parts[..] else { panic!("three parts") };
    let fault = if forgets == "true" { Fault::Forget } else { Fault::None };
    let file = File::options().create(true).append(true).read(true).open(file).expect("a file");
    let lines = BufReader::new(file.try_clone().expect("a file")).lines().map_while(Result::ok);
    let events = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port of a test");
    println!("listening");
    listen(&listener, State { events, file: Some(file), ..State::default() }, fault);
}
